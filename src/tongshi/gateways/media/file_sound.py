"""The sound of a download as MP4: taken from before the device is called, coded as AAC when it is G.711.

The pictures pass untouched; only the sound goes to a process, which takes a place of the transcoders' cap. It
gets all of it from a buffer of ours, so that a fast download is not slowed and nothing is left out. When no
process may begin, or one dies, the file goes on without sound, and ``told`` says so and why.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Final

import structlog

from tongshi.errors import TongshiError
from tongshi.gateways.media.interleaving import MAX_HELD_BYTES, Interleaver
from tongshi.protocols.media.flv import SOUND, FlvReader, sound_of
from tongshi.resources.viewing.media_ports import Ingest, SoundCoding, Tell, Transcoder
from tongshi.resources.viewing.model import SoundOfFile

log = structlog.get_logger(__name__)

READ_BYTES: Final = 64 * 1024
MAX_WAITING_BYTES: Final = 4 << 20  # of sound, until it is decided what becomes of it
CODED: Final = ("g711a", "g711u")
FINISH_S: Final = 60.0  # a process that has all of the sound and does not come to its end is ended


async def tapped(ingest: Ingest, container: str) -> socket.socket:
    """The end of a connection on which a stream comes in a container; not blocking."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        await ingest.attach(container, theirs.detach(), b"", lambda reason: None)
    except BaseException:
        ours.close()
        raise
    return ours


class FileSound:
    """Puts the sound of one stream beside its pictures; see the module."""

    def __init__(self) -> None:
        self.told = SoundOfFile()
        self._mixer = Interleaver()
        self._waiting = bytearray()
        self._heard = ""
        self._reader: FlvReader | None = FlvReader()
        self._decided = asyncio.Event()
        self._job: SoundCoding | None = None
        self._tap: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._first_s = 0.0  # of the sound, on the clock of the pictures
        self._is_finishing = self._is_ended = False
        self._tell: Tell = lambda words: None

    async def begin(self, ingest: Ingest) -> None:
        """Take all sound from now on."""
        ours = await tapped(ingest, "flv-audio")
        self._tap = asyncio.get_running_loop().create_task(self._listen(ours))

    async def decide(self, codec: str, transcoder: Transcoder | None, tell: Tell) -> None:
        """What becomes of the sound, once it is known what it is; idempotent. A refusal is no error.

        Args:
            codec: of the sound, "" when none was heard. tell: told when it breaks off in the middle.
        """
        if self._decided.is_set():
            return
        codec, self._tell = codec or self._heard, tell
        if codec in CODED:
            await self._begin_coding(codec, transcoder)
        elif not codec:
            self.told = SoundOfFile(why="声音在下载开始之后才出现")
        if self._job is None:
            self._give_up()
        self._decided.set()

    def beside(self, data: bytes) -> bytes:
        """More of the file of pictures; what may be written now. Raises RemoteViolation: it is no MP4."""
        now = asyncio.get_running_loop().time()
        self._mixer.pictures(data, now)
        if self._mixer.held_bytes > MAX_HELD_BYTES and not self._decided.is_set():
            self.told = SoundOfFile(why="声音的编码没有及时得知")
            self._give_up()
            self._decided.set()
        return self._mixer.take(now)

    async def rest(self) -> bytes:
        """All that is still to be written, once no more pictures come. Raises RemoteViolation."""
        await self._decided.wait()
        if self._tap is not None:
            await asyncio.wait({self._tap}, timeout=FINISH_S)
        if self._job is not None and self._watch is not None:
            self._is_finishing = True
            self._job.finish()
            done, _ = await asyncio.wait({self._watch}, timeout=FINISH_S)
            if not done:
                self._broke_off("转码进程没有及时完成")
            await self._job.end()
        self._mixer.sound_over()
        return self._mixer.take(asyncio.get_running_loop().time())

    async def end(self) -> None:
        """End what runs for it; idempotent."""
        self._is_ended = True
        tasks = [task for task in (self._tap, self._watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._job is not None:
            await self._job.end()

    async def _begin_coding(self, codec: str, transcoder: Transcoder | None) -> None:
        try:
            if transcoder is None:
                self.told = SoundOfFile(why="本平台不能转码")
                return
            job = await transcoder.begin_sound(codec, self._mixer.sound)
        except TongshiError as error:
            log.info("download_without_sound", code=error.code, why=error.message)
            self.told = SoundOfFile(why=error.message)
            return
        if self._is_ended:  # meanwhile
            await job.end()
            return
        self.told = SoundOfFile(coded_from=codec, rate_hz=job.rate_hz)
        self._mixer.sounding(job.rate_hz, asyncio.get_running_loop().time())
        self._job = job
        job.feed(bytes(self._waiting))
        self._waiting.clear()
        self._watch = asyncio.get_running_loop().create_task(self._wait(job))

    async def _wait(self, job: SoundCoding) -> None:
        """A process that ends before its input did has died."""
        await job.ended.wait()
        if job.reason or not self._is_finishing:
            self._broke_off("转码进程异常退出")
        self._mixer.sound_over()
        await job.end()

    def _broke_off(self, why: str) -> None:
        ends_s = self._mixer.sound_s
        if ends_s is None:
            self.told = SoundOfFile(why=why)
        else:
            self.told = replace(self.told, why=why, until_s=round(max(0.0, ends_s - self._first_s), 1))
        self._tell(f"{why}，下载的文件此后没有声音")

    def _give_up(self) -> None:
        self._mixer.silent()
        self._waiting.clear()
        if self._tap is not None:
            self._tap.cancel()

    async def _listen(self, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(ours, READ_BYTES):
                self._hear(data)
                if self._job is not None:
                    self._job.feed(data)
                elif len(self._waiting) + len(data) <= MAX_WAITING_BYTES:
                    self._waiting += data
                else:
                    return
        except OSError as error:
            log.info("download_sound_lost", error=str(error))
        finally:
            ours.close()

    def _hear(self, data: bytes) -> None:
        """Learn what the sound is and when it begins, from its first tag."""
        if self._reader is None:
            return
        for kind, time_ms, content in self._reader.feed(data):
            heard = sound_of(content) if kind == SOUND else None
            if heard is not None:
                self._heard, self._first_s, self._reader = heard.codec, time_ms / 1_000, None
                return
