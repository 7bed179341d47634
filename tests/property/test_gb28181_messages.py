"""Whatever is rendered is read back; whatever is received is a message or a violation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.codec import KnownMessage, decode
from tongshi.protocols.gb28181.control import DeviceControl, GuardCommand, RecordCommand
from tongshi.protocols.gb28181.dates import parse_time, render_date
from tongshi.protocols.gb28181.front_end import Instruction, parse_instruction
from tongshi.protocols.gb28181.media_format import parse_format
from tongshi.protocols.gb28181.message import MAX_SN
from tongshi.protocols.gb28181.notify import (
    CatalogChange,
    CatalogEvent,
    CatalogNotify,
    Keepalive,
    MediaStatus,
)
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import (
    CatalogResponse,
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus, ItemField

DATA = Path(__file__).parents[1] / "data" / "gb28181"
BODIES = [path.read_bytes() for path in sorted(DATA.glob("*.xml"))]
SESSIONS = [path.read_bytes() for path in sorted(DATA.glob("*.sdp"))]

# What XML can hold, with a bias to markup and to Chinese in and beyond GBK; GB 18030 maps the rest as well.
CHARACTERS = st.one_of(
    st.sampled_from("<>&\"'\n\t/;#]东门球机喆㐂𠮷"),
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"),
)
TEXT = st.text(CHARACTERS, max_size=40).map(str.strip)
IDS = st.one_of(st.from_regex(r"[0-9]{20}", fullmatch=True), st.sampled_from(["34", "3402", "CAM-东-01"]))
SNS = st.integers(1, MAX_SN)
PARTS = st.lists(TEXT.filter(lambda text: text and "/" not in text), max_size=4).map(tuple)
FLOATS = st.one_of(st.floats(-1e6, -1e-4), st.just(0.0), st.floats(1e-4, 1e6))
BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "list": PARTS,
    "int": st.none() | st.integers(-(2**31), 2**31 - 1),
    "float": st.none() | FLOATS,
    "enum": st.none() | st.sampled_from(DeviceStatus),
}
NARROWER: dict[str, st.SearchStrategy[Any]] = {
    "device_id": IDS,
    "parental": st.sampled_from([None, 0, 1]),
    "register_way": st.integers(1, 4),
    "secrecy": st.integers(0, 1),
    "longitude": st.none() | st.floats(0.1, 180),
    "latitude": st.none() | st.floats(-90, -0.1),
    "install_time": st.none() | TEXT.filter(bool),
}


def _of_field(field: ItemField) -> st.SearchStrategy[Any]:
    return NARROWER.get(field.attribute, BY_KIND[field.kind])


def _item(values: dict[str, Any]) -> CatalogItem:
    return CatalogItem(**values)


ITEMS = st.fixed_dictionaries(
    {"device_id": IDS},
    optional={field.attribute: _of_field(field) for field in ITEM_FIELDS if field.attribute != "device_id"},
).map(_item)
SWITCH = st.sampled_from(["ON", "OFF", None])
CHANGES = st.one_of(
    st.builds(CatalogChange, st.sampled_from([CatalogEvent.ADDED, CatalogEvent.UPDATED]), ITEMS),
    st.builds(
        CatalogChange,
        st.sampled_from([CatalogEvent.ON, CatalogEvent.DELETED, CatalogEvent.VIDEO_LOST]),
        IDS.map(lambda device_id: CatalogItem(device_id=device_id)),
    ),
)
MESSAGES: st.SearchStrategy[KnownMessage] = st.one_of(
    st.builds(CatalogQuery, SNS, IDS, TEXT, TEXT),
    st.builds(DeviceInfoQuery, SNS, IDS),
    st.builds(DeviceStatusQuery, SNS, IDS),
    st.builds(CatalogResponse, SNS, IDS, st.integers(0, 2**31 - 1), st.lists(ITEMS, max_size=4).map(tuple)),
    st.builds(
        DeviceInfoResponse, SNS, IDS, TEXT, st.booleans(), TEXT, TEXT, TEXT, st.none() | st.integers(0, 9999)
    ),
    st.builds(
        DeviceStatusResponse,
        SNS,
        IDS,
        st.sampled_from([True, False, None]),
        st.sampled_from([True, False, None]),
        st.booleans(),
        TEXT,
        SWITCH,
        SWITCH,
        TEXT,
        st.lists(st.tuples(IDS, st.sampled_from(["ONDUTY", "OFFDUTY", "ALARM"])), max_size=3).map(tuple),
    ),
    st.builds(DeviceControlResponse, SNS, IDS, st.booleans()),
    st.builds(Keepalive, SNS, IDS, st.booleans(), st.lists(IDS, max_size=5).map(tuple)),
    st.builds(MediaStatus, SNS, IDS, st.sampled_from(["121", "122"])),
    st.builds(CatalogNotify, SNS, IDS, st.lists(CHANGES, max_size=4).map(tuple)),
    st.builds(
        DeviceControl,
        SNS,
        IDS,
        st.none() | st.from_regex(r"[0-9A-F]{16}", fullmatch=True),
        TEXT,
        st.booleans(),
        st.none() | st.sampled_from(RecordCommand),
        st.none() | st.integers(0, 9),
        st.none() | st.sampled_from(GuardCommand),
        st.booleans(),
    ),
)
PIECES = [b"<", b">", b"</Item>", b"&", b"\x00", b"\r\n", b"<!--", b"]]>"]


@given(MESSAGES, st.sampled_from(["gb18030", "gb2312", "utf-8"]))
@settings(max_examples=250, deadline=None)
def test_a_message_survives_the_wire(message: KnownMessage, charset: str) -> None:
    assert decode(message.render(charset), charset=charset) == message


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_message_or_a_violation(data: bytes) -> None:
    _must_end_well(data)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_body_is_a_message_or_a_violation(data: st.DataObject) -> None:
    _must_end_well(_mutated(data, BODIES))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_mutated_description_is_a_session_or_a_violation(data: st.DataObject) -> None:
    try:
        sdp = parse_sdp(_mutated(data, SESSIONS))
    except RemoteViolation:
        return
    assert 0 <= sdp.port <= 65535
    assert all(0 <= number < 128 for number in sdp.payload_types)
    sdp.render()


@given(st.text(max_size=80) | st.from_regex(r"[0-9A-Fa-f ]{16,20}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_a_violation(text: str) -> None:
    for parse in (parse_subject, parse_instruction, parse_time, parse_format):
        try:
            value = parse(text)
        except RemoteViolation:
            continue
        if isinstance(value, Instruction):
            assert value.action is not None


@given(st.datetimes().filter(lambda at: 1900 < at.year < 9000))
@settings(max_examples=100, deadline=None)
def test_a_date_header_is_read_back_to_the_millisecond(local: Any) -> None:
    at = parse_time(local.isoformat())
    assert math.isclose(parse_time(render_date(at)).timestamp(), at.timestamp(), abs_tol=0.0011)


@given(st.builds(Instruction, st.sampled_from([0, 1, 0x29, 0x49, 0x81, 0x8D]), *[st.integers(0, 255)] * 2))
@settings(max_examples=50, deadline=None)
def test_an_instruction_survives_the_wire(instruction: Instruction) -> None:
    assert parse_instruction(instruction.encode()) == instruction


@pytest.mark.parametrize(
    "body",
    [
        b"<Response><CmdType>Catalog</CmdType>" + b"<Item>" * 300_000,
        b"<Response><CmdType>Catalog</CmdType>" + b"<Item><a></b></Item>" * 100_000,
        b"<Response><CmdType>Catalog</CmdType>" + b"<Name>" * 300_000,
        b"<Notify>" + b"&" * 1_000_000 + b"</Notify>",
        b"<Notify>" + b"&#" * 500_000 + b"</Notify>",
        b"<?xml" + b" " * 1_000_000,
        b"<!" * 200_000,
    ],
    ids=["items", "broken items", "names", "ampersands", "references", "declaration", "marks"],
)
@pytest.mark.timeout(20)
def test_a_body_made_to_be_slow_is_refused_in_time(body: bytes) -> None:
    with pytest.raises(RemoteViolation):
        decode(body)


def _must_end_well(body: bytes) -> None:
    try:
        message = decode(body)
    except RemoteViolation:
        return
    assert 0 <= message.sn <= MAX_SN
    assert len(message.device_id) <= 64


def _mutated(data: st.DataObject, samples: list[bytes]) -> bytes:
    body = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 30)))
        body[start:end] = data.draw(st.binary(max_size=8) | st.sampled_from(PIECES))
    return bytes(body)
