"""One picture at a time of a recording whose sender has no word for it.

Implements: DB31DSJ/Z 001-2024 E.2-5
MANSRTSP knows pause and play and nothing between (GB/T 28181-2022 B.1). So what the sender still sends after
a step was asked for is held back in the engine, and each step lets one picture through. When none is left the
sender is told to play, and to pause again as soon as a picture has come; what came with it serves the next
steps. The position is that of the last picture shown and the time between the pictures' own stamps. Stamps of
another speed than 1 may or may not be the recording's (quirk 54): from such a speed the sender is led back to
the position, at speed 1. Every recording has one viewer, so that nobody else is led.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from tongshi.errors import TongshiError, Unavailable, Unprocessable
from tongshi.protocols.gb28181.mansrtsp import Command, Method, Reply, Span
from tongshi.resources.viewing.media_ports import Holding
from tongshi.resources.viewing.ports import HistoryCall

log = structlog.get_logger(__name__)

PIECE_S = 3.0  # for a picture to come after the sender was told to play
LOOK_S = 0.02
CLOCK_HZ = 90_000
USUAL_S = 0.04  # from one picture to the next
LONGEST_S = 1.0  # more is a clock that went on while the sender paused
ACTIONS = ("play", "pause", "resume", "seek", "scale", "stop")


class Stepper:
    """Leads one paused recording on; ``opened`` is set while nothing is held back."""

    def __init__(self, ingest: Holding, call: HistoryCall) -> None:
        self._ingest, self._call = ingest, call
        self.opened = asyncio.Event()
        self.opened.set()
        self._turn = asyncio.Lock()
        self._shown: int | None = None
        self._picture_s = USUAL_S

    async def hold(self) -> None:
        """From now on nothing more is shown."""
        if self.opened.is_set():
            self._shown = await self._ingest.hold()
            self.opened.clear()

    async def let_go(self, *, forget: bool = False) -> None:
        """Show what is held, or forget it, and hold nothing back any more."""
        await self._ingest.let_go(forget=forget)
        self.opened.set()

    async def step(self, position_s: float, scale: float) -> float:
        """Show the next picture of what is held and paused; its position, in seconds.

        Raises:
            Unavailable: there is none, the recording is at its end.
            Unprocessable: the sender plays no piece of it (42203). PeerTimeout, PeerFailed: as ``steer``.
        """
        async with self._turn:
            if scale != 1.0:
                return await self._begin_anew(position_s)
            at = await self._ingest.step()
            if at is None:
                at, _ = await self._fetch(Command(method=Method.PLAY, cseq=0, span=Span(None)))
            return position_s + self._passed_s(at)

    async def play(self, command: Command, position_s: float) -> Reply:
        """Steer on after steps. What the viewer has not seen goes first, unless it is led elsewhere."""
        async with self._turn:
            if self.opened.is_set():
                return await self._call.steer(command)
            leads = command.span is not None and command.span.start is not None
            if command.scale is not None and command.scale < 0 and not leads:
                # The sender stands ahead of what was seen.
                command, leads = msgspec.structs.replace(command, span=Span(position_s)), True
            if self._call.finished.is_set() and not leads:
                reply = Reply(cseq=0)  # everything was sent
            else:
                reply = await self._call.steer(command)
            if reply.is_success:
                await self.let_go(forget=leads)
            return reply

    async def _begin_anew(self, position_s: float) -> float:
        await self._ingest.let_go(forget=True)
        await self._ingest.hold()
        led = Command(method=Method.PLAY, cseq=0, span=Span(round(position_s, 3)), scale=1.0)
        self._shown, reply = await self._fetch(led)
        start = None if reply.span is None else reply.span.start
        return position_s if start is None else start

    async def _fetch(self, command: Command) -> tuple[int, Reply]:
        """Let the sender play until a picture has come; its time and the sender's answer."""
        if self._call.finished.is_set():
            raise Unavailable("录像已到结尾")
        reply = await self._call.steer(command)
        if not reply.is_success:
            raise no_step("设备拒绝在暂停后继续播放，无法逐帧播放")
        try:
            async with asyncio.timeout(PIECE_S):
                at = await self._ingest.step()
                while at is None:
                    await asyncio.sleep(LOOK_S)
                    at = await self._ingest.step()
        except TimeoutError:
            if self._call.finished.is_set():
                raise Unavailable("录像已到结尾") from None
            raise no_step("设备在暂停后没有再送出画面，无法逐帧播放") from None
        finally:
            await self._pause()
        return at, reply

    async def _pause(self) -> None:
        try:
            await self._call.steer(Command(method=Method.PAUSE, cseq=0))
        except TongshiError as error:
            log.info("stepping_pause_failed", code=error.code)  # what comes is held back, within its bound

    def _passed_s(self, at: int) -> float:
        """Recorded time from the last picture shown to this one."""
        passed_s = USUAL_S if self._shown is None else (at - self._shown) / CLOCK_HZ
        self._shown = at
        if 0 < passed_s <= LONGEST_S:
            self._picture_s = passed_s
        return self._picture_s


def no_step(message: str) -> Unprocessable:
    """A step that cannot be had (42203)."""
    return Unprocessable(message, field="action", details={"supported": list(ACTIONS)})
