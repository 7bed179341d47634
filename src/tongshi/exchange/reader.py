"""Reads what neighbours tell: little of it here, large pages in a process of its own.

That process is started at the first large page, which is read here meanwhile, and ended when none has come
for a while. If it cannot be had or ends in the middle, the page is read here: slower, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

import msgspec
import structlog

from tongshi.exchange.model import Form
from tongshi.exchange.reading import Items, read_items
from tongshi.exchange.reading_child import LENGTH, unpack

log = structlog.get_logger(__name__)

# Fewer are read sooner than they are handed over.
LARGE = 1_000
# A page takes some tens of milliseconds; the second one waits until the process has started.
PATIENCE_S = 30.0
IDLE_S = 60.0
# An answer is about as long as its page, whose length the web face has bounded.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_FAILURES = (OSError, EOFError, TimeoutError, ValueError, msgspec.MsgspecError)


class Reader:
    """Reads batches and pages. ``close`` ends its process."""

    def __init__(self, large: int = LARGE, idle_s: float = IDLE_S) -> None:
        self._large = large
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._resting: asyncio.TimerHandle | None = None

    @property
    def child_pid(self) -> int | None:
        """The process that reads, while there is one."""
        return None if self._child is None else self._child.pid

    async def read(self, items: Sequence[msgspec.Raw], form: Form) -> Items:
        """Read and digest every item; what is wrong with one is told in ``rejected``."""
        if len(items) >= self._large:
            async with self._turn:
                found = await self._read_there(items, form)
            if found is not None:
                return found
        return await asyncio.to_thread(read_items, items, form)

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._turn:
            self._end()

    async def _read_there(self, items: Sequence[msgspec.Raw], form: Form) -> Items | None:
        """What the process read; None when it only starts, or failed and is gone."""
        if self._resting is not None:
            self._resting.cancel()
        try:
            if self._child is None:
                self._child = await asyncio.to_thread(_start)
                self._rest_later()
                return None
            async with asyncio.timeout(PATIENCE_S):
                found = await asyncio.to_thread(_ask, self._child, items, form)
        except _FAILURES as error:
            log.warning("page_reader_failed", error=type(error).__name__)
            self._end()
            return None
        except BaseException:
            # Cancelled between question and answer: the next question would get this answer.
            self._end()
            raise
        self._rest_later()
        return found

    def _rest_later(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
        self._resting = asyncio.get_running_loop().call_later(self._idle_s, self._end)

    def _end(self) -> None:
        """Kill the process; a thread that waits for it sees its pipes end."""
        if self._resting is not None:
            self._resting.cancel()
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()


def _start() -> subprocess.Popen[bytes]:
    # It needs to find our packages and nothing else of this process's surroundings.
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    child = subprocess.Popen(
        (sys.executable, "-m", "tongshi.exchange.reading_child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=kept,
    )
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return child


def _ask(child: subprocess.Popen[bytes], items: Sequence[msgspec.Raw], form: Form) -> Items:
    """One page there and back. Raises EOFError, OSError, and ValueError when the pipes were closed."""
    if child.stdin is None or child.stdout is None:
        raise EOFError
    question = form.encode() + b"\n[" + b",".join(items) + b"]"
    _write(child.stdin, LENGTH.pack(len(question)))
    _write(child.stdin, question)
    (length,) = LENGTH.unpack(_read(child.stdout, LENGTH.size))
    if length > MAX_ANSWER_BYTES:
        raise EOFError
    return unpack(_read(child.stdout, length))


def _write(pipe: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[pipe.write(left) :]


def _read(pipe: IO[bytes], length: int) -> bytearray:
    found = bytearray(length)
    left = memoryview(found)
    while left:
        count = os.readv(pipe.fileno(), [left])
        if not count:
            raise EOFError
        left = left[count:]
    return found
