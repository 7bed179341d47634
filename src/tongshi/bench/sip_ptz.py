"""``tongshi bench sip --ptz``: what a second level adds to a command on its way to a camera.

City, district and camera on one machine, all of the platforms in one process: the delay is from the city's
decision to the answer of the camera, once with the camera registered at the city and once below the district.
Both paths take turns, so that they meet the same weather.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

from tongshi.gateways.signalling.endpoint import Remote
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181 import front_end
from tongshi.resources.platforms.model import Relation
from tongshi.testing.lower_platform import LowerPlan, LowerPlatform
from tongshi.testing.many_channels import ManyChannels
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"
NEAR, FAR = "31010400002000000001", "31010500002000000001"
SECRET = "bench-secret"  # noqa: S105  # of platforms that live for seconds
GOAL_MS = 20
HOST = "127.0.0.1"


def run(commands: int) -> dict[str, object]:
    """Measure."""
    return uvloop.run(_measure(commands))


async def _measure(commands: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        below = (Neighbour(DISTRICT, Relation.LOWER, SECRET), Neighbour(NEAR, Relation.LOWER, SECRET))
        city = await SmallPlatform.start(PlatformPlan(CITY, neighbours=below), Path(folder) / "city")
        above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
        neighbours = (above, Neighbour(FAR, Relation.LOWER, SECRET))
        plan = PlatformPlan(DISTRICT, neighbours=neighbours)
        district = await SmallPlatform.start(plan, Path(folder) / "district")
        near, far = _source(NEAR, CITY, city), _source(FAR, DISTRICT, district)
        try:
            await near.start()
            await far.start()
            one, two = DeviceId(near.channels.code(0)), DeviceId(far.channels.code(0))
            await _known(city, one)
            await _known(district, two)
            city.gateway.refresh_catalogue(DISTRICT)
            await _known(city, two)
            delays = await _take_turns(city, one, two, commands)
        finally:
            for part in (far, near, district, city):
                await part.stop()
    figures = {name: _summary(found) for name, found in delays.items()}
    added = figures["two_levels"]["p99_ms"] - figures["one_level"]["p99_ms"]
    return {"commands": commands, **figures, "added_p99_ms": round(added, 2), "goal_ms": GOAL_MS}


def _source(code: str, server_id: str, at: SmallPlatform) -> LowerPlatform:
    server = Remote(HOST, at.gateway.port, "udp")
    return LowerPlatform(LowerPlan(ManyChannels(code, 1), server_id, server, SECRET, keepalive_s=0.3))


async def _known(platform: SmallPlatform, device_id: str) -> None:
    async with asyncio.timeout(20.0):
        while await platform.devices.find(device_id) is None:  # noqa: ASYNC110  # it is in the database
            await asyncio.sleep(0.05)


async def _take_turns(
    city: SmallPlatform, one: DeviceId, two: DeviceId, commands: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"one_level": [], "two_levels": []}
    for number in range(commands + 20):
        for name, device in (("one_level", one), ("two_levels", two)):
            command = front_end.ptz(pan=1, pan_speed=number % 255 + 1).encode()
            began = time.perf_counter()
            await city.ptz.relay(city.viewer, device, command)
            if number >= 20:  # the first fill the caches
                found[name].append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    return found


def _summary(found: list[float]) -> dict[str, float]:
    ordered = sorted(found)
    at = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * p))], 2) for name, p in at.items()}
