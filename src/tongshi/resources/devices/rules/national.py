"""Rules of the catalogue item.

Implements: GB/T 28181-2022 A.2.1.9
Implements: GB/T 28181-2022 E.1
Implements: GB/T 28181-2022 E.3
The table follows the element list; "M if device" is taken as mandatory, because every archive is a device.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from tongshi.protocols.gb28181.codes import INDUSTRY_NAMES, TYPE_NAMES
from tongshi.protocols.gb28181.position_types import is_valid as is_position_type
from tongshi.resources.devices import divisions
from tongshi.resources.devices.rules.model import (
    Facts,
    Rule,
    Severity,
    always,
    is_address,
    is_camera,
    is_first_class,
    matches,
)

_ITEM: Final = "GB/T 28181-2022 A.2.1.9"
_CODE: Final = "GB/T 28181-2022 E.1"
_BELOW_COUNTY: Final = "GB/T 28181-2022 E.3"
_CIVIL = matches("[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8}")
_CODE20 = matches("[0-9]{20}")
_GROUP = matches("[0-9]{10}215[0-9]{7}")
_BLOCK = matches("[0-9A-Z]{2,12}")
_RESOLUTION = matches("[1-6]|[0-9]{2,5}[xX*][0-9]{2,5}")
_DIGIT = matches("[0-9]{1,2}")
_SPEED = matches("[1-9][0-9]{0,2}")
_RATIO = matches("[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")
_MAC = matches("(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}")
_CODEC = matches("[1-5]")
_INDUSTRY = matches("[A-T](?:[0-9]{2,4})?")
_PHONE = matches(r"\+?[0-9][0-9 -]{4,18}")
_GRASSROOTS = matches("0{6}|(?:00[1-9]|0[1-9][0-9]|[1-5][0-9]{2})(?:000|00[1-9]|0[1-9][0-9]|[1-5][0-9]{2})")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)
_CAMERA_ONLY: Final = (
    "ptz_type", "photoelectric_imaging_types", "capture_position_type", "room_type", "supply_light_type",
    "direction_type", "resolutions", "function_types", "encode_type",
)  # fmt: skip
_LISTS: Final = (
    "parent_ids", "photoelectric_imaging_types", "resolutions", "stream_numbers", "download_speeds",
    "ssvc_ratios", "function_types",
)  # fmt: skip
# Types whose items may carry the camera's own elements: cameras and all that look through one.
_LOOKING: Final = frozenset({"119", "120", "121", "122", "123", "124", "125", "131", "132", "138", "505"})


def install_time(text: str | None) -> datetime | None:
    """InstallTime as a local time without zone; None when it is none."""
    match = _DATE_TIME.match(text or "")
    try:
        return datetime.fromisoformat(match.group()) if match else None
    except ValueError:
        return None


def _given(attribute: str) -> Callable[[Facts], object]:
    """The attribute was told: text and lists are not empty, numbers not None."""
    return lambda facts: getattr(facts.item, attribute) not in ("", None, ())


def _required(
    number: str,
    field: str,
    attribute: str,
    applies: Callable[[Facts], object] = always,
    severity: Severity = "error",
    message: str = "",
) -> Rule:
    text = message or f"{field.rpartition('.')[2]} 为必填项，缺失"
    return Rule(number, _ITEM, field, severity, applies, _given(attribute), text)


def _shaped(
    number: str,
    field: str,
    attribute: str,
    test: Callable[[Any], object],
    message: str,
    severity: Severity = "error",
    clause: str = _ITEM,
) -> Rule:
    """Whatever was told must pass ``test``; of a list, each entry."""

    def holds(facts: Facts) -> bool:
        value = getattr(facts.item, attribute)
        return all(map(test, value)) if isinstance(value, tuple) else bool(test(value))

    return Rule(number, clause, field, severity, _given(attribute), holds, message)


def _among(*allowed: object) -> Callable[[object], bool]:
    values = frozenset(allowed)
    return lambda value: value in values


def _is_angle(value: float) -> bool:
    return 0 < value <= 360


def _has_place(facts: Facts) -> bool:
    return facts.item.longitude is not None and facts.item.latitude is not None


def _is_placed_class(facts: Facts) -> bool:
    return facts.item.point_type in (1, 2)


def _is_mobile_type(facts: Facts) -> bool:
    return facts.type_code == "138"


def _looks_at_nothing(facts: Facts) -> bool:
    return facts.is_coded and facts.type_code not in _LOOKING


def _has_no_camera_fields(facts: Facts) -> bool:
    return not any(_given(name)(facts) for name in _CAMERA_ONLY)


def _has_no_repeats(facts: Facts) -> bool:
    return all(len(set(value)) == len(value) for value in (getattr(facts.item, name) for name in _LISTS))


def _is_coded(facts: Facts) -> bool:
    return facts.is_coded


def _has_known_industry(facts: Facts) -> bool:
    return facts.item.device_id[8:10] in INDUSTRY_NAMES or facts.item.device_id[8] == "9"


def _has_known_type(facts: Facts) -> bool:
    return facts.type_code in TYPE_NAMES or facts.type_code == "119" or facts.type_code >= "600"


def _is_known_division(code: str) -> bool:
    return not _CIVIL(code) or divisions.is_known(code) is not False


RULES: Final = (
    Rule("GB-01", _CODE, "DeviceID", "error", always, _is_coded, "设备编码应为 20 位数字"),
    _required("GB-02", "Name", "name"),
    _required("GB-03", "Manufacturer", "manufacturer"),
    _required("GB-04", "Model", "model"),
    _required("GB-05", "CivilCode", "civil_code"),
    _shaped("GB-06", "CivilCode", "civil_code", _CIVIL, "行政区域应为 2、4、6 或 8 位数字"),
    _shaped("GB-07", "Block", "block", _BLOCK, "警区应为 GA/T 380 机构代码", "warning"),
    _required("GB-08", "Address", "address"),
    _required("GB-09", "Parental", "parental"),
    _shaped("GB-10", "Parental", "parental", _among(0, 1), "是否有子设备只能为 0 或 1"),
    _required("GB-11", "ParentID", "parent_ids"),
    _shaped("GB-12", "ParentID", "parent_ids", _CODE20, "父设备/区域/系统编码应为 20 位数字"),
    _shaped("GB-13", "RegisterWay", "register_way", _among(1, 2, 3, 4), "注册方式只能为 1 至 4"),
    _shaped(
        "GB-14", "SecurityLevelCode", "security_level_code", _among("A", "B", "C"),
        "安全能力等级只能为 A、B、C",
    ),
    _shaped("GB-15", "Secrecy", "secrecy", _among(0, 1), "保密属性只能为 0 或 1"),
    _shaped("GB-16", "IPAddress", "ip_address", is_address, "不是有效的 IPv4/IPv6 地址"),
    _shaped("GB-17", "Port", "port", lambda v: 1 <= v <= 65535, "端口应为 1 至 65535"),
    Rule(
        "GB-18", _ITEM, "Status", "warning", always, lambda f: f.archive.online is not None,
        "设备状态为必填项，尚未上报",
    ),
    Rule("GB-19", _ITEM, "Longitude", "error", _is_placed_class, _has_place, "一、二类点位必须填写经纬度"),
    _shaped("GB-20", "Longitude", "longitude", lambda v: -180 <= v <= 180, "经度超出范围"),
    _shaped("GB-21", "Latitude", "latitude", lambda v: -90 <= v <= 90, "纬度超出范围"),
    _shaped("GB-22", "BusinessGroupID", "business_group_id", _GROUP, "业务分组编码的类型码应为 215"),
    _shaped("GB-23", "Info.PTZType", "ptz_type", _among(*range(1, 8)), "摄像机结构类型只能为 1 至 7"),
    _shaped(
        "GB-24", "Info.PhotoelectricImagingType", "photoelectric_imaging_types",
        _among("1", "2", "3", "4", "5", "9"), "光电成像类型不在字典中",
    ),
    _shaped(
        "GB-25", "Info.CapturePositionType", "capture_position_type", is_position_type,
        "采集部位类型不在附录 O 中", clause="GB/T 28181-2022 Annex O",
    ),
    _shaped("GB-26", "Info.RoomType", "room_type", _among(1, 2), "安装位置室外/室内属性只能为 1 或 2"),
    _shaped(
        "GB-27", "Info.SupplyLightType", "supply_light_type", _among(1, 2, 3, 4, 9),
        "补光属性不在字典中",
    ),
    _shaped("GB-28", "Info.DirectionType", "direction_type", _among(*range(1, 9)), "监视方位只能为 1 至 8"),
    _shaped("GB-29", "Info.Resolution", "resolutions", _RESOLUTION, "分辨率应为 1 至 6 或 宽x高"),
    _shaped("GB-30", "Info.StreamNumberList", "stream_numbers", _DIGIT, "码流编号应为数字"),
    _shaped("GB-31", "Info.DownloadSpeed", "download_speeds", _SPEED, "下载倍速应为正整数"),
    _shaped(
        "GB-32", "Info.SVCSpaceSupportMode", "svc_space_support_mode", _among(0, 1, 2, 3),
        "空域编码能力只能为 0 至 3",
    ),
    _shaped(
        "GB-33", "Info.SVCTimeSupportMode", "svc_time_support_mode", _among(0, 1, 2, 3),
        "时域编码能力只能为 0 至 3",
    ),
    _shaped("GB-34", "Info.SSVCRatioSupportList", "ssvc_ratios", _RATIO, "SSVC 比例应形如 4:3"),
    _required(
        "GB-35", "Info.MobileDeviceType", "mobile_device_type", _is_mobile_type,
        message="移动采集设备必须填写移动设备类型",
    ),
    _shaped(
        "GB-36", "Info.MobileDeviceType", "mobile_device_type", _among(1, 2, 3, 4, 5, 9),
        "移动设备类型不在字典中",
    ),
    _shaped(
        "GB-37", "Info.HorizontalFieldAngle", "horizontal_field_angle", _is_angle,
        "水平视场角应在 0 至 360 度之间",
    ),
    _shaped(
        "GB-38", "Info.VerticalFieldAngle", "vertical_field_angle", _is_angle,
        "竖直视场角应在 0 至 360 度之间",
    ),
    _shaped("GB-39", "Info.MaxViewDistance", "max_view_distance", lambda v: v > 0, "最大可视距离应大于 0"),
    _required(
        "GB-40", "Info.GrassrootsCode", "grassroots_code",
        message="基层组织编码缺失，非基层建设应填 000000",
    ),
    _shaped(
        "GB-41", "Info.GrassrootsCode", "grassroots_code", _GRASSROOTS, "基层组织编码应为县以下 6 位代码",
        clause=_BELOW_COUNTY,
    ),
    _required("GB-42", "Info.PointType", "point_type", is_camera, message="摄像机必须填写监控点位类型"),
    _shaped("GB-43", "Info.PointType", "point_type", _among(1, 2, 3, 9), "监控点位类型只能为 1、2、3、9"),
    _shaped("GB-44", "Info.MAC", "mac", _MAC, "MAC 地址应形如 XX-XX-XX-XX-XX-XX"),
    _shaped(
        "GB-45", "Info.FunctionType", "function_types", _among("01", "02", "03", "04", "05", "99"),
        "卡口功能类型不在字典中",
    ),
    _shaped("GB-46", "Info.EncodeType", "encode_type", _CODEC, "视频编码格式只能为 1 至 5"),
    _required(
        "GB-47", "Info.InstallTime", "install_time", is_first_class,
        message="一类点位必须填写安装时间",
    ),
    _shaped("GB-48", "Info.InstallTime", "install_time", install_time, "安装时间应形如 2023-06-01T00:00:00"),
    _required(
        "GB-49", "Info.ContactInfo", "contact_info", is_first_class,
        message="一类点位必须填写联系方式",
    ),
    _shaped(
        "GB-50", "Info.ContactInfo", "contact_info", lambda v: all(map(_PHONE, v.split("/"))),
        "联系方式应为电话号码，多值以“/”分隔", "warning",
    ),
    _required(
        "GB-51", "Info.RecordSaveDays", "record_save_days", is_first_class,
        message="一类点位必须填写录像保存天数",
    ),
    _shaped(
        "GB-52", "Info.RecordSaveDays", "record_save_days", lambda v: 0 <= v <= 36_500,
        "录像保存天数不合理",
    ),
    _shaped(
        "GB-53", "Info.IndustrialClassification", "industrial_classification", _INDUSTRY,
        "国民经济行业代码应符合 GB/T 4754",
    ),
    Rule(
        "GB-54", _ITEM, "Info", "warning", _looks_at_nothing, _has_no_camera_fields,
        "仅摄像机适用的属性出现在非摄像机设备上",
    ),
    Rule(
        "GB-55", _CODE, "DeviceID", "info", _is_coded, _has_known_type,
        "类型编码（第 11 至 13 位）未在附录 E 列出",
    ),
    Rule(
        "GB-56", _CODE, "DeviceID", "info", _is_coded, _has_known_industry,
        "行业编码（第 9、10 位）未在附录 E 列出",
    ),
    Rule(
        "GB-57", _CODE, "DeviceID", "info", _is_coded, lambda f: f.item.device_id[13] != "9",
        "网络标识（第 14 位）为预留值",
    ),
    Rule(
        "GB-58", _CODE, "DeviceID", "warning", _is_coded,
        lambda f: divisions.is_known(f.item.device_id[:8]) is not False,
        "中心编码中的行政区划不在 GB/T 2260 中",
    ),
    _shaped("GB-59", "CivilCode", "civil_code", _is_known_division, "行政区域不在 GB/T 2260 中", "warning"),
    Rule("GB-60", _ITEM, "Item", "warning", always, _has_no_repeats, "多值属性中有重复的值"),
)  # fmt: skip
