"""A whole platform with its console in a thread of its own, for tests that sit before a browser.

The browser's driver keeps the test's thread, so that the platform and what is simulated beside it need
another.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from tongshi.app.composition import Platform, build
from tongshi.clock import SystemClock
from tongshi.config.sections import (
    AccountSection,
    Config,
    FilesSection,
    MediaSection,
    PlatformSection,
    RecordingSection,
    SignallingSection,
    StorageSection,
)
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraPlan, FleetPlan, Server, configs
from tongshi.testing.rest_platform import PASSWORD
from tongshi.testing.studio import Studio

USER = "admin"
_TIMEOUT_S = 60.0

T = TypeVar("T")
Furnish = Callable[["Served", AsyncExitStack], Awaitable[None]]


def served_config(folder: Path, home: str, name: str, secret: str = "") -> Config:
    """A platform below a folder, on free ports; with a secret, devices of its prefix may register."""
    accounts = (AccountSection(prefix=home[:10], secret=secret),) if secret else ()
    return Config(
        platform=PlatformSection(id=home, name=name),
        storage=StorageSection(url=f"sqlite:///{folder / 'tongshi.db'}"),
        signalling=SignallingSection(port=0, answer_timeout_s=1.5),
        media=MediaSection(http_port=0, first_packet_timeout_s=1.0),
        files=FilesSection(folder=str(folder)),
        recording=RecordingSection(folder=str(folder / "recordings")),
        accounts=accounts,
    )


class Served:
    """A platform that listens on free ports; a context manager.

    Args:
        config: with ports of 0. furnish: puts beside the started platform what the test needs; what it
            enters into the stack ends before the platform does.

    Attributes:
        url: of the console. platform: its parts, to be touched by ``run`` only.
    """

    def __init__(self, config: Config, furnish: Furnish) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served-platform")
        self._stack = AsyncExitStack()
        self._config, self._furnish = config, furnish
        self.platform: Platform
        self.url = ""

    def __enter__(self) -> Served:
        self._thread.start()
        try:
            self.run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the platform's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT_S)

    async def camera(self, stack: AsyncExitStack, row: CameraPlan, clips: Path, secret: str) -> Camera:
        """A camera beside it that has registered; called while it is furnished."""
        studio = Studio(clips, SystemClock())
        stack.push_async_callback(asyncio.to_thread, studio.close)
        server = Server(self._config.platform.id, "127.0.0.1", self.platform.signalling.port, secret)
        plan = FleetPlan(server=(server,), camera=(row,), keepalive_s=0.5, retry_s=0.5)
        camera = Camera(configs(plan)[0], studio)
        await camera.start()
        stack.push_async_callback(camera.stop)
        await camera.registered.wait()
        return camera

    async def _start(self) -> None:
        self.platform = await build(self._config)
        code = await self.platform.start(self._stack)
        await self.platform.accounts.redeem(code or "", USER, PASSWORD)
        await self._furnish(self, self._stack)
        server = uvicorn.Server(
            uvicorn.Config(self.platform.asgi, host="127.0.0.1", port=0, log_config=None, lifespan="off")
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn tells by this flag only
            await asyncio.sleep(0.01)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        async def end() -> None:
            server.should_exit = True
            await serving

        self._stack.push_async_callback(end)
