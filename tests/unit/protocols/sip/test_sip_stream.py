"""Framing of a TCP stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tongshi.protocols.sip.message import parse
from tongshi.protocols.sip.stream import StreamParser

DATA = Path(__file__).parents[3] / "data" / "sip" / "good"
KEEPALIVE = (DATA / "keepalive.sip").read_bytes()
REGISTER = (DATA / "register.sip").read_bytes()
LF_ONLY = (DATA / "lf_only.sip").read_bytes()
# The line end behind the root counts as a keep-alive: nobody knows whether it is still to come.
NO_LENGTH = (DATA / "no_content_length.sip").read_bytes().removesuffix(b"\r\n")


def test_glued_messages_are_cut_apart_and_keep_alives_vanish() -> None:
    parser = StreamParser()
    frames = parser.feed(b"\r\n\r\n" + KEEPALIVE + REGISTER + b"\r\n\r\n" + LF_ONLY)
    assert frames == [KEEPALIVE, REGISTER, LF_ONLY]
    assert parser.buffered_bytes == 0


def test_one_byte_segments_give_the_same_messages() -> None:
    parser = StreamParser()
    stream = KEEPALIVE + b"\r\n" + REGISTER + LF_ONLY + NO_LENGTH + REGISTER
    frames = [frame for byte in stream for frame in parser.feed(bytes([byte]))]
    assert [parse(frame) for frame in frames] == [
        parse(frame) for frame in (KEEPALIVE, REGISTER, LF_ONLY, NO_LENGTH, REGISTER)
    ]
    assert parser.violation is None


def test_xml_without_length_ends_with_its_root() -> None:
    assert StreamParser().feed(NO_LENGTH + REGISTER) == [NO_LENGTH, REGISTER]


def test_another_body_without_length_ends_at_the_next_start_line_or_at_a_pause() -> None:
    sdp = NO_LENGTH.replace(b"MANSCDP+xml", b"SDP").partition(b"\r\n\r\n")[0] + b"\r\n\r\nv=0\r\ns=Play\r\n"
    parser = StreamParser()
    assert parser.feed(sdp + REGISTER) == [sdp, REGISTER]
    assert parser.feed(sdp) == []
    assert parser.awaits_pause
    assert parser.pause() == [sdp]
    assert parser.pause() == []
    assert parser.feed(REGISTER) == [REGISTER]


def test_without_length_and_type_there_is_no_body() -> None:
    bare = REGISTER.replace(b"Content-Length: 0\r\n", b"")
    assert StreamParser().feed(bare + bare) == [bare, bare]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"register sip:a@b SIP/2.0\r\n",
        b"REGISTER sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"REGISTER sip:a@b SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n",
        b"REGISTER sip:a@b SIP/2.0\r\nContent-Length: 99999999\r\n\r\n",
        b"REGISTER sip:a@b SIP/2.0\r\nX: " + b"a" * 70_000,
        b"REGISTER sip:a@b SIP/2.0\r\nContent-Type: x\r\n\r\n" + b"a" * 300_000,
    ],
)
def test_a_stream_that_cannot_be_framed_is_given_up(head: bytes) -> None:
    parser = StreamParser()
    assert parser.feed(REGISTER + head) == [REGISTER]
    assert parser.violation is not None
    assert parser.feed(REGISTER) == []
    assert parser.buffered_bytes == 0
