"""Many rows at once, by the fastest honest way of each engine.

SQLite: one prepared statement over tuples. PostgreSQL: COPY, for an upsert into a staging table and then one
merge; few rows go by a prepared statement there too, since a staging table costs more than it saves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar
from zlib import crc32

import msgspec
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    func,
    select,
)

_FEW = 64
Row = tuple[Any, ...]
T = TypeVar("T")


def bulk_insert(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert ``rows`` (tuples in the order of ``columns``); a row that exists is an error."""
    if conn.dialect.name == "postgresql" and len(rows) > _FEW:
        _copy(conn, table.name, columns, rows)
    elif rows:
        conn.exec_driver_sql(_insert(table.name, columns, _values(conn, columns), ()), list(rows))


def bulk_upsert(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert ``rows``, or overwrite ``columns`` where the primary key exists; no key twice in ``rows``."""
    keys = [column.name for column in table.primary_key]
    if conn.dialect.name == "postgresql" and len(rows) > _FEW:
        _merge(conn, table, columns, rows, keys)
    elif rows:
        conn.exec_driver_sql(_insert(table.name, columns, _values(conn, columns), keys), list(rows))


def takes_lines(conn: Connection, count: int) -> bool:
    """Whether so many rows are best told by ``insert_lines``."""
    return conn.dialect.name == "postgresql" and count > _FEW


def insert_lines(conn: Connection, table: Table, columns: Sequence[str], lines: Sequence[bytes]) -> None:
    r"""Insert rows that are JSON arrays without their brackets, where ``takes_lines``.

    Such a row is a line of CSV whose NULL is ``null``: text stands in quotes, and nothing else does. So a row
    that came as JSON reaches the table without one value of it being made and encoded again. No text in it
    may hold a backslash, which means one thing in JSON and another in CSV; bytes are told as ``\x`` with
    hexadecimal digits, outside of quotes.
    """
    if not lines:
        return

    async def told() -> AsyncIterator[bytes]:
        yield b"\n".join(lines)

    _run(
        conn,
        lambda driver: driver.copy_to_table(
            table.name,
            source=told(),
            columns=list(columns),
            format="csv",
            null="null",
            quote='"',
            escape="\\",
        ),
    )


def fetch(conn: Connection, statement: Select[Any]) -> Sequence[Sequence[Any]]:
    """Rows of a select as plain sequences, five thousand at a time without a wrapper around each.

    On PostgreSQL they come from the driver as it made them, which halves what a wide row costs.
    """
    if conn.dialect.name != "postgresql":
        return conn.execute(statement).all()
    text_, values = _told_plainly(conn, statement)
    rows: Sequence[Sequence[Any]] = _run(conn, lambda driver: driver.fetch(text_, *values))
    return rows


def fetch_lines(conn: Connection, statement: Select[Any], quoted: Sequence[str]) -> list[msgspec.Raw] | None:
    """Rows of a select as JSON arrays, written by the server itself; PostgreSQL only.

    ``COPY`` writes CSV with ``null`` for NULL, ``quoted`` columns (the text ones) in quotes and a backslash
    before quotes and backslashes: that is JSON, unless a text holds a control character or a number is not
    finite. None then, and the rows are to be fetched otherwise.
    """
    text_, values = _told_plainly(conn, statement)
    parts: list[bytes] = []

    async def take(data: bytes) -> None:
        parts.append(data)

    done: str = _run(
        conn,
        lambda driver: driver.copy_from_query(
            text_,
            *values,
            output=take,
            format="csv",
            null="null",
            quote='"',
            escape="\\",
            force_quote=list(quoted),
        ),
    )
    lines = b"".join(parts)
    count = int(done.rpartition(" ")[2])
    # A line break inside of a text would pass for the end of a row.
    if not count or lines.count(b"\n") != count:
        return None if count else []
    try:
        return _raw_rows(b"[[%b]]" % lines[:-1].replace(b"\n", b"],["))
    except msgspec.DecodeError:
        return None


_raw_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def in_key_order(conn: Connection) -> None:
    """Keep this transaction's page reads on the index of their key.

    A table that was just filled has no statistics yet, and PostgreSQL then sorts all that is left for every
    page: a full would cost the square of its size.
    """
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL enable_sort = off")
        conn.exec_driver_sql("SET LOCAL enable_bitmapscan = off")


@contextmanager
def by_index(conn: Connection) -> Iterator[None]:
    """Let the statements inside look things up in an index, whatever PostgreSQL thinks of it.

    For a limited question it sometimes reads a whole table instead and hopes to be done early.
    """
    if conn.dialect.name != "postgresql":
        yield
        return
    conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
    yield
    conn.exec_driver_sql("SET LOCAL enable_seqscan = on")


def among(conn: Connection, column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[bool]:
    """``column IN keys`` with the keys as one parameter: five thousand of them cost no compilation."""
    if conn.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(keys), type_=ARRAY(Text)))
    each = func.json_each(msgspec.json.encode(keys).decode()).table_valued("value")
    return column.in_(select(each.c.value))


def stage(conn: Connection, name: str, columns: Mapping[str, str], rows: Sequence[Row]) -> str:
    """Put ``rows`` into a temporary table, by COPY; PostgreSQL only. Returns its name.

    Args:
        conn: connection in a transaction, with which the rows go.
        name: what the rows are; one name has one set of columns.
        columns: names and types of the columns.
        rows: tuples in the order of ``columns``.
    """
    table = f"staging_{name}"
    typed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} ({typed}) ON COMMIT DELETE ROWS")
    conn.exec_driver_sql(f"TRUNCATE {table}")
    _copy(conn, table, list(columns), rows)
    return table


def chunks(keys: Sequence[T], size: int = 5_000) -> Iterator[list[T]]:
    """Keys in lists that fit the parameters of one statement on both engines."""
    iterator = iter(keys)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _merge(
    conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], keys: Sequence[str]
) -> None:
    names = ", ".join(columns)
    # The name tells the columns apart, so that a pooled connection never meets a staging table of another
    # shape.
    staging = f"staging_{table.name}_{crc32(names.encode()):08x}"
    conn.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS "  # noqa: S608
        f"AS SELECT {names} FROM {table.name} WITH NO DATA"
    )
    conn.exec_driver_sql(f"TRUNCATE {staging}")
    _copy(conn, staging, columns, rows)
    conn.exec_driver_sql(_insert(table.name, columns, f"SELECT {names} FROM {staging}", keys))  # noqa: S608


def _values(conn: Connection, columns: Sequence[str]) -> str:
    if conn.dialect.name == "sqlite":
        return f"VALUES ({', '.join('?' * len(columns))})"
    return f"VALUES ({', '.join(f'${number}' for number in range(1, len(columns) + 1))})"


def _insert(table: str, columns: Sequence[str], source: str, keys: Sequence[str]) -> str:
    statement = f"INSERT INTO {table} ({', '.join(columns)}) {source}"
    if not keys:
        return statement
    values = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    action = f"UPDATE SET {values}" if values else "NOTHING"
    return f"{statement} ON CONFLICT ({', '.join(keys)}) DO {action}"


def _copy(conn: Connection, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    _run(conn, lambda driver: driver.copy_records_to_table(table, records=rows, columns=list(columns)))


def _told_plainly(conn: Connection, statement: Select[Any]) -> tuple[str, list[Any]]:
    """A statement and its values as the driver takes them."""
    compiled = statement.compile(dialect=conn.dialect, compile_kwargs={"render_postcompile": True})
    return str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]


def _run(conn: Connection, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Let PostgreSQL's driver itself do something within the unit's transaction."""
    # A statement first: the driver's transaction begins with it, and the work must be inside.
    conn.exec_driver_sql("SELECT 1")
    adapted: Any = conn.connection.dbapi_connection
    return adapted.run_async(work)
