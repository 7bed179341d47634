"""Every rule has an archive that breaks it and one that keeps it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import divisions
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source
from tongshi.resources.devices.rules.check import BY_NUMBER, RULES, check
from tongshi.resources.devices.rules.model import Facts

AT = datetime(2026, 1, 1, tzinfo=UTC)
SYSTEM, GROUP, ORGANISATION = "31010400002000000001", "31010400002150000001", "31010400002160000001"
NVR = "31010400001180000001"

GOOD = DeviceArchive(
    item=CatalogItem(
        device_id="31010400001320000001",
        name="肇嘉浜路天钥桥路口",
        manufacturer="厂商",
        model="M1",
        civil_code="310104",
        block="310104620000",
        address="肇嘉浜路 1000 号",
        parental=0,
        parent_ids=(SYSTEM, ORGANISATION),
        security_level_code="A",
        ip_address="192.0.2.1",
        port=5060,
        longitude=121.44,
        latitude=31.19,
        business_group_id=GROUP,
        ptz_type=1,
        photoelectric_imaging_types=("1", "2"),
        capture_position_type="0020100",
        room_type=1,
        supply_light_type=2,
        direction_type=1,
        resolutions=("6", "2560x1440"),
        stream_numbers=("0", "1"),
        download_speeds=("1", "4"),
        svc_space_support_mode=0,
        svc_time_support_mode=0,
        ssvc_ratios=("4:3",),
        horizontal_field_angle=58.3,
        vertical_field_angle=34.1,
        max_view_distance=120.0,
        grassroots_code="000000",
        point_type=1,
        mac="02-00-5E-10-00-01",
        encode_type="5",
        install_time="2023-06-01T00:00:00",
        contact_info="021-64000000/13800000000",
        record_save_days=90,
        industrial_classification="S92",
    ),
    ext=ExtendedAttributes(
        is_controllable=True,
        keyboard_number="123456789",
        storage_device_ip="192.0.2.9",
        storage_channel="31010000001180001001",
        scene_photo_url="https://photos.example/1.jpg",
        has_positioning_module=False,
        is_networked=True,
        police_jurisdiction="310104620000",
        industries=("1", "12"),
    ),
    owner=SYSTEM,
    source=Source.REST,
    online=True,
)

BOX = "31010400001380000001"
SNAPSHOT = "31010400001190000001"
SPEAKER = "31010400001370000001"
Changes = dict[str, Any]
# Number: (what breaks it, what more is needed that it applies and is kept).
EXAMPLES: dict[str, tuple[Changes, Changes]] = {
    "GB-01": ({"device_id": "channel-1"}, {}),
    "GB-02": ({"name": ""}, {}),
    "GB-03": ({"manufacturer": ""}, {}),
    "GB-04": ({"model": ""}, {}),
    "GB-05": ({"civil_code": ""}, {}),
    "GB-06": ({"civil_code": "3101040000"}, {"civil_code": "31010403"}),
    "GB-07": ({"block": "警区"}, {}),
    "GB-08": ({"address": ""}, {}),
    "GB-09": ({"parental": None}, {}),
    "GB-10": ({"parental": 2}, {"parental": 1}),
    "GB-11": ({"parent_ids": ()}, {}),
    "GB-12": ({"parent_ids": ("10086",)}, {}),
    "GB-13": ({"register_way": 5}, {"register_way": 4}),
    "GB-14": ({"security_level_code": "D"}, {}),
    "GB-15": ({"secrecy": 2}, {"secrecy": 1}),
    "GB-16": ({"ip_address": "10.0.0.256"}, {"ip_address": "2001:db8::1"}),
    "GB-17": ({"port": 0}, {}),
    "GB-18": ({"online": None}, {}),
    "GB-19": ({"latitude": None, "longitude": None}, {}),
    "GB-20": ({"longitude": 181.0}, {}),
    "GB-21": ({"latitude": -91.0}, {}),
    "GB-22": ({"business_group_id": ORGANISATION}, {}),
    "GB-23": ({"ptz_type": 8}, {"ptz_type": 7}),
    "GB-24": ({"photoelectric_imaging_types": ("1", "8")}, {}),
    "GB-25": ({"capture_position_type": "0299900"}, {}),
    "GB-26": ({"room_type": 3}, {}),
    "GB-27": ({"supply_light_type": 5}, {}),
    "GB-28": ({"direction_type": 9}, {}),
    "GB-29": ({"resolutions": ("6", "7")}, {}),
    "GB-30": ({"stream_numbers": ("main",)}, {}),
    "GB-31": ({"download_speeds": ("0",)}, {}),
    "GB-32": ({"svc_space_support_mode": 4}, {}),
    "GB-33": ({"svc_time_support_mode": -1}, {}),
    "GB-34": ({"ssvc_ratios": ("4-3",)}, {}),
    "GB-35": ({"device_id": BOX}, {"device_id": BOX, "mobile_device_type": 2}),
    "GB-36": ({"mobile_device_type": 6}, {"mobile_device_type": 9}),
    "GB-37": ({"horizontal_field_angle": 0.0}, {"horizontal_field_angle": 360.0}),
    "GB-38": ({"vertical_field_angle": 361.0}, {}),
    "GB-39": ({"max_view_distance": -1.0}, {}),
    "GB-40": ({"grassroots_code": ""}, {}),
    "GB-41": ({"grassroots_code": "600001"}, {"grassroots_code": "003001"}),
    "GB-42": ({"point_type": None}, {}),
    "GB-43": ({"point_type": 4}, {"point_type": 9}),
    "GB-44": ({"mac": "02:00:5E:10:00:01"}, {}),
    "GB-45": ({"function_types": ("1",)}, {"function_types": ("01", "99")}),
    "GB-46": ({"encode_type": "H.265"}, {}),
    "GB-47": ({"install_time": None}, {}),
    "GB-48": ({"install_time": "2023-02-30T00:00:00"}, {}),
    "GB-49": ({"contact_info": ""}, {}),
    "GB-50": ({"contact_info": "张三"}, {}),
    "GB-51": ({"record_save_days": None}, {}),
    "GB-52": ({"record_save_days": -1}, {}),
    "GB-53": ({"industrial_classification": "92"}, {}),
    "GB-54": ({"device_id": SPEAKER}, {"device_id": SPEAKER, **dict.fromkeys(
        ("ptz_type", "room_type", "supply_light_type", "direction_type")), "encode_type": "",
        "photoelectric_imaging_types": (), "capture_position_type": "", "resolutions": ()}),
    "GB-55": ({"device_id": "31010400001260000001"}, {}),
    "GB-56": ({"device_id": "31010400201320000001"}, {"device_id": "31010400951320000001"}),
    "GB-57": ({"device_id": "31010400001329000001"}, {}),
    "GB-58": ({"device_id": "31019900001320000001"}, {}),
    "GB-59": ({"civil_code": "319901"}, {}),
    "GB-60": ({"resolutions": ("6", "6")}, {}),
    "A1-01": ({"is_controllable": None}, {}),
    "A1-02": ({"keyboard_number": ""}, {}),
    "A1-03": ({"keyboard_number": "1234567"}, {"keyboard_number": "12345678"}),
    "A1-04": ({"device_id": SNAPSHOT}, {"device_id": SNAPSHOT, "keyboard_number": ""}),
    "A1-05": ({"storage_device_ip": "1" * 31}, {}),
    "A1-06": ({"storage_device_ip": "nvr-1"}, {}),
    "A1-07": ({"storage_device_ip": ""}, {}),
    "A1-08": ({"storage_channel": "1" * 21}, {}),
    "A1-09": ({"storage_channel": "通道 1"}, {"storage_channel": "10"}),
    "A1-10": ({"storage_channel": ""}, {}),
    "A1-11": ({"scene_photo_url": "1.jpg"}, {}),
    "A1-12": ({"has_positioning_module": None}, {}),
    "A1-13": ({"is_networked": None}, {}),
    "A1-14": ({"police_jurisdiction": "徐汇分局"}, {}),
    "A1-15": ({"police_jurisdiction": "310104000000"}, {}),
    "A1-16": ({"police_jurisdiction": ""}, {}),
    "A1-17": ({"industries": ()}, {}),
    "A1-18": ({"industries": ("公安",)}, {}),
    "A1-19": ({"industries": ("19",)}, {"industries": ("18",)}),
    "A1-20": ({"industries": tuple(str(n) for n in range(100, 113))}, {}),
    "A1-21": ({"industries": ("1", "1")}, {}),
    "X-01": ({"civil_code": "310105"}, {"civil_code": "31"}),
    "X-02": ({"longitude": 31.19, "latitude": 121.44}, {}),
    "X-03": ({"latitude": None}, {}),
    "X-04": ({"longitude": 0.0, "latitude": 0.0}, {}),
    "X-05": ({"install_time": "2026-02-01T00:00:00"}, {}),
    "X-06": ({"ptz_type": 3}, {"ptz_type": 3, "is_controllable": False}),
    "X-07": ({"is_controllable": False}, {}),
    "X-08": ({"parent_ids": (SYSTEM, "31010400003000000001")}, {"parent_ids": (NVR, ORGANISATION)}),
    "X-09": ({"parent_ids": (SYSTEM, "31010400001320000001")}, {}),
    "X-10": ({"parent_ids": (ORGANISATION,)}, {}),
    "X-11": ({"police_jurisdiction": "320104620000"}, {}),
    "X-12": ({"is_networked": False}, {"is_networked": False, "online": False}),
    "X-13": ({"mobile_device_type": 2}, {"mobile_device_type": 2, "has_positioning_module": True}),
    "X-14": ({"grassroots_code": "099001"}, {"grassroots_code": "003001"}),
    "X-15": ({"device_id": SPEAKER}, {"device_id": SPEAKER, "parent_ids": (NVR,)}),
}  # fmt: skip


def changed(changes: Changes) -> DeviceArchive:
    def part(struct: Any) -> Changes:
        return {k: v for k, v in changes.items() if k in struct.__struct_fields__}

    item, ext = replace(GOOD.item, **part(GOOD.item)), replace(GOOD.ext, **part(GOOD.ext))
    archive = replace(GOOD, item=item, ext=ext, **part(GOOD))
    assert all(k in {*part(GOOD.item), *part(GOOD.ext), *part(GOOD)} for k in changes)
    return archive


def broken(archive: DeviceArchive) -> set[str]:
    return {issue.rule for issue in check(archive, AT)}


def test_a_right_archive_has_no_issue() -> None:
    assert check(GOOD, AT) == ()


def test_every_rule_has_its_examples_and_a_number_of_its_own() -> None:
    assert [rule.number for rule in RULES] == list(EXAMPLES)
    assert len(BY_NUMBER) == len(RULES)


@pytest.mark.parametrize("number", EXAMPLES)
def test_a_rule_is_broken_by_one_archive_and_kept_by_another(number: str) -> None:
    wrong, right = (changed(changes) for changes in EXAMPLES[number])
    rule = BY_NUMBER[number]
    assert number in broken(wrong)
    assert rule.applies(Facts(right, AT)), "the example that keeps a rule is one it speaks to"
    assert number not in broken(right)


def test_an_issue_says_what_is_wrong_in_chinese_and_names_a_clause() -> None:
    for rule in RULES:
        issue = rule.issue()
        assert any("\u4e00" <= character <= "\u9fff" for character in issue.message), rule.number
        assert rule.clause.startswith(("GB/T 28181-2022", "DB31DSJ/Z 001-2024")), rule.number
        assert issue.field, rule.number


def test_shanghai_has_sixteen_districts_and_its_streets_have_names() -> None:
    assert divisions.name_of("310104") == "徐汇区"
    assert divisions.name_of("310104003") == "天平路街道"
    assert divisions.is_known("310104") is True
    assert divisions.is_known("310199") is False
    assert divisions.is_known("330102") is None
    assert divisions.is_known("99") is False
    assert divisions.is_street("310104", "003001") is True
    assert divisions.is_street("330102", "003001") is None


def test_a_division_knows_those_above_it() -> None:
    assert divisions.chain("31010401") == ("31010401", "310104", "3101", "31")
    assert divisions.chain("310000") == ("31",)
    assert divisions.chain("") == ()
