"""Many cameras in one process: started one after another, watched as one, ended together."""

from __future__ import annotations

import asyncio
import random
import resource
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tongshi.clock import Clock, SystemClock
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraConfig
from tongshi.testing.studio import Studio

log = structlog.get_logger(__name__)

_FILES_A_CAMERA = 6  # SIP socket, connection, media sockets of a few calls
_STOPPED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Figures:
    """A fleet at one moment."""

    cameras: int
    registered: int
    calls: int
    failed: int  # whose port could not be bound


class Fleet:
    """Cameras by code.

    Args:
        configs: who they are. studio: what they share; closed with the fleet.
        starts_per_s: how fast they start, because a thousand at once is no morning any platform sees.
    """

    def __init__(
        self,
        configs: Sequence[CameraConfig],
        studio: Studio,
        clock: Clock | None = None,
        *,
        starts_per_s: float = 100.0,
        seed: int = 1,
    ) -> None:
        rng = random.Random(seed)
        self._studio, self._starts_per_s = studio, starts_per_s
        shared = clock or SystemClock()
        self.cameras = {
            one.id: Camera(one, studio, shared, random.Random(rng.randrange(2**32))) for one in configs
        }
        self._failed: set[str] = set()

    async def start(self) -> None:
        """Load the scenes, then start every camera; one whose port is taken is left out and counted."""
        _allow_files(len(self.cameras) * _FILES_A_CAMERA + 256)
        for scene in sorted({camera.config.scene for camera in self.cameras.values()}):
            await asyncio.to_thread(self._studio.clip, scene)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, (code, camera) in enumerate(self.cameras.items()):
            wait_s = began + number / self._starts_per_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            try:
                await camera.start()
            except OSError as error:
                self._failed.add(code)
                log.error("camera_not_started", device_id=code, error=str(error))

    async def stop(self) -> None:
        """End every camera and the studio."""
        cameras = list(self.cameras.values())
        for begin in range(0, len(cameras), _STOPPED_AT_ONCE):
            part = cameras[begin : begin + _STOPPED_AT_ONCE]
            outcomes = await asyncio.gather(*(camera.stop() for camera in part), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    log.error("camera_not_stopped", error=repr(outcome))
        await asyncio.to_thread(self._studio.close)

    def figures(self) -> Figures:
        """How it stands."""
        cameras = self.cameras.values()
        return Figures(
            cameras=len(self.cameras),
            registered=sum(camera.registered.is_set() for camera in cameras),
            calls=sum(camera.calls.count for camera in cameras),
            failed=len(self._failed),
        )


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
