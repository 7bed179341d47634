"""Plans and catalogues in the database. What a viewer may not see stands in no answer and in no count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, text, true, update

from tongshi.errors import LimitExceeded
from tongshi.resources.devices.search_terms import fold
from tongshi.resources.plans import member_store
from tongshi.resources.plans.model import (
    MAX_CATALOGUES,
    MAX_PLANS,
    Catalogue,
    Plan,
    PlanFilter,
    Reach,
    Sort,
    Status,
    Viewer,
    Visibility,
)
from tongshi.sharing.model import Scope
from tongshi.storage import changes
from tongshi.storage.bulk import bulk_insert, bulk_upsert
from tongshi.storage.schema import plan, plan_catalogue, plan_device
from tongshi.storage.times import from_ms, to_ms

KIND = "plan"
_LOCK = text("SELECT pg_advisory_xact_lock(7311008)")
KIND_CATALOGUE = "plan_catalogue"
_c, _p, _d = plan_catalogue.c, plan.c, plan_device.c
_CATALOGUE_COLUMNS = tuple(column.name for column in plan_catalogue.columns)
_PLAN_COLUMNS = (
    "code", "catalogue_id", "name", "description", "status", "owner", "owner_name", "organisation",
    "device_count", "revision", "created_at", "updated_at",
)  # fmt: skip
_HEAD = select(*(_p[name] for name in _PLAN_COLUMNS)).select_from(
    plan.join(plan_catalogue, _p.catalogue_id == _c.id)
)
_ORDER: dict[str, ColumnElement[Any]] = {
    "PlanCode": _p.code,
    "PlanName": _p["name"],
    "createTime": _p.created_at,
    "updateTime": _p.updated_at,
}


def lock(conn: Connection) -> None:
    """Let one writer of plans in at a time: two that read one version would both count on from it."""
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)


def seed(conn: Connection, printed: Sequence[Catalogue], at: datetime) -> int:
    """Store the standard's catalogues that are not there yet. Returns how many."""
    lock(conn)
    held = set(conn.execute(select(_c.id).where(_c.is_protected)).scalars())
    missing = [_catalogue_row(one, at) for one in printed if one.id not in held]
    bulk_insert(conn, plan_catalogue, _CATALOGUE_COLUMNS, missing)
    return len(missing)


def catalogues(conn: Connection, viewer: Viewer, reach: Reach = Reach.ALL) -> list[Catalogue]:
    """Catalogues that the viewer may see, parents first, in order; the printed ones are everybody's."""
    statement = select(plan_catalogue).where(_sees_catalogue(viewer))
    if reach is Reach.MINE:
        statement = statement.where(or_(_c.is_protected, _c.owner == viewer.key))
    elif reach is Reach.ORGANISATION:
        ours = _c.organisation == viewer.organisation if viewer.organisation else _c.owner == viewer.key
        statement = statement.where(or_(_c.is_protected, _c.owner == viewer.key, ours))
    found = [_catalogue(row) for row in conn.execute(statement)]
    return sorted(found, key=lambda one: (len(one.path), one.position, one.path, one.id))


def catalogue(conn: Connection, catalogue_id: str, viewer: Viewer) -> Catalogue | None:
    """One catalogue that the viewer may see."""
    statement = select(plan_catalogue).where(_c.id == catalogue_id, _sees_catalogue(viewer))
    row = conn.execute(statement).one_or_none()
    return None if row is None else _catalogue(row)


def named(conn: Connection, parent_id: str, name: str, viewer: Viewer) -> Catalogue | None:
    """The catalogue of that name below a parent, among those that the viewer may see; his own first."""
    statement = select(plan_catalogue).where(
        _c.parent_id == parent_id, _c["name"] == name, _sees_catalogue(viewer)
    )
    found = [_catalogue(row) for row in conn.execute(statement)]
    return min(found, key=lambda one: (one.owner != viewer.key, one.id), default=None)


def children(conn: Connection, parent_id: str) -> list[Catalogue]:
    """Everything directly below a catalogue, whoever may see it."""
    return [_catalogue(row) for row in conn.execute(select(plan_catalogue).where(_c.parent_id == parent_id))]


def put_catalogues(conn: Connection, found: Iterable[Catalogue], at: datetime) -> None:
    """Create or replace catalogues; the feed tells. Raises LimitExceeded beyond ``MAX_CATALOGUES``."""
    rows = [_catalogue_row(one, at) for one in found]
    bulk_upsert(conn, plan_catalogue, _CATALOGUE_COLUMNS, rows)
    if conn.execute(select(func.count()).select_from(plan_catalogue)).scalar_one() > MAX_CATALOGUES:
        raise LimitExceeded(f"预案目录超过上限 {MAX_CATALOGUES} 个", code=42903)
    revision = _CATALOGUE_COLUMNS.index("revision")
    changes.record_many(conn, KIND_CATALOGUE, [(row[0], "put", row[revision]) for row in rows], "", at)


def plan_counts(conn: Connection, viewer: Viewer, catalogue_id: str | None = None) -> dict[str, int]:
    """How many plans of each catalogue, or of one, the viewer may see."""
    statement = (
        select(_p.catalogue_id, func.count())
        .select_from(plan.join(plan_catalogue, _p.catalogue_id == _c.id))
        .where(sees_plan(viewer))
        .group_by(_p.catalogue_id)
    )
    if catalogue_id is not None:
        statement = statement.where(_p.catalogue_id == catalogue_id)
    return {row[0]: int(row[1]) for row in conn.execute(statement)}


def heads(conn: Connection, codes: Sequence[str], viewer: Viewer) -> dict[str, Plan]:
    """Those plans that the viewer may see, by code, without their devices."""
    statement = _HEAD.where(_p.code.in_(codes), sees_plan(viewer))
    return {row.code: _plan(row) for row in conn.execute(statement)}


def device_ids(conn: Connection, code: str) -> list[str]:
    """What a plan lists, in order."""
    statement = select(_d.device_id).where(_d.plan_code == code).order_by(_d.position)
    return list(conn.execute(statement).scalars())


def find(
    conn: Connection, viewer: Viewer, scope: Scope, asked: PlanFilter, sort: Sort, limit: int, skip: int
) -> tuple[list[Plan], int]:
    """One page of plans that the viewer may see, and how many there are; ``scope`` is that of devices."""
    clauses = [sees_plan(viewer), *_narrowing(conn, asked)]
    if asked.devices is not None:
        clauses.append(member_store.lists(conn, _p.code, asked.devices, scope))
    joined = plan.join(plan_catalogue, _p.catalogue_id == _c.id)
    total = conn.execute(select(func.count()).select_from(joined).where(*clauses)).scalar_one()
    by = _ORDER[sort.value.lstrip("-")]
    if sort is Sort.NAME and conn.dialect.name == "postgresql":
        by = by.collate("C")
    order = by.desc() if sort.value.startswith("-") else by.asc()
    rows = conn.execute(_HEAD.where(*clauses).order_by(order, _p.code).limit(limit).offset(skip))
    return [_plan(row) for row in rows], int(total)


def put(conn: Connection, new: Plan, at: datetime) -> None:
    """Create or replace a plan with its devices; the feed tells. Raises LimitExceeded: too many plans."""
    values = {name: getattr(new, name) for name in _PLAN_COLUMNS}
    values |= {
        "status": new.status.value,
        "device_count": len(new.device_ids),
        "created_at": to_ms(new.created_at or at),
        "updated_at": to_ms(at),
    }
    row = (*(values[name] for name in _PLAN_COLUMNS), f"{fold(new.name)}\n{fold(new.description)}")
    bulk_upsert(conn, plan, (*_PLAN_COLUMNS, "folded"), [row])
    if new.revision == 1:
        held = conn.execute(select(func.count()).select_from(plan)).scalar_one()
        if held > MAX_PLANS:
            raise LimitExceeded(f"预案超过上限 {MAX_PLANS} 个", code=42903)
    conn.execute(delete(plan_device).where(_d.plan_code == new.code))
    rows = [(new.code, device_id, i) for i, device_id in enumerate(new.device_ids)]
    bulk_insert(conn, plan_device, ("plan_code", "device_id", "position"), rows)
    changes.record(conn, KIND, new.code, "put", "", new.revision, at)


def bin_plan(conn: Connection, held: Plan, by: str, token: str, at: datetime) -> None:
    """Put a plan into the recycle bin."""
    values = {"deleted_at": to_ms(at), "deleted_by": by, "undo_token": token, "revision": held.revision + 1}
    conn.execute(update(plan).where(_p.code == held.code).values(**values))
    changes.record(conn, KIND, held.code, "delete", "", held.revision + 1, at)


def restore(conn: Connection, token: str, by: str, since: datetime, at: datetime) -> str | None:
    """Take back what ``by`` deleted under that token since then. Returns the plan's code."""
    statement = select(_p.code, _p.revision).where(
        _p.undo_token == token, _p.deleted_by == by, _p.deleted_at >= to_ms(since)
    )
    row = conn.execute(statement).one_or_none()
    if row is None:
        return None
    values = {"deleted_at": None, "deleted_by": "", "undo_token": "", "revision": row.revision + 1}
    conn.execute(update(plan).where(_p.code == row.code).values(**values, updated_at=to_ms(at)))
    changes.record(conn, KIND, row.code, "put", "", row.revision + 1, at)
    code: str = row.code
    return code


def purge(conn: Connection, before: datetime) -> int:
    """Empty the recycle bin of what was deleted earlier. Returns how many plans went."""
    gone = select(_p.code).where(_p.deleted_at < to_ms(before))
    conn.execute(delete(plan_device).where(_d.plan_code.in_(gone)))
    return conn.execute(delete(plan).where(_p.deleted_at < to_ms(before))).rowcount


def sees_plan(viewer: Viewer) -> ColumnElement[bool]:
    """Whether the viewer may see a plan, on ``plan`` joined with ``plan_catalogue``."""
    alive = _p.deleted_at.is_(None)
    if viewer.is_administrator:
        return alive
    is_shown = (_p.status != Status.DRAFT.value) & _sees_catalogue(viewer)
    return alive & or_(_p.owner == viewer.key, is_shown)


def _sees_catalogue(viewer: Viewer) -> ColumnElement[bool]:
    if viewer.is_administrator:
        return true()
    ways = [_c.visibility == Visibility.ALL.value, _c.owner == viewer.key]
    if viewer.organisation:
        ours = _c.organisation == viewer.organisation
        ways.append((_c.visibility == Visibility.ORGANISATION.value) & ours)
    return or_(*ways)


def _narrowing(conn: Connection, asked: PlanFilter) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if asked.keyword:
        within = func.instr if conn.dialect.name == "sqlite" else func.strpos
        clauses.append(or_(_p.code == asked.keyword, within(_p.folded, fold(asked.keyword)) > 0))
    if asked.catalogue_id:
        clauses.append(_p.catalogue_id == asked.catalogue_id)
    if asked.owner:
        clauses.append(_p.owner == asked.owner)
    if asked.device_id:
        using = select(_d.plan_code).where(_d.device_id == asked.device_id)
        clauses.append(_p.code.in_(using))
    if asked.status is not None:
        clauses.append(_p.status == asked.status.value)
    return clauses


def _catalogue_row(one: Catalogue, at: datetime) -> tuple[Any, ...]:
    values = {
        "id": one.id,
        "parent_id": one.parent_id,
        "name": one.name,
        "path": "/".join(one.path),
        "standard_row": one.standard_row,
        "civil_code": one.civil_code,
        "is_protected": one.is_protected,
        "visibility": one.visibility.value,
        "owner": one.owner,
        "organisation": one.organisation,
        "position": one.position,
        "revision": one.revision,
        "updated_at": to_ms(at),
    }
    return tuple(values[name] for name in _CATALOGUE_COLUMNS)


def _catalogue(row: Any) -> Catalogue:
    return Catalogue(
        row.id,
        row.parent_id,
        tuple(row.path.split("/")),
        row.standard_row,
        row.civil_code,
        row.is_protected,
        Visibility(row.visibility),
        row.owner,
        row.organisation,
        row.position,
        row.revision,
        from_ms(row.updated_at),
    )


def _plan(row: Any) -> Plan:
    values = {name: getattr(row, name) for name in _PLAN_COLUMNS}
    values["status"] = Status(row.status)
    values["created_at"], values["updated_at"] = from_ms(row.created_at), from_ms(row.updated_at)
    return Plan(**values)
