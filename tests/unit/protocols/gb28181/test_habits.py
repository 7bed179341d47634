"""Habits that show in a message; what conforms shows none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.protocols.gb28181.habits import Habit, charset_of, habits_of, speaks_2022
from tongshi.protocols.sip.message import Request, parse

PEER = "31010100001180000001"
DATA = Path(__file__).parents[3] / "data" / "gb28181"


def message(body: bytes, *, sender: str = f"<sip:{PEER}@x>;tag=1", branch: str = "z9hG4bKa") -> Request:
    head = (
        f"MESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch={branch}\r\nFrom: {sender}\r\n"
        f"To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = parse(head.encode() + body)
    assert isinstance(request, Request)
    return request


def xml(inside: str, command: str = "Catalog", sn: str = "<SN>1</SN>", charset: str = "GB2312") -> bytes:
    head = f'<?xml version="1.0" encoding="{charset}"?>'
    text = f"{head}<Response><CmdType>{command}</CmdType>{sn}{inside}</Response>"
    return text.encode("gb18030")


ROAD = "<Name>路口</Name>"


@pytest.mark.parametrize(
    ("body", "habit", "detail"),
    [
        (xml(ROAD).decode("gb18030").encode(), Habit.WRONG_CHARSET, "encoding=gb2312，实际为 utf-8"),
        (xml(ROAD, charset="UTF-8"), Habit.WRONG_CHARSET, "encoding=utf-8，实际为 gb18030"),
        (xml("<Name>a\x01</Name>"), Habit.CONTROL_CHARACTERS, "0x01"),
        (xml("<Name>A & B</Name>"), Habit.BARE_AMPERSAND, "& B"),
        (xml("", sn=""), Habit.NO_SN, "Catalog"),
        (xml("", sn="<SN>0</SN>"), Habit.NO_SN, "Catalog"),
        (xml("<Item><CivilCode>340200000</CivilCode></Item>"), Habit.ODD_CIVIL_CODE, "<CivilCode>340200000"),
        (xml("<Item><Parental>65535</Parental></Item>"), Habit.ODD_PARENTAL, "<Parental>65535"),
        (xml("<Item><Status>ONLINE</Status></Item>"), Habit.ODD_STATUS, "<Status>ONLINE"),
        (xml("<Item><PTZType>1</PTZType></Item>"), Habit.BARE_PTZ_TYPE, "<PTZType>1"),
        (xml("<Item><DeviceID>CAM-01</DeviceID></Item>"), Habit.OPAQUE_ID, "<Item><DeviceID>CAM-01"),
        (xml("<EndTime>2024-5-9T8:1:2</EndTime>"), Habit.ODD_TIME, "<EndTime>2024-5-9T8:1:2"),
        (xml("", "catalog"), Habit.MANGLED_CASE, "<CmdType>catalog"),
    ],
)  # fmt: skip
def test_a_habit_shows_with_what_shows_it(body: bytes, habit: Habit, detail: str) -> None:
    assert list(habits_of(message(body), PEER)) == [(habit, detail)]


@pytest.mark.parametrize(
    ("headers", "habit"),
    [
        ({"sender": f"<sip:{PEER}@x>"}, Habit.NO_FROM_TAG),
        ({"sender": "<sip:31010100001320000001@x>;tag=1"}, Habit.CHANNEL_IN_FROM),
        ({"branch": "77"}, Habit.ODD_BRANCH),
    ],
)
def test_headers_show_habits_too(headers: dict[str, str], habit: Habit) -> None:
    assert [found for found, _ in habits_of(message(b"", **headers), PEER)] == [habit]


@pytest.mark.parametrize("name", ["catalog_response.xml", "device_info_response.xml", "keepalive.xml"])
def test_what_conforms_shows_none(name: str) -> None:
    body = (DATA / name).read_bytes()
    assert list(habits_of(message(body), PEER)) == []


def test_an_edition_is_inferred_from_what_only_the_last_one_has() -> None:
    assert speaks_2022(xml("", charset="GB18030"))
    assert speaks_2022(xml("", "SDCardStatus"))
    assert not speaks_2022(xml(""))
    assert not speaks_2022(b"")


def test_a_charset_shows_by_wide_characters_only() -> None:
    assert [charset_of(text) for text in (b"abc", "路".encode(), "道路".encode("gb18030"))] == [
        "",
        "utf-8",
        "gb18030",
    ]


@given(st.binary(max_size=4_000))
def test_any_body_is_looked_at_without_harm(body: bytes) -> None:
    assert len(list(habits_of(message(body), PEER))) <= len(Habit)
    speaks_2022(body)
