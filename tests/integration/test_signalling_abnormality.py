"""What does not work below is told above at once, and until it works again."""

from __future__ import annotations

import asyncio
from typing import Any

from tongshi.gateways.signalling.keepalive import Beat
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.resources.platforms.model import Relation
from tongshi.testing.plan import CameraPlan, channel_id
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
NVR = "31010100001180000001"
FIRST, SECOND = channel_id(NVR, 0), channel_id(NVR, 1)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def two_levels(neighbourhood: Neighbourhood) -> tuple[SmallPlatform, SmallPlatform, Any]:
    """The district beats every thirty seconds: within a test only what is told at once is heard."""
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, neighbours=(below,), beat=Beat(60.0, 3)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,), beat=Beat(30.0, 3)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    row = CameraPlan(id=NVR, civil_code="310101", channels=2)
    recorder = await neighbourhood.camera(district, row, keepalive_s=60.0)
    await neighbourhood.known(district, SECOND)
    await neighbourhood.catalogue(city, DISTRICT)
    await neighbourhood.known(city, SECOND)
    return city, district, recorder


async def online(platform: SmallPlatform, code: str) -> bool | None:
    return (await platform.devices.get(code)).online


async def until_offline(platform: SmallPlatform, code: str) -> None:
    for _ in range(200):
        if await online(platform, code) is False:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{code} is not offline")


async def test_a_faulty_channel_is_told_above_at_once(neighbourhood: Neighbourhood) -> None:
    city, district, recorder = await two_levels(neighbourhood)
    assert await recorder.notify(Keepalive(recorder.next_sn(), NVR, True, (SECOND,))) == 200
    await until_offline(city, SECOND)
    assert await online(city, FIRST)
    assert district.gateway.uppers[CITY].faulty == (SECOND,)
    assert await recorder.notify(Keepalive(recorder.next_sn(), NVR)) == 200
    assert district.gateway.uppers[CITY].faulty == ()


async def test_a_lost_device_is_told_above_at_once(neighbourhood: Neighbourhood) -> None:
    city, district, recorder = await two_levels(neighbourhood)
    await recorder.stop()  # it says goodbye: its registration is gone
    await until_offline(city, FIRST)
    assert set(district.gateway.uppers[CITY].faulty) == {NVR, FIRST, SECOND}
