"""One process of ours that decodes or codes: begun, watched, and ended whatever happens."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from tongshi.errors import Unavailable
from tongshi.resources.viewing.model import Coding

log = structlog.get_logger(__name__)

MEMORY_BYTES: Final = 2 << 30  # address space: FFmpeg maps far more than it uses
MAX_WORDS: Final = 400
_MODULE: Final = "tongshi.gateways.media.transcoder.worker"
# The worker needs nothing of what we know: no secret of the environment goes to it.
_PASSED: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


class Work:
    """One running process that holds a place of the cap until ``end``.

    Args:
        forget: gives the place back; idempotent. failed: told when it died by itself.
    """

    def __init__(self, forget: Callable[[Work], None], failed: Callable[[], None]) -> None:
        self.ended = asyncio.Event()
        self.reason = ""
        self.coding = Coding()  # as of the last time that somebody asked
        self._forget, self._failed = forget, failed
        self._is_ending = False
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def end(self) -> None:
        """End it; idempotent, bounded, never raises."""
        self._is_ending = True
        await self._let_go()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        if self._watch is not None:
            await asyncio.gather(self._watch, return_exceptions=True)
        self._forget(self)

    async def _let_go(self) -> None:
        """Give back what feeds it."""

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Take what it writes, until it writes no more."""
        raise NotImplementedError

    async def _start(self, arguments: tuple[str, ...], stdin: int) -> asyncio.subprocess.Process:
        process = self._process = await start_worker(arguments, stdin, asyncio.subprocess.PIPE)
        self._watch = asyncio.get_running_loop().create_task(self._wait(process))
        return process

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        words, _ = await asyncio.gather(_words(process), self._listen(process))
        await process.wait()
        if process.returncode and not self._is_ending:
            log.warning("transcoder_failed", status=process.returncode, words=words)
            self.reason = self.reason or words or f"status {process.returncode}"
            self._failed()
        self.ended.set()


async def start_worker(arguments: tuple[str, ...], stdin: int, stdout: int) -> asyncio.subprocess.Process:
    """Start a worker. Raises Unavailable: the system did not let us (50302)."""
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            str(MEMORY_BYTES),
            *arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise Unavailable("无法启动转码进程", code=50302, retry_after_s=10) from error


async def _words(process: asyncio.subprocess.Process) -> str:
    """The last of what it says on standard error."""
    assert process.stderr is not None
    said = b""
    while part := await process.stderr.read(4_096):
        said = (said + part)[-MAX_WORDS:]
    return said.decode("utf-8", "replace").strip()
