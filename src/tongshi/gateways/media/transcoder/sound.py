"""A process that codes sound as AAC for a file: FLV of our engine in, AAC frames with their times out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tongshi.gateways.media.transcoder.pipe import SOUND_HEAD
from tongshi.gateways.media.transcoder.process import Work

RATE_HZ: Final = 16_000
MAX_FRAME_BYTES: Final = 8_192  # of one channel AAC allows 768
MAX_BEHIND_BYTES: Final = 16 << 20  # a quarter of an hour of sound that waits for it

Take = Callable[[int, bytes], None]


class SoundJob(Work):
    """Fulfils ``viewing.media_ports.SoundCoding``.

    Args:
        take: told each frame's time in samples and its bytes, in order.
    """

    rate_hz = RATE_HZ

    def __init__(self, forget: Callable[[Work], None], failed: Callable[[], None], take: Take) -> None:
        super().__init__(forget, failed)
        self._take = take

    async def begin(self) -> None:
        """Start the process. Raises Unavailable: the system did not let us (50302)."""
        try:
            await self._start(("sound", str(RATE_HZ)), asyncio.subprocess.PIPE)
        except BaseException:
            await self.end()
            raise

    def feed(self, data: bytes) -> None:
        """Some more of the FLV. One that does not read is ended, and says why."""
        if self.ended.is_set() or self._process is None:
            return
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(data)
        if pipe.transport.get_write_buffer_size() > MAX_BEHIND_BYTES:
            self.reason = "the process does not read"
            with suppress(ProcessLookupError):
                self._process.kill()

    def finish(self) -> None:
        """No more comes: it codes what it has, and ends by itself."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with suppress(asyncio.IncompleteReadError):
            while True:
                at, size = SOUND_HEAD.unpack(await process.stdout.readexactly(SOUND_HEAD.size))
                if at < 0 or not 0 < size <= MAX_FRAME_BYTES:
                    self.reason = "what the process wrote is no sound"
                    process.kill()
                    return
                self._take(at, await process.stdout.readexactly(size))
