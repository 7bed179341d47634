"""Trees over stored nodes and devices, on both engines: what a caller may see, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import LimitExceeded, NotFound
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.trees import store
from tongshi.resources.trees.model import UNASSIGNED, TreeKind
from tongshi.resources.trees.service import KEEP_S, Trees
from tongshi.sharing.model import EVERYTHING, Scope
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
OWN, LOWER, OTHER = "31000000002000000001", "31010400002000000001", "31010500002000000001"
GROUP, AREA, NVR = "31010400002150000001", "31010400002160000001", "31010400001180000001"
NODES = (
    CatalogItem(device_id=LOWER, name="自己"),
    CatalogItem(device_id="310104", name="徐汇"),
    CatalogItem(device_id=GROUP, name="治安", civil_code="310104", parent_ids=(LOWER,)),
    CatalogItem(device_id=AREA, name="东区", business_group_id=GROUP),
    CatalogItem(device_id=NVR, name="录像机"),
)


class Town:
    """A database with two owners' devices and the trees over it."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.db = database
        self.trees = Trees(
            database, self.clock, DeviceArchives(database, device_store, self.clock, OWN).get_many, names
        )

    async def settle(self) -> None:
        await self.trees.merge_nodes(LOWER, LOWER, NODES)
        archives = [
            archive(100, parents=(LOWER,), device_id=NVR),
            *(archive(n, parents=(LOWER, AREA)) for n in range(1, 6)),
            *(archive(n, parents=(NVR,)) for n in range(6, 9)),
            archive(9, OTHER, "310105", ("31010500002000000404",)),
            archive(10, OTHER, ""),
        ]
        await self.db.write(device_store.upsert_many, archives, OWN, AT)
        await self.db.write(device_store.set_statuses, {code(1): True, code(9): True}, "test", AT)

    async def level(
        self, kind: TreeKind, parent: str = "", scope: Scope = EVERYTHING
    ) -> tuple[dict[str, tuple[int, int]], list[str]]:
        found = await self.trees.expand(kind, scope, parent)
        return {b.id: (b.count, b.online) for b in found.branches}, [d.device_id for d in found.devices]


async def names() -> Mapping[str, str]:
    return {OWN: "市级平台", LOWER: "徐汇区平台", OTHER: "长宁区平台"}


def code(number: int) -> str:
    return f"3101040000132{number:07}"


def archive(
    number: int,
    owner: str = LOWER,
    civil_code: str = "310104",
    parents: tuple[str, ...] = (),
    device_id: str = "",
) -> DeviceArchive:
    item = CatalogItem(
        device_id=device_id or code(number), name=f"路口{number}", civil_code=civil_code, parent_ids=parents
    )
    return DeviceArchive(item=item, owner=owner, source=Source.REST, revision=1)


@pytest.fixture
async def town(database: Database) -> Town:
    built = Town(database)
    await built.settle()
    return built


async def test_divisions_open_level_by_level_down_to_devices(town: Town) -> None:
    assert await town.level(TreeKind.DIVISION) == ({"31": (10, 2), UNASSIGNED: (1, 0)}, [])
    assert (await town.level(TreeKind.DIVISION, "31"))[0] == {"3101": (10, 2)}
    assert (await town.level(TreeKind.DIVISION, "3101"))[0] == {"310104": (9, 1), "310105": (1, 1)}
    assert await town.level(TreeKind.DIVISION, "310105") == ({}, [code(9)])
    assert await town.level(TreeKind.DIVISION, UNASSIGNED) == ({}, [code(10)])


async def test_groups_and_organisations_hold_their_devices_and_the_rest_is_unassigned(town: Town) -> None:
    assert (await town.level(TreeKind.GROUP))[0] == {GROUP: (5, 1), UNASSIGNED: (6, 1)}
    assert (await town.level(TreeKind.GROUP, GROUP))[0] == {AREA: (5, 1)}
    assert (await town.level(TreeKind.GROUP, AREA))[1] == [code(n) for n in range(1, 6)]
    assert NVR in (await town.level(TreeKind.GROUP, UNASSIGNED))[1]


async def test_a_device_with_channels_is_a_branch_of_its_platform(town: Town) -> None:
    assert (await town.level(TreeKind.PLATFORM))[0] == {OWN: (0, 0), LOWER: (9, 1), OTHER: (2, 1)}
    branches, devices = await town.level(TreeKind.PLATFORM, LOWER)
    assert branches == {NVR: (3, 0)}
    assert devices == [code(n) for n in range(1, 6)]
    assert await town.level(TreeKind.PLATFORM, NVR) == ({}, [code(n) for n in range(6, 9)])


async def test_a_caller_sees_and_counts_only_what_lies_in_his_scope(town: Town) -> None:
    scope = Scope(civil_codes=frozenset({"310105"}))
    assert (await town.level(TreeKind.PLATFORM, scope=scope))[0] == {OTHER: (1, 1)}
    assert (await town.level(TreeKind.DIVISION, "3101", scope))[0] == {"310105": (1, 1)}
    for hidden in (LOWER, "no such place"):
        with pytest.raises(NotFound):
            await town.level(TreeKind.PLATFORM, hidden, scope)
    assert await town.level(TreeKind.DIVISION, scope=Scope()) == ({}, [])


async def test_devices_come_in_pages_and_branches_only_with_the_first(town: Town) -> None:
    seen: list[str] = []
    after = ""
    for _ in range(5):
        page = await town.trees.expand(TreeKind.GROUP, EVERYTHING, AREA, after, 2)
        seen += [device.device_id for device in page.devices]
        after = page.next_after
        if not after:
            break
    assert seen == [code(n) for n in range(1, 6)]


async def test_what_goes_up_are_the_nodes_above_shared_devices_with_the_fields_of_annex_j(town: Town) -> None:
    scope = Scope(device_ids=frozenset({code(1)}))
    system, *divisions, group, area = await town.trees.shared(scope, OWN)
    assert (system.device_id, system.parent_ids, system.civil_code) == (LOWER, (OWN,), "310104")
    assert divisions == [
        CatalogItem(device_id="31", name="上海市"),
        CatalogItem(device_id="3101", name="市辖区"),
        CatalogItem(device_id="310104", name="徐汇区"),
    ]
    assert group == CatalogItem(device_id=GROUP, name="治安", civil_code="310104", parent_ids=(LOWER,))
    assert area == CatalogItem(device_id=AREA, name="东区", business_group_id=GROUP)
    assert await town.trees.shared(Scope(), OWN) == []


async def test_a_tree_is_read_anew_after_a_while(town: Town) -> None:
    await town.level(TreeKind.GROUP)
    await town.db.write(device_store.upsert_many, [archive(11, parents=(AREA,))], OWN, AT)
    town.clock.advance(KEEP_S)
    assert (await town.level(TreeKind.GROUP))[0][GROUP] == (6, 1)


async def test_nodes_are_written_once_kept_by_owner_and_bounded(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await town.trees.merge_nodes(LOWER, LOWER, NODES) == 0
    assert await town.trees.merge_nodes(OTHER, OTHER, NODES[1:2]) == 1
    assert [node.id for node in await town.trees.nodes()] == ["310104", "310104", GROUP, AREA]
    monkeypatch.setattr(store, "MAX_NODES", 1)
    with pytest.raises(LimitExceeded):
        await town.trees.merge_nodes(OTHER, OTHER, [CatalogItem(device_id="310105")])
