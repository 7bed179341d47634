"""The exchange page over REST: one neighbour in detail, and a person's word to it.

Implements: DB31DSJ/Z 001-2024 6.2
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, PeerFailed, PeerTimeout, TongshiError
from tongshi.exchange.control import Control
from tongshi.exchange.control_model import (
    Comparison,
    Done,
    LinkDetail,
    Missing,
    MissingQuery,
    Reasoned,
    Synchronise,
)
from tongshi.exchange.http import Confirmed
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Page, Quota

_BASE = "/api/v1/platforms/{platformId}/exchange"


def operations(control: Control, access: Access) -> list[AnyOperation]:
    """The operations of the exchange page."""

    async def detail(call: Call[Nothing, Nothing]) -> LinkDetail:
        return await control.detail(call.path["platformId"])

    async def compare(call: Call[Nothing, Nothing]) -> Comparison:
        return await control.compare(call.path["platformId"])

    async def missing(call: Call[Nothing, MissingQuery]) -> Page[Missing]:
        scope = await access.scope(subject_of(call), Permission.ARCHIVE_READ, context_of(call))
        page_no, page_size = call.query.page_no, call.query.page_size
        rows, total = await control.missing(call.path["platformId"], scope, page_no, page_size)
        return Page(rows, total, page_no, page_size)

    async def pause(call: Call[Reasoned, Nothing]) -> Done:
        await control.pause(subject_of(call), call.path["platformId"], call.body.reason, context_of(call))
        return Done()

    async def resume(call: Call[Nothing, Nothing]) -> Done:
        await control.resume(subject_of(call), call.path["platformId"], context_of(call))
        return Done()

    async def synchronise(call: Call[Synchronise, Nothing]) -> Done:
        await control.synchronise(subject_of(call), call.path["platformId"], call.body.kind, context_of(call))
        return Done()

    async def confirm(call: Call[Reasoned, Nothing]) -> Confirmed:
        path, reason = call.path["platformId"], call.body.reason
        return Confirmed(await control.confirm(subject_of(call), path, reason, context_of(call)))

    return [
        _look("exchangeDetail", "", "查询与相邻平台的交换", LinkDetail, detail),
        _look(
            "compareExchange",
            "/comparison",
            "与相邻平台核对档案",
            Comparison,
            compare,
            refusals=(Conflict, PeerFailed, PeerTimeout),
        ),
        _look(
            "listMissing",
            "/missing",
            "查询隔离的设备",
            Page[Missing],
            missing,
            query=MissingQuery,
            permission=Permission.ARCHIVE_READ,
            audit=AuditTag.ARCHIVE_QUERY,
        ),
        _act("pauseExchange", "/pause", "暂停与相邻平台的交换", Reasoned, Done, pause),
        _act("resumeExchange", "/resume", "恢复与相邻平台的交换", Nothing, Done, resume),
        _act("synchroniseExchange", "/synchronise", "立即同步", Synchronise, Done, synchronise),
        _act("confirmVanishing", "/confirm", "确认大批设备缺失", Reasoned, Confirmed, confirm),
    ]


def _look(
    name: str,
    path: str,
    summary: str,
    response: type[Any],
    handler: Any,
    *,
    query: type[Any] = Nothing,
    permission: StrEnum = Permission.PLATFORM_READ,
    audit: StrEnum = AuditTag.PLATFORM_QUERY,
    refusals: tuple[type[TongshiError], ...] = (),
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=_BASE + path,
        summary=summary,
        permission=permission,
        quota=Quota.QUERY,
        audit=audit,
        body=Nothing,
        query=query,
        response=response,
        handler=handler,
        refusals=refusals,
    )


def _act(
    name: str, path: str, summary: str, body: type[Any], response: type[Any], handler: Any
) -> AnyOperation:
    return Operation(
        name=name,
        method="POST",
        path=_BASE + path,
        summary=summary,
        permission=Permission.PLATFORM_ADMIN,
        quota=Quota.ADMIN,
        audit=AuditTag.PLATFORM_CHANGE,
        body=body,
        query=Nothing,
        response=response,
        handler=handler,
        refusals=(Conflict,),
        is_audited_within=True,
    )
