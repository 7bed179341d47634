"""Rules between fields, where each is right by itself and both together are not.

Implements: GB/T 28181-2022 A.2.1.9
Implements: DB31DSJ/Z 001-2024 Table A.1
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tongshi.clock import BEIJING
from tongshi.protocols.gb28181.codes import normalise_civil_code
from tongshi.resources.devices import divisions
from tongshi.resources.devices.rules.model import Facts, Rule, always
from tongshi.resources.devices.rules.national import install_time

_ITEM: Final = "GB/T 28181-2022 A.2.1.9"
_TABLE: Final = "DB31DSJ/Z 001-2024 Table A.1"
_TURNING: Final = frozenset({1, 4, 5})  # dome, remotely controlled bullet and hemisphere
_FIXED: Final = frozenset({2, 3, 6, 7})
_CLOCK_SKEW: Final = timedelta(hours=24)
_VOICE_OUTPUT: Final = "137"


def _has_division(facts: Facts) -> bool:
    return facts.is_coded and bool(normalise_civil_code(facts.item.civil_code))


def _fits_centre(facts: Facts) -> bool:
    """The shorter of both codes, its trailing pairs of 00 cut off, begins the other."""
    civil = divisions.chain(normalise_civil_code(facts.item.civil_code)[:6])[0]
    centre = divisions.chain(facts.item.device_id[:6])[0]
    return civil.startswith(centre) or centre.startswith(civil)


def _has_place(facts: Facts) -> bool:
    return facts.item.longitude is not None and facts.item.latitude is not None and not _is_nowhere(facts)


def _is_nowhere(facts: Facts) -> bool:
    return facts.item.longitude == 0 and facts.item.latitude == 0


def _is_inside(facts: Facts) -> bool:
    longitude, latitude = facts.item.longitude, facts.item.latitude
    assert longitude is not None
    assert latitude is not None
    west, south, east, north = divisions.box_of(normalise_civil_code(facts.item.civil_code))
    return west <= longitude <= east and south <= latitude <= north


def _has_install_time(facts: Facts) -> bool:
    return install_time(facts.item.install_time) is not None


def _is_installed(facts: Facts) -> bool:
    told = install_time(facts.item.install_time)
    return told is None or told.replace(tzinfo=BEIJING) <= facts.at + _CLOCK_SKEW


def _has_parents(facts: Facts) -> bool:
    return bool(facts.item.parent_ids)


def _is_parent_type(code: str) -> bool:
    """What may stand above a device: main devices, cameras (of a loudspeaker), systems, organisations."""
    return "111" <= code <= "132" or code in ("200", "209", "215", "216")


def _knows_parents(facts: Facts) -> bool:
    return all(map(_is_parent_type, facts.parent_types))


def _has_system_beside(facts: Facts) -> bool:
    return bool(facts.parent_types - {"215", "216"})


def _is_in_organisation(facts: Facts) -> bool:
    return bool(facts.parent_types & {"215", "216"})


def _has_street(facts: Facts) -> bool:
    code = facts.item.grassroots_code
    is_code = len(code) == 6 and code.isascii() and code.isdigit() and code != "000000"
    return is_code and divisions.is_street(facts.item.civil_code, code) is not None


def _is_in_county(facts: Facts) -> object:
    return divisions.is_street(facts.item.civil_code, facts.item.grassroots_code)


def _has_jurisdiction(facts: Facts) -> bool:
    return len(facts.ext.police_jurisdiction) == 12 and len(facts.item.civil_code) >= 6


RULES: Final = (
    Rule(
        "X-01", _ITEM, "CivilCode", "warning", _has_division, _fits_centre,
        "行政区域与设备编码中的中心编码不一致",
    ),
    Rule("X-02", _ITEM, "Longitude", "warning", _has_place, _is_inside, "经纬度不在所属行政区域范围内"),
    Rule(
        "X-03", _ITEM, "Longitude", "warning", always,
        lambda f: (f.item.longitude is None) == (f.item.latitude is None), "经度与纬度应同时填写",
    ),
    Rule(
        "X-04", _ITEM, "Longitude", "warning", always, lambda f: not _is_nowhere(f),
        "经纬度为 0，应视为未填写",
    ),
    Rule(
        "X-05", _ITEM, "Info.InstallTime", "error", _has_install_time, _is_installed,
        "安装时间晚于当前时间",
    ),
    Rule(
        "X-06", _TABLE, "ext.SFKK", "warning", lambda f: f.item.ptz_type in _FIXED,
        lambda f: f.ext.is_controllable is not True, "固定类摄像机标注为可控",
    ),
    Rule(
        "X-07", _TABLE, "ext.SFKK", "info", lambda f: f.item.ptz_type in _TURNING,
        lambda f: f.ext.is_controllable is not False, "球机或遥控摄像机标注为不可控",
    ),
    Rule(
        "X-08", _ITEM, "ParentID", "warning", _has_parents, _knows_parents,
        "父编码的类型不能作为设备的上级",
    ),
    Rule(
        "X-09", _ITEM, "ParentID", "error", _has_parents, lambda f: f.item.device_id not in f.item.parent_ids,
        "设备以自身为上级",
    ),
    Rule(
        "X-10", "GB/T 28181-2022 Annex J", "ParentID", "warning", _is_in_organisation, _has_system_beside,
        "属于虚拟组织的设备还应填写父设备或所属系统编码",
    ),
    Rule(
        "X-11", _TABLE, "ext.SSXQGAJG", "info", _has_jurisdiction,
        lambda f: f.ext.police_jurisdiction[:4] == f.item.civil_code[:4],
        "所属辖区公安机关与行政区域不在同一城市",
    ),
    Rule(
        "X-12", _TABLE, "ext.LWSX", "warning", lambda f: f.ext.is_networked is False,
        lambda f: f.archive.online is not True, "标注为未联网，但设备在线",
    ),
    Rule(
        "X-13", _TABLE, "ext.DWMK", "info", lambda f: f.is_mobile,
        lambda f: f.ext.has_positioning_module is not False, "移动设备标注为无定位模块",
    ),
    Rule(
        "X-14", "GB/T 28181-2022 E.3", "Info.GrassrootsCode", "warning", _has_street, _is_in_county,
        "基层组织编码中的街镇不在该行政区域内",
    ),
    Rule(
        "X-15", "GB/T 28181-2022 9.12", "ParentID", "error", lambda f: f.type_code == _VOICE_OUTPUT,
        lambda f: bool(f.parent_types - {"200", "215", "216"}), "语音输出设备应以所属设备为上级",
    ),
)  # fmt: skip
