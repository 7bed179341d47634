"""Keys and their quotas over REST: an administrator sees what is used and sets what may be.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
Implements: DB31DSJ/Z 001-2024 6.4.3.3
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.sharing.quota_model import CLASSES, MOST, Limit, Measure, Period, Use
from tongshi.sharing.quotas import Quotas
from tongshi.sharing.store import ApiKey
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

_MAX_LIMITS = len(CLASSES) * len(Period) + 1


class KeyQuery(Request, frozen=True):
    """Which page of the keys."""

    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=200)] = 50


class QuotaLimit(Request, frozen=True):
    """One quota; ``quotaClass`` is a class of operations or ``all``, rows are counted by day over ``all``."""

    measure: Measure
    period: Period
    limit: Annotated[int, Meta(ge=0, le=MOST)]
    quota_class: Annotated[str, Meta(min_length=1, max_length=16)] = "all"


class PutQuotas(Request, frozen=True):
    """All quotas of the key; what is not named is without limit."""

    quotas: Annotated[list[QuotaLimit], Meta(max_length=_MAX_LIMITS)]


class QuotaUse(Answer, frozen=True):
    """How a quota stands. ``used`` includes what a process of the platform took and has not spent yet."""

    measure: Measure
    quota_class: str
    period: Period
    limit: int
    used: int
    remaining: int
    resets_at: datetime


class KeyEntry(Answer, frozen=True):
    """A key, never its secret."""

    key_id: str
    name: str
    platform_id: str
    permissions: list[str]
    addresses: list[str]
    is_enabled: bool
    expires_at: datetime | None
    quotas: list[QuotaUse]


def operations(quotas: Quotas) -> list[AnyOperation]:
    """The operations on quotas of keys."""

    async def list_keys(call: Call[Nothing, KeyQuery]) -> Page[KeyEntry]:
        query = call.query
        found, total = await quotas.keys(query.page_no, query.page_size)
        return Page([_entry(*one) for one in found], total, query.page_no, query.page_size)

    async def put(call: Call[PutQuotas, Nothing]) -> KeyEntry:
        key_id = call.path["keyId"]
        limits = [Limit(q.measure, q.quota_class, q.period, q.limit) for q in call.body.quotas]
        await quotas.put(subject_of(call), key_id, limits, context_of(call))
        return _entry(*await quotas.find(key_id))

    return [
        Operation(
            name="listKeys",
            method="GET",
            path="/api/v1/keys",
            summary="密钥及其配额",
            permission=Permission.GRANT_ADMIN,
            quota=Quota.ADMIN,
            audit=AuditTag.GRANT_QUERY,
            body=Nothing,
            query=KeyQuery,
            response=Page[KeyEntry],
            handler=list_keys,
        ),
        Operation(
            name="putKeyQuotas",
            method="PUT",
            path="/api/v1/keys/{keyId}/quotas",
            summary="设置密钥的配额",
            permission=Permission.GRANT_ADMIN,
            quota=Quota.ADMIN,
            audit=AuditTag.KEY_CHANGE,
            body=PutQuotas,
            query=Nothing,
            response=KeyEntry,
            handler=put,
            is_audited_within=True,
        ),
    ]


def _entry(key: ApiKey, uses: tuple[Use, ...]) -> KeyEntry:
    return KeyEntry(
        key_id=key.id,
        name=key.name,
        platform_id=key.platform_id,
        permissions=sorted(permission.value for permission in key.permissions),
        addresses=list(key.addresses),
        is_enabled=key.is_enabled,
        expires_at=key.expires_at,
        quotas=[_use(use) for use in uses],
    )


def _use(use: Use) -> QuotaUse:
    limit = use.limit
    return QuotaUse(
        limit.measure,
        limit.quota_class,
        limit.period,
        limit.most,
        use.used,
        max(0, limit.most - use.used),
        use.resets_at,
    )
