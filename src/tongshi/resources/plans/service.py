"""Keeping plans and their catalogues, for the one who may see them.

Implements: DB31DSJ/Z 001-2024 6.2.2
Implements: DB31DSJ/Z 001-2024 B.2

A plan names devices, and naming tells: who reads a plan is told of the devices in his own scope, and only how
many more there are. Who writes one can add only what he may see; what the plan held before and he may not
see stays, for he could not mean to take it out. So neither reading nor writing tells whether a device
exists. A change, its audit record and its entry in the change feed are one transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.clock import BEIJING, Clock
from tongshi.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unprocessable
from tongshi.resources.plans import catalogues, standard, store
from tongshi.resources.plans.model import (
    KEEP_DELETED,
    MAX_DEVICES,
    Catalogue,
    Plan,
    PlanFilter,
    Reach,
    Shown,
    Sort,
    Status,
    Viewer,
    Visibility,
)
from tongshi.sharing import store as sharing
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Scope, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

MAX_NAMED = 20  # device ids in a refusal


class Archive(Protocol):
    """What plans must know of devices."""

    def presence(self, conn: Connection, device_ids: Sequence[str], scope: Scope, /) -> dict[str, bool]:
        """Ids that the scope lets one know of; whether each is in the archive and not missing."""
        ...


@dataclass(frozen=True, slots=True)
class PlanAsked:
    """A plan as somebody wants it; an empty code makes a new one."""

    code: str
    name: str
    catalogue_id: str
    device_ids: tuple[str, ...]
    description: str = ""
    is_draft: bool = False
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class CatalogueAsked:
    """A catalogue as somebody wants it. ``path`` begins below ``parent_id``; None leaves as it is."""

    id: str
    path: tuple[str, ...]
    parent_id: str = ""
    position: int | None = None
    standard_row: int | None = None
    visibility: Visibility | None = None
    revision: int | None = None


class Plans:
    """Plans and catalogues of this platform."""

    def __init__(self, db: Database, clock: Clock, archive: Archive) -> None:
        self._db = db
        self._clock = clock
        self._archive = archive

    async def prepare(self) -> None:
        """Store the catalogues of Table B.1 that are not there yet."""
        await self._db.write(store.seed, standard.catalogues(), self._clock.at())

    async def catalogues(
        self, by: Subject, reach: Reach = Reach.ALL
    ) -> tuple[list[Catalogue], dict[str, int]]:
        """Catalogues that the caller may see, parents first, and how many plans he may see in each."""
        return await self._db.read(_catalogues, by, reach)

    async def save_catalogue(self, by: Subject, asked: CatalogueAsked, context: Context) -> Catalogue:
        """Make or change a catalogue.

        Raises:
            NotFound: 40402, no such catalogue or parent, or not the caller's to know.
            Unprocessable: 42201, the name is none of Table B.1, or the catalogue is the standard's own.
            Conflict: 40901 changed meanwhile, 40902 the name is taken.
            Forbidden: somebody else's.
        """
        return await self._db.write(_save_catalogue, by, asked, context)

    async def save(self, by: Subject, asked: PlanAsked, context: Context) -> Shown:
        """Make or change a plan.

        Raises:
            NotFound: 40402 no such plan or catalogue; 40401 a device that the caller may not see.
            Conflict: 40901, changed meanwhile.
            Forbidden: somebody else's.
        """
        if len(asked.device_ids) > MAX_DEVICES:
            raise InvalidRequest(f"一个预案最多 {MAX_DEVICES} 台设备", field="DeviceIdList")
        if len(set(asked.device_ids)) != len(asked.device_ids):
            raise InvalidRequest("DeviceIdList 中有重复的设备", field="DeviceIdList")
        return await self._db.write(self._save, by, asked, context)

    async def get(self, by: Subject, code: str, context: Context) -> Shown:
        """One plan. Raises NotFound 40402."""
        return await self._db.read(self._get, by, code, context)

    async def find(
        self, by: Subject, asked: PlanFilter, sort: Sort, page_no: int, page_size: int, context: Context
    ) -> tuple[list[Shown], int]:
        """One page of plans, and how many the caller may see. Raises NotFound 40401 for an unseen device."""
        skip = (page_no - 1) * page_size
        return await self._db.read(self._find, by, asked, sort, page_size, skip, context)

    async def delete(self, by: Subject, code: str, context: Context) -> str:
        """Put a plan into the recycle bin, where it stays seven days. Returns the token that undoes it."""
        return await self._db.write(_delete, by, code, secrets.token_urlsafe(24), context)

    async def undo(self, by: Subject, token: str, context: Context) -> Shown:
        """Take back a deletion of the caller's own. Raises NotFound: unknown, another's, or too late."""
        return await self._db.write(self._undo, by, token, context)

    def _save(self, conn: Connection, by: Subject, asked: PlanAsked, context: Context) -> Shown:
        store.lock(conn)
        viewer = viewer_of(conn, by)
        place = _catalogue(conn, asked.catalogue_id, viewer)
        held = _mine(conn, asked.code, viewer) if asked.code else None
        before = store.device_ids(conn, asked.code) if held else []
        if held is not None and asked.revision is not None and asked.revision != held.revision:
            raise Conflict("预案已被修改", details={"version": held.revision})
        scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
        known = self._archive.presence(conn, list(dict.fromkeys([*asked.device_ids, *before])), scope)
        strange = [key for key in asked.device_ids if key not in known]
        if strange:
            details: dict[str, object] = {"deviceIds": strange[:MAX_NAMED], "count": len(strange)}
            raise NotFound("设备不存在", field="DeviceIdList", details=details)
        unseen = [key for key in before if key not in known]
        if len(asked.device_ids) + len(unseen) > MAX_DEVICES:
            raise InvalidRequest(f"一个预案最多 {MAX_DEVICES} 台设备", field="DeviceIdList")
        new = Plan(
            code=held.code if held else _new_code(context.at),
            catalogue_id=place.id,
            name=asked.name,
            description=asked.description,
            status=Status.DRAFT if asked.is_draft else Status.READY,
            owner=held.owner if held else viewer.key,
            owner_name=held.owner_name if held else viewer.name,
            organisation=held.organisation if held else viewer.organisation,
            revision=held.revision + 1 if held else 1,
            created_at=held.created_at if held else context.at,
            device_ids=(*asked.device_ids, *unseen),
        )
        store.put(conn, new, context.at)
        if held is None:
            store.purge(conn, context.at - KEEP_DELETED)
        shown = self._shown(conn, viewer, scope, new.code)
        _audit(conn, by, "plan", new.code, {"did": "save", "devices": len(new.device_ids)}, context)
        return shown

    def _get(self, conn: Connection, by: Subject, code: str, context: Context) -> Shown:
        scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
        return self._shown(conn, viewer_of(conn, by), scope, code)

    def _find(
        self,
        conn: Connection,
        by: Subject,
        asked: PlanFilter,
        sort: Sort,
        limit: int,
        skip: int,
        context: Context,
    ) -> tuple[list[Shown], int]:
        viewer = viewer_of(conn, by)
        scope = scope_of(conn, by, Permission.ARCHIVE_READ, context)
        if asked.device_id and not self._archive.presence(conn, [asked.device_id], scope):
            raise NotFound("设备不存在", field="deviceId")
        if asked.catalogue_id:
            _catalogue(conn, asked.catalogue_id, viewer)
        plans, total = store.find(conn, viewer, scope, asked, sort, limit, skip)
        places = {one.id: one for one in store.catalogues(conn, replace(viewer, is_administrator=True))}
        counts = store.plan_counts(conn, viewer)
        rows = [
            Shown(plan, places[plan.catalogue_id], 0, (), counts.get(plan.catalogue_id, 0)) for plan in plans
        ]
        return rows, total

    def _undo(self, conn: Connection, by: Subject, token: str, context: Context) -> Shown:
        store.lock(conn)
        viewer = viewer_of(conn, by)
        code = store.restore(conn, token, viewer.key, context.at - KEEP_DELETED, context.at)
        if code is None:
            raise NotFound("没有可撤销的删除，或已超过 7 天", code=40402, field="undoToken")
        shown = self._get(conn, by, code, context)
        _audit(conn, by, "plan", code, {"did": "undo"}, context)
        return shown

    def _shown(self, conn: Connection, viewer: Viewer, scope: Scope, code: str) -> Shown:
        plan = _plan(conn, code, viewer)
        listed = store.device_ids(conn, code)
        known = self._archive.presence(conn, listed, scope)
        kept = tuple(key for key in listed if key in known)
        place = store.catalogue(conn, plan.catalogue_id, replace(viewer, is_administrator=True))
        assert place is not None, "a plan stands in a catalogue"
        return Shown(
            replace(plan, device_ids=kept),
            place,
            len(listed) - len(kept),
            tuple(key for key in kept if not known[key]),
            store.plan_counts(conn, viewer, place.id).get(place.id, 0),
        )


def viewer_of(conn: Connection, by: Subject) -> Viewer:
    """Who looks. The organisation of a person is his account's, that of a key the platform it speaks for."""
    organisation = by.platform_id
    if by.kind is SubjectKind.USER and by.id.isdigit():
        user = sharing.find_user(conn, user_id=int(by.id))
        organisation = user.organisation if user is not None else ""
    key = f"{by.kind.value}:{by.id}"
    return Viewer(key, by.name, organisation, by.may(Permission.PLATFORM_ADMIN))


def _catalogues(conn: Connection, by: Subject, reach: Reach) -> tuple[list[Catalogue], dict[str, int]]:
    viewer = viewer_of(conn, by)
    return store.catalogues(conn, viewer, reach), store.plan_counts(conn, viewer)


def _save_catalogue(conn: Connection, by: Subject, asked: CatalogueAsked, context: Context) -> Catalogue:
    store.lock(conn)
    viewer = viewer_of(conn, by)
    saved = _changed(conn, viewer, asked, context.at) if asked.id else _made(conn, viewer, asked, context.at)
    details: dict[str, object] = {"did": "save", "name": "/".join(saved.path)}
    _audit(conn, by, "plan_catalogue", saved.id, details, context)
    return saved


def _made(conn: Connection, viewer: Viewer, asked: CatalogueAsked, at: datetime) -> Catalogue:
    if not asked.path:
        raise InvalidRequest("缺少目录名称", field="CatalogName")
    parent = _catalogue(conn, asked.parent_id, viewer, "parentId") if asked.parent_id else None
    *above, last = [catalogues.check_name(name) for name in asked.path]
    for name in above:
        parent = _below(conn, parent, name, viewer, at)
        if parent is None:
            raise NotFound(f"上级目录“{name}”不存在", code=40402, field="CatalogName")
    found = _below(conn, parent, last, viewer, at)
    if found is not None and found.is_protected:
        # Printed, or a division that was made just now or before: it is there, which is what was wanted.
        _check_row(found, asked.standard_row)
        return found
    if found is not None:
        raise Conflict("同名目录已存在", code=40902, field="CatalogName", details={"CatalogID": found.id})
    catalogues.check_place(parent, last, may_extend=viewer.is_administrator)
    new = Catalogue(
        _new_code(at),
        parent.id if parent else "",
        (*(parent.path if parent else ()), last),
        visibility=asked.visibility or Visibility.PRIVATE,
        owner=viewer.key,
        organisation=viewer.organisation,
        position=asked.position or 0,
    )
    _check_row(new, asked.standard_row)
    store.put_catalogues(conn, [new], at)
    return new


def _below(
    conn: Connection, parent: Catalogue | None, name: str, viewer: Viewer, at: datetime
) -> Catalogue | None:
    """The catalogue of that name; a division is made when its code is named the first time."""
    if parent is not None:
        chain = catalogues.divided(parent, name)
        known = [store.catalogue(conn, one.id, viewer) for one in chain]
        store.put_catalogues(conn, [one for one, held in zip(chain, known, strict=True) if held is None], at)
        if chain:
            return known[-1] or chain[-1]
    return store.named(conn, parent.id if parent else "", name, viewer)


def _changed(conn: Connection, viewer: Viewer, asked: CatalogueAsked, at: datetime) -> Catalogue:
    held = _catalogue(conn, asked.id, viewer)
    if held.is_protected:
        raise Unprocessable("表 B.1 的目录受保护，不能修改", code=42201, field="CatalogID")
    if held.owner != viewer.key and not viewer.is_administrator:
        raise Forbidden("只有目录的所有者可以修改", code=40304)
    if asked.revision is not None and asked.revision != held.revision:
        raise Conflict("预案目录已被修改", details={"version": held.revision})
    if asked.parent_id and asked.parent_id != held.parent_id:
        raise InvalidRequest("目录不能移到另一个上级目录下", field="parentId")
    _check_row(held, asked.standard_row)
    name = catalogues.check_name(asked.path[-1]) if asked.path else held.name
    if len(asked.path) > 1 and asked.path[:-1] != held.path[:-1]:
        raise InvalidRequest("目录不能移到另一个上级目录下", field="CatalogName")
    other = store.named(conn, held.parent_id, name, viewer)
    if other is not None and other.id != held.id:
        raise Conflict("同名目录已存在", code=40902, field="CatalogName", details={"CatalogID": other.id})
    new = replace(
        held,
        path=(*held.path[:-1], name),
        visibility=asked.visibility or held.visibility,
        position=held.position if asked.position is None else asked.position,
        revision=held.revision + 1,
    )
    below = [
        replace(one, path=(*new.path, one.name), revision=one.revision + 1)
        for one in store.children(conn, held.id)
        if new.path != held.path
    ]
    store.put_catalogues(conn, [new, *below], at)
    return new


def _check_row(found: Catalogue, row: int | None) -> None:
    if row is not None and row != found.standard_row:
        raise Unprocessable(f"该目录不是表 B.1 的第 {row} 行", code=42201, field="standardRow")


def _delete(conn: Connection, by: Subject, code: str, token: str, context: Context) -> str:
    store.lock(conn)
    viewer = viewer_of(conn, by)
    held = _mine(conn, code, viewer)
    store.bin_plan(conn, held, viewer.key, token, context.at)
    store.purge(conn, context.at - KEEP_DELETED)
    _audit(conn, by, "plan", code, {"did": "delete"}, context)
    return token


def _plan(conn: Connection, code: str, viewer: Viewer) -> Plan:
    found = store.heads(conn, [code], viewer).get(code)
    if found is None:
        raise NotFound("预案不存在", code=40402, field="PlanCode")
    return found


def _mine(conn: Connection, code: str, viewer: Viewer) -> Plan:
    held = _plan(conn, code, viewer)
    if held.owner != viewer.key and not viewer.is_administrator:
        raise Forbidden("只有预案的所有者可以修改或删除", code=40304)
    return held


def _catalogue(conn: Connection, catalogue_id: str, viewer: Viewer, field: str = "CatalogID") -> Catalogue:
    found = store.catalogue(conn, catalogue_id, viewer)
    if found is None:
        raise NotFound("预案目录不存在", code=40402, field=field)
    return found


def _new_code(at: datetime) -> str:
    """Twenty digits: the day, and twelve at random."""
    return f"{at.astimezone(BEIJING):%Y%m%d}{secrets.randbelow(10**12):012d}"


def _audit(
    conn: Connection, by: Subject, kind: str, key: str, details: dict[str, object], context: Context
) -> None:
    audit.append(conn, deed(by, context, AuditTag.PLAN_CHANGE, kind, key, details))
