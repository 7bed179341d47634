"""Issues of archives in the database: which device breaks which rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from tongshi.resources.devices.reading_store import scope_clause
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import bulk_insert, chunks
from tongshi.storage.schema import archive_issue, device_archive, setting

_POSITION = "inspection.position"
_a, _i = device_archive.c, archive_issue.c
_JOINED = archive_issue.join(device_archive, _i.device_id == _a.device_id)


class Position(msgspec.Struct, frozen=True):
    """How far the archives were held against the rules.

    ``after`` is the last device of the pass over all of them, None once that pass has ended; ``seq`` the
    change feed's number from where to go on.
    """

    edition: int = 0
    seq: int = 0
    after: str | None = ""


@dataclass(frozen=True, slots=True)
class IssueFilters:
    """What a list of issues is narrowed by; an empty filter narrows nothing, ``rules`` None neither."""

    owner: str = ""
    civil_code: str = ""
    rules: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class IssueRow:
    """One device and one rule that it breaks."""

    device_id: str
    name: str
    civil_code: str
    owner: str
    rule: str


def position(conn: Connection) -> Position:
    """Where the inspection stands; the beginning when it never ran."""
    value = conn.execute(select(setting.c.value).where(setting.c.name == _POSITION)).scalar()
    return msgspec.json.decode(value, type=Position) if value else Position()


def put(conn: Connection, found: Mapping[str, Collection[str]], reached: Position) -> None:
    """Replace the issues of these devices (ids of rules) and remember the position, in one transaction."""
    for chunk in chunks(list(found)):
        conn.execute(delete(archive_issue).where(_i.device_id.in_(chunk)))
    rows = [(device_id, rule) for device_id in sorted(found) for rule in found[device_id]]
    bulk_insert(conn, archive_issue, ("device_id", "rule"), rows)
    value = msgspec.json.encode(reached).decode()
    changed = conn.execute(update(setting).where(setting.c.name == _POSITION).values(value=value))
    if changed.rowcount == 0:
        conn.execute(insert(setting).values(name=_POSITION, value=value))


def page(
    conn: Connection, scope: Scope, filters: IssueFilters, page_no: int, page_size: int
) -> tuple[list[IssueRow], int]:
    """One page in order of device and rule, and how many the caller may see in all."""
    wanted = _wanted(scope, filters)
    total = conn.execute(select(func.count()).select_from(_JOINED).where(wanted)).scalar_one()
    rows = conn.execute(
        select(_i.device_id, _a["name"], _a.civil_code, _a.owner_platform, _i.rule)
        .select_from(_JOINED)
        .where(wanted)
        .order_by(_i.device_id, _i.rule)
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    )
    return [IssueRow(*row) for row in rows], total


def counts(
    conn: Connection, scope: Scope, filters: IssueFilters, by: Literal["", "owner", "civil_code"] = ""
) -> list[tuple[str, str, int]]:
    """``(group, rule, devices)`` in order; a group is an owner, six digits of a division, or ""."""
    columns: dict[str, Any] = {"owner": _a.owner_platform, "civil_code": _a.shard}
    group = [columns[by]] if by else []
    statement = (
        select(*group, _i.rule, func.count())
        .select_from(_JOINED)
        .where(_wanted(scope, filters))
        .group_by(*group, _i.rule)
        .order_by(*group, _i.rule)
    )
    return [(row[0] if by else "", row[-2], row[-1]) for row in conn.execute(statement)]


def _wanted(scope: Scope, filters: IssueFilters) -> ColumnElement[bool]:
    clauses = [scope_clause(scope), _a.missing_since.is_(None)]
    if filters.owner:
        clauses.append(_a.owner_platform == filters.owner)
    if filters.civil_code:
        clauses.append(scope_clause(Scope(civil_codes=frozenset({filters.civil_code}))))
    if filters.rules is not None:
        clauses.append(_i.rule.in_(sorted(filters.rules)))
    return and_(*clauses)
