"""What a hostile peer may send for ever: every answer is the right code or silence, and nothing grows."""

from __future__ import annotations

import random

import pytest

from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.call_events import InviteArrived
from tongshi.protocols.sip.composing import Identity
from tongshi.protocols.sip.message import MAX_BODY_BYTES, MAX_HEAD_BYTES, Remote, Response, parse
from tongshi.protocols.sip.stream import StreamParser
from tongshi.protocols.sip.timers import TimerValues

LOWER = "31011500002000000001"
SOURCE = Remote("192.0.2.66", 5060, "udp")
FLOOD = 1_000


def agent(max_pending: int = 100) -> UserAgent:
    identity = Identity(LOWER, "192.0.2.1", 5060)
    return UserAgent(
        identity, random_bytes=random.Random(5).randbytes, values=TimerValues(), max_pending=max_pending
    )


def request(method: str, number: int, *, to_tag: str = ";tag=gone", call_id: str = "") -> bytes:
    return (
        f"{method} sip:{LOWER}@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK{number}\r\n"
        f"From: <sip:31000000002000000001@3100000000>;tag=evil\r\nTo: <sip:{LOWER}@3101150000>{to_tag}\r\n"
        f"Call-ID: {call_id or number}\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def statuses(ours: UserAgent) -> list[int]:
    answers = [parse(output.data) for output in ours.take_output()]
    return [answer.status for answer in answers if isinstance(answer, Response)]


@pytest.mark.parametrize("method", ["BYE", "INFO", "CANCEL", "NOTIFY", "SUBSCRIBE"])
def test_a_request_for_an_unknown_dialog_gets_481_every_time_and_leaves_nothing(method: str) -> None:
    ours = agent()
    for number in range(FLOOD):
        ours.receive(request(method, number), SOURCE, number / 1000)
        assert statuses(ours) == [481]
    assert ours.next_event() is None
    assert ours.pending == 0
    assert len(ours.subscriptions) == 0


def test_acks_for_nothing_are_silence() -> None:
    ours = agent()
    for number in range(FLOOD):
        ours.receive(request("ACK", number), SOURCE, 0.0)
    assert (statuses(ours), ours.pending, ours.next_event()) == ([], 0, None)


def test_calls_that_share_a_call_id_are_calls_of_their_own_and_bounded() -> None:
    """Quirk 30."""
    ours = agent(max_pending=10)
    for number in range(50):
        ours.receive(request("INVITE", number, to_tag="", call_id="same"), SOURCE, 0.0)
    calls = [event for event in iter(ours.next_event, None) if isinstance(event, InviteArrived)]
    assert len({event.call for event in calls}) == len(calls) == 10
    assert statuses(ours).count(503) == 40
    for event in calls:
        ours.reject(event.call, 486, "", (), 0.0)
    assert statuses(ours) == [486] * 10


def test_subscriptions_that_nobody_answers_are_bounded_and_forgotten() -> None:
    ours = agent(max_pending=1_000_000)
    ours.subscriptions.limit = 20
    for number in range(200):
        ours.receive(request("SUBSCRIBE", number, to_tag=""), SOURCE, 0.0)
    assert len(ours.subscriptions) == 20
    assert statuses(ours) == [503] * 180
    ours.handle_timer(33.0)
    assert len(ours.subscriptions) == 0


@pytest.mark.parametrize(
    ("first", "endless"),
    [
        (b"MESSAGE sip:a@b SIP/2.0\r\n", b"X-More: of the same\r\n"),
        (b"MESSAGE sip:a@b SIP/2.0\r\nX: ", b"y" * 1_000),
        (b"MESSAGE sip:a@b SIP/2.0\r\nContent-Type: text/plain\r\n\r\n", b"never ends " * 100),
        (b"", b"\r\n\r\n" * 500),
        (b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 999999999\r\n\r\n", b"z" * 1_000),
    ],
)
def test_a_stream_that_never_ends_is_given_up_or_costs_nothing(first: bytes, endless: bytes) -> None:
    parser = StreamParser()
    assert parser.feed(first) == []
    for _ in range(4_000):
        assert parser.feed(endless) == []
        assert parser.buffered_bytes <= max(MAX_HEAD_BYTES, 256 * 1024) + len(endless)
        if parser.violation is not None:
            return
    assert parser.buffered_bytes == 0
    assert len(endless) < MAX_BODY_BYTES


def test_headers_without_measure_are_refused() -> None:
    ours = agent()
    ours.receive(
        request("MESSAGE", 1).replace(b"Content", b"X: " + b"y" * 70_000 + b"\r\nContent"), SOURCE, 0.0
    )
    ours.receive(request("MESSAGE", 2).replace(b"Content", b"X: y\r\n" * 500 + b"Content"), SOURCE, 0.0)
    assert statuses(ours) == [400, 400]
    assert ours.pending == 0
