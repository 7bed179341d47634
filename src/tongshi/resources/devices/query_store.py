"""Lists, searches and places in SQL. The caller's scope stands in every statement, before anything counts.

A list is read in two steps: the keys of the page with little beside them, then the rows of those keys. What
an index proposes (pieces of words, boxes of 32-bit floats) is decided again from the folded text and the full
coordinates, so that both engines give what a look at every row would give.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from enum import Enum
from math import ceil
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    Select,
    Text,
    TextClause,
    and_,
    any_,
    between,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
    text,
)

from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.reading_store import Columns, scope_clause
from tongshi.resources.devices.search_terms import AllOf, Asked, Needle, Piece
from tongshi.resources.devices.selection import UNASSIGNED, Place, Selection, Sort
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import among, by_index, chunks
from tongshi.storage.schema import PLACELESS, device_archive, device_search, device_status

_a, _s, _t = device_archive.c, device_search.c, device_status.c
# Half a 32-bit float's step at 180 degrees, generously; PostgreSQL's operators are fuzzy by 1e-6 as well.
_WIDEN_DEG = 2e-5
# Of so many devices a sample is taken; one in fifty of it is then at least twice what is fetched.
_SAMPLED_FROM, _SAMPLE = 300_000, 250


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
    tag_codes: tuple[str, ...] = ()


class Shown(NamedTuple):
    """Devices of a box as JSON (``DeviceLite`` without its tags), a row each.

    ``more_from`` is the number after which the next page begins, None when there is none.
    """

    rows: list[str]
    ids: list[str]
    more_from: int | None


class BoxPlan(Enum):
    """What a question about a box begins with."""

    PLACE = "the place index and what it copies"  # a box that holds little
    TRAILING = "the place index and archives"  # the same, while the copies may be old
    SELECTION = "scope and divisions"  # a box that holds much, a selection that holds less, or a count
    WALK = "number by number"  # a box and a selection that hold much, one page of which is asked


class Spot(NamedTuple):
    """A device with a position."""

    number: int
    device_id: str
    longitude: float
    latitude: float
    online: bool | None


class Cell(NamedTuple):
    """Devices of one cell of a grid: its number from 0 degrees, counts, sums of positions, and their box."""

    x: int
    y: int
    total: int
    online: int
    longitudes: float
    latitudes: float
    west: float
    south: float
    east: float
    north: float


class Group(NamedTuple):
    """Counts below one key."""

    key: str
    total: int
    online: int
    networked: int


_LITE_COLUMNS = (
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
)
_LITE = select(*_LITE_COLUMNS).select_from(
    device_archive.outerjoin(device_status, _a.device_id == _t.device_id)
)
# Word for word what the partial index says, with the table's name because others have such columns too.
_PLACELESS = text("(" + re.sub("longitude|latitude", r"device_archive.\g<0>", PLACELESS) + ")")
_SORT_COLUMNS: dict[str, ColumnElement[Any]] = {
    "id": _a.device_id,
    "name": func.coalesce(_a["name"], ""),
    "civilCode": func.coalesce(_a.civil_code, ""),
    "updateTime": _a.updated_at,
}


def count(conn: Connection, selection: Selection, most: int | None = None) -> int:
    """How many devices a selection holds, counted no further than ``most``."""
    if most is None:
        statement = _from(select(func.count()), selection).where(*_clauses(conn, selection))
    else:
        inner = _from(select(literal(1)), selection).where(*_clauses(conn, selection)).limit(most)
        statement = select(func.count()).select_from(inner.subquery())
    return int(conn.execute(statement).scalar_one())


def proposed(conn: Connection, needle: Needle, most: int) -> tuple[int, ...] | None:
    """Numbers that the words' index proposes, whoever asks; None when they are ``most`` or more."""
    if conn.dialect.name == "postgresql" and _is_everywhere(conn, needle):
        return None
    with by_index(conn):
        found = tuple(conn.execute(_proposed(conn, needle).limit(most)).scalars())
    return found if len(found) < most else None


def _is_everywhere(conn: Connection, needle: Needle) -> bool:
    """Whether a sample says that very many have these words.

    PostgreSQL collects all that its index proposes before it gives the first.
    """
    highest = conn.execute(select(func.coalesce(func.max(_s.number), 0))).scalar_one()
    if highest < _SAMPLED_FROM:
        return False
    picked = random.sample(range(1, highest + 1), _SAMPLE)
    numbered = _TERMS.c.number == any_(bindparam(None, picked, type_=ARRAY(Integer)))
    # A limit is a fence: the words' index would be read for the sample too, and that is what it is to spare.
    sample = select(column("terms")).select_from(_TERMS).where(numbered).limit(_SAMPLE).subquery()
    matches = text("terms @@ CAST(:asked AS tsquery)").bindparams(asked=_as_tsquery(needle.asked))
    found = conn.execute(select(func.count()).select_from(sample).where(matches)).scalar_one()
    return int(found) >= _SAMPLE // 50


def keys(
    conn: Connection,
    selection: Selection,
    sort: Sort,
    limit: int,
    after: Place | None = None,
    skip: int = 0,
    *,
    is_walk: bool = False,
    among_next: int | None = None,
) -> list[tuple[str, Place]]:
    """Ids of one page in order, each with its place for a cursor.

    ``is_walk`` looks at one device after the other in order of id until the page is full: for selections that
    hold much; the others are found first and sorted then. ``among_next`` ends a walk after so many devices,
    so that a page that is not full proves nothing.
    """
    name, is_down = sort.value.lstrip("-"), sort.value.startswith("-")
    by = _collated(conn, _SORT_COLUMNS[name])
    clauses = _clauses(conn, selection, is_walk=is_walk)
    statement = _from(select(_a.device_id, by), selection).where(*clauses)
    if after is not None:
        value, device_id = after
        beyond = by < value if is_down else by > value
        later = _a.device_id < device_id if is_down else _a.device_id > device_id
        statement = statement.where(later if name == "id" else or_(beyond, and_(by == value, later)))
    if among_next is not None:
        # As values: PostgreSQL would rather walk them all and hope for a page.
        near = list(conn.execute(_next(after, is_down, among_next)).scalars())
        statement = statement.where(among(conn, _a.device_id, near))
    order = [_a.device_id] if name == "id" else [by, _a.device_id]
    statement = statement.order_by(*(c.desc() if is_down else c.asc() for c in order))
    rows = conn.execute(statement.limit(limit).offset(skip))
    return [(row[0], [row[1], row[0]]) for row in rows]


def _next(after: Place | None, is_down: bool, count_: int) -> Select[Any]:
    """The next devices in order of id, whoever asks."""
    near = device_archive.alias("near").c
    statement = select(near.device_id)
    if after is not None:
        statement = statement.where(near.device_id < after[1] if is_down else near.device_id > after[1])
    return statement.order_by(near.device_id.desc() if is_down else near.device_id).limit(count_)


def lite(conn: Connection, device_ids: Sequence[str]) -> list[Lite]:
    """What lists show of these devices, in the order asked."""
    found: dict[str, Lite] = {}
    for chunk in chunks(device_ids):
        for row in conn.execute(_LITE.where(among(conn, _a.device_id, chunk))).all():
            found[row[0]] = Lite._make((*row, ()))
    return [found[key] for key in device_ids if key in found]


def numbered(conn: Connection, number: ColumnElement[int], numbers: Sequence[int]) -> ColumnElement[bool]:
    """``number IN numbers`` with the numbers as one parameter."""
    if conn.dialect.name == "postgresql":
        return number == any_(bindparam(None, list(numbers), type_=ARRAY(Integer)))
    each = func.json_each(msgspec.json.encode(numbers).decode()).table_valued("value")
    return number.in_(select(each.c.value))


def count_near(conn: Connection, box: Box, most: int) -> int:
    """How many devices the place index proposes for a box, whoever asks, counted no further than ``most``."""
    return int(conn.execute(_count_near(conn, box, most)).scalar_one())


def _count_near(conn: Connection, box: Box, most: int) -> Select[Any]:
    # Through IN, SQLite would collect a whole city before the first.
    is_tree = conn.dialect.name == "sqlite"
    near = _in_tree(box) if is_tree else select(_s.number).where(_is_near(conn, box))
    return select(func.count()).select_from(near.limit(most).subquery())


def count_in_box(
    conn: Connection, selection: Selection, box: Box, plan: BoxPlan, most: int | None = None
) -> int:
    """How many devices of a selection lie in a box of WGS 84, edges included; no further than ``most``."""
    if most is None:
        statement = _in_box(conn, select(func.count()), selection, box, plan, with_number=False)
    else:
        inner = _in_box(conn, select(literal(1)), selection, box, plan, with_number=False).limit(most)
        statement = select(func.count()).select_from(inner.subquery())
    return int(conn.execute(statement).scalar_one())


def rows_in_box(
    conn: Connection, selection: Selection, box: Box, plan: BoxPlan, limit: int, after: int
) -> list[tuple[int, Lite]]:
    """``(number, row)`` of devices in a box in order of number, after a number, from their archives."""
    statement = _in_box(conn, select(*_LITE_COLUMNS, _s.number), selection, box, plan, with_status=True)
    statement = statement.where(_s.number > after).order_by(_s.number).limit(limit)
    return [(row[-1], Lite._make((*row[:-1], ()))) for row in conn.execute(statement).all()]


def ids_in_box(
    conn: Connection, selection: Selection, box: Box, plan: BoxPlan, limit: int, after: int
) -> list[tuple[int, str]]:
    """``(number, id)`` as ``rows_in_box``."""
    statement = _in_box(conn, select(_s.number, _s.device_id), selection, box, plan)
    statement = statement.where(_s.number > after).order_by(_s.number).limit(limit)
    return [(row[0], row[1]) for row in conn.execute(statement).all()]


def spots_in_box(conn: Connection, selection: Selection, box: Box, plan: BoxPlan, most: int) -> list[Spot]:
    """Positions of devices in a box, at most ``most`` of them, in no order."""
    of = _of(plan)
    columns = select(_s.number, of.device_id, of.longitude, of.latitude, _t.is_online)
    statement = _in_box(conn, columns, selection, box, plan, with_status=True).limit(most)
    return [Spot._make(row) for row in conn.execute(statement).all()]


def cells_in_box(conn: Connection, selection: Selection, box: Box, cell_deg: float) -> list[Cell]:
    """Counts by cell of a grid, for a box that holds very many; at most one for each cell of the box."""
    x = _cell(conn, _a.longitude, cell_deg).label("x")
    y = _cell(conn, _a.latitude, cell_deg).label("y")
    statement = select(
        x,
        y,
        func.count(),
        func.coalesce(func.sum(case((_t.is_online, 1), else_=0)), 0),
        func.sum(_a.longitude),
        func.sum(_a.latitude),
        func.min(_a.longitude),
        func.min(_a.latitude),
        func.max(_a.longitude),
        func.max(_a.latitude),
    )
    plan = BoxPlan.SELECTION
    statement = _in_box(conn, statement, selection, box, plan, with_status=True, with_number=False)
    statement = statement.group_by(text("x"), text("y"))
    return [Cell._make(row) for row in conn.execute(statement)]


def count_placeless(conn: Connection, selection: Selection) -> int:
    """How many devices of a selection have no position."""
    statement = _from(select(func.count()), selection)
    statement = statement.where(_PLACELESS, *_clauses(conn, selection))
    return int(conn.execute(statement).scalar_one())


def group(conn: Connection, selection: Selection, digits: int | None) -> list[Group]:
    """Counts by the first ``digits`` of the civil code, or by managing unit; in order of key."""
    if digits is None:
        return _counted(conn, selection, _collated(conn, func.coalesce(_a.management_unit, "")))
    # By the whole code, in which order the index stands, and then by its beginning: nothing is sorted.
    found: dict[str, Group] = {}
    for one in _counted(conn, selection, _a.civil_code):
        key = (one.key or "")[:digits]
        held = found.get(key, Group(key, 0, 0, 0))
        sums = (held.total + one.total, held.online + one.online, held.networked + one.networked)
        found[key] = Group(key, *sums)
    return [found[key] for key in sorted(found)]


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
    conn: Connection,
    statement: Select[Any],
    selection: Selection,
    box: Box,
    plan: BoxPlan,
    *,
    with_status: bool = False,
    with_number: bool = True,
) -> Select[Any]:
    """The devices of a selection in a box, beginning with what ``plan`` says."""
    of = _of(plan)
    joined: FromClause = device_archive if of is _a else device_search
    if of is _a and (with_number or plan is not BoxPlan.SELECTION or selection.needle is not None):
        joined = device_search.join(device_archive, _a.device_id == _s.device_id)
    if with_status or selection.online is not None:
        joined = joined.outerjoin(device_status, of.device_id == _t.device_id)
    place = _a if plan is BoxPlan.SELECTION else _s
    statement = statement.select_from(joined).where(
        between(place.longitude, box.west, box.east),
        between(place.latitude, box.south, box.north),
        *_clauses(conn, selection, of, is_walk=plan is BoxPlan.WALK),
    )
    if plan is BoxPlan.SELECTION:
        return statement.where(or_(_a.longitude != 0, _a.latitude != 0))
    return statement if plan is BoxPlan.WALK else statement.where(_is_near(conn, box))


def _of(plan: BoxPlan) -> Columns:
    """Where what is asked of an archive is read."""
    return _s if plan is BoxPlan.PLACE else _a


def _is_near(conn: Connection, box: Box | None = None) -> ColumnElement[bool]:
    """Whether the place index proposes a device for a box, or for the ``_edges`` told with the statement."""
    if conn.dialect.name == "sqlite":
        return _s.number.in_(_in_tree(box))
    return and_(_bound(_NEAR, box))


def _in_tree(box: Box | None) -> Select[Any]:
    """Numbers that SQLite's place index proposes for a box."""
    return select(_BOX.c.number).where(
        _bound("east >= :w AND west <= :e AND north >= :s AND south <= :n", box)
    )


def _bound(near: str, box: Box | None) -> TextClause:
    edges = {} if box is None else _edges(box)
    return text(near).bindparams(
        *(bindparam(name, edges[name], Float) if edges else bindparam(name, type_=Float) for name in "wsen")
    )


def _edges(box: Box) -> dict[str, float]:
    wide = box.widened(_WIDEN_DEG)
    return {"w": wide.west, "e": wide.east, "s": wide.south, "n": wide.north}


# Word for word what the partial index says, with the table's name because others have such columns too.
_NEAR = (
    "(device_search.longitude IS NOT NULL AND "
    "point(device_search.longitude, device_search.latitude) <@ box(point(:w, :s), point(:e, :n)))"
)
_BOX = table("device_box", column("number", Integer))


def _cell(conn: Connection, degrees: ColumnElement[float], cell_deg: float) -> ColumnElement[int]:
    """Number of the cell that holds a coordinate, from 0 degrees; as ``math.floor`` counts."""
    beyond = ceil(180.0 / cell_deg) + 1
    shifted = degrees / cell_deg + float(beyond)
    # SQLite's cast cuts off, which is the floor of what is not negative; its floor() is not in every build.
    whole = cast(shifted if conn.dialect.name == "sqlite" else func.floor(shifted), BigInteger)
    return whole - beyond


def _clauses(
    conn: Connection, selection: Selection, of: Columns = _a, *, is_walk: bool = False
) -> list[ColumnElement[bool]]:
    # "+" keeps SQLite from beginning with the civil code.
    is_plain = not is_walk or conn.dialect.name == "postgresql"
    civil_code = of.civil_code if is_plain else literal_column("+device_archive.civil_code", Text)
    clauses = [scope_clause(selection.scope, civil_code, of), scope_clause(selection.also, civil_code, of)]
    if not selection.include_missing:
        clauses.append(of.missing_since.is_(None))
    if selection.civil_codes:
        clauses.append(_of_divisions(selection, civil_code))
    if selection.online is not None:
        clauses.append(func.coalesce(_t.is_online, false()).is_(selection.online))
    if selection.point_classes:
        clauses.append(of.point_type.in_(selection.point_classes))
    if selection.ptz_types:
        clauses.append(of.ptz_type.in_(selection.ptz_types))
    if selection.industries:
        told = literal("/") + func.coalesce(of.industries, "") + "/"
        clauses.append(or_(*(told.contains(f"/{one}/", autoescape=True) for one in selection.industries)))
    if selection.ids:
        clauses.append(of.device_id.in_(selection.ids))
    if selection.owner:
        clauses.append(of.owner_platform == selection.owner)
    if selection.needle is not None:
        clauses += _found(conn, selection, selection.needle, _s if of is _a else of, is_walk=is_walk)
    return clauses + [narrowing.clause(conn, of.device_id) for narrowing in selection.narrowings]


def _of_divisions(selection: Selection, civil_code: ColumnElement[str]) -> ColumnElement[bool]:
    ways: list[ColumnElement[bool]] = []
    codes = frozenset(selection.civil_codes) - {UNASSIGNED}
    if codes and selection.is_exact_civil_code:
        ways.append(civil_code.in_(sorted(codes)))
    elif codes:
        ways.append(scope_clause(Scope(civil_codes=codes), civil_code))
    if UNASSIGNED in selection.civil_codes:
        length = func.length(func.coalesce(civil_code, ""))
        ways.append(or_(length.not_in((2, 4, 6, 8)), civil_code < "0", civil_code >= ":"))
    return or_(*ways)


def _proposed(conn: Connection, needle: Needle) -> Select[Any]:
    """Numbers of the devices that the words' index proposes."""
    if conn.dialect.name == "sqlite":
        matches = text("device_terms MATCH :asked").bindparams(asked=_as_fts5(needle.asked))
        return select(_TERMS.c.rowid).where(matches)
    matches = text("terms @@ CAST(:asked AS tsquery)").bindparams(asked=_as_tsquery(needle.asked))
    return select(_TERMS.c.number).where(matches)


_TERMS = table("device_terms", column("number", Integer), column("rowid", Integer))


def _found(
    conn: Connection, selection: Selection, needle: Needle, of: Columns, *, is_walk: bool
) -> list[ColumnElement[bool]]:
    within = func.instr if conn.dialect.name == "sqlite" else func.strpos
    is_whole = or_(within(of.text, needle.whole) > 0, within(of.initials, needle.whole) > 0)
    if needle.pairs:
        present = [cast(within(of.text, pair) > 0, Integer) for pair in needle.pairs]
        is_whole = or_(is_whole, sum(present[1:], present[0]) >= needle.least)
    if is_walk:
        return [is_whole]
    if selection.proposed is None:
        return [of.number.in_(_proposed(conn, needle)), is_whole]
    # PostgreSQL cannot know how many the index will propose for the beginning of a piece; this tells it.
    return [numbered(conn, of.number, selection.proposed), is_whole]


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
