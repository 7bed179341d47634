"""Questions about a large archive beside the bare SQL that answers them: ``tongshi bench query``.

One database on each engine is filled with archives over Shanghai, one in twenty of them without a position,
nine in ten online. Boxes that hold about a thousand are selected through ``DeviceQueries`` as the REST face
does, with a grant by division; words are searched the same way. Beside each stands the bare statement that
fetches the same rows by the same indexes, on a driver's own connection, with one asker.

Askers of a machine with few cores that ask without pause measure the queue and not the question. So 16 and 64
askers are measured twice: *saturated*, each asks again at once (what counts is questions a second), and
*paced*, each asks once in two seconds as a person with a map does. The goals are judged paced, and with one
asker; the ratio is the median of question and bare statement asked in turn by one asker.

Samples of both kinds are compared with a look at every row. What is heavy (the whole city, a word that is
everywhere) is asked once, within the budget of a question. Whatever takes long says on standard error how far
it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
from msgspec.structs import replace

from tongshi.bench.exchange import Progress
from tongshi.bench.query_bare import connect
from tongshi.clock import SystemClock
from tongshi.errors import TongshiError, Unavailable
from tongshi.observe import collector, logs
from tongshi.resources.devices import index_store, store
from tongshi.resources.devices.geometry import Box, Circle, Corridor
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.query import Area, DeviceQueries, Show
from tongshi.resources.devices.search_terms import Match, document, needle
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_status
from tongshi.testing.postgres import AS_ADVISED, PostgresMissing, create_database, private_postgres
from tongshi.testing.rest_platform import sample_archives

Say = Callable[[str], None]
Ask = Callable[[int], Awaitable[None]]

OWNER = "31010400002000000001"
SCOPE = Scope(civil_codes=frozenset({"3101"}))
BATCH = 5_000
ASKERS = (16, 64)
PACE_S = 2.0
SAMPLES = 5
PAGE, SEARCHED = 1_000, 50
KEYWORDS = ("路口77", "12345号", "rml", "人民路9", "0001234", "摄像", "路", "闵行")
ROADS = "徐汇长宁静安普陀虹口杨浦闵行宝山嘉定金山松江青浦奉贤崇明"
CITY = Box(121.0, 30.8, 122.0, 31.8)
# Issue 3: box select of about 1,000 with a grant, and search, at 1, 16 and 64 askers.
GOAL_BOX_P99_MS, GOAL_SEARCH_P99_MS, GOAL_RATIO = 30.0, 50.0, 1.5


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one kind of question.

    ``cpu_ms`` is this process's processor time for each; ``refused`` were told to come again later.
    """

    askers: int
    pace: str
    questions: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    per_s: float
    cpu_ms: float
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of question: ours, the bare statement, and how they compare with one asker.

    ``cpu_ratio`` is of this process alone: what PostgreSQL's server spends for both is not in it.
    """

    ours: list[Times]
    bare: Times
    ratio: float
    cpu_ratio: float
    rows: float


@dataclass(frozen=True, slots=True)
class Heavy:
    """One question about much. ``outcome`` is what was found, or why it was not answered."""

    what: str
    ms: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One engine."""

    engine: str
    devices: int
    fill_per_s: float
    index_per_s: float
    box: Kind
    search: Kind
    heavy: list[Heavy]
    is_right: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi bench query``."""
    parser.add_argument("--devices", type=int, default=1_000_000, help="archives (default 1000000)")
    parser.add_argument("--questions", type=int, default=400, help="questions of each kind (default 400)")
    parser.add_argument(
        "--engine", choices=("sqlite", "postgresql", "both"), default="both", help="database (default both)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")


def run_cli(args: argparse.Namespace) -> int:
    """Measure and print. Returns 0 when every sample was right."""
    logs.configure("warning", "text", sys.stderr)
    found = []

    def say(text: str) -> None:
        if not args.json:
            print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="tongshi-bench-") as folder, ExitStack() as stack:
        if args.engine != "postgresql":
            url = f"sqlite:///{Path(folder) / 'query.db'}"
            found.append(asyncio.run(measure(url, args.devices, args.questions, say)))
        if args.engine != "sqlite":
            try:
                server = stack.enter_context(private_postgres(AS_ADVISED))
            except PostgresMissing as missing:
                print(missing, file=sys.stderr)
            else:
                url = asyncio.run(create_database(server, "query"))
                found.append(asyncio.run(measure(url, args.devices, args.questions, say)))
    report = {
        "what": "query",
        "python": platform.python_version(),
        "goal": {
            "box_p99_ms": GOAL_BOX_P99_MS,
            "search_p99_ms": GOAL_SEARCH_P99_MS,
            "ratio": GOAL_RATIO,
        },
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "engines": [asdict(one) for one in found],
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return 0 if all(one.is_right for one in found) else 1


async def measure(url: str, count: int, questions: int, say: Say = lambda text: None) -> Measured:
    """Fill, index, ask, compare."""
    db = await Database.open(url)
    say(f"{db.dialect}: {count} archives")
    index = SearchIndex(db, SystemClock())
    started_s = time.perf_counter()
    await _fill(db, count, Progress("filling", count, say))
    filled_s = time.perf_counter()
    await _follow(db, count, Progress("indexing", count, say))
    indexed_s = time.perf_counter()
    if db.dialect == "postgresql":
        await _settle(url)
    queries = DeviceQueries(db, index)
    say("copying statuses")
    await index.statuses.catch_up()
    await index.start()
    collector.settle()
    boxes = _boxes(count, questions)
    bare = await connect(url)
    sizes: list[int] = []

    async def box(number: int) -> None:
        found = await queries.in_area(Selection(SCOPE), Area(boxes[number % len(boxes)]), PAGE)
        sizes.append(len(found.ids))

    async def bare_box(number: int) -> None:
        await bare.box(boxes[number % len(boxes)], PAGE)

    async def search(number: int) -> None:
        asked = needle(KEYWORDS[number % len(KEYWORDS)], Match.CONTAINS)
        _, page = await queries.page(Selection(SCOPE, needle=asked), Sort.ID, SEARCHED, with_total=False)
        sizes.append(len(page.rows))

    async def bare_search(number: int) -> None:
        await bare.search(KEYWORDS[number % len(KEYWORDS)], SEARCHED)

    boxed = await _kind("box", box, bare_box, questions, sizes, say)
    sizes.clear()
    searched = await _kind("search", search, bare_search, questions, sizes, say)
    heavy = await _heavy(queries, say)
    is_right = await _is_right(queries, boxes, count, Progress("comparing", count, say))
    await bare.close()
    await index.stop()
    await db.close()
    rates = count / (filled_s - started_s), count / (indexed_s - filled_s)
    return Measured(db.dialect, count, *rates, boxed, searched, heavy, is_right)


def archives(first: int, count: int) -> list[DeviceArchive]:
    """Archives scattered over Shanghai; the same numbers give the same archives."""
    made = []
    for number, archive in enumerate(sample_archives(OWNER, count, first), first):
        pick = random.Random(number)  # noqa: S311  # places, no secrets
        start = pick.randrange(len(ROADS) - 4)
        is_placed = pick.random() >= 0.05
        item = replace(
            archive.item,
            name=f"{ROADS[start : start + 4]}路口{number}号摄像机",
            longitude=round(pick.uniform(CITY.west, CITY.east), 6) if is_placed else None,
            latitude=round(pick.uniform(CITY.south, CITY.north), 6) if is_placed else None,
        )
        made.append(replace(archive, item=item))
    return made


async def _fill(db: Database, count: int, progress: Progress) -> None:
    clock = SystemClock()
    columns = ("device_id", "is_online", "since_at", "last_seen_at", "source", "reason")
    for first in range(1, count + 1, BATCH):
        rows = archives(first, min(BATCH, count + 1 - first))
        await db.write(store.upsert_many, rows, OWNER, clock.at())
        told = [(row.device_id, number % 10 > 0, 0, 0, "", "") for number, row in enumerate(rows)]
        await db.write(bulk_upsert, device_status, columns, told)
        progress.add(len(rows))


async def _follow(db: Database, count: int, progress: Progress) -> None:
    """Index everything as the background does, one bounded step after the other."""
    has_more = True
    while has_more:
        fetched = await db.read(index_store.fetch)
        await db.write(index_store.apply, await asyncio.to_thread(index_store.make, fetched))
        progress.add(len(fetched.entries))
        has_more = fetched.has_more


async def _settle(url: str) -> None:
    """What a server's own background work does in a while; the private one has it switched off."""
    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _boxes(count: int, number: int) -> list[Box]:
    """Squares that hold about a thousand of ``count`` evenly scattered devices."""
    side = min(1.0, (PAGE / count) ** 0.5)
    pick = random.Random(7)  # noqa: S311
    made = []
    for _ in range(number):
        west, south = pick.uniform(CITY.west, CITY.east - side), pick.uniform(CITY.south, CITY.north - side)
        made.append(Box(west, south, west + side, south + side))
    return made


async def _kind(name: str, ours: Ask, bare: Ask, questions: int, sizes: list[int], say: Say) -> Kind:
    """One asker in turn with the bare statement, then more of them."""
    say(f"{name}: 1 asker, in turn with the bare statement")
    spent: dict[Ask, list[float]] = {ours: [], bare: []}
    cpu_s: dict[Ask, float] = {ours: 0.0, bare: 0.0}
    for ask in spent:
        await ask(0)
    for number in range(questions):
        for ask in spent:
            started_s, began_cpu_s = time.perf_counter(), time.process_time()
            await ask(number)
            spent[ask].append((time.perf_counter() - started_s) * 1_000)
            cpu_s[ask] += time.process_time() - began_cpu_s
    alone, raw = (
        _times(1, "saturated", spent[ask], sum(spent[ask]) / 1_000, cpu_s[ask]) for ask in (ours, bare)
    )
    times = [alone]
    for askers in ASKERS:
        for pace in ("saturated", "paced"):
            say(f"{name}: {askers} askers, {pace}")
            times.append(await _together(ours, askers, questions, pace))
    ratio = statistics.median(mine / other for mine, other in zip(spent[ours], spent[bare], strict=True))
    return Kind(times, raw, ratio, alone.cpu_ms / raw.cpu_ms, statistics.mean(sizes))


async def _together(ask: Ask, askers: int, questions: int, pace: str) -> Times:
    """Many askers: each at once again, or each once in ``PACE_S``, not all in the same moment."""
    spent: list[float] = []
    refused = 0
    numbers = iter(range(questions))
    pick = random.Random(askers)  # noqa: S311
    pauses = {"saturated": 0.0, "paced": PACE_S}

    async def asker() -> None:
        nonlocal refused
        due_s = time.perf_counter() + pick.uniform(0, pauses[pace])
        for number in numbers:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            started_s = time.perf_counter()
            try:
                await ask(number)
                spent.append((time.perf_counter() - started_s) * 1_000)
            except Unavailable:
                refused += 1
            due_s = max(due_s + pauses[pace], time.perf_counter())

    started_s, began_cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(asker() for _ in range(askers)))
    took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - began_cpu_s
    return _times(askers, pace, spent, took_s, cpu_s, refused)


def _times(
    askers: int, pace: str, spent: Sequence[float], took_s: float, cpu_s: float, refused: int = 0
) -> Times:
    ordered = sorted(spent) or [float("inf")]
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Times(
        askers,
        pace,
        len(ordered),
        statistics.median(ordered),
        p99,
        ordered[-1],
        len(ordered) / took_s,
        cpu_s * 1_000 / len(ordered),
        refused,
    )


async def _heavy(queries: DeviceQueries, say: Say) -> list[Heavy]:
    """Questions about everything, once each."""
    everything = Selection(SCOPE)

    async def area(area: Area) -> str:
        found = await queries.in_area(everything, area, PAGE)
        return f"total {found.total}, rows {len(found.ids)}, clusters {len(found.clusters or ())}"

    async def page(selection: Selection, sort: Sort = Sort.ID, with_total: bool = True) -> str:
        _, found = await queries.page(selection, sort, SEARCHED, with_total=with_total)
        return f"total {found.total}, rows {len(found.rows)}"

    async def groups(by: str) -> str:
        found = await queries.groups(Selection(SCOPE, civil_codes=("3101",)), ["3101"], by)
        return f"groups {len(found)}, total {sum(group.total for group in found)}"

    def worded(keyword: str) -> Selection:
        return Selection(SCOPE, needle=needle(keyword, Match.CONTAINS))

    asked: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("box of the city, rows and total", lambda: area(Area(CITY))),
        ("box of the city, no total", lambda: area(Area(CITY, with_total=False))),
        ("grid over the city", lambda: area(Area(CITY, cell_deg=0.05))),
        ("circle of 50 km", lambda: area(Area(Circle((121.5, 31.3), 50_000.0)))),
        ("corridor through the city", lambda: area(Area(Corridor(((121.0, 31.3), (122.0, 31.3)), 2_000.0)))),
        ("list with total", lambda: page(everything)),
        ("list by name with total", lambda: page(everything, Sort.NAME)),
        ("one character, no total", lambda: page(worded("路"), with_total=False)),
        ("one character with total", lambda: page(worded("路"))),
        ("a word of every name with total", lambda: page(worded("摄像机"))),
        ("groups by division", lambda: groups("child")),
        ("groups by unit", lambda: groups("department")),
    ]
    done = []
    for what, ask in asked:
        say(f"heavy: {what}")
        started_s = time.perf_counter()
        try:
            outcome = await ask()
        except TongshiError as error:
            outcome = f"{error.http_status} {error.message}"
        done.append(Heavy(what, (time.perf_counter() - started_s) * 1_000, outcome))
    return done


async def _is_right(queries: DeviceQueries, boxes: Sequence[Box], count: int, progress: Progress) -> bool:
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
        progress.add(min(BATCH, count + 1 - first))
    for box, members in zip(boxes, in_box, strict=False):
        found = await queries.in_area(Selection(SCOPE), Area(box, show=Show.ID), 20_000)
        if set(found.ids) != members or found.total != len(members):
            return False
    for asked, members in zip(needles, worded, strict=True):
        ids, page = await queries.page(Selection(SCOPE, needle=asked), Sort.ID, 50_000, with_rows=False)
        if page.total != len(members) or not set(ids) <= members:
            return False
    return True
