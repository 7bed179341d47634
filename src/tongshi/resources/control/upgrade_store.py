"""Upgrades in the database. What a caller's scope does not hold stands in no answer and in no count."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from tongshi.resources.control.upgrades import MAX_UPGRADES, Upgrade
from tongshi.sharing.model import Scope
from tongshi.sharing.scope_store import within
from tongshi.storage.schema import device_archive, upgrade_order
from tongshi.storage.times import from_ms, to_ms

FORGET_AT_ONCE = 500
_u = upgrade_order.c


def add(conn: Connection, new: Upgrade) -> None:
    """Keep an upgrade that is about to be ordered; the oldest go past MAX_UPGRADES."""
    a = device_archive.c
    place = conn.execute(
        select(a["name"], a.civil_code, a.owner_platform).where(a.device_id == new.device_id)
    ).first()
    name, civil_code, owner = ("", "", "") if place is None else (place[0] or "", place[1] or "", place[2])
    conn.execute(
        insert(upgrade_order).values(
            id=new.id,
            device_id=new.device_id,
            name=name,
            civil_code=civil_code,
            owner=owner,
            subject_kind=new.subject_kind,
            subject_id=new.subject_id,
            subject_name=new.subject_name,
            firmware=new.firmware,
            manufacturer=new.manufacturer,
            ordered_at=to_ms(new.ordered_at),
        )
    )
    over = conn.execute(select(func.count()).select_from(upgrade_order)).scalar_one() - MAX_UPGRADES
    if over > 0:
        oldest = select(_u.id).order_by(_u.ordered_at).limit(min(over, FORGET_AT_ONCE))
        conn.execute(delete(upgrade_order).where(_u.id.in_(list(conn.execute(oldest).scalars()))))


def end(
    conn: Connection,
    upgrade_id: str,
    device_id: str,
    has_succeeded: bool,
    running: str,
    reason: str,
    at: datetime,
) -> bool:
    """Note how an upgrade of this device ended; False when it is none of ours, or has ended before."""
    open_one = (_u.id == upgrade_id, _u.device_id == device_id, _u.ended_at.is_(None))
    values = {"has_succeeded": has_succeeded, "running": running, "reason": reason, "ended_at": to_ms(at)}
    return conn.execute(update(upgrade_order).where(*open_one).values(values)).rowcount > 0


def page(
    conn: Connection, scope: Scope, device_id: str, page_no: int, page_size: int
) -> tuple[list[Upgrade], int]:
    """One page, the latest first, and how many the caller may see in all."""
    wanted = and_(_within(scope), *([_u.device_id == device_id] if device_id else []))
    total = conn.execute(select(func.count()).select_from(upgrade_order).where(wanted)).scalar_one()
    rows = conn.execute(
        select(upgrade_order)
        .where(wanted)
        .order_by(_u.ordered_at.desc(), _u.id.desc())
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    )
    return [_upgrade(row) for row in rows], total


def _within(scope: Scope) -> ColumnElement[bool]:
    return within(scope, _u.civil_code, _u.owner, _u.device_id)


def _upgrade(row: Any) -> Upgrade:
    return Upgrade(
        id=row.id,
        device_id=row.device_id,
        name=row.name,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        subject_name=row.subject_name,
        firmware=row.firmware,
        manufacturer=row.manufacturer,
        ordered_at=from_ms(row.ordered_at),
        ended_at=None if row.ended_at is None else from_ms(row.ended_at),
        has_succeeded=None if row.has_succeeded is None else bool(row.has_succeeded),
        running=row.running,
        reason=row.reason,
    )
