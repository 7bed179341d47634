"""Rows and leaves within the divisions that somebody who pulls is told of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, true

from tongshi.exchange import store
from tongshi.exchange.reach import Reach
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import Shard
from tongshi.storage import changes
from tongshi.storage.bulk import in_key_order
from tongshi.storage.schema import device_archive

_a = device_archive.c


def owners(conn: Connection, reach: Reach) -> list[str]:
    """Owners of present devices of which the caller may be told something."""
    hidden = hidden_from(conn, reach.peer)
    return sorted(owner for owner in devices.owners(conn) if owner not in hidden and reach.within(owner))


def hidden_from(conn: Connection, peer: str) -> frozenset[str]:
    """A neighbour is not told of its own devices, nor of what came through it."""
    return frozenset({peer, *store.owners_via(conn, peer)}) if peer else frozenset()


def page(conn: Connection, reach: Reach, after_key: str, limit: int) -> Sequence[Sequence[Any]]:
    """The next present rows in order of DeviceID, as ``devices.store.WIRE_COLUMNS`` says."""
    told = owners(conn, reach)
    if not told:
        return []
    if all(reach.within(owner) == ("",) for owner in told):
        return devices.wire_rows(conn, after_key, limit, told)
    wanted = and_(_a.device_id > after_key, _a.missing_since.is_(None), _clause(reach, told))
    in_key_order(conn)
    ids = list(conn.execute(select(_a.device_id).where(wanted).order_by(_a.device_id).limit(limit)).scalars())
    found = devices.wire_rows_of(conn, ids)
    return [found[key] for key in ids if key in found]


def leaves(conn: Connection, owner: str, prefixes: Collection[str]) -> list[Shard]:
    """Leaves of an owner's digest tree within divisions; one that lies across the edge is summed anew."""
    found: list[Shard] = []
    for shard in devices.shard_digests(conn, owner):
        if any(shard.civil_code.startswith(prefix) for prefix in prefixes):
            found.append(shard)
        elif deeper := [p for p in prefixes if shard.civil_code and p.startswith(shard.civil_code)]:
            part = and_(
                _a.owner_platform == owner,
                _a.shard == shard.civil_code,
                _a.missing_since.is_(None),
                _below(deeper),
            )
            digests = list(conn.execute(select(_a.digest).where(part)).scalars())
            if digests:
                found.append(Shard(shard.civil_code, len(digests), devices.combine(digests)))
    return found


def head_and_floor(conn: Connection) -> tuple[int, int]:
    """Where our feed stands, and below which position it was compacted."""
    return changes.head(conn), changes.floor(conn)


def _clause(reach: Reach, told: Collection[str]) -> ColumnElement[bool]:
    by_prefixes: dict[tuple[str, ...], list[str]] = {}
    for owner in told:
        by_prefixes.setdefault(reach.within(owner), []).append(owner)
    return or_(*(and_(_a.owner_platform.in_(o), _below(prefixes)) for prefixes, o in by_prefixes.items()))


def _below(prefixes: Collection[str]) -> ColumnElement[bool]:
    if "" in prefixes:
        return true()
    return or_(*(and_(_a.civil_code >= p, _a.civil_code < p + chr(0x10FFFF)) for p in sorted(prefixes)))
