"""Nodes of catalogues, and how a tree grows from them and from where the devices say they belong.

Implements: GB/T 28181-2022 Annex J
Implements: GB/T 28181-2022 A.2.1.9

The trees of Annex J: divisions, business groups with their virtual organisations, platforms with devices and
sub-devices. A device is placed by its ParentID, the organisation first, then the parent device, then the
system, and its owner when it names nobody we know; in the tree of divisions by the longest valid prefix of
its CivilCode; and under "unassigned" (未归属) when all that fails. Nothing is dropped. A chain of parents in
a circle, or deeper than ``MAX_DEPTH``, is cut and said so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from tongshi.protocols.gb28181.codes import ItemKind, kind_of, normalise_civil_code
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.devices import divisions

MAX_DEPTH: Final = 16
UNASSIGNED: Final = "unassigned"


class TreeKind(StrEnum):
    """Which tree."""

    DIVISION = "division"
    GROUP = "group"
    PLATFORM = "platform"


class Fault(StrEnum):
    """Why a node does not hang where it says; numbered with the rules between fields."""

    LOOP = "X-20"
    TOO_DEEP = "X-21"


FAULTS: Final = {
    Fault.LOOP: "上级关系成环，已断开",
    Fault.TOO_DEEP: f"上级关系超过 {MAX_DEPTH} 层，已断开",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A division, system, business group or virtual organisation as a catalogue told it.

    Attributes:
        owner: the platform whose node this is.
        source: the peer that told.
    """

    id: str
    kind: ItemKind
    owner: str
    name: str = ""
    parent_ids: tuple[str, ...] = ()
    business_group_id: str = ""
    civil_code: str = ""
    manufacturer: str = ""
    model: str = ""
    address: str = ""
    source: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """Devices that say the same of where they belong: as many as there are different answers, not devices."""

    owner: str
    civil_code: str
    parent_ids: tuple[str, ...]
    business_group_id: str
    count: int
    online: int = 0


@dataclass(frozen=True, slots=True)
class Parent:
    """A device that others name as their parent."""

    id: str
    name: str
    bundle: Bundle


@dataclass(slots=True)
class Branch:
    """One place in a tree. ``direct`` are the bundles that hang here; counts are of all below."""

    id: str
    name: str
    kind: str
    parent: str = ""
    owner: str = ""
    children: list[str] = field(default_factory=list)
    direct: list[Bundle] = field(default_factory=list)
    count: int = 0
    online: int = 0
    fault: Fault | None = None


Tree = dict[str, Branch]


def node_of(item: CatalogItem, owner: str, source: str) -> Node | None:
    """The node that a catalogue item is; None when it is a device."""
    kind = kind_of(item.device_id)
    if kind is ItemKind.DEVICE:
        return None
    is_division = kind is ItemKind.DIVISION
    return Node(
        id=item.device_id,
        kind=kind,
        owner=owner,
        name=item.name,
        parent_ids=() if is_division else item.parent_ids,
        business_group_id=item.business_group_id,
        civil_code="" if is_division else item.civil_code,
        manufacturer=item.manufacturer,
        model=item.model,
        address=item.address,
        source=source,
    )


def grow(
    kind: TreeKind,
    nodes: Sequence[Node],
    bundles: Iterable[Bundle],
    parents: Mapping[str, Parent],
    platforms: Mapping[str, str],
) -> Tree:
    """Grow one tree.

    Args:
        nodes: of every owner; the first of two with the same id gives name and parent.
        bundles: every device in sight, by where it says it belongs.
        parents: devices in sight that bundles name as parents, by id.
        platforms: names of the platforms we know, by id.

    Returns:
        Branches by id; roots have an empty parent. ``UNASSIGNED`` is there when something hangs under it.
    """
    tree: Tree = {}
    if kind is TreeKind.DIVISION:
        _plant_divisions(tree, nodes)
    elif kind is TreeKind.GROUP:
        _plant_groups(tree, nodes)
    else:
        _plant_platforms(tree, nodes, platforms)
        _plant_parents(tree, parents)
    _cut_circles(tree)
    for bundle in bundles:
        branch = _ensure(tree, _place(kind, tree, bundle))
        branch.direct.append(bundle)
        while True:
            branch.count += bundle.count
            branch.online += bundle.online
            if not branch.parent:
                break
            branch = tree[branch.parent]
    for branch in tree.values():
        if branch.parent:
            tree[branch.parent].children.append(branch.id)
    return tree


def roots(tree: Tree) -> list[Branch]:
    """Branches without a parent, "unassigned" last."""
    return sorted((b for b in tree.values() if not b.parent), key=lambda b: (b.id == UNASSIGNED, b.id))


def walk(tree: Tree) -> Iterator[Branch]:
    """Every branch after its parent."""
    waiting = roots(tree)[::-1]
    while waiting:
        branch = waiting.pop()
        yield branch
        waiting += [tree[key] for key in sorted(branch.children, reverse=True)]


def united(nodes: Iterable[Node]) -> dict[str, Node]:
    """One node an id: what the first teller says, with the parents that all of them name (H.2.1)."""
    found: dict[str, Node] = {}
    for node in nodes:
        first = found.setdefault(node.id, node)
        if first is not node:
            parents = tuple(dict.fromkeys((*first.parent_ids, *node.parent_ids)))
            found[node.id] = replace(first, parent_ids=parents)
    return found


def below(tree: Tree, key: str) -> set[str]:
    """Everything below one branch."""
    found: set[str] = set()
    waiting = [key] if key in tree else []
    while waiting:
        children = tree[waiting.pop()].children
        found.update(children)
        waiting += children
    return found


def item_of(branch: Branch, told: Node | None, systems: Collection[str], own_id: str) -> CatalogItem:
    """A branch as an item with the fields of Annex J; a parent that is not told there is replaced by us."""
    if branch.kind == ItemKind.DIVISION.value:
        return CatalogItem(device_id=branch.id, name=branch.name)
    told = told or Node(branch.id, ItemKind(branch.kind), branch.owner)
    civil_code = normalise_civil_code(told.civil_code) or normalise_civil_code(branch.id[:10])
    above = tuple(p for p in told.parent_ids if p in systems and p != branch.id)[:1] or (own_id,)
    if branch.kind == ItemKind.BUSINESS_GROUP.value:
        return CatalogItem(device_id=branch.id, name=branch.name, civil_code=civil_code, parent_ids=above)
    if branch.kind == ItemKind.VIRTUAL_ORGANISATION.value:
        is_nested = kind_of(branch.parent) is ItemKind.VIRTUAL_ORGANISATION
        return CatalogItem(
            device_id=branch.id,
            name=branch.name,
            parent_ids=(branch.parent,) if is_nested else (),
            business_group_id=told.business_group_id,
        )
    first = (branch.parent,) if branch.parent in systems else ()
    others = tuple(p for p in told.parent_ids if p in systems and p not in (branch.id, branch.parent))
    return CatalogItem(
        device_id=branch.id,
        name=branch.name,
        manufacturer=told.manufacturer or "未知",
        model=told.model or "未知",
        civil_code=civil_code,
        address=told.address or branch.name,
        parent_ids=first + others or (own_id,),
        status=DeviceStatus.ON if branch.online else DeviceStatus.OFF,
    )


def _plant_divisions(tree: Tree, nodes: Sequence[Node]) -> None:
    for node in nodes:
        if node.kind is ItemKind.DIVISION:
            branch = _ensure(tree, divisions.chain(node.id)[0])
            # GB/T 2260 names what it knows; the peer's word counts for the rest.
            branch.name = divisions.name_of(branch.id) or node.name or branch.name


def _plant_groups(tree: Tree, nodes: Sequence[Node]) -> None:
    known = {n.id for n in nodes if n.kind in (ItemKind.BUSINESS_GROUP, ItemKind.VIRTUAL_ORGANISATION)}
    for node in nodes:
        if node.id not in known or node.id in tree:
            continue
        parent = ""
        if node.kind is ItemKind.VIRTUAL_ORGANISATION:
            above = [p for p in node.parent_ids if p in known] + [node.business_group_id]
            parent = next((p for p in above if p in known), UNASSIGNED)
        tree[node.id] = Branch(node.id, node.name or node.id, node.kind.value, parent, node.owner)
    if any(branch.parent == UNASSIGNED for branch in tree.values()):
        _ensure(tree, UNASSIGNED)


def _plant_platforms(tree: Tree, nodes: Sequence[Node], platforms: Mapping[str, str]) -> None:
    systems = {n.id: n for n in reversed(nodes) if n.kind is ItemKind.SYSTEM}
    for key, name in platforms.items():
        tree[key] = Branch(key, name or key, ItemKind.SYSTEM.value, owner=key)
    for key, node in sorted(systems.items()):
        above = [p for p in node.parent_ids if p != key and (p in systems or p in platforms)]
        # A system that a neighbour told of stands below that neighbour.
        parent = above[0] if above else node.owner if node.owner in platforms and node.owner != key else ""
        branch = tree.setdefault(key, Branch(key, node.name or key, node.kind.value, owner=node.owner))
        if key not in platforms:
            branch.parent = parent


def _plant_parents(tree: Tree, parents: Mapping[str, Parent]) -> None:
    for key, parent in parents.items():
        tree[key] = Branch(key, parent.name or key, ItemKind.DEVICE.value, owner=parent.bundle.owner)
    for key, parent in parents.items():
        tree[key].parent = _place(TreeKind.PLATFORM, tree, parent.bundle)
        _ensure(tree, tree[key].parent)


def _place(kind: TreeKind, tree: Tree, bundle: Bundle) -> str:
    """Where these devices hang; a known branch, a division, or "unassigned"."""
    if kind is TreeKind.DIVISION:
        return next(iter(divisions.chain(normalise_civil_code(bundle.civil_code))), UNASSIGNED)
    if kind is TreeKind.GROUP:
        wanted = [p for p in bundle.parent_ids if kind_of(p) is ItemKind.VIRTUAL_ORGANISATION]
        wanted += [p for p in (*bundle.parent_ids, bundle.business_group_id) if p]
    else:
        wanted = sorted(bundle.parent_ids, key=lambda p: kind_of(p) is not ItemKind.DEVICE)
        wanted += [bundle.owner]
    return next((p for p in wanted if p in tree and p != UNASSIGNED), UNASSIGNED)


def _ensure(tree: Tree, key: str) -> Branch:
    """The branch; "unassigned" and divisions, with those above them, appear when something hangs there."""
    found = tree.get(key)
    if found is not None:
        return found
    if key == UNASSIGNED:
        found = Branch(UNASSIGNED, "未归属", UNASSIGNED)
    else:
        above = [code for code in divisions.chain(key) if code != key]
        name = divisions.name_of(key) or key
        found = Branch(key, name, ItemKind.DIVISION.value, above[0] if above else "")
        if above:
            _ensure(tree, above[0])
    tree[key] = found
    return found


def _cut_circles(tree: Tree) -> None:
    """Hang under "unassigned" what has no end above it, or one too far away."""
    depth: dict[str, int] = {"": 0}
    for start in sorted(tree):
        path, end = _path(tree, start, depth)
        if end in path:
            circle = list(path)[list(path).index(end) :]
            # The smallest id is cut, so that the same nodes give the same tree in whatever order they came.
            _cut(tree, min(circle), Fault.LOOP)
            path, _ = _path(tree, start, depth)
        for key in reversed(path):
            if depth[tree[key].parent] >= MAX_DEPTH:
                _cut(tree, key, Fault.TOO_DEEP)
            depth[key] = depth.setdefault(tree[key].parent, 1) + 1


def _path(tree: Tree, start: str, depth: Mapping[str, int]) -> tuple[dict[str, None], str]:
    """From ``start`` upward to what is measured already or was passed before; and which that is."""
    path: dict[str, None] = {}
    key = start
    while key not in depth and key not in path:
        path[key] = None
        key = tree[key].parent
    return path, key


def _cut(tree: Tree, key: str, fault: Fault) -> None:
    _ensure(tree, UNASSIGNED)
    tree[key].parent, tree[key].fault = UNASSIGNED, fault
