"""Audit records in an SM3 hash chain, in the order of their commits.

Implements: DB31DSJ/Z 001-2024 7.3

The hash of a record covers the hash before it, so that changing, removing or inserting one breaks every hash
after it; the head row holds the end of the chain, so that cutting off the tail shows too. Writers meet at the
head row, which they lock
until they commit: on PostgreSQL append last in a unit of work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from tongshi.audit.tags import AuditTag, Outcome
from tongshi.errors import LocalViolation
from tongshi.storage.schema import audit, audit_head
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

# Six months (7.3) in the longest reading; no configuration can make it shorter.
RETENTION = timedelta(days=184)
DAYS_THAT_FOLLOW = 183
_DAY_MS = 86_400_000
MAX_DETAILS_BYTES = 8 * 1024
MAX_TEXT_CHARS = 256
Row = Any  # a row of a select on audit
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing somebody did or tried. ``details`` is JSON-able and holds no secrets."""

    at: datetime
    event: AuditTag
    outcome: Outcome
    subject_kind: str = ""
    subject_id: str = ""
    subject_name: str = ""
    object_kind: str = ""
    object_id: str = ""
    address: str = ""
    request_id: str = ""
    grant_number: str = ""
    reason: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry as it stands in the chain."""

    seq: int
    entry: AuditEntry
    hash: bytes


def append(conn: Connection, entry: AuditEntry) -> int:
    """Add one entry to the chain in the caller's transaction. Returns its number, gapless from 1."""
    return append_many(conn, (entry,))


def append_many(conn: Connection, entries: Sequence[AuditEntry]) -> int:
    """Add entries in their order. Returns the number of the last."""
    seq, chained = _locked_end(conn)
    rows: list[dict[str, object]] = []
    for entry in entries:
        seq += 1
        values = _values(seq, entry)
        chained = _chain(chained, tuple(values.values()))
        rows.append({**values, "hash": chained})
    if rows:
        conn.execute(insert(audit), rows)
        conn.execute(update(audit_head).values(last_seq=seq, last_hash=chained))
    return seq


def verify(conn: Connection, batch: int = 2_000) -> int | None:
    """Recompute the chain. Returns the first number that is wrong or missing, None when all is well."""
    head = conn.execute(select(audit_head)).one_or_none()
    if head is None:
        unexpected: int | None = conn.execute(select(func.min(audit.c.seq))).scalar()
        return unexpected
    seq: int = head.first_seq
    previous: bytes = head.first_hash
    while True:
        rows = conn.execute(select(audit).where(audit.c.seq > seq).order_by(audit.c.seq).limit(batch)).all()
        for row in rows:
            seq += 1
            if row.seq != seq or row.hash != (previous := _chain(previous, tuple(row)[:-1])):
                return seq
        if not rows:
            break
    first: int | None = conn.execute(select(func.min(audit.c.seq))).scalar()
    if first is not None and first <= head.first_seq:
        return first
    is_whole = seq == head.last_seq and previous == head.last_hash
    return None if is_whole else seq + 1


def page(
    conn: Connection,
    page_no: int,
    page_size: int,
    *,
    event: str = "",
    subject_id: str = "",
    object_id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[AuditRecord], int]:
    """One page, newest first, and how many there are in all."""
    wanted: list[Any] = []
    for column, value in (
        (audit.c.event, event),
        (audit.c.subject_id, subject_id),
        (audit.c.object_id, object_id),
    ):
        if value:
            wanted.append(column == value)
    if since is not None:
        wanted.append(audit.c.at >= to_ms(since))
    if until is not None:
        wanted.append(audit.c.at < to_ms(until))
    total = conn.execute(select(func.count()).select_from(audit).where(*wanted)).scalar_one()
    rows = conn.execute(
        select(audit)
        .where(*wanted)
        .order_by(audit.c.seq.desc())
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    )
    return [_record(row) for row in rows], total


def purge(conn: Connection, before: datetime, at: datetime, limit: int) -> int:
    """Remove the oldest records, those older than ``before``, and note it. Returns how many went.

    Age alone is not believed, because a clock that jumps ahead would make everything old at once: a record
    goes only when ``DAYS_THAT_FOLLOW`` days on which something was recorded have followed it as well. A
    platform that is seldom used keeps its records longer.

    Args:
        conn: connection in a transaction.
        before: records of that time and later stay, and all that follow them in the chain.
        at: now.
        limit: at most so many go at once.

    Raises:
        LocalViolation: ``before`` lies within the six months that must be kept.
    """
    if before > at - RETENTION:
        raise LocalViolation(f"audit records are kept at least {RETENTION.days} days")
    _locked_end(conn)
    if not _are_followed(conn, before):
        return 0
    # Up to the first record that is young enough, so that what remains is one unbroken chain.
    oldest = select(audit.c.seq, audit.c.at, audit.c.hash).order_by(audit.c.seq).limit(limit)
    old = list(takewhile(lambda row: row.at < to_ms(before), conn.execute(oldest)))
    if not old:
        return 0
    seq, _, chained = old[-1]
    conn.execute(update(audit_head).values(first_seq=seq, first_hash=chained))
    gone = conn.execute(delete(audit).where(audit.c.seq <= seq)).rowcount
    details = {"removed": gone, "lastSeq": seq, "lastHash": chained.hex(), "before": before.isoformat()}
    append(conn, AuditEntry(at, AuditTag.AUDIT_PURGE, Outcome.DONE, reason="已过保存期", details=details))
    return gone


def _are_followed(conn: Connection, before: datetime) -> bool:
    """Whether there are old records, and enough days with records since; a day is one step in the index."""
    oldest = conn.execute(select(func.min(audit.c.at))).scalar()
    if oldest is None or oldest >= to_ms(before):
        return False
    since = to_ms(before)
    for _ in range(DAYS_THAT_FOLLOW):
        found = conn.execute(select(func.min(audit.c.at)).where(audit.c.at >= since)).scalar()
        if found is None:
            return False
        since = (found // _DAY_MS + 1) * _DAY_MS
    return True


def _locked_end(conn: Connection) -> tuple[int, bytes]:
    """End of the chain, locked until the transaction ends. The row is made by the first migration."""
    row = conn.execute(select(audit_head.c.last_seq, audit_head.c.last_hash).with_for_update()).one()
    return row.last_seq, row.last_hash


def _values(seq: int, entry: AuditEntry) -> dict[str, Any]:
    details = _encode(entry.details)
    if len(details) > MAX_DETAILS_BYTES:
        raise LocalViolation("audit details are too long; name the object and keep the rest elsewhere")
    texts = {name: storable(getattr(entry, name), MAX_TEXT_CHARS) for name in _TEXTS}
    return {
        "seq": seq,
        "at": to_ms(entry.at),
        "event": entry.event.value,
        "outcome": entry.outcome.value,
        **texts,
        "details": details.decode(),
    }


def _chain(previous: bytes, values: tuple[Any, ...]) -> bytes:
    return hashlib.new("sm3", previous + _encode(values)).digest()


def _record(row: Row) -> AuditRecord:
    entry = AuditEntry(
        at=from_ms(row.at),
        event=AuditTag(row.event),
        outcome=Outcome(row.outcome),
        **{name: getattr(row, name) for name in _TEXTS},
        details=msgspec.json.decode(row.details),
    )
    return AuditRecord(row.seq, entry, row.hash)


_TEXTS = (
    "subject_kind",
    "subject_id",
    "subject_name",
    "object_kind",
    "object_id",
    "address",
    "request_id",
    "grant_number",
    "reason",
)
