"""What the place index copies of archives: it follows every change, and is read only when it has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import json, structs
from sqlalchemy import Connection, delete

from tongshi.clock import SystemClock
from tongshi.resources.devices import query_store, store
from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.query import Area, DeviceQueries
from tongshi.resources.devices.query_store import BoxPlan, Lite, Shown
from tongshi.resources.devices.query_wire import lite_of, raw_of
from tongshi.resources.devices.selection import Selection
from tongshi.resources.devices.shown_store import ShownInBox
from tongshi.resources.devices.status_copy import StatusCopy
from tongshi.sharing.model import EVERYTHING, Scope
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_status
from tongshi.testing.rest_platform import sample_archives

OWNER = "31010400002000000001"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
CITY = Box(121.0, 31.0, 122.0, 32.0)


async def _copied(database: Database, system: GeoCoordSys = GeoCoordSys.WGS84) -> Shown:
    return await database.read(
        ShownInBox(StatusCopy(database)).ask, Selection(EVERYTHING), CITY, system, 10_000, 0
    )


async def _made(database: Database) -> list[Lite]:
    """The same from the archives themselves."""
    read = query_store.rows_in_box
    rows = await database.read(read, Selection(EVERYTHING), CITY, BoxPlan.TRAILING, 10_000, 0)
    return [row for _, row in rows]


async def test_what_the_place_index_copies_follows_every_kind_of_change(database: Database) -> None:
    archives = sample_archives(OWNER, 40)
    placed = [
        structs.replace(a, item=structs.replace(a.item, longitude=121.4 + n / 1_000, latitude=31.2))
        for n, a in enumerate(archives)
    ]
    index = SearchIndex(database, SystemClock())
    await database.write(store.upsert_many, placed, OWNER, NOW)
    await index.refresh()
    renamed = structs.replace(placed[0].item, name="改名", ptz_type=3, civil_code="310107")
    unplaced = structs.replace(placed[1].item, longitude=None, latitude=None)
    changed = [
        structs.replace(placed[0], item=renamed, revision=7),
        structs.replace(placed[1], item=unplaced),
    ]
    await database.write(store.upsert_many, changed, OWNER, NOW)
    await database.write(store.mark_missing, OWNER, [placed[2].device_id], NOW, OWNER)
    await index.refresh()
    copied, made = await _copied(database), await _made(database)
    assert copied.ids == [row.device_id for row in made]
    assert _plain(raw_of(copied, {})) == _plain([lite_of(row, GeoCoordSys.WGS84) for row in made])
    assert len(made) == 38
    assert [row.name for row in made if row.device_id == placed[0].device_id] == ["改名"]


def _plain(rows: Sequence[object]) -> Any:
    return json.decode(json.encode(rows))


_AWKWARD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_ARCHIVES = st.builds(
    lambda item, ext, revision: (item, ext, revision),
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(['a"\\b\n', "\u2028路口\x1f", ""]) | _AWKWARD,
            "longitude": st.floats(121.0, 122.0),
            "latitude": st.floats(31.0, 32.0),
            "ptz_type": st.none() | st.integers(0, 9),
            "point_type": st.none() | st.integers(0, 9),
        }
    ),
    st.fixed_dictionaries(
        {
            "is_controllable": st.none() | st.booleans(),
            "is_networked": st.none() | st.booleans(),
            "industries": st.lists(st.sampled_from('ab"路'), max_size=3).map(tuple),
        }
    ),
    st.integers(0, 2**53),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(_ARCHIVES, max_size=5), online=st.lists(st.none() | st.booleans(), min_size=5, max_size=5)
)
async def test_what_is_ready_is_what_would_be_made(
    database: Database, told: list[Any], online: list[bool | None]
) -> None:
    """Whatever an archive says: the JSON in the index beside a list's own, with status and tags."""
    rows = [
        structs.replace(
            archive, item=structs.replace(archive.item, **item), ext=structs.replace(archive.ext, **ext)
        )
        for archive, (item, ext, _) in zip(sample_archives(OWNER, 5), told, strict=False)
    ]
    rows = [structs.replace(row, revision=one[2]) for row, one in zip(rows, told, strict=True)]
    gone = [row.device_id for row in sample_archives(OWNER, 5)[len(rows) :]]
    await database.write(store.upsert_many, rows, OWNER, NOW)
    await database.write(store.mark_missing, OWNER, gone, NOW, OWNER)
    await database.write(_tell, [row.device_id for row in rows], online)
    await SearchIndex(database, SystemClock()).refresh()
    codes = {row.device_id: ("甲", '"') for row in rows[::2]}
    for system in (GeoCoordSys.WGS84, GeoCoordSys.CGCS2000):
        made = [
            lite_of(row._replace(tag_codes=codes.get(row.device_id, ())), system)
            for row in await _made(database)
        ]
        assert _plain(raw_of(await _copied(database, system), codes)) == _plain(made)
        assert len(made) == len(rows)


def _tell(conn: Connection, device_ids: list[str], online: list[bool | None]) -> None:
    conn.execute(delete(device_status))
    columns = ("device_id", "is_online", "since_at", "last_seen_at", "source", "reason")
    told = [
        (key, is_on, 0, 0, "", "")
        for key, is_on in zip(device_ids, online, strict=False)
        if is_on is not None
    ]
    bulk_upsert(conn, device_status, columns, told)


async def test_pages_of_ready_rows_join_to_the_whole(database: Database) -> None:
    placed = [
        structs.replace(a, item=structs.replace(a.item, longitude=121.4 + n / 1_000, latitude=31.2))
        for n, a in enumerate(sample_archives(OWNER, 7))
    ]
    await database.write(store.upsert_many, placed, OWNER, NOW)
    queries = DeviceQueries(database, SearchIndex(database, SystemClock()))
    seen: list[str] = []
    after = None
    while True:
        found = await queries.in_area(Selection(EVERYTHING), Area(CITY), 3, after)
        assert found.shown is not None
        assert found.total == 7
        assert [row["DeviceID"] for row in _plain(raw_of(found.shown, {}))] == found.ids
        seen += found.ids
        after = found.after
        if after is None:
            break
    assert sorted(seen) == sorted(row.device_id for row in placed)
    nowhere = await queries.in_area(Selection(EVERYTHING), Area(Box(1.0, 1.0, 2.0, 2.0)), 3)
    assert (nowhere.ids, nowhere.total, nowhere.after) == ([], 0, None)
    assert nowhere.shown is not None
    assert raw_of(nowhere.shown, {}) == []


async def test_who_lost_a_device_does_not_see_it_by_an_old_copy(database: Database) -> None:
    inside = structs.replace(
        sample_archives(OWNER, 1)[0].item, longitude=121.4, latitude=31.2, civil_code="310104"
    )
    archive = structs.replace(sample_archives(OWNER, 1)[0], item=inside)
    mine = Selection(Scope(civil_codes=frozenset({"310104"})))
    queries = DeviceQueries(database, _Idle(database, SystemClock()))
    await database.write(store.upsert_many, [archive], OWNER, NOW)
    await SearchIndex(database, SystemClock()).refresh()
    assert (await queries.in_area(mine, Area(CITY), 10)).ids == [archive.device_id]
    moved = structs.replace(archive, item=structs.replace(inside, civil_code="310107"))
    await database.write(store.upsert_many, [moved], OWNER, NOW)
    found = await queries.in_area(mine, Area(CITY), 10)
    assert (found.ids, found.total) == ([], 0)
    assert found.lag is not None


class _Idle(SearchIndex):
    """An index that does not follow when it is asked to: as one that is far behind."""

    async def refresh(self, patience_s: float = 0.0) -> bool:
        return False


async def test_devices_without_a_position_are_counted_anew_when_an_archive_changes(
    database: Database,
) -> None:
    bare = [
        structs.replace(a, item=structs.replace(a.item, longitude=None, latitude=None))
        for a in sample_archives(OWNER, 3)
    ]
    index = SearchIndex(database, SystemClock())
    queries = DeviceQueries(database, index)
    for count in (2, 3):
        await database.write(store.upsert_many, bare[:count], OWNER, NOW)
        for _ in range(2):
            found = await queries.in_area(Selection(EVERYTHING), Area(CITY), 10)
            assert found.placeless == count


async def test_one_statement_serves_other_boxes_pages_and_selections(database: Database) -> None:
    archives = [
        structs.replace(
            a,
            item=structs.replace(
                a.item, longitude=121.0 + n / 100, latitude=31.2, civil_code="310104" if n % 3 else "310107"
            ),
        )
        for n, a in enumerate(sample_archives(OWNER, 60))
    ]
    await database.write(store.upsert_many, archives, OWNER, NOW)
    await SearchIndex(database, SystemClock()).refresh()
    # One statement at most is kept, so that each change of the selection lets go of the other's.
    ready = ShownInBox(StatusCopy(database), limit=1)
    seen = 0
    for code in ("310104", "310107", "310104"):
        selection = Selection(Scope(civil_codes=frozenset({code})))
        for west in (121.0, 121.1, 121.155):
            box = Box(west, 31.0, west + 0.25, 31.5)
            expected = [
                a.device_id
                for a in archives
                if a.item.civil_code == code and box.holds(a.item.longitude or 0.0, a.item.latitude or 0.0)
            ]
            found: list[str] = []
            after: int | None = 0
            while after is not None:
                page = await database.read(
                    ready.ask, selection, box, GeoCoordSys.WGS84, 4, after, 1_000 if seen % 2 else None
                )
                found += page.ids
                assert len(page.rows) == len(page.ids) <= 4
                after = page.more_from
            assert found == sorted(expected)
            seen += 1
    nothing = await database.read(
        ready.ask, Selection(EVERYTHING), CITY, GeoCoordSys.WGS84, 4, 0, len(archives)
    )
    assert not nothing.ids
