"""The tag dictionary: groups, definitions and values, and what may be changed in it.

Implements: DB31DSJ/Z 001-2024 6.2.2
Implements: DB31DSJ/Z 001-2024 D.1
Implements: DB31DSJ/Z 001-2024 D.2

A value keeps its code when it is renamed, so that devices follow. Texts of one definition differ also when
width, case and blanks are put aside. What a change does to devices it does within the caller's scope; devices
beyond it keep what they bear.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import Conflict, LimitExceeded, NotFound, Unprocessable
from tongshi.resources.devices.search_terms import fold
from tongshi.resources.tags import annotation, device_store, dictionary, expression, store
from tongshi.resources.tags.expression import Expression
from tongshi.resources.tags.model import (
    MAX_ENUMS,
    MAX_SELECTED,
    Define,
    Group,
    OnDevices,
    Refused,
    TagSort,
    Value,
    ValueAsked,
    ValuesAsked,
    ValuesSaved,
)
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database


class TagDictionary:
    """Reads and changes the dictionary."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def prepare(self) -> None:
        """Store the printed dictionary where it is not there yet."""
        parts = dictionary.GROUPS, dictionary.DEFINES, dictionary.values()
        await self._db.write(store.seed, *parts, self._clock.at())

    async def groups(
        self, sort: TagSort | None = None, keyword: str = ""
    ) -> tuple[list[Group], dict[str, int]]:
        """Groups in order, and how many definitions each has."""
        found, defines = await self._db.read(lambda conn: (store.groups(conn), store.defines(conn)))
        wanted = fold(keyword)
        kept = [one for one in found if sort in (None, one.sort) and wanted in fold(one.name)]
        return kept, {one.code: sum(d.group_code == one.code for d in defines) for one in kept}

    async def defines(
        self, group_code: str = "", sort: TagSort | None = None
    ) -> tuple[list[Define], dict[str, int]]:
        """Definitions in order, and how many values each has. Raises NotFound 40403: no such group."""
        found, counts, groups = await self._db.read(
            lambda conn: (store.defines(conn), store.counts(conn), store.groups(conn))
        )
        if group_code and all(group.code != group_code for group in groups):
            raise NotFound("标签分组不存在", code=40403, field="TagGroupCode")
        kept = [d for d in found if group_code in ("", d.group_code) and sort in (None, d.sort)]
        return kept, counts

    async def save_values(self, by: Subject, asked: ValuesAsked, context: Context) -> ValuesSaved:
        """Add, rename, order and switch values of a definition; those in conflict are named and left alone.

        Raises:
            NotFound: 40403, no such definition, or nothing to move devices to.
            Unprocessable: 42201, its values are fixed.
            Conflict: 40901 changed meanwhile; 40904 devices bear what is to be switched off, and nothing was
                said of them.
            LimitExceeded: too many values, or devices to change.
        """
        return await self._db.write(_save_values, by, asked, context)

    async def check(self, asked: Expression, field: str) -> None:
        """Whether a condition names only what exists.

        Raises:
            InvalidRequest: too deep, too many terms, or empty.
            NotFound: 40403, a definition or value is unknown.
        """
        expression.check(asked, field)
        await self._db.read(_check_terms, asked, field)


def _check_terms(conn: Connection, asked: Expression, field: str) -> None:
    defines = {one.code for one in store.defines(conn)}
    terms = list(expression.terms(asked))
    values = store.values(conn, {code for term in terms for code in term.value_codes})
    for term in terms:
        if term.define_code and term.define_code not in defines:
            raise NotFound(f"标签定义 {term.define_code} 不存在", code=40403, field=field)
        for code in term.value_codes:
            value = values.get(code)
            if value is None or term.define_code not in ("", value.define_code):
                raise NotFound(f"标签枚举 {code} 不存在", code=40403, field=field)


def _save_values(conn: Connection, by: Subject, asked: ValuesAsked, context: Context) -> ValuesSaved:
    store.lock(conn)
    define = store.define(conn, asked.define_code)
    if define is None:
        raise NotFound("标签定义不存在", code=40403, field="TagDefineCode")
    if not define.is_customised:
        raise Unprocessable(f"“{define.name}”的枚举是固定的，不能修改", code=42201, field="TagDefineCode")
    if asked.revision is not None and asked.revision != define.revision:
        raise Conflict("标签定义已被修改", details={"version": define.revision})
    held = {value.code: value for value in store.values_of(conn, define.code)}
    new, conflicts = _merged(define, held, asked.items)
    if asked.is_whole:
        named = {value.code for value in new} | {refused.code for refused in conflicts}
        left = [value for code, value in held.items() if code not in named and value.is_enabled]
        new += [replace(value, is_enabled=False) for value in left]
    changed = [value for value in new if held.get(value.code) != value]
    if len({*held, *(value.code for value in changed)}) > MAX_ENUMS:
        raise LimitExceeded(f"一个标签定义最多 {MAX_ENUMS} 个枚举", code=42903)
    off = [
        value.code
        for value in changed
        if not value.is_enabled and value.code in held and held[value.code].is_enabled
    ]
    enabled = {**held, **{value.code: value for value in new}}
    moved = _on_devices(conn, by, asked, off, enabled, context)
    revised = replace(define, revision=define.revision + 1) if changed else define
    if changed:
        saved = [replace(v, revision=held[v.code].revision + 1 if v.code in held else 1) for v in changed]
        store.put_values(conn, saved, context.at)
        store.put_define(conn, revised, context.at)
        kept = {value.code: value for value in saved}
        new = [kept.get(value.code, value) for value in new]
    details: dict[str, object] = {"saved": len(changed), "disabled": off[:50], "devices": moved}
    annotation.record(conn, by, AuditTag.TAG_CHANGE, "tag_define", define.code, details, context)
    return ValuesSaved(new, off, conflicts, revised.revision)


def _merged(
    define: Define, held: dict[str, Value], items: Sequence[ValueAsked]
) -> tuple[list[Value], list[Refused]]:
    """The values asked for as they will be, and those that cannot be."""
    by_text = {fold(value.text): value.code for value in held.values()}
    new: dict[str, Value] = {}
    conflicts: list[Refused] = []
    for item in items:
        folded = fold(item.text)
        taken = by_text.get(folded)
        if item.code and item.code not in held:
            conflicts.append(Refused(item.text, item.code, 40403, "标签枚举不存在"))
            continue
        if taken is not None and (taken in new or item.code not in ("", taken)):
            conflicts.append(Refused(item.text, item.code or taken, 40902, "同名枚举已存在"))
            continue
        code = item.code or taken or f"{define.code}{secrets.randbelow(10**10):010d}"
        before = held.get(code)
        position = item.position if item.position is not None else before.position if before else len(held)
        revision = before.revision if before else 1
        new[code] = Value(code, define.code, item.text, item.is_enabled, position, revision)
        by_text = {key: other for key, other in by_text.items() if other != code}
        by_text[folded] = code
    return list(new.values()), conflicts


def _on_devices(
    conn: Connection,
    by: Subject,
    asked: ValuesAsked,
    off: Sequence[str],
    values: dict[str, Value],
    context: Context,
) -> int:
    """Do what was said with the devices that bear what is switched off. Returns how many changed."""
    if not off:
        return 0
    if asked.on_devices is OnDevices.MOVE:
        target = values.get(asked.move_to)
        if target is None or not target.is_enabled:
            raise NotFound("moveTo 应为同一定义下启用的枚举", code=40403, field="moveTo")
    scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
    bearers = _bearers(conn, off, scope)
    if asked.on_devices is None and any(bearers.values()):
        counts = {code: len(device_ids) for code, device_ids in bearers.items() if device_ids}
        raise Conflict(
            "有设备使用将停用的枚举，请用 onDevices 说明如何处理",
            code=40904,
            field="onDevices",
            details={"devices": counts, "supported": [way.value for way in OnDevices]},
        )
    if asked.on_devices in (None, OnDevices.KEEP):
        return 0
    new = asked.move_to if asked.on_devices is OnDevices.MOVE else ""
    define_code = asked.define_code
    return sum(
        annotation.exchange_value(conn, by, device_ids, define_code, code, new, context.at)
        for code, device_ids in bearers.items()
    )


def _bearers(conn: Connection, codes: Sequence[str], scope: Scope) -> dict[str, list[str]]:
    found = {code: device_store.bearers(conn, code, scope, MAX_SELECTED + 1) for code in codes}
    if sum(map(len, found.values())) > MAX_SELECTED:
        raise LimitExceeded(f"涉及的设备超过 {MAX_SELECTED} 台，请分批处理", code=42903)
    return found
