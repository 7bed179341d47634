"""Snapshots in the database. What a caller's scope does not hold stands in no answer and in no count."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, true, update

from tongshi.resources.snapshots.model import (
    Filters,
    Issue,
    Order,
    Origin,
    Person,
    Picture,
    Place,
    State,
)
from tongshi.sharing.model import Scope
from tongshi.sharing.scope_store import within
from tongshi.storage.schema import device_archive, snapshot_order, snapshot_picture
from tongshi.storage.times import from_ms, to_ms

_o, _p = snapshot_order.c, snapshot_picture.c


def place_of(conn: Connection, device_id: str) -> Place:
    """Where the archive says a device is."""
    a = device_archive.c
    found = conn.execute(
        select(a["name"], a.civil_code, a.owner_platform).where(a.device_id == device_id)
    ).first()
    return Place() if found is None else Place(found[0] or "", found[1] or "", found[2])


def waiting(conn: Connection, device_id: str = "") -> int:
    """Orders whose pictures are awaited: of one device, or of all."""
    which = [_o.state == State.WAITING.value] + ([_o.device_id == device_id] if device_id else [])
    return conn.execute(select(func.count()).select_from(snapshot_order).where(*which)).scalar_one()


def add_order(conn: Connection, order: Order, secret_digest: str) -> None:
    """Keep a new order."""
    conn.execute(
        insert(snapshot_order).values(
            id=order.id,
            device_id=order.device_id,
            name=order.place.name,
            civil_code=order.place.civil_code,
            owner=order.place.owner,
            origin=order.origin.value,
            subject_kind=order.by.kind,
            subject_id=order.by.id,
            subject_name=order.by.name,
            purpose=order.purpose,
            count=order.count,
            interval_s=order.interval_s,
            secret_digest=secret_digest,
            ordered_at=to_ms(order.ordered_at),
            deadline_at=to_ms(order.deadline_at),
            finished_at=None if order.finished_at is None else to_ms(order.finished_at),
            state=order.state.value,
            reason=order.reason,
        )
    )


def by_secret(conn: Connection, secret_digest: str) -> Order | None:
    """The order that an upload path belongs to."""
    row = conn.execute(select(snapshot_order).where(_o.secret_digest == secret_digest)).first()
    return None if row is None else _order(row)


def order(conn: Connection, order_id: str, *, for_update: bool = False) -> Order | None:
    """One order, whoever may see it."""
    wanted = select(snapshot_order).where(_o.id == order_id)
    row = conn.execute(wanted.with_for_update() if for_update else wanted).first()
    return None if row is None else _order(row)


def find(conn: Connection, scope: Scope, order_id: str) -> Order | None:
    """One order that the caller may see."""
    row = conn.execute(select(snapshot_order).where(_o.id == order_id, _within(scope))).first()
    return None if row is None else _order(row)


def page(
    conn: Connection, scope: Scope, filters: Filters, page_no: int, page_size: int
) -> tuple[list[tuple[Order, list[Picture]]], int]:
    """One page with its pictures, the latest first, and how many the caller may see in all."""
    wanted = and_(_within(scope), *_narrowed(filters))
    total = conn.execute(select(func.count()).select_from(snapshot_order).where(wanted)).scalar_one()
    rows = conn.execute(
        select(snapshot_order)
        .where(wanted)
        .order_by(_o.ordered_at.desc(), _o.id.desc())
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    ).all()
    of: dict[str, list[Picture]] = {row.id: [] for row in rows}
    for picture in _pictures(conn, _p.order_id.in_(list(of))):
        of[picture.order_id].append(picture)
    return [(_order(row), of[row.id]) for row in rows], total


def pictures(conn: Connection, order_id: str) -> list[Picture]:
    """The pictures of one order, in the order of their coming."""
    return _pictures(conn, _p.order_id == order_id)


def picture(conn: Connection, picture_id: str) -> Picture | None:
    """One picture, whoever may see it."""
    return next(iter(_pictures(conn, _p.id == picture_id)), None)


def add_picture(conn: Connection, new: Picture) -> None:
    """Keep a picture that is on disk."""
    conn.execute(
        insert(snapshot_picture).values(
            id=new.id,
            order_id=new.order_id,
            device_id=new.device_id,
            number=new.number,
            file_name=new.file_name,
            size_bytes=new.size_bytes,
            width=new.width,
            height=new.height,
            sha256=new.sha256,
            sender=new.sender,
            issues=_joined(new.issues),
            is_told=new.is_told,
            taken_at=None if new.taken_at is None else to_ms(new.taken_at),
            received_at=to_ms(new.received_at),
        )
    )


def mark(conn: Connection, picture_id: str, issues: Sequence[Issue], *, is_told: bool) -> None:
    """Note whether the device told of a picture."""
    values = {"issues": _joined(issues), "is_told": is_told}
    conn.execute(update(snapshot_picture).where(_p.id == picture_id).values(values))


def settle(conn: Connection, done: Order) -> None:
    """Note how an order stands now, and what the device said."""
    values: dict[str, object] = {"state": done.state.value, "reason": done.reason}
    if done.finished_at is not None:
        values["finished_at"] = to_ms(done.finished_at)
    if done.told is not None:
        values |= {"told": "/".join(done.told), "told_at": to_ms(done.finished_at or done.ordered_at)}
    conn.execute(update(snapshot_order).where(_o.id == done.id).values(values))


def overdue(conn: Connection, at: datetime, limit: int) -> list[str]:
    """Orders that still wait past their deadline."""
    rows = conn.execute(
        select(_o.id)
        .where(_o.state == State.WAITING.value, _o.deadline_at < to_ms(at))
        .order_by(_o.deadline_at)
        .limit(limit)
    )
    return list(rows.scalars())


def total_bytes(conn: Connection) -> int:
    """Bytes of all pictures."""
    return int(conn.execute(select(func.coalesce(func.sum(_p.size_bytes), 0))).scalar_one())


def oldest(conn: Connection, limit: int, before: datetime | None = None) -> list[Picture]:
    """The oldest pictures: received before a time, or whichever they are."""
    return _pictures(conn, true() if before is None else _p.received_at < to_ms(before), limit)


def remove(conn: Connection, gone: Sequence[Picture]) -> None:
    """Forget pictures; their orders count them."""
    for one in gone:
        if conn.execute(delete(snapshot_picture).where(_p.id == one.id)).rowcount:
            conn.execute(update(snapshot_order).where(_o.id == one.order_id).values(removed=_o.removed + 1))


def forget_orders(conn: Connection, before: datetime, keep: int, limit: int) -> int:
    """Forget ended orders without pictures that are older than a time, and the oldest past a number."""
    over = conn.execute(select(func.count()).select_from(snapshot_order)).scalar_one() - keep
    has_none = ~select(_p.id).where(_p.order_id == _o.id).exists()
    is_old = true() if over > 0 else _o.ordered_at < to_ms(before)
    ids = list(
        conn.execute(
            select(_o.id)
            .where(_o.state != State.WAITING.value, has_none, is_old)
            .order_by(_o.ordered_at)
            .limit(min(over, limit) if over > 0 else limit)
        ).scalars()
    )
    conn.execute(delete(snapshot_order).where(_o.id.in_(ids)))
    return len(ids)


def known(conn: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these pictures there are."""
    return set(conn.execute(select(_p.id).where(_p.id.in_(list(ids)))).scalars())


def _within(scope: Scope) -> ColumnElement[bool]:
    return within(scope, _o.civil_code, _o.owner, _o.device_id)


def _narrowed(filters: Filters) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if filters.device_id:
        clauses.append(_o.device_id == filters.device_id)
    if filters.state is not None:
        clauses.append(_o.state == filters.state.value)
    if filters.since is not None:
        clauses.append(_o.ordered_at >= to_ms(filters.since))
    if filters.until is not None:
        clauses.append(_o.ordered_at < to_ms(filters.until))
    return clauses


def _pictures(conn: Connection, which: ColumnElement[bool], limit: int = 10_000) -> list[Picture]:
    rows = conn.execute(
        select(snapshot_picture).where(which).order_by(_p.received_at, _p.number, _p.id).limit(limit)
    )
    return [
        Picture(
            row.id,
            row.order_id,
            row.device_id,
            row.number,
            row.file_name,
            row.size_bytes,
            row.width,
            row.height,
            row.sha256,
            from_ms(row.received_at),
            None if row.taken_at is None else from_ms(row.taken_at),
            row.sender,
            row.is_told,
            tuple(Issue(part) for part in row.issues.split("/") if part),
        )
        for row in rows
    ]


def _order(row: Any) -> Order:
    return Order(
        row.id,
        row.device_id,
        Place(row.name, row.civil_code, row.owner),
        Person(row.subject_kind, row.subject_id, row.subject_name),
        from_ms(row.ordered_at),
        from_ms(row.deadline_at),
        row.count,
        row.interval_s,
        Origin(row.origin),
        row.purpose,
        State(row.state),
        None if row.told_at is None else tuple(part for part in row.told.split("/") if part),
        None if row.finished_at is None else from_ms(row.finished_at),
        row.reason,
        row.removed,
    )


def _joined(issues: Sequence[Issue]) -> str:
    return "/".join(issue.value for issue in issues)
