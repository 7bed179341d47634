"""Alarms in the database. What a caller's scope does not hold stands in no answer and in no count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from tongshi.errors import LimitExceeded
from tongshi.resources.alarms.model import (
    MAX_ALARMS,
    MAX_ROUTES,
    MAX_TARGETS,
    Acknowledgement,
    Alarm,
    Delivery,
    DeliveryState,
    Filters,
    Place,
    Route,
    Source,
    SourceKind,
    Told,
)
from tongshi.sharing.model import Scope
from tongshi.sharing.scope_store import below, within
from tongshi.storage.schema import alarm, alarm_delivery, alarm_route, device_archive
from tongshi.storage.times import from_ms, to_ms

FORGET_AT_ONCE = 2_000
_a, _d, _r = alarm.c, alarm_delivery.c, alarm_route.c


def place_of(conn: Connection, device_id: str) -> Place | None:
    """Where the archive says a device is; None when it does not know it."""
    found = conn.execute(
        select(device_archive.c["name"], device_archive.c.civil_code, device_archive.c.owner_platform).where(
            device_archive.c.device_id == device_id
        )
    ).first()
    return None if found is None else Place(found[0] or "", found[1] or "", found[2])


def add(conn: Connection, new: Alarm, targets: Sequence[str]) -> bool:
    """Keep an alarm with those it waits to be passed on to; False when it is kept already."""
    told = new.told
    into = postgresql.insert(alarm) if conn.dialect.name == "postgresql" else sqlite.insert(alarm)
    done = conn.execute(
        into.on_conflict_do_nothing().values(
            id=new.id,
            device_id=told.device_id,
            name=new.place.name,
            civil_code=new.place.civil_code,
            owner=new.place.owner,
            source_id=new.source.id,
            source_kind=new.source.kind.value,
            priority=told.priority,
            method=told.method,
            alarm_type=told.alarm_type,
            event_type=told.event_type,
            type_param=told.type_param,
            description=told.description,
            longitude=told.longitude,
            latitude=told.latitude,
            extra=msgspec.json.encode(told.extra).decode(),
            faults="/".join(told.faults),
            raised_at=to_ms(told.raised_at),
            received_at=to_ms(new.received_at),
            last_at=to_ms(new.last_at),
            repeats=new.repeats,
        )
    )
    if done.rowcount != 1:
        return False
    waiting = [
        {"alarm_id": new.id, "target_id": target, "state": DeliveryState.WAITING.value}
        for target in targets[:MAX_TARGETS]
    ]
    if waiting:
        conn.execute(insert(alarm_delivery), waiting)
    return True


def count_repeats(conn: Connection, repeats: Mapping[str, tuple[int, datetime]]) -> None:
    """Count merged alarms on those that stand for them."""
    for alarm_id, (count, last_at) in sorted(repeats.items()):
        conn.execute(
            update(alarm).where(_a.id == alarm_id).values(repeats=_a.repeats + count, last_at=to_ms(last_at))
        )


def page(
    conn: Connection, scope: Scope, filters: Filters, page_no: int, page_size: int
) -> tuple[list[Alarm], int]:
    """One page, the latest first, and how many the caller may see in all."""
    wanted = and_(_within(scope), *_narrowed(filters))
    total = conn.execute(select(func.count()).select_from(alarm).where(wanted)).scalar_one()
    rows = conn.execute(
        select(alarm)
        .where(wanted)
        .order_by(_a.received_at.desc(), _a.id.desc())
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    )
    return [_alarm(row) for row in rows], total


def find(conn: Connection, scope: Scope, alarm_id: str) -> Alarm | None:
    """One alarm that the caller may see."""
    row = conn.execute(select(alarm).where(_a.id == alarm_id, _within(scope))).first()
    return None if row is None else _alarm(row)


def acknowledge(
    conn: Connection, scope: Scope, ids: Sequence[str], seen: Acknowledgement
) -> tuple[list[str], list[str]]:
    """Acknowledge those of these that the caller may; (acknowledged now, acknowledged before)."""
    rows = conn.execute(
        select(_a.id, _a.acknowledged_at).where(_a.id.in_(ids), _within(scope)).with_for_update()
    ).all()
    fresh = [row.id for row in rows if row.acknowledged_at is None]
    if fresh:
        conn.execute(
            update(alarm)
            .where(_a.id.in_(fresh))
            .values(acknowledged_at=to_ms(seen.at), acknowledged_by=seen.by, note=seen.note)
        )
    return fresh, [row.id for row in rows if row.acknowledged_at is not None]


def deliveries(conn: Connection, alarm_id: str) -> list[Delivery]:
    """How passing an alarm on went, target by target."""
    rows = conn.execute(select(alarm_delivery).where(_d.alarm_id == alarm_id).order_by(_d.target_id))
    return [_delivery(row) for row in rows]


def waiting(conn: Connection, since: datetime, limit: int) -> list[tuple[Alarm, str]]:
    """Alarms that a process before this one did not pass on to the end, with the target, oldest first."""
    rows = conn.execute(
        select(alarm, _d.target_id)
        .select_from(alarm.join(alarm_delivery, _a.id == _d.alarm_id))
        .where(_d.state == DeliveryState.WAITING.value, _a.received_at >= to_ms(since))
        .order_by(_a.received_at)
        .limit(limit)
    )
    return [(_alarm(row), row.target_id) for row in rows]


def note_delivery(conn: Connection, done: Delivery) -> None:
    """Note how it went with one target."""
    conn.execute(
        update(alarm_delivery)
        .where(_d.alarm_id == done.alarm_id, _d.target_id == done.target_id)
        .values(
            state=done.state.value,
            tries=done.tries,
            at=None if done.at is None else to_ms(done.at),
            error=done.error[:256],
        )
    )


def routes(conn: Connection) -> list[Route]:
    """Every route, the oldest first."""
    rows = conn.execute(select(alarm_route).order_by(_r.created_at, _r.id))
    return [
        Route(
            row.id,
            row.target_id,
            row.device_id,
            row.civil_code,
            frozenset(int(part) for part in row.methods.split("/") if part),
            row.lowest_priority,
            row.created_by,
            from_ms(row.created_at),
        )
        for row in rows
    ]


def add_route(conn: Connection, new: Route, at: datetime) -> None:
    """Add a route. Raises LimitExceeded past MAX_ROUTES."""
    if conn.execute(select(func.count()).select_from(alarm_route)).scalar_one() >= MAX_ROUTES:
        raise LimitExceeded(f"报警分发规则最多 {MAX_ROUTES} 条", code=42904)
    conn.execute(
        insert(alarm_route).values(
            id=new.id,
            target_id=new.target_id,
            device_id=new.device_id,
            civil_code=new.civil_code,
            methods="/".join(map(str, sorted(new.methods))),
            lowest_priority=new.lowest_priority,
            created_by=new.created_by,
            created_at=to_ms(at),
        )
    )


def remove_route(conn: Connection, route_id: str) -> bool:
    """Remove a route; False when there is none."""
    return conn.execute(delete(alarm_route).where(_r.id == route_id)).rowcount > 0


def forget(conn: Connection, before: datetime) -> int:
    """Forget alarms received before a time, and the oldest past MAX_ALARMS; some at once, how many."""
    over = conn.execute(select(func.count()).select_from(alarm)).scalar_one() - MAX_ALARMS
    old = select(_a.id).order_by(_a.received_at, _a.id)
    if over > 0:
        gone = old.limit(min(over, FORGET_AT_ONCE))
    else:
        gone = old.where(_a.received_at < to_ms(before)).limit(FORGET_AT_ONCE)
    ids = list(conn.execute(gone).scalars())
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        conn.execute(delete(alarm_delivery).where(_d.alarm_id.in_(part)))
        conn.execute(delete(alarm).where(_a.id.in_(part)))
    return len(ids)


def _within(scope: Scope) -> ColumnElement[bool]:
    return within(scope, _a.civil_code, _a.owner, _a.device_id)


def _narrowed(filters: Filters) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if filters.device_id:
        clauses.append(_a.device_id == filters.device_id)
    if filters.civil_code:
        clauses.append(below(_a.civil_code, filters.civil_code))
    if filters.priorities:
        clauses.append(_a.priority.in_(sorted(filters.priorities)))
    if filters.methods:
        clauses.append(_a.method.in_(sorted(filters.methods)))
    if filters.since is not None:
        clauses.append(_a.received_at >= to_ms(filters.since))
    if filters.until is not None:
        clauses.append(_a.received_at < to_ms(filters.until))
    if filters.is_acknowledged is not None:
        seen = _a.acknowledged_at.is_not(None)
        clauses.append(seen if filters.is_acknowledged else ~seen)
    return clauses


def _alarm(row: Any) -> Alarm:
    told = Told(
        device_id=row.device_id,
        raised_at=from_ms(row.raised_at),
        priority=row.priority,
        method=row.method,
        alarm_type=row.alarm_type,
        event_type=row.event_type,
        type_param=row.type_param,
        description=row.description,
        longitude=row.longitude,
        latitude=row.latitude,
        extra=msgspec.json.decode(row.extra, type=tuple[str, ...]),
        faults=tuple(part for part in row.faults.split("/") if part),
    )
    seen_at = from_ms(row.acknowledged_at)
    return Alarm(
        id=row.id,
        told=told,
        place=Place(row.name, row.civil_code, row.owner),
        source=Source(row.source_id, SourceKind(row.source_kind)),
        received_at=from_ms(row.received_at),
        last_at=from_ms(row.last_at),
        repeats=row.repeats,
        acknowledged=None if seen_at is None else Acknowledgement(row.acknowledged_by, seen_at, row.note),
    )


def _delivery(row: Any) -> Delivery:
    return Delivery(
        row.alarm_id, row.target_id, DeliveryState(row.state), row.tries, from_ms(row.at), row.error
    )
