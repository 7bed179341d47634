"""Device archives in the database: merge by digest, lists by scope, the digest tree, status.

Every write of archives on PostgreSQL holds one advisory lock to the end of its transaction: two batches with
the same device would otherwise both subtract its old digest from the tree. Batches are bounded, so the wait
is short.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from tongshi.errors import LimitExceeded
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.resources.devices import history_store
from tongshi.resources.devices.model import (
    NOBODY,
    Act,
    DeviceArchive,
    ExtendedAttributes,
    Filters,
    FlatArchive,
    Placed,
    Shard,
    Source,
    UpsertResult,
    decode_origins,
    encode_origins,
    flatten,
)
from tongshi.resources.devices.teller_store import forget_words as forget_words
from tongshi.resources.devices.teller_store import put_words as put_words
from tongshi.resources.devices.teller_store import words as words
from tongshi.sharing.model import Scope
from tongshi.sharing.scope_store import within
from tongshi.storage import changes
from tongshi.storage.bulk import (
    among,
    bulk_insert,
    bulk_upsert,
    chunks,
    fetch,
    in_key_order,
    insert_lines,
    takes_lines,
)
from tongshi.storage.schema import EXT_COLUMNS, ITEM_COLUMNS, device_archive, device_shard, device_status
from tongshi.storage.times import from_ms, to_ms

# A row of a select; its columns are ours and named in this file.
Row = Any

KIND = "device"
KIND_STATUS = "status"
MAX_DEVICES = 5_000_000
_LOCK = text("SELECT pg_advisory_xact_lock(7311002)")
_MODULUS = 1 << 256

_ITEM_NAMES = tuple(name for name, _ in ITEM_COLUMNS)
_EXT_NAMES = tuple(name for name, _ in EXT_COLUMNS)
_COLUMNS = (
    "device_id",
    *_ITEM_NAMES,
    *_EXT_NAMES,
    "owner_platform",
    "revision",
    "source",
    "updated_at",
    "missing_since",
    "origins",
    "shard",
    "digest",
)
_REVISION = _COLUMNS.index("revision")
# What ``_line`` writes after the archive's own values.
assert _COLUMNS[-8:] == (
    "owner_platform",
    "revision",
    "source",
    "updated_at",
    "missing_since",
    "origins",
    "shard",
    "digest",
)
_STATUS = next(i for i, f in enumerate(ITEM_FIELDS) if f.attribute == "status")
_ITEM_LISTS = tuple(
    i - (i > _STATUS) for i, f in enumerate(ITEM_FIELDS) if f.kind == "list"
)  # positions without Status
_ITEM_END = len(ITEM_FIELDS) - 1
_EXT_END = _ITEM_END + len(EXT_COLUMNS)
_a = device_archive.c
# What the exchange reads: the archive as it is stored, then these.
WIRE_COLUMNS = ("owner_platform", "revision", "updated_at", "is_online", "missing_since", "source")
_WIRE = select(
    *(_a[name] for name in _COLUMNS[:_EXT_END]),
    *(device_status.c[name] if name == "is_online" else _a[name] for name in WIRE_COLUMNS),
).select_from(device_archive.outerjoin(device_status, _a.device_id == device_status.c.device_id))
_SELECT = select(*(_a[name] for name in _COLUMNS[:-2]), device_status.c.is_online).select_from(
    device_archive.outerjoin(device_status, _a.device_id == device_status.c.device_id)
)


def upsert_many(
    conn: Connection, archives: Iterable[DeviceArchive], origin: str, at: datetime, act: Act = NOBODY
) -> UpsertResult:
    """``upsert_flat`` for archives; their ``missing_since`` and ``online`` are not read."""
    return upsert_flat(conn, [flatten(archive) for archive in archives], origin, at, act=act)


def upsert_flat(
    conn: Connection,
    archives: Iterable[FlatArchive],
    origin: str,
    at: datetime,
    *,
    spoken_for: Collection[str] = (),
    is_full: bool = False,
    act: Act = NOBODY,
) -> UpsertResult:
    """Store archives; only real differences are written and noted in the change feed.

    The last of two archives of one device counts. A row of another owner is left alone, unless it is missing
    or was only heard of through a cascade while this one comes from the owner's own record. An owner's older
    revision is stale.

    Args:
        conn: connection in a transaction.
        archives: at most a few thousand; ``online`` is not read.
        origin: the platform whose write this is.
        at: now.
        spoken_for: owners that ``origin`` speaks for; between these it may move a device.
        is_full: what the owners have now, in a full or to mend: the revision that is held does not count.
        act: on whose behalf, for the history.
    """
    lock(conn)
    wanted = {archive.device_id: archive for archive in archives}
    known = _known(conn, list(wanted))
    at_ms = to_ms(at)
    tree = _TreeChanges()
    sorted_out: dict[str, list[str]] = {name: [] for name in UpsertResult.__slots__}
    # What was not there is inserted, which is cheaper than a merge; the lock keeps others from coming first.
    fresh = [new for key, new in wanted.items() if key not in known]
    merged: list[tuple[Any, ...]] = []
    for device_id in [key for key in wanted if key in known]:
        new, old = wanted[device_id], known[device_id]
        verdict = _verdict(old, new, spoken_for, is_full=is_full)
        sorted_out[verdict].append(device_id)
        if verdict != "updated":
            continue
        merged.append(_stored(new, new.revision or old.revision + 1, at_ms))
        tree.add_all([new])
        if old.missing_since is None:
            tree.remove(old.owner_platform, old.shard, old.digest)
    sorted_out["inserted"] = [new.device_id for new in fresh]
    if fresh:
        _check_bound(conn, len(fresh))
    if merged:
        history_store.note_updates(
            conn, [row[0] for row in merged], {row[0]: row for row in merged}, origin, at, act
        )
    _insert(conn, fresh, at_ms)
    bulk_upsert(conn, device_archive, _COLUMNS, merged)
    tree.add_all(fresh)
    tree.write(conn)
    noted: list[tuple[str, changes.Op, int]] = [(new.device_id, "put", new.revision or 1) for new in fresh]
    noted += [(row[0], "put", row[_REVISION]) for row in merged]
    changes.record_many(conn, KIND, noted, origin, at)
    return UpsertResult(**{name: tuple(ids) for name, ids in sorted_out.items()})


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


def owners(conn: Connection) -> dict[str, int]:
    """Owners of present devices with their counts, from the digest tree."""
    s = device_shard.c
    rows = conn.execute(select(s.owner_platform, func.sum(s.row_count)).group_by(s.owner_platform))
    return {owner: int(count) for owner, count in rows if count}


def mark_missing(
    conn: Connection,
    owner: str,
    device_ids: Sequence[str],
    at: datetime,
    origin: str = "",
    act: Act = NOBODY,
) -> int:
    """Note that a proven complete catalogue of ``owner`` lacks these; none is deleted. Returns how many."""
    lock(conn)
    tree = _TreeChanges()
    noted: list[tuple[str, changes.Op, int]] = []
    for chunk in chunks(device_ids):
        gone = [
            row
            for row in _known(conn, chunk).values()
            if row.owner_platform == owner and row.missing_since is None
        ]
        for row in gone:
            tree.remove(owner, row.shard, row.digest)
            noted.append((row.device_id, "missing", row.revision))
        conn.execute(
            update(device_archive)
            .where(among(conn, _a.device_id, [row.device_id for row in gone]))
            .values(missing_since=to_ms(at))
        )
        gone_now = {row.device_id: row.revision for row in gone}
        history_store.note_missing(conn, gone_now, origin or owner, at, act)
    tree.write(conn)
    changes.record_many(conn, KIND, noted, origin or owner, at)
    return len(noted)


def restamp(conn: Connection, archives: Sequence[DeviceArchive]) -> None:
    """Keep where fields came from, of archives that say what they said before. Nobody else hears of it."""
    if archives:
        stamped = update(device_archive).where(_a.device_id == bindparam("key"))
        rows = [
            {"key": one.device_id, "stored": encode_origins(one.origins), "method": one.source.value}
            for one in archives
        ]
        conn.execute(stamped.values(origins=bindparam("stored"), source=bindparam("method")), rows)


def set_status(
    conn: Connection,
    device_id: str,
    online: bool,
    source: str,
    at: datetime,
    reason: str = "",
    origin: str = "",
) -> bool:
    """Note a device's status. Returns whether it turned; only then the change feed hears of it."""
    return bool(set_statuses(conn, {device_id: online}, source, at, reason, origin))


def set_statuses(
    conn: Connection, online: dict[str, bool], source: str, at: datetime, reason: str = "", origin: str = ""
) -> list[str]:
    """Note the status of many. Returns the ids whose status turned or was unknown."""
    at_ms = to_ms(at)
    s = device_status.c
    known: dict[str, tuple[bool, int]] = {}
    for chunk in chunks(list(online)):
        statement = select(s.device_id, s.is_online, s.since_at).where(among(conn, s.device_id, chunk))
        for row in conn.execute(statement):
            known[row.device_id] = (row.is_online, row.since_at)
    turned = [key for key, value in online.items() if key not in known or known[key][0] != value]
    turned_set = set(turned)
    rows = [
        (key, value, at_ms if key in turned_set else known[key][1], at_ms, source, reason)
        for key, value in sorted(online.items())
    ]
    columns = ("device_id", "is_online", "since_at", "last_seen_at", "source", "reason")
    bulk_upsert(conn, device_status, columns, rows)
    changes.record_many(conn, KIND_STATUS, [(key, "put", 0) for key in turned], origin, at)
    return turned


def root_digest(conn: Connection, owner: str) -> tuple[int, bytes]:
    """Count and digest of an owner's present devices: SM3 over its shards in order."""
    root = hashlib.new("sm3")
    count = 0
    for shard in shard_digests(conn, owner):
        root.update(f"{shard.civil_code}\0{shard.count}\0".encode() + shard.digest)
        count += shard.count
    return count, root.digest()


def shard_digests(conn: Connection, owner: str) -> list[Shard]:
    """Leaves of an owner's digest tree in order of civil code (6 digits; "" for devices without one)."""
    s = device_shard.c
    rows = conn.execute(
        select(s.shard, s.row_count, s.digest)
        .where(s.owner_platform == owner, s.row_count > 0)
        .order_by(s.shard)
    )
    return [Shard(*row) for row in rows]


def shard_rows(
    conn: Connection, owner: str, shard: str, after_key: str, limit: int, up_to: str = ""
) -> list[tuple[str, bytes]]:
    """``(device id, digest)`` below one leaf, to ``up_to`` if given, to find which rows differ."""
    in_key_order(conn)
    statement = select(_a.device_id, _a.digest).where(_in_leaf(owner, shard, after_key, up_to))
    return [(row[0], row[1]) for row in conn.execute(statement.order_by(_a.device_id).limit(limit))]


def shard_count(conn: Connection, owner: str, shard: str, after_key: str, up_to: str = "") -> int:
    """How many rows ``shard_rows`` would give without a limit."""
    statement = select(func.count()).select_from(device_archive)
    return conn.execute(statement.where(_in_leaf(owner, shard, after_key, up_to))).scalar_one()


def combine(digests: Iterable[bytes]) -> bytes:
    """Digest of a shard from its rows' digests, for one who holds the rows and not the tree."""
    return (_sum(digests) % _MODULUS).to_bytes(32, "big")


Columns: TypeAlias = ReadOnlyColumnCollection[str, Any]


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


def _in_leaf(owner: str, shard: str, after_key: str, up_to: str) -> ColumnElement[bool]:
    within = _a.device_id > after_key
    if up_to:
        within = and_(within, _a.device_id <= up_to)
    return and_(_a.owner_platform == owner, _a.shard == shard, _a.missing_since.is_(None), within)


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


class _TreeChanges:
    """What a batch does to the leaves.

    A sum is no defence against an owner who forges colliding rows; he may write what he likes anyway.
    """

    def __init__(self) -> None:
        self._come: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        self._gone: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)

    def add_all(self, archives: Iterable[FlatArchive]) -> None:
        for archive in archives:
            self._come[archive.owner, archive.shard].append(archive.digest)

    def remove(self, owner: str, shard: str, row_digest: bytes) -> None:
        self._gone[owner, shard].append(row_digest)

    def write(self, conn: Connection) -> None:
        s = device_shard.c
        rows = []
        for owner, shard in sorted({*self._come, *self._gone}):
            come, gone = self._come.get((owner, shard), []), self._gone.get((owner, shard), [])
            count, total = len(come) - len(gone), _sum(come) - _sum(gone)
            old = conn.execute(
                select(s.row_count, s.digest).where(s.owner_platform == owner, s.shard == shard)
            ).one_or_none()
            if old is not None:
                count, total = count + old.row_count, total + int.from_bytes(old.digest, "big")
            rows.append((owner, shard, count, (total % _MODULUS).to_bytes(32, "big")))
        bulk_upsert(conn, device_shard, ("owner_platform", "shard", "row_count", "digest"), rows)


def _insert(conn: Connection, fresh: Sequence[FlatArchive], at_ms: int) -> None:
    """Archives that are not there yet. PostgreSQL takes most of them as they were digested."""
    lines: list[bytes] = []
    rows: list[tuple[Any, ...]] = []
    is_lined = takes_lines(conn, len(fresh))
    for new in fresh:
        line = _line(new, at_ms) if is_lined else None
        if line is None:
            rows.append(_stored(new, new.revision or 1, at_ms))
        else:
            lines.append(line)
    insert_lines(conn, device_archive, _COLUMNS, lines)
    bulk_insert(conn, device_archive, _COLUMNS, rows)


def _line(new: FlatArchive, at_ms: int) -> bytes | None:
    """A row in the order of ``_COLUMNS`` for ``insert_lines``; None when a text in it holds a backslash."""
    updated_at_ms = at_ms if new.updated_at_ms is None else new.updated_at_ms
    head = _encode((new.owner, new.revision or 1, new.source, updated_at_ms, None, new.origins, new.shard))
    if b"\\" in new.line or b"\\" in head:
        return None
    return b"%b,%b,\\x%b" % (new.line, head[1:-1], new.digest.hex().encode())


_encode = msgspec.json.Encoder().encode


def _stored(new: FlatArchive, revision: int, at_ms: int) -> tuple[Any, ...]:
    """A row in the order of ``_COLUMNS``."""
    updated_at_ms = at_ms if new.updated_at_ms is None else new.updated_at_ms
    source = new.source._value_
    local = (new.owner, revision, source, updated_at_ms, None, new.origins, new.shard, new.digest)
    return (*new.values, *local)


def _sum(digests: Iterable[bytes]) -> int:
    return sum([int.from_bytes(value, "big") for value in digests])


def _verdict(old: Row, new: FlatArchive, spoken_for: Collection[str], *, is_full: bool) -> str:
    """Which field of UpsertResult a device that is known belongs to."""
    if old.missing_since is None and old.owner_platform != new.owner:
        is_hearsay = old.source == Source.CASCADE and new.source is not Source.CASCADE
        # Who speaks for both owners tells the latest state only: the word that one gave it up is not sent.
        is_moved = old.owner_platform in spoken_for and new.owner in spoken_for
        return "updated" if is_hearsay or is_moved else "foreign"
    if old.owner_platform == new.owner and old.source == Source.REST and not is_full and _is_older(old, new):
        return "stale"
    is_same = old.digest == new.digest and old.missing_since is None
    # The owner's own word replaces hearsay even when both say the same; its revision counts from now on.
    is_newer = new.revision != old.revision if is_full else new.revision > old.revision
    is_firmer = new.source is Source.REST and (old.source != Source.REST or is_newer)
    return "unchanged" if is_same and not is_firmer else "updated"


def _is_older(old: Row, new: FlatArchive) -> bool:
    """Whether a told version stands behind the one held; which of two of one number, both see alike."""
    if new.revision != old.revision or new.updated_at_ms is None or new.digest == old.digest:
        return bool(0 < new.revision < old.revision)
    is_earlier: bool = (new.updated_at_ms, new.digest) < (old.updated_at, old.digest)
    return old.missing_since is None and is_earlier


def _known(conn: Connection, device_ids: Sequence[str]) -> dict[str, Row]:
    if not device_ids or _is_empty_between(conn, min(device_ids), max(device_ids)):
        # A first full and a first load meet nothing: one look instead of one a device.
        return {}
    statement = select(
        _a.device_id,
        _a.digest,
        _a.owner_platform,
        _a.revision,
        _a.source,
        _a.missing_since,
        _a.shard,
        _a.updated_at,
    )
    rows = conn.execute(statement.where(among(conn, _a.device_id, device_ids)))
    return {row[0]: row for row in rows}


def _is_empty_between(conn: Connection, first: str, last: str) -> bool:
    statement = select(_a.device_id).where(_a.device_id >= first, _a.device_id <= last).limit(1)
    return conn.execute(statement).first() is None


def _check_bound(conn: Connection, new: int) -> None:
    s = device_shard.c
    total = conn.execute(select(func.coalesce(func.sum(s.row_count), 0))).scalar_one()
    if int(total) > MAX_DEVICES:
        raise LimitExceeded(f"设备档案超过上限 {MAX_DEVICES}，新增 {new} 条未写入", code=42903)


def lock(conn: Connection) -> None:
    """Let no other batch write archives until this transaction ends; for one that reads before it writes."""
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)


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
