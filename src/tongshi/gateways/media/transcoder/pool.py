"""Starts the processes that decode, a bounded number at once, and ends each whatever happens.

PyAV is an extra (``tongshi[media]``): without it what needs decoding is refused with the word that says so.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final

import structlog

from tongshi.errors import PeerFailed, Unavailable, Unprocessable
from tongshi.gateways.media.transcoder.process import MAX_WORDS, Work, start_worker
from tongshi.gateways.media.transcoder.sound import SoundJob
from tongshi.resources.viewing.media_ports import Ingest, Reading
from tongshi.resources.viewing.model import SILENT, Codec, Coding, Delivery, Transcoding
from tongshi.resources.viewing.transcoding import cannot_transcode

log = structlog.get_logger(__name__)

STILLS_AT_ONCE: Final = 2
STILL_WAIT_S: Final = 5.0
STILL_S: Final = 15.0
MAX_STILL_BYTES: Final = 16 << 20
DECODABLE: Final = ("h264", "h265")
PASSED_SOUNDS: Final = Delivery.HTTP_FLV.sounds  # what a coder gets comes by FLV; others never reach it
MAX_PIXELS: Final = 3_840 * 2_160  # larger ones are neither decoded in time nor within MEMORY_BYTES for sure
LINE: Final = re.compile(
    rb"^(\d{1,12}) (\d{1,12}) (\d{1,12}) (\d{1,12}) (\d{1,6})\n", re.ASCII | re.MULTILINE
)


@dataclass(slots=True)
class Sums:
    """Pictures of all jobs that ended."""

    taken: int = 0
    made: int = 0
    skipped: int = 0
    undecoded: int = 0

    def plus(self, one: Coding) -> Sums:
        return Sums(
            self.taken + one.taken,
            self.made + one.made,
            self.skipped + one.skipped,
            self.undecoded + one.undecoded,
        )


class Job(Work):
    """One running transcoding; fulfils ``viewing.media_ports.TranscodingJob``."""

    def __init__(self, forget: Callable[[Work], None], failed: Callable[[], None], source: Ingest) -> None:
        super().__init__(forget, failed)
        self._source = source
        self._viewer: int | None = None

    async def figures(self) -> Coding:
        """How it stands now; as it was last, once it has ended."""
        if self._viewer is not None and isinstance(self._source, Reading):
            with suppress(Unavailable):  # an engine that is being shut down
                reading = await self._source.reading(self._viewer)
                if reading is not None:
                    queued = reading.queued_bytes
                    self.coding = replace(self.coding, skipped=reading.skipped, queued_bytes=queued)
        return self.coding

    async def begin(self, arguments: tuple[str, ...]) -> None:
        """Start the process and let the engine feed it."""
        ours, theirs = socket.socketpair()
        try:
            await self._start(arguments, ours.fileno())
            self._viewer = await self._source.attach("flv", theirs.detach(), b"", lambda reason: None)
        except BaseException:
            await self.end()
            raise
        finally:
            ours.close()
            theirs.close()

    async def _let_go(self) -> None:
        await self.figures()
        if self._viewer is not None:
            viewer, self._viewer = self._viewer, None
            await self._source.detach(viewer)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep what it says of itself."""
        assert process.stdout is not None
        said = b""
        while part := await process.stdout.read(4_096):
            said = (said + part)[-MAX_WORDS:]
            if found := LINE.findall(said):
                taken, made, thinned, undecoded, percent = map(int, found[-1])
                self.coding = replace(
                    self.coding,
                    taken=taken,
                    made=made,
                    thinned=thinned,
                    undecoded=undecoded,
                    speed=percent / 100,
                )


class Transcoders:
    """At most ``limit`` transcodings at once; 0 turns them off. See ``viewing.media_ports.Transcoder``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.failed = 0
        self.refused = 0
        self._jobs: set[Work] = set()
        self._ended = Sums()
        self._stills = asyncio.Semaphore(STILLS_AT_ONCE)

    @property
    def running(self) -> int:
        """Transcodings under way."""
        return len(self._jobs)

    @property
    def sums(self) -> Sums:
        """Pictures of all transcodings since the start, as they were last asked."""
        return reduce(Sums.plus, (job.coding for job in self._jobs), self._ended)

    @property
    def least_speed(self) -> float:
        """Of the slowest one under way; not a number when there is none that told it."""
        return min((job.coding.speed for job in self._jobs if job.coding.speed is not None), default=math.nan)

    def check(self, source: Codec, wish: Transcoding) -> None:
        """Whether one more may begin; see ``viewing.media_ports.Transcoder``."""
        if self.limit == 0 or not is_installed():
            reason = _SWITCHED_OFF if self.limit == 0 else _NOT_INSTALLED
            raise cannot_transcode(reason, wish)
        if wish.video and source.width * source.height > MAX_PIXELS:
            raise Unprocessable(
                f"画面为 {source.width}×{source.height}，超过可转码的 3840×2160，请改看子码流",
                code=42203,
                field="transcode.video",
                details={"supported": ["none"], "maxPixels": MAX_PIXELS},
            )
        if wish.audio == "aac" and source.audio and source.audio not in PASSED_SOUNDS:
            message = (
                f"设备的声音编码为 {source.audio}，平台没有它的解码器，不能转码为 AAC；"
                "请在设备上将音频编码改为 G.711 或 AAC，或不要求转码声音"
            )
            raise Unprocessable(message, code=42203, field="transcode.audio", details={"supported": ["none"]})
        if self._is_full():
            raise Unavailable(
                f"转码已满（{self.running}/{self.limit} 路正在进行），请改看子码流，或稍后再试",
                code=50302,
                retry_after_s=10,
                details={"running": self.running, "limit": self.limit},
            )

    async def begin(
        self, source: Ingest, codec: Codec, wish: Transcoding, host: str, port: int, ssrc: int
    ) -> Job:
        """Feed a stream to a process that sends it coded anew to an address of ours; see ``check``."""
        self.check(codec, wish)
        job = Job(self.forget, self._note_failure, source)
        self._jobs.add(job)
        video = wish.video or f"copy-{codec.video}"
        numbers = (wish.width, wish.height, wish.fps, wish.bitrate_kbps)
        await job.begin(("live", host, str(port), str(ssrc), video, _sound(wish, codec), *map(str, numbers)))
        return job

    async def begin_sound(self, codec: str, take: Callable[[int, bytes], None]) -> SoundJob:
        """Begin to code sound for a file; see ``viewing.media_ports.Transcoder``."""
        if self.limit == 0 or not is_installed():
            raise Unprocessable(_SWITCHED_OFF if self.limit == 0 else _NOT_INSTALLED, code=42203)
        if codec not in PASSED_SOUNDS:
            raise Unprocessable(f"平台没有 {codec} 的解码器", code=42203)
        if self._is_full():
            reason = f"转码已满（{self.running}/{self.limit} 路正在进行）"
            raise Unavailable(reason, code=50302, retry_after_s=10)
        job = SoundJob(self.forget, self._note_failure, take)
        self._jobs.add(job)
        await job.begin()
        return job

    async def still(self, gop: bytes, codec: str) -> bytes:
        """The last picture of a group as JPEG.

        Raises:
            Unprocessable: no decoder for it here (42203). Unavailable: too many at once (50302).
            PeerFailed: nothing in it can be decoded (50201).
        """
        if codec not in DECODABLE or not is_installed():
            reason = f"无法解码 {codec or '未知'} 编码的画面" if is_installed() else _NOT_INSTALLED
            raise Unprocessable(reason, code=42203, details={"supported": list(DECODABLE)})
        try:
            async with asyncio.timeout(STILL_WAIT_S):
                await self._stills.acquire()
        except TimeoutError as error:
            raise Unavailable("同时截图的人过多，请稍后再试", code=50302, retry_after_s=5) from error
        try:
            return await _still(gop, codec)
        finally:
            self._stills.release()

    async def stop(self) -> None:
        """End all."""
        for job in tuple(self._jobs):
            await job.end()

    def forget(self, job: Work) -> None:
        """It holds its place no longer; idempotent."""
        if job in self._jobs:
            self._jobs.discard(job)
            self._ended = self._ended.plus(job.coding)

    def _is_full(self) -> bool:
        """Whether no place is free; one who asks for it is refused, which is counted."""
        is_full = self.running >= self.limit
        self.refused += is_full
        return is_full

    def _note_failure(self) -> None:
        self.failed += 1


def _sound(wish: Transcoding, source: Codec) -> str:
    """What the process does with sound. Some that comes later is coded: its kind is told at the start."""
    if wish.audio or not source.audio:
        return {SILENT: "-"}.get(wish.audio, "aac")
    return f"copy-{source.audio}" if source.audio in PASSED_SOUNDS else "-"


_SWITCHED_OFF: Final = "平台已关闭转码"
_NOT_INSTALLED: Final = "平台未安装媒体扩展 tongshi[media]，不能解码和转码"


def is_installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("av") is not None


async def _still(gop: bytes, codec: str) -> bytes:
    process = await start_worker(("still", codec), asyncio.subprocess.PIPE, asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(STILL_S):
            picture, words = await process.communicate(gop)
    except TimeoutError as error:
        raise Unavailable("截图超时", code=50302, retry_after_s=5) from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode or not picture or len(picture) > MAX_STILL_BYTES:
        log.info(
            "still_failed", status=process.returncode, words=words[-MAX_WORDS:].decode("utf-8", "replace")
        )
        raise PeerFailed("画面无法解码，没有得到截图", code=50201)
    return picture
