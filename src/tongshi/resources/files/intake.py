"""What rows of a person's file do to our own archives: judged one by one, stored in batches, undone.

A file speaks for this platform's own devices and no others; a neighbour's come by its signed package. A row
must lie within the caller's data scope before and after, and a row that carries a version is refused when
the archive changed since it was exported. Nothing is deleted: a device that only an undone import knew is
marked missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection

from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import (
    NOBODY,
    Act,
    DeviceArchive,
    FlatArchive,
    Source,
    digest,
    digested,
    flat_ext,
    flat_item,
    flatten,
)
from tongshi.resources.devices.provenance import by_person, renewed
from tongshi.resources.files import store
from tongshi.resources.files.model import Head, ReadRow, RowError
from tongshi.sharing.model import Scope, Target


@dataclass(frozen=True, slots=True)
class House:
    """Whose archives a file may change, within which scope, and on whose behalf."""

    platform_id: str
    scope: Scope
    origin: str
    act: Act = NOBODY


@dataclass(slots=True)
class Tally:
    """What became of rows so far; ``errors`` are the first ones only."""

    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    errors: list[RowError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Change:
    """One row that would change something: as read, as stored when it is new, and whom it changes."""

    wanted: DeviceArchive
    flat: FlatArchive
    known: Head | None


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of one batch that would change something; and the others."""

    changing: list[Change]
    unchanged: int
    refused: list[RowError]


def judge(conn: Connection, house: House, rows: Sequence[ReadRow]) -> Judged:
    """Say what each row would do; nothing is written."""
    held = store.heads(conn, [row.archive.device_id for row in rows if row.archive is not None])
    changing: list[Change] = []
    refused: list[RowError] = []
    unchanged = 0
    for row in rows:
        if row.archive is None:
            if row.error is not None:
                refused.append(row.error)
            continue
        known = held.get(row.archive.device_id)
        fault = _fault(house, row.archive, known)
        if fault is not None:
            code, rule, message = fault
            place = (row.sheet, row.number, "DeviceID", row.archive.device_id)
            refused.append(RowError(*place, code, rule, message))
            continue
        flat = _flat(row.archive, house.platform_id)
        if known is not None and not known.is_missing and known.digest == flat.digest:
            unchanged += 1
        else:
            changing.append(Change(row.archive, flat, known))
    return Judged(changing, unchanged, refused)


def apply(conn: Connection, house: House, job_id: str, rows: Sequence[ReadRow], at: datetime) -> Judged:
    """Judge again where it is written, store, and keep what is needed to undo it."""
    devices.lock(conn)
    judged = judge(conn, house, rows)
    before = devices.get_many(conn, [c.wanted.device_id for c in judged.changing if c.known is not None])
    flats = [_stored(house, change, before.get(change.wanted.device_id), at) for change in judged.changing]
    devices.upsert_flat(conn, flats, house.origin, at, act=house.act)
    kept = [(c.wanted.device_id, before.get(c.wanted.device_id), c.flat.digest) for c in judged.changing]
    store.keep_for_undo(conn, job_id, kept)
    return judged


def undo(
    conn: Connection, platform_id: str, job_id: str, limit: int, at: datetime, act: Act = NOBODY
) -> tuple[int, int, int]:
    """Restore the next rows, values and origins. Returns (looked at, restored, changed since and left alone).

    The file's word is taken back: a device that told a field before the import may tell it again.
    """
    devices.lock(conn)
    kept = store.kept_for_undo(conn, job_id, limit)
    held = devices.get_many(conn, [key for key, _, _ in kept])
    back: list[DeviceArchive] = []
    gone: list[str] = []
    for key, before, after in kept:
        known = held.get(key)
        if known is None or known.missing_since is not None or digest(known) != after:
            continue
        if before is not None:
            back.append(renewed(before))
        if before is None or before.missing_since is not None:
            gone.append(key)
    devices.upsert_many(conn, back, platform_id, at, act)
    devices.mark_missing(conn, platform_id, gone, at, platform_id, act)
    store.drop_undo(conn, job_id, [key for key, _, _ in kept])
    restored = len({*gone, *(archive.device_id for archive in back)})
    return len(kept), restored, len(kept) - restored


def _stored(house: House, change: Change, held: DeviceArchive | None, at: datetime) -> FlatArchive:
    """What is stored: over a device that is held, the fields that the file changed and no others."""
    if held is None:
        return change.flat
    wanted = replace(
        change.wanted,
        owner=house.platform_id,
        revision=0,
        updated_at=None,
        source=Source.FILE,
        origins={},
        missing_since=None,
        online=None,
    )
    return flatten(by_person(held, wanted, Source.FILE, at))


def _flat(archive: DeviceArchive, owner: str) -> FlatArchive:
    """A person's word: the next revision, now."""
    line, digest = digested(owner, (*flat_item(archive.item), *flat_ext(archive.ext)))
    return FlatArchive(archive.device_id, line, owner, 0, None, Source.FILE, archive.shard, digest)


def _fault(house: House, archive: DeviceArchive, known: Head | None) -> tuple[int, str, str] | None:
    own = house.platform_id
    if archive.owner not in ("", own):
        return 40304, "owner", "该行属于另一平台，须以其签名的文件包导入"
    if known is not None and known.owner != own:
        return 40902, "foreign", "该编码的设备已属于另一平台"
    codes = [archive.item.civil_code] + ([known.civil_code] if known is not None else [])
    if not all(house.scope.holds(Target(archive.device_id, code, own)) for code in codes):
        return 40304, "scope", "该设备不在授权的数据范围内"
    if known is not None and 0 < archive.revision < known.revision:
        return 40901, "version", f"导出之后档案已被修改（现为版本 {known.revision}）"
    return None
