"""Device archives as they are read: one, several, a page of a scope, the rows that are exchanged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.resources.devices.model import (
    DeviceArchive,
    ExtendedAttributes,
    Filters,
    Placed,
    Source,
    decode_origins,
)
from tongshi.sharing.model import Scope
from tongshi.sharing.scope_store import within
from tongshi.storage.bulk import among, chunks, fetch, fetch_lines, in_key_order
from tongshi.storage.schema import EXT_COLUMNS, ITEM_COLUMNS, device_archive, device_status
from tongshi.storage.times import from_ms

# A row of a select; its columns are ours and named in this file.
Row = Any
Columns: TypeAlias = ReadOnlyColumnCollection[str, Any]

_ITEM_NAMES = tuple(name for name, _ in ITEM_COLUMNS)
_EXT_NAMES = tuple(name for name, _ in EXT_COLUMNS)
_STATUS = next(i for i, f in enumerate(ITEM_FIELDS) if f.attribute == "status")
_ITEM_LISTS = tuple(
    i - (i > _STATUS) for i, f in enumerate(ITEM_FIELDS) if f.kind == "list"
)  # positions without Status
_ITEM_END = len(ITEM_FIELDS) - 1
_EXT_END = _ITEM_END + len(EXT_COLUMNS)
_a = device_archive.c
_ATTRIBUTES = tuple(_a[name] for name in ("device_id", *_ITEM_NAMES, *_EXT_NAMES))
# What the exchange reads: the archive as it is stored, then these.
WIRE_COLUMNS = ("owner_platform", "revision", "updated_at", "is_online", "missing_since", "source")
_WIRE = select(
    *_ATTRIBUTES,
    *(device_status.c[name] if name == "is_online" else _a[name] for name in WIRE_COLUMNS),
).select_from(device_archive.outerjoin(device_status, _a.device_id == device_status.c.device_id))
# What travels of it, in the words of JSON: a truth value not by its letter.
_LINE = tuple(
    cast(column, Text).label(column.name) if isinstance(column.type, Boolean) else column
    for column in _WIRE.selected_columns[: _EXT_END + 4]
)
_QUOTED = tuple(c.name for c in _LINE if c.name in _a and isinstance(_a[c.name].type, Text))
_SELECT = select(
    *_ATTRIBUTES,
    _a.owner_platform,
    _a.revision,
    _a.source,
    _a.updated_at,
    _a.missing_since,
    _a.origins,
    device_status.c.is_online,
).select_from(device_archive.outerjoin(device_status, _a.device_id == device_status.c.device_id))


def get(conn: Connection, device_id: str) -> DeviceArchive | None:
    """One archive, missing ones too."""
    row = conn.execute(_SELECT.where(_a.device_id == device_id)).one_or_none()
    return None if row is None else _from_row(row)


def get_many(
    conn: Connection, device_ids: Sequence[str], scope: Scope | None = None
) -> dict[str, DeviceArchive]:
    """Those that exist and lie in the scope, by id; missing ones too."""
    found: dict[str, DeviceArchive] = {}
    within = true() if scope is None else scope_clause(scope)
    for chunk in chunks(device_ids):
        for row in conn.execute(_SELECT.where(among(conn, _a.device_id, chunk), within)):
            found[row.device_id] = _from_row(row)
    return found


def page(
    conn: Connection, scope: Scope, filters: Filters, page_no: int, page_size: int
) -> tuple[list[DeviceArchive], int]:
    """One page in order of id, and how many the caller may see in all. The scope narrows before the count."""
    wanted = and_(scope_clause(scope), *_filter_clauses(filters))
    total = conn.execute(
        select(func.count())
        .select_from(device_archive.outerjoin(device_status, _a.device_id == device_status.c.device_id))
        .where(wanted)
    ).scalar_one()
    rows = conn.execute(
        _SELECT.where(wanted).order_by(_a.device_id).limit(page_size).offset((page_no - 1) * page_size)
    )
    return [_from_row(row) for row in rows], total


def iter_owned(
    conn: Connection, owner: str | None, after_key: str, limit: int, owners: Collection[str] | None = None
) -> list[DeviceArchive]:
    """The next present archives in order of id, of one owner, of several, or (both None) of all."""
    statement = _SELECT.where(_a.device_id > after_key, _a.missing_since.is_(None))
    if owner is not None:
        statement = statement.where(_a.owner_platform == owner)
    if owners is not None:
        statement = statement.where(_a.owner_platform.in_(owners))
    return [_from_row(row) for row in conn.execute(statement.order_by(_a.device_id).limit(limit))]


def placed(conn: Connection, scope: Scope, after_key: str, limit: int, named: str = "") -> list[Placed]:
    """The next present devices in order of id; with ``named`` that one and what names it as parent.

    A page of twenty thousand is five columns: an answer to a whole catalogue is chosen by it.
    """
    in_key_order(conn)
    columns = (_a.device_id, _a.owner_platform, _a.civil_code, _a.parent_ids, _a.revision, _a.updated_at)
    statement = select(*columns).where(
        _a.device_id > after_key, _a.missing_since.is_(None), scope_clause(scope)
    )
    if named:
        joined = (
            func.concat("/", _a.parent_ids, "/")
            if conn.dialect.name == "postgresql"
            else (literal("/").concat(_a.parent_ids).concat("/"))
        )
        statement = statement.where(
            or_(_a.device_id == named, joined.contains(f"/{named}/", autoescape=True))
        )
    rows = fetch(conn, statement.order_by(_a.device_id).limit(limit))
    return [Placed(r[0], r[1], r[2] or "", _split(r[3] or ""), r[4], from_ms(r[5])) for r in rows]


def wire_rows(conn: Connection, after_key: str, limit: int, owners: Sequence[str]) -> Sequence[Sequence[Any]]:
    """The next present rows of these owners in order of id, as ``WIRE_COLUMNS`` says."""
    in_key_order(conn)
    return fetch(conn, wire_page(conn, after_key, limit, owners))


def wire_lines(
    conn: Connection, after_key: str, limit: int, owners: Sequence[str]
) -> list[msgspec.Raw] | None:
    """``wire_rows`` to ``is_online`` as JSON arrays, as PostgreSQL itself writes them.

    None where it cannot: on SQLite, and when a text or a number has no such form.
    """
    if conn.dialect.name != "postgresql":
        return None
    in_key_order(conn)
    page_ = wire_page(conn, after_key, limit, owners)
    return fetch_lines(conn, page_.with_only_columns(*_LINE), _QUOTED)


def wire_page(conn: Connection, after_key: str, limit: int, owners: Sequence[str]) -> Select[Any]:
    """The statement of ``wire_rows``: it reads no row beyond the page, however many follow.

    One owner's rows stand in order in an index. Those of several are picked while walking the table in order:
    joining an empty text keeps the database from fetching owner by owner and sorting what is left.
    """
    present = _WIRE.where(_a.device_id > after_key, _a.missing_since.is_(None))
    if len(owners) == 1:
        present = present.where(_a.owner_platform == owners[0])
    else:
        present = present.where(among(conn, _a.owner_platform.concat(""), owners))
    return present.order_by(_a.device_id).limit(limit)


def wire_rows_of(conn: Connection, device_ids: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Rows by id as ``WIRE_COLUMNS`` says, missing ones too."""
    return {row[0]: row for row in fetch(conn, _WIRE.where(among(conn, _a.device_id, device_ids)))}


def archive_of(row: Sequence[Any]) -> DeviceArchive:
    """The archive in a row of ``wire_rows``, as it is exchanged: without the origins of its fields."""
    owner, revision, updated_at, online, missing_since, source = row[_EXT_END:]
    return _archive(row[:_EXT_END], owner, revision, source, updated_at, missing_since, None, online)


def owned_keys(conn: Connection, owner: str, after_key: str, limit: int, up_to: str = "") -> list[str]:
    """Ids only, in order, to ``up_to`` if given: what a complete snapshot is compared with."""
    statement = select(_a.device_id).where(
        _a.owner_platform == owner, _a.device_id > after_key, _a.missing_since.is_(None)
    )
    if up_to:
        statement = statement.where(_a.device_id <= up_to)
    return list(conn.execute(statement.order_by(_a.device_id).limit(limit)).scalars())


def scope_clause(
    scope: Scope, civil_code: ColumnElement[str] | None = None, of: Columns = _a
) -> ColumnElement[bool]:
    """The caller's scope as a condition on archives.

    Args:
        scope: what the caller may see.
        civil_code: how that column is written, when otherwise than in ``of``.
        of: columns of ``device_archive``, or of a table that copies them.
    """
    code = of.civil_code if civil_code is None else civil_code
    return within(scope, code, of.owner_platform, of.device_id)


def _filter_clauses(filters: Filters) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if not filters.include_missing:
        clauses.append(_a.missing_since.is_(None))
    if filters.keyword:
        columns = (_a["name"], _a.device_id, _a.address)
        clauses.append(or_(*(c.contains(filters.keyword, autoescape=True) for c in columns)))
    if filters.civil_code:
        clauses.append(scope_clause(Scope(civil_codes=frozenset({filters.civil_code}))))
    if filters.online is not None:
        # Who never told a status counts as offline in a list.
        clauses.append(func.coalesce(device_status.c.is_online, false()).is_(filters.online))
    if filters.owner:
        clauses.append(_a.owner_platform == filters.owner)
    return clauses


def _from_row(row: Row) -> DeviceArchive:
    return _archive(row[:_EXT_END], *row[_EXT_END:])


def _archive(
    stored: Sequence[Any],
    owner: str,
    revision: int,
    source: str,
    updated_at: int,
    missing_since: int | None,
    origins: str | None,
    online: bool | None,
) -> DeviceArchive:
    values = list(stored)
    for index in _ITEM_LISTS:
        values[index] = _split(values[index])
    status = None if online is None else DeviceStatus.ON if online else DeviceStatus.OFF
    item = CatalogItem(
        **dict(zip(("device_id", *_ITEM_NAMES), values[:_ITEM_END], strict=True)), status=status
    )
    ext = dict(zip(_EXT_NAMES, values[_ITEM_END:], strict=True))
    ext["industries"] = _split(ext["industries"])
    return DeviceArchive(
        item=item,
        ext=ExtendedAttributes(**ext),
        owner=owner,
        revision=revision,
        updated_at=from_ms(updated_at),
        source=Source(source),
        origins=decode_origins(origins),
        missing_since=from_ms(missing_since),
        online=online,
    )


def _split(text_: str) -> tuple[str, ...]:
    return tuple(text_.split("/")) if text_ else ()
