"""The change feed: what changed, in an order in which a reader that remembers one number misses nothing.

Numbers taken from a sequence are not in commit order: 11 may be visible while 10 is still uncommitted, and a
reader that stored 11 never sees 10. A fence on the transaction (``pg_snapshot_xmin``) alone does not help a
cursor of such numbers either, because a younger transaction may hold the smaller number. So on PostgreSQL the
number is made of the transaction
itself: ``(transaction id + epoch) << 20 | counter``. A reader stops below the oldest transaction that still
runs; everything that becomes visible later has a larger transaction id and so a larger number. No lock is
taken and no writer waits. The epoch is raised when a database was restored into a cluster whose transaction
ids are smaller (``rebase``).

SQLite has one writer; there the number is a plain counter.

A change says that a key changed, not how: the reader fetches the latest state of the key, so the order among
changes of one key carries no meaning.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import (
    BigInteger,
    Connection,
    ScalarSelect,
    column,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from tongshi.errors import Gone, LocalViolation
from tongshi.storage.bulk import bulk_insert
from tongshi.storage.schema import change, setting
from tongshi.storage.times import to_ms

Op = Literal["put", "missing", "delete"]
KEEP = timedelta(days=180)
MAX_CHANGES_OF_A_UNIT = 1 << 20
# So that a feed of years holds up no other write.
COMPACTED_AT_ONCE = 20_000

_EPOCH = "change_epoch"
_FLOOR = "change_floor"
_EPOCH_SQL = f"COALESCE((SELECT CAST(value AS bigint) FROM setting WHERE name = '{_EPOCH}'), 0)"  # noqa: S608
# The transaction's own first number, and the first number that may still be missing below.
_OWN_BASE = text(f"SELECT (CAST(CAST(pg_current_xact_id() AS text) AS bigint) + {_EPOCH_SQL}) << 20")
_FENCE = text(
    f"SELECT (CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) + {_EPOCH_SQL}) << 20"
)
_COLUMNS = ("seq", "kind", "key", "op", "origin", "revision", "at")


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the feed: ``origin`` is the platform that wrote, ``revision`` the owner's count."""

    seq: int
    kind: str
    key: str
    op: Op
    origin: str
    revision: int
    at: int


def record(conn: Connection, kind: str, key: str, op: Op, origin: str, revision: int, at: datetime) -> int:
    """Note one change in the caller's transaction. Returns its number."""
    return record_many(conn, kind, [(key, op, revision)], origin, at)


def record_many(
    conn: Connection, kind: str, items: Sequence[tuple[str, Op, int]], origin: str, at: datetime
) -> int:
    """Note ``(key, op, revision)`` for many keys of one kind. Returns the last number, 0 without items."""
    if not items:
        return 0
    last = _last_number(conn)
    at_ms = to_ms(at)
    rows = [
        (seq, kind, key, op, origin, revision, at_ms)
        for seq, (key, op, revision) in enumerate(items, start=last + 1)
    ]
    bulk_insert(conn, change, _COLUMNS, rows)
    return last + len(rows)


def read_after(conn: Connection, seq: int, limit: int, kinds: Collection[str] | None = None) -> list[Change]:
    """Changes after ``seq`` in order, at most ``limit``; only such that nothing can appear below them later.

    Raises:
        Gone: ``seq`` lies before what was compacted; the reader needs a full synchronisation.
    """
    if seq < floor(conn):
        raise Gone("变更记录已压缩，请执行全量同步")
    statement = select(change).where(change.c.seq > seq).order_by(change.c.seq).limit(limit)
    if kinds is not None:
        statement = statement.where(change.c.kind.in_(kinds))
    if conn.dialect.name == "postgresql":
        statement = statement.where(change.c.seq < conn.execute(_FENCE).scalar_one())
    return [Change(*row) for row in conn.execute(statement)]


def head(conn: Connection) -> int:
    """The last number a reader can have reached now; the floor when the feed is empty."""
    newest = select(func.max(change.c.seq))
    if conn.dialect.name == "postgresql":
        newest = newest.where(change.c.seq < _FENCE.columns(column("fence", BigInteger)).scalar_subquery())
    found, floor_ = conn.execute(select(newest.scalar_subquery(), floor_value())).one()
    return max(found or 0, int(floor_ or 0))


def floor(conn: Connection) -> int:
    """Positions below this one were compacted away."""
    return _number(conn, _FLOOR)


def floor_value() -> ScalarSelect[str]:
    """The floor as a part of another statement: a number as text, or NULL for 0."""
    return select(setting.c.value).where(setting.c.name == _FLOOR).scalar_subquery()


def compact(conn: Connection, before: datetime, limit: int = COMPACTED_AT_ONCE) -> int:
    """Forget changes older than ``before``, at most ``limit``, and raise the floor. Returns how many went."""
    last = conn.execute(select(func.max(change.c.seq)).where(change.c.at < to_ms(before))).scalar()
    if last is None:
        return 0
    # By number, not by time: a transaction that began early and noted late must not leave a hole above the
    # floor.
    old = select(change.c.seq).where(change.c.seq <= last).order_by(change.c.seq).limit(limit).subquery()
    last = conn.execute(select(func.max(old.c.seq))).scalar_one()
    gone = conn.execute(delete(change).where(change.c.seq <= last)).rowcount
    _set_number(conn, _FLOOR, last)
    return gone


def rebase(conn: Connection) -> None:
    """After a restore into another PostgreSQL cluster: lift the epoch above every number already given."""
    if conn.dialect.name != "postgresql":
        return
    highest = max(conn.execute(select(func.max(change.c.seq))).scalar() or 0, floor(conn))
    base: int = conn.execute(_OWN_BASE).scalar_one()
    if highest >= base + MAX_CHANGES_OF_A_UNIT:
        _set_number(conn, _EPOCH, _number(conn, _EPOCH) + ((highest - base) >> 20) + 1)


def _last_number(conn: Connection) -> int:
    """The last number this unit may continue from."""
    if conn.dialect.name != "postgresql":
        return max(conn.execute(select(func.max(change.c.seq))).scalar() or 0, floor(conn))
    base: int = conn.execute(_OWN_BASE).scalar_one()
    own = select(func.max(change.c.seq)).where(
        change.c.seq > base, change.c.seq < base + MAX_CHANGES_OF_A_UNIT
    )
    last: int = conn.execute(own).scalar() or base
    if last + 1 >= base + MAX_CHANGES_OF_A_UNIT:
        raise LocalViolation("a unit of work notes more than 2**20 changes")
    return last


def _number(conn: Connection, name: str) -> int:
    return int(conn.execute(select(setting.c.value).where(setting.c.name == name)).scalar() or 0)


def _set_number(conn: Connection, name: str, value: int) -> None:
    changed = conn.execute(update(setting).where(setting.c.name == name).values(value=str(value)))
    if changed.rowcount == 0:
        conn.execute(insert(setting).values(name=name, value=str(value)))
