"""Questions about a large archive beside the bare SQL that answers them: ``tongshi bench query``.

One database is filled with archives over Shanghai. A box that holds about a thousand of them is selected
through ``DeviceQueries`` as the REST face does, with a grant by division, by 1, 16 and 64 askers at once; the
raw figure is one bare statement over the same index by a driver's own connection, alone. Words are searched
the same way. Samples of both are compared with a look at every row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from msgspec.structs import replace

from tongshi.clock import SystemClock
from tongshi.observe import logs
from tongshi.resources.devices import store
from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.query import Area, DeviceQueries, Show
from tongshi.resources.devices.search_terms import Match, document, needle
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.sharing.model import Scope
from tongshi.storage.engine import Database
from tongshi.testing.postgres import PostgresMissing, create_database, private_postgres
from tongshi.testing.rest_platform import sample_archives

OWNER = "31010400002000000001"
SCOPE = Scope(civil_codes=frozenset({"3101"}))
BATCH = 5_000
ASKERS = (1, 16, 64)
SAMPLES = 5
KEYWORDS = ("路口77", "12345号", "rml", "人民路9", "0001234", "摄像")
ROADS = "徐汇长宁静安普陀虹口杨浦闵行宝山嘉定金山松江青浦奉贤崇明"
# architecture 11: box select with 1,000 results and grants, one asker.
GOAL_P99_MS, GOAL_RATIO = 30.0, 1.5


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one kind of question."""

    askers: int
    p50_ms: float
    p99_ms: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One engine."""

    engine: str
    devices: int
    fill_s: float
    index_s: float
    box: list[Times]
    box_rows: float
    bare_box: Times | None
    search: list[Times]
    is_right: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi bench query``."""
    parser.add_argument("--devices", type=int, default=1_000_000, help="archives (default 1000000)")
    parser.add_argument("--questions", type=int, default=200, help="questions of each kind (default 200)")
    parser.add_argument("--postgresql", action="store_true", help="measure PostgreSQL too, when there is one")
    parser.add_argument("--json", action="store_true", help="print JSON only")


def run_cli(args: argparse.Namespace) -> int:
    """Measure and print. Returns 0 when every sample was right."""
    logs.configure("warning", "text", sys.stderr)
    found = []
    with tempfile.TemporaryDirectory(prefix="tongshi-bench-") as folder, ExitStack() as stack:
        path = Path(folder) / "query.db"
        found.append(asyncio.run(measure(f"sqlite:///{path}", args.devices, args.questions, path)))
        if args.postgresql:
            try:
                server = stack.enter_context(private_postgres())
            except PostgresMissing as missing:
                print(missing, file=sys.stderr)
            else:
                url = asyncio.run(create_database(server, "query"))
                found.append(asyncio.run(measure(url, args.devices, args.questions)))
    report = {
        "what": "query",
        "python": platform.python_version(),
        "goal": {"p99_ms": GOAL_P99_MS, "ratio": GOAL_RATIO},
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "engines": [asdict(one) for one in found],
    }
    print(json.dumps(report, indent=2))
    return 0 if all(one.is_right for one in found) else 1


async def measure(url: str, count: int, questions: int, path: Path | None = None) -> Measured:
    """Fill, index, ask, compare."""
    db = await Database.open(url)
    clock = SystemClock()
    index = SearchIndex(db, clock)
    started_s = time.perf_counter()
    for first in range(1, count + 1, BATCH):
        rows = archives(first, min(BATCH, count + 1 - first))
        await db.write(store.upsert_many, rows, OWNER, clock.at())
    fill_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    while not await index.refresh(60.0):
        pass
    index_s = time.perf_counter() - started_s
    queries = DeviceQueries(db, index)
    boxes = _boxes(count, questions)
    sizes: list[int] = []

    async def box(number: int) -> None:
        found = await queries.in_area(Selection(SCOPE), Area(boxes[number % len(boxes)]), 1_000)
        sizes.append(len(found.rows))

    async def search(number: int) -> None:
        asked = needle(KEYWORDS[number % len(KEYWORDS)], Match.CONTAINS)
        await queries.page(Selection(SCOPE, needle=asked), Sort.ID, 50, with_total=False)

    measured = Measured(
        db.dialect,
        count,
        fill_s,
        index_s,
        [await _timed(box, askers, questions) for askers in ASKERS],
        statistics.mean(sizes),
        None if path is None else _bare(path, boxes),
        [await _timed(search, askers, questions) for askers in ASKERS],
        await _is_right(queries, boxes, count),
    )
    await db.close()
    return measured


def archives(first: int, count: int) -> list[DeviceArchive]:
    """Archives scattered over Shanghai; the same numbers give the same archives."""
    made = []
    for number, archive in enumerate(sample_archives(OWNER, count, first), first):
        pick = random.Random(number)  # noqa: S311  # places, no secrets
        start = pick.randrange(len(ROADS) - 4)
        item = replace(
            archive.item,
            name=f"{ROADS[start : start + 4]}路口{number}号摄像机",
            longitude=round(pick.uniform(121.0, 122.0), 6),
            latitude=round(pick.uniform(30.8, 31.8), 6),
        )
        made.append(replace(archive, item=item))
    return made


def _boxes(count: int, number: int) -> list[Box]:
    """Squares that hold about a thousand of ``count`` evenly scattered devices."""
    side = min(1.0, (1_000 / count) ** 0.5)
    pick = random.Random(7)  # noqa: S311
    made = []
    for _ in range(number):
        west, south = pick.uniform(121.0, 122.0 - side), pick.uniform(30.8, 31.8 - side)
        made.append(Box(west, south, west + side, south + side))
    return made


async def _timed(ask: Callable[[int], Awaitable[None]], askers: int, questions: int) -> Times:
    spent: list[float] = []
    numbers = iter(range(questions))

    async def asker() -> None:
        for number in numbers:
            started_s = time.perf_counter()
            await ask(number)
            spent.append((time.perf_counter() - started_s) * 1_000)

    await ask(0)
    started_s = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(askers)))
    return _times(askers, spent, time.perf_counter() - started_s)


def _times(askers: int, spent: Sequence[float], took_s: float) -> Times:
    ordered = sorted(spent)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Times(askers, statistics.median(ordered), p99, len(ordered) / took_s)


def _bare(path: Path, boxes: Sequence[Box]) -> Times:
    """The same rows and their count by bare statements over the same index, one after another."""
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    near = (
        "FROM device_box b CROSS JOIN device_search s ON s.number = b.number "
        "CROSS JOIN device_archive a ON a.device_id = s.device_id "
        "WHERE b.east >= ? AND b.west <= ? AND b.north >= ? AND b.south <= ? "
        "AND s.longitude BETWEEN ? AND ? AND s.latitude BETWEEN ? AND ? "
        "AND a.civil_code >= '3101' AND a.civil_code < '3102' AND a.missing_since IS NULL"
    )
    rows = (
        "SELECT a.device_id, a.name, a.civil_code, a.owner_platform, a.revision, a.longitude, a.latitude, "
        "a.ptz_type, a.point_type, a.is_controllable, a.is_networked, a.industries "
    )
    spent = []
    for box in [boxes[0], *boxes]:
        values = (box.west, box.east, box.south, box.north) * 2
        started_s = time.perf_counter()
        conn.execute(f"SELECT count(*) {near}", values).fetchone()
        conn.execute(f"{rows}{near} LIMIT 1000", values).fetchall()
        spent.append((time.perf_counter() - started_s) * 1_000)
    conn.close()
    return _times(1, spent[1:], sum(spent[1:]) / 1_000)


async def _is_right(queries: DeviceQueries, boxes: Sequence[Box], count: int) -> bool:
    """Whether samples are what a look at every archive finds."""
    in_box: list[set[str]] = [set() for _ in range(SAMPLES)]
    needles = [asked for word in KEYWORDS[:SAMPLES] if (asked := needle(word, Match.CONTAINS)) is not None]
    worded: list[set[str]] = [set() for _ in needles]
    for first in range(1, count + 1, BATCH):
        for archive in archives(first, min(BATCH, count + 1 - first)):
            item = archive.item
            for box, members in zip(boxes, in_box, strict=False):
                if box.holds(item.longitude or 0.0, item.latitude or 0.0):
                    members.add(item.device_id)
            told = document(item.device_id, item.name, item.address)
            for asked, members in zip(needles, worded, strict=True):
                if asked.matches(told):
                    members.add(item.device_id)
    for box, members in zip(boxes, in_box, strict=False):
        found = await queries.in_area(Selection(SCOPE), Area(box, show=Show.ID), 20_000)
        if set(found.ids) != members or found.total != len(members):
            return False
    for asked, members in zip(needles, worded, strict=True):
        ids, page = await queries.page(Selection(SCOPE, needle=asked), Sort.ID, 50_000, with_rows=False)
        if page.total != len(members) or not set(ids) <= members:
            return False
    return True
