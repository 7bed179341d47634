"""Questions about much: every plan gives what a look at every row gives, each in its index and its budget."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy import Connection, event

from tongshi.clock import SystemClock
from tongshi.errors import Unavailable
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import index_store, query, query_store, store
from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.geometry import Box, Circle, Shape
from tongshi.resources.devices.indexing import Lag, SearchIndex
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.query import Area, DeviceQueries, Show
from tongshi.resources.devices.query_store import BoxPlan, Spot
from tongshi.resources.devices.query_wire import raw_of
from tongshi.resources.devices.search_terms import Match, Needle, document, needle
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.resources.devices.shown_store import ShownInBox
from tongshi.resources.devices.status_copy import StatusCopy
from tongshi.sharing.model import EVERYTHING, Scope, Target
from tongshi.storage import changes
from tongshi.storage.budget import within
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS = ("31010400002000000001", "31010500002000000001")
CODES = ("310104", "31010501", "31", "310112", "", "999")
WORDS = "闵行长宁徐汇人民路外滩广场ABcd12号"
# The last three are no positions: unknown, the origin, off the globe.
PLACES: list[tuple[float | None, float | None]] = [
    (121.4 + x / 50, 31.2 + y / 50) for x in range(5) for y in range(5)
]
PLACES += [(None, None), (0.0, 0.0), (200.0, 31.0)]
CITY = Box(121.0, 31.0, 122.0, 32.0)


def make(count: int) -> list[DeviceArchive]:
    pick = random.Random(5)
    found = []
    for number in range(count):
        longitude, latitude = pick.choice(PLACES)
        item = CatalogItem(
            device_id=f"31010400001310{number:06d}",
            name="".join(pick.choice(WORDS) for _ in range(pick.randrange(1, 9))),
            civil_code=pick.choice(CODES),
            longitude=longitude,
            latitude=latitude,
            ptz_type=pick.randrange(1, 5),
            point_type=pick.choice((1, 2, 3)),
        )
        archive = DeviceArchive(item=item, owner=pick.choice(OWNERS), source=Source.MANUAL)
        online = pick.choice((True, False, None))
        found.append(
            structs.replace(archive, online=online, ext=structs.replace(archive.ext, is_networked=online))
        )
    return found


class Town:
    """A filled database, its queries, and its rows."""

    def __init__(self, db: Database, rows: list[DeviceArchive]) -> None:
        self.db = db
        self.rows = rows
        self.index = SearchIndex(db, SystemClock())
        self.queries = DeviceQueries(db, self.index)

    def held(self, selection: Selection) -> list[DeviceArchive]:
        """What a look at every row finds."""
        return [row for row in self.rows if _holds(selection, row)]


def _holds(selection: Selection, row: DeviceArchive) -> bool:
    item = row.item
    return (
        selection.scope.holds(Target(row.device_id, item.civil_code, row.owner))
        and (not selection.civil_codes or item.civil_code.startswith(selection.civil_codes))
        and (selection.online is None or (row.online is True) is selection.online)
        and (not selection.ptz_types or item.ptz_type in selection.ptz_types)
        and (not selection.point_classes or item.point_type in selection.point_classes)
        and (not selection.owner or row.owner == selection.owner)
        and (
            selection.needle is None
            or selection.needle.matches(document(row.device_id, item.name, item.address))
        )
    )


def _is_placed(row: DeviceArchive) -> bool:
    lon, lat = row.item.longitude, row.item.latitude
    return lon is not None and lat is not None and abs(lon) <= 180 and (lon, lat) != (0.0, 0.0)


@pytest.fixture
async def town(database: Database) -> Town:
    rows = make(300)
    await database.write(store.upsert_many, rows, OWNERS[0], AT)
    online = {row.device_id: row.online for row in rows if row.online is not None}
    await database.write(store.set_statuses, online, "test", AT)
    made = Town(database, rows)
    while not await made.index.refresh():
        pass
    return made


SELECTIONS = st.builds(
    Selection,
    scope=st.sampled_from(
        [
            EVERYTHING,
            Scope(),
            Scope(civil_codes=frozenset({"3101"})),
            Scope(owners=frozenset(OWNERS[:1]), civil_codes=frozenset({"310105"})),
            Scope(device_ids=frozenset({"31010400001310000007", "31010400001310000008"})),
        ]
    ),
    civil_codes=st.sampled_from([(), ("31",), ("310104", "310105")]),
    online=st.sampled_from([None, True, False]),
    point_classes=st.sampled_from([(), (1, 2)]),
    ptz_types=st.sampled_from([(), (3,)]),
    owner=st.sampled_from(["", OWNERS[1]]),
    needle=st.sampled_from(
        [None, *(needle(word, Match.CONTAINS) for word in ("路", "长宁", "ab", "0001", "r", "没有"))]
    ),
)
SHAPES: st.SearchStrategy[Shape] = st.sampled_from(
    [CITY, Box(121.4, 31.2, 121.44, 31.28), Box(-1.0, -1.0, 1.0, 1.0), Circle((121.42, 31.24), 3_000.0)]
)
MANY = pytest.mark.parametrize("many", [1, 20, 10_000])
EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MANY
@EXAMPLES
@given(selection=SELECTIONS, shape=SHAPES, limit=st.sampled_from([1, 7, 1_000]), show=st.sampled_from(Show))
async def test_a_shape_holds_the_same_by_every_plan(
    town: Town, many: int, selection: Selection, shape: Shape, limit: int, show: Show
) -> None:
    held = town.held(selection)
    expected = {
        row.device_id
        for row in held
        if _is_placed(row) and shape.holds(row.item.longitude or 0.0, row.item.latitude or 0.0)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "MANY", many)
        seen: list[str] = []
        after = None
        while True:
            area = Area(shape, show=show)
            found = await town.queries.in_area(selection, area, limit, after)
            assert (found.total, found.lag) == (len(expected), None)
            assert found.placeless == sum(not _is_placed(row) for row in held)
            shown = [row.device_id for row in (found.rows or found.archives)]
            if found.shown is not None:
                shown = [row["DeviceID"] for row in map(msgspec.json.decode, raw_of(found.shown, {}))]
            assert shown == ([] if show is Show.ID else found.ids)
            seen += found.ids
            after = found.after
            if after is None or len(seen) > 3 * limit:
                break
        assert len(seen) == len(set(seen))
        assert set(seen) <= expected
        assert after is not None or set(seen) == expected
        uncounted = await town.queries.in_area(selection, replace(area, with_total=False), limit)
        assert (uncounted.total, uncounted.placeless) == (None, None) or not isinstance(shape, Box)
        assert uncounted.ids == seen[:limit]
        clustered = await town.queries.in_area(selection, Area(shape, cell_deg=0.013), limit)
    clusters = clustered.clusters or []
    assert sum(cluster.count for cluster in clusters) == clustered.total == len(expected)
    online = {row.device_id for row in held if row.online}
    assert sum(cluster.online for cluster in clusters) == len(expected & online)
    assert all(one.box.holds(one.lon, one.lat) or one.count > 1 for one in clusters)


@MANY
@EXAMPLES
@given(
    selection=SELECTIONS,
    sort=st.sampled_from([Sort.ID, Sort.ID_DOWN, Sort.NAME]),
    limit=st.sampled_from([1, 5, 1_000]),
    skip=st.sampled_from([0, 3]),
)
async def test_a_page_is_the_same_by_every_plan(
    town: Town, many: int, selection: Selection, sort: Sort, limit: int, skip: int
) -> None:
    order = {row.device_id: (row.item.name if sort is Sort.NAME else "", row.device_id) for row in town.rows}
    held = (row.device_id for row in town.held(selection))
    expected = sorted(held, key=order.__getitem__, reverse=sort is Sort.ID_DOWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "MANY", many)
        patch.setattr(query, "MANY_PROPOSED", many)
        patch.setattr(query, "GLIMPSE", 20)
        for with_total in (True, False):
            ids, found = await town.queries.page(
                selection, sort, limit, skip=skip, with_total=with_total, with_rows=False
            )
            assert ids == expected[skip : skip + limit]
            assert found.total == (len(expected) if with_total else None)
            if found.after is not None:
                further, _ = await town.queries.page(
                    selection, sort, limit, after=found.after, with_total=with_total
                )
                assert further == expected[skip + limit : skip + 2 * limit]


@EXAMPLES
@given(selection=SELECTIONS, by=st.sampled_from(["child", "street"]))
async def test_groups_count_what_a_look_at_every_row_counts(
    town: Town, selection: Selection, by: str
) -> None:
    selection = replace(selection, civil_codes=())
    digits = 4 if by == "child" else 8
    groups = await town.queries.groups(selection, ["31"], by)
    counted = {group.key: group[1:] for group in groups if group.key != "unassigned"}
    expected: dict[str, tuple[int, int, int]] = {}
    for row in town.held(selection):
        if row.item.civil_code.startswith("31"):
            key = row.item.civil_code[:digits]
            total, online, networked = expected.get(key, (0, 0, 0))
            is_up = row.online is True
            expected[key] = total + 1, online + is_up, networked + is_up
    assert counted == expected


def _plans(conn: Connection, ask: Any) -> list[str]:
    """How the engine goes about each statement of a question."""
    asked: list[tuple[str, Any]] = []

    def note(*args: Any) -> None:
        if args[2].startswith(("SELECT", "WITH")):
            asked.append((args[2], args[3]))

    event.listen(conn, "before_cursor_execute", note)
    ask(conn)
    event.remove(conn, "before_cursor_execute", note)
    found = []
    for statement, values in asked:
        if conn.dialect.name == "sqlite":
            rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            found.append("\n".join(str(row[3]) for row in rows))
        else:
            # With so few rows a look at all of them is cheapest: what matters is that an index can serve.
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
            rows = conn.exec_driver_sql(f"EXPLAIN {statement}", values)
            found.append("\n".join(str(row[0]) for row in rows))
    return found


DIVISION = Selection(Scope(civil_codes=frozenset({"3101"})))
ROADS = replace(DIVISION, needle=needle("人民路", Match.CONTAINS))
PLACE = "(the engine's place index)"


class _NoStatuses(StatusCopy):
    """Asks the database nothing."""

    def __init__(self) -> None:
        pass

    def of(self, conn: Connection, numbers: Sequence[int]) -> list[bool | None]:
        return [None] * len(numbers)


NO_STATUSES = _NoStatuses()
USED: list[tuple[str, Any, tuple[str, ...], tuple[str, ...]]] = [
    ("count", lambda c: query_store.count(c, DIVISION), ("covering",), ()),
    ("groups", lambda c: query_store.group(c, DIVISION, 6), ("covering",), ("TEMP B-TREE",)),
    ("placeless", lambda c: query_store.count_placeless(c, DIVISION), ("placeless",), ()),
    ("near", lambda c: query_store.count_near(c, CITY, 10), (PLACE,), ("LIST SUBQUERY", "device_archive")),
    (
        "small box",
        lambda c: ShownInBox(NO_STATUSES).ask(c, DIVISION, CITY, GeoCoordSys.WGS84, 10, 0),
        (PLACE,),
        ("device_archive", "device_status"),
    ),
    (
        "small box while the copies may be old",
        lambda c: query_store.rows_in_box(c, DIVISION, CITY, BoxPlan.TRAILING, 10, 0),
        (PLACE, "device_archive"),
        (),
    ),
    (
        "large box",
        lambda c: query_store.count_in_box(c, DIVISION, CITY, BoxPlan.SELECTION),
        ("covering",),
        ("device_search",),
    ),
    ("grid", lambda c: query_store.cells_in_box(c, DIVISION, CITY, 0.1), ("covering",), ("device_search",)),
    (
        "walked box",
        lambda c: query_store.rows_in_box(c, DIVISION, CITY, BoxPlan.WALK, 10, 0),
        (),
        (PLACE, "TEMP B-TREE"),
    ),
    ("words", lambda c: query_store.keys(c, ROADS, Sort.ID, 10), ("device_terms",), ()),
    (
        "walked words",
        lambda c: query_store.keys(c, ROADS, Sort.ID, 10, is_walk=True),
        (),
        ("device_terms", "TEMP B-TREE"),
    ),
    ("walked list", lambda c: query_store.keys(c, DIVISION, Sort.ID, 10, is_walk=True), (), ("TEMP B-TREE",)),
]


@pytest.mark.parametrize(("name", "ask", "has", "lacks"), USED, ids=[one[0] for one in USED])
async def test_each_question_uses_its_index(
    town: Town, name: str, ask: Any, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    plans = await town.db.read(lambda conn: _plans(conn, ask))
    assert len(plans) == 1, name
    place = "device_box" if town.db.dialect == "sqlite" else "ix_device_search_place"
    names = [name.replace(PLACE, place) for name in has], [name.replace(PLACE, place) for name in lacks]
    assert all(word in plans[0] for word in names[0]), plans[0]
    assert not any(word in plans[0] for word in names[1]), plans[0]
    if town.db.dialect == "sqlite" and "covering" in has:
        assert "COVERING INDEX ix_device_archive_covering" in plans[0]


async def test_a_box_that_fits_its_page_is_counted_by_its_rows(town: Town) -> None:
    def ask(limit: int) -> Callable[[Connection], object]:
        ready = ShownInBox(NO_STATUSES)
        return lambda conn: query._in_box(ready, conn, DIVISION, Area(CITY), limit, 0, is_current=True)

    # On PostgreSQL how much the index proposes is looked at in the same statement.
    before = 1 if town.db.dialect == "sqlite" else 0
    assert len(await town.db.read(lambda conn: _plans(conn, ask(1_000)))) == before + 1
    assert len(await town.db.read(lambda conn: _plans(conn, ask(5)))) == before + 2


ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


async def test_a_question_past_its_budget_ends_and_says_the_way_out(database: Database) -> None:
    def endless(conn: Connection) -> None:
        with within(conn, 0.05, "请缩小范围"):
            conn.exec_driver_sql(ENDLESS[database.dialect])

    for _ in range(2):
        with pytest.raises(Unavailable, match="请缩小范围") as caught:
            await database.read(endless)
        assert caught.value.http_status == 503

    await database.read(_quick)

    def later(conn: Connection) -> int:
        """The next unit on the same connection has no such budget."""
        if database.dialect == "postgresql":
            conn.exec_driver_sql("SELECT pg_sleep(0.1)")
        return int(conn.exec_driver_sql("SELECT 7").scalar_one())

    assert await database.read(later) == 7


def _quick(conn: Connection) -> None:
    with within(conn, 0.05, ""):
        conn.exec_driver_sql("SELECT 1")


async def test_who_asks_for_little_does_not_wait_for_those_who_ask_for_everything(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "QUICK_S", 0.05)
    monkeypatch.setattr(query, "BUDGET_S", 3.0)
    monkeypatch.setattr(query, "MAX_HEAVY_WAITING", 5)

    def endless(conn: Connection) -> None:
        conn.exec_driver_sql(ENDLESS[town.db.dialect])

    heavy = [asyncio.create_task(town.queries._read(endless, "请缩小范围")) for _ in range(8)]
    # All use up the quick budget; then two are at work, three wait, the others are refused.
    refused, _ = await asyncio.wait(heavy, return_when=asyncio.FIRST_COMPLETED)
    ids, _ = await town.queries.page(DIVISION, Sort.ID, 10)
    assert len(ids) == 10
    done = [task for task in heavy if task.done()]
    assert len(done) <= 3
    for task in heavy:
        task.cancel()
    ended = await asyncio.gather(*heavy, return_exceptions=True)
    assert all("请缩小范围" in str(task.exception()) for task in refused)
    assert sum(isinstance(error, asyncio.CancelledError) for error in ended) >= 5


class Slow:
    """A shape that takes its time for each position."""

    box = CITY

    def holds(self, lon: float, lat: float) -> bool:
        return any(circle.holds(lon, lat) for circle in [Circle((0.0, 0.0), 1.0)] * 2_000)


def test_a_shape_past_its_budget_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "BUDGET_S", 0.001)
    spots = [Spot(1, "1", 121.0, 31.0, None)] * 1_000
    with pytest.raises(Unavailable, match="图形"):
        query._held(spots, Area(Slow()))


async def test_an_answer_says_how_much_is_not_indexed_yet(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []
    index = SearchIndex(town.db, SystemClock(), noted.append)
    queries = DeviceQueries(town.db, index)
    changed = [structs.replace(row, item=structs.replace(row.item, name="改名")) for row in town.rows[:40]]
    await town.db.write(store.upsert_many, changed, OWNERS[0], AT)
    asked = Selection(EVERYTHING, needle=needle("改名", Match.CONTAINS))
    monkeypatch.setattr(index_store, "BATCH", 10)
    monkeypatch.setattr(SearchIndex, "refresh", _not_now)
    _, page = await queries.page(asked, Sort.ID, 100)
    area = await queries.in_area(Selection(EVERYTHING), Area(CITY), 10)
    assert page.lag == area.lag == Lag(40, None)
    assert noted == [40]
    monkeypatch.undo()
    _, page = await queries.page(asked, Sort.ID, 100)
    assert (page.lag, page.total) == (None, 40)


async def test_what_words_propose_is_looked_up_again_when_an_archive_changed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    honest = query_store.proposed

    def noted(conn: Connection, asked: Needle, most: int) -> tuple[int, ...] | None:
        looked_up.append(asked.whole)
        return honest(conn, asked, most)

    monkeypatch.setattr(query_store, "proposed", noted)
    asked = Selection(EVERYTHING, needle=needle("新名", Match.CONTAINS))
    for count in (1, 2):
        await town.db.write(store.upsert_many, [_renamed(row) for row in town.rows[:count]], OWNERS[0], AT)
        for _ in range(3):
            ids, _found = await town.queries.page(asked, Sort.ID, 100)
            assert ids == sorted(row.device_id for row in town.rows[:count])
        assert looked_up == ["新名"] * count


async def _not_now(index: SearchIndex) -> bool:
    return False


async def test_the_index_is_made_and_followed_in_bounded_steps(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step holds the writer for more than a batch; what another process wrote meanwhile is not undone."""
    monkeypatch.setattr(index_store, "BATCH", 25)
    await town.db.write(store.upsert_many, [_renamed(row) for row in town.rows], OWNERS[0], AT)
    steps = 0
    while True:
        fetched = await town.db.read(index_store.fetch)
        assert len(fetched.entries) <= 25
        step = index_store.make(fetched)
        assert await town.db.write(index_store.apply, step)
        assert not await town.db.write(index_store.apply, step) or step.before == step.after
        steps += 1
        if not fetched.has_more:
            break
    assert steps >= len(town.rows) // 25
    ids, _ = await town.queries.page(Selection(EVERYTHING, needle=needle("新名", Match.PREFIX)), Sort.ID, 400)
    assert len(ids) == len(town.rows)


def _renamed(row: DeviceArchive) -> DeviceArchive:
    return structs.replace(row, item=structs.replace(row.item, name=f"新名{row.device_id[-3:]}"))


async def test_an_index_below_the_feeds_floor_is_not_current(town: Town) -> None:
    assert await town.db.read(index_store.is_current)
    await town.db.write(changes.compact, AT + timedelta(days=1))
    assert await town.db.read(index_store.is_current)
    await town.db.write(store.upsert_many, [_renamed(town.rows[0])], OWNERS[0], AT)
    assert not await town.db.read(index_store.is_current)
    await town.db.write(changes.compact, AT + timedelta(days=1))
    assert not await town.db.read(index_store.is_current)
    assert await town.db.read(index_store.remaining) == len(town.rows)
    assert await town.index.refresh()
