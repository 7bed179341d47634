"""``tongshi chaos exchange``: random histories by the thousand, and what was thrown at them."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tongshi.observe import logs
from tongshi.storage.engine import Database
from tongshi.testing.chaos.history import BUREAU, CITY, DISTRICT, THREE_SHARE, Broken, History
from tongshi.testing.chaos.node import Node
from tongshi.testing.postgres import create_database, drop_database, private_postgres

SAY_EVERY_S = 5.0
BATCH = 20
# In memory where there is such a place: thousands of databases that nobody wants to keep.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of its own is made in it
_TEMPLATE = "tongshi_template"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of some histories: what was injected, and failures by number."""

    count: int
    injected: Counter[str]
    failures: dict[int, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi chaos exchange``."""
    parser.add_argument("--seed", type=int, default=1, help="of all histories (default 1)")
    parser.add_argument("--histories", type=int, default=2_000, help="how many (default 2000)")
    parser.add_argument("--history", type=int, help="replay this one only")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)


def run_cli(args: argparse.Namespace) -> int:
    """Run and print. Returns 0 when every history ended equal."""
    _be_quiet()
    numbers = range(args.histories) if args.history is None else [args.history]
    began_s = time.monotonic()
    with _server(args.engine) as server:
        told = _run_all(args.seed, numbers, server, args.processes)
    for number, failure in sorted(told.failures.items()):
        print(f"FAILED {failure}")
        print(f"  tongshi chaos exchange --engine {args.engine} --seed {args.seed} --history {number}")
    for what, count in told.injected.most_common():
        print(f"{count:>9} {what}")
    spent_s = time.monotonic() - began_s
    print(f"{told.count} histories, {len(told.failures)} failed, {spent_s:.0f} s")
    return 1 if told.failures else 0


def run_some(seed: int, numbers: Sequence[int], server: str = "") -> Told:
    """Run histories one after the other in this process."""
    return asyncio.run(_run_some(seed, numbers, server))


async def _run_some(seed: int, numbers: Sequence[int], server: str) -> Told:
    injected: Counter[str] = Counter()
    failures: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="tongshi-chaos-", dir=_FOLDER) as folder:
        template = Path(folder) / "template.db"
        await (await Database.open(f"sqlite:///{template}")).close()
        for number in numbers:
            history_folder = Path(folder) / str(number)
            history_folder.mkdir()
            shutil.copy(template, history_folder)
            try:
                injected += await _run_one(seed, number, history_folder, server)
            except Broken as error:
                failures[number] = str(error)
            except Exception as error:  # noqa: BLE001  # whatever else comes out is a failure of this history
                failures[number] = f"{type(error).__name__}: {error}"
            shutil.rmtree(history_folder)
    return Told(len(numbers), injected, failures)


async def _run_one(seed: int, number: int, folder: Path, server: str) -> Counter[str]:
    rng = random.Random(f"{seed}-{number}")  # a history, not a secret
    ids = [BUREAU, DISTRICT, CITY] if rng.random() < THREE_SHARE else [DISTRICT, CITY]
    nodes: list[Node] = []
    made: list[str] = []
    try:
        for platform_id in ids:
            if server:
                made.append(f"chaos_{os.getpid()}_{number}_{platform_id}")
                url = await create_database(server, made[-1], _TEMPLATE)
            else:
                shutil.copy(folder / "template.db", folder / f"{platform_id}.db")
                url = f"sqlite:///{folder}/{platform_id}.db"
            node = Node(platform_id, url)
            await node.open()
            nodes.append(node)
        history = History(nodes, rng)
        await history.run()
        return history.injected
    finally:
        for node in nodes:
            await node.close()
        for name in made:
            await drop_database(server, name)


def _run_all(seed: int, numbers: Sequence[int], server: str, processes: int) -> Told:
    if len(numbers) <= BATCH:
        return run_some(seed, numbers, server)
    injected: Counter[str] = Counter()
    failures: dict[int, str] = {}
    done, began_s = 0, time.monotonic()
    said_s = began_s
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _be_quiet) as pool:
        batches = [numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH)]
        for future in as_completed([pool.submit(run_some, seed, batch, server) for batch in batches]):
            told = future.result()
            done += told.count
            injected += told.injected
            failures.update(told.failures)
            if time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                left_s = (len(numbers) - done) * (said_s - began_s) / done
                text = f"{done} of {len(numbers)}, {len(failures)} failed, {left_s:.0f} s left"
                print(text, file=sys.stderr, flush=True)
    return Told(done, injected, failures)


def _be_quiet() -> None:
    """What goes wrong here goes wrong on purpose."""
    logs.configure("critical", "text", sys.stderr)


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
    await (await Database.open(await create_database(server, _TEMPLATE))).close()
