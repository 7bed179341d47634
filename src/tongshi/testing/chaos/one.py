"""Runs one history, in this process or over processes of its own, and writes its record."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tongshi.exchange.model import MAX_BATCH_ITEMS
from tongshi.storage.engine import Database
from tongshi.testing.chaos.history import BUREAU, CITY, DISTRICT, THREE_SHARE, History
from tongshi.testing.chaos.journal import Broken, Journal, Record
from tongshi.testing.chaos.node import Node
from tongshi.testing.chaos.process_history import ProcessHistory
from tongshi.testing.chaos.process_node import ProcessNode
from tongshi.testing.postgres import PrivatePostgres, create_database, drop_database

TEMPLATE = "tongshi_template"


class _Runs(Protocol):
    @property
    def journal(self) -> Journal: ...

    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What all histories of a run share.

    Attributes:
        server: URL of a PostgreSQL with the migrated database ``TEMPLATE``; empty on SQLite.
        processes: the histories with a smaller number run over processes.
    """

    seed: int
    engine: str
    server: str
    processes: int

    def form(self, number: int) -> str:
        """How a history runs."""
        return "processes" if number < self.processes else "in one process"


@dataclass(frozen=True, slots=True)
class Room:
    """Where a history runs: its own empty folder, a migrated SQLite file, and one who migrates at a time."""

    folder: Path
    template: Path
    migrating: asyncio.Lock


async def run_one(plan: Plan, number: int, room: Room) -> Record:
    """Run a history. A failure is in the record."""
    rng = random.Random(f"{plan.seed}-{number}")  # a history, not a secret
    form = plan.form(number)
    over_processes = form == "processes"
    ids = [DISTRICT, CITY]
    if not over_processes and rng.random() < THREE_SHARE:
        ids.insert(0, BUREAU)
    made = _over_processes if over_processes else _in_one_process
    began_now, ended, found = time.monotonic(), "equal", Counter[str]()
    journal = Journal(lambda: 0.0)
    try:
        async with made(plan, number, ids, rng, room) as history:
            journal = history.journal
            await history.run()
    except Broken as error:
        ended, found = f"broken: {error}", error.found
    except Exception as error:  # noqa: BLE001  # whatever else comes out is a failure of this history
        inner = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        found = inner.found if isinstance(inner, Broken) else Counter({"promise broken": 1})
        ended = f"broken: {inner}" if isinstance(inner, Broken) else f"{type(inner).__name__}: {inner}"
    return Record(
        seed=plan.seed,
        history=number,
        form=form,
        engine=plan.engine,
        platforms=ids,
        took_s=round(time.monotonic() - began_now, 2),
        ended=ended,
        found=dict(found),
        replay=f"tongshi chaos exchange --engine {plan.engine} --seed {plan.seed} --history {number}"
        f" --processes {plan.processes}",
        injected=journal.events,
    )


@asynccontextmanager
async def _in_one_process(
    plan: Plan, number: int, ids: list[str], rng: random.Random, room: Room
) -> AsyncIterator[_Runs]:
    nodes: list[Node] = []
    made: list[str] = []
    try:
        for platform_id in ids:
            if plan.server:
                made.append(f"chaos_{os.getpid()}_{number}_{platform_id}")
                url = await create_database(plan.server, made[-1], TEMPLATE)
            else:
                url = _copied(room, platform_id)
            node = Node(platform_id, url)
            await node.open()
            nodes.append(node)
        yield History(nodes, rng)
    finally:
        for node in nodes:
            await node.close()
        for name in made:
            await drop_database(plan.server, name)


@asynccontextmanager
async def _over_processes(
    plan: Plan, _: int, ids: list[str], rng: random.Random, room: Room
) -> AsyncIterator[_Runs]:
    # A server of its own, that may be stopped; what it acknowledged must survive that.
    server = PrivatePostgres({"synchronous_commit": "on"}) if plan.server else None
    nodes: list[ProcessNode] = []
    batch_items = rng.choice((20, 200, MAX_BATCH_ITEMS))
    try:
        if server is not None:
            # Alembic keeps what it works on in one place a process.
            async with room.migrating:
                await asyncio.to_thread(server.__enter__)
                await (await Database.open(await create_database(server.url, TEMPLATE))).close()
        for platform_id in ids:
            if server is None:
                url = _copied(room, platform_id)
            else:
                url = await create_database(server.url, f"chaos_{platform_id}", TEMPLATE)
            node = ProcessNode(platform_id, url, server, batch_items)
            nodes.append(node)
            await node.open()
        yield ProcessHistory(nodes, rng, server)
    finally:
        for node in nodes:
            await node.close()
        if server is not None:
            server.stop()
            server.__exit__()


def _copied(room: Room, platform_id: str) -> str:
    path = room.folder / f"{platform_id}.db"
    shutil.copy(room.template, path)
    return f"sqlite:///{path}"
