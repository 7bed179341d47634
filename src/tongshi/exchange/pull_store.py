"""Rows and leaves within the divisions that somebody who pulls is told of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, false, or_, select, true

from tongshi.exchange import store
from tongshi.exchange.reach import Reach
from tongshi.resources.devices import digest_store, reading_store
from tongshi.resources.devices.model import Shard
from tongshi.sharing.scope_store import below
from tongshi.storage import changes
from tongshi.storage.bulk import among, chunks, in_key_order
from tongshi.storage.schema import device_archive

_a = device_archive.c


@dataclass(frozen=True, slots=True)
class Named:
    """A present device that the caller was granted by its id."""

    device_id: str
    owner: str
    shard: str
    digest: bytes


def named(conn: Connection, reach: Reach) -> list[Named]:
    """The single devices that somebody who pulls is told of, in what was asked for."""
    hidden = hidden_from(conn, reach.peer)
    columns = select(_a.device_id, _a.owner_platform, _a.shard, _a.digest)
    present = columns.where(_a.missing_since.is_(None), _below(reach.narrowed_to))
    return [
        Named(*row)
        for chunk in chunks(sorted(reach.devices))
        for row in conn.execute(present.where(among(conn, _a.device_id, chunk)))
        if row.owner_platform not in hidden
    ]


def owners(conn: Connection, reach: Reach, single: Sequence[Named]) -> list[str]:
    """Owners of present devices of which the caller may be told something; ``single`` is ``named``."""
    hidden = hidden_from(conn, reach.peer)
    whole = {owner for owner in digest_store.owners(conn) if owner not in hidden and reach.within(owner)}
    return sorted(whole | {one.owner for one in single})


def hidden_from(conn: Connection, peer: str) -> frozenset[str]:
    """A neighbour is not told of its own devices, nor of what came through it."""
    return frozenset({peer, *store.owners_via(conn, peer)}) if peer else frozenset()


def page(
    conn: Connection, reach: Reach, single: Sequence[Named], after_key: str, limit: int
) -> Sequence[Sequence[Any]]:
    """The next present rows in order of DeviceID, as ``devices.reading_store.WIRE_COLUMNS`` says."""
    told = owners(conn, reach, single)
    if not told:
        return []
    if all(reach.within(owner) == ("",) for owner in told):
        return reading_store.wire_rows(conn, after_key, limit, told)
    ids = _next_within(conn, reach, told, after_key, limit)
    ids = sorted({*ids, *(one.device_id for one in single if one.device_id > after_key)})[:limit]
    found = reading_store.wire_rows_of(conn, ids)
    return [found[key] for key in ids if key in found]


def leaves(conn: Connection, owner: str, prefixes: Collection[str], single: Sequence[Named]) -> list[Shard]:
    """Leaves of an owner's digest tree within divisions, and what ``single`` devices add to them.

    One that lies across the edge is summed anew.
    """
    of_shard: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for one in single:
        if one.owner == owner:
            of_shard[one.shard][one.device_id] = one.digest
    found: list[Shard] = []
    for shard in digest_store.shard_digests(conn, owner):
        if any(shard.civil_code.startswith(prefix) for prefix in prefixes):
            found.append(shard)
            continue
        deeper = [p for p in prefixes if shard.civil_code and p.startswith(shard.civil_code)]
        digests = {**_digests_below(conn, owner, shard.civil_code, deeper), **of_shard[shard.civil_code]}
        if digests:
            found.append(Shard(shard.civil_code, len(digests), digest_store.combine(digests.values())))
    return found


def head_and_floor(conn: Connection) -> tuple[int, int]:
    """Where our feed stands, and below which position it was compacted."""
    return changes.head(conn), changes.floor(conn)


def _next_within(
    conn: Connection, reach: Reach, told: Collection[str], after_key: str, limit: int
) -> Sequence[str]:
    """The next present ids of what is granted by owner and division."""
    wanted = and_(_a.device_id > after_key, _a.missing_since.is_(None), _clause(reach, told))
    in_key_order(conn)
    return (
        conn.execute(select(_a.device_id).where(wanted).order_by(_a.device_id).limit(limit)).scalars().all()
    )


def _digests_below(
    conn: Connection, owner: str, shard: str, prefixes: Collection[str]
) -> Mapping[str, bytes]:
    """Digests by id of what of one leaf lies below divisions that are deeper than it."""
    if not prefixes:
        return {}
    part = and_(_a.owner_platform == owner, _a.shard == shard, _a.missing_since.is_(None), _below(prefixes))
    return {row.device_id: row.digest for row in conn.execute(select(_a.device_id, _a.digest).where(part))}


def _clause(reach: Reach, told: Collection[str]) -> ColumnElement[bool]:
    by_prefixes: dict[tuple[str, ...], list[str]] = {}
    for owner in told:
        if prefixes := reach.within(owner):
            by_prefixes.setdefault(prefixes, []).append(owner)
    return or_(
        false(), *(and_(_a.owner_platform.in_(o), _below(prefixes)) for prefixes, o in by_prefixes.items())
    )


def _below(prefixes: Collection[str]) -> ColumnElement[bool]:
    if "" in prefixes:
        return true()
    return or_(*(below(_a.civil_code, prefix) for prefix in sorted(prefixes)))
