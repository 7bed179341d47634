"""A whole platform of a history in a process of its own: REST over a socket, and the worker that pushes.

It does what its parent asks over a pipe: ``(number, what, arguments)`` is answered by
``(number, is_done, result)``. That is the operator's hand; platforms speak to each other over HTTP only.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from inspect import isawaitable
from multiprocessing.connection import Connection
from operator import attrgetter
from typing import Any

import uvicorn

from tongshi.clock import SystemClock
from tongshi.errors import TongshiError, Unavailable
from tongshi.exchange.worker import Worker
from tongshi.observe import logs
from tongshi.storage.engine import Database
from tongshi.storage.runner import Limits
from tongshi.testing.rest_platform import RestPlatform

# Ends so when its database is away at the start; whoever started it tries again.
NO_DATABASE = 3
_LIMITS = Limits(readers=2, patience_s=2.0)


class StepClock(SystemClock):
    """The machine's clock, ahead or behind."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s

    def at(self) -> datetime:
        return super().at() + timedelta(seconds=self.offset_s)

    async def step(self, offset_s: float) -> None:
        """Stand so far from the machine's clock from now on."""
        self.offset_s = offset_s


def run(pipe: Connection, platform_id: str, url: str, offset_s: float, batch_items: int) -> None:
    """Target of a process; ends when the pipe does."""
    logs.configure("critical", "text", sys.stderr)
    try:
        asyncio.run(_serve(pipe, platform_id, url, StepClock(offset_s), batch_items))
    except Unavailable:
        os._exit(NO_DATABASE)


async def _serve(pipe: Connection, platform_id: str, url: str, clock: StepClock, batch_items: int) -> None:
    db = await Database.open(url, migrate=False, limits=_LIMITS)
    platform = await RestPlatform.open(platform_id, db, clock)
    parties = db, clock, platform.platforms, platform.exchange
    worker = Worker(*parties, interval_s=1.0, batch_items=batch_items)
    config = uvicorn.Config(platform.asgi, host="127.0.0.1", port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn tells by this flag only
        await asyncio.sleep(0.005)
    await worker.start()
    pipe.send(server.servers[0].sockets[0].getsockname()[1])
    parts: dict[str, Any] = {
        "db": db,
        "clock": clock,
        "exchange": platform.exchange,
        "platforms": platform.platforms,
        "admit": platform.admit,
        "worker": worker,
    }
    asked: set[asyncio.Task[None]] = set()
    while True:
        try:
            number, what, arguments = await asyncio.to_thread(pipe.recv)
        except (EOFError, OSError):
            break
        task = asyncio.create_task(_answer(pipe, number, attrgetter(what)(_Parts(parts)), arguments))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await worker.stop()
    server.should_exit = True
    await serving
    await platform.close()


class _Parts:
    def __init__(self, parts: dict[str, Any]) -> None:
        self.__dict__.update(parts)


async def _answer(pipe: Connection, number: int, ask: Any, arguments: tuple[Any, ...]) -> None:
    try:
        result = ask(*arguments)
        told = (number, True, await result if isawaitable(result) else result)
    except TongshiError as error:
        told = (number, False, error)
    except Exception as error:  # noqa: BLE001  # who asked is told; an exception of another library may not travel
        told = (number, False, RuntimeError(f"{type(error).__name__}: {error}"))
    # Who asked may be gone.
    with suppress(OSError):
        pipe.send(told)
