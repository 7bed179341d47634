"""The quirk table's rows on catalogues (5 to 14, 75 to 78), each by its number, and bodies meant to hurt."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.catalogue import CatalogueCollector, Gap
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.codes import normalise_civil_code
from tongshi.protocols.gb28181.dates import parse_time
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.testing.many_channels import ManyChannels

PLATFORM = "31010100002000000001"
CHANNELS = ManyChannels(PLATFORM, 50)
HEAD = f"<Response><CmdType>Catalog</CmdType><SN>5</SN><DeviceID>{PLATFORM}</DeviceID>"


def answer(*numbers: int, total: int, sn: int = 5) -> CatalogResponse:
    return CatalogResponse(
        sn, PLATFORM, total, tuple(CatalogItem(device_id=CHANNELS.code(n)) for n in numbers)
    )


def item(fields: str, code: str = "31010100001320000001") -> CatalogItem:
    body = (
        f'<?xml version="1.0"?>{HEAD}<SumNum>1</SumNum><DeviceList Num="1"><Item><DeviceID>{code}</DeviceID>'
        f"{fields}</Item></DeviceList></Response>"
    )
    message = decode(body.encode("gb18030"))
    assert isinstance(message, CatalogResponse)
    return message.items[0]


def test_5_one_item_a_message_is_waited_for_as_long_as_it_trickles() -> None:
    collector = CatalogueCollector(5, PLATFORM, 0.0, idle_timeout_s=15, total_timeout_s=10_000)
    for number in range(300):
        assert collector.add(answer(number, total=300), number * 14.0)
        collector.handle_timer(number * 14.0 + 13.9)
    assert (collector.state, collector.distinct) == ("complete", 300)


def test_6_more_announced_than_ever_sent_ends_in_silence_with_what_came() -> None:
    collector = CatalogueCollector(5, PLATFORM, 0.0)
    collector.add(answer(1, 2, total=99), 1.0)
    collector.handle_timer(16.0)
    assert (collector.state, collector.gap) == ("incomplete", Gap.MISSING)
    assert len(collector.take()) == 2


@pytest.mark.parametrize("sn", [5, 0, 70_005 & 0xFFFF, 999])
def test_7_an_altered_sn_belongs_while_one_question_waits(sn: int) -> None:
    collector = CatalogueCollector(70_005, PLATFORM, 0.0)
    assert collector.add(answer(1, 2, total=2, sn=sn), 1.0)
    assert collector.state == "complete"


def test_7_a_sum_that_differs_between_parts_counts_as_its_largest() -> None:
    collector = CatalogueCollector(5, PLATFORM, 0.0)
    for number, total in enumerate((3, 2, 4, 1)):
        collector.add(answer(number, total=total), 1.0)
    assert (collector.state, collector.sum_num) == ("complete", 4)


def test_8_the_platform_itself_and_the_asker_are_no_items_that_were_announced() -> None:
    asker = "31000000002000000001"
    collector = CatalogueCollector(5, PLATFORM, 0.0, extras=frozenset({asker}))
    told = answer(1, 2, total=2)
    extra = (CatalogItem(device_id=PLATFORM), CatalogItem(device_id=asker))
    collector.add(replace(told, items=(*extra, *told.items)), 1.0)
    collector.finish(2.0)
    assert collector.state == "complete"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("3101010000", "310101"),
        ("310101", "310101"),
        ("黄浦", ""),
        ("", ""),
        ("31010100", "31010100"),
        ("31 01", "31"),
    ],
)
def test_9_a_civil_code_is_cut_to_the_longest_division(told: str, kept: str) -> None:
    assert normalise_civil_code(item(f"<CivilCode>{told}</CivilCode>").civil_code) == kept


@pytest.mark.parametrize(("told", "read"), [("1", 1), ("0", 0), ("65535", 0), ("-1", 0), ("有", 0)])
def test_10_parental_is_one_or_nothing(told: str, read: int) -> None:
    assert item(f"<Parental>{told}</Parental>").parental == read


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("ON", DeviceStatus.ON), ("ONLINE", DeviceStatus.ON), ("OK", DeviceStatus.ON),
        ("OFF", DeviceStatus.OFF), ("OFFLINE", DeviceStatus.OFF), ("", None), ("?", None),
    ],
)  # fmt: skip
def test_11_status_has_many_words(told: str, read: DeviceStatus | None) -> None:
    assert item(f"<Status>{told}</Status>").status is read


@pytest.mark.parametrize("fields", ["<PTZType>3</PTZType>", "<Info><PTZType>3</PTZType></Info>"])
def test_12_the_kind_of_head_is_read_in_both_places(fields: str) -> None:
    assert item(fields).ptz_type == 3


@pytest.mark.parametrize(
    "text", ["2024-5-9T8:1:2", "2024-05-09 08:01:02", "2024-05-09+08:01:02", "2024-05-09T08:01:02.000+08:00"]
)
def test_13_times_are_read_as_devices_write_them(text: str) -> None:
    assert parse_time(text).isoformat() == "2024-05-09T08:01:02+08:00"


@pytest.mark.parametrize(
    ("longitude", "latitude", "read"),
    [
        ("", "", (None, None)),
        ("0", "0.0", (None, None)),
        ("31.2", "121.4", (121.4, 31.2)),
        ("121.4", "31.2", (121.4, 31.2)),
        ("x", "1e999", (None, None)),
    ],
)
def test_14_a_position_is_read_unset_or_put_right(
    longitude: str, latitude: str, read: tuple[float | None, float | None]
) -> None:
    told = item(f"<Longitude>{longitude}</Longitude><Latitude>{latitude}</Latitude>")
    assert (told.longitude, told.latitude) == read


def test_75_what_one_answer_lost_the_next_one_brings() -> None:
    first = CatalogueCollector(5, PLATFORM, 0.0)
    first.add(answer(1, 2, total=4), 1.0)
    first.finish(2.0)
    again = CatalogueCollector(6, PLATFORM, 3.0, before=first.codes, before_sum=first.sum_num)
    again.add(answer(3, 4, total=4, sn=6), 4.0)
    assert again.state == "complete"


@pytest.mark.parametrize("code", ["CAM-东-01", "1", "A" * 64])
def test_77_a_code_of_another_form_is_kept_as_it_is(code: str) -> None:
    assert item("<Name>x</Name>", code).device_id == code


def test_77_and_one_too_long_is_named() -> None:
    listed = f"<DeviceList><Item><DeviceID>{'A' * 65}</DeviceID></Item></DeviceList>"
    body = f"{HEAD}<SumNum>1</SumNum>{listed}</Response>"
    message = decode(body.encode())
    assert isinstance(message, CatalogResponse)
    assert (message.items, len(message.bad_items)) == ((), 1)


# Bodies meant to hurt.

BODY = CatalogResponse(
    5, PLATFORM, 51, tuple(one for _, one in zip(range(8), CHANNELS.items(), strict=False))
).render()


@settings(max_examples=150, deadline=2_000)
@given(st.data())
def test_a_mutated_catalogue_is_items_or_a_violation_and_soon(data: Any) -> None:
    body = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(body) - 1))
        what = data.draw(st.sampled_from(("flip", "cut", "double", "markup")))
        if what == "flip":
            body[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del body[at : at + data.draw(st.integers(1, 200))]
        elif what == "double":
            body[at:at] = body[at : at + 300]
        else:
            body[at:at] = data.draw(
                st.sampled_from((b"<", b"&", b"]]>", b"<Item>", b"</Item>", b"<!--", b"\x00"))
            )
        if not body:
            return
    try:
        message = decode(bytes(body))
    except RemoteViolation:
        return
    if isinstance(message, CatalogResponse):
        assert all(0 < len(one.device_id) <= 64 for one in message.items)
        CatalogueCollector(5, PLATFORM, 0.0).add(message, 1.0)


@pytest.mark.parametrize("declared", ["UTF-8", "GB2312", "GBK", "GB18030", "ISO-8859-1", "EUC-JP", "x", ""])
@pytest.mark.parametrize("codec", ["gb18030", "utf-8"])
def test_a_wrong_charset_is_seen_through(declared: str, codec: str) -> None:
    label = f' encoding="{declared}"' if declared else ""
    text = BODY.decode("gb18030").partition("?>")[2]
    message = decode(f'<?xml version="1.0"{label}?>{text}'.encode(codec))
    assert isinstance(message, CatalogResponse)
    assert [one.name for one in message.items] == [
        one.name for _, one in zip(range(8), CHANNELS.items(), strict=False)
    ]


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        '<!ENTITY x SYSTEM "http://127.0.0.1/">',
        "<! DOCTYPE x>",
        "<!doctype x>",
    ],
)
@pytest.mark.parametrize("codec", ["gb18030", "utf-16"])
def test_an_entity_bomb_is_refused_before_it_is_parsed(prolog: str, codec: str) -> None:
    listed = "<DeviceList><Item><DeviceID>&b;</DeviceID></Item></DeviceList>"
    body = f"{prolog}{HEAD}<SumNum>1</SumNum>{listed}</Response>"
    with pytest.raises(RemoteViolation):
        decode(body.encode(codec))


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 400_000,
        HEAD.encode() + b"<Item>" * 300_000,
        HEAD.encode() + b"<DeviceList>" + b"<Item><Name>&" * 60_000,
        HEAD.encode() + b"<DeviceList>" + b"<Item " + b"a='1' " * 100_000,
        b"<" * 600_000,
        b"\x00" * 1_000_000,
        b"\xff" * 1_000_000,
    ],
    ids=["deep", "open-items", "bare-ampersands", "attributes", "brackets", "zeros", "bytes"],
)
def test_a_body_meant_to_cost_much_is_refused_within_a_second_or_two(body: bytes) -> None:
    began = time.process_time()
    with pytest.raises(RemoteViolation):
        decode(body)
    assert time.process_time() - began < 4.0
    assert len(body) < xml.MAX_TCP_BYTES
