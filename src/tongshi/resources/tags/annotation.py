"""Putting tags on devices and taking them off, and taking that back.

Implements: DB31DSJ/Z 001-2024 E.3-16
Implements: DB31DSJ/Z 001-2024 E.3-17

Only devices of the caller's scope are touched, and one that he may not see fails as one that does not exist.
An annotation that changed something can be undone for a day: each device gets back what it bore, unless its
tags were changed since. Change, audit record, feed and undo are one transaction.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, LimitExceeded, NotFound, Unprocessable
from tongshi.resources.devices.query import BUDGET_S
from tongshi.resources.devices.search_terms import fold
from tongshi.resources.devices.selection import Narrowing, Selection
from tongshi.resources.tags import device_store, store
from tongshi.resources.tags.model import (
    KEEP_UNDO,
    MAX_SELECTED,
    MAX_TAGS_OF_A_DEVICE,
    Annotated,
    Annotation,
    Define,
    DeviceTag,
    Mode,
    Setting,
    TagSource,
    Value,
)
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.budget import within
from tongshi.storage.engine import Database

_UNSEEN, _NOT_ALLOWED, _TOO_MANY = 40401, 42201, 42903


class Archive(Protocol):
    """What tags must know of devices."""

    def presence(self, conn: Connection, device_ids: Sequence[str], scope: Scope, /) -> dict[str, bool]:
        """Ids that the scope lets one know of; whether each is in the archive and not missing."""
        ...

    def selected(self, conn: Connection, selection: Selection, most: int, /) -> list[str]:
        """Ids of a selection in order, at most ``most``."""
        ...

    def count(self, conn: Connection, selection: Selection, /) -> int:
        """How many devices a selection holds."""
        ...


@dataclass(frozen=True, slots=True)
class TagsOfDevice:
    """What a device bears, with what is needed to show it."""

    tags: list[DeviceTag]
    defines: list[Define]
    values: dict[str, Value]
    revision: int


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done with one definition."""

    define: Define
    codes: frozenset[str]
    mode: Mode

    def apply(self, held: frozenset[str]) -> frozenset[str] | None:
        """What a device bears after it; None when the definition does not allow that."""
        if self.mode is Mode.ADD:
            wanted = held | self.codes
        elif self.mode is Mode.REMOVE:
            wanted = held - self.codes
        else:
            wanted = self.codes
        is_too_many = len(wanted) > 1 and not self.define.is_multiple and wanted != held
        is_emptied = bool(held) and not wanted and not self.define.allows_empty
        return None if is_too_many or is_emptied else wanted


@dataclass(slots=True)
class _Changes:
    """What a unit of work does to devices, gathered before anything is written."""

    by: Subject
    source: TagSource
    at: datetime
    gone: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    new: list[DeviceTag] = field(default_factory=list)
    revised: dict[str, int] = field(default_factory=dict)

    def turn(
        self, device_id: str, define_code: str, held: Iterable[str], wanted: Iterable[str], revision: int
    ) -> None:
        """Let a device bear ``wanted`` instead of ``held``; ``revision`` is that of the device's tags."""
        held, wanted = set(held), set(wanted)
        if held == wanted:
            return
        self.revised[device_id] = revision + 1
        for code in held - wanted:
            self.gone[code].add(device_id)
        annotator = f"{self.by.kind.value}:{self.by.id}"
        self.new += [
            DeviceTag(device_id, define_code, code, self.source, annotator, self.at, revision + 1)
            for code in sorted(wanted - held)
        ]

    def write(self, conn: Connection) -> None:
        device_store.write(conn, self.gone, self.new, self.revised, self.at)


class Annotations:
    """Tags of devices. ``refresh`` brings the index of words up to date before a selection by words."""

    def __init__(self, db: Database, archive: Archive, refresh: Callable[[], Awaitable[object]]) -> None:
        self._db = db
        self._archive = archive
        self._refresh = refresh

    async def annotate(self, by: Subject, asked: Annotation, context: Context) -> Annotated:
        """Change the tags of devices, or only say what would change.

        Raises:
            NotFound: 40403, a definition or value is unknown.
            Unprocessable: 42201, a value is switched off, or too many for their definition.
            Conflict: 40901, the selection holds another number of devices, or the tags changed meanwhile.
            LimitExceeded: the selection holds too many.
        """
        if asked.selection is not None and asked.selection.needle is not None:
            await self._refresh()
        return await self._db.write(self._annotate, by, asked, context)

    async def undo(self, by: Subject, token: str, context: Context) -> tuple[int, int]:
        """Take an annotation back. Returns how many devices have their tags again, and how many were left.

        Raises:
            NotFound: 40403, unknown, somebody else's, spent, or older than a day.
        """
        return await self._db.write(self._undo, by, token, context)

    async def of_device(self, by: Subject, device_id: str, context: Context) -> TagsOfDevice:
        """What a device bears. Raises NotFound 40401, also for one that the caller may not see."""
        return await self._db.read(self._of_device, by, device_id, context)

    async def of_devices(
        self, device_ids: Sequence[str]
    ) -> tuple[dict[str, list[DeviceTag]], dict[str, Value]]:
        """What devices bear, that the caller may see, and the values by code."""
        return await self._db.read(_of_devices, device_ids)

    async def codes(self, device_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The codes of the values that devices bear, that the caller may see."""
        return await self._db.read(device_store.codes, device_ids)

    async def explain(self, selection: Selection, terms: Sequence[Narrowing]) -> list[int]:
        """How many devices of a selection each term holds for.

        Raises:
            Unavailable: it took longer than ``BUDGET_S``.
        """

        def count(conn: Connection) -> list[int]:
            narrowed = [replace(selection, narrowings=(*selection.narrowings, term)) for term in terms]
            with within(conn, BUDGET_S, "请减少条件，或不要 explain"):
                return [self._archive.count(conn, one) for one in narrowed]

        return await self._db.read(count)

    def _annotate(self, conn: Connection, by: Subject, asked: Annotation, context: Context) -> Annotated:
        store.lock(conn)
        steps = _steps(conn, asked)
        device_ids, failed = self._targets(conn, by, asked, context)
        before = device_store.tags(conn, device_ids)
        revisions = device_store.revisions(conn, device_ids)
        if asked.revision is not None and revisions.get(asked.device_ids[0], 0) != asked.revision:
            version = revisions.get(asked.device_ids[0], 0)
            raise Conflict("设备标签已被修改", details={"version": version})
        done = _Changes(by, asked.source, context.at)
        for device_id in device_ids:
            code = _turn(done, device_id, before.get(device_id, []), steps, revisions.get(device_id, 0))
            if code:
                failed.append((device_id, code))
        token = ""
        if done.revised and not asked.is_dry_run:
            token = secrets.token_urlsafe(24)
            done.write(conn)
            device_store.purge_undo(conn, context.at)
            held = {key: before.get(key, []) for key in done.revised}
            device_store.keep_undo(conn, token, _key(by), held, done.revised, context.at + KEEP_UNDO)
        changed = len(done.revised)
        unchanged = len(device_ids) - changed - sum(code != _UNSEEN for _, code in failed)
        details: dict[str, object] = {
            "matched": len(device_ids),
            "changed": changed,
            "mode": asked.mode.value,
            "defines": [step.define.code for step in steps],
            "dryRun": asked.is_dry_run,
        }
        key = asked.device_ids[0] if len(asked.device_ids) == 1 else ""
        record(conn, by, AuditTag.TAG_ANNOTATE, "device" if key else "", key, details, context)
        return Annotated(len(device_ids), changed, unchanged, failed, token)

    def _targets(
        self, conn: Connection, by: Subject, asked: Annotation, context: Context
    ) -> tuple[list[str], list[tuple[str, int]]]:
        scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
        if asked.selection is None:
            known = self._archive.presence(conn, asked.device_ids, scope)
            kept = [key for key in asked.device_ids if known.get(key)]
            return kept, [(key, _UNSEEN) for key in asked.device_ids if not known.get(key)]
        found = self._archive.selected(conn, replace(asked.selection, scope=scope), MAX_SELECTED + 1)
        if len(found) > MAX_SELECTED:
            raise LimitExceeded(f"选中的设备超过 {MAX_SELECTED} 台，请缩小范围", code=_TOO_MANY)
        if len(found) != asked.expected_count:
            raise Conflict(
                f"选中的设备现为 {len(found)} 台，与 expectedCount 不符",
                field="selection.expectedCount",
                details={"count": len(found)},
            )
        return found, []

    def _undo(self, conn: Connection, by: Subject, token: str, context: Context) -> tuple[int, int]:
        store.lock(conn)
        kept = device_store.take_undo(conn, token, _key(by), context.at)
        if kept is None:
            raise NotFound("没有可撤销的标注，或已超过 24 小时", code=40403, field="undoToken")
        scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
        known = self._archive.presence(conn, list(kept), scope)
        now = device_store.tags(conn, list(kept))
        revisions = device_store.revisions(conn, list(kept))
        done = _Changes(by, TagSource.MANUAL, context.at)
        for device_id, (before, revision_after) in kept.items():
            if device_id not in known or revisions.get(device_id, 0) != revision_after:
                continue
            held = now.get(device_id, [])
            done.revised[device_id] = revision_after + 1
            for tag in held:
                if tag not in before:
                    done.gone[tag.value_code].add(device_id)
            done.new += [tag for tag in before if tag not in held]
        done.write(conn)
        counts = len(done.revised), len(kept) - len(done.revised)
        details: dict[str, object] = {"did": "undo", "restored": counts[0], "left": counts[1]}
        record(conn, by, AuditTag.TAG_ANNOTATE, "", "", details, context)
        return counts

    def _of_device(self, conn: Connection, by: Subject, device_id: str, context: Context) -> TagsOfDevice:
        scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
        known = self._archive.presence(conn, [device_id], scope)
        found = device_store.tags(conn, [device_id]).get(device_id, []) if device_id in known else []
        # One that is missing keeps its tags; one that the archive never had bears none.
        if not known.get(device_id) and not found:
            raise NotFound("设备不存在")
        values = store.values(conn, {tag.value_code for tag in found})
        revision = device_store.revisions(conn, [device_id]).get(device_id, 0)
        return TagsOfDevice(found, store.defines(conn), values, revision)


def exchange_value(
    conn: Connection,
    by: Subject,
    device_ids: Sequence[str],
    define_code: str,
    old: str,
    new: str,
    at: datetime,
) -> int:
    """Take a value of a definition off devices, and put another on when one is named. Returns how many."""
    before = device_store.tags(conn, device_ids)
    revisions = device_store.revisions(conn, device_ids)
    done = _Changes(by, TagSource.MANUAL, at)
    for device_id in device_ids:
        held = {tag.value_code for tag in before.get(device_id, ()) if tag.define_code == define_code}
        wanted = (held - {old}) | ({new} if new else set())
        done.turn(device_id, define_code, held, wanted, revisions.get(device_id, 0))
    done.write(conn)
    return len(done.revised)


def record(
    conn: Connection,
    by: Subject,
    event: AuditTag,
    kind: str,
    key: str,
    details: dict[str, object],
    context: Context,
) -> None:
    """Write what was done into the audit, in the transaction of the change."""
    audit.append(conn, deed(by, context, event, kind, key, details))


def _turn(
    done: _Changes, device_id: str, held: Sequence[DeviceTag], steps: Sequence[_Step], revision: int
) -> int:
    """Take one device through every step, or through none. Returns the code of the refusal, else 0."""
    turned: list[tuple[str, frozenset[str], frozenset[str]]] = []
    total = len(held)
    for step in steps:
        code = step.define.code
        borne = frozenset(tag.value_code for tag in held if tag.define_code == code)
        wanted = step.apply(borne)
        if wanted is None:
            return _NOT_ALLOWED
        total += len(wanted) - len(borne)
        turned.append((code, borne, wanted))
    if total > MAX_TAGS_OF_A_DEVICE and total > len(held):
        return _TOO_MANY
    for code, borne, wanted in turned:
        done.turn(device_id, code, borne, wanted, revision)
    return 0


def _steps(conn: Connection, asked: Annotation) -> list[_Step]:
    """What is asked for, against the dictionary."""
    named = [*(setting.define_code for setting in asked.settings), *asked.unset]
    if not named or len(set(named)) != len(named):
        raise InvalidRequest("每个标签定义应在 set 或 unset 中恰好出现一次", field="set")
    defines = {define.code: define for define in store.defines(conn)}
    for code in named:
        if code not in defines:
            raise NotFound(f"标签定义 {code} 不存在", code=40403, field="TagDefineCode")
    steps = [
        _Step(
            defines[one.define_code], _resolved(conn, defines[one.define_code], one, asked.mode), asked.mode
        )
        for one in asked.settings
    ]
    return steps + [_Step(defines[code], frozenset(), Mode.REPLACE) for code in asked.unset]


def _resolved(conn: Connection, define: Define, setting: Setting, mode: Mode) -> frozenset[str]:
    """Codes of the values of a setting."""
    if not setting.codes and not setting.texts:
        raise InvalidRequest("缺少标签枚举，清空请用 unset", field="set")
    of_define = store.values_of(conn, define.code)
    by_code = {value.code: value for value in of_define}
    by_text = {fold(value.text): value for value in of_define}
    found = [by_code.get(code) for code in setting.codes] + [by_text.get(fold(t)) for t in setting.texts]
    for name, value in zip((*setting.codes, *setting.texts), found, strict=True):
        if value is None:
            raise NotFound(f"“{define.name}”没有枚举 {name}", code=40403, field="set")
        if not value.is_enabled and mode is not Mode.REMOVE:
            raise Unprocessable(f"枚举“{value.text}”未启用", code=42201, field="set")
    codes = frozenset(value.code for value in found if value is not None)
    if len(codes) > 1 and not define.is_multiple and mode is not Mode.REMOVE:
        raise Unprocessable(f"“{define.name}”只能有一个枚举", code=42201, field="set")
    return codes


def _of_devices(
    conn: Connection, device_ids: Sequence[str]
) -> tuple[dict[str, list[DeviceTag]], dict[str, Value]]:
    found = device_store.tags(conn, device_ids)
    return found, store.values(conn, {tag.value_code for tags in found.values() for tag in tags})


def _key(by: Subject) -> str:
    return f"{by.kind.value}:{by.id}"
