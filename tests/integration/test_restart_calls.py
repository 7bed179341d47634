"""A platform that lost its power and is back at once: what it left open is ended at the peers."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from typing import Any

from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, SipEndpoint
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.registrations import open_call_store
from tongshi.resources.registrations.model import OpenCall
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

UPPER, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
CODE = "31010100001320000001"
ROW = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101")
NOTICED_S = 3.0
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def rows(platform: SmallPlatform) -> list[OpenCall]:
    found: list[OpenCall] = await platform.db.write(open_call_store.take_left, LONG_AGO)
    return found


async def no_rows(platform: SmallPlatform, timeout_s: float = NOTICED_S) -> None:
    async with asyncio.timeout(timeout_s):
        while await rows(platform):  # noqa: ASYNC110  # they are in the database
            await asyncio.sleep(0.02)


async def watch(platform: SmallPlatform) -> None:
    opening = await platform.viewing.watch(platform.viewer, Wish(device_id=DeviceId(CODE), expire_s=5))
    await watch_http(opening.urls[0][1], frames=3, timeout_s=10)


async def test_a_camera_is_told_that_its_call_is_over_and_sends_again_when_asked(
    neighbourhood: Neighbourhood,
) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await neighbourhood.camera(platform, ROW, keepalive_s=30.0)  # its heartbeats tell it nothing
    await neighbourhood.known(platform, CODE)
    await platform.viewing.watch(platform.viewer, Wish(device_id=DeviceId(CODE), expire_s=5))
    assert camera.calls.count == 1
    (row,) = await rows(platform)
    assert (row.direction, row.to_id, row.port) == ("down", CODE, camera.port)

    platform = await neighbourhood.restart(platform)

    await neighbourhood.until(lambda: camera.calls.count == 0, NOTICED_S)
    await no_rows(platform)
    await watch(platform)
    await neighbourhood.until(lambda: camera.calls.count == 0)
    await no_rows(platform)


async def test_an_upper_is_told_that_the_relay_is_over(neighbourhood: Neighbourhood) -> None:
    upper = PlatformDouble(UPPER, SECRET)
    await upper.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        above = Neighbour(UPPER, Relation.UPPER, SECRET, port=upper.port)
        district: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
        await neighbourhood.until(lambda: district.gateway.uppers[UPPER].is_registered)
        camera = await neighbourhood.camera(district, ROW, keepalive_s=30.0)
        await neighbourhood.known(district, CODE)
        port = receiver.getsockname()[1]
        call = await upper.call(DISTRICT, port=port, ssrc=100000007, channel=CODE)
        async with asyncio.timeout(NOTICED_S):
            while {row.direction for row in await rows(district)} != {"up", "down"}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not call.ended.is_set()

        district = await neighbourhood.restart(district)

        await asyncio.wait_for(call.ended.wait(), NOTICED_S)
        await neighbourhood.until(lambda: camera.calls.count == 0, NOTICED_S)
        await no_rows(district)
        await neighbourhood.until(lambda: district.gateway.uppers[UPPER].is_registered)
        again = await upper.call(DISTRICT, port=port, ssrc=100000007, channel=CODE)
        await again.bye()
        await no_rows(district)
    # Ends first what registers with it, so that goodbyes are heard.
    await neighbourhood.close()
    await upper.stop()


async def test_a_platform_told_to_stop_leaves_no_rows(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    await platform.viewing.watch(platform.viewer, Wish(device_id=DeviceId(CODE), expire_s=5))
    assert len(await rows(platform)) == 1
    await platform.viewing.stop_all()
    await no_rows(platform)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_peers_that_are_gone_or_forgot_the_call_hold_no_row(neighbourhood: Neighbourhood) -> None:
    async def refuse(_: IncomingRequest | IncomingInvite) -> None:
        return None

    forgetful = SipEndpoint(local_id=CODE, host="127.0.0.1", port=0, on_request=refuse, on_invite=refuse)
    await forgetful.start()
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    at = platform.clock.at()
    left = [
        OpenCall(f"c{n}", "down", DISTRICT, to_id, "127.0.0.1", port, transport, target, "a", "b", 2, at)
        for n, (to_id, port, transport, target) in enumerate(
            (
                (CODE, forgetful.port, "udp", f"sip:{CODE}@127.0.0.1"),
                (CODE, forgetful.port, "tcp", f"sip:{CODE}@127.0.0.1"),
                (CODE, 1, "tcp", ""),
                ("no id", forgetful.port, "udp", ""),
            )
        )
    ]
    await platform.db.write(open_call_store.note, left, [])
    platform = await neighbourhood.restart(platform)
    await no_rows(platform)
    await forgetful.stop()
