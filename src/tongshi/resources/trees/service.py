"""Trees as a caller may see them, and the nodes that catalogues tell.

Implements: DB31DSJ/Z 001-2024 6.2.2
Implements: GB/T 28181-2022 Annex J
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import NotFound
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import divisions
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.trees import store
from tongshi.resources.trees.model import (
    Branch,
    Node,
    Tree,
    TreeKind,
    below,
    grow,
    item_of,
    node_of,
    roots,
    united,
    walk,
)
from tongshi.sharing.model import Scope
from tongshi.storage.engine import Database

KEEP_S = 5.0
MAX_KEPT = 32  # trees in memory; one holds as many bundles as there are different parents

_NODES = frozenset(kind.value for kind in ItemKind if kind is not ItemKind.DEVICE)

# Names of the platforms that we know, our own among them, by id.
Platforms = Callable[[], Awaitable[Mapping[str, str]]]
Devices = Callable[[Sequence[str], Scope], Awaitable[Mapping[str, DeviceArchive]]]


@dataclass(frozen=True, slots=True)
class Expansion:
    """What hangs directly below one place; ``next_after`` is empty when no more devices follow."""

    branches: list[Branch]
    devices: list[DeviceArchive]
    next_after: str = ""


async def division_names(db: Database, codes: Sequence[str]) -> dict[str, str]:
    """Names of divisions by code: GB/T 2260 names what it knows, catalogues the rest."""
    printed = {code: divisions.name_of(next(iter(divisions.chain(code)), "")) for code in codes}
    told = await db.read(store.division_names, [code for code in codes if not printed[code]])
    return {code: name or told.get(code, "") for code, name in printed.items()}


class Trees:
    """The three trees over nodes and devices."""

    def __init__(self, db: Database, clock: Clock, devices: Devices, platforms: Platforms) -> None:
        self._db = db
        self._clock = clock
        self._devices = devices
        self._platforms = platforms
        self._kept: OrderedDict[tuple[TreeKind, Scope], tuple[float, Tree]] = OrderedDict()

    async def merge_nodes(self, owner: str, source: str, items: Sequence[CatalogItem]) -> int:
        """Take the nodes among catalogue items; absence proves nothing. Returns how many changed."""
        told = {item.device_id: node_of(item, owner, source) for item in items}
        nodes = [node for key, node in told.items() if node is not None and key != owner]
        if not nodes:
            return 0
        return await self._db.write(store.put, owner, nodes, self._clock.at())

    async def nodes(self) -> list[Node]:
        """Every node that was told, in order of id."""
        return await self._db.read(store.all_nodes)

    async def shared(self, scope: Scope, own_id: str) -> list[CatalogItem]:
        """Nodes with a device of the scope below them, each after its parent; without ``own_id`` itself.

        Systems first, then divisions, then groups and organisations, with the fields of Annex J.
        """
        told = united(await self.nodes())
        platforms = await self._tree(TreeKind.PLATFORM, scope)
        branches = [
            branch
            for kind in (TreeKind.PLATFORM, TreeKind.DIVISION, TreeKind.GROUP)
            for branch in walk(await self._tree(kind, scope))
            if branch.count and branch.kind in _NODES and branch.id != own_id
        ]
        systems = {branch.id for branch in branches if branch.kind == ItemKind.SYSTEM.value}
        return [
            item_of(branch, told.get(branch.id), systems - below(platforms, branch.id), own_id)
            for branch in branches
        ]

    async def expand(
        self, kind: TreeKind, scope: Scope, parent: str = "", after: str = "", limit: int = 200
    ) -> Expansion:
        """What hangs below ``parent``, or the roots: branches (with the first page only), and devices.

        A branch without a device of the scope below it is shown only to who may see everything.

        Raises:
            NotFound: no such place, or nothing there for this caller.
        """
        tree = await self._tree(kind, scope)
        at = tree.get(parent)
        if parent and (at is None or not _is_visible(at, scope)):
            raise NotFound("目录节点不存在")
        below = [tree[key] for key in sorted(at.children)] if at is not None else roots(tree)
        branches = [] if after else [branch for branch in below if _is_visible(branch, scope)]
        if at is None:
            return Expansion(branches, [])
        ids = await self._db.read(store.device_ids, scope, kind, at.direct, after, limit + 1)
        found = await self._devices([key for key in ids[:limit] if key not in tree], scope)
        devices = [found[key] for key in ids[:limit] if key in found]
        return Expansion(branches, devices, ids[limit - 1] if len(ids) > limit else "")

    async def _tree(self, kind: TreeKind, scope: Scope) -> Tree:
        """The tree as it was within the last seconds: a person who opens branch after branch pays once."""
        now = self._clock.now()
        until, tree = self._kept.get((kind, scope), (0.0, {}))
        if until <= now:
            platforms = await self._platforms()
            tree = await self._db.read(_grown, kind, scope, platforms)
            self._kept[kind, scope] = (now + KEEP_S, tree)
            self._kept.move_to_end((kind, scope))
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return tree


def _grown(conn: Connection, kind: TreeKind, scope: Scope, platforms: Mapping[str, str]) -> Tree:
    bundles = store.bundles(conn, scope)
    named = {p for b in bundles for p in b.parent_ids if kind_of(p) is ItemKind.DEVICE}
    parents = store.parents(conn, scope, named) if kind is TreeKind.PLATFORM else {}
    return grow(kind, store.all_nodes(conn), bundles, parents, platforms)


def _is_visible(branch: Branch, scope: Scope) -> bool:
    return scope.is_everything or branch.count > 0
