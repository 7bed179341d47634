"""The exchange over REST: what a neighbour pushes, and proofs. What it pulls is ``pull_http``.

Implements: DB31DSJ/Z 001-2024 6.3.2
The pushes under /exchange/v1 are no rows of Annex E: its Table E.1 has no operation that writes, while
6.2.2 and 6.3.2 ask for one.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, Forbidden, Gone, NotFound
from tongshi.exchange.model import (
    DigestAnswer,
    FullBegin,
    FullComplete,
    FullOpened,
    FullPage,
    FullPageResult,
    FullResult,
    Push,
    PushResult,
)
from tongshi.exchange.outbox import Audience
from tongshi.exchange.ranges import RangesAnswer, RangesQuery
from tongshi.exchange.service import Exchange
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request


class DigestQuery(Request, frozen=True):
    """``shardsOf`` asks for the leaves of one owner."""

    shards_of: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""


class Confirmed(Answer, frozen=True):
    """So many devices may turn missing at the neighbour's next proof."""

    count: int


def operations(exchange: Exchange, access: Access) -> list[AnyOperation]:
    """The operations of the exchange."""

    async def push(call: Call[Push, Nothing]) -> PushResult:
        return await exchange.push(_sender(call), call.body)

    async def begin(call: Call[FullBegin, Nothing]) -> FullOpened:
        return await exchange.begin_full(_sender(call), call.body)

    async def page(call: Call[FullPage, Nothing]) -> FullPageResult:
        return await exchange.page(_sender(call), call.body)

    async def complete(call: Call[FullComplete, Nothing]) -> FullResult:
        return await exchange.complete_full(_sender(call), call.body)

    async def digest(call: Call[Nothing, DigestQuery]) -> DigestAnswer:
        told = await exchange.digest_of_told(subject_of(call), call.query.shards_of)
        return told or await exchange.digest(await _audience(call), call.query.shards_of)

    async def ranges(call: Call[Nothing, RangesQuery]) -> RangesAnswer:
        _sender(call)
        return await exchange.ranges_of_told(subject_of(call), call.query)

    async def _audience(call: Call[Any, Any]) -> Audience:
        subject = subject_of(call)
        scope = await access.scope(subject, Permission.ARCHIVE_READ, context_of(call))
        return await exchange.audience(subject, scope)

    return [
        _push("pushDevices", "/exchange/v1/devices:push", "推送设备档案变更", Push, PushResult, push),
        _push("beginFull", "/exchange/v1/devices/full:begin", "开始全量推送", FullBegin, FullOpened, begin),
        _push("pageFull", "/exchange/v1/devices/full:page", "推送全量的一页", FullPage, FullPageResult, page),
        _push(
            "completeFull",
            "/exchange/v1/devices/full:complete",
            "证明全量",
            FullComplete,
            FullResult,
            complete,
        ),
        Operation(
            name="exchangeDigest",
            method="GET",
            path="/exchange/v1/digest",
            summary="查询档案摘要",
            permission=Permission.EXCHANGE_PULL,
            quota=Quota.EXCHANGE,
            audit=AuditTag.EXCHANGE_DIGEST,
            body=Nothing,
            query=DigestQuery,
            response=DigestAnswer,
            handler=digest,
        ),
        Operation(
            name="exchangeRanges",
            method="GET",
            path="/exchange/v1/digest/ranges",
            summary="查询本平台所持贵方档案的分段摘要",
            permission=Permission.EXCHANGE_PUSH,
            quota=Quota.EXCHANGE,
            audit=AuditTag.EXCHANGE_DIGEST,
            body=Nothing,
            query=RangesQuery,
            response=RangesAnswer,
            handler=ranges,
            refusals=(NotFound,),
        ),
    ]


def _push(
    name: str, path: str, summary: str, body: type[Any], response: type[Any], handler: Any
) -> AnyOperation:
    return Operation(
        name=name,
        method="POST",
        path=path,
        summary=summary,
        permission=Permission.EXCHANGE_PUSH,
        quota=Quota.EXCHANGE,
        audit=AuditTag.EXCHANGE_PUSH,
        body=body,
        query=Nothing,
        response=response,
        handler=handler,
        refusals=(Conflict, Gone),
    )


def _sender(call: Call[Any, Any]) -> str:
    platform_id = subject_of(call).platform_id
    if not platform_id:
        raise Forbidden("推送须用代表平台的密钥签名")
    return platform_id
