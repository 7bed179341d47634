"""Files of own recordings: written to the local disk, moved elsewhere when there is an elsewhere, read again.

The disk has threads of its own, a few, so that one that hangs delays recordings and nothing else. A segment's
file is named by its number, which begins with its day, below its device.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from tongshi.errors import NotFound, RemoteViolation, TongshiError, Unavailable
from tongshi.protocols.media.program_stream import CLOCK_HZ, Pack, PackReader
from tongshi.resources.recordings.model import MAX_KEY_FRAMES, KeyFrame, Segment, SegmentState, Storage
from tongshi.resources.recordings.ports import RemoteFiles

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

DISK_THREADS = 4
READ_BYTES = 1 << 20


class SegmentFile:
    """One file that is being written; its calls run on a disk thread, one after the other."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.size = 0
        self._file = path.open("xb", buffering=0)
        self._digest = hashlib.new("sm3")

    def write(self, data: bytes) -> None:
        """Append. Raises OSError: not all of it stands in the file."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> str:
        """Give it to the disk; its SM3 in hexadecimal digits."""
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()

    def drop(self) -> None:
        """Let go of it as it is."""
        self._file.close()


@dataclass(slots=True)
class Contents:
    """What packs told while they passed: for a row of the record."""

    size_bytes: int = 0
    video: str = ""
    audio: str = ""
    first_pts: int = 0
    last_pts: int = 0
    step_pts: int = 3_600  # from one picture to the next, 25 a second until it is seen
    key_frames: tuple[KeyFrame, ...] = ()

    def take(self, pack: Pack) -> None:
        """Count one more pack."""
        if pack.is_key:
            if not self.key_frames:
                self.first_pts = self.last_pts = pack.pts
            if len(self.key_frames) < MAX_KEY_FRAMES:
                frame = KeyFrame(self.size_bytes, (pack.pts - self.first_pts) * 1000 // CLOCK_HZ)
                self.key_frames = (*self.key_frames, frame)
            video, audio = pack.codecs
            self.video, self.audio = video or self.video, audio or self.audio
        if pack.is_video and pack.pts > self.last_pts:
            self.step_pts = min(pack.pts - self.last_pts, CLOCK_HZ)
            self.last_pts = pack.pts
        self.size_bytes += len(pack.data)

    @property
    def end_pts(self) -> int:
        """When the last picture has been shown."""
        return self.last_pts + self.step_pts

    @property
    def length(self) -> timedelta:
        """From the first picture to the end of the last."""
        return timedelta(seconds=(self.end_pts - self.first_pts) / CLOCK_HZ)


class Shelves:
    """The local disk, and what is beside it.

    Args:
        folder: of the files; made when the first is written.
        remote: where whole segments are moved to, None keeps them here.
        min_free_bytes: no segment is begun with less room than this.
    """

    def __init__(self, folder: Path, remote: RemoteFiles | None = None, min_free_bytes: int = 0) -> None:
        self._folder = folder
        self._remote = remote
        self._min_free_bytes = min_free_bytes
        self._disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="recordings")

    @property
    def has_remote(self) -> bool:
        return self._remote is not None

    async def stop(self) -> None:
        """Join the disk's threads and close what is beside."""
        await asyncio.to_thread(self._disk.shutdown)
        if self._remote is not None:
            await self._remote.close()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a thread of the disk."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._disk, lambda: work(*args, **kwargs))

    def path_of(self, segment: Segment) -> Path:
        """Where its file is, or was before it was moved."""
        return self._folder / segment.device_id / segment.id[:8] / f"{segment.id}.ps"

    async def is_full(self) -> bool:
        """Whether there is no room to begin a segment."""
        free = await self.free_bytes()
        return free is not None and free < self._min_free_bytes

    async def free_bytes(self) -> int | None:
        """Room on the local disk; None when it cannot be told."""
        return await self.run(_free_bytes, self._folder)

    async def begin(self, segment: Segment) -> SegmentFile:
        """A new file. Raises OSError."""
        return await self.run(SegmentFile, self.path_of(segment))

    async def read(self, segment: Segment, offset: int, size: int) -> bytes:
        """Bytes of a segment, fewer at its end. Raises NotFound, Unavailable."""
        if segment.storage is Storage.S3 and self._remote is not None:
            return await self._remote.read(segment, offset, size)
        try:
            return await self.run(_read_at, self.path_of(segment), offset, size)
        except FileNotFoundError as error:
            raise NotFound("录像文件已不存在", code=40405) from error
        except OSError as error:
            raise Unavailable("录像文件无法读取", code=50302) from error

    async def delete(self, segment: Segment) -> None:
        """Delete wherever it is. Raises Unavailable: try again later."""
        if segment.storage is Storage.S3 and self._remote is not None:
            await self._remote.delete(segment)
        try:
            await self.run(_unlink, self.path_of(segment))
        except OSError as error:
            raise Unavailable("录像文件无法删除", code=50302) from error

    async def move(self, segment: Segment) -> Segment | None:
        """Move a whole segment to the place beside; as it is then, None when it could not be."""
        if self._remote is None:
            return None
        try:
            await self._remote.put(segment, self.path_of(segment))
        except (TongshiError, OSError) as error:
            log.warning("recording_not_moved", segment=segment.id, error=str(error))
            return None
        return replace(segment, storage=Storage.S3)

    async def forget_local(self, segment: Segment) -> None:
        """The local copy of a segment that was moved goes."""
        try:
            await self.run(_unlink, self.path_of(segment))
        except OSError as error:
            log.warning("recording_copy_left", segment=segment.id, error=str(error))

    async def repair(self, segment: Segment) -> Segment | None:
        """Cut a half segment back to its last whole frame; None when there is no picture in it."""
        try:
            contents, digest = await self.run(_repair, self.path_of(segment))
        except (OSError, RemoteViolation) as error:
            log.warning("recording_not_repaired", segment=segment.id, error=str(error))
            return None
        if not contents.key_frames:
            return None
        return replace(
            segment,
            end=segment.start + contents.length,
            size_bytes=contents.size_bytes,
            video=contents.video,
            audio=contents.audio,
            key_frames=contents.key_frames,
            digest=digest,
            state=SegmentState.REPAIRED,
        )


def _repair(path: Path) -> tuple[Contents, str]:
    contents, reader, digest = Contents(), PackReader(), hashlib.new("sm3")
    with path.open("r+b") as file:
        try:
            while data := file.read(READ_BYTES):
                for pack in reader.feed(data):
                    contents.take(pack)
                    digest.update(pack.data)
        except RemoteViolation as violation:
            log.warning("recording_damaged", path=path.name, at=contents.size_bytes, reason=violation.message)
        file.truncate(contents.size_bytes)
        os.fsync(file.fileno())
    return contents, digest.hexdigest()


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), size, offset)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()  # only when it is empty
    except OSError:
        pass


def _free_bytes(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free
    except OSError:
        return None
