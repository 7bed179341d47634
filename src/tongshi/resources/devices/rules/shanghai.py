"""Rules of the extended attributes.

Implements: DB31DSJ/Z 001-2024 Table A.1
The remarks of the table are rules by type code. What a remark makes depend on facts that no archive tells
("self-built devices") is asked for as information only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tongshi.resources.devices.rules.model import (
    SNAPSHOT_TYPES,
    Facts,
    Rule,
    Severity,
    always,
    is_address,
    is_camera,
    matches,
)

_TABLE: Final = "DB31DSJ/Z 001-2024 Table A.1"
POLICE: Final = "1"
INDUSTRIES: Final[dict[str, str]] = {
    "1": "公安机关", "2": "环保部门", "3": "文博部门", "4": "医疗部门", "5": "旅游管理", "6": "新闻广电",
    "7": "食品医药监督管理部门", "8": "教育管理部门", "9": "检察院", "10": "法院", "11": "金融部门",
    "12": "交通部门", "13": "住房和城乡建设部门", "14": "水利部门", "15": "林业部门",
    "16": "安全生产监督部门", "17": "市政市容委", "18": "国土局",
}  # fmt: skip

_KEYBOARD = matches("[0-9]{8,9}")
_CHANNEL = matches("[0-9]{1,4}|[0-9]{20}")
_URL = matches(r"https?://[!-~]{1,500}")
_POLICE_CODE = matches("[0-9]{6}[0-9A-Z]{6}")
_NUMBER = matches("[1-9][0-9]{0,3}")


def _told(attribute: str) -> Callable[[Facts], object]:
    return lambda facts: getattr(facts.ext, attribute) not in ("", None, ())


def _required(number: str, field: str, attribute: str) -> Rule:
    message = f"{field} 为必选项，缺失"
    return Rule(number, _TABLE, f"ext.{field}", "error", always, _told(attribute), message)


def _shaped(
    number: str,
    field: str,
    attribute: str,
    test: Callable[[Any], object],
    message: str,
    severity: Severity = "error",
) -> Rule:
    def holds(facts: Facts) -> object:
        return test(getattr(facts.ext, attribute))

    return Rule(number, _TABLE, f"ext.{field}", severity, _told(attribute), holds, message)


def _is_snapshot(facts: Facts) -> bool:
    return facts.type_code in SNAPSHOT_TYPES


def _records(facts: Facts) -> bool:
    """Not among the exempt: picture devices, mobile terminals, cameras that only take evidence."""
    return facts.is_camera and not facts.is_mobile and not facts.item.function_types


def _is_of_the_police(facts: Facts) -> bool:
    return POLICE in facts.ext.industries


RULES: Final = (
    _required("A1-01", "SFKK", "is_controllable"),
    # A warning: the column says optional, the remark mandatory (quirk Z001-3).
    Rule(
        "A1-02", _TABLE, "ext.JPBH", "warning", is_camera, _told("keyboard_number"),
        "视频流设备（类型 131、132）的键盘编号为必填项",
    ),
    _shaped("A1-03", "JPBH", "keyboard_number", _KEYBOARD, "键盘编号应为 8 位（模拟）或 9 位（数字）数字"),
    Rule(
        "A1-04", _TABLE, "ext.JPBH", "info", _is_snapshot, lambda f: not f.ext.keyboard_number,
        "非视频类设备（类型 119、121）无需填写键盘编号",
    ),
    _shaped("A1-05", "DYCCSBIP", "storage_device_ip", lambda v: len(v) <= 30, "长度超过 30"),
    _shaped("A1-06", "DYCCSBIP", "storage_device_ip", is_address, "不是有效的 IPv4/IPv6 地址"),
    Rule(
        "A1-07", _TABLE, "ext.DYCCSBIP", "info", _records, _told("storage_device_ip"),
        "自建设备应填写对应存储设备 IP",
    ),
    _shaped("A1-08", "DYCCSBTD", "storage_channel", lambda v: len(v) <= 20, "长度超过 20"),
    _shaped(
        "A1-09", "DYCCSBTD", "storage_channel", _CHANNEL, "应为存储通道序号，或 20 位国标编号", "warning"
    ),
    Rule(
        "A1-10", _TABLE, "ext.DYCCSBTD", "info", _records, _told("storage_channel"),
        "视频设备应填写对应存储设备通道",
    ),
    _shaped("A1-11", "SXJCJYSZP", "scene_photo_url", _URL, "场景预设照片应为 http(s) URL", "warning"),
    _required("A1-12", "DWMK", "has_positioning_module"),
    _required("A1-13", "LWSX", "is_networked"),
    _shaped(
        "A1-14", "SSXQGAJG", "police_jurisdiction", _POLICE_CODE, "应为 GA/T 380 规定的 12 位机构代码"
    ),
    _shaped(
        "A1-15", "SSXQGAJG", "police_jurisdiction", lambda v: v[6:] not in ("", "000000"),
        "应注明到所属辖区公安机关派出所", "warning",
    ),
    Rule(
        "A1-16", _TABLE, "ext.SSXQGAJG", "warning", _is_of_the_police, _told("police_jurisdiction"),
        "公安机关建设的设备应填写所属辖区公安机关",
    ),
    _required("A1-17", "SSBMHY", "industries"),
    _shaped(
        "A1-18", "SSBMHY", "industries", lambda v: all(map(_NUMBER, v)),
        "所属部门/行业应为编号，多选以“/”分隔",
    ),
    _shaped(
        "A1-19", "SSBMHY", "industries", lambda v: all(i in INDUSTRIES or not _NUMBER(i) for i in v),
        "所属部门/行业使用了表 A.1 之外的扩展值", "info",
    ),
    _shaped("A1-20", "SSBMHY", "industries", lambda v: len("/".join(v)) <= 50, "长度超过 50"),
    _shaped("A1-21", "SSBMHY", "industries", lambda v: len(set(v)) == len(v), "有重复的值", "warning"),
)  # fmt: skip
