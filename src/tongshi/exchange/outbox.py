"""What we tell a neighbour: the owners we speak for, the next batch after a position, pages of a full, roots.

Units of work over a connection; nothing here knows a network. A neighbour is never told what it told us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from tongshi.exchange import store, wire
from tongshi.exchange.model import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, GoneItem, OwnerRoot
from tongshi.resources.devices import store as devices
from tongshi.storage import changes

KINDS = (devices.KIND, devices.KIND_STATUS)


@dataclass(frozen=True, slots=True)
class Batch:
    """The latest state of every key that changed in (from, to]; ``roots`` when nothing is left behind."""

    from_position: int
    to_position: int
    items: list[msgspec.Raw]
    gone: list[GoneItem]
    head: int
    roots: list[OwnerRoot] | None

    @property
    def is_empty(self) -> bool:
        return not self.items and not self.gone


@dataclass(frozen=True, slots=True)
class Page:
    """Archives with ``after_key < id <= last_key`` in order."""

    after_key: str
    last_key: str
    items: list[msgspec.Raw]
    is_last: bool


def exportable(conn: Connection, peer: str) -> list[str]:
    """Owners whose archives we tell ``peer``: all we hold, but for its own and those that came through it."""
    from_peer = {peer, *store.owners_via(conn, peer)}
    return sorted(owner for owner in devices.owners(conn) if owner not in from_peer)


def next_batch(conn: Connection, peer: str, position: int, limit: int = MAX_BATCH_ITEMS) -> Batch:
    """Changes after ``position``, cut at ``limit`` changes or ``MAX_BATCH_BYTES``.

    Raises:
        Gone: the position was compacted away; do a full.
    """
    noted = changes.read_after(conn, position, limit, KINDS)
    head = changes.head(conn)
    keys = list(dict.fromkeys(change.key for change in noted))
    found = devices.get_many(conn, keys)
    hidden = {peer, *store.owners_via(conn, peer)}
    items: list[msgspec.Raw] = []
    gone: list[GoneItem] = []
    reached, size = position, 0
    done: set[str] = set()
    for change in noted:
        archive = None if change.key in done else found.get(change.key)
        done.add(change.key)
        if archive is not None and archive.owner not in hidden:
            if archive.missing_since is not None:
                gone.append(GoneItem(archive.owner, archive.device_id))
            else:
                record = wire.encode(archive)
                size += len(bytes(record))
                if size > MAX_BATCH_BYTES and items:
                    break
                items.append(record)
        reached = change.seq
    is_current = len(noted) < limit and (not noted or reached == noted[-1].seq)
    if is_current:
        reached = max(reached, head)
    return Batch(
        position, reached, items, gone, max(head, reached), roots(conn, peer) if is_current else None
    )


def page(conn: Connection, peer: str, after_key: str, limit: int = MAX_BATCH_ITEMS) -> Page:
    """The next page of a full."""
    owners = exportable(conn, peer)
    archives = devices.iter_owned(conn, None, after_key, limit, owners) if owners else []
    items: list[msgspec.Raw] = []
    size = 0
    for archive in archives:
        record = wire.encode(archive)
        size += len(bytes(record))
        if size > MAX_BATCH_BYTES and items:
            return Page(after_key, archives[len(items) - 1].device_id, items, is_last=False)
        items.append(record)
    last_key = archives[-1].device_id if archives else after_key
    return Page(after_key, last_key, items, is_last=len(archives) < limit)


def roots(conn: Connection, peer: str) -> list[OwnerRoot]:
    """Count and digest of every owner we tell ``peer`` of."""
    return roots_of(conn, exportable(conn, peer))


def roots_of(conn: Connection, owners: Sequence[str]) -> list[OwnerRoot]:
    """Count and digest of owners, zero for one we hold nothing of."""
    return [OwnerRoot(owner, *_hex(devices.root_digest(conn, owner))) for owner in owners]


def _hex(root: tuple[int, bytes]) -> tuple[int, str]:
    return root[0], root[1].hex()
