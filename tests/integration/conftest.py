"""Fixtures of the tests with sockets: small platforms and simulated cameras, of which nothing may be left."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tongshi.clock import SystemClock
from tongshi.testing.camera import Camera
from tongshi.testing.clips import write_clip
from tongshi.testing.node_process import NodeProcess
from tongshi.testing.node_world import PLATFORM
from tongshi.testing.plan import CameraPlan, FleetPlan, Server, configs
from tongshi.testing.scenery import WORLDS
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.studio import Studio


@pytest.fixture(scope="session")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short scene, crossing-day."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "crossing-day.mp4", WORLDS["crossing-day"](), frames=10)
    return folder


class Neighbourhood:
    """Platforms and cameras of one test; all are stopped in the order opposite to their start."""

    def __init__(self, clips: Path, folder: Path, template: Path) -> None:
        self.studio = Studio(clips, SystemClock())
        self._folder = folder
        self._template = template
        self._started: list[Camera | SmallPlatform] = []

    async def platform(self, plan: PlatformPlan) -> SmallPlatform:
        folder = self._folder / str(len(self._started))
        platform = await SmallPlatform.start(plan, folder, self._template)
        self._started.append(platform)
        return platform

    async def restart(self, platform: SmallPlatform) -> SmallPlatform:
        """What stands in the place of a platform that lost its power."""
        place = self._started.index(platform)
        made = self._started[place] = await platform.restart()
        return made

    async def camera(
        self, platform: SmallPlatform, row: CameraPlan, *, secret: str = "", keepalive_s: float = 0.3
    ) -> Camera:
        """Start a camera and wait until the platform knows it by its catalogue."""
        server = Server(
            platform.plan.id, "127.0.0.1", platform.gateway.port, secret or platform.plan.device_secret
        )
        plan = FleetPlan(server=(server,), camera=(row,), keepalive_s=keepalive_s, retry_s=0.5)
        camera = Camera(configs(plan)[0], self.studio)
        self._started.append(camera)
        await camera.start()
        await asyncio.wait_for(camera.registered.wait(), 15.0)
        return camera

    async def until(self, holds: Callable[[], bool], timeout_s: float = 15.0) -> None:
        """Poll a condition for a bounded time."""
        async with asyncio.timeout(timeout_s):
            while not holds():  # noqa: ASYNC110  # what is awaited happens in other processes of the loop
                await asyncio.sleep(0.02)

    async def nothing_left(self, *platforms: SmallPlatform) -> None:
        """Wait until the platforms carry nothing any more."""
        try:
            await self.until(lambda: not any(any(p.carried.values()) for p in platforms))
        except TimeoutError:
            raise AssertionError(f"still there: {[platform.carried for platform in platforms]}") from None

    async def known(self, platform: SmallPlatform, device_id: str, timeout_s: float = 15.0) -> None:
        """Wait until a device is in a platform's archive."""
        async with asyncio.timeout(timeout_s):
            while await platform.devices.find(device_id) is None:  # noqa: ASYNC110  # it is in the database
                await asyncio.sleep(0.02)

    async def catalogue(self, platform: SmallPlatform, peer_id: str) -> None:
        """Have a platform ask a peer for its whole catalogue, again when a starved peer answered too late."""
        for _ in range(5):
            await self.until(lambda: peer_id in platform.gateway.peers)
            outcome = await platform.gateway.catalogues.query(platform.gateway.peers.get(peer_id))  # type: ignore[arg-type]
            if outcome.state == "complete":
                return
        raise AssertionError(f"no complete catalogue of {peer_id}: {outcome}")

    async def close(self) -> None:
        for one in reversed(self._started):
            await one.stop()
        self._started.clear()
        await asyncio.to_thread(self.studio.close)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A media node in a process of its own, for many tests: each platform that comes takes it over."""
    with NodeProcess(tmp_path_factory.mktemp("node"), PLATFORM) as made:
        yield made


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[NodeProcess]:
    """A media node for one test, which may end it."""
    with NodeProcess(tmp_path, PLATFORM) as made:
        yield made


@pytest.fixture
async def neighbourhood(
    one_clip: Path, tmp_path: Path, sqlite_template: Path
) -> AsyncIterator[Neighbourhood]:
    """A place for platforms and cameras. After the test no task, no socket and no command thread is left."""
    before = _sockets()
    made = Neighbourhood(one_clip, tmp_path, sqlite_template)
    yield made
    await made.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not _sockets() - before
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("media-commands")]


def _sockets() -> set[str]:
    """Sockets open now. An engine's two event descriptors live as long as pytest remembers its fixture."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue  # the listing's own
    return {link for link in found if link.startswith("socket:")}
