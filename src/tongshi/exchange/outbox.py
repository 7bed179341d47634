"""What we tell others: the owners we speak for, the next batch after a position, pages of a full, roots.

Units of work over a connection; nothing here knows a network. A neighbour is never told what it told us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection

from tongshi.exchange import rows, store
from tongshi.exchange.model import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, GoneItem, OwnerRoot
from tongshi.resources.devices import digest_store, reading_store
from tongshi.resources.devices import store as devices
from tongshi.storage import changes

KINDS = (devices.KIND, devices.KIND_STATUS)
# From a row of ``devices.reading_store.wire_rows``.
Row = Sequence[Any]
Encode = Callable[[Row], msgspec.Raw]
_DEVICE_ID, _OWNER, _MISSING_SINCE = 0, -6, -2
assert reading_store.WIRE_COLUMNS[_OWNER] == "owner_platform"
assert reading_store.WIRE_COLUMNS[_MISSING_SINCE] == "missing_since"


@dataclass(frozen=True, slots=True)
class Audience:
    """Who listens: a neighbour, or a caller who was granted some owners (None for all)."""

    peer: str = ""
    owners: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The latest state of every key that changed in (from, to]; ``roots`` when nothing is left behind."""

    from_position: int
    to_position: int
    items: list[msgspec.Raw]
    gone: list[GoneItem]
    remaining: int
    roots: list[OwnerRoot] | None


@dataclass(frozen=True, slots=True)
class Page:
    """Archives with ``after_key < id <= last_key`` in order."""

    after_key: str
    last_key: str
    items: list[msgspec.Raw]
    is_last: bool


def exportable(conn: Connection, audience: Audience) -> list[str]:
    """Owners whose archives an audience is told; a neighbour not of its own nor of what came through it."""
    hidden = _hidden(conn, audience)
    return sorted(
        owner
        for owner in digest_store.owners(conn)
        if owner not in hidden and (audience.owners is None or owner in audience.owners)
    )


def next_batch(
    conn: Connection,
    audience: Audience,
    position: int,
    limit: int = MAX_BATCH_ITEMS,
    encode: Encode = rows.encode,
) -> Batch:
    """Changes after ``position``, cut at ``limit`` changes or ``MAX_BATCH_BYTES``.

    Raises:
        Gone: the position was compacted away; do a full.
    """
    noted = changes.read_after(conn, position, limit, KINDS)
    found = reading_store.wire_rows_of(conn, list(dict.fromkeys(change.key for change in noted)))
    hidden = _hidden(conn, audience)
    items: list[msgspec.Raw] = []
    gone: list[GoneItem] = []
    reached, size = position, 0
    for change in noted:
        row = found.pop(change.key, None)
        if row is not None and _is_told(row[_OWNER], audience, hidden):
            if row[_MISSING_SINCE] is not None:
                gone.append(GoneItem(row[_OWNER], row[_DEVICE_ID]))
            else:
                record = encode(row)
                size += len(memoryview(record))
                if size > MAX_BATCH_BYTES and items:
                    break
                items.append(record)
        reached = change.seq
    is_current = len(noted) < limit and (not noted or reached == noted[-1].seq)
    if is_current:
        reached = max(reached, changes.head(conn))
        return Batch(position, reached, items, gone, 0, roots(conn, audience))
    remaining = store.count_changes_after(conn, reached, KINDS)
    return Batch(position, reached, items, gone, remaining, None)


def state_of(conn: Connection, audience: Audience, places: Sequence[tuple[str, str]]) -> Batch:
    """The latest state of devices that an audience holds wrongly; what is not there (any more) is gone.

    Of a device that moved, both owners are wrong over there: it is told once, under the one it has now.
    """
    found = reading_store.wire_rows_of(conn, [device_id for _, device_id in places])
    hidden = _hidden(conn, audience)
    told = [
        rows.encode(row)
        for row in found.values()
        if row[_MISSING_SINCE] is None and _is_told(row[_OWNER], audience, hidden)
    ]
    gone = [
        GoneItem(owner, device_id)
        for owner, device_id in places
        if device_id not in found or found[device_id][_MISSING_SINCE] is not None
    ]
    return Batch(0, 0, told, gone, 0, None)


def page(
    conn: Connection,
    audience: Audience,
    after_key: str,
    limit: int = MAX_BATCH_ITEMS,
) -> Page:
    """The next page of a full; where the database writes JSON itself, as it wrote it."""
    owners = exportable(conn, audience)
    lines = reading_store.wire_lines(conn, after_key, limit, owners) if owners else None
    if lines and sum(len(memoryview(line)) for line in lines) <= MAX_BATCH_BYTES:
        return Page(after_key, rows.key_of(lines[-1]), lines, is_last=len(lines) < limit)
    found = reading_store.wire_rows(conn, after_key, limit, owners) if owners else []
    items: list[msgspec.Raw] = []
    size = 0
    for row in found:
        record = rows.encode(row)
        size += len(memoryview(record))
        if size > MAX_BATCH_BYTES and items:
            return Page(after_key, found[len(items) - 1][_DEVICE_ID], items, is_last=False)
        items.append(record)
    last_key = found[-1][_DEVICE_ID] if found else after_key
    return Page(after_key, last_key, items, is_last=len(found) < limit)


def roots(conn: Connection, audience: Audience) -> list[OwnerRoot]:
    """Count and digest of every owner that an audience is told of."""
    return roots_of(conn, exportable(conn, audience))


def roots_of(conn: Connection, owners: Sequence[str]) -> list[OwnerRoot]:
    """Count and digest of owners, zero for one we hold nothing of."""
    found = ((owner, digest_store.root_digest(conn, owner)) for owner in owners)
    return [OwnerRoot(owner, count, digest.hex()) for owner, (count, digest) in found]


def _hidden(conn: Connection, audience: Audience) -> set[str]:
    return {audience.peer, *store.owners_via(conn, audience.peer)} if audience.peer else set()


def _is_told(owner: str, audience: Audience, hidden: set[str]) -> bool:
    return (audience.owners is None or owner in audience.owners) and owner not in hidden
