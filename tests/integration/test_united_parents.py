"""Devices and systems that several lower platforms tell of are one, with the parents of all (H.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.recorded_archive import RecordedArchive, platform_subject
from tongshi.gateways.signalling.subscriptions.record import RecordedNewsroom
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.devices import store
from tongshi.resources.devices.model import DeviceArchive, Source, Word
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.trees.model import TreeKind, roots
from tongshi.resources.trees.service import Trees
from tongshi.sharing import store as sharing_store
from tongshi.sharing.decision import Access
from tongshi.sharing.model import EVERYTHING, Grant, ScopeKind, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
SELF, EAST, WEST, UPPER = (f"3101{n}00002000000001" for n in ("00", "04", "05", "99"))
CAMERA, OTHER = "31010400001320000001", "31010500001320000002"
GATE, HALL, SHARED = "31010400002000000011", "31010500002000000012", "31010400002000000013"


def told(code: str, *parents: str, on: bool = True) -> CatalogItem:
    status = DeviceStatus.ON if on else DeviceStatus.OFF
    return CatalogItem(device_id=code, name="路口", civil_code="310104", parent_ids=parents, status=status)


class World:
    """The archive of a city with two districts."""

    def __init__(self, database: Database) -> None:
        self.db = database
        clock = ManualClock(start=AT)
        access = Access(database)
        self.devices = DeviceArchives(database, store, clock, SELF)
        self.trees = Trees(database, clock, self.devices.get_many, self._platforms)
        self.archive = RecordedArchive(self.devices, access, clock, SELF, self.trees)
        self.newsroom = RecordedNewsroom(database, self.devices, self.archive, clock, SELF)
        self._clock = clock

    async def _platforms(self) -> Mapping[str, str]:
        return {SELF: "市级", EAST: "东区", WEST: "西区"}

    async def tell(self, peer: str, *items: CatalogItem) -> None:
        self._clock.advance(10)
        await self.archive.merge_catalogue(peer, items, is_platform=True)

    async def upward(self) -> CatalogItem:
        (item,) = await self.archive.shared_items(UPPER, [CAMERA])
        return item

    async def held(self) -> DeviceArchive:
        return await self.devices.get(CAMERA)


async def world_of_two(database: Database, *, east_on: bool = True, west_on: bool = True) -> World:
    world = World(database)
    subject = platform_subject(UPPER)
    grant = Grant("g", SubjectKind.PLATFORM, subject.id, frozenset({Permission.ARCHIVE_READ}), ScopeKind.ALL)
    await database.write(sharing_store.add_grant, grant, AT)
    await world.tell(EAST, told(CAMERA, GATE, on=east_on))
    await world.tell(WEST, told(CAMERA, HALL, on=west_on))
    return world


async def test_the_parents_of_all_go_up_and_who_said_what_is_kept(database: Database) -> None:
    world = await world_of_two(database)
    held = await world.held()
    assert (held.owner, held.item.parent_ids) == (EAST, (GATE,))
    assert (await world.upward()).parent_ids == (GATE, HALL)
    assert await world.devices.words([CAMERA]) == {
        CAMERA: {EAST: Word((GATE,), True), WEST: Word((HALL,), True)}
    }
    # A teller that names nobody stands for itself; the first word of the owner stays first.
    await world.tell(WEST, told(CAMERA))
    assert (await world.upward()).parent_ids == (GATE, WEST)
    assert (await world.newsroom.told_items(UPPER, [CAMERA]))[CAMERA].parent_ids == (GATE, WEST)


async def test_a_device_that_one_platform_tells_of_leaves_no_trace_in_the_table(database: Database) -> None:
    world = World(database)
    await world.tell(EAST, told(CAMERA, GATE))
    await world.tell(EAST, told(CAMERA, GATE, on=False))
    assert await world.devices.words([CAMERA]) == {}


async def test_it_works_when_one_of_them_says_so(database: Database) -> None:
    world = await world_of_two(database, east_on=False)
    assert (await world.held()).online
    await world.tell(WEST, told(CAMERA, HALL, on=False))
    assert not (await world.held()).online
    assert CAMERA in await world.newsroom.told_by(WEST, [CAMERA], is_platform=True)
    await world.archive.note_status({CAMERA: True}, WEST, "")
    assert (await world.held()).online
    await world.archive.note_status({CAMERA: False}, EAST, "")
    assert (await world.held()).online
    await world.archive.note_status({CAMERA: False}, WEST, "")
    assert not (await world.held()).online


async def test_nothing_is_deleted_while_another_still_tells_of_it(database: Database) -> None:
    world = await world_of_two(database)
    assert await world.newsroom.mark_gone(EAST, [CAMERA], is_platform=True) == 0
    held = await world.held()
    assert (held.owner, held.item.parent_ids, held.missing_since, held.item.name) == (
        WEST,
        (HALL,),
        None,
        "路口",
    )
    assert (await world.upward()).parent_ids == (HALL,)
    assert await world.newsroom.mark_gone(WEST, [CAMERA], is_platform=True) == 1
    assert (await world.held()).missing_since is not None


async def test_when_the_other_takes_its_item_away_the_owners_stays(database: Database) -> None:
    world = await world_of_two(database, east_on=False)
    assert await world.newsroom.mark_gone(WEST, [CAMERA], is_platform=True) == 0
    held = await world.held()
    assert (held.owner, held.missing_since, held.online) == (EAST, None, False)
    assert (await world.upward()).parent_ids == (GATE,)


async def test_a_device_of_our_own_keeps_what_we_know_of_it(database: Database) -> None:
    world = World(database)
    await world.archive.merge_catalogue(CAMERA, [told(CAMERA, on=False)], is_platform=False)
    await world.tell(WEST, told(CAMERA, HALL))
    held = await world.held()
    assert (held.owner, held.source, held.online) == (SELF, Source.SIGNALLING, False)
    assert await world.newsroom.mark_gone(WEST, [CAMERA], is_platform=True) == 0
    assert (await world.held()).missing_since is None


async def test_a_system_that_two_tell_of_is_one_node_with_what_both_hang_below_it(database: Database) -> None:
    world = World(database)
    gate, hall = (CatalogItem(device_id=code, name="枢纽") for code in (GATE, HALL))
    for peer, above, code in ((EAST, GATE, CAMERA), (WEST, HALL, OTHER)):
        system = CatalogItem(device_id=SHARED, name="综合系统", parent_ids=(above,))
        await world.archive.merge_nodes(peer, [gate, hall, system], is_platform=True)
        await world.tell(peer, told(code, SHARED))
    await world.tell(EAST, told("31010400001320000003", HALL), told("31010400001320000004", GATE))
    tree = await world.trees._tree(TreeKind.PLATFORM, EVERYTHING)
    assert (tree[SHARED].count, tree[SHARED].parent) == (2, GATE)
    below = await world.trees.expand(TreeKind.PLATFORM, EVERYTHING, SHARED)
    assert [one.device_id for one in below.devices] == [CAMERA, OTHER]
    assert sum(branch.count for branch in roots(tree)) == 4
    (system_up,) = [one for one in await world.trees.shared(EVERYTHING, SELF) if one.device_id == SHARED]
    assert system_up.parent_ids == (GATE, HALL)


async def test_parents_that_would_close_a_circle_are_left_out(database: Database) -> None:
    world = World(database)
    down: Any = [
        CatalogItem(device_id=GATE, name="甲"),
        CatalogItem(device_id=HALL, name="乙", parent_ids=(GATE,)),
    ]
    await world.archive.merge_nodes(EAST, down, is_platform=True)
    up = [CatalogItem(device_id=GATE, name="甲", parent_ids=(HALL,))]
    await world.archive.merge_nodes(WEST, up, is_platform=True)
    await world.tell(EAST, told(CAMERA, HALL))
    shared = {one.device_id: one.parent_ids for one in await world.trees.shared(EVERYTHING, SELF)}
    assert (shared[GATE], shared[HALL]) == ((EAST,), (GATE,))
