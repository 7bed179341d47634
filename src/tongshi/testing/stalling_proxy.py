"""Stands before a node's control interface and lets it hang: connections are taken, answers do not come."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Self

HOST = "127.0.0.1"
DRIP_S = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
_CHUNK = 64 * 1024


class Stall(Enum):
    """How it hangs."""

    NONE = auto()
    SILENT = auto()  # nothing is answered, nor heard
    HEAD = auto()  # the head of an answer, and no more
    DRIP = auto()  # a head, and a byte now and then: each wait is short
    UNANSWERED = auto()  # what is asked is done there; the answer is lost


class StallingProxy:
    """Listens on loopback before ``port``; ``stall`` may change while connections are open."""

    def __init__(self, port: int) -> None:
        self.stall = Stall.NONE
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection(HOST, self._target)
        self._spawn(self._ask(reader, writer, to))
        self._spawn(self._answer(there, writer))

    async def _ask(
        self, asked: asyncio.StreamReader, back: asyncio.StreamWriter, to: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await asked.read(_CHUNK):
                if self.stall in (Stall.NONE, Stall.UNANSWERED):
                    to.write(data)
                elif self.stall in (Stall.HEAD, Stall.DRIP):
                    back.write(HEAD)
                    if self.stall is Stall.DRIP:
                        self._spawn(_drip(back))
        finally:
            to.close()
            back.close()

    async def _answer(self, there: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            while data := await there.read(_CHUNK):
                if self.stall is Stall.NONE:
                    back.write(data)
        finally:
            if self.stall is Stall.NONE:
                back.close()  # else it hangs on, whatever the node does

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who hung up: no more is to be said


async def _drip(back: asyncio.StreamWriter) -> None:
    while not back.is_closing():
        back.write(b" ")
        await asyncio.sleep(DRIP_S)
