"""What the place index copies of archives: it follows every change, and is read only when it has."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import structs

from tongshi.clock import SystemClock
from tongshi.resources.devices import query_store, store
from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.query import Area, DeviceQueries
from tongshi.resources.devices.query_store import BoxPlan, Lite
from tongshi.resources.devices.selection import Selection
from tongshi.sharing.model import EVERYTHING, Scope
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import sample_archives

OWNER = "31010400002000000001"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
CITY = Box(121.0, 31.0, 122.0, 32.0)


async def _boxed(database: Database, plan: BoxPlan) -> list[tuple[int, Lite]]:
    return await database.read(query_store.rows_in_box, Selection(EVERYTHING), CITY, plan, 10_000, 0)


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
    copied = await _boxed(database, BoxPlan.PLACE)
    assert copied == await _boxed(database, BoxPlan.TRAILING)
    assert len(copied) == 38
    assert [row.name for _, row in copied if row.device_id == placed[0].device_id] == ["改名"]


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
