"""Records what rules ask for: holds the stream, takes it from the engine frame by frame, writes segments.

Whatever is not recorded is a gap with its reason. A stream that fails is tried again, the more rarely the
longer it fails; nothing that happens here ends or delays anybody's picture: the engine leaves frames out for
a recorder that is too slow, as it does for any viewer, and that hole is a gap as well.

A segment's row stands in the record before its file is made, so that a process that dies leaves a named half
segment; the next one cuts it back to its last whole frame or names it lost. Times are this platform's clock:
the frame that came with the least delay says when the first one was taken.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from tongshi.clock import Clock
from tongshi.errors import RemoteViolation, TongshiError, Unavailable
from tongshi.gateways.media.recording_files import Contents, SegmentFile, Shelves
from tongshi.ids import DeviceId
from tongshi.protocols.media.program_stream import CLOCK_HZ, Pack, PackReader
from tongshi.resources.recordings.model import GAP_TEXT, GapReason, Segment, SegmentState, Wanted
from tongshi.resources.recordings.record import RecordingRecord
from tongshi.resources.viewing.model import EndReason, StreamKey, StreamType
from tongshi.resources.viewing.streams import Lease, Lost

log = structlog.get_logger(__name__)

READ_BYTES = 256 * 1024
PROGRESS_S = 10.0
HOLE_S = 2.0  # frames that are missing for longer end the segment, so that the hole shows
MAX_BYTES_OF_SEGMENT = 4 << 30
_ENDED = {
    EndReason.DEVICE_OFFLINE: GapReason.OFFLINE,
    EndReason.MEDIA_LOST: GapReason.MEDIA_LOST,
    EndReason.DEVICE_ENDED: GapReason.MEDIA_LOST,
    EndReason.NODE_LOST: GapReason.MEDIA_LOST,
    EndReason.SHUTDOWN: GapReason.STOPPED,
}


class Streams(Protocol):
    """Viewing, as far as the recorder uses it."""

    async def keep(self, key: StreamKey, on_lost: Lost) -> Lease: ...
    def release(self, lease: Lease) -> None: ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long segments are and how often is looked, in seconds."""

    segment_s: float = 300.0
    look_s: float = 5.0
    retry_s: float = 5.0
    longest_retry_s: float = 60.0
    sweep_s: float = 60.0


@dataclass(frozen=True, slots=True)
class RecorderState:
    """How the recording of one stream stands; ``problem`` is empty while it records."""

    device_id: str
    stream_type: int
    rule_id: str
    since: datetime
    problem: GapReason | None
    detail: str


class Stopped(Exception):
    """Recording ended for a reason that is no error of ours."""

    def __init__(self, reason: GapReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail or GAP_TEXT[reason]


class StreamWriter:
    """Packs of one stream into segments."""

    def __init__(
        self, wanted: Wanted, record: RecordingRecord, shelves: Shelves, clock: Clock, segment_s: float
    ) -> None:
        self._wanted, self._record, self._shelves, self._clock = wanted, record, shelves, clock
        self._segment_s = segment_s
        self._segment: Segment | None = None
        self._file: SegmentFile | None = None
        self._contents = Contents()
        self._zero: datetime | None = None  # the moment that time 0 of the stream is
        self._is_settled = False  # it stands, so that segments which follow each other touch
        self._noted = 0.0
        self._pending: list[bytes] = []
        self._is_prompt = False

    async def take(self, packs: list[Pack], *, is_prompt: bool) -> None:
        """Write frames; ``is_prompt`` says that they came just now and did not wait for us.

        Raises:
            Stopped: the disk is full or does not take them.
        """
        self._is_prompt = is_prompt
        for pack in packs:
            if pack.is_key and self._must_cut(pack):
                await self.finish(end_pts=None if self._is_hole(pack) else pack.pts)
            if self._file is None:
                if not pack.is_key:
                    continue
                await self._begin(pack)
            self._see_time(pack)
            self._contents.take(pack)
            self._pending.append(pack.data)
        await self._flush()
        if self._segment is not None and self._clock.now() - self._noted >= PROGRESS_S:
            await self._note()

    async def finish(self, end_pts: int | None = None) -> None:
        """End the segment at hand, at the frame that begins the next or with its own last frame."""
        segment, file = self._segment, self._file
        if segment is None or file is None:
            return
        await self._flush()
        self._segment = self._file = None
        self._is_settled = True
        digest = await self._shelves.run(file.close)
        whole = self._described(segment, end_pts)
        await self._record.change(replace(whole, digest=digest, state=SegmentState.WHOLE))

    async def abandon(self) -> None:
        """The disk failed in the midst: keep what is whole of the segment, or name it lost."""
        segment, file = self._segment, self._file
        self._segment = self._file = None
        self._pending.clear()
        if segment is None or file is None:
            return
        await self._shelves.run(file.drop)
        await settle(segment, self._record, self._shelves)

    async def _begin(self, pack: Pack) -> None:
        if await self._shelves.is_full():
            raise Stopped(GapReason.DISK_FULL)
        self._contents = Contents()
        if self._zero is None or self._has_drifted(pack):
            self._zero, self._is_settled = self._clock.at() - _time_of(pack), False
        at, rule = self._zero + _time_of(pack), self._wanted.rule
        segment = Segment(
            id=f"{at:%Y%m%d%H%M%S}-{secrets.token_hex(8)}",
            rule_id=rule.id,
            device_id=self._wanted.device_id,
            stream_type=self._wanted.stream_type,
            start=at,
            end=at,
            expires_at=at + timedelta(days=rule.retention_days),
        )
        await self._record.add(segment)
        self._segment, self._noted = segment, self._clock.now()
        try:
            self._file = await self._shelves.begin(segment)
        except OSError as error:
            await self._record.lost(segment, GAP_TEXT[GapReason.STORAGE])
            self._segment = None
            raise _stopped(error) from error

    async def _flush(self) -> None:
        if self._file is None or not self._pending:
            return
        data, self._pending = b"".join(self._pending), []
        try:
            await self._shelves.run(self._file.write, data)
        except OSError as error:
            await self.abandon()
            raise _stopped(error) from error

    async def _note(self) -> None:
        assert self._segment is not None  # asked by take
        self._noted = self._clock.now()
        await self._record.change(self._described(self._segment, None))

    def _described(self, segment: Segment, end_pts: int | None) -> Segment:
        assert self._zero is not None  # set when the segment was begun
        contents, zero = self._contents, self._zero
        start = zero + timedelta(seconds=contents.first_pts / CLOCK_HZ)
        last = contents.end_pts if end_pts is None else end_pts
        end = zero + timedelta(seconds=last / CLOCK_HZ)
        return replace(
            segment,
            start=start,
            end=end,
            expires_at=end + timedelta(days=self._wanted.rule.retention_days),
            size_bytes=contents.size_bytes,
            video=contents.video,
            audio=contents.audio,
            key_frames=contents.key_frames,
        )

    def _must_cut(self, pack: Pack) -> bool:
        if self._file is None:
            return False
        length_s = (pack.pts - self._contents.first_pts) / CLOCK_HZ
        return (
            length_s >= self._segment_s
            or self._contents.size_bytes >= MAX_BYTES_OF_SEGMENT
            or self._is_hole(pack)
            or self._has_drifted(pack)
        )

    def _is_hole(self, pack: Pack) -> bool:
        return self._file is not None and pack.pts - self._contents.last_pts > HOLE_S * CLOCK_HZ

    def _has_drifted(self, pack: Pack) -> bool:
        if self._zero is None or not self._is_prompt:
            return False
        behind = self._clock.at() - _time_of(pack) - self._zero
        return abs(behind.total_seconds()) > HOLE_S

    def _see_time(self, pack: Pack) -> None:
        """A frame that came with less delay than those before it moves the clock of the stream back."""
        assert self._zero is not None  # set when the segment was begun
        if not self._is_settled:
            self._zero = min(self._zero, self._clock.at() - _time_of(pack))


async def settle(segment: Segment, record: RecordingRecord, shelves: Shelves) -> None:
    """A half segment: cut back to its last whole frame, or named lost."""
    repaired = await shelves.repair(segment)
    if repaired is not None:
        await record.change(repaired)
        log.warning("recording_repaired", segment=segment.id, size_bytes=repaired.size_bytes)
        return
    await record.lost(segment, "录像文件丢失或没有完整的画面")
    await shelves.delete(segment)
    log.error("recording_lost", segment=segment.id, device_id=segment.device_id)


class Recorder:
    """Keeps recording what rules ask for, between ``start`` and ``stop``."""

    def __init__(
        self,
        streams: Streams,
        record: RecordingRecord,
        shelves: Shelves,
        clock: Clock,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._streams, self._record, self._shelves, self._clock = streams, record, shelves, clock
        self._rhythm = rhythm or Rhythm()
        self._running: dict[tuple[str, int], tuple[Wanted, asyncio.Task[None]]] = {}
        self._states: dict[tuple[str, int], RecorderState] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def changed(self) -> None:
        """Rules were changed: look now."""
        self._changed.set()

    def states(self) -> list[RecorderState]:
        """How each stream stands, in order of device."""
        return [self._states[key] for key in sorted(self._states)]

    async def start(self) -> None:
        """Settle what a process before this one left half, then begin."""
        for segment in await self._record.unfinished():
            await settle(segment, self._record, self._shelves)
        await self._record.note_stopped(await self._record.wanted())
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._look()), loop.create_task(self._sweep())]

    async def stop(self) -> None:
        """End every segment whole and let go of every stream."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = [task for _, task in self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._running.clear()
        await self._shelves.stop()

    async def turn(self) -> None:
        """Begin what is wanted and end what no longer is."""
        wanted = {(one.device_id, one.stream_type): one for one in await self._record.wanted()}
        for key, (old, task) in tuple(self._running.items()):
            if wanted.get(key) != old:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del self._running[key]
                self._states.pop(key, None)
                if key not in wanted:
                    await self._record.no_longer_wanted(*key)
        for key, one in wanted.items():
            if key not in self._running:
                self._running[key] = (one, asyncio.get_running_loop().create_task(self._keep(one)))

    async def sweep(self) -> None:
        """Delete what may go, then move what is whole to the place beside."""
        await self._record.condemn()
        gone = []
        for segment in await self._record.left_over():
            try:
                await self._shelves.delete(segment)
                gone.append(segment)
            except Unavailable as error:
                log.warning("recording_not_deleted", segment=segment.id, error=error.message)
        if gone:
            await self._record.deleted(gone)
        if self._shelves.has_remote:
            for segment in await self._record.not_moved():
                moved = await self._shelves.move(segment)
                if moved is None:
                    break  # it is not to be reached: the next turn tries again
                await self._record.change(moved)
                await self._shelves.forget_local(segment)
        await self._record.forget_gaps()

    async def _look(self) -> None:
        while True:
            self._changed.clear()
            await _guarded(self.turn, "recorder_turn_failed")
            try:
                async with asyncio.timeout(self._rhythm.look_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _sweep(self) -> None:
        while True:
            await _guarded(self.sweep, "recorder_sweep_failed")
            await asyncio.sleep(self._rhythm.sweep_s)

    async def _keep(self, wanted: Wanted) -> None:
        """Record one stream for as long as it is wanted."""
        wait_s, is_begun = self._rhythm.retry_s, False
        while True:
            begun = self._clock.now()
            try:
                if not is_begun:
                    await self._record.begin(wanted)
                    is_begun = True
                await self._once(wanted)
            except Stopped as stopped:
                await self._problem(wanted, stopped.reason, stopped.detail)
            except TongshiError as error:
                await self._problem(wanted, GapReason.of(error), error.message)
            except Exception:
                log.exception("recording_crashed", device_id=wanted.device_id)
                await self._problem(wanted, GapReason.FAILED, GAP_TEXT[GapReason.FAILED])
            is_lasting = self._clock.now() - begun > self._rhythm.longest_retry_s
            wait_s = self._rhythm.retry_s if is_lasting else wait_s
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._rhythm.longest_retry_s)

    async def _once(self, wanted: Wanted) -> None:
        """Hold the stream and write until it ends, which always raises."""
        ended: list[EndReason] = []
        key = StreamKey(DeviceId(wanted.device_id), StreamType(wanted.stream_type))
        lease = await self._streams.keep(key, lambda reason, _: ended.append(reason))
        try:
            closed = await self._written(wanted, lease)
        except RemoteViolation as violation:
            raise Stopped(GapReason.BAD_MEDIA, violation.message) from violation
        finally:
            self._streams.release(lease)
        if ended:
            raise Stopped(_ENDED.get(ended[0], GapReason.FAILED))
        raise Stopped(GapReason.TOO_SLOW if closed == "stalled" else GapReason.MEDIA_LOST)

    async def _written(self, wanted: Wanted, lease: Lease) -> str:
        """Take what comes until nothing does; why the engine closed."""
        ingest = lease.stream.ingest
        if ingest is None:
            raise Unavailable("视频已被关闭")
        reasons: list[str] = []
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            number = await ingest.attach("ps", theirs.detach(), b"", reasons.append)
            self._note(wanted, None, "")
            writer = StreamWriter(wanted, self._record, self._shelves, self._clock, self._rhythm.segment_s)
            writing = asyncio.get_running_loop().create_task(_write(ours, writer))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                # Not cut off in the midst of a write: the writer sees the end and makes the segment whole.
                ours.shutdown(socket.SHUT_RDWR)
                await asyncio.wait((writing,))
                raise
            finally:
                await asyncio.shield(asyncio.ensure_future(ingest.detach(number)))
        finally:
            ours.close()
        return reasons[0] if reasons else ""

    async def _problem(self, wanted: Wanted, reason: GapReason, detail: str) -> None:
        log.warning("not_recording", device_id=wanted.device_id, reason=reason, detail=detail)
        try:
            await self._record.missing(wanted.device_id, wanted.stream_type, reason, detail)
        except TongshiError as error:
            log.error("recording_gap_not_noted", device_id=wanted.device_id, error=error.message)
        self._note(wanted, reason, detail)

    def _note(self, wanted: Wanted, reason: GapReason | None, detail: str) -> None:
        key = (wanted.device_id, wanted.stream_type)
        old = self._states.get(key)
        is_same = old is not None and old.problem is reason
        since = old.since if is_same and old is not None else self._clock.at()
        self._states[key] = RecorderState(*key, wanted.rule.id, since, reason, detail)


async def _write(ours: socket.socket, writer: StreamWriter) -> None:
    reader, loop = PackReader(), asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(ours, READ_BYTES):
            await writer.take(reader.feed(data), is_prompt=len(data) < READ_BYTES)
        await writer.take(reader.finish(), is_prompt=False)
    finally:
        await writer.finish()


def _time_of(pack: Pack) -> timedelta:
    return timedelta(seconds=pack.pts / CLOCK_HZ)


def _stopped(error: OSError) -> Stopped:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Stopped(GapReason.DISK_FULL if is_full else GapReason.STORAGE, error.strerror or "")


async def _guarded(work: Callable[[], Awaitable[None]], event: str) -> None:
    try:
        await work()
    except TongshiError as error:
        log.warning(event, error=error.message)
    except Exception:
        log.exception(event)
