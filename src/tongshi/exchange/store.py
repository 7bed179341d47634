"""What is remembered of neighbours: positions, owners they speak for, and a full that is being received."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from tongshi.exchange.model import Equality, Peer, PeerState, ShardRoot
from tongshi.resources.devices import digest_store
from tongshi.storage import changes
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import change, exchange_peer, exchange_snapshot, exchange_snapshot_part, setting
from tongshi.storage.times import from_ms, to_ms

OUT, IN = "out", "in"
_VIA = "via"
_FEED = "exchange_feed"
_p = exchange_peer.c
_s = exchange_snapshot.c
_part = exchange_snapshot_part.c


class _Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of ``Peer`` that no query asks for, kept as JSON."""

    feed: str = ""
    full_key: str | None = None
    full_from: int = 0
    snapshot_id: str = ""
    confirmed: int = 0
    waiting: int = 0
    differences: int = 0
    full_done_at: datetime | None = None


class Absent(msgspec.Struct, frozen=True, array_like=True):
    """Keys of one owner that a page did not hold although we do."""

    owner: str
    keys: list[str]


class Snapshot(msgspec.Struct, frozen=True):
    """A full that is being received. ``last_key`` is acknowledged; ``is_paged`` once the last page came."""

    id: str
    peer: str
    feed: str
    position: int
    last_key: str
    is_paged: bool


def feed(conn: Connection, fresh: str) -> str:
    """The name of this database's change feed; ``fresh`` becomes it when there is none yet."""
    known: str | None = conn.execute(select(setting.c.value).where(setting.c.name == _FEED)).scalar()
    if known is not None:
        return known
    conn.execute(insert(setting).values(name=_FEED, value=fresh))
    return fresh


def get_peer(conn: Connection, platform_id: str, direction: str) -> Peer:
    """What is remembered, or a blank."""
    row = conn.execute(
        select(exchange_peer).where(_p.platform_id == platform_id, _p.direction == direction)
    ).one_or_none()
    return Peer(platform_id, direction) if row is None else _from_row(row)


def count_changes_after(conn: Connection, seq: int, kinds: Collection[str]) -> int:
    """How many changes wait behind a position."""
    statement = select(func.count()).select_from(change).where(change.c.seq > seq, change.c.kind.in_(kinds))
    return conn.execute(statement).scalar_one()


def head(conn: Connection) -> int:
    """Where our feed stands."""
    return changes.head(conn)


def device_counts(conn: Connection) -> dict[str, int]:
    """Present devices by owner."""
    return digest_store.owners(conn)


def shards(conn: Connection, owner: str) -> list[ShardRoot]:
    """Leaves of an owner's digest tree."""
    found = digest_store.shard_digests(conn, owner)
    return [ShardRoot(shard.civil_code, shard.count, shard.digest.hex()) for shard in found]


def list_peers(conn: Connection) -> list[Peer]:
    """Every neighbour in every direction."""
    rows = conn.execute(select(exchange_peer).where(_p.direction.in_((OUT, IN))).order_by(_p.platform_id))
    return [_from_row(row) for row in rows]


def put_peer(conn: Connection, peer: Peer, at: datetime) -> None:
    """Remember."""
    cursor = _Cursor(
        peer.feed,
        peer.full_key,
        peer.full_from,
        peer.snapshot_id,
        peer.confirmed,
        peer.waiting,
        peer.differences,
        peer.full_done_at,
    )
    values: dict[str, Any] = {
        "platform_id": peer.platform_id,
        "direction": peer.direction,
        "position": peer.position,
        "cursor": msgspec.json.encode(cursor).decode(),
        "state": peer.state.value,
        "digest_state": peer.equality.value,
        "lag": peer.lag,
        "failures": peer.failures,
        "last_error": peer.last_error[:500],
        "last_success_at": None if peer.last_success_at is None else to_ms(peer.last_success_at),
        "next_try_at": None if peer.next_try_at is None else to_ms(peer.next_try_at),
        "updated_at": to_ms(at),
    }
    bulk_upsert(conn, exchange_peer, tuple(values), [tuple(values.values())])


def via(conn: Connection, owner: str) -> str | None:
    """The neighbour through which an owner is heard of."""
    statement = select(_p.cursor).where(_p.platform_id == owner, _p.direction == _VIA)
    return conn.execute(statement).scalar_one_or_none()


def bind_owner(conn: Connection, owner: str, sender: str, at: datetime) -> None:
    """Note that ``owner`` is heard of through ``sender``."""
    values = {"platform_id": owner, "direction": _VIA, "cursor": sender, "updated_at": to_ms(at)}
    conn.execute(insert(exchange_peer).values(values))


def owners_via(conn: Connection, sender: str) -> list[str]:
    """Owners that are heard of through a neighbour, itself among them once it spoke."""
    statement = select(_p.platform_id).where(_p.direction == _VIA, _p.cursor == sender)
    return list(conn.execute(statement.order_by(_p.platform_id)).scalars())


def count_owners_via(conn: Connection, sender: str) -> int:
    statement = select(func.count()).select_from(exchange_peer)
    return conn.execute(statement.where(_p.direction == _VIA, _p.cursor == sender)).scalar_one()


def open_snapshot(conn: Connection, snapshot: Snapshot, at: datetime, expires_at: datetime) -> None:
    """Begin to receive a full; an older one of the same peer is forgotten."""
    for old in conn.execute(select(_s.id).where(_s.peer == snapshot.peer)).scalars().all():
        drop_snapshot(conn, old)
    conn.execute(
        insert(exchange_snapshot).values(
            id=snapshot.id,
            peer=snapshot.peer,
            direction=IN,
            owner=snapshot.feed,
            state="paged" if snapshot.is_paged else "paging",
            position=snapshot.position,
            last_key=snapshot.last_key,
            created_at=to_ms(at),
            expires_at=to_ms(expires_at),
        )
    )


def snapshot_of(conn: Connection, peer: str, at: datetime) -> Snapshot | None:
    """The full that is being received from a peer, if it is not too old."""
    row = conn.execute(
        select(exchange_snapshot).where(_s.peer == peer, _s.direction == IN, _s.expires_at > to_ms(at))
    ).first()
    if row is None:
        return None
    return Snapshot(row.id, row.peer, row.owner, row.position, row.last_key, row.state == "paged")


def advance_snapshot(
    conn: Connection, snapshot: Snapshot, last_key: str, is_paged: bool, expires_at: datetime
) -> None:
    """Acknowledge a page."""
    values = {
        "last_key": last_key,
        "state": "paged" if is_paged else "paging",
        "expires_at": to_ms(expires_at),
    }
    conn.execute(update(exchange_snapshot).where(_s.id == snapshot.id).values(values))


def drop_snapshot(conn: Connection, snapshot_id: str) -> None:
    """Forget a full and its parts."""
    conn.execute(delete(exchange_snapshot_part).where(_part.snapshot_id == snapshot_id))
    conn.execute(delete(exchange_snapshot).where(_s.id == snapshot_id))


def drop_expired_snapshots(conn: Connection, at: datetime) -> int:
    """Forget fulls that broke off long ago. Returns how many."""
    old = conn.execute(select(_s.id).where(_s.expires_at <= to_ms(at))).scalars().all()
    for snapshot_id in old:
        drop_snapshot(conn, snapshot_id)
    return len(old)


def note_absent(conn: Connection, snapshot_id: str, absent: Iterable[Absent]) -> None:
    """Remember keys that a page lacked."""
    _add_part(conn, snapshot_id, [a for a in absent if a.keys], [])


def note_put(conn: Connection, snapshot_id: str, keys: list[str]) -> None:
    """Remember keys that a change brought back while the full was being received."""
    _add_part(conn, snapshot_id, [], keys)


def absent_of(conn: Connection, snapshot_id: str) -> dict[str, list[str]]:
    """Keys by owner that the full lacked and no later change brought."""
    absent: dict[str, dict[str, None]] = {}
    statement = select(_part.body).where(_part.snapshot_id == snapshot_id).order_by(_part.number)
    for body in conn.execute(statement).scalars():
        noted, put = msgspec.json.decode(body, type=tuple[list[Absent], list[str]])
        for item in noted:
            absent.setdefault(item.owner, {}).update(dict.fromkeys(item.keys))
        for keys in absent.values():
            for key in put:
                keys.pop(key, None)
    return {owner: list(keys) for owner, keys in absent.items() if keys}


def _add_part(conn: Connection, snapshot_id: str, absent: list[Absent], put: list[str]) -> None:
    if not absent and not put:
        return
    number = conn.execute(
        select(func.coalesce(func.max(_part.number), 0) + 1).where(_part.snapshot_id == snapshot_id)
    ).scalar_one()
    body = msgspec.json.encode((absent, put))
    conn.execute(insert(exchange_snapshot_part).values(snapshot_id=snapshot_id, number=number, body=body))


def _from_row(row: Any) -> Peer:
    cursor = msgspec.json.decode(row.cursor or "{}", type=_Cursor)
    return Peer(
        platform_id=row.platform_id,
        direction=row.direction,
        position=row.position,
        state=PeerState(row.state or "new"),
        equality=Equality(row.digest_state),
        lag=row.lag,
        failures=row.failures,
        last_error=row.last_error,
        last_success_at=from_ms(row.last_success_at),
        next_try_at=from_ms(row.next_try_at),
        **msgspec.structs.asdict(cursor),
    )
