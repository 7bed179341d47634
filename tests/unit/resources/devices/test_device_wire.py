"""The nine identifiers and the catalogue item as JSON."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.resources.devices import wire
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source, digest
from tongshi.resources.devices.rules.check import check

ITEM = CatalogItem(
    device_id="31010400001320000001",
    name="外滩",
    parent_ids=("31010400002000000001", "31010400002160000001"),
    status=DeviceStatus.ON,
    longitude=121.49,
    ptz_type=3,
    resolutions=("6", "5"),
)
EXT = ExtendedAttributes(
    is_controllable=True,
    keyboard_number="12345678",
    has_positioning_module=False,
    is_networked=True,
    industries=("1", "12"),
)
ARCHIVE = DeviceArchive(
    item=ITEM, ext=EXT, owner="31010400002000000001", revision=3, source=Source.REST, online=True
)


def written(archive: DeviceArchive = ARCHIVE) -> dict[str, object]:
    data = msgspec.json.decode(msgspec.json.encode(wire.to_full(archive)))
    assert isinstance(data, dict)
    return data


def test_an_archive_is_written_with_the_names_of_both_standards() -> None:
    data = written()
    data.pop("provenance")
    assert data == {
        "DeviceID": "31010400001320000001",
        "Name": "外滩",
        "ParentID": "31010400002000000001/31010400002160000001",
        "Status": "ON",
        "Longitude": 121.49,
        "Info": {"PTZType": 3, "Resolution": "6/5"},
        "ext": {"SFKK": "1", "JPBH": "12345678", "DWMK": "0", "LWSX": "0", "SSBMHY": "1/12"},
        "sourcePlatform": "31010400002000000001",
        "version": 3,
        "geoCoordSys": "WGS84",
    }


def test_an_archive_comes_back_as_it_was_written() -> None:
    assert wire.parse(written()) == ARCHIVE
    assert wire.decode(msgspec.json.encode(written())) == ARCHIVE


def test_every_field_of_the_codec_has_its_place_in_device_full() -> None:
    outer = dict(
        zip(wire.DeviceFull.__struct_encode_fields__, wire.DeviceFull.__struct_fields__, strict=True)
    )
    inner = wire.DeviceInfoFields.__struct_encode_fields__
    for field in ITEM_FIELDS:
        assert (field.wire in inner) if field.in_info else (outer[field.wire] == field.attribute)
    assert wire.ExtFields.__struct_fields__ == (
        "SFKK",
        "JPBH",
        "DYCCSBIP",
        "DYCCSBTD",
        "SXJCJYSZP",
        "DWMK",
        "LWSX",
        "SSXQGAJG",
        "SSBMHY",
    )


@pytest.mark.parametrize(("is_networked", "text"), [(True, "0"), (False, "1"), (None, None)])
def test_quirk_z001_1_lwsx_zero_means_networked(is_networked: bool | None, text: str | None) -> None:
    archive = replace(ARCHIVE, ext=replace(EXT, is_networked=is_networked))
    ext = written(archive)["ext"]
    assert isinstance(ext, dict)
    assert ext.get("LWSX") == text
    assert wire.parse(written(archive)).ext.is_networked is is_networked


def test_quirk_z001_2_a_photo_url_longer_than_twenty_characters_is_kept() -> None:
    url = "https://photos.example/scene/31010400001320000001.jpg"
    archive = replace(ARCHIVE, ext=replace(EXT, scene_photo_url=url))
    assert wire.parse(written(archive)).ext.scene_photo_url == url


AT = datetime(2026, 1, 1, tzinfo=UTC)


def a1_issues(archive: DeviceArchive) -> list[tuple[str, str, str]]:
    issues = check(archive, AT)
    return [(i.rule, i.field, i.severity) for i in issues if i.rule.startswith("A1") and i.severity != "info"]


def test_quirk_z001_3_a_video_device_without_keyboard_number_is_an_issue_no_error() -> None:
    archive = replace(ARCHIVE, ext=replace(EXT, keyboard_number="", police_jurisdiction="310104620000"))
    wire.parse(written(archive))
    assert a1_issues(archive) == [("A1-02", "ext.JPBH", "warning")]
    snapshot_device = replace(archive, item=replace(ITEM, device_id="31010400001190000001"))
    assert a1_issues(snapshot_device) == []


def test_what_table_a1_requires_and_nobody_told_is_an_issue() -> None:
    fields = [field for _, field, _ in a1_issues(replace(ARCHIVE, ext=ExtendedAttributes()))]
    assert fields == ["ext.SFKK", "ext.JPBH", "ext.DWMK", "ext.LWSX", "ext.SSBMHY"]


def test_a_device_password_is_dropped_and_never_written() -> None:
    archive = wire.parse({"DeviceID": "31010400001320000001", "Password": "geheim"})
    assert b"geheim" not in msgspec.json.encode(wire.to_full(archive))


def test_numbers_may_be_text() -> None:
    value = {"DeviceID": "1", "Longitude": "121.49000000000000000000", "Info": {"PTZType": "3"}}
    archive = wire.parse(value)
    assert (archive.item.longitude, archive.item.ptz_type) == (121.49, 3)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "DeviceID"),
        ({"DeviceID": ""}, "DeviceID"),
        ({"DeviceID": "a b"}, "DeviceID"),
        ({"DeviceID": "1\n"}, "DeviceID"),
        ({"DeviceID": "1" * 65}, "DeviceID"),
        ({"DeviceID": "1", "Name": 5}, "Name"),
        ({"DeviceID": "1", "Name": "x" * 1025}, "Name"),
        ({"DeviceID": "1", "Name": "a\0b"}, "Name"),
        ({"DeviceID": "1", "Longitude": 181}, "Longitude"),
        ({"DeviceID": "1", "Latitude": "north"}, "Latitude"),
        ({"DeviceID": "1", "Status": "MAYBE"}, "Status"),
        ({"DeviceID": "1", "Port": 65536}, "Port"),
        ({"DeviceID": "1", "Info": {"PTZType": "dome"}}, "Info.PTZType"),
        ({"DeviceID": "1", "Info": {"RecordSaveDays": 2**60}}, "Info.RecordSaveDays"),
        ({"DeviceID": "1", "Info": {"MAC": "\x1b"}}, "MAC"),
        ({"DeviceID": "1", "Info": []}, "Info"),
        ({"DeviceID": "1", "ext": {"SFKK": "2"}}, "ext.SFKK"),
        ({"DeviceID": "1", "ext": {"SFKK": 1}}, "ext.SFKK"),
        ({"DeviceID": "1", "ext": {"JPBH": "1234567"}}, "ext.JPBH"),
        ({"DeviceID": "1", "ext": {"SSXQGAJG": "31010462"}}, "ext.SSXQGAJG"),
        ({"DeviceID": "1", "ext": {"SSBMHY": "1/" * 26}}, "ext.SSBMHY"),
        ({"DeviceID": "1", "version": -1}, "version"),
    ],
)
def test_a_bad_field_is_named_as_it_was_written(value: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wire.parse(value)
    assert refused.value.field == field


def test_empty_entries_of_a_list_are_no_entries() -> None:
    archive = wire.parse({"DeviceID": "1", "ParentID": "/a//b/"})
    assert archive.item.parent_ids == ("a", "b")


def test_a_device_in_a_list_carries_the_short_form() -> None:
    data = msgspec.json.decode(msgspec.json.encode(wire.to_lite(ARCHIVE)))
    assert data["Status"] == "ON"
    assert data["SSBMHY"] == ["1", "12"]
    assert (data["SFKK"], data["LWSX"], data["sourcePlatform"]) == ("1", "0", ARCHIVE.owner)


def test_writing_and_reading_keeps_the_digest() -> None:
    assert digest(wire.parse(written())) == digest(ARCHIVE)
