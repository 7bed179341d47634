"""A platform of a history as its operator sees it from outside: a process to start, to ask and to kill."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tongshi.errors import Unavailable
from tongshi.exchange.model import MAX_BATCH_ITEMS
from tongshi.testing.chaos import child
from tongshi.testing.chaos.journal import Broken
from tongshi.testing.chaos.storm import Died
from tongshi.testing.postgres import PrivatePostgres

# Longer than any fault lasts.
PATIENCE_S = 60.0
_AGAIN_S = 0.05
_FULL_AT_BYTES = 4096
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tongshi.testing.chaos.child"])


class ProcessNode:
    """One platform; ``open`` it first. What is asked waits out deaths and outages, and may be done twice."""

    def __init__(
        self, platform_id: str, url: str, server: PrivatePostgres | None, batch_items: int = MAX_BATCH_ITEMS
    ) -> None:
        self.id = platform_id
        self.clock = child.StepClock()
        self.db = _FarDatabase(self)
        self.port = 0
        self._url = url
        self._server = server
        self._batch_items = batch_items
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._alive = asyncio.Event()
        self._pipe: Connection | None = None
        self._process: Any = None
        self._expects_death = False

    async def open(self) -> None:
        """Start its process, again and again while its database is away."""
        ends_at = time.monotonic() + PATIENCE_S
        while not await self._start():
            if time.monotonic() > ends_at:
                raise Broken(f"{self.id} does not start")
            await asyncio.sleep(_AGAIN_S)
        self._expects_death = False
        self._alive.set()

    async def kill(self) -> None:
        """``kill -9``, whatever it does at the moment."""
        self._expects_death = True
        self._alive.clear()
        os.kill(self._process.pid, signal.SIGKILL)
        await self._buried()

    async def close(self) -> None:
        """End it in order."""
        self._expects_death = True
        self._alive.clear()
        if self._pipe is not None:
            self._forget_pipe()
            await asyncio.to_thread(self._process.join, 10)
            if self._process.is_alive():
                os.kill(self._process.pid, signal.SIGKILL)
                await asyncio.to_thread(self._process.join)

    async def ask(self, what: str, *arguments: object) -> Any:
        """Let it do something, until it is done."""
        ends_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + PATIENCE_S):
                    await self._alive.wait()
                    return await self._ask(what, arguments)
            except (Died, Unavailable) as error:
                if time.monotonic() > ends_at:
                    raise Broken(f"{self.id} does not answer {what}: {error}") from error
                await asyncio.sleep(_AGAIN_S)
            except TimeoutError as error:
                raise Broken(f"{self.id} does not answer {what}") from error

    async def step_clock(self, offset_s: float) -> None:
        """Set its wall clock off the machine's."""
        self.clock.offset_s = offset_s
        await self.ask("clock.step", offset_s)

    def limit_disk(self, is_full: bool) -> None:
        """No file of it, or of its database server, may grow: each write beyond is refused by the kernel."""
        if self._server is not None:
            self._server.limit_files(_FULL_AT_BYTES if is_full else None)
            return
        with contextlib.suppress(ProcessLookupError):
            limit = _FULL_AT_BYTES if is_full else resource.RLIM_INFINITY
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    async def hold_database(self, seconds: float) -> None:
        """SQLite: another program holds the write lock for so long."""
        await asyncio.to_thread(_hold, self._url.removeprefix("sqlite:///"), seconds)

    async def _start(self) -> bool:
        ours, theirs = _context.Pipe()
        arguments = (theirs, self.id, self._url, self.clock.offset_s, self._batch_items)
        self._process = _context.Process(target=child.run, args=arguments, name=f"platform-{self.id}")
        await asyncio.to_thread(self._process.start)
        theirs.close()
        try:
            self.port = await asyncio.to_thread(ours.recv)
        except (EOFError, OSError):
            ours.close()
            await asyncio.to_thread(self._process.join)
            if self._process.exitcode not in (child.NO_DATABASE, -signal.SIGKILL):
                raise Broken(f"{self.id} ended with {self._process.exitcode} while starting") from None
            return False
        self._pipe = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)
        return True

    async def _ask(self, what: str, arguments: tuple[object, ...]) -> Any:
        if self._pipe is None:
            raise Died(self.id)
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._pipe.send((number, what, arguments))
            return await future
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Died(self.id) from error
        finally:
            self._waiting.pop(number, None)

    def _read(self) -> None:
        assert self._pipe is not None
        try:
            number, is_done, told = self._pipe.recv()
        except (EOFError, OSError):
            self._forget_pipe()
            return
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if is_done:
            future.set_result(told)
        else:
            future.set_exception(told)

    def _forget_pipe(self) -> None:
        if self._pipe is not None:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._pipe = None
        error: Exception = Died(self.id)
        if not self._expects_death:
            error = Broken(f"the process of {self.id} ended by itself")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    async def _buried(self) -> None:
        await asyncio.to_thread(self._process.join)
        self._forget_pipe()


class _FarDatabase:
    """``Database`` of a platform in another process; the work is sent by name."""

    def __init__(self, node: ProcessNode) -> None:
        self._node = node

    async def read(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await self._node.ask("db.read", work, *arguments)

    async def write(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await self._node.ask("db.write", work, *arguments)


def _hold(path: str, seconds: float) -> None:
    assert Path(path).exists()
    connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    finally:
        connection.close()
