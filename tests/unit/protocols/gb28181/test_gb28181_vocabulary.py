"""Codes, versions, times and position types."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tongshi.clock import BEIJING
from tongshi.errors import InvalidRequest, RemoteViolation
from tongshi.protocols.gb28181.codes import ItemKind, kind_of, normalise_civil_code
from tongshi.protocols.gb28181.dates import parse_time, render_date, render_time
from tongshi.protocols.gb28181.position_types import POSITION_TYPES, describe, is_valid, position_type
from tongshi.protocols.gb28181.profile import Profile, Quirk, for_edition
from tongshi.protocols.gb28181.version import Edition, Feature, parse_version, supports

MOMENT = datetime(2024, 5, 20, 9, 30, 15, 250_000, tzinfo=BEIJING)


@pytest.mark.parametrize(
    ("device_id", "kind"),
    [
        ("11010101002000000001", ItemKind.SYSTEM),
        ("34020000002150000001", ItemKind.BUSINESS_GROUP),
        ("34020000002160000001", ItemKind.VIRTUAL_ORGANISATION),
        ("34020000001180000001", ItemKind.DEVICE),
        ("3402", ItemKind.DIVISION),
        ("340", ItemKind.DEVICE),
        ("CAM-1", ItemKind.DEVICE),
    ],
)
def test_the_kind_of_an_item_is_seen_in_its_code(device_id: str, kind: ItemKind) -> None:
    assert kind_of(device_id) is kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("340200", "340200"),
        ("3402000000", "340200"),
        ("34020512345", "34020512"),
        ("340", "34"),
        ("3402东区", "3402"),
        ("上海", ""),
        ("", ""),
    ],
)
def test_a_civil_code_is_cut_to_a_division(text: str, expected: str) -> None:
    assert normalise_civil_code(text) == expected


@pytest.mark.parametrize(
    ("header", "edition"),
    [
        ("3.0", Edition.GB2022),
        ("2.0", Edition.GB2016),
        ("1.1", Edition.GB2014),
        ("1.0", Edition.GB2011),
        (" 3.1 ", Edition.GB2022),
        ("2.5", Edition.GB2016),
        ("0.9", Edition.GB2011),
        (None, Edition.GB2016),
        ("", Edition.GB2016),
        ("three", Edition.GB2016),
    ],
)
def test_a_version_header_names_an_edition(header: str | None, edition: Edition) -> None:
    assert parse_version(header) is edition


def test_editions_are_written_as_they_are_read() -> None:
    assert [parse_version(edition.wire) for edition in Edition] == list(Edition)


def test_a_feature_is_kept_from_peers_that_do_not_know_it() -> None:
    assert supports(Edition.GB2022, Feature.PTZ_POSITION)
    assert not supports(Edition.GB2016, Feature.PTZ_POSITION)
    assert supports(Edition.GB2014, Feature.DRAG_ZOOM)
    assert not supports(Edition.GB2011, Feature.DRAG_ZOOM)


def test_a_profile_forces_its_charset_only_when_told() -> None:
    assert for_edition(Edition.GB2016).charset == "gb2312"
    assert for_edition(Edition.GB2022).charset == "gb18030"
    assert Profile().forced_charset is None
    assert Profile(charset="utf-8", quirks=frozenset({Quirk.FORCED_CHARSET})).forced_charset == "utf-8"


def test_the_date_header_is_beijing_time_with_milliseconds() -> None:
    assert render_date(MOMENT) == "2024-05-20T09:30:15.250"
    assert render_date(MOMENT.astimezone(UTC)) == "2024-05-20T09:30:15.250"
    assert render_time(MOMENT.astimezone(UTC)) == "2024-05-20T09:30:15"


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-20T09:30:15.250",
        "2024-5-20T9:30:15.25",
        "2024-05-20 09:30:15.250",
        "2024-05-20+09:30:15.250",
        "2024-05-20T09:30:15.250+08:00",
        "2024-05-20T01:30:15.250Z",
        "2024/05/20 09:30:15,250",
    ],
)
def test_a_time_is_read_as_devices_write_it(text: str) -> None:
    assert parse_time(text) == MOMENT


def test_a_time_of_rfc_1123_and_a_bare_date_are_read() -> None:
    assert parse_time("Mon, 20 May 2024 01:30:15 GMT") == MOMENT.replace(microsecond=0)
    assert parse_time("2024-05-20") == datetime(2024, 5, 20, tzinfo=BEIJING)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01T00:00:00", "2024-05-20T25:00:00", "9" * 65])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RemoteViolation):
        parse_time(text)


def test_position_types_have_their_names() -> None:
    assert describe("0260100") == "居民小区/出入口"
    assert describe("0029700") == "道路、路口、过街天桥、地下通道/城市其他"
    assert position_type("006", "99") == "0069900"
    assert (describe("0299900"), is_valid("02601"), is_valid("026010x")) == ("", False, False)
    assert len(POSITION_TYPES) == 32
    with pytest.raises(InvalidRequest):
        position_type("029", "01")
