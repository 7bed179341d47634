"""Lists, searches and places in SQL. The caller's scope stands in every statement, before anything counts.

A list is read in two steps: the keys of the page with little beside them, then the rows of those keys. What
an index proposes (pieces of words, boxes of 32-bit floats) is decided again from the folded text and the full
coordinates, so that both engines give what a look at every row would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    and_,
    between,
    case,
    cast,
    column,
    false,
    func,
    literal,
    or_,
    select,
    text,
)

from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.search_terms import AllOf, Asked, Needle, Piece
from tongshi.resources.devices.selection import UNASSIGNED, Place, Selection, Sort
from tongshi.resources.devices.store import scope_clause
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import chunks
from tongshi.storage.schema import device_archive, device_search, device_status

_a, _s, _t = device_archive.c, device_search.c, device_status.c
# Half a 32-bit float's step at 180 degrees, generously; PostgreSQL's operators are fuzzy by 1e-6 as well.
_WIDEN_DEG = 2e-5


class Lite(NamedTuple):
    """What a list shows of a device."""

    device_id: str
    name: str
    civil_code: str
    owner: str
    revision: int
    longitude: float | None
    latitude: float | None
    ptz_type: int | None
    point_type: int | None
    is_controllable: bool | None
    is_networked: bool | None
    industries: str
    online: bool | None


class Spot(NamedTuple):
    """A device with a position."""

    number: int
    longitude: float
    latitude: float
    online: bool | None


class Group(NamedTuple):
    """Counts below one key."""

    key: str
    total: int
    online: int
    networked: int


_LITE = select(
    _a.device_id,
    _a["name"],
    _a.civil_code,
    _a.owner_platform,
    _a.revision,
    _a.longitude,
    _a.latitude,
    _a.ptz_type,
    _a.point_type,
    _a.is_controllable,
    _a.is_networked,
    _a.industries,
    _t.is_online,
).select_from(device_archive.outerjoin(device_status, _a.device_id == _t.device_id))
_SORT_COLUMNS: dict[str, ColumnElement[Any]] = {
    "id": _a.device_id,
    "name": func.coalesce(_a["name"], ""),
    "civilCode": func.coalesce(_a.civil_code, ""),
    "updateTime": _a.updated_at,
}


def count(conn: Connection, selection: Selection) -> int:
    """How many devices a selection holds."""
    statement = _from(select(func.count()), selection).where(*_clauses(conn, selection))
    return int(conn.execute(statement).scalar_one())


def keys(
    conn: Connection, selection: Selection, sort: Sort, limit: int, after: Place | None = None, skip: int = 0
) -> list[tuple[str, Place]]:
    """Ids of one page in order, each with its place for a cursor."""
    name, is_down = sort.value.lstrip("-"), sort.value.startswith("-")
    by = _collated(conn, _SORT_COLUMNS[name])
    statement = _from(select(_a.device_id, by), selection).where(*_clauses(conn, selection))
    if after is not None:
        value, device_id = after
        beyond = by < value if is_down else by > value
        later = _a.device_id < device_id if is_down else _a.device_id > device_id
        statement = statement.where(later if name == "id" else or_(beyond, and_(by == value, later)))
    order = [_a.device_id] if name == "id" else [by, _a.device_id]
    statement = statement.order_by(*(c.desc() if is_down else c.asc() for c in order))
    rows = conn.execute(statement.limit(limit).offset(skip))
    return [(row[0], [row[1], row[0]]) for row in rows]


def lite(conn: Connection, device_ids: Sequence[str]) -> list[Lite]:
    """What lists show of these devices, in the order asked."""
    found: dict[str, Lite] = {}
    for chunk in chunks(device_ids):
        for row in conn.execute(_LITE.where(_a.device_id.in_(chunk))):
            found[row[0]] = Lite._make(row)
    return [found[key] for key in device_ids if key in found]


def count_in_box(conn: Connection, selection: Selection, box: Box) -> int:
    """How many devices of a selection lie in a box of WGS 84, edges included."""
    statement = _in_box(conn, select(func.count()), selection, box)
    return int(conn.execute(statement).scalar_one())


def ids_in_box(
    conn: Connection, selection: Selection, box: Box, limit: int, after: int
) -> list[tuple[str, int]]:
    """``(id, number)`` of devices in a box in order of number, after a number."""
    statement = _in_box(conn, select(_a.device_id, _s.number), selection, box)
    rows = conn.execute(statement.where(_s.number > after).order_by(_s.number).limit(limit))
    return [(row[0], row[1]) for row in rows]


def spots_in_box(conn: Connection, selection: Selection, box: Box, most: int) -> list[Spot]:
    """Positions of devices in a box, at most ``most`` of them, in no order."""
    columns = select(_s.number, _s.longitude, _s.latitude, _t.is_online)
    statement = _in_box(conn, columns, selection, box, with_status=True).limit(most)
    return [Spot._make(row) for row in conn.execute(statement)]


def ids_of_numbers(conn: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Ids by number in the place index."""
    found: dict[int, str] = {}
    for first in range(0, len(numbers), 5_000):
        chunk = numbers[first : first + 5_000]
        found.update(
            (row[0], row[1])
            for row in conn.execute(select(_s.number, _s.device_id).where(_s.number.in_(chunk)))
        )
    return found


def count_placeless(conn: Connection, selection: Selection) -> int:
    """How many devices of a selection have no position."""
    # As a list of ids, so that SQLite begins with the few of them and not with all of a caller's scope.
    placeless = device_search.alias("placeless").c
    ids = select(placeless.device_id).where(placeless.longitude.is_(None))
    statement = _from(select(func.count()), selection)
    statement = statement.where(_a.device_id.in_(ids), *_clauses(conn, selection))
    return int(conn.execute(statement).scalar_one())


def group(conn: Connection, selection: Selection, digits: int | None) -> list[Group]:
    """Counts by the first ``digits`` of the civil code, or by managing unit; in order of key."""
    code = func.coalesce(_a.civil_code, "")
    by = func.coalesce(_a.management_unit, "") if digits is None else func.substr(code, 1, digits)
    return _counted(conn, selection, _collated(conn, by))


def tally(conn: Connection, selection: Selection) -> Group:
    """Counts of a whole selection."""
    found = _counted(conn, selection, None)
    return found[0] if found else Group("", 0, 0, 0)


def _counted(conn: Connection, selection: Selection, by: ColumnElement[Any] | None) -> list[Group]:
    key = literal("") if by is None else by
    statement = select(
        key,
        func.count(),
        func.coalesce(func.sum(case((_t.is_online, 1), else_=0)), 0),
        func.coalesce(func.sum(case((_a.is_networked, 1), else_=0)), 0),
    )
    statement = _from(statement, selection, with_status=True).where(*_clauses(conn, selection))
    if by is not None:
        statement = statement.group_by(by).order_by(by)
    return [Group(row[0], int(row[1]), int(row[2]), int(row[3])) for row in conn.execute(statement)]


def _from(statement: Select[Any], selection: Selection, *, with_status: bool = False) -> Select[Any]:
    joined: FromClause = device_archive
    if selection.needle is not None:
        joined = joined.join(device_search, _a.device_id == _s.device_id)
    if with_status or selection.online is not None:
        joined = joined.outerjoin(device_status, _a.device_id == _t.device_id)
    return statement.select_from(joined)


def _in_box(
    conn: Connection, statement: Select[Any], selection: Selection, box: Box, *, with_status: bool = False
) -> Select[Any]:
    joined: FromClause = device_search.join(device_archive, _a.device_id == _s.device_id)
    if with_status or selection.online is not None:
        joined = joined.outerjoin(device_status, _a.device_id == _t.device_id)
    wide = box.widened(_WIDEN_DEG)
    if conn.dialect.name == "sqlite":
        near = "SELECT number FROM device_box WHERE east >= :w AND west <= :e AND north >= :s AND south <= :n"
    else:
        near = "SELECT number FROM device_box WHERE place <@ box(point(:w, :s), point(:e, :n))"
    candidates = text(near).bindparams(w=wide.west, s=wide.south, e=wide.east, n=wide.north)
    return statement.select_from(joined).where(
        _s.number.in_(candidates.columns(column("number", Integer))),
        between(_s.longitude, box.west, box.east),
        between(_s.latitude, box.south, box.north),
        *_clauses(conn, selection),
    )


def _clauses(conn: Connection, selection: Selection) -> list[ColumnElement[bool]]:
    clauses = [scope_clause(selection.scope)]
    if not selection.include_missing:
        clauses.append(_a.missing_since.is_(None))
    if selection.civil_codes:
        clauses.append(_of_divisions(selection))
    if selection.online is not None:
        clauses.append(func.coalesce(_t.is_online, false()).is_(selection.online))
    if selection.point_classes:
        clauses.append(_a.point_type.in_(selection.point_classes))
    if selection.ptz_types:
        clauses.append(_a.ptz_type.in_(selection.ptz_types))
    if selection.industries:
        told = literal("/") + func.coalesce(_a.industries, "") + "/"
        clauses.append(or_(*(told.contains(f"/{one}/", autoescape=True) for one in selection.industries)))
    if selection.ids:
        clauses.append(_a.device_id.in_(selection.ids))
    if selection.owner:
        clauses.append(_a.owner_platform == selection.owner)
    if selection.needle is not None:
        clauses += _found(conn, selection.needle)
    return clauses + [narrowing.clause(conn, _a.device_id) for narrowing in selection.narrowings]


def _of_divisions(selection: Selection) -> ColumnElement[bool]:
    ways: list[ColumnElement[bool]] = []
    codes = frozenset(selection.civil_codes) - {UNASSIGNED}
    if codes and selection.is_exact_civil_code:
        ways.append(_a.civil_code.in_(sorted(codes)))
    elif codes:
        ways.append(scope_clause(Scope(civil_codes=codes)))
    if UNASSIGNED in selection.civil_codes:
        length = func.length(func.coalesce(_a.civil_code, ""))
        ways.append(or_(length.not_in((2, 4, 6, 8)), _a.civil_code < "0", _a.civil_code >= ":"))
    return or_(*ways)


def _found(conn: Connection, needle: Needle) -> list[ColumnElement[bool]]:
    if conn.dialect.name == "sqlite":
        index = "SELECT rowid FROM device_terms WHERE device_terms MATCH :asked"
        candidates = text(index).bindparams(asked=_as_fts5(needle.asked)).columns(column("rowid", Integer))
    else:
        index = "SELECT number FROM device_terms WHERE terms @@ CAST(:asked AS tsquery)"
        candidates = (
            text(index).bindparams(asked=_as_tsquery(needle.asked)).columns(column("number", Integer))
        )
    within = func.instr if conn.dialect.name == "sqlite" else func.strpos
    is_whole = or_(within(_s.text, needle.whole) > 0, within(_s.initials, needle.whole) > 0)
    if needle.pairs:
        present = [cast(within(_s.text, pair) > 0, Integer) for pair in needle.pairs]
        is_whole = or_(is_whole, sum(present[1:], present[0]) >= needle.least)
    return [_s.number.in_(candidates), is_whole]


def _as_fts5(asked: Asked) -> str:
    if isinstance(asked, Piece):
        return f'"{asked.text}"*' if asked.is_prefix else f'"{asked.text}"'
    joint = " AND " if isinstance(asked, AllOf) else " OR "
    return "(" + joint.join(map(_as_fts5, asked.parts)) + ")"


def _as_tsquery(asked: Asked) -> str:
    if isinstance(asked, Piece):
        return f"'{asked.text}':*" if asked.is_prefix else f"'{asked.text}'"
    joint = " & " if isinstance(asked, AllOf) else " | "
    return "(" + joint.join(map(_as_tsquery, asked.parts)) + ")"


def _collated(conn: Connection, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Text in the order of its code points on both engines."""
    if conn.dialect.name == "postgresql" and value.type.python_type is str:
        return func.coalesce(value).collate("C")
    return value
