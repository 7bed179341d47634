"""Refreshes of a call: held, changed, repeated, and those that a session timer waits for."""

from __future__ import annotations

import random

import pytest

from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.call_events import CallAnswered, CallEnded, InviteArrived
from tongshi.protocols.sip.composing import Draft, Identity
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
        self.last = Request("NONE", "sip:nobody")

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
        return self._sent()

    def refresh_after(self, seconds: float) -> Request:
        """Let time pass; the re-INVITE that we sent then."""
        assert self.wait(seconds) == ["INVITE"]
        return self.last

    def answer(self, request: Request, status: int, *headers: str, body: bytes = b"") -> list[str]:
        """Answer a request of ours; the methods of what we send upon it."""
        to = request.headers.get("To")
        lines = (
            f"SIP/2.0 {status} Said",
            *(f"{name}: {request.headers.get(name)}" for name in ("Via", "From", "Call-ID", "CSeq")),
            f"To: {to}" if "tag=" in to else f"To: {to};tag=c",
            f"Contact: <sip:{CALLER}@192.0.2.2:5060>",
            *headers,
            f"Content-Length: {len(body)}",
        )
        self.us.receive("\r\n".join(lines).encode() + b"\r\n\r\n" + body, AT, self.now)
        return self._sent()

    def _sent(self) -> list[str]:
        sent = [parse(output.data) for output in self.us.take_output()]
        requests = [one for one in sent if isinstance(one, Request)]
        self.last = requests[-1] if requests else self.last
        return [one.method for one in requests]

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
        ("Session-Expires: 60",),  # too often, and who does not know timers is not told so
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


def test_a_timer_that_is_too_short_is_refused() -> None:
    short = Called().invite("Supported: timer", "x: 60")
    assert (short.status, short.headers.get("Min-SE")) == (422, "90")
    refused = Called().invite("Require: timer, 100rel", "Session-Expires: 120")
    assert (refused.status, refused.headers.get("Unsupported")) == (420, "100rel")
    assert Called().invite("Require: timer", "Session-Expires: 120;refresher=uas").status == 200


OURS = [
    ("120 ; refresher=uas", "Supported: timer"),
    ("120", "Subject: a proxy asked, and this caller does not know timers"),
]


@pytest.mark.parametrize(("expires", "other"), OURS)
def test_we_refresh_where_the_caller_asks_us_to_or_knows_no_timers(expires: str, other: str) -> None:
    call = Called()
    answer = call.invite(f"Session-Expires: {expires}", other)
    assert answer.headers.get("Session-Expires") == "120;refresher=uas"
    for _ in range(3):
        again = call.refresh_after(60.0)
        assert (again.body, again.headers.get("Session-Expires")) == (ANSWER, "120;refresher=uac")
        assert call.answer(again, 200, "Session-Expires: 120;refresher=uac") == ["ACK"]
    assert call.us.next_event() is None


@pytest.mark.parametrize("status", [408, 481])
def test_a_caller_that_does_not_know_the_call_any_more_ends_it_with_a_reason(status: int) -> None:
    call = Called()
    call.invite("Supported: timer", "Session-Expires: 120;refresher=uas")
    assert call.answer(call.refresh_after(60.0), status) == ["ACK", "BYE"]
    assert call.last.headers.get("Reason") == 'SIP;cause=408;text="session not refreshed"'
    assert call.us.next_event() == CallEnded(1, "session not refreshed")


def test_a_silent_caller_is_hung_up_on_before_its_time_is_over() -> None:
    call = Called()
    call.invite("Supported: timer", "Session-Expires: 120;refresher=uas")
    call.refresh_after(60.0)
    sent: list[str] = []
    while "BYE" not in sent and call.now < 120:
        sent += call.wait(1.0)
    assert sent[-1] == "BYE"
    assert call.now <= 93  # Timer B of the refresh, or what the session leaves, whichever is first
    assert call.us.next_event() == CallEnded(1, "session not refreshed")


def test_a_refused_refresh_is_tried_again_until_the_time_is_over() -> None:
    call = Called()
    call.invite("Supported: timer", "Session-Expires: 120;refresher=uas")
    assert call.answer(call.refresh_after(60.0), 491) == ["ACK"]
    again = call.refresh_after(4.0)
    assert call.answer(again, 422, "Min-SE: 600") == ["ACK", "INVITE"]
    assert call.last.headers.get("Session-Expires") == "600;refresher=uac"
    assert call.answer(call.last, 200, "Session-Expires: 600;refresher=uas") == ["ACK"]
    assert call.wait(560.0) == []  # the caller refreshes from now on
    assert call.wait(10.0) == ["BYE"]


def test_as_the_caller_we_keep_what_the_answer_says() -> None:
    us = UserAgent(Identity(US, "192.0.2.1", 5060), random_bytes=random.Random(1).randbytes)
    us.invite(Draft("INVITE", CALLER, body=OFFER, content_type="Application/SDP"), AT, 0.0)
    call = Called()
    call.us = us
    invite = parse(us.take_output()[-1].data)
    assert isinstance(invite, Request)
    assert "Session-Expires" not in invite.headers
    assert call.answer(invite, 200, "Session-Expires: 100;refresher=uac", body=ANSWER) == ["ACK"]
    assert isinstance(us.next_event(), CallAnswered)
    again = call.refresh_after(50.0)
    assert (again.body, again.headers.get("Session-Expires")) == (OFFER, "100;refresher=uac")
    us.request_inside(1, "INFO", b"", "", 32.0, call.now)
    assert call.answer(again, 200) == ["INFO", "ACK"]
    assert call.last.cseq.number == again.cseq.number


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
