"""What a map shows of a box, ready as JSON from the place index; a statement is made once a selection.

Whoever moves a map asks the same of another box. To put the statement together took longer than to send it
and to take its answer, so that it is kept and only its values change. Statuses
come from their copy in memory.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    Select,
    Text,
    between,
    bindparam,
    cast,
    func,
    select,
)

from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.query_store import Shown, _clauses, _edges, _is_near, count_near
from tongshi.resources.devices.selection import Selection
from tongshi.resources.devices.status_copy import StatusCopy
from tongshi.storage.schema import device_search, device_status

MAX_STATEMENTS = 128
_COPIES = (
    "number",
    "device_id",
    "longitude",
    "latitude",
    "civil_code",
    "owner_platform",
    "ptz_type",
    "point_type",
    "industries",
    "missing_since",
    "shown",
)
_t = device_status.c
_Key = tuple[str, Selection, bool]


class ShownInBox:
    """Asks for the devices of boxes; keeps at most ``limit`` statements."""

    def __init__(self, statuses: StatusCopy, limit: int = MAX_STATEMENTS) -> None:
        self._statuses = statuses
        self._limit = limit
        self._made: dict[_Key, Select[Any]] = {}

    def ask(
        self,
        conn: Connection,
        selection: Selection,
        box: Box,
        system: GeoCoordSys,
        limit: int,
        after: int,
        most: int | None = None,
    ) -> Shown:
        """Devices in a box in order of number, after a number.

        Only while the copies are as the snapshot shows.

        Nothing, and that soon, when the place index proposes ``most`` or more. PostgreSQL counts what it
        collected and looks at a condition without columns first, which spares a statement and a second walk;
        SQLite would collect the box before.

        The database joins the lines: a thousand rows are one value, so that SQLite is at work without the
        interpreter and PostgreSQL's driver has one thing to decode. Statuses are as ``StatusCopy.of`` says.
        """
        counts_itself = most is not None and conn.dialect.name == "postgresql"
        if most is not None and not counts_itself and count_near(conn, box, most) >= most:
            return Shown([], [], None)
        values: dict[str, float] = {
            "west": box.west,
            "east": box.east,
            "south": box.south,
            "north": box.north,
            "after": after,
            "limit": limit + 1,
            **_edges(box),
        }
        if counts_itself and most is not None:
            values["most"] = most
        statement = self._statement(conn, selection, counts_itself)
        lines, ids, told = conn.execute(statement, values).one()
        if not lines:
            return Shown([], [], None)
        numbers = [int(number) for number in told.split(",")]
        statuses = self._statuses.of(conn, numbers[:limit])
        heads = {status: _head(status, system) for status in (None, True, False)}
        rows = [f"{heads[status]}{line}}}" for status, line in zip(statuses, lines.split("\n"), strict=False)]
        return Shown(rows, ids.split("\n")[:limit], numbers[limit] - 1 if len(numbers) > limit else None)

    def _statement(self, conn: Connection, selection: Selection, counts_itself: bool) -> Select[Any]:
        if selection.needle is not None or selection.narrowings or selection.ids:
            # Seldom asked twice, and what others lend may depend on the moment.
            return _made(conn, selection, counts_itself)
        key = conn.dialect.name, selection, counts_itself
        made = self._made.get(key)
        if made is None:
            made = _made(conn, selection, counts_itself)
            if len(self._made) >= self._limit:
                self._made.clear()
            self._made[key] = made
        return made


def _head(status: bool | None, system: GeoCoordSys) -> str:
    told = "null" if status is None else '"ON"' if status else '"OFF"'
    return f'{{"Status":{told},"geoCoordSys":"{system}",'


def _made(conn: Connection, selection: Selection, counts_itself: bool) -> Select[Any]:
    copies: FromClause = device_search
    narrowed: list[ColumnElement[bool]] = [_is_near(conn)]
    if counts_itself:
        # Words are copied only for a selection that has some: what is collected is written twice.
        names = _COPIES if selection.needle is None else device_search.c.keys()
        columns = (device_search.c[name] for name in names)
        collected = select(*columns).where(*narrowed).limit(bindparam("most", type_=Integer))
        copies = collected.cte("near")
        counted = select(func.count()).select_from(copies).scalar_subquery()
        narrowed = [counted < bindparam("most", type_=Integer)]
    of = copies.c
    rows: FromClause = copies
    if selection.online is not None:
        rows = copies.outerjoin(device_status, of.device_id == _t.device_id)
    page = (
        select(of.number, of.device_id, of.shown)
        .select_from(rows)
        .where(
            between(of.longitude, bindparam("west", type_=Float), bindparam("east", type_=Float)),
            between(of.latitude, bindparam("south", type_=Float), bindparam("north", type_=Float)),
            of.number > bindparam("after", type_=Integer),
            *_clauses(conn, selection, of),
            *narrowed,
        )
        .order_by(of.number)
        .limit(bindparam("limit", type_=Integer))
        .subquery()
    )
    # In the order of the subquery on both engines; there is no line feed in JSON that is no white space.
    joined: tuple[ColumnElement[Any], ...] = (
        func.aggregate_strings(page.c.shown, "\n"),
        func.aggregate_strings(page.c.device_id, "\n"),
        func.aggregate_strings(cast(page.c.number, Text), ","),
    )
    return select(*joined)
