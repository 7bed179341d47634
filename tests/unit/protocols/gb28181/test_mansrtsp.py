"""Control of recordings: the standard's bodies to the letter, both tokens, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest, RemoteViolation
from tongshi.protocols.gb28181.mansrtsp import (
    Command,
    Method,
    Reply,
    Span,
    parse_command,
    parse_reply,
    render_scale,
)

BODIES = {
    b"PLAY RTSP/1.0\r\nCSeq: 4\r\nRange: npt=100-\r\n\r\n": Command(
        method=Method.PLAY, cseq=4, span=Span(100.0)
    ),
    b"PAUSE RTSP/1.0\r\nCSeq: 1\r\nPauseTime: now\r\n\r\n": Command(method=Method.PAUSE, cseq=1),
    b"PLAY RTSP/1.0\r\nCSeq: 2\r\nRange: npt=now-\r\n\r\n": Command(
        method=Method.PLAY, cseq=2, span=Span(None)
    ),
    b"PLAY RTSP/1.0\r\nCSeq: 3\r\nScale: 2.0\r\n\r\n": Command(method=Method.PLAY, cseq=3, scale=2.0),
    b"PLAY RTSP/1.0\r\nCSeq: 5\r\nScale: -1\r\nRange: npt=600-120\r\n\r\n": Command(
        method=Method.PLAY, cseq=5, scale=-1.0, span=Span(600.0, 120.0)
    ),
    b"TEARDOWN RTSP/1.0\r\nCSeq: 6\r\n\r\n": Command(method=Method.TEARDOWN, cseq=6),
}


@pytest.mark.parametrize("body", BODIES)
def test_the_bodies_of_the_standard_are_read_and_written_to_the_letter(body: bytes) -> None:
    assert parse_command(body) == BODIES[body]
    assert BODIES[body].render() == body


def test_the_reply_names_the_first_packet_of_the_new_position() -> None:
    body = b"RTSP/1.0 200 OK\r\nCSeq: 4\r\nRange: npt=100-\r\nRTP-Info: seq=18139;rtptime=3119600838\r\n\r\n"
    reply = Reply(cseq=4, span=Span(100.0), seq=18139, rtptime=3119600838)
    assert parse_reply(body) == reply
    assert reply.render() == body
    assert not parse_reply(b"RTSP/1.0 457 Invalid Range\nCSeq: 9\n").is_success


def test_the_token_of_2011_is_read_and_can_be_spoken() -> None:
    body = b"PLAY MANSRTSP/1.0\nCSeq:7\nScale:0.250000\nRange:npt=0:01:40-\n"
    command = parse_command(body)
    assert command == Command(
        method=Method.PLAY, cseq=7, scale=0.25, span=Span(100.0), version="MANSRTSP/1.0"
    )
    assert command.render().startswith(b"PLAY MANSRTSP/1.0\r\n")
    assert parse_reply(b"MANSRTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n").version == "MANSRTSP/1.0"


def test_relative_smpte_times_are_read() -> None:
    command = parse_command(b"PLAY RTSP/1.0\r\nCSeq: 1\r\nRange: smpte=0:10:20:05-\r\n\r\n")
    assert command.span == Span(620.0)


@pytest.mark.parametrize(
    ("scale", "text"),
    [(2.0, "2.0"), (0.5, "0.5"), (0.25, "0.25"), (-1.0, "-1"), (16.0, "16.0"), (1 / 8, "0.125")],
)
def test_a_scale_is_written_short(scale: float, text: str) -> None:
    assert render_scale(scale) == text


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf"), 65.0, 0.001])
def test_a_scale_that_is_none_is_not_written(scale: float) -> None:
    with pytest.raises(InvalidRequest):
        render_scale(scale)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"PLAY\r\nCSeq: 1\r\n",
        b"PLAY HTTP/1.1\r\nCSeq: 1\r\n",
        b"RECORD RTSP/1.0\r\nCSeq: 1\r\n",
        b"PLAY RTSP/1.0\r\n\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: -1\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\nScale: fast\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\nScale: 0\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\nScale: 1e3\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\nRange: npt=-5--1\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\nRange: npt=999999999-\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\nRange: clock=20240519T000000Z-\r\n",
        b"PLAY RTSP/1.0\r\nCSeq: 1\r\n" + b"A" * 5000,
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteViolation):
        parse_command(body)


SECONDS = st.integers(0, 86_400_000).map(lambda ms: ms / 1000)
SPANS = st.builds(Span, st.none() | SECONDS, st.none() | SECONDS)
SCALES = st.sampled_from([-4.0, -1.0, -0.5, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])


@given(st.sampled_from(Method), st.integers(0, 2**31 - 1), st.none() | SPANS, st.none() | SCALES)
@settings(max_examples=200, deadline=None)
def test_a_request_survives_the_wire(
    method: Method, cseq: int, span: Span | None, scale: float | None
) -> None:
    command = Command(method=method, cseq=cseq, span=span, scale=scale)
    assert parse_command(command.render()) == command


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: b"PLAY RTSP/1.0\n" + text.encode()))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_a_violation(data: bytes) -> None:
    for parse in (parse_command, parse_reply):
        try:
            parse(data)
        except RemoteViolation:
            continue
