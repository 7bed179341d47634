"""Asking a device for a key frame when somebody who watches needs one: seldom, and once for all of them.

Implements: GB/T 28181-2022 A.2.3.1.7
A camera makes a key frame every few seconds of its own accord, and at once when it is told to. Who cannot
show a picture until then wants one: a browser that lost packets (PLI, FIR), whoever joined where none is
kept, and platforms above. The command names the device and no stream, so that one is sent for a device in
``EVERY_S`` however many want it; who comes in between is served by the same one. Recordings have no such
command, and what is coded anew here has a key frame every two seconds.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.ids import DeviceId
from tongshi.resources.viewing.ports import Signalling, Timeline

log = structlog.get_logger(__name__)

EVERY_S: Final = 2.0
PATIENCE_S: Final = 1.0  # a first key frame that has not come after this long is asked for
STEP: Final = "keyFrameAsked"

_WHY: Final = {
    "asked": "播放端请求关键帧",
    "dark": "有人等待画面，而没有可用的关键帧",
    "first": "设备已发送数据，一秒内没有关键帧",
    "above": "上级平台请求关键帧",
}


class KeyFrames:
    """One command for a device in ``EVERY_S``, whoever wants it."""

    def __init__(self, signalling: Signalling, clock: Clock, timeline: Timeline) -> None:
        self._signalling = signalling
        self._clock = clock
        self._timeline = timeline
        self._asked: dict[DeviceId, float] = {}  # of the last EVERY_S alone
        self._tasks: set[asyncio.Task[None]] = set()

    def want(self, device_id: DeviceId, trace_id: str, why: str) -> None:
        """Ask in the background, unless the device was asked just now; noted in the stream's timeline."""
        if self._is_due(device_id):
            task = asyncio.get_running_loop().create_task(self._try(device_id, trace_id, why))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def relay(self, device_id: DeviceId, trace_ids: tuple[str, ...]) -> None:
        """Ask for a platform above that was admitted, noted in the timelines of the device's streams here.

        Raises:
            As ``Signalling.ask_key_frame``; nothing when the device was asked just now.
        """
        if self._is_due(device_id):
            await self._ask(device_id, trace_ids, "above")

    async def stop(self) -> None:
        """Give up what is not answered yet."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_due(self, device_id: DeviceId) -> bool:
        """Whether it may be asked now; if so it counts as asked, also when it then refuses."""
        now = self._clock.now()
        self._asked = {one: at for one, at in self._asked.items() if now - at < EVERY_S}
        if device_id in self._asked:
            return False
        self._asked[device_id] = now
        return True

    async def _try(self, device_id: DeviceId, trace_id: str, why: str) -> None:
        try:
            await self._ask(device_id, (trace_id,), why)
        except TongshiError as error:
            log.info("key_frame_refused", device_id=device_id, code=error.code)

    async def _ask(self, device_id: DeviceId, trace_ids: tuple[str, ...], why: str) -> None:
        said, is_trouble = f"{_WHY[why]}，已向设备索要", False
        try:
            await self._signalling.ask_key_frame(device_id)
        except TongshiError as error:
            said, is_trouble = f"{_WHY[why]}，设备没有给出：{error.message}（{error.code}）", True
            raise
        finally:
            for trace_id in trace_ids:
                self._timeline.note(trace_id, STEP, said, is_trouble=is_trouble)
