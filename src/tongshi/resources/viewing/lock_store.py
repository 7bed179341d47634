"""Locks in the record: the live one of a device, and for a day what became of the others."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tongshi.resources.viewing.locks import KEPT_ENDED, Ended, EndedBy, Level, Lock
from tongshi.storage.schema import ptz_lock, ptz_lock_end
from tongshi.storage.times import from_ms, to_ms

_l, _e = ptz_lock.c, ptz_lock_end.c


def live(conn: Connection, device_id: str, at: datetime) -> Lock | None:
    """The lock of a device that has not expired."""
    statement = select(ptz_lock).where(_l.device_id == device_id, _l.expires_at > to_ms(at))
    row = conn.execute(statement).one_or_none()
    return None if row is None else _lock(row)


def find(conn: Connection, lock_id: str, at: datetime) -> Lock | None:
    """A live lock by its number."""
    statement = select(ptz_lock).where(_l.lock_id == lock_id, _l.expires_at > to_ms(at))
    row = conn.execute(statement).one_or_none()
    return None if row is None else _lock(row)


def of_subject(conn: Connection, kind: str, id_: str, at: datetime) -> list[Lock]:
    """The live locks of somebody, the longest held first."""
    statement = select(ptz_lock).where(
        _l.subject_kind == kind, _l.subject_id == id_, _l.expires_at > to_ms(at)
    )
    return [_lock(row) for row in conn.execute(statement.order_by(_l.since_at, _l.device_id))]


def take(conn: Connection, lock: Lock) -> bool:
    """Write a lock unless the device has a live one. An expired one makes room."""
    conn.execute(delete(ptz_lock).where(_l.device_id == lock.device_id, _l.expires_at <= to_ms(lock.since)))
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    row = dialect.insert(ptz_lock).values(
        device_id=lock.device_id,
        lock_id=lock.lock_id,
        level=lock.level.value,
        priority=lock.priority,
        subject_kind=lock.subject_kind,
        subject_id=lock.subject_id,
        subject_name=lock.subject_name,
        platform_id=lock.platform_id,
        reason=lock.reason,
        since_at=to_ms(lock.since),
        expires_at=to_ms(lock.expires_at),
    )
    return conn.execute(row.on_conflict_do_nothing()).rowcount == 1


def renew(conn: Connection, lock: Lock) -> None:
    """Write a lock's new time, level and reason."""
    conn.execute(
        update(ptz_lock)
        .where(_l.lock_id == lock.lock_id)
        .values(expires_at=to_ms(lock.expires_at), level=lock.level.value, reason=lock.reason)
    )


def end(conn: Connection, lock: Lock, ended: Ended) -> None:
    """Take a lock away and keep for a day why."""
    conn.execute(delete(ptz_lock).where(_l.lock_id == lock.lock_id))
    conn.execute(delete(ptz_lock_end).where(_e.ended_at < to_ms(ended.at - KEPT_ENDED)))
    conn.execute(
        insert(ptz_lock_end).values(
            lock_id=lock.lock_id,
            device_id=lock.device_id,
            subject_kind=lock.subject_kind,
            subject_id=lock.subject_id,
            ended_by=ended.ended_by.value,
            by_name=ended.by_name,
            ended_at=to_ms(ended.at),
        )
    )


def ended(conn: Connection, lock_id: str) -> Ended | None:
    """What became of a lock, if it ended before its time within a day."""
    row = conn.execute(select(ptz_lock_end).where(_e.lock_id == lock_id)).one_or_none()
    return None if row is None else _ended(row)


def lost_by(conn: Connection, kind: str, id_: str, since: datetime) -> list[Ended]:
    """Locks that somebody lost to others, the latest first."""
    statement = select(ptz_lock_end).where(
        _e.subject_kind == kind,
        _e.subject_id == id_,
        _e.ended_at >= to_ms(since),
        _e.ended_by.in_((EndedBy.PREEMPTED.value, EndedBy.FORCED.value)),
    )
    return [_ended(row) for row in conn.execute(statement.order_by(_e.ended_at.desc()).limit(200))]


def _lock(row: Any) -> Lock:
    return Lock(
        lock_id=row.lock_id,
        device_id=row.device_id,
        level=Level(row.level),
        priority=row.priority,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        subject_name=row.subject_name,
        platform_id=row.platform_id,
        reason=row.reason,
        since=from_ms(row.since_at),
        expires_at=from_ms(row.expires_at),
    )


def _ended(row: Any) -> Ended:
    return Ended(row.lock_id, row.device_id, EndedBy(row.ended_by), row.by_name, from_ms(row.ended_at))
