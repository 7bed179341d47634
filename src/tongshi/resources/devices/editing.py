"""A person changes one record of this platform's own, or puts it back to what it was.

Both make a new version that travels to the neighbours like any other, with its history row and its audit
record in the same transaction. A dry run says what would change and writes nothing.

Putting back restores each value together with where it came from. Only a value that a catalogue changed since
is restored as this person's word, because the next catalogue would otherwise change it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import Conflict, Forbidden, Gone, InvalidRequest, NotFound
from tongshi.resources.devices import history_store, store
from tongshi.resources.devices.history_store import Difference, Entry
from tongshi.resources.devices.model import Act, DeviceArchive, Origin, Source
from tongshi.resources.devices.provenance import (
    PERSONS,
    assembled,
    by_person,
    changed,
    origins_of,
    renewed,
    restored,
    stored,
    values_of,
    whole_of,
)
from tongshi.sharing.model import Context, Scope, Subject, Target
from tongshi.storage.engine import Database
from tongshi.storage.times import to_ms


@dataclass(frozen=True, slots=True)
class Editor:
    """Who changes a record, on which devices he may, and in which request."""

    subject: Subject
    scope: Scope
    context: Context


@dataclass(frozen=True, slots=True)
class Terms:
    """``if_version`` None changes whatever version stands; a dry run writes nothing."""

    if_version: int | None = None
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Edited:
    """A record after a change, or as it would be; ``is_written`` says which."""

    archive: DeviceArchive
    differences: list[Difference]
    is_written: bool


@dataclass(frozen=True, slots=True)
class Until:
    """How far to go back: to a version, or to before the history row of a number."""

    version: int | None = None
    number: int | None = None


def act_of(by: Subject, method: Source, kind: str = "") -> Act:
    """What the history says of something that a person or a key did."""
    return Act(f"{by.kind.value}:{by.id} {by.name}".rstrip(), method, kind)


class Editing:
    """Changes records of this platform (``self_id``)."""

    def __init__(self, db: Database, clock: Clock, self_id: str) -> None:
        self._db = db
        self._clock = clock
        self._self_id = self_id

    async def history(self, device_id: str) -> list[Entry]:
        """What is kept of one device, newest first."""
        return await self._db.read(history_store.of_device, device_id)

    async def edit(
        self, by: Editor, device_id: str, want: Callable[[DeviceArchive], DeviceArchive], terms: Terms
    ) -> Edited:
        """Change a record to what ``want`` makes of it.

        Raises:
            NotFound: 40401.
            Forbidden: 40304, another platform owns it, or it would leave the caller's scope.
            Conflict: 40901, another version stands, or the device is missing.
        """
        return await self._db.write(_edit, self._self_id, by, device_id, want, terms, self._clock.at())

    async def undo(self, by: Editor, device_id: str, until: Until, terms: Terms) -> Edited:
        """Put a record back. A device that is marked missing comes back with it.

        Raises:
            NotFound: 40401; 40404, no history row of that number is kept.
            InvalidRequest: the version lies ahead.
            Gone: 41001, the history does not reach back that far; ``details.oldestVersion`` says how far.
            Forbidden, Conflict: as ``edit``; the device belonged to another platform then.
        """
        return await self._db.write(_undo, self._self_id, by, device_id, until, terms, self._clock.at())


def _edit(
    conn: Connection,
    self_id: str,
    by: Editor,
    device_id: str,
    want: Callable[[DeviceArchive], DeviceArchive],
    terms: Terms,
    at: datetime,
) -> Edited:
    held = _own(conn, self_id, device_id, terms)
    if held.missing_since is not None:
        raise Conflict("该设备已标记缺失，请先用撤销恢复，再修改")
    wanted = by_person(held, want(held), Source.MANUAL, at)
    return _put(conn, by, held, wanted, act_of(by.subject, Source.MANUAL, "edit"), terms, at)


def _undo(
    conn: Connection, self_id: str, by: Editor, device_id: str, until: Until, terms: Terms, at: datetime
) -> Edited:
    held = _own(conn, self_id, device_id, terms)
    undone = _to_undo(held, history_store.of_device(conn, device_id), until)
    values, origins = values_of(held), origins_of(held)
    told_now = dict(origins)
    ours = Origin(held.owner, held.revision + 1, to_ms(at), Source.MANUAL)
    for entry in undone:
        for was in entry.changes:
            if was.field == history_store.OWNER:
                raise Conflict("在那个版本该设备属于另一平台，不能撤销到该处")
            values[was.field] = restored(was.field, was.before)
            by_whom = told_now[was.field]
            is_taken_back = by_whom is None or by_whom.method in PERSONS
            origins[was.field] = was.origin if is_taken_back else ours
    unlike = values_of(held)
    origins.update({name: told_now[name] for name in origins if values[name] == unlike[name]})
    wanted = renewed(assembled(held, values, origins, whole_of(held)))
    return _put(conn, by, held, wanted, act_of(by.subject, Source.MANUAL, "undo"), terms, at)


def _own(conn: Connection, self_id: str, device_id: str, terms: Terms) -> DeviceArchive:
    """The record as it stands, locked; refused unless it is ours and of the version asked for."""
    store.lock(conn)
    held = store.get(conn, device_id)
    if held is None:
        raise NotFound("设备不存在")
    if held.owner != self_id:
        raise Forbidden(
            f"该设备属于平台 {held.owner}，只有其所属平台可以修改档案",
            code=40304,
            details={"owner": held.owner},
        )
    if terms.if_version is not None and terms.if_version != held.revision:
        raise Conflict(
            f"档案已被修改，现为版本 {held.revision}", field="ifVersion", details={"version": held.revision}
        )
    return held


def _to_undo(held: DeviceArchive, kept: list[Entry], until: Until) -> list[Entry]:
    """The history rows to take back, newest first."""
    if until.number is not None:
        undone = [entry for entry in kept if entry.number >= until.number]
        if not undone or undone[-1].number != until.number:
            raise NotFound("没有这条历史记录，或已过保存期", code=40404)
        return undone
    version = until.version or 0
    if version > held.revision:
        raise InvalidRequest(f"版本 {version} 不存在，现为版本 {held.revision}", field="toVersion")
    oldest = kept[-1].revision_before if kept else held.revision
    if version < oldest:
        raise Gone(f"历史只保存到版本 {oldest}，不能撤销到版本 {version}", details={"oldestVersion": oldest})
    return [entry for entry in kept if entry.revision > version]


def _put(
    conn: Connection,
    by: Editor,
    held: DeviceArchive,
    wanted: DeviceArchive,
    act: Act,
    terms: Terms,
    at: datetime,
) -> Edited:
    for one in (held, wanted):
        if not by.scope.holds(Target(one.device_id, one.item.civil_code, one.owner)):
            raise Forbidden("该设备不在授权的数据范围内", code=40304)
    before, after, came = values_of(held), values_of(wanted), origins_of(held)
    differences = [
        Difference(name, stored(before[name]), stored(after[name]), came[name])
        for name in changed(held, wanted)
    ]
    if not differences and held.missing_since is None:
        return Edited(held, [], is_written=False)
    if terms.is_dry_run:
        unwritten = replace(wanted, revision=held.revision, updated_at=held.updated_at)
        return Edited(unwritten, differences, is_written=False)
    store.upsert_many(conn, [wanted], held.owner, at, act)
    written = store.get(conn, held.device_id)
    assert written is not None, "it was stored in this transaction"
    details: dict[str, object] = {
        "fields": [one.field for one in differences],
        "version": written.revision,
        "versionBefore": held.revision,
    }
    audit.append(conn, _record(by, held.device_id, act.kind, details))
    return Edited(written, differences, is_written=True)


def _record(by: Editor, device_id: str, kind: str, details: dict[str, object]) -> audit.AuditEntry:
    return audit.AuditEntry(
        by.context.at,
        AuditTag.ARCHIVE_EDIT if kind == "edit" else AuditTag.ARCHIVE_UNDO,
        Outcome.DONE,
        by.subject.kind.value,
        by.subject.id,
        by.subject.name,
        "device",
        device_id,
        address=by.context.address,
        request_id=by.context.request_id,
        details=details,
    )
