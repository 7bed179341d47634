"""Recordings through the cascade: searched, watched, steered and fetched by a platform above."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tongshi.clock import BEIJING
from tongshi.errors import NotFound, PeerFailed
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.mansrtsp import CONTENT_TYPE, Command, Method, Span, parse_reply
from tongshi.protocols.gb28181.notify import MediaStatus
from tongshi.protocols.gb28181.offer import offer_history, offer_live
from tongshi.protocols.gb28181.records import RecordInfoQuery, RecordInfoResponse, RecordType
from tongshi.protocols.gb28181.sdp import SessionName, parse_sdp
from tongshi.protocols.gb28181.subject import Subject
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.history import Action, Steering
from tongshi.resources.viewing.model import EndReason, Transport
from tongshi.resources.viewing.recordings import RecordLocation, Search, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.sharing import store as sharing_store
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.recordings import Recorded, second_of
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"
CODE, UNKNOWN, SECRET = "31010100001320000001", "31010100001320009999", "cascade-secret"
START = datetime(2026, 5, 19, 8, 0, tzinfo=BEIJING)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


RECORDED = tuple(
    Recorded(at(begin), at(begin + 9), "alarm" if begin == 20 else "time") for begin in range(0, 60, 10)
)


async def camera_of(neighbourhood: Neighbourhood, district: SmallPlatform, **faults: Any) -> Any:
    row = CameraPlan(
        id=CODE, scene="crossing-day", civil_code="310101", recorded=RECORDED, faults=Faults(**faults)
    )
    camera = await neighbourhood.camera(district, row)
    await neighbourhood.known(district, CODE)
    return camera


async def two_levels(
    neighbourhood: Neighbourhood, transport: Transport = Transport.UDP, **faults: Any
) -> tuple[SmallPlatform, SmallPlatform, Any]:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET, media_transport=transport)
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    camera = await camera_of(neighbourhood, district, **faults)
    await neighbourhood.catalogue(city, DISTRICT)
    await neighbourhood.known(city, CODE)
    return city, district, camera


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE])
async def test_a_city_searches_watches_and_steers_a_recording_of_a_district(
    neighbourhood: Neighbourhood, transport: Transport
) -> None:
    city, district, camera = await two_levels(neighbourhood, transport)
    found = await city.history.search(city.viewer, Search(DeviceId(CODE), Window(at(0), at(60))))
    assert [(file.start, file.end) for file in found.files] == [(one.start, one.end) for one in RECORDED]
    assert {file.location for file in found.files} == {CODE}
    wish = Wish(DeviceId(CODE), expire_s=10, window=Window(at(0), at(60)))
    opened = await city.history.watch(city.viewer, wish, RecordLocation.AUTO)
    assert (district.gateway.relays, camera.calls.count) == (1, 1)
    session_id = opened.opening.view.session_id
    await city.history.steer(city.viewer, session_id, Steering(Action.PAUSE))
    await asyncio.sleep(1.8)  # longer than either platform waits for lost media
    assert camera.calls.count == 1
    state = await city.history.steer(city.viewer, session_id, Steering(Action.SEEK, at=at(42)))
    assert state.state == "playing"
    await asyncio.sleep(0.3)
    watched = await watch_http(opened.opening.urls[0][1], frames=5, timeout_s=10)
    assert all(second_of(code.counter, START) >= at(42) for code in watched.codes)
    await neighbourhood.nothing_left(city, district)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_the_end_of_a_recording_is_told_through_both_levels(neighbourhood: Neighbourhood) -> None:
    city, district, camera = await two_levels(neighbourhood)
    wish = Wish(DeviceId(CODE), expire_s=10, window=Window(at(58.97), at(59)))
    opened = await city.history.watch(city.viewer, wish, RecordLocation.AUTO)
    await neighbourhood.until(lambda: camera.calls.count == 0)
    await neighbourhood.nothing_left(city, district)
    view = city.viewing.session(city.viewer, opened.opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED


async def test_nothing_recorded_is_said_by_the_city_too(neighbourhood: Neighbourhood) -> None:
    city, district, _ = await two_levels(neighbourhood)
    wish = Wish(DeviceId(CODE), window=Window(at(100), at(110)))
    with pytest.raises(NotFound) as caught:
        await city.history.watch(city.viewer, wish, RecordLocation.AUTO)
    assert caught.value.code == 40405
    assert caught.value.details["earlier"] is not None
    await neighbourhood.nothing_left(city, district)


# As an upper of another make sees it.


@pytest.fixture(autouse=True)  # first to start and last to stop, so that goodbyes are heard
async def upper() -> AsyncIterator[PlatformDouble]:
    double = PlatformDouble(CITY, SECRET)
    await double.start()
    yield double
    await double.stop()


async def below(neighbourhood: Neighbourhood, upper: PlatformDouble, **faults: Any) -> SmallPlatform:
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=upper.port)
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: made.gateway.uppers[CITY].is_registered)
    await camera_of(neighbourhood, made, **faults)
    return made


async def test_a_query_is_answered_under_its_number_by_window_and_kind(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district = await below(neighbourhood, upper)
    for sn, kind, count in ((7, RecordType.ALL, 4), (8, RecordType.ALARM, 1), (9, RecordType.MANUAL, 0)):
        query = RecordInfoQuery(sn, CODE, at(15), at(45), kind, indistinct=sn == 7)
        # Of the centre, whose code is the platform's, there is nothing: the device's own is meant (A.2.4.5).
        assert await upper.send(DISTRICT, query, to_id=DISTRICT if sn == 7 else CODE) == 200

        def parts(number: int = sn) -> list[RecordInfoResponse]:
            return [one for one in upper.messages if isinstance(one, RecordInfoResponse) and one.sn == number]

        await upper.until(lambda: bool(parts()) and sum(len(p.files) for p in parts()) == parts()[0].sum_num)
        files = [file for part in parts() for file in part.files]
        assert len(files) == count
        assert all(file.location == CODE and file.start < at(45) for file in files)
    assert await upper.send(DISTRICT, RecordInfoQuery(10, UNKNOWN, at(0), at(1))) == 404
    assert await upper.send(DISTRICT, RecordInfoQuery(11, CODE, at(1), at(0))) == 400
    await neighbourhood.nothing_left(district)


async def test_what_a_device_withholds_stays_in_the_sum_and_silence_is_passed_on(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    await below(neighbourhood, upper, records_withheld=1)
    assert await upper.send(DISTRICT, RecordInfoQuery(7, CODE, at(0), at(25)), to_id=CODE) == 200
    await upper.until(lambda: any(isinstance(one, RecordInfoResponse) for one in upper.messages))
    await asyncio.sleep(0.2)
    parts = [one for one in upper.messages if isinstance(one, RecordInfoResponse)]
    assert {part.sum_num for part in parts} == {3}
    assert sum(len(part.files) for part in parts) == 2


async def test_an_upper_without_the_right_to_play_back_gets_what_the_unknown_get(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district = await below(neighbourhood, upper)
    await district.db.write(sharing_store.revoke_grant, f"upper-{CITY}", datetime.now(UTC))
    assert await upper.send(DISTRICT, RecordInfoQuery(7, CODE, at(0), at(60))) == 404
    with pytest.raises(PeerFailed) as caught:
        await call(upper, 9, at(0), at(1))
    assert caught.value.details["sipStatus"] == 404
    await neighbourhood.nothing_left(district)


async def call(
    upper: PlatformDouble, port: int, start: datetime, end: datetime, speed: int | None = None
) -> Any:
    live = offer_live(owner_id=CITY, address="127.0.0.1", port=port, ssrc=1000000007)
    offer = offer_history(
        live,
        channel_id=CODE,
        start_s=int(start.timestamp()),
        end_s=int(end.timestamp()),
        download_speed=speed,
    )
    return await upper.endpoint.invite(
        to_id=CODE,
        remote=upper.registered[DISTRICT],
        sdp=offer.render(),
        subject=Subject(CODE, "1000000007", CITY, "0").render(),
    )


async def test_an_upper_steers_inside_its_call_and_hears_the_end_inside_it(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district = await below(neighbourhood, upper)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        made = await call(upper, receiver.getsockname()[1], at(0), at(9))
        answer = parse_sdp(made.answer)
        assert (answer.session_name, answer.ssrc) == (SessionName.PLAYBACK, 1000000007)
        assert answer.start_s == int(at(0).timestamp())
        seek = Command(method=Method.PLAY, cseq=41, span=Span(538.5))
        response = await made.info(seek.render(), CONTENT_TYPE)
        reply = parse_reply(response.body)
        assert (response.status, reply.cseq, reply.span) == (200, 41, Span(538.5))
        refused = await made.info(
            Command(method=Method.PLAY, cseq=42, span=Span(9999.0)).render(), CONTENT_TYPE
        )
        assert parse_reply(refused.body).status == 457
        assert (await made.info(b"nonsense", CONTENT_TYPE)).status == 400
        await upper.until(lambda: any(isinstance(one, MediaStatus) for one in upper.messages))
        (status,) = [one for one in upper.messages if isinstance(one, MediaStatus)]
        assert (status.device_id, status.notify_type) == (CODE, "121")
        assert not made.ended.is_set()
        await made.bye()
    await neighbourhood.nothing_left(district)


class Received(asyncio.DatagramProtocol):
    """Sequence number and RTP time of all that comes."""

    def __init__(self) -> None:
        self.packets: list[tuple[int, int]] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.packets.append((int.from_bytes(data[2:4]), int.from_bytes(data[4:8])))


async def test_the_answer_to_a_play_names_the_packet_that_the_upper_gets(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    await below(neighbourhood, upper)
    loop = asyncio.get_running_loop()
    transport, received = await loop.create_datagram_endpoint(Received, ("127.0.0.1", 0))
    made = await call(upper, transport.get_extra_info("sockname")[1], at(0), at(9))

    async def played(cseq: int, **how: Any) -> Any:
        body = Command(method=Method.PLAY, cseq=cseq, **how).render()
        return parse_reply((await made.info(body, CONTENT_TYPE)).body)

    # The cached group goes first, multiplexed by us; the sender's own packets are passed on after it.
    cseq = 1
    async with asyncio.timeout(8):
        while (await played(cseq, scale=1.0)).seq is None:
            cseq += 1
            await asyncio.sleep(0.1)
    assert (await made.info(Command(method=Method.PAUSE, cseq=90).render(), CONTENT_TYPE)).status == 200
    for cseq, position in ((91, 100.0), (92, 300.0)):
        reply = await played(cseq, span=Span(position))
        told = (reply.seq, reply.rtptime)
        await neighbourhood.until(lambda told=told: told in received.packets)
        at_it = received.packets.index(told)
        assert received.packets[at_it - 1][1] != reply.rtptime  # the first packet of its picture
        assert received.packets[at_it - 1][0] == (reply.seq - 1) % 65536
    await made.bye()
    transport.close()


async def test_a_download_tells_its_size_and_leaves_at_its_speed(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district = await below(neighbourhood, upper)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        made = await call(upper, receiver.getsockname()[1], at(0), at(0.2), speed=4)
        answer = parse_sdp(made.answer)
        assert (answer.session_name, answer.download_speed) == (SessionName.DOWNLOAD, 4)
        assert answer.file_size is not None
        began = asyncio.get_running_loop().time()
        await upper.until(lambda: any(isinstance(one, MediaStatus) for one in upper.messages), 8.0)
        assert asyncio.get_running_loop().time() - began < 7.0  # twelve seconds of recording
        await made.bye()
    await neighbourhood.nothing_left(district)


async def test_a_recording_that_is_not_there_is_refused_above(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district = await below(neighbourhood, upper)
    for start, end, status in ((at(100), at(110), 480), (at(1), at(0), 488)):
        with pytest.raises(PeerFailed) as caught:
            await call(upper, 9, start, end)
        assert caught.value.details["sipStatus"] == status
    await neighbourhood.nothing_left(district)
