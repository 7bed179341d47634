"""What a platform above may ask of us, and what it gets when it asks badly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tongshi.errors import PeerFailed, PeerTimeout
from tongshi.gateways.signalling.endpoint import IncomingRequest, Remote, SipEndpoint
from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.offer import answer_live
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import CatalogResponse, DeviceInfoResponse, DeviceStatusResponse
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.resources.platforms.model import Relation
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

UPPER, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
REDIRECTING = "31000000002000000009"
CODE, UNKNOWN = "31010100001320000001", "31010100001320009999"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture(autouse=True)  # first to start and last to stop, so that goodbyes are heard
async def upper() -> AsyncIterator[PlatformDouble]:
    double = PlatformDouble(UPPER, SECRET)
    await double.start()
    yield double
    await double.stop()


@pytest.fixture
async def district(neighbourhood: Neighbourhood, upper: PlatformDouble) -> SmallPlatform:
    above = Neighbour(UPPER, Relation.UPPER, SECRET, port=upper.port)
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: made.gateway.uppers[UPPER].is_registered)
    return made


class RedirectServer(PlatformDouble):
    """Sends every device on to another server."""

    def __init__(self, platform_id: str, onward: PlatformDouble) -> None:
        super().__init__(platform_id, SECRET)
        self._contact = f"<sip:{onward.id}@127.0.0.1:{onward.port}>"

    def _register(self, incoming: IncomingRequest) -> None:
        incoming.respond(302, headers=(("Contact", self._contact), ("Expires", "3600")))


async def test_who_was_sent_on_hears_and_tells_the_other_server(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    redirecting = RedirectServer(REDIRECTING, upper)
    await redirecting.start()
    try:
        above = Neighbour(REDIRECTING, Relation.UPPER, SECRET, port=redirecting.port)
        made: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
        await upper.until(lambda: upper.keepalives[DISTRICT] >= 2)
        assert made.gateway.uppers[REDIRECTING].is_registered
        (told,) = await upper.ask(DISTRICT, DeviceStatusQuery(3, DISTRICT), DeviceStatusResponse)
        assert told.device_id == DISTRICT
    finally:
        await redirecting.stop()


@pytest.fixture
def receiver() -> Any:
    """A UDP port where a picture may arrive."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        yield opened


async def add_camera(neighbourhood: Neighbourhood, district: SmallPlatform, **faults: Any) -> Any:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(**faults))
    camera = await neighbourhood.camera(district, row)
    await neighbourhood.known(district, CODE)
    return camera


async def test_it_keeps_alive_above_and_registers_again_when_it_was_forgotten(
    upper: PlatformDouble, district: SmallPlatform
) -> None:
    await upper.until(lambda: upper.keepalives[DISTRICT] >= 2)
    upper.keepalive_status = 403
    await upper.until(lambda: upper.registrations[DISTRICT] >= 2)


async def test_the_catalogue_comes_in_parts_with_our_own_item_first(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    await add_camera(neighbourhood, district)
    parts = await upper.ask(DISTRICT, CatalogQuery(7, DISTRICT), CatalogResponse, count=2)
    assert {part.sum_num for part in parts} == {2}
    items = [item for part in parts for item in part.items]
    assert [item.device_id for item in items] == [DISTRICT, CODE]
    assert items[1].parent_ids
    assert items[1].status is not None


async def test_one_device_and_a_division_can_be_asked_for(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    await add_camera(neighbourhood, district)
    for number, node in enumerate((CODE, "310101"), 1):
        (part,) = await upper.ask(DISTRICT, CatalogQuery(number, node), CatalogResponse)
        assert [item.device_id for item in part.items] == [CODE]
    assert await upper.send(DISTRICT, CatalogQuery(9, UNKNOWN)) == 404


async def test_device_information_and_status_are_answered(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    camera = await add_camera(neighbourhood, district)
    (own,) = await upper.ask(DISTRICT, DeviceInfoQuery(1, DISTRICT), DeviceInfoResponse)
    assert own.result_ok
    (info,) = await upper.ask(DISTRICT, DeviceInfoQuery(2, CODE), DeviceInfoResponse)
    assert info.manufacturer == camera.config.item.manufacturer
    (status,) = await upper.ask(DISTRICT, DeviceStatusQuery(3, CODE), DeviceStatusResponse)
    assert status.online
    assert await upper.send(DISTRICT, DeviceStatusQuery(4, UNKNOWN)) == 404


async def test_control_is_passed_on_with_a_number_of_our_own(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    camera = await add_camera(neighbourhood, district)
    command = front_end.ptz(pan=1, pan_speed=9).encode()
    assert await upper.send(DISTRICT, DeviceControl(77, CODE, ptz_cmd=command)) == 200
    taken = camera.device.channels[CODE].instructions
    assert taken[0].data1 == 9
    assert await upper.send(DISTRICT, DeviceControl(78, UNKNOWN, ptz_cmd=command)) == 404
    assert await upper.send(DISTRICT, DeviceControl(79, CODE, ptz_cmd="A50F")) == 400
    assert await upper.send(DISTRICT, DeviceControl(80, CODE, tele_boot=True)) == 403


@pytest.mark.parametrize("keeps_ssrc", [True, False])
async def test_a_picture_is_relayed_with_the_ssrc_of_the_answer(
    neighbourhood: Neighbourhood,
    upper: PlatformDouble,
    district: SmallPlatform,
    receiver: socket.socket,
    keeps_ssrc: bool,
) -> None:
    await add_camera(neighbourhood, district)
    port = receiver.getsockname()[1]
    if keeps_ssrc:
        call = await upper.call(DISTRICT, port=port, ssrc=100000007, channel=CODE)
    else:
        offer = (
            f"v=0\r\no={UPPER} 0 0 IN IP4 127.0.0.1\r\ns=Play\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=video {port} RTP/AVP 96\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\n"
        )
        call = await upper.endpoint.invite(
            to_id=CODE, remote=upper.registered[DISTRICT], sdp=offer.encode(), subject=""
        )
    answer = parse_sdp(call.answer)
    assert answer.ssrc is not None
    assert (answer.ssrc == 100000007) is keeps_ssrc
    assert answer.owner_id == CODE
    receiver.settimeout(5)
    packet = await asyncio.to_thread(receiver.recv, 2048)
    assert int.from_bytes(packet[8:12], "big") == answer.ssrc
    await call.bye()
    await neighbourhood.nothing_left(district)


async def test_a_third_party_connects_us_with_a_receiver(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform, receiver: socket.socket
) -> None:
    """9.2.2.2: INVITE without SDP, our offer in the 200, where to send it in the ACK."""
    await add_camera(neighbourhood, district)
    offered: list[bytes] = []

    def answer(offer: bytes) -> bytes:
        offered.append(offer)
        sent = parse_sdp(offer)
        port = receiver.getsockname()[1]
        return (
            answer_live(sent, owner_id=UPPER, address="127.0.0.1", port=port)
            .render()
            .replace(b"sendonly", b"recvonly")
        )

    at = upper.registered[DISTRICT]
    call = await upper.endpoint.invite(to_id=CODE, remote=at, sdp=b"", subject="", on_offer=answer)
    ours = parse_sdp(offered[0])
    assert (ours.direction, ours.owner_id, ours.payload_types) == ("sendonly", CODE, (96,))
    receiver.settimeout(5)
    packet = await asyncio.to_thread(receiver.recv, 2048)
    assert int.from_bytes(packet[8:12], "big") == ours.ssrc
    await call.bye()
    await neighbourhood.nothing_left(district)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no session",
        b"v=0\r\no=1 0 0 IN IP4 127.0.0.1\r\ns=Play\r\nc=IN IP4 127.0.0.1\r\nm=video 0 RTP/AVP 96\r\n",
    ],
)
async def test_an_answer_in_the_ack_that_names_no_receiver_ends_the_call(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform, answer: bytes
) -> None:
    await add_camera(neighbourhood, district)
    at = upper.registered[DISTRICT]
    call = await upper.endpoint.invite(
        to_id=CODE, remote=at, sdp=b"", subject="", on_offer=lambda offer: answer
    )
    await asyncio.wait_for(call.ended.wait(), 15)
    await neighbourhood.nothing_left(district)


async def test_an_unknown_channel_is_not_found_and_a_bad_offer_not_acceptable(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    await add_camera(neighbourhood, district)

    async def refused(channel: str, sdp: bytes) -> object:
        with pytest.raises(PeerFailed) as caught:
            await upper.endpoint.invite(to_id=channel, remote=upper.registered[DISTRICT], sdp=sdp, subject="")
        return caught.value.details["sipStatus"]

    good = b"v=0\r\no=1 0 0 IN IP4 127.0.0.1\r\ns=Play\r\nc=IN IP4 127.0.0.1\r\nm=video 9 RTP/AVP 96\r\n"
    assert await refused(UNKNOWN, good) == 404
    assert await refused(UNKNOWN, b"") == 404
    assert await refused(CODE, b"no session at all") == 488
    assert await refused(CODE, good.replace(b"s=Play", b"s=Download")) == 488
    assert await refused(CODE, good.replace(b"RTP/AVP 96", b"RTP/AVP 3")) == 488
    await neighbourhood.nothing_left(district)


async def test_calling_the_same_stream_twice_replaces_the_first(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform, receiver: socket.socket
) -> None:
    camera = await add_camera(neighbourhood, district)
    port = receiver.getsockname()[1]
    first = await upper.call(DISTRICT, port=port, ssrc=100000007, channel=CODE)
    second = await upper.call(DISTRICT, port=port, ssrc=100000007, channel=CODE)
    await asyncio.wait_for(first.ended.wait(), 15)
    assert not second.ended.is_set()
    assert district.gateway.relays == 1
    assert camera.calls.count == 1
    await second.bye()
    await neighbourhood.nothing_left(district)


async def test_an_early_cancel_ends_the_call_to_the_camera_too(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    await add_camera(neighbourhood, district, never_answer_invite=True)
    with pytest.raises(PeerTimeout):
        await upper.call(DISTRICT, port=9, ssrc=100000007, channel=CODE, timeout_s=0.3)
    await neighbourhood.nothing_left(district)


async def test_a_camera_that_is_offline_is_temporarily_unavailable(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    camera = await add_camera(neighbourhood, district)
    await camera.stop()
    with pytest.raises(PeerFailed) as caught:
        await upper.call(DISTRICT, port=9, ssrc=100000007, channel=CODE)
    assert caught.value.details["sipStatus"] == 480
    await neighbourhood.nothing_left(district)


async def test_a_camera_that_dies_ends_the_call_above(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform, receiver: socket.socket
) -> None:
    await add_camera(neighbourhood, district, drop_after_s=0.2)
    call = await upper.call(DISTRICT, port=receiver.getsockname()[1], ssrc=100000007, channel=CODE)
    await asyncio.wait_for(call.ended.wait(), 8)
    await neighbourhood.nothing_left(district)


async def test_an_upper_that_is_not_registered_and_strangers_may_not_call_or_ask(
    neighbourhood: Neighbourhood, upper: PlatformDouble, district: SmallPlatform
) -> None:
    await add_camera(neighbourhood, district)

    async def nobody(_: Any) -> None:
        return None

    stranger = SipEndpoint(
        local_id="31000000002000000009", host="127.0.0.1", port=0, on_request=nobody, on_invite=nobody
    )
    await stranger.start()
    try:
        remote = Remote("127.0.0.1", district.gateway.port, "udp")
        with pytest.raises(PeerFailed) as caught:
            await stranger.invite(to_id=CODE, remote=remote, sdp=b"", subject="")
        assert caught.value.details["sipStatus"] == 403
        response = await stranger.request(
            "MESSAGE", to_id=DISTRICT, remote=remote, body=CatalogQuery(1, DISTRICT).render()
        )
        assert response.status == 403
    finally:
        await stranger.stop()
