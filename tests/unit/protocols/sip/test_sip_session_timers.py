"""Refreshes of a call: held, changed, repeated, and those that a session timer waits for."""

from __future__ import annotations

import random

import pytest

from tongshi.protocols.sip.agent import Identity, UserAgent
from tongshi.protocols.sip.calls import CallEnded, InviteArrived
from tongshi.protocols.sip.message import Remote, Request, Response, parse

US, CALLER = "31000000002000000001", "31010100002000000001"
AT = Remote("192.0.2.2", 5060, "udp")
OFFER = b"v=0\r\no=3101 1 1 IN IP4 192.0.2.2\r\ns=Play\r\nm=video 6000 RTP/AVP 96\r\na=recvonly\r\n"
ANSWER = b"v=0\r\no=3100 1 1 IN IP4 192.0.2.1\r\ns=Play\r\nm=video 7000 RTP/AVP 96\r\na=sendonly\r\n"


class Called:
    """We, and what a caller sends us."""

    def __init__(self) -> None:
        self.us = UserAgent(Identity(US, "192.0.2.1", 5060), random_bytes=random.Random(1).randbytes)
        self.now = 0.0
        self.cseq = 0
        self.tag = ""

    def invite(self, *headers: str, body: bytes = OFFER) -> Response:
        """INVITE or re-INVITE; our final answer, acknowledged."""
        self.cseq += 1
        self.us.receive(self._bytes("INVITE", body, *headers), AT, self.now)
        while (event := self.us.next_event()) is not None:
            if isinstance(event, InviteArrived):
                self.us.accept(event.call, ANSWER, (), self.now)
        answer = parse(self.us.take_output()[-1].data)
        assert isinstance(answer, Response)
        if answer.is_success:
            self.tag = self.tag or answer.to.tag
        self.us.receive(self._bytes("ACK", b""), AT, self.now)
        while self.us.next_event() is not None:
            pass
        return answer

    def wait(self, seconds: float) -> list[str]:
        """Let time pass; the methods of what we sent meanwhile."""
        self.now += seconds
        self.us.handle_timer(self.now)
        sent = [parse(output.data) for output in self.us.take_output()]
        return [one.method for one in sent if isinstance(one, Request)]

    def _bytes(self, method: str, body: bytes, *headers: str) -> bytes:
        tag = f";tag={self.tag}" if self.tag else ""
        lines = (
            f"{method} sip:{US}@192.0.2.1:5060 SIP/2.0",
            f"Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{method}{self.cseq}",
            f"From: <sip:{CALLER}@3101010000>;tag=c",
            f"To: <sip:{US}@3100000000>{tag}",
            "Call-ID: one",
            f"CSeq: {self.cseq} {method}",
            f"Contact: <sip:{CALLER}@192.0.2.2:5060>",
            *headers,
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


TIMED = ("Supported: timer", "Session-Expires: 120;refresher=uac")


def test_a_caller_that_refreshes_stays_and_one_that_stops_is_hung_up_on() -> None:
    call = Called()
    answer = call.invite(*TIMED)
    assert answer.headers.get("Session-Expires") == "120;refresher=uac"
    assert answer.headers.get("Require") == "timer"
    for _ in range(3):
        assert call.wait(60.0) == []
        again = call.invite(*TIMED)
        assert (again.status, again.body) == (200, ANSWER)
        assert again.headers.get("Session-Expires") == "120;refresher=uac"
    assert call.wait(87.0) == []
    assert call.wait(2.0) == ["BYE"]
    assert isinstance(call.us.next_event(), CallEnded)


def test_without_a_timer_a_call_lasts_and_a_refresh_without_one_ends_the_timer() -> None:
    call = Called()
    assert "Session-Expires" not in call.invite().headers
    assert call.wait(100_000.0) == []
    assert call.invite(*TIMED).headers.get("Session-Expires") == "120;refresher=uac"
    assert "Session-Expires" not in call.invite().headers
    assert call.wait(1_000.0) == []


@pytest.mark.parametrize(
    "headers",
    [
        ("Session-Expires: 120",),  # who does not support it cannot be asked to refresh
        ("Supported: timer", "Session-Expires: 120 ; refresher=uas"),
        ("Supported: timer", "Session-Expires: soon"),
        ("Supported: timer",),
    ],
)
def test_what_asks_for_no_timer_of_ours_gets_none(headers: tuple[str, ...]) -> None:
    call = Called()
    answer = call.invite(*headers)
    assert answer.status == 200
    assert "Require" not in answer.headers
    assert call.wait(1_000.0) == []


def test_a_timer_that_is_too_short_or_that_we_would_have_to_run_is_refused() -> None:
    short = Called().invite("Supported: timer", "x: 60")
    assert (short.status, short.headers.get("Min-SE")) == (422, "90")
    for required, asked, unsupported in (
        ("timer", "120;refresher=uas", "timer"),
        ("timer, 100rel", "120", "100rel"),
    ):
        refused = Called().invite(f"Require: {required}", f"Session-Expires: {asked}")
        assert (refused.status, refused.headers.get("Unsupported")) == (420, unsupported)
    assert Called().invite("Require: timer", "Session-Expires: 120").status == 200


@pytest.mark.parametrize(
    "change",
    [
        (b"a=recvonly", b"a=inactive"),
        (b"a=recvonly", b"a=sendonly"),
        (b"6000", b"6002"),
        (b"RTP/AVP 96", b"RTP/AVP 98"),
    ],
)
def test_a_hold_or_another_session_is_refused_and_the_call_goes_on(change: tuple[bytes, bytes]) -> None:
    call = Called()
    call.invite(*TIMED)
    assert call.invite(*TIMED, body=OFFER.replace(*change)).status == 488
    counted_up = OFFER.replace(b"o=3101 1 1", b"o=3101 1 2")
    assert call.invite(*TIMED, body=counted_up).status == 200
    assert call.wait(60.0) == []
