"""Rows E.1-3 and E.1-4 over REST: pages in three forms, changes with a long poll.

Implements: DB31DSJ/Z 001-2024 E.1-3
Implements: DB31DSJ/Z 001-2024 E.1-4
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from msgspec.structs import asdict

from tongshi.audit.tags import AuditTag
from tongshi.errors import Gone, InvalidRequest
from tongshi.exchange.pull import Asked, Cursor, Encode, Pulls, Since
from tongshi.exchange.pull_model import (
    ChangesAnswer,
    FullAnswer,
    FullFacts,
    PageForm,
    PullChanges,
    PullFull,
)
from tongshi.exchange.reach import Reach
from tongshi.resources.devices import reading_store, wire
from tongshi.resources.files.csv_rows import CsvWriter
from tongshi.resources.files.table import cells
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Quota, Reply, RowsResponse

# Facts of a page that a header has no room for.
_TOO_LONG = ("shard_digests", "roots")
_KINDS = {PageForm.NDJSON: "application/x-ndjson", PageForm.CSV: "text/csv; charset=utf-8"}
_ALWAYS = ("DeviceID", "sourcePlatform", "version")
_KNOWN = frozenset(wire.DeviceFull.__struct_encode_fields__)


def operations(pulls: Pulls, access: Access) -> list[AnyOperation]:
    """The two operations that are pulled."""

    async def full(call: Call[PullFull, Nothing]) -> Reply[FullAnswer] | RowsResponse:
        body = call.body
        asked = _asked(body)
        encode, head = _csv_lines() if body.format is PageForm.CSV else (_encode, b"")
        facts, told = await pulls.full(await _reach(call), asked, encode)
        if body.format is PageForm.JSON:
            page = FullAnswer(**asdict(facts), rows=[msgspec.Raw(record) for record in told])
            return Reply(page, compress=body.compress)
        return _lines(body, facts, head, told)

    async def changes(call: Call[PullChanges, Nothing]) -> Reply[ChangesAnswer]:
        body = call.body
        reach = (await _reach(call)).narrowed(body.civil_codes)
        subject = subject_of(call)
        encode = _projected(body.fields) if body.fields else _encode
        history = await access.scope(subject, Permission.ARCHIVE_HISTORY, context_of(call))
        asked = Since(body.since_version, body.limit, encode, history)
        caller = f"{subject.kind.value}:{subject.id}"
        found = await pulls.changes(reach, caller, asked, body.wait_sec, call.left)
        return Reply(found, rows=len(found.changes))

    async def _reach(call: Call[Any, Any]) -> Reach:
        subject = subject_of(call)
        scope = await access.scope(subject, Permission.ARCHIVE_READ, context_of(call))
        return await pulls.reach(subject, scope)

    return [
        Operation(
            name="fullDevices",
            method="POST",
            path="/api/v1/archive/devices/full",
            summary="查询全量设备信息",
            permission=Permission.EXCHANGE_PULL,
            quota=Quota.EXCHANGE,
            audit=AuditTag.EXCHANGE_PULL,
            body=PullFull,
            query=Nothing,
            response=FullAnswer,
            handler=full,
            refusals=(Gone,),
            row="E.1-3",
            other_kinds=tuple(_KINDS.values()),
        ),
        Operation(
            name="changedDevices",
            method="POST",
            path="/api/v1/archive/devices/changes",
            summary="获取设备数据",
            permission=Permission.EXCHANGE_PULL,
            quota=Quota.EXCHANGE,
            audit=AuditTag.EXCHANGE_PULL,
            body=PullChanges,
            query=Nothing,
            response=ChangesAnswer,
            handler=changes,
            refusals=(Gone,),
            row="E.1-4",
        ),
    ]


def _asked(body: PullFull) -> Asked:
    """Read the cursor and compare what it is bound to."""
    if not body.cursor:
        if body.snapshot_id:
            raise InvalidRequest("续传须带上一页的 nextCursor", field="cursor")
        return Asked(body.page_size, None, body.scope.civil_code, body.with_shards is not False)
    cursor = Cursor.read(body.cursor)
    if body.snapshot_id not in ("", cursor.snapshot_id):
        raise InvalidRequest("cursor 属于另一个 snapshotId", field="snapshotId")
    if body.scope.civil_code not in ("", cursor.civil_code):
        raise InvalidRequest("cursor 属于另一个行政区划范围", field="scope.civilCode")
    return Asked(body.page_size, cursor, cursor.civil_code, body.with_shards is True)


def _lines(body: PullFull, facts: FullFacts, head: bytes, told: list[bytes]) -> RowsResponse:
    """NDJSON ends with a line of the page's facts, which one that was cut off lacks; both have a header."""
    short = msgspec.structs.replace(facts, **dict.fromkeys(_TOO_LONG))
    headers = {"X-Tongshi-Page": msgspec.json.encode(short).decode(), "Cache-Control": "no-store"}
    if body.format is PageForm.NDJSON:
        told = [*(record + b"\n" for record in told), msgspec.json.encode({"page": facts}) + b"\n"]
    content = head + b"".join(told)
    rows = len(told) - (body.format is PageForm.NDJSON)
    return RowsResponse(content, _KINDS[body.format], headers, rows=rows, compress=body.compress)


def _encode(row: Sequence[Any]) -> bytes:
    return msgspec.json.encode(wire.to_full(reading_store.archive_of(row), with_provenance=False))


def _projected(fields: Collection[str]) -> Encode:
    """DeviceFull with these members only."""
    unknown = sorted(set(fields) - _KNOWN)
    if unknown:
        raise InvalidRequest(f"不认识的字段 {unknown[0]}", field="fields")
    wanted = {*_ALWAYS, *fields}

    def encode(row: Sequence[Any]) -> bytes:
        full = msgspec.to_builtins(wire.to_full(reading_store.archive_of(row), with_provenance=False))
        return msgspec.json.encode({name: value for name, value in full.items() if name in wanted})

    return encode


def _csv_lines() -> tuple[Callable[[Sequence[Any]], bytes], bytes]:
    """Writes one row as the files of this platform have it, and what stands above the rows."""
    stream = io.BytesIO()
    writer = CsvWriter(stream)
    writer.add([])
    head = stream.getvalue()

    def line(row: Sequence[Any]) -> bytes:
        stream.seek(0)
        stream.truncate()
        writer.add([cells(reading_store.archive_of(row))])
        return stream.getvalue()

    return line, head
