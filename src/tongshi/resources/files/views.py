"""Sharing as a database: views for one grantee on PostgreSQL, a file for one grantee anywhere.

Implements: DB31DSJ/Z 001-2024 6.1

Each has a grant of its own: its number stands in the audit, and revoking it, in whatever way, empties the
view. A file that was handed over cannot be called back; only the next copy is refused.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import InvalidRequest, NotFound
from tongshi.resources.devices.selection import Selection
from tongshi.resources.files import store, view_store
from tongshi.resources.files.copies import CopyWriter
from tongshi.resources.files.model import BATCH
from tongshi.sharing import store as sharing
from tongshi.sharing.file_keys import FileKeys
from tongshi.sharing.grants import Grants
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

REASON = "数据库共享"


@dataclass(frozen=True, slots=True)
class Shared:
    """What a grantee was given; ``password`` is told once and kept nowhere."""

    grant: str
    role: str
    password: str


class DatabaseSharing:
    """Gives and takes views and copies. Who may call this is decided before."""

    def __init__(self, db: Database, clock: Clock, grants: Grants, keys: FileKeys, platform_id: str) -> None:
        self._db = db
        self._clock = clock
        self._grants = grants
        self._keys = keys
        self._platform_id = platform_id

    async def share(self, by: Subject, grantee: str, wanted: Grant) -> Shared:
        """Make the views of one grantee (PostgreSQL).

        Raises:
            NotFound: no such key.
            InvalidRequest: the record is on SQLite.
            Conflict: the grantee has views already.
        """
        if self._db.dialect != "postgresql":
            raise InvalidRequest("视图需要 PostgreSQL；SQLite 请用 --out 生成文件", field="out")
        await self._keys.grantee(grantee)
        context = Context(self._clock.at())
        role = view_store.role_name(self._platform_id, grantee)
        grant = await self._grants.give(by, wanted, context)
        password = secrets.token_urlsafe(24)
        try:
            await self._db.write(_create, by, role, password, grant, grantee, context)
        except BaseException:
            await self._grants.revoke(by, grant.number, context)
            raise
        return Shared(grant.number, role, password)

    async def copy(self, by: Subject, grantee: str, wanted: Grant, path: Path) -> tuple[str, int]:
        """Write a SQLite file of one grantee's rows. Returns the grant's number and the count of rows."""
        await self._keys.grantee(grantee)
        context = Context(self._clock.at())
        grant = await self._grants.give(by, wanted, context)
        writer = await asyncio.to_thread(CopyWriter, path)
        try:
            after = ""
            while rows := await self._db.read(store.export_page, Selection(grant.scope), after, BATCH):
                await asyncio.to_thread(writer.add, rows)
                after = rows[-1].device_id
            about = {
                "platform": self._platform_id,
                "grantee": grantee,
                "grant": grant.number,
                "asOf": context.at.isoformat(),
                "count": str(writer.count),
            }
            await asyncio.to_thread(writer.close, about)
        except BaseException:
            await asyncio.to_thread(writer.discard)
            raise
        details: dict[str, object] = {"form": "sqlite", "rows": writer.count}
        await self._db.write(audit.append, _entry(by, grantee, grant.number, context, details))
        return grant.number, writer.count

    async def revoke(self, by: Subject, grantee: str) -> int:
        """Take views and grants of database sharing back. Returns how many grants that were.

        Raises:
            NotFound: nothing was shared with this grantee as a database.
        """
        context = Context(self._clock.at())
        subject = Subject(SubjectKind.API_KEY, grantee)
        held = [g for g in await self._db.read(sharing.grants_of, subject) if g.reason == REASON]
        alive = [grant for grant in held if grant.revoked_at is None]
        is_dropped = False
        if self._db.dialect == "postgresql":
            role = view_store.role_name(self._platform_id, grantee)
            is_dropped = await self._db.write(view_store.drop, role)
        for grant in alive:
            await self._grants.revoke(by, grant.number, context)
        if not alive and not is_dropped:
            raise NotFound("没有以数据库方式共享给该被授权方", code=40404)
        return len(alive)


def wanted_grant(grantee: str, scope: str) -> Grant:
    """The grant of a scope as a person writes it: ``*``, divisions or owners, joined by commas.

    Raises:
        InvalidRequest: neither, or both kinds at once.
    """
    values = frozenset(part.strip() for part in scope.split(",") if part.strip())
    if values == {"*"}:
        kind, values = ScopeKind.ALL, frozenset()
    elif values and all(len(value) in (2, 4, 6, 8) and value.isdigit() for value in values):
        kind = ScopeKind.CIVIL_CODE
    elif values and all(len(value) == 20 and value.isdigit() for value in values):
        kind = ScopeKind.OWNER
    else:
        raise InvalidRequest("scope 应为 *、行政区划（2、4、6、8 位）或平台编码（20 位）", field="scope")
    actions = frozenset({Permission.ARCHIVE_EXPORT})
    return Grant("", SubjectKind.API_KEY, grantee, actions, kind, values, reason=REASON)


def _create(
    conn: Connection, by: Subject, role: str, password: str, grant: Grant, grantee: str, context: Context
) -> None:
    view_store.create(conn, role, password, grant.scope, grant.number)
    audit.append(conn, _entry(by, grantee, grant.number, context, {"form": "view", "role": role}))


def _entry(
    by: Subject, grantee: str, grant: str, context: Context, details: dict[str, object]
) -> audit.AuditEntry:
    return audit.AuditEntry(
        context.at,
        AuditTag.ARCHIVE_EXPORT,
        Outcome.DONE,
        by.kind.value,
        by.id,
        by.name,
        "api_key",
        grantee,
        grant_number=grant,
        details=details,
    )
