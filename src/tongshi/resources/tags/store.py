"""The tag dictionary in the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, text

from tongshi.resources.devices.search_terms import fold
from tongshi.resources.tags.model import Define, Group, TagSort, Value
from tongshi.storage import changes
from tongshi.storage.bulk import bulk_insert, bulk_upsert
from tongshi.storage.schema import tag_define, tag_enum, tag_group
from tongshi.storage.times import to_ms

KIND_DEFINE = "tag_define"
KIND_ENUM = "tag_enum"
_LOCK = text("SELECT pg_advisory_xact_lock(7311009)")
_g, _d, _e = tag_group.c, tag_define.c, tag_enum.c
_GROUP = ("code", "name", "sort", "position", "revision", "updated_at")
_DEFINE = (
    "code", "group_code", "name", "sort", "position", "is_customised", "allows_empty", "is_multiple",
    "revision", "updated_at",
)  # fmt: skip
_ENUM = ("code", "define_code", "text", "folded", "is_enabled", "position", "revision", "updated_at")


def lock(conn: Connection) -> None:
    """Let one writer of tags in at a time: two that read the same state would each write over the other."""
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)


def seed(
    conn: Connection,
    groups: Sequence[Group],
    defines: Sequence[Define],
    values: Sequence[Value],
    at: datetime,
) -> None:
    """Store what is printed and not there yet."""
    lock(conn)
    held = set(conn.execute(select(_g.code)).scalars())
    bulk_insert(conn, tag_group, _GROUP, [_group_row(one, at) for one in groups if one.code not in held])
    held = set(conn.execute(select(_d.code)).scalars())
    bulk_insert(conn, tag_define, _DEFINE, [_define_row(one, at) for one in defines if one.code not in held])
    held = set(conn.execute(select(_e.code)).scalars())
    bulk_insert(conn, tag_enum, _ENUM, [_value_row(one, at) for one in values if one.code not in held])


def groups(conn: Connection) -> list[Group]:
    """Every group in order."""
    rows = conn.execute(select(tag_group).order_by(_g.position, _g.code))
    return [Group(row.code, row.name, TagSort(row.sort), row.position, row.revision) for row in rows]


def defines(conn: Connection) -> list[Define]:
    """Every definition in order of its group and its own."""
    joined = tag_define.join(tag_group, _d.group_code == _g.code)
    rows = conn.execute(
        select(tag_define).select_from(joined).order_by(_g.position, _g.code, _d.position, _d.code)
    )
    return [_define(row) for row in rows]


def define(conn: Connection, code: str) -> Define | None:
    """One definition."""
    row = conn.execute(select(tag_define).where(_d.code == code)).one_or_none()
    return None if row is None else _define(row)


def counts(conn: Connection) -> dict[str, int]:
    """How many values each definition has, those switched off too."""
    rows = conn.execute(select(_e.define_code, func.count()).group_by(_e.define_code))
    return {row[0]: int(row[1]) for row in rows}


def values_of(conn: Connection, define_code: str) -> list[Value]:
    """The values of a definition in order."""
    statement = select(tag_enum).where(_e.define_code == define_code).order_by(_e.position, _e.code)
    return [_value(row) for row in conn.execute(statement)]


def values(conn: Connection, codes: Collection[str]) -> dict[str, Value]:
    """Values by code, those that exist."""
    statement = select(tag_enum).where(_e.code.in_(sorted(codes)))
    return {row.code: _value(row) for row in conn.execute(statement)}


def put_define(conn: Connection, new: Define, at: datetime) -> None:
    """Create or replace a definition; the feed tells."""
    bulk_upsert(conn, tag_define, _DEFINE, [_define_row(new, at)])
    changes.record(conn, KIND_DEFINE, new.code, "put", "", new.revision, at)


def put_values(conn: Connection, new: Sequence[Value], at: datetime) -> None:
    """Create or replace values; the feed tells."""
    bulk_upsert(conn, tag_enum, _ENUM, [_value_row(one, at) for one in new])
    changes.record_many(conn, KIND_ENUM, [(one.code, "put", one.revision) for one in new], "", at)


def _group_row(one: Group, at: datetime) -> tuple[Any, ...]:
    return (one.code, one.name, int(one.sort), one.position, one.revision, to_ms(at))


def _define_row(one: Define, at: datetime) -> tuple[Any, ...]:
    values = {name: getattr(one, name) for name in _DEFINE[:-1]}
    values["sort"] = int(one.sort)
    return (*values.values(), to_ms(at))


def _value_row(one: Value, at: datetime) -> tuple[Any, ...]:
    return (
        one.code,
        one.define_code,
        one.text,
        fold(one.text),
        one.is_enabled,
        one.position,
        one.revision,
        to_ms(at),
    )


def _define(row: Any) -> Define:
    values = {name: getattr(row, name) for name in _DEFINE[:-1]}
    values["sort"] = TagSort(row.sort)
    return Define(**values)


def _value(row: Any) -> Value:
    return Value(row.code, row.define_code, row.text, row.is_enabled, row.position, row.revision)
