"""Plays own recordings as a device would: into a receiving end of the engine, steered in the same words.

Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 9.9
Implements: GB/T 28181-2022 Annex B
Every session has a player of its own, so that two viewers of one recording do not disturb each other. The
clock of what is sent runs evenly at every speed and over every jump, as RTSP asks; a download keeps the
recording's own, so that its file has its true length. Fast forward past 4 and everything backward shows key
frames only; sound is sent at speed 1. A picture stands before its position's group, at most one group early.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, NotFound, RemoteViolation, TongshiError, Unavailable
from tongshi.gateways.media.recording_files import Shelves
from tongshi.gateways.media.reel import Reel, Shown
from tongshi.protocols.gb28181.mansrtsp import Command, Method, Reply
from tongshi.protocols.gb28181.records import RecordFile, RecordType
from tongshi.protocols.media.codecs import RtpMap
from tongshi.protocols.media.program_stream import CLOCK_HZ, Packetizer, restamp
from tongshi.resources.recordings.model import Segment
from tongshi.resources.recordings.record import RecordingRecord
from tongshi.resources.viewing.ports import HistoryRequest
from tongshi.resources.viewing.recordings import Found, Search

log = structlog.get_logger(__name__)

MAX_PLAYERS = 500
FASTEST_WHOLE = 4.0  # past this speed only key frames are sent
SLOWEST, FASTEST = 0.125, 8.0
FRAME_TICKS = 3_600  # from one picture to the next across a jump: 25 a second
LONGEST_LAG_S = 0.5
CONNECT_S = 5.0
_NO_OPTION, _BAD_RANGE = 551, 457


class _Tempo:
    """Which moment of the stream's clock, and of ours, a position is sent at."""

    def __init__(self, now: float, position_s: float, ticks: int, scale: float, stretch: float) -> None:
        self._now, self._position_s, self._ticks = now, position_s, ticks
        self._scale, self._stretch = scale, stretch

    def ticks(self, position_s: float) -> int:
        """The stream's clock."""
        passed_s = (position_s - self._position_s) / self._scale
        return self._ticks + round(passed_s * CLOCK_HZ)

    def due(self, ticks: int) -> float:
        """Our clock."""
        return self._now + (ticks - self._ticks) / CLOCK_HZ / self._stretch

    def late(self, by_s: float) -> None:
        """It could not be sent in time: what follows does not hurry."""
        self._now += by_s


class Player:
    """One recording to one receiver; fulfils ``viewing.ports.HistoryCall``."""

    def __init__(self, reel: Reel, clock: Clock, download_speed: int | None) -> None:
        self._reel, self._clock = reel, clock
        self._speed = float(download_speed or 1)
        self._is_download = download_speed is not None
        self.ssrc: int | None = secrets.randbits(31)
        self.media_host, self.media_port = "", 0
        self.payload_types: tuple[RtpMap, ...] = ()
        self.ended, self.finished = asyncio.Event(), asyncio.Event()
        self.file_size = reel.size_bytes if self._is_download else None
        self._packetizer = Packetizer(self.ssrc)
        self._position_s = max(0.0, reel.groups[0].at_s)
        self._scale = 1.0
        self._is_paused = False
        self._changed = asyncio.Event()
        self._frames: AsyncIterator[Shown] | None = None
        self._held: Shown | None = None
        self._tempo: _Tempo | None = None
        self._ticks = 0  # of the last picture
        self._stepping: asyncio.Future[float] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, host: str, port: int) -> None:
        """Begin to play."""
        self._task = asyncio.get_running_loop().create_task(self._run(host, port))

    async def end(self) -> None:
        """Stop; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.ended.set()

    async def steer(self, command: Command) -> Reply:
        """Do what a device does."""
        if self.ended.is_set() or self.finished.is_set():
            raise Unavailable("回放已结束")
        refusal = self._refusal(command)
        if refusal:
            return Reply(status=refusal, cseq=command.cseq)
        if command.method is Method.PAUSE:
            self._is_paused = True
        elif command.method is Method.PLAY:
            self._play(command)
        self._changed.set()
        ticks = (self._ticks + FRAME_TICKS) & 0xFFFFFFFF  # of the next picture, wherever it is
        return Reply(
            cseq=command.cseq,
            scale=command.scale,
            span=command.span,
            seq=self._packetizer.sequence,
            rtptime=ticks,
        )

    async def step(self) -> float:
        """Show the next picture and stand; where it is."""
        if self.ended.is_set() or self.finished.is_set():
            raise Unavailable("回放已结束")
        self._is_paused = True
        if self._stepping is None:
            self._stepping = asyncio.get_running_loop().create_future()
        self._changed.set()
        return await asyncio.shield(self._stepping)

    def _refusal(self, command: Command) -> int:
        span = command.span
        if span is not None and span.start is not None and not 0 <= span.start <= self._reel.length_s:
            return _BAD_RANGE
        if command.scale is not None and not SLOWEST <= abs(command.scale) <= FASTEST:
            return _NO_OPTION
        return 0

    def _play(self, command: Command) -> None:
        self._is_paused, self._tempo = False, None
        kind = self._manner
        if command.scale is not None:
            self._scale = command.scale
        if command.span is not None and command.span.start is not None:
            self._position_s = command.span.start
        elif kind == self._manner:
            return
        self._frames = self._held = None

    @property
    def _manner(self) -> tuple[bool, bool]:
        """Backward, and key frames only: a change begins anew at a key frame."""
        return self._scale < 0, abs(self._scale) > FASTEST_WHOLE

    async def _run(self, host: str, port: int) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(host, port)
            await self._send_all(writer)
            self.finished.set()
        except (OSError, TimeoutError) as error:
            log.info("own_playback_receiver_gone", error=str(error))
        except (TongshiError, RemoteViolation) as error:
            log.warning("own_playback_failed", error=error.message)
        except Exception:
            log.exception("own_playback_crashed")
        finally:
            if self._stepping is not None and not self._stepping.done():
                self._stepping.set_exception(Unavailable("回放已结束"))
            if not self.finished.is_set():
                self.ended.set()
            if writer is not None:
                await _closed(writer, self.finished.is_set())

    async def _send_all(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._changed.clear()
            if self._is_paused and self._stepping is None:
                await self._changed.wait()
                continue
            shown = self._held or await self._next()
            if shown is None:
                return
            self._held = shown
            if self._stepping is not None:
                await self._send(writer, shown, is_stepping=True)
            elif await self._is_due(shown):
                await self._send(writer, shown, is_stepping=False)

    async def _next(self) -> Shown | None:
        if self._frames is None:
            is_back, keys_only = self._manner
            self._frames = (
                self._reel.backward(self._position_s)
                if is_back
                else self._reel.forward(self._position_s, keys_only=keys_only)
            )
            self._tempo = None
        return await anext(self._frames, None)

    async def _is_due(self, shown: Shown) -> bool:
        """Wait for a frame's time; False when something was said meanwhile."""
        now = self._clock.now()
        if self._tempo is None or (shown.jumps and shown.pack.is_video):
            ticks = self._ticks + FRAME_TICKS
            scale = 1.0 if self._is_download else self._scale
            self._tempo = _Tempo(now, shown.at_s, ticks, scale, self._speed)
        due = self._tempo.due(self._tempo.ticks(shown.at_s))
        if now - due > LONGEST_LAG_S:
            self._tempo.late(now - due)
        elif due > now:
            try:
                async with asyncio.timeout(due - now):
                    await self._changed.wait()
                return False
            except TimeoutError:
                pass
        return True

    async def _send(self, writer: asyncio.StreamWriter, shown: Shown, *, is_stepping: bool) -> None:
        self._held = None
        pack = shown.pack
        if not pack.is_video and (self._scale != 1.0 or is_stepping):
            return
        if is_stepping or self._tempo is None:
            ticks, self._tempo = self._ticks + FRAME_TICKS, None
        else:
            ticks = self._tempo.ticks(shown.at_s)
        if pack.is_video:
            self._ticks, self._position_s = ticks, shown.at_s
        writer.write(self._packetizer.frame(restamp(pack, ticks), ticks))
        await writer.drain()
        if is_stepping and self._stepping is not None:
            if not self._stepping.done():
                self._stepping.set_result(shown.at_s)
            self._stepping = None


class OwnCentre:
    """What this platform recorded itself; fulfils ``viewing.ports.Centre``."""

    def __init__(self, record: RecordingRecord, shelves: Shelves, clock: Clock, self_id: str) -> None:
        self._record, self._shelves, self._clock, self._self_id = record, shelves, clock, self_id
        self._players: set[Player] = set()

    async def search(self, search: Search) -> Found:
        """Segments as files, each at its true times."""
        window = search.window
        if window.kind not in (RecordType.ALL, RecordType.TIME):
            return Found(())
        found = await self._record.listed(search.device_id, window.start, window.end)
        files = tuple(self._file(one) for one in found if one.size_bytes)
        return Found(files, True, len(files))

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> Player:
        """Play into the receiving end named. Raises NotFound (40405), LimitExceeded (42904)."""
        self._players = {player for player in self._players if not player.ended.is_set()}
        if len(self._players) >= MAX_PLAYERS:
            raise LimitExceeded("同时回放的中心录像过多", code=42904, retry_after_s=10)
        window = request.window
        # One segment more at the end, because a row may be behind its file by some seconds.
        found = await self._record.segments(
            request.device_id, window.start, window.end + timedelta(seconds=1)
        )
        chosen = [one for one in found if one.stream_type == request.stream_type] or found
        reel = Reel(self._shelves, chosen, window.start, window.length_s)
        if not reel.groups:
            raise NotFound("该时段没有中心录像", code=40405)
        player = Player(reel, self._clock, request.download_speed)
        self._players.add(player)
        player.start(request.host, request.port)
        return player

    def _file(self, segment: Segment) -> RecordFile:
        return RecordFile(
            device_id=segment.device_id,
            file_path=segment.id,
            start=segment.start,
            end=segment.end,
            kind=RecordType.TIME,
            file_size=segment.size_bytes,
            location=self._self_id,
            stream_number=segment.stream_type,
        )


async def _closed(writer: asyncio.StreamWriter, is_whole: bool) -> None:
    """What was written goes out before the connection closes, when all of it was meant to."""
    if is_whole:
        writer.close()
    else:
        writer.transport.abort()
    try:
        async with asyncio.timeout(CONNECT_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass
