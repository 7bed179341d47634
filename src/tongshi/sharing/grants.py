"""Giving and taking rights: grants and keys, each with its audit record in the same transaction.

Implements: DB31DSJ/Z 001-2024 6.4.2
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import BEIJING, Clock
from tongshi.errors import InvalidRequest, NotFound
from tongshi.sharing import store
from tongshi.sharing.model import MAX_SCOPE_VALUES, Context, Grant, ScopeKind, Subject
from tongshi.sharing.permissions import DEVICE_ACTIONS, Permission
from tongshi.storage import changes
from tongshi.storage.engine import Database

KIND = "grant"
NONCE_KEPT = timedelta(seconds=660)


class Grants:
    """Grants and keys. Who may call this is decided before."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def give(self, by: Subject, grant: Grant, context: Context) -> Grant:
        """Store a grant under a new number, unless it brings one. Raises InvalidRequest for a bad one."""
        _check(grant)
        number = grant.number or f"G{context.at.astimezone(BEIJING):%Y%m%d}-{secrets.token_hex(4).upper()}"
        named = replace(grant, number=number, created_by=by.name, created_at=context.at)
        await self._db.write(_give, by, named, context)
        return named

    async def revoke(self, by: Subject, number: str, context: Context) -> None:
        """Take a grant back; the change feed tells who streams under it. Raises NotFound."""
        await self._db.write(_revoke, by, number, context)

    async def find_key(self, key_id: str) -> store.ApiKey | None:
        """A usable key: known, enabled, not expired. Permission and address are checked by the gate."""
        key = await self._db.read(store.find_key, key_id)
        if key is None or not key.is_enabled or (key.expires_at and key.expires_at <= self._clock.at()):
            return None
        return key

    async def put_key(
        self, key_id: str, name: str, secret: str, permissions: Iterable[Permission], platform_id: str = ""
    ) -> store.ApiKey:
        """Create or replace a key, for example of a neighbour named in the configuration."""
        key = store.ApiKey(key_id, name, secret, frozenset(permissions), platform_id)
        await self._db.write(_put_key, key, self._clock.at())
        return key

    async def use_nonce(self, key_id: str, nonce: str) -> bool:
        """Note the nonce of a signed request, kept 660 s. Returns False when it was used before."""
        return await self._db.write(store.remember_nonce, key_id, nonce, self._clock.at(), NONCE_KEPT)


def _check(grant: Grant) -> None:
    if not grant.actions or not grant.actions <= DEVICE_ACTIONS:
        raise InvalidRequest("授权操作为空或不是设备操作", field="actions")
    if (grant.scope_kind is ScopeKind.ALL) == bool(grant.scope_values):
        raise InvalidRequest("授权范围与其类型不符", field="scopeValues")
    if len(grant.scope_values) > MAX_SCOPE_VALUES or any("/" in value for value in grant.scope_values):
        raise InvalidRequest(f"授权范围超过 {MAX_SCOPE_VALUES} 项或含有 /", field="scopeValues")
    if grant.valid_from and grant.valid_to and grant.valid_to <= grant.valid_from:
        raise InvalidRequest("授权结束时间早于开始时间", field="validTo", code=40003)


def _give(conn: Connection, by: Subject, grant: Grant, context: Context) -> None:
    store.add_grant(conn, grant, context.at)
    changes.record(conn, KIND, grant.number, "put", "", 1, context.at)
    _audit(conn, AuditTag.GRANT_CREATE, by, "grant", grant.number, context.at, context)


def _revoke(conn: Connection, by: Subject, number: str, context: Context) -> None:
    if not store.revoke_grant(conn, number, context.at):
        raise NotFound("授权不存在或已撤销")
    changes.record(conn, KIND, number, "delete", "", 2, context.at)
    _audit(conn, AuditTag.GRANT_REVOKE, by, "grant", number, context.at, context)


def _put_key(conn: Connection, key: store.ApiKey, at: datetime) -> None:
    if store.find_key(conn, key.id) == key:
        return
    store.put_key(conn, key, at)
    _audit(conn, AuditTag.KEY_CHANGE, None, "api_key", key.id, at, None)


def _audit(
    conn: Connection,
    event: AuditTag,
    by: Subject | None,
    kind: str,
    key: str,
    at: datetime,
    context: Context | None,
) -> None:
    audit.append(
        conn,
        audit.AuditEntry(
            at,
            event,
            Outcome.DONE,
            subject_kind=by.kind.value if by else "system",
            subject_id=by.id if by else "",
            subject_name=by.name if by else "",
            object_kind=kind,
            object_id=key,
            address=context.address if context else "",
            request_id=context.request_id if context else "",
            grant_number=key if kind == "grant" else "",
        ),
    )
