"""Archives exchanged between two platforms beside the raw load of the same rows: ``tongshi bench exchange``.

Each platform has a process and a database of its own, as two platforms do, and they talk real HTTP on
loopback with signature, validation, digest tree, change feed and audit. The raw figure is one bare bulk
load (an upsert) of the same rows, already in memory, into the same table of a third database on the same
engine, taken in the same run; so the ratio says what the exchange adds, on any machine however busy. Beside
it stands a bare insert into a fourth: what the engine can do with an empty table and nothing to look up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, TypeVar

import httpx2
import msgspec
import uvicorn
from sqlalchemy import Connection, Table, select

from tongshi.clock import SystemClock
from tongshi.errors import PeerTimeout
from tongshi.exchange.client import Link, Packed
from tongshi.exchange.model import Equality
from tongshi.exchange.sender import Sender
from tongshi.exchange.signing import Signer
from tongshi.observe import collector, logs
from tongshi.resources.devices import digest_store
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Relation
from tongshi.storage.bulk import bulk_insert, bulk_upsert, in_key_order
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_archive
from tongshi.testing.postgres import AS_ADVISED, create_database, private_postgres
from tongshi.testing.rest_platform import RestPlatform, sample_archives

_T = TypeVar("_T", bound=msgspec.Struct)
Say = Callable[[str], None]
Load = Callable[[Connection, Table, Sequence[str], Sequence[tuple[Any, ...]]], None]

CITY, DISTRICT = "31000000002000000001", "31010400002000000001"
SECRET = "bench-secret-of-this-run-only"  # noqa: S105  # guards two files that end with the run
BATCH = 5_000
CHANGED_SHARE = 0.01
DIGEST_LOOKS = 20
SAY_EVERY_S = 2.0
START_TIMEOUT_S = 60.0
_KEY_ID = f"key-{DISTRICT}"
# docs/architecture.md 9.
GOAL_FULL_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Urls:
    """The databases of one round."""

    district: str
    city: str
    raw: str
    bare: str


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of one round."""

    raw_load_s: float
    bare_insert_s: float
    full_s: float
    incremental_s: float
    digest_ms: float
    is_equal: bool

    @property
    def ratio(self) -> float:
        return self.full_s / self.raw_load_s

    @property
    def ratio_to_insert(self) -> float:
        return self.full_s / self.bare_insert_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi bench exchange``."""
    parser.add_argument("--devices", type=int, default=100_000, help="archives to exchange (default 100000)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; the median counts (default 1)")
    parser.add_argument(
        "--engine", choices=("sqlite", "postgresql"), default="sqlite", help="database of every part"
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")


def run_cli(args: argparse.Namespace) -> int:
    """Measure and print. Returns 0 when every round ended equal."""
    # Standard output is the report's alone.
    logs.configure("warning", "text", sys.stderr)
    rounds = []
    for number in range(args.rounds):
        _say(args, f"round {number + 1} of {args.rounds}: {args.devices} archives")
        with _databases(args.engine) as urls:
            rounds.append(asyncio.run(measure(urls, args.devices, lambda text: _say(args, text))))
    report = _report(args.devices, args.engine, rounds)
    print(json.dumps(report, indent=2) if args.json else _text(report))
    return 0 if all(one.is_equal for one in rounds) else 1


@contextmanager
def _databases(engine: str) -> Iterator[Urls]:
    """Three empty databases that end with the context."""
    with ExitStack() as stack:
        if engine == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tongshi-bench-"))
            yield Urls(*(f"sqlite:///{folder}/{name}.db" for name in Urls.__slots__))
        else:
            server = stack.enter_context(private_postgres(AS_ADVISED))
            made = [asyncio.run(create_database(server, name)) for name in Urls.__slots__]
            yield Urls(*made)


async def measure(urls: Urls, count: int, say: Say = lambda text: None) -> Round:
    """One round on three empty databases."""
    clock = SystemClock()
    below = await Database.open(urls.district)
    district = await RestPlatform.open(DISTRICT, below, clock)
    filling = Progress("filling the district", count, say)
    for first in range(1, count + 1, BATCH):
        rows = sample_archives(DISTRICT, min(BATCH, count + 1 - first), first)
        await below.write(devices.upsert_many, rows, DISTRICT, clock.at())
        filling.add(len(rows))
    raw_load_s = await _load(urls.raw, below, bulk_upsert, Progress("raw load", count, say))
    bare_insert_s = await _load(urls.bare, below, bulk_insert, Progress("bare insert", count, say))
    async with _city(urls.city) as address:
        timeout = httpx2.Timeout(120.0)
        http = httpx2.AsyncClient(timeout=timeout, trust_env=False)
        link = _CountedLink(address, Signer(_KEY_ID, SECRET, CITY, clock), http)
        sender = Sender(below, clock, link, CITY)
        link.progress = Progress("full exchange", count, say)
        collector.settle()
        full_s, full = await _timed(sender)
        changed = sample_archives(DISTRICT, max(1, int(count * CHANGED_SHARE)), name="改")
        for first in range(0, len(changed), BATCH):
            await below.write(devices.upsert_many, changed[first : first + BATCH], DISTRICT, clock.at())
        link.progress = Progress("incremental exchange", len(changed), say)
        incremental_s, incremental = await _timed(sender)
        above = await Database.open(urls.city, migrate=False)
        digest_ms = await _digest_ms(above)
        is_equal = full and incremental and await _same(below, above)
        await above.close()
        await link.close()
    await district.close()
    return Round(raw_load_s, bare_insert_s, full_s, incremental_s, digest_ms, is_equal)


class Progress:
    """Says now and then how far it is, how fast, and how long it will still take."""

    def __init__(self, what: str, total: int, say: Say) -> None:
        self._what, self._total, self._say = what, total, say
        self._done = 0
        self._began_s = self._said_s = time.perf_counter()
        say(f"{what}: {total} archives")

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        now_s = time.perf_counter()
        if now_s - self._said_s < SAY_EVERY_S or not self._done:
            return
        self._said_s = now_s
        rate = self._done / (now_s - self._began_s)
        left_s = (self._total - self._done) / rate
        self._say(f"{self._what}: {self._done} of {self._total}, {rate:.0f}/s, {left_s:.0f} s left")


class _CountedLink(Link):
    """A link that reports what it carried."""

    progress: Progress | None = None

    async def send(self, path: str, packed: Packed, answer: type[_T]) -> _T:
        result = await super().send(path, packed, answer)
        if self.progress is not None:
            self.progress.add(len(getattr(packed.body, "items", ())))
        return result


async def _load(url: str, source: Database, load: Load, progress: Progress) -> float:
    """Seconds to load the district's rows, already in memory, into a database of their own."""
    columns = tuple(column.name for column in device_archive.columns)
    bare = await Database.open(url)
    spent_s = 0.0
    after = ""
    while rows := await source.read(_raw_rows, after):
        after = rows[-1][0]
        started_s = time.perf_counter()
        await bare.write(load, device_archive, columns, rows)
        spent_s += time.perf_counter() - started_s
        progress.add(len(rows))
    await bare.close()
    return spent_s


def _raw_rows(conn: Connection, after: str) -> list[tuple[Any, ...]]:
    in_key_order(conn)
    statement = select(device_archive).where(device_archive.c.device_id > after)
    return [tuple(row) for row in conn.execute(statement.order_by(device_archive.c.device_id).limit(BATCH))]


async def _timed(sender: Sender) -> tuple[float, bool]:
    started_s = time.perf_counter()
    peer = await sender.step()
    return time.perf_counter() - started_s, peer.equality is Equality.EQUAL


async def _digest_ms(db: Database) -> float:
    """Median milliseconds to know an owner's root."""
    looks = []
    for _ in range(DIGEST_LOOKS):
        started_s = time.perf_counter()
        await db.read(digest_store.root_digest, DISTRICT)
        looks.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(looks)


async def _same(below: Database, above: Database) -> bool:
    mine = await below.read(digest_store.root_digest, DISTRICT)
    return mine == await above.read(digest_store.root_digest, DISTRICT)


@asynccontextmanager
async def _city(url: str) -> AsyncIterator[str]:
    """The city in a process of its own; yields its address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_city, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not await asyncio.to_thread(ours.poll, START_TIMEOUT_S):
            raise PeerTimeout("the city did not start")
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        ours.close()
        await asyncio.to_thread(process.join, START_TIMEOUT_S)


def _run_city(url: str, pipe: Pipe) -> None:
    logs.configure("warning", "text", sys.stderr)
    asyncio.run(_serve_city(url, pipe))


async def _serve_city(url: str, pipe: Pipe) -> None:
    """Serve until the other end of the pipe is closed."""
    city = await RestPlatform.open(CITY, await Database.open(url), SystemClock())
    assert await city.admit(DISTRICT, Relation.LOWER, SECRET) == _KEY_ID
    collector.settle()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(city.asgi, log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  # uvicorn offers a flag, not an event
            await asyncio.sleep(0.01)
        pipe.send(listener.getsockname()[1])
        # Readable once it is closed; nothing is ever sent on it.
        await asyncio.to_thread(pipe.poll, None)
        server.should_exit = True
        await serving
    await city.close()


def _report(count: int, engine: str, rounds: list[Round]) -> dict[str, object]:
    ratios = [one.ratio for one in rounds]
    full_s = statistics.median(one.full_s for one in rounds)
    return {
        "what": "exchange",
        "engine": engine,
        "devices": count,
        "python": platform.python_version(),
        "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "goal": GOAL_FULL_RATIO,
        "ratio_to_bare_insert": statistics.median(one.ratio_to_insert for one in rounds),
        "archives_per_s": count / full_s,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_rss_city_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "is_equal": all(one.is_equal for one in rounds),
        "rounds": [asdict(one) for one in rounds],
    }


def _text(report: dict[str, object]) -> str:
    lines = [f"{name:>16}: {value}" for name, value in report.items() if name != "rounds"]
    rounds = report["rounds"]
    assert isinstance(rounds, list)
    return "\n".join([*lines, *(f"{'round':>16}: {one}" for one in rounds)])


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text, file=sys.stderr, flush=True)
