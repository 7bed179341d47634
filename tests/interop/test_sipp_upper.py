"""SIPp plays a platform above ours: it checks our digest, asks for the catalogue, calls a camera."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

from tongshi.clock import SystemClock
from tongshi.resources.platforms.model import Relation
from tongshi.testing.camera import Camera
from tongshi.testing.clips import write_clip
from tongshi.testing.plan import CameraPlan, FleetPlan, Server, configs
from tongshi.testing.scenery import WORLDS
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.studio import Studio

PLATFORM, UPPER, SECRET = "31010100002000000001", "31000000002000000001", "gb-2022"
CAMERA, UNKNOWN = "31010100001320000201", "31010100001320000999"

Sipp = Any  # the class lives in conftest, which cannot be imported
Platforms = Any


async def until(holds: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110  # what is awaited happens in another process
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        port: int = datagrams.getsockname()[1]
        return port


async def start_camera(platform: SmallPlatform, folder: Path) -> tuple[Camera, Studio]:
    studio = Studio(folder, SystemClock())
    server = Server(platform.plan.id, "127.0.0.1", platform.gateway.port, platform.plan.device_secret)
    plan = FleetPlan(server=(server,), camera=(CameraPlan(id=CAMERA, civil_code="310101"),), keepalive_s=1.0)
    camera = Camera(configs(plan)[0], studio)
    await camera.start()
    await asyncio.wait_for(camera.registered.wait(), 5.0)
    return camera, studio


async def test_we_register_above_tell_the_catalogue_are_called_and_leave(
    platforms: Platforms, sipp: Sipp, tmp_path: Path
) -> None:
    write_clip(tmp_path / "crossing-day.mp4", WORLDS["crossing-day"](), frames=10)
    port = free_port()
    upper = await sipp.begin("upper", port=port, calls=1000, timeout_s=40)
    plan = PlatformPlan(PLATFORM, neighbours=(Neighbour(UPPER, Relation.UPPER, SECRET, port),))
    platform: SmallPlatform = await platforms.start(plan)
    camera, studio = await start_camera(platform, tmp_path)
    try:
        above = platform.gateway.uppers[UPPER]
        await until(lambda: above.is_registered)
        await until(lambda: platform.gateway._routes.channels_of(CAMERA) == (CAMERA,))

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
            media.bind(("127.0.0.1", 0))
            media.settimeout(5.0)
            row = f"{CAMERA};{UPPER};{UPPER[:10]};{media.getsockname()[1]}"
            calling = await sipp.begin("upper_calls", to=platform.gateway.port, rows=[row], pause_ms=1500)
            first = await asyncio.to_thread(media.recv, 2048)
            assert first[0] >> 6 == 2  # RTP
            assert int.from_bytes(first[8:12]) == 310100001  # with the SSRC that was asked for
            run = await calling.end()
        assert (run.status, run.errors) == (0, "")
        await until(lambda: platform.gateway.relays == 0)

        refused = await sipp.begin(
            "upper_refused", to=platform.gateway.port, rows=[f"{UNKNOWN};{UPPER};{UPPER[:10]};30000"]
        )
        run = await refused.end()
        assert (run.status, run.errors) == (0, "")
    finally:
        await camera.stop()
        await asyncio.to_thread(studio.close)
    await platform.gateway.stop()  # deregisters
    run = await upper.stop()
    assert run.errors == ""
    assert re.search(r"CmdType>Catalog<.*SN>4711<", run.messages, re.DOTALL)
    assert f"DeviceID>{PLATFORM}<" in run.messages
    assert "Expires: 0" in run.messages


async def test_our_wrong_secret_is_refused_and_tried_again_later(platforms: Platforms, sipp: Sipp) -> None:
    port = free_port()
    upper = await sipp.begin("upper", port=port, calls=1000)
    plan = PlatformPlan(PLATFORM, neighbours=(Neighbour(UPPER, Relation.UPPER, "wrong", port),))
    platform: SmallPlatform = await platforms.start(plan)
    await asyncio.sleep(1.0)
    assert not platform.gateway.uppers[UPPER].is_registered
    await platform.gateway.stop()
    run = await upper.stop()
    assert "403 Forbidden" in run.messages
    assert "CmdType>Keepalive" not in run.messages  # nothing is told to who has not taken us
