"""The exchange over REST: what a neighbour pushes, what it pulls, proofs, and a person's word.

Implements: DB31DSJ/Z 001-2024 E.1-3
Implements: DB31DSJ/Z 001-2024 E.1-4
Implements: DB31DSJ/Z 001-2024 6.3.2
The pushes under /exchange/v1 are no rows of Annex E: its Table E.1 has no operation that writes, while
6.2.2 and 6.3.2 ask for one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, Forbidden, Gone, InvalidRequest
from tongshi.exchange.model import (
    ChangesAnswer,
    DeviceChange,
    DigestAnswer,
    FullAnswer,
    FullBegin,
    FullComplete,
    FullOpened,
    FullPage,
    FullPageResult,
    FullResult,
    OwnerRoot,
    OwnerShard,
    PullChanges,
    PullFull,
    Push,
    PushResult,
)
from tongshi.exchange.outbox import Audience, Row
from tongshi.exchange.service import Exchange
from tongshi.resources.devices import store, wire
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

# How often a waiting E.1-4 looks for news.
_LOOK_S = 0.5


class DigestQuery(Request, frozen=True):
    """``shardsOf`` asks for the leaves of one owner."""

    shards_of: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""


class Confirmed(Answer, frozen=True):
    """So many devices may turn missing at the neighbour's next proof."""

    count: int


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    as_of_version: int
    after_key: Annotated[str, Meta(max_length=64)]
    snapshot_id: Annotated[str, Meta(max_length=64)]


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

    async def full(call: Call[PullFull, Nothing]) -> FullAnswer:
        body = call.body
        audience = await _audience(call)
        cursor = _read_cursor(body.cursor) if body.cursor else None
        after_key = cursor.after_key if cursor else ""
        found, head, feed = await exchange.read_page(audience, after_key, body.page_size, _encode)
        as_of = cursor.as_of_version if cursor else head.to_position
        snapshot_id = cursor.snapshot_id if cursor else f"{feed}-{head.to_position}"
        roots = head.roots or []
        next_cursor = None
        if not found.is_last:
            next_cursor = _write_cursor(_Cursor(as_of, found.last_key, snapshot_id))
        return FullAnswer(
            snapshot_id=snapshot_id,
            feed=feed,
            as_of_version=as_of,
            total=sum(root.count for root in roots),
            roots=roots,
            root_digest=_combined(roots),
            rows=found.items,
            last_key=found.last_key,
            complete=found.is_last,
            next_cursor=next_cursor,
            shard_digests=await _shards(audience, roots) if body.with_shards else None,
        )

    async def changes(call: Call[PullChanges, Nothing]) -> ChangesAnswer:
        body = call.body
        audience = await _audience(call)
        feed = await exchange.feed()
        batch = await exchange.read_changes(audience, body.since_version, body.limit, _encode)
        waits = int(body.wait_sec / _LOOK_S)
        while waits and batch.to_position <= body.since_version:
            await asyncio.sleep(_LOOK_S)
            waits -= 1
            batch = await exchange.read_changes(audience, body.since_version, body.limit, _encode)
        found = [_upserted(item) for item in batch.items]
        found += [DeviceChange("delete", gone.device_id, gone.owner) for gone in batch.gone]
        return ChangesAnswer(
            changes=found,
            feed=feed,
            to_version=batch.to_position,
            has_more=batch.roots is None,
            remaining=batch.remaining,
            roots=batch.roots,
        )

    async def _audience(call: Call[Any, Any]) -> Audience:
        subject = subject_of(call)
        scope = await access.scope(subject, Permission.ARCHIVE_READ, context_of(call))
        return await exchange.audience(subject, scope)

    async def _shards(audience: Audience, roots: list[OwnerRoot]) -> list[OwnerShard]:
        found = []
        for root in roots:
            leaves = (await exchange.digest(audience, root.owner)).shards
            found += [OwnerShard(root.owner, s.civil_code, s.count, s.digest) for s in leaves]
        return found

    return [
        _pull(
            "fullDevices",
            "/api/v1/archive/devices/full",
            "查询全量设备信息",
            PullFull,
            FullAnswer,
            full,
            "E.1-3",
        ),
        _pull(
            "changedDevices",
            "/api/v1/archive/devices/changes",
            "获取设备数据",
            PullChanges,
            ChangesAnswer,
            changes,
            "E.1-4",
        ),
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


def _pull(
    name: str, path: str, summary: str, body: type[Any], response: type[Any], handler: Any, row: str
) -> AnyOperation:
    return Operation(
        name=name,
        method="POST",
        path=path,
        summary=summary,
        permission=Permission.EXCHANGE_PULL,
        quota=Quota.EXCHANGE,
        audit=AuditTag.EXCHANGE_PULL,
        body=body,
        query=Nothing,
        response=response,
        handler=handler,
        refusals=(Gone,),
        row=row,
    )


def _sender(call: Call[Any, Any]) -> str:
    platform_id = subject_of(call).platform_id
    if not platform_id:
        raise Forbidden("推送须用代表平台的密钥签名")
    return platform_id


def _encode(row: Row) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(wire.to_full(store.archive_of(row))))


class _Named(msgspec.Struct):
    DeviceID: str
    sourcePlatform: str


def _upserted(item: msgspec.Raw) -> DeviceChange:
    named = msgspec.json.decode(item, type=_Named)
    return DeviceChange("upsert", named.DeviceID, named.sourcePlatform, item)


def _combined(roots: list[OwnerRoot]) -> str:
    """One digest over the roots in order of owner."""
    text = "".join(f"{root.owner}\0{root.count}\0{root.digest}\n" for root in roots)
    return hashlib.new("sm3", text.encode()).hexdigest()


def _write_cursor(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _read_cursor(text: str) -> _Cursor:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=_Cursor)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError) as error:
        raise InvalidRequest("cursor 无效，请从第一页重新开始", field="cursor") from error
