"""A stream coded anew as a call to a process of ours: it holds its source, and is one stream for all viewers.

Implements: DB31DSJ/Z 001-2024 Table E.2
To the pool it is a call like one to a device; it ends when its last viewer left, when its source ends, or
when the process dies, and says which. A recording that came to its end is coded to its last picture first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from tongshi.errors import TongshiError, Unprocessable
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing.media_ports import Ingest, Transcoder, TranscodingJob
from tongshi.resources.viewing.model import Codec, Coding, EndReason, Transcoding

FINISH_S: Final = 5.0  # what the process has still to do when its input is over


def cannot_transcode(why: str, wish: Transcoding) -> Unprocessable:
    """Nothing is coded anew here; the words say it of the field that would have needed it."""
    if wish.asked_by == "audio":
        why = f"{why}，不能去掉声音，请不要指定 audio，改在播放端静音"
        return Unprocessable(why, code=42203, field="audio", details={"supported": [True]})
    return Unprocessable(why, code=42203, field="transcode", details={"supported": ["none"]})


class TranscodedCall:
    """Fulfils ``ports.LiveCall``; ``end_reason`` and ``trouble`` say why it ended by itself."""

    def __init__(self, source: Codec, release: Callable[[], None]) -> None:
        self.ssrc: int | None = secrets.randbelow(1 << 32)
        self.media_host, self.media_port = "", 0
        self.payload_types: tuple[RtpMap, ...] = ()
        self.ended = asyncio.Event()
        self.end_reason = EndReason.TRANSCODE_FAILED
        self.trouble = ""
        self.source = source
        self._release = release
        self._job: TranscodingJob | None = None
        self._watch: asyncio.Task[None] | None = None
        self._finishing: asyncio.TimerHandle | None = None

    async def begin(self, transcoder: Transcoder, source: Ingest, wish: Transcoding, target: Ingest) -> None:
        """Start coding. Whatever is raised, nothing is left."""
        assert self.ssrc is not None
        try:
            job = self._job = await transcoder.begin(
                source, self.source, wish, target.host, target.port, self.ssrc
            )
        except BaseException:
            self._release()
            raise
        self._watch = asyncio.get_running_loop().create_task(self._wait(job))

    def source_lost(self, reason: EndReason, error: TongshiError | None) -> None:
        """The stream that is coded anew has ended."""
        self.end_reason = reason
        if reason is EndReason.FINISHED and not self.ended.is_set():
            # The process reads its input to the end and then ends by itself.
            self._finishing = asyncio.get_running_loop().call_later(FINISH_S, self.ended.set)
        else:
            self.ended.set()

    async def figures(self) -> Coding:
        """How it stands; nothing before it began."""
        return Coding() if self._job is None else await self._job.figures()

    async def end(self) -> None:
        if self._finishing is not None:
            self._finishing.cancel()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._job is not None:
            await self._job.end()
        self._release()

    async def _wait(self, job: TranscodingJob) -> None:
        await job.ended.wait()
        self.trouble = job.reason
        self.ended.set()
