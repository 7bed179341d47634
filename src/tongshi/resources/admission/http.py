"""Admission over REST: who was refused, who is banned, which device changed; lift and confirm.

Implements: GB/T 28181-2022 8.1
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.resources.admission.model import Ban, BanReason, Fingerprint, Standing, Stranger
from tongshi.resources.admission.service import AdmissionDesk
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

_BASE = "/api/v1/signalling"


class Paged(Request, frozen=True):
    """Which page."""

    page_no: Annotated[int, Meta(ge=1, le=20_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=200)] = 50


class FingerprintQuery(Paged, frozen=True):
    """``standing`` narrows to those that changed or are blocked."""

    standing: Standing | None = None


class Lifting(Request, frozen=True):
    """The subject of a ban as the list shows it."""

    subject: Annotated[str, Meta(min_length=1, max_length=128)]


class BanRow(Answer, frozen=True):
    """One ban that has not ended. ``level`` counts those in a row."""

    subject: str
    reason: BanReason
    level: int
    since: datetime
    until: datetime
    refused: int


class StrangerRow(Answer, frozen=True):
    """One source that may not ask: how much was refused, how much dropped unread, and what it asked last."""

    address: str
    first_at: datetime
    last_at: datetime
    refused: int
    dropped: int
    method: str
    code: str


class FingerprintRow(Answer, frozen=True):
    """One device: what is trusted, and what it says now where that differs."""

    device_id: str
    standing: Standing
    traits: Mapping[str, str]
    changed: Mapping[str, str]
    first_at: datetime
    changed_at: datetime


def operations(desk: AdmissionDesk) -> list[AnyOperation]:
    """The operations of admission."""

    async def bans(call: Call[Nothing, Paged]) -> Page[BanRow]:
        rows, total = desk.bans(call.query.page_no, call.query.page_size)
        return Page([_ban(row) for row in rows], total, call.query.page_no, call.query.page_size)

    async def lift(call: Call[Lifting, Nothing]) -> Nothing:
        await desk.lift(subject_of(call), call.body.subject, context_of(call))
        return Nothing()

    async def strangers(call: Call[Nothing, Paged]) -> Page[StrangerRow]:
        rows, total = desk.strangers(call.query.page_no, call.query.page_size)
        return Page([_stranger(row) for row in rows], total, call.query.page_no, call.query.page_size)

    async def fingerprints(call: Call[Nothing, FingerprintQuery]) -> Page[FingerprintRow]:
        query = call.query
        rows, total = await desk.fingerprints(query.standing, query.page_no, query.page_size)
        return Page([_fingerprint(row) for row in rows], total, query.page_no, query.page_size)

    async def confirm(call: Call[Nothing, Nothing]) -> FingerprintRow:
        return _fingerprint(await desk.confirm(subject_of(call), call.path["deviceId"], context_of(call)))

    return [
        _look("listBans", "/bans", "查询信令封禁", Page[BanRow], bans, Paged),
        _act("liftBan", "/bans/lift", "解除信令封禁", Lifting, Nothing, lift, AuditTag.PEER_BAN_LIFT),
        _look("listStrangers", "/strangers", "查询被拒绝的信令来源", Page[StrangerRow], strangers, Paged),
        _look(
            "listFingerprints",
            "/fingerprints",
            "查询设备特征",
            Page[FingerprintRow],
            fingerprints,
            FingerprintQuery,
        ),
        _act(
            "confirmFingerprint",
            "/fingerprints/{deviceId}/confirm",
            "确认设备特征变化",
            Nothing,
            FingerprintRow,
            confirm,
            AuditTag.FINGERPRINT_CONFIRM,
        ),
    ]


def _look(
    name: str, path: str, summary: str, response: type[Any], handler: Any, query: type[Any]
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=_BASE + path,
        summary=summary,
        permission=Permission.PLATFORM_ADMIN,
        quota=Quota.ADMIN,
        audit=AuditTag.ADMISSION_QUERY,
        body=Nothing,
        query=query,
        response=response,
        handler=handler,
    )


def _act(
    name: str, path: str, summary: str, body: type[Any], response: type[Any], handler: Any, audit: AuditTag
) -> AnyOperation:
    return Operation(
        name=name,
        method="POST",
        path=_BASE + path,
        summary=summary,
        permission=Permission.PLATFORM_ADMIN,
        quota=Quota.ADMIN,
        audit=audit,
        body=body,
        query=Nothing,
        response=response,
        handler=handler,
        is_audited_within=True,
    )


def _ban(ban: Ban) -> BanRow:
    return BanRow(ban.subject, ban.reason, ban.level, ban.since, ban.until, ban.refused)


def _stranger(stranger: Stranger) -> StrangerRow:
    return StrangerRow(
        stranger.address,
        stranger.first_at,
        stranger.last_at,
        stranger.refused,
        stranger.dropped,
        stranger.method,
        stranger.code,
    )


def _fingerprint(one: Fingerprint) -> FingerprintRow:
    return FingerprintRow(
        one.code, one.standing, dict(one.traits), dict(one.changed), one.first_at, one.changed_at
    )
