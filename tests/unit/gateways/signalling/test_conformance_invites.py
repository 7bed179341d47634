"""What our INVITE says, and how many of an upper's we take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import NotFound
from tongshi.gateways.signalling import incoming_live
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.incoming_live import IncomingLive
from tongshi.gateways.signalling.live import LiveCaller
from tongshi.gateways.signalling.upward_names import NO_NAMES
from tongshi.ids import DeviceId, PlatformId
from tongshi.protocols.gb28181.offer import offer_live
from tongshi.protocols.gb28181.profile import Profile, for_edition
from tongshi.protocols.gb28181.sdp import SessionName, parse_sdp
from tongshi.protocols.gb28181.ssrc import SsrcPool
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.protocols.gb28181.version import Edition
from tongshi.protocols.sip.message import Request, Response, parse
from tongshi.resources.viewing.model import StreamKey, StreamType, Transport
from tongshi.resources.viewing.ports import LiveRequest
from tongshi.testing.calls import media_transport

UPPER, OWN, CODE = "31000000002000000001", PlatformId("31010100002000000001"), "31010100001320000001"
AT = Remote("192.0.2.7", 5060, "udp")
ANSWER = (
    f"v=0\r\no={CODE} 0 0 IN IP4 192.0.2.7\r\ns=Play\r\nc=IN IP4 192.0.2.7\r\n"
    "m=video 9 RTP/AVP 96\r\ny=0300000009\r\n"
)


class Line:
    """An endpoint whose callee answers always the same."""

    def __init__(self, answer: str = ANSWER) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def invite(self, **words: Any) -> Any:
        self.asked.append(words)
        return SimpleNamespace(answer=self.answer.encode(), ended=None, remote=AT, response=Response(200))


def caller(line: Line, profile: Profile = Profile()) -> LiveCaller:  # noqa: B008  # frozen
    async def peers_of(_: str, __: Any) -> Any:
        return [SimpleNamespace(id=CODE, remote=AT, profile=profile, is_platform=False)]

    routes: Any = SimpleNamespace(own_id=OWN, peers_of=peers_of)
    return LiveCaller(line, routes, SsrcPool(OWN), ManualClock())  # type: ignore[arg-type]


def wanted(stream_type: StreamType = StreamType.MAIN) -> LiveRequest:
    return LiveRequest(DeviceId(CODE), stream_type, Transport.UDP, "192.0.2.20", 30_000, "stream-1")


async def test_an_invite_names_source_and_receiver_and_asks_for_the_present() -> None:
    line = Line()
    call = await caller(line).open(wanted(), 1.0)
    (asked,) = line.asked
    assert asked["to_id"] == CODE
    offer, subject = parse_sdp(asked["sdp"]), parse_subject(asked["subject"])
    assert (offer.session_name, offer.start_s, offer.end_s) == (SessionName.PLAY, 0, 0)
    assert b"\r\nt=0 0\r\n" in asked["sdp"]
    assert offer.owner_id == OWN
    assert (subject.sender_id, subject.receiver_id) == (CODE, OWN)
    assert subject.sender_serial == offer.ssrc_text
    assert not subject.is_history
    assert call.ssrc == 300000009  # the called domain chose another than we offered


async def test_a_sub_stream_is_asked_for_by_number_where_the_edition_knows_it() -> None:
    line = Line()
    await caller(line).open(wanted(StreamType.SUB), 1.0)
    await caller(line, for_edition(Edition.GB2016)).open(wanted(StreamType.SUB), 1.0)
    await caller(line).open(wanted(), 1.0)
    assert [parse_sdp(one["sdp"]).stream_number for one in line.asked] == [1, None, None]


async def test_an_answer_without_address_is_where_its_signalling_came_from() -> None:
    call = await caller(Line("v=0\r\ns=Play\r\nm=video 9 RTP/AVP 96\r\n")).open(wanted(), 1.0)
    assert (call.media_host, call.media_port, call.ssrc) == (AT.host, 9, None)


class Invite:
    """An INVITE from above that notes how it was refused."""

    def __init__(self, stream_number: int | None) -> None:
        offer = offer_live(
            owner_id=UPPER, address="192.0.2.1", port=40_000, ssrc=1, stream_number=stream_number
        )
        text = (
            f"INVITE sip:{CODE}@3101010000 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n"
            f"From: <sip:{UPPER}@3100000000>;tag=1\r\nTo: <sip:{CODE}@3101010000>\r\nCall-ID: a\r\n"
            "CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
        request = parse(text.encode())
        assert isinstance(request, Request)
        self.request, self.remote, self.offer = request, AT, offer.render()
        self.status, self.is_answered, self.on_cancel = 0, False, None

    def trying(self) -> None:
        return None

    def reject(self, status: int, reason: str = "", headers: Any = ()) -> None:
        self.status, self.is_answered = status, True


class NoViewing:
    """Refuses every source and notes which were asked for."""

    def __init__(self) -> None:
        self.asked: list[StreamKey] = []

    async def hold(self, viewer: Any, key: StreamKey, *_: Any) -> Any:
        self.asked.append(key)
        raise NotFound("设备不存在", code=40401)


async def refusal(viewing: NoViewing, stream_number: int | None) -> int:
    invite = Invite(stream_number)
    live = IncomingLive(OWN, viewing, SsrcPool(OWN), ManualClock())  # type: ignore[arg-type]
    await live.handle(invite, SimpleNamespace(id=UPPER, profile=Profile(), names=NO_NAMES))  # type: ignore[arg-type]
    await live.stop()
    assert not len(live)
    return invite.status


async def test_an_uppers_stream_number_selects_the_source() -> None:
    viewing = NoViewing()
    assert [await refusal(viewing, number) for number in (None, 0, 1, 9)] == [404, 404, 404, 488]
    assert [key.stream_type for key in viewing.asked] == [StreamType.MAIN, StreamType.MAIN, StreamType.SUB]


async def test_beyond_the_bound_an_upper_is_told_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_live, "MAX_RELAYS_OF_UPPER", 0)
    viewing = NoViewing()
    assert await refusal(viewing, None) == 486
    assert viewing.asked == []


def test_without_a_role_over_tcp_the_camera_connects() -> None:
    text = ANSWER.replace("RTP/AVP 96", "TCP/RTP/AVP 96")
    assert media_transport(parse_sdp(text.encode())) == "tcp-active"
    assert media_transport(parse_sdp((text + "a=setup:active\r\n").encode())) == "tcp-passive"
    assert media_transport(parse_sdp(ANSWER.encode())) == "udp"
