"""``tongshi chaos exchange``: random histories by the thousand, what was thrown at them, and how they ended.

Most run two or three platforms in one process, where a death is a copy of the database as it stands in the
middle of a transaction. Some (``--processes``) run every platform in a process of its own and kill it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from tongshi.observe import logs
from tongshi.storage.engine import Database
from tongshi.testing.chaos.journal import KINDS, Record
from tongshi.testing.chaos.one import TEMPLATE, Plan, Room, run_one
from tongshi.testing.postgres import create_database, private_postgres

SAY_EVERY_S = 5.0
BATCH = 20
# Histories over processes wait more than they work: so many at once.
AT_ONCE = 4
# In memory where there is such a place: thousands of databases that nobody wants to keep.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of its own is made in it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi chaos exchange``."""
    parser.add_argument("--seed", type=int, default=1, help="of all histories (default 1)")
    parser.add_argument("--histories", type=int, default=2_000, help="how many (default 2000)")
    parser.add_argument("--history", type=int, help="replay this one only")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--processes", type=int, default=20, help="so many run each platform in a process and kill it (20)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="histories at once")
    parser.add_argument(
        "--log", type=Path, default=Path("var/chaos-exchange.jsonl"), help="one line of JSON a history"
    )


def run_cli(args: argparse.Namespace) -> int:
    """Run, log and print. Returns 0 when every history ended equal."""
    _be_quiet()
    numbers = range(args.histories) if args.history is None else [args.history]
    began_s = time.monotonic()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    total = _Total()
    with _server(args.engine) as server, args.log.open("wb") as log:
        plan = Plan(args.seed, args.engine, server, args.processes)
        for records in _run_all(plan, numbers, args.jobs):
            total.add(records, log)
            total.say(len(numbers), began_s)
    return total.conclude(args.log, time.monotonic() - began_s)


class _Total:
    """What became of the histories so far."""

    def __init__(self) -> None:
        self._injected: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._forms: Counter[str] = Counter()
        self._failed: list[Record] = []
        self._said_s = time.monotonic()

    def add(self, records: Sequence[Record], log: BinaryIO) -> None:
        for record in records:
            log.write(msgspec.json.encode(record) + b"\n")
            self._forms[record.form] += 1
            self._injected.update(event.what for event in record.injected)
            self._found.update(record.found)
            if record.ended != "equal":
                self._failed.append(record)
        log.flush()

    def say(self, wanted: int, began_s: float) -> None:
        """Progress, now and then: rate and remaining time."""
        now_s, done = time.monotonic(), self._forms.total()
        if now_s - self._said_s < SAY_EVERY_S:
            return
        self._said_s = now_s
        rate = done / (now_s - began_s)
        left_s = (wanted - done) / rate
        text = f"{done} of {wanted}, {len(self._failed)} failed, {rate:.1f}/s, {left_s:.0f} s left"
        print(text, file=sys.stderr, flush=True)

    def conclude(self, log: Path, spent_s: float) -> int:
        """Print the end. Returns the exit code."""
        for what, count in self._injected.most_common():
            print(f"{count:>9} {what}")
        for record in sorted(self._failed, key=lambda r: r.history):
            print(f"FAILED {record.history}: {record.ended}\n  {record.replay}")
        forms = ", ".join(f"{count} {form}" for form, count in sorted(self._forms.items()))
        print(f"{self._forms.total()} histories ({forms}) in {spent_s:.0f} s; what met which: {log}")
        kinds = [kind for kind in KINDS if kind != "promise broken" or self._found[kind]]
        print(", ".join(f"{self._found[kind]} {kind}" for kind in kinds))
        return 1 if self._failed else 0


def run_some(plan: Plan, numbers: Sequence[int]) -> list[Record]:
    """Run histories: those over processes a few at once, the others one after the other in this process."""
    return asyncio.run(_run_some(plan, numbers))


async def _run_some(plan: Plan, numbers: Sequence[int]) -> list[Record]:
    migrating = asyncio.Lock()
    with tempfile.TemporaryDirectory(prefix="tongshi-chaos-", dir=_FOLDER) as folder:
        template = Path(folder) / "template.db"
        await (await Database.open(f"sqlite:///{template}")).close()

        async def one(number: int) -> Record:
            own = Path(folder) / str(number)
            own.mkdir()
            record = await run_one(plan, number, Room(own, template, migrating))
            shutil.rmtree(own)
            return record

        together = [n for n in numbers if plan.form(n) == "processes"]
        records = list(await asyncio.gather(*map(one, together)))
        return records + [await one(n) for n in numbers if plan.form(n) != "processes"]


def _run_all(plan: Plan, numbers: Sequence[int], jobs: int) -> Iterator[list[Record]]:
    together = [n for n in numbers if plan.form(n) == "processes"]
    alone = [n for n in numbers if plan.form(n) != "processes"]
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, context, _be_quiet) as waiting,
        ProcessPoolExecutor(jobs, context, _be_quiet) as working,
    ):
        futures: list[Future[list[Record]]] = [
            pool.submit(run_some, plan, some[first : first + size])
            for pool, some, size in ((waiting, together, AT_ONCE), (working, alone, BATCH))
            for first in range(0, len(some), size)
        ]
        for future in as_completed(futures):
            yield future.result()


def _be_quiet() -> None:
    """What goes wrong here goes wrong on purpose. Histories make no cycles worth looking for all the time."""
    logs.configure("critical", "text", sys.stderr)
    gc.set_threshold(50_000, 50, 100)


@contextmanager
def _server(engine: str) -> Iterator[str]:
    """URL of a PostgreSQL with a migrated template, or nothing for SQLite."""
    if engine == "sqlite":
        yield ""
        return
    with private_postgres() as url:
        asyncio.run(_make_template(url))
        yield url


async def _make_template(server: str) -> None:
    await (await Database.open(await create_database(server, TEMPLATE))).close()
