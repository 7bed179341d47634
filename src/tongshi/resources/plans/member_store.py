"""The devices of plans as the archive knows them. The caller's scope stands in every statement."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, or_, select, true

from tongshi.resources.devices.plan_lists import Part
from tongshi.resources.devices.reading_store import scope_clause
from tongshi.resources.devices.selection import Narrowing, Place
from tongshi.sharing.model import Scope
from tongshi.storage.schema import device_archive, plan_device

_a, _d = device_archive.c, plan_device.c
_JOINED = plan_device.join(device_archive, _d.device_id == _a.device_id)


def holds(codes: Sequence[str], device_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a device is listed in one of the plans."""
    return device_id.in_(select(_d.device_id).where(_d.plan_code.in_(codes)))


def lists(
    conn: Connection, code: ColumnElement[str], devices: Narrowing, scope: Scope
) -> ColumnElement[bool]:
    """Whether a plan lists a device of the scope that a condition holds for."""
    found = select(_d.plan_code).select_from(_JOINED)
    return code.in_(found.where(scope_clause(scope), devices.clause(conn, _d.device_id)))


def present(conn: Connection, codes: Sequence[str], scope: Scope) -> dict[str, int]:
    """How many devices of each plan are in the archive and in the scope."""
    statement = (
        select(_d.plan_code, func.count())
        .select_from(_JOINED)
        .where(_d.plan_code.in_(codes), scope_clause(scope), _a.missing_since.is_(None))
        .group_by(_d.plan_code)
    )
    return {row[0]: int(row[1]) for row in conn.execute(statement)}


def missing(conn: Connection, codes: Sequence[str], scope: Scope) -> list[tuple[str, str]]:
    """``(plan, device)`` of what the archive lacks and the scope lets one know of, in the plans' order.

    What the archive never had is of a scope that holds everything or names it, as in
    ``devices.presence_store``.
    """
    never: ColumnElement[bool] = true() if scope.is_everything else false()
    if scope.device_ids:
        never = or_(never, _d.device_id.in_(sorted(scope.device_ids)))
    statement = (
        select(_d.plan_code, _d.device_id)
        .select_from(plan_device.outerjoin(device_archive, _d.device_id == _a.device_id))
        .where(
            _d.plan_code.in_(codes),
            or_(
                and_(_a.missing_since.is_not(None), scope_clause(scope)), and_(_a.device_id.is_(None), never)
            ),
        )
        .order_by(_d.plan_code, _d.position)
    )
    return [(row[0], row[1]) for row in conn.execute(statement)]


def page(conn: Connection, codes: Sequence[str], scope: Scope, part: Part) -> list[tuple[str, str, Place]]:
    """``(plan, device, place)`` of present devices in the scope: plan after plan as asked, each in its order.

    A place is the plan's turn and the device's position in it.
    """
    turn = case({code: i for i, code in enumerate(codes)}, value=_d.plan_code)
    statement = (
        select(_d.plan_code, _d.device_id, turn, _d.position)
        .select_from(_JOINED)
        .where(_d.plan_code.in_(codes), scope_clause(scope), _a.missing_since.is_(None))
        .order_by(turn, _d.position)
    )
    if part.after is not None:
        at, position = (int(one) for one in part.after)
        statement = statement.where(or_(turn > at, and_(turn == at, _d.position > position)))
    rows = conn.execute(statement.limit(part.limit).offset(part.skip))
    return [(row[0], row[1], [row[2], row[3]]) for row in rows]
