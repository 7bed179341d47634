"""The one access decision: load what the subject was granted, judge, write it down, in one transaction.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
Implements: DB31DSJ/Z 001-2024 6.4.3.3
Implements: DB31DSJ/Z 001-2024 7.2

Signature, replay, source address, rate and quota stand before this and belong to the web gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.errors import InvalidRequest
from tongshi.sharing import store
from tongshi.sharing.model import Context, Decision, Grant, Scope, Subject, SubjectKind, Target, judge
from tongshi.sharing.permissions import DEVICE_ACTIONS, Permission
from tongshi.storage.engine import Database


class Access:
    """Decides whether a subject may act, and on which devices. There is no other place."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def decide(
        self, subject: Subject, action: Permission, device: Target | None, context: Context
    ) -> Decision:
        """Judge one use and audit it, allowed or not, before anything is done.

        Args:
            subject: who asks.
            action: what is asked for.
            device: the device concerned; None when it is unknown (which looks the same as not permitted), or
            when the
                action concerns no device.
            context: when, from where, in which request.
        """
        return await self._db.write(_decide, subject, action, device, context)

    async def require(
        self, subject: Subject, action: Permission, device: Target | None, context: Context
    ) -> Decision:
        """``decide``, raising the error of a refusal: NotFound 40401 or Forbidden 403xx."""
        return (await self.decide(subject, action, device, context)).require()

    async def on_behalf(self, subject: Subject, user_id: str, context: Context) -> Subject:
        """The person about whom somebody asks what he may do; the question is recorded.

        Raises:
            Forbidden: 40301, who asks about others must hold the right to have decisions explained.
            InvalidRequest: there is no such account, or it is closed.
        """
        if (subject.kind, subject.id) == (SubjectKind.USER, user_id):
            return subject
        told = replace(context, on_behalf=f"{SubjectKind.USER.value}:{user_id}")
        await self.require(subject, Permission.EXPLAIN, None, told)
        user = await self._db.read(partial(store.find_user, user_id=int(user_id)))
        if user is None or not user.is_enabled:
            raise InvalidRequest("没有这个用户，或已停用", field="userId")
        return user.subject

    async def scope(self, subject: Subject, action: Permission, context: Context) -> Scope:
        """The devices on which the subject may act now, for lists."""
        return await self._db.read(scope_of, subject, action, context)

    async def entitlement(
        self, subject: Subject, action: Permission, context: Context
    ) -> tuple[Scope, tuple[str, ...]]:
        """The devices on which the subject may act now, with the numbers of the grants that say so."""
        grants = await self._db.read(grants_for, subject, action, context)
        return _union(grants), tuple(sorted(grant.number for grant in grants))

    async def is_valid(self, grant: str, context: Context) -> bool:
        """Whether a grant is still in force; a running use ends when it is not."""
        found = await self._db.read(store.find_grant, grant)
        return (
            found is not None
            and found.is_alive(context.at)
            and (found.hours is None or found.hours.hold(context.at))
        )


def scope_of(conn: Connection, subject: Subject, action: Permission, context: Context) -> Scope:
    """The union of the scopes of all grants that carry the action now; empty without the permission."""
    return _union(grants_for(conn, subject, action, context))


def grants_for(conn: Connection, subject: Subject, action: Permission, context: Context) -> list[Grant]:
    """All grants that carry the action now; none without the permission."""
    if not subject.may(action):
        return []
    return [
        grant
        for grant in store.grants_of(conn, subject)
        if action in grant.actions
        and grant.is_alive(context.at)
        and (grant.hours is None or grant.hours.hold(context.at))
    ]


def _union(grants: Sequence[Grant]) -> Scope:
    scope = Scope()
    for grant in grants:
        scope |= grant.scope
    return scope


def _decide(
    conn: Connection, subject: Subject, action: Permission, device: Target | None, context: Context
) -> Decision:
    decision = judge(
        subject,
        action,
        device,
        store.grants_of(conn, subject),
        context,
        is_device_action=action in DEVICE_ACTIONS,
    )
    _record(conn, subject, action, device, context, decision)
    return decision


def _record(
    conn: Connection,
    subject: Subject,
    action: Permission,
    device: Target | None,
    context: Context,
    decision: Decision,
) -> None:
    details: dict[str, object] = {"action": action.value, "rule": decision.rule.value}
    if decision.code:
        details["code"] = decision.code
    if context.on_behalf:
        details["onBehalf"] = context.on_behalf
    audit.append(
        conn,
        audit.AuditEntry(
            at=context.at,
            event=AuditTag.ACCESS_DECISION,
            outcome=Outcome.ALLOWED if decision.allow else Outcome.DENIED,
            subject_kind=subject.kind.value,
            subject_id=subject.id,
            subject_name=subject.name,
            object_kind="device" if device is not None else "",
            object_id=device.device_id if device is not None else "",
            address=context.address,
            request_id=context.request_id,
            grant_number=decision.grant,
            reason=decision.reason,
            details=details,
        ),
    )
