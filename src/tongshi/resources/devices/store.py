"""Device archives as they are written: merge by digest, what is missing, status.

Every write of archives on PostgreSQL holds one advisory lock to the end of its transaction: two batches with
the same device would otherwise both subtract its old digest from the tree. Batches are bounded, so the wait
is short.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, select, text, update

from tongshi.errors import LimitExceeded
from tongshi.resources.devices import history_store
from tongshi.resources.devices.digest_store import TreeChanges
from tongshi.resources.devices.model import (
    NOBODY,
    Act,
    DeviceArchive,
    FlatArchive,
    Source,
    UpsertResult,
    encode_origins,
    flatten,
)
from tongshi.resources.devices.reading_store import get as get
from tongshi.resources.devices.reading_store import get_many as get_many
from tongshi.resources.devices.reading_store import page as page
from tongshi.resources.devices.reading_store import placed as placed
from tongshi.resources.devices.teller_store import forget_words as forget_words
from tongshi.resources.devices.teller_store import put_words as put_words
from tongshi.resources.devices.teller_store import words as words
from tongshi.storage import changes
from tongshi.storage.bulk import (
    among,
    bulk_insert,
    bulk_upsert,
    chunks,
    insert_lines,
    takes_lines,
)
from tongshi.storage.schema import EXT_COLUMNS, ITEM_COLUMNS, device_archive, device_shard, device_status
from tongshi.storage.times import to_ms

# A row of a select; its columns are ours and named in this file.
Row = Any

KIND = "device"
KIND_STATUS = "status"
MAX_DEVICES = 5_000_000
_LOCK = text("SELECT pg_advisory_xact_lock(7311002)")

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
_a = device_archive.c


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
    tree = TreeChanges()
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
    tree = TreeChanges()
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
