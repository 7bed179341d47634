"""Who offers the session and when: INVITE without SDP, the answer in the ACK, and re-INVITE."""

from __future__ import annotations

import random

import pytest

from tongshi.errors import Unavailable
from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.agent_events import AgentEvent
from tongshi.protocols.sip.call_events import CallAnswered, CallConfirmed, CallEnded, InviteArrived
from tongshi.protocols.sip.composing import Draft, Identity
from tongshi.protocols.sip.message import Remote, Request, Response, parse

CITY, CAMERA = "31000000002000000001", "31011500001320000001"
CITY_AT, CAMERA_AT = Remote("192.0.2.1", 5060, "udp"), Remote("192.0.2.2", 5060, "udp")
OFFER = b"v=0\r\no=3100 1 1 IN IP4 192.0.2.1\r\ns=Play\r\nm=video 6000 RTP/AVP 96\r\n"
ANSWER = b"v=0\r\no=3101 1 1 IN IP4 192.0.2.2\r\ns=Play\r\nm=video 7000 RTP/AVP 96\r\n"


class Pair:
    """A city that calls and a camera that is called, over a link without loss."""

    def __init__(self) -> None:
        rng = random.Random(3)
        self.now = 0.0
        self.city = UserAgent(Identity(CITY, "192.0.2.1", 5060), random_bytes=rng.randbytes)
        self.camera = UserAgent(Identity(CAMERA, "192.0.2.2", 5060), random_bytes=rng.randbytes)
        self.events: list[AgentEvent] = []
        self.sent: list[Request | Response] = []
        self.answer = ANSWER

    def pump(self) -> None:
        busy = True
        while busy:
            busy = False
            for agent, source, other in (
                (self.city, CITY_AT, self.camera),
                (self.camera, CAMERA_AT, self.city),
            ):
                while (event := agent.next_event()) is not None:
                    self.events.append(event)
                    if isinstance(event, InviteArrived):
                        self.camera.accept(event.call, self.answer, (), self.now)
                for output in agent.take_output():
                    self.sent.append(parse(output.data))
                    busy = True
                    other.receive(output.data, source, self.now)

    def call(self, sdp: bytes) -> int:
        number = self.city.invite(Draft("INVITE", CAMERA, body=sdp), CAMERA_AT, self.now)
        self.pump()
        return number

    def of(self, method: str) -> list[Request]:
        return [m for m in self.sent if isinstance(m, Request) and m.method == method]

    def inside(self, method: str, cseq: int, body: bytes = b"", branch: str = "") -> bytes:
        """A request of the city inside the call, as the wire has it."""
        invite = parse(self.of("INVITE")[0].encode())
        answer = next(m for m in self.sent if isinstance(m, Response) and m.status == 200)
        assert isinstance(invite, Request)
        made = Request(method, invite.uri_text, invite.headers, body)
        made.headers.set("To", str(answer.to))
        made.headers.set("CSeq", f"{cseq} {method}")
        made.headers.set("Via", f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch or method}{cseq}")
        return made.encode()

    def reinvite(self, cseq: int, body: bytes) -> Response:
        self.camera.receive(self.inside("INVITE", cseq, body), CITY_AT, self.now)
        (output,) = self.camera.take_output()
        response = parse(output.data)
        assert isinstance(response, Response)
        return response


def test_an_invite_without_a_session_is_answered_with_an_offer_and_acknowledged_with_an_answer() -> None:
    pair = Pair()
    pair.answer = OFFER
    number = pair.call(b"")
    answered = next(event for event in pair.events if isinstance(event, CallAnswered))
    assert answered.response.body == OFFER
    assert pair.of("ACK") == []
    pair.city.acknowledge(number, ANSWER)
    pair.pump()
    assert [ack.body for ack in pair.of("ACK")] == [ANSWER]
    assert pair.of("ACK")[0].content_type == "application/sdp"
    assert [event.body for event in pair.events if isinstance(event, CallConfirmed)] == [ANSWER]


def test_a_repeated_offer_waits_like_the_first_and_is_acknowledged_again_afterwards() -> None:
    pair = Pair()
    pair.answer = OFFER
    number = pair.call(b"")
    answer = next(m for m in pair.sent if isinstance(m, Response) and m.status == 200)
    pair.city.receive(answer.encode(), CAMERA_AT, 0.5)
    assert pair.city.take_output() == []
    pair.city.acknowledge(number, ANSWER)
    pair.city.acknowledge(number, b"another")
    pair.pump()
    pair.city.receive(answer.encode(), CAMERA_AT, 0.6)
    pair.pump()
    assert [ack.body for ack in pair.of("ACK")] == [ANSWER, ANSWER]


def test_an_offer_that_is_not_answered_is_acknowledged_and_ended() -> None:
    pair = Pair()
    pair.answer = OFFER
    number = pair.call(b"")
    pair.city.hang_up(number, 1.0)
    pair.pump()
    assert [message.method for message in pair.sent if isinstance(message, Request)] == [
        "INVITE",
        "ACK",
        "BYE",
    ]
    with pytest.raises(Unavailable):
        pair.city.acknowledge(number, ANSWER)


def test_a_reinvite_that_repeats_the_session_is_accepted_until_its_ack_and_takes_the_new_address() -> None:
    pair = Pair()
    pair.call(OFFER)
    moved = Remote("192.0.2.1", 6060, "udp")
    same = OFFER.replace(b"o=3100 1 1", b"o=3100 1 2").replace(b"\r\n", b"\n")
    again = pair.inside("INVITE", 2, same).replace(
        b"<sip:31000000002000000001@192.0.2.1:5060>", b"<sip:x@192.0.2.1:6060>"
    )
    pair.camera.receive(again, moved, 1.0)
    (output,) = pair.camera.take_output()
    response = parse(output.data)
    assert isinstance(response, Response)
    assert (response.status, response.body) == (200, ANSWER)
    assert pair.reinvite(3, OFFER).status == 491
    pair.camera.receive(pair.inside("ACK", 3, branch="INVITE"), CITY_AT, 1.0)
    pair.camera.handle_timer(1.6)
    assert [parse(one.data).cseq.number for one in pair.camera.take_output()] == [2]
    pair.camera.receive(pair.inside("ACK", 2), moved, 1.7)
    pair.camera.handle_timer(60.0)
    assert pair.camera.take_output() == []
    pair.camera.hang_up(1, 61.0)
    bye = pair.camera.take_output()[0]
    assert bye.remote == moved
    assert bye.data.startswith(b"BYE sip:x@192.0.2.1:6060 ")


@pytest.mark.parametrize(
    "body", [b"", OFFER.replace(b"6000", b"6002"), b"a=sendonly\r\n" + OFFER, b"\0" * 100]
)
def test_a_reinvite_that_would_change_the_session_is_declined_and_the_call_goes_on(body: bytes) -> None:
    pair = Pair()
    pair.call(OFFER)
    assert pair.reinvite(2, body).status == 488
    assert not any(isinstance(event, CallEnded) for event in pair.events)
    pair.camera.receive(pair.inside("BYE", 3), CITY_AT, 2.0)
    pair.pump()
    assert any(isinstance(event, CallEnded) for event in pair.events)


def test_a_reinvite_that_is_never_acknowledged_ends_the_call() -> None:
    pair = Pair()
    pair.call(OFFER)
    assert pair.reinvite(2, OFFER).status == 200
    while (at := pair.camera.next_timer()) is not None and at < 40:
        pair.camera.handle_timer(at)
    assert any(output.data.startswith(b"BYE ") for output in pair.camera.take_output())
    assert isinstance(pair.camera.next_event(), CallEnded)
