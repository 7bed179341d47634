"""Nodes of catalogues in the database, and what of the device archive a tree needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, and_, cast, func, select, tuple_

from tongshi.errors import LimitExceeded
from tongshi.protocols.gb28181.codes import ItemKind
from tongshi.resources.devices.reading_store import scope_clause
from tongshi.resources.trees.model import Bundle, Node, Parent, TreeKind
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import bulk_upsert, chunks
from tongshi.storage.schema import catalogue_node, device_archive, device_status
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

MAX_NODES = 50_000  # of one owner
_PAIRS = 300  # conditions of one statement
_TEXTS = (
    "id", "name", "parent_ids", "business_group_id", "civil_code", "manufacturer", "model", "address",
    "source",
)  # fmt: skip
_COLUMNS = ("owner_platform", "kind", *_TEXTS, "updated_at")
_n, _a, _s = catalogue_node.c, device_archive.c, device_status.c
_BELONGING = (_a.owner_platform, _a.civil_code, _a.parent_ids, _a.business_group_id)
# What decides where a device hangs in a tree (``model.grow``).
_DECIDING = {
    TreeKind.DIVISION: (_a.civil_code,),
    TreeKind.GROUP: (_a.parent_ids, _a.business_group_id),
    TreeKind.PLATFORM: (_a.owner_platform, _a.parent_ids),
}


def put(conn: Connection, owner: str, nodes: Sequence[Node], at: datetime) -> int:
    """Store the nodes of one owner; only differences are written. Returns how many.

    Raises:
        LimitExceeded: the owner has too many.
    """
    wanted = {node.id: _row(node, owner, at) for node in nodes}
    known: dict[str, tuple[Any, ...]] = {}
    for chunk in chunks(list(wanted)):
        found = conn.execute(
            select(*(_n[name] for name in _COLUMNS)).where(_n.owner_platform == owner, _n.id.in_(chunk))
        )
        known.update((row.id, tuple(row)) for row in found)
    rows = [row for key, row in wanted.items() if key not in known or known[key][:-1] != row[:-1]]
    if any(key not in known for key in wanted):
        of_owner = select(func.count()).select_from(catalogue_node).where(_n.owner_platform == owner)
        total = conn.execute(of_owner).scalar_one()
        if total + len(wanted) - len(known) > MAX_NODES:
            raise LimitExceeded(f"目录节点超过上限 {MAX_NODES}", code=42903)
    bulk_upsert(conn, catalogue_node, _COLUMNS, rows)
    return len(rows)


def all_nodes(conn: Connection) -> list[Node]:
    """Every node, in order of id and owner."""
    statement = select(*(_n[name] for name in _COLUMNS)).order_by(_n.id, _n.owner_platform)
    return [_node(row) for row in conn.execute(statement)]


def division_names(conn: Connection, codes: Sequence[str]) -> dict[str, str]:
    """Names that catalogues tell of divisions, by code; of several owners the first that tells one."""
    wanted = (_n.kind == ItemKind.DIVISION.value, _n["name"] != "")
    found: dict[str, str] = {}
    for chunk in chunks(codes):
        statement = select(_n.id, _n["name"]).where(_n.id.in_(chunk), *wanted)
        for code, name in conn.execute(statement.order_by(_n.owner_platform)):
            found.setdefault(code, name)
    return found


def bundles(conn: Connection, scope: Scope) -> list[Bundle]:
    """The present devices of the scope, counted by where they say they belong."""
    online = func.coalesce(func.sum(cast(_s.is_online, Integer)), 0)
    rows = conn.execute(
        select(*_BELONGING, func.count(), online)
        .select_from(device_archive.outerjoin(device_status, _a.device_id == _s.device_id))
        .where(scope_clause(scope), _a.missing_since.is_(None))
        .group_by(*_BELONGING)
        .order_by(*_BELONGING)
    )
    return [Bundle(r[0], r[1] or "", _split(r[2]), r[3] or "", r[4], int(r[5])) for r in rows]


def parents(conn: Connection, scope: Scope, device_ids: Collection[str]) -> dict[str, Parent]:
    """Those of the ids that are present devices of the scope."""
    found: dict[str, Parent] = {}
    for chunk in chunks(sorted(device_ids)):
        rows = conn.execute(
            select(_a.device_id, _a["name"], *_BELONGING).where(
                _a.device_id.in_(chunk), scope_clause(scope), _a.missing_since.is_(None)
            )
        )
        for row in rows:
            bundle = Bundle(row[2], row[3] or "", _split(row[4]), row[5] or "", 1)
            found[row[0]] = Parent(row[0], row[1], bundle)
    return found


def device_ids(
    conn: Connection, scope: Scope, kind: TreeKind, direct: Sequence[Bundle], after: str, limit: int
) -> list[str]:
    """The next devices that hang at one place, in order of id."""
    columns = _DECIDING[kind]
    keys = sorted({tuple(_stored(bundle)[column.name] for column in columns) for bundle in direct})
    found: list[str] = []
    for start in range(0, len(keys), _PAIRS):
        statement = select(_a.device_id).where(
            and_(
                tuple_(*columns).in_(keys[start : start + _PAIRS]),
                _a.device_id > after,
                _a.missing_since.is_(None),
                scope_clause(scope),
            )
        )
        found += conn.execute(statement.order_by(_a.device_id).limit(limit)).scalars()
    return sorted(found)[:limit]


def _stored(bundle: Bundle) -> dict[str, str]:
    return {
        "owner_platform": bundle.owner,
        "civil_code": bundle.civil_code,
        "parent_ids": "/".join(bundle.parent_ids),
        "business_group_id": bundle.business_group_id,
    }


def _row(node: Node, owner: str, at: datetime) -> tuple[Any, ...]:
    texts = [getattr(node, name) for name in _TEXTS]
    texts[2] = "/".join(texts[2])
    return (owner, node.kind.value, *map(storable, texts), to_ms(at))


def _node(row: Any) -> Node:
    values = {name: getattr(row, name) for name in _TEXTS}
    values["parent_ids"] = _split(row.parent_ids)
    return Node(
        **values, kind=ItemKind(row.kind), owner=row.owner_platform, updated_at=from_ms(row.updated_at)
    )


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(text.split("/")) if text else ()
