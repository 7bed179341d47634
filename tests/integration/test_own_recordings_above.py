"""Own recordings as a platform above sees them: merged or by location, watched, steered and fetched."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tongshi.clock import BEIJING
from tongshi.protocols.gb28181.mansrtsp import CONTENT_TYPE, Command, Method, Span, parse_reply
from tongshi.protocols.gb28181.notify import MediaStatus
from tongshi.protocols.gb28181.offer import offer_history, offer_live
from tongshi.protocols.gb28181.records import RecordInfoQuery, RecordInfoResponse
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.protocols.gb28181.subject import Subject
from tongshi.resources.platforms.model import Relation
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import Rule, Segment, SegmentState
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"
CODE, SECRET = "31010100001320000001", "cascade-secret"
RULE = Rule("0" * 16, device_id=CODE, retention_days=1)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture(autouse=True)  # first to start and last to stop, so that goodbyes are heard
async def upper() -> AsyncIterator[PlatformDouble]:
    double = PlatformDouble(CITY, SECRET)
    await double.start()
    yield double
    await double.stop()


async def recorded(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> tuple[SmallPlatform, list[Segment], Any]:
    """A district below ``upper`` that has recorded a camera, which has a recording of its own earlier."""
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=upper.port)
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: made.gateway.uppers[CITY].is_registered)
    at = made.clock.at().astimezone(BEIJING).replace(microsecond=0)
    of_device = Recorded(at - timedelta(minutes=60), at - timedelta(minutes=50))
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", recorded=(of_device,))
    camera = await neighbourhood.camera(made, row)
    await neighbourhood.known(made, CODE)
    await made.db.write(store.put_rule, RULE, made.clock.at())
    made.recorder.changed()
    between = (at - timedelta(hours=2), at + timedelta(hours=2))
    async with asyncio.timeout(15):
        while not any(  # noqa: ASYNC110  # it is in the database
            one.state is SegmentState.WHOLE for one in await made.record.segments(CODE, *between)
        ):
            await asyncio.sleep(0.05)
    await made.db.write(store.put_rule, replace(RULE, is_enabled=False), made.clock.at())
    made.recorder.changed()
    await neighbourhood.until(lambda: not made.recorder.states() and not camera.calls.count)
    return made, await made.record.segments(CODE, *between), camera


async def locations(upper: PlatformDouble, query: RecordInfoQuery, to_id: str) -> tuple[set[str], int]:
    """Whose files are told, and how many were announced."""
    assert await upper.send(DISTRICT, query, to_id=to_id) == 200

    def parts() -> list[RecordInfoResponse]:
        return [one for one in upper.messages if isinstance(one, RecordInfoResponse) and one.sn == query.sn]

    await upper.until(lambda: bool(parts()))
    await asyncio.sleep(0.2)
    return {file.location for part in parts() for file in part.files}, parts()[0].sum_num


async def test_a_query_merges_both_or_asks_the_one_whose_code_stands_in_to(
    neighbourhood: Neighbourhood, upper: PlatformDouble
) -> None:
    district, found, camera = await recorded(neighbourhood, upper)
    at = found[0].start
    query = RecordInfoQuery(7, CODE, at - timedelta(hours=2), at + timedelta(hours=2), indistinct=True)
    count = len(found)
    assert await locations(upper, query, DISTRICT) == ({DISTRICT, CODE}, count + 1)
    by_place = replace_query(query, 8)
    assert await locations(upper, by_place, DISTRICT) == ({DISTRICT}, count)
    assert await locations(upper, replace_query(query, 9), CODE) == ({CODE}, 1)
    await camera.stop()
    await neighbourhood.until(lambda: CODE not in district.gateway.peers)
    # The device is away: the centre answers, and the sum says that something may be missing.
    away = RecordInfoQuery(10, CODE, query.start, query.end, indistinct=True)
    assert await locations(upper, away, DISTRICT) == ({DISTRICT}, count + 1)
    assert await upper.send(DISTRICT, replace_query(query, 11), to_id=CODE) == 480


def replace_query(query: RecordInfoQuery, sn: int) -> RecordInfoQuery:
    """The same by location."""
    return RecordInfoQuery(sn, query.device_id, query.start, query.end)


async def call(upper: PlatformDouble, port: int, segments: list[Segment], speed: int | None = None) -> Any:
    live = offer_live(owner_id=CITY, address="127.0.0.1", port=port, ssrc=1000000007)
    # Times of SDP are whole seconds: the end is cut so that it lies within what is recorded.
    offer = offer_history(
        live,
        channel_id=CODE,
        start_s=int(segments[0].start.timestamp()) + 1,
        end_s=int(segments[-1].end.timestamp()),
        download_speed=speed,
    )
    return await upper.endpoint.invite(
        to_id=CODE,
        remote=upper.registered[DISTRICT],
        sdp=offer.render(),
        subject=Subject(CODE, "1000000007", CITY, "0").render(),
    )


@pytest.mark.parametrize("speed", [None, 4])
async def test_an_own_recording_goes_up_and_its_end_is_told(
    neighbourhood: Neighbourhood, upper: PlatformDouble, speed: int | None
) -> None:
    district, found, camera = await recorded(neighbourhood, upper)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        made = await call(upper, receiver.getsockname()[1], found, speed)
        answer = parse_sdp(made.answer)
        assert (answer.file_size is not None) is (speed is not None)
        assert camera.calls.count == 0
        packet = await asyncio.to_thread(receiver.recv, 2048)
        assert int.from_bytes(packet[8:12], "big") == 1000000007
        if speed is None:
            seek = Command(method=Method.PLAY, cseq=41, span=Span(0.5))
            reply = parse_reply((await made.info(seek.render(), CONTENT_TYPE)).body)
            assert (reply.status, reply.cseq, reply.span) == (200, 41, Span(0.5))
            far = Command(method=Method.PLAY, cseq=42, span=Span(9999.0))
            assert parse_reply((await made.info(far.render(), CONTENT_TYPE)).body).status == 457
        await upper.until(lambda: any(isinstance(one, MediaStatus) for one in upper.messages), 10.0)
        await made.bye()
    await neighbourhood.until(lambda: not len(district.viewing.streams) and not district.gateway.relays)
