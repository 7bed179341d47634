"""A third party connects us with a receiver: recordings, and media over TCP in either role (9.2.2.2)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from tongshi.clock import BEIJING
from tongshi.gateways.signalling.endpoint import OutgoingCall
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.subject import Subject
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.model import Transport
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
CODE = "31010100001320000001"
START = datetime(2026, 5, 19, 8, 0, tzinfo=BEIJING)
RECORDING = Subject(CODE, "1000000007", CITY, "0").render()

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture(autouse=True)  # first to start and last to stop, so that goodbyes are heard
async def upper() -> AsyncIterator[PlatformDouble]:
    double = PlatformDouble(CITY, SECRET)
    await double.start()
    yield double
    await double.stop()


async def below(
    neighbourhood: Neighbourhood, upper: PlatformDouble, transport: Transport = Transport.UDP
) -> SmallPlatform:
    """A district with one camera that has recorded an hour; ``transport``: how it offers to send upward."""
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=upper.port, media_transport=transport)
    district: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: district.gateway.uppers[CITY].is_registered)
    recorded = (Recorded(START, START + timedelta(hours=1), "time"),)
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", recorded=recorded)
    await neighbourhood.camera(district, row)
    await neighbourhood.known(district, CODE)
    return district


async def call(
    upper: PlatformDouble, change: Callable[[Sdp], Sdp], subject: str = ""
) -> tuple[OutgoingCall, Sdp]:
    """Call without SDP; the ACK says what ``change`` makes of our offer. Returns that offer too."""
    offers: list[Sdp] = []

    def answer(offer: bytes) -> bytes:
        offers.append(parse_sdp(offer))
        receiver = msgspec.structs.replace(offers[0], direction="recvonly", owner_id=CITY, ssrc=None)
        return change(receiver).render()

    at = upper.registered[DISTRICT]
    made = await upper.endpoint.invite(to_id=CODE, remote=at, sdp=b"", subject=subject, on_offer=answer)
    return made, offers[0]


def recording(minute: int, name: SessionName = SessionName.PLAYBACK, **fields: Any) -> dict[str, Any]:
    begin = int(START.timestamp()) + 60 * minute
    return dict(session_name=name, uri=f"{CODE}:0", start_s=begin, end_s=begin + 60, **fields)


def ssrc_by_udp(receiver: socket.socket) -> int:
    receiver.settimeout(5)
    return int.from_bytes(receiver.recv(2048)[8:12], "big")


def ssrc_by_tcp(connected: socket.socket) -> int:
    """The SSRC of the first framed packet (RFC 4571)."""
    with connected:
        connected.settimeout(5)
        with connected.makefile("rb") as stream:
            return int.from_bytes(stream.read(14)[10:14], "big")


@pytest.mark.parametrize(("name", "ssrc"), [(SessionName.PLAYBACK, None), (SessionName.DOWNLOAD, 1000000009)])
async def test_a_recording_is_named_by_the_ack(
    neighbourhood: Neighbourhood, upper: PlatformDouble, name: SessionName, ssrc: int | None
) -> None:
    district = await below(neighbourhood, upper)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        wanted = recording(5, name, address="127.0.0.1", port=receiver.getsockname()[1], ssrc=ssrc)
        made, ours = await call(upper, lambda sdp: msgspec.structs.replace(sdp, **wanted), RECORDING)
        assert (ours.session_name, ours.port, str(ours.ssrc)[0]) == (SessionName.PLAYBACK, 9, "1")
        assert await asyncio.to_thread(ssrc_by_udp, receiver) == (ssrc or ours.ssrc)
        assert len(district.gateway.history) == 1
        await made.bye()
    await neighbourhood.nothing_left(district)


@pytest.mark.parametrize("offered", [Transport.TCP_ACTIVE, Transport.UDP])
@pytest.mark.parametrize("wanted", [{}, recording(5)])
async def test_a_receiver_that_listens_for_tcp_is_connected(
    neighbourhood: Neighbourhood, upper: PlatformDouble, offered: Transport, wanted: dict[str, Any]
) -> None:
    """Whether we offered TCP or the receiver came with it."""
    district = await below(neighbourhood, upper, offered)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        by_tcp = {
            "protocol": "TCP/RTP/AVP",
            "setup": "passive",
            "address": "127.0.0.1",
            "port": listener.getsockname()[1],
        }
        made, ours = await call(
            upper,
            lambda sdp: msgspec.structs.replace(sdp, **by_tcp, **wanted),
            RECORDING if wanted else "",
        )
        assert ours.setup == ("active" if offered is Transport.TCP_ACTIVE else None)
        connected, _ = await asyncio.to_thread(listener.accept)
        assert await asyncio.to_thread(ssrc_by_tcp, connected) == ours.ssrc
        await made.bye()
    await neighbourhood.nothing_left(district)


async def test_a_receiver_that_connects_finds_us_listening(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district = await below(neighbourhood, upper, Transport.TCP_PASSIVE)
    made, ours = await call(upper, lambda sdp: msgspec.structs.replace(sdp, setup="active", port=9))
    assert (ours.setup, ours.is_tcp) == ("passive", True)
    connected = await asyncio.to_thread(socket.create_connection, (ours.address, ours.port), 5)
    assert await asyncio.to_thread(ssrc_by_tcp, connected) == ours.ssrc
    await made.bye()
    await neighbourhood.nothing_left(district)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (recording(300), "480"),  # nothing is recorded then
        (dict(recording(5), start_s=200, end_s=100), "488"),
        ({"protocol": "TCP/RTP/AVP", "setup": "active"}, "488"),  # nobody listens here
    ],
)
async def test_what_the_ack_asks_and_we_cannot_do_is_ended_with_the_reason(
    neighbourhood: Neighbourhood, upper: PlatformDouble, change: dict[str, Any], cause: str
) -> None:
    district = await below(neighbourhood, upper)
    heard: list[bytes] = []
    upper.endpoint.trace = lambda direction, remote, data: heard.append(data)
    made, _ = await call(upper, lambda sdp: msgspec.structs.replace(sdp, **change), RECORDING)
    await asyncio.wait_for(made.ended.wait(), 5)
    (bye,) = {data for data in heard if data.startswith(b"BYE")}
    assert f"Reason: SIP;cause={cause};".encode() in bye
    await neighbourhood.nothing_left(district)
