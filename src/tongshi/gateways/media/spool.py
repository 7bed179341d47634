"""A recording that is being fetched, written to a file as fragmented MP4 or PS and read again while it grows.

Implements: GB/T 28181-2022 9.9
The engine serves the spool like a viewer, from before the device is called, so that nothing of the beginning
is missing. How much time has come is read from the file itself, because a size that a device names is an
estimate or missing. G.711 sound has no place in MP4 and is coded as AAC beside the pictures (``file_sound``);
PS keeps it. Files that a process before this one left are removed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from io import BufferedWriter
from pathlib import Path

import structlog

from tongshi.errors import LimitExceeded, PeerFailed, RemoteViolation
from tongshi.gateways.media.file_sound import FileSound, tapped
from tongshi.protocols.media.fmp4 import TICKS_S, picture_time
from tongshi.resources.viewing.media_ports import Ingest, Tell, Transcoder
from tongshi.resources.viewing.model import FileFormat, SoundOfFile

log = structlog.get_logger(__name__)

MAX_SPOOLS = 64  # downloads at once
MAX_SPOOL_BYTES = 32 << 30  # a day at 3 Mbit/s
READ_BYTES = 256 * 1024
LOOK_S = 1.0
_MAX_MOOF_BYTES = 64 * 1024
_PACK_BYTES = 14


class FragmentClock:
    """How much time a fragmented MP4 spans as it passes by: from the first to the last picture."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0
        self._first: int | None = None
        self._last = 0

    @property
    def seconds(self) -> float:
        return 0.0 if self._first is None else (self._last - self._first) / TICKS_S

    def feed(self, data: bytes) -> None:
        """Take what comes next, however it is cut."""
        data = self._rest + data
        at = 0
        while True:
            if self._skip:
                step = min(self._skip, len(data) - at)
                at, self._skip = at + step, self._skip - step
            if self._skip or len(data) - at < 8:
                break
            size, kind = struct.unpack_from(">I4s", data, at)
            if kind == b"moof" and 8 <= size <= _MAX_MOOF_BYTES:
                if len(data) - at < size:
                    break
                self._note(data[at + 8 : at + size])
                at += size
            else:
                self._skip = max(size, 8)
        self._rest = data[at:]

    def _note(self, moof: bytes) -> None:
        time = picture_time(moof)
        if time is not None:
            self._first = time if self._first is None else self._first
            self._last = max(self._last, time)


class PackClock:
    """How much time a program stream spans as it passes by: from the first to the newest pack of it."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0
        self._first: int | None = None
        self._newest = 0

    @property
    def seconds(self) -> float:
        return self._newest / TICKS_S

    def feed(self, data: bytes) -> None:
        """Take what comes next, however it is cut."""
        data = self._rest + data
        at = 0
        while True:
            if self._skip:
                step = min(self._skip, len(data) - at)
                at, self._skip = at + step, self._skip - step
            if self._skip or len(data) - at < _PACK_BYTES:
                break
            if data[at : at + 4] == b"\x00\x00\x01\xba":
                self._note(int.from_bytes(data[at + 4 : at + 10], "big"))
                self._skip = _PACK_BYTES + (data[at + 13] & 7)
            else:
                self._skip = 6 + int.from_bytes(data[at + 4 : at + 6], "big")
        self._rest = data[at:]

    def _note(self, field: int) -> None:
        """The clock reference of a pack header (ISO/IEC 13818-1 2.5.3.4): 33 bits, which wrap."""
        clock = (field >> 43 & 7) << 30 | (field >> 27 & 0x7FFF) << 15 | field >> 11 & 0x7FFF
        if self._first is None:
            self._first = clock
        passed = (clock - self._first + (1 << 32)) % (1 << 33) - (1 << 32)
        self._newest = max(self._newest, passed)


class FileSpool:
    """One download; see ``viewing.media_ports.Spool``."""

    def __init__(self, path: Path, file_format: FileFormat = FileFormat.MP4) -> None:
        self.path = path
        self._container = file_format.container
        self.size = 0
        self.is_complete = False
        self.done = asyncio.Event()
        self._clock = FragmentClock() if file_format is FileFormat.MP4 else PackClock()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_wanted_whole = False
        self._sound = FileSound() if file_format is FileFormat.MP4 else None

    @property
    def media_s(self) -> float:
        return self._clock.seconds

    @property
    def sound(self) -> SoundOfFile:
        return SoundOfFile() if self._sound is None else self._sound.told

    async def begin(self, ingest: Ingest) -> None:
        if self._sound is not None:
            await self._sound.begin(ingest)
        ours = await tapped(ingest, self._container)
        self._task = asyncio.get_running_loop().create_task(self._receive(ours))

    async def give_sound(self, codec: str, transcoder: Transcoder | None, tell: Tell) -> None:
        if self._sound is not None:
            await self._sound.decide(codec, transcoder, tell)

    def sender_finished(self) -> None:
        self._is_wanted_whole = True

    async def read(self) -> AsyncIterator[bytes]:
        offset = 0
        while True:
            self._changed.clear()
            data = await asyncio.to_thread(_read_at, self.path, offset)
            if data:
                offset += len(data)
                yield data
            elif self.done.is_set():
                break
            else:
                await _soon(self._changed)
        if not self.is_complete:
            raise PeerFailed("下载中断，文件不完整", code=50201)

    async def discard(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._sound is not None:
            await self._sound.end()
        self.done.set()
        self._changed.set()
        await asyncio.to_thread(self.path.unlink, missing_ok=True)

    async def _receive(self, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            with await asyncio.to_thread(self.path.open, "ab") as file:
                while data := await loop.sock_recv(ours, READ_BYTES):
                    self._clock.feed(data)
                    await self._write(file, data if self._sound is None else self._sound.beside(data))
                if self._sound is not None and self._is_wanted_whole:
                    await self._write(file, await self._sound.rest())
            self.is_complete = self._is_wanted_whole and self.size > 0
        except OSError as error:
            log.warning("download_not_written", error=str(error))
        except RemoteViolation as violation:
            log.warning("download_not_understood", error=violation.message)
        finally:
            ours.close()
            self.done.set()
            self._changed.set()

    async def _write(self, file: BufferedWriter, data: bytes) -> None:
        """Raises OSError: the disk does not take it, or it is too much."""
        if not data:
            return
        if self.size + len(data) > MAX_SPOOL_BYTES:
            raise OSError(errno.EFBIG, "a download of this size is not kept")
        await asyncio.to_thread(_append, file, data)
        self.size += len(data)
        self._changed.set()


class FileSpools:
    """Makes spools below one folder; see ``viewing.media_ports.Spools``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: set[FileSpool] = set()
        self._is_swept = False

    def make(self, name: str, file_format: FileFormat = FileFormat.MP4) -> FileSpool:
        self._open = {spool for spool in self._open if not spool.done.is_set()}
        if len(self._open) >= MAX_SPOOLS:
            raise LimitExceeded("同时进行的录像下载过多", code=42904, retry_after_s=30)
        if not self._is_swept:
            self._is_swept = True
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in [one for kind in FileFormat for one in self._folder.glob(f"*.{kind.value}")]:
                left.unlink(missing_ok=True)
        spool = FileSpool(self._folder / f"{name}.{file_format.value}", file_format)
        self._open.add(spool)
        return spool


def _append(file: BufferedWriter, data: bytes) -> None:
    file.write(data)
    file.flush()


def _read_at(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(READ_BYTES)


async def _soon(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_S):
            await event.wait()
    except TimeoutError:
        pass
