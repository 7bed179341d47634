"""Timelines of signalling over REST. An extension; no row of Annex E lists it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest
from tongshi.protocols import pcap
from tongshi.resources.traces.model import TraceEvent, TraceFilter, TraceKind, TraceState, TraceSummary
from tongshi.resources.traces.service import Traces
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import (
    Answer,
    AnyOperation,
    Call,
    Nothing,
    Operation,
    Page,
    Quota,
    Request,
    RowsResponse,
)

_Id = Annotated[str, Meta(max_length=64)]


class TraceQuery(Request, frozen=True):
    """Which sessions; ``from`` and ``to`` bound the time in which something was said."""

    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=500)] = 50
    device_id: _Id = field(name="DeviceID", default="")
    peer_id: _Id = ""
    kind: TraceKind | None = None
    state: TraceState | None = None
    since: datetime | None = field(name="from", default=None)
    until: datetime | None = field(name="to", default=None)


class TraceRow(Answer, frozen=True):
    """One session. ``title``, ``outcome`` and ``failedStep`` are words for people."""

    trace_id: str
    kind: TraceKind
    state: TraceState
    device_id: str = field(name="DeviceID")
    peer_id: str
    begun_at: datetime
    last_at: datetime
    title: str
    outcome: str
    failed_step: str
    messages: int
    omitted: int


class TraceStep(Answer, frozen=True):
    """One message, or one step of a picture (then ``direction`` is empty and ``firstLine`` names the step).

    ``text`` is the message with secrets blotted out; ``cut`` says that less of it was kept than ``size``.
    """

    at: datetime
    gap_ms: float
    direction: str
    peer_id: str
    remote: str
    transport: str
    first_line: str
    meaning: str
    text: str
    size: int
    cut: bool
    repeated: bool
    trouble: bool


class TraceTimeline(Answer, frozen=True):
    """A session with all that it brought about."""

    trace: TraceRow
    steps: list[TraceStep]


class TraceStore(Answer, frozen=True):
    """How much is kept. What is older than ``oldestAt`` cannot be found any more."""

    on: bool
    used_bytes: int
    max_bytes: int
    sessions: int
    dropped: int
    oldest_at: datetime | None


def operations(traces: Traces, access: Access) -> list[AnyOperation]:
    """The operations of timelines."""

    async def list_traces(call: Call[Nothing, TraceQuery]) -> Page[TraceRow]:
        query = call.query
        rows, total = await traces.page(await _scope(call), _filter(query), query.page_no, query.page_size)
        return Page([_row(row) for row in rows], total, query.page_no, query.page_size)

    async def get_trace(call: Call[Nothing, Nothing]) -> TraceTimeline:
        found = await traces.timeline(await _scope(call), call.path["traceId"][:64])
        return TraceTimeline(_row(found.summary), [_step(event) for event in found.events])

    async def get_capture(call: Call[Nothing, Nothing]) -> RowsResponse:
        trace_id = call.path["traceId"][:64]
        scope = await _scope(call, Permission.SIGNALLING_CAPTURE)
        made = await traces.capture(subject_of(call), scope, trace_id, context_of(call))
        headers = {"Content-Disposition": f'attachment; filename="tongshi-{trace_id}.pcap"'}
        return RowsResponse(made.content, pcap.MEDIA_TYPE, headers, rows=made.packets, compress=False)

    async def get_store(call: Call[Nothing, Nothing]) -> TraceStore:
        kept = traces.bounds()
        return TraceStore(
            kept.is_on, kept.used_bytes, kept.max_bytes, kept.sessions, kept.dropped, kept.oldest_at
        )

    async def _scope(call: Call[Any, Any], permission: Permission = Permission.SIGNALLING_READ) -> Scope:
        return await access.scope(subject_of(call), permission, context_of(call))

    one = "/api/v1/signalling/traces/{traceId}"
    return [
        _read(
            "listTraces", "/api/v1/signalling/traces", "信令会话列表", TraceQuery, Page[TraceRow], list_traces
        ),
        _read("getTrace", one, "信令会话时间线", Nothing, TraceTimeline, get_trace),
        _read("traceStore", "/api/v1/signalling/trace-store", "信令留存情况", Nothing, TraceStore, get_store),
        Operation(
            name="getTraceCapture",
            method="GET",
            path=f"{one}/capture",
            summary="下载信令抓包文件",
            permission=Permission.SIGNALLING_CAPTURE,
            quota=Quota.BULK,
            audit=AuditTag.SIGNALLING_CAPTURE,
            body=Nothing,
            query=Nothing,
            response=Nothing,
            handler=get_capture,
            is_raw=True,
            media_types=(pcap.MEDIA_TYPE,),
            is_audited_within=True,
        ),
    ]


def _read(
    name: str, path: str, summary: str, query: type[Any], response: type[Any], handler: Any
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=path,
        summary=summary,
        permission=Permission.SIGNALLING_READ,
        quota=Quota.QUERY,
        audit=AuditTag.SIGNALLING_QUERY,
        body=Nothing,
        query=query,
        response=response,
        handler=handler,
    )


def _filter(query: TraceQuery) -> TraceFilter:
    """Raises InvalidRequest for a span that ends before it begins, or a time without a zone."""
    for name, at in (("from", query.since), ("to", query.until)):
        if at is not None and at.tzinfo is None:
            raise InvalidRequest(f"{name} 须带时区，例如 2026-01-01T08:00:00+08:00", field=name)
    if query.since is not None and query.until is not None and query.until < query.since:
        raise InvalidRequest("to 早于 from", field="to")
    return TraceFilter(query.device_id, query.peer_id, query.kind, query.state, query.since, query.until)


def _row(row: TraceSummary) -> TraceRow:
    return TraceRow(
        trace_id=row.trace_id,
        kind=row.kind,
        state=row.state,
        device_id=row.device_id,
        peer_id=row.peer_id,
        begun_at=row.begun_at,
        last_at=row.last_at,
        title=row.title,
        outcome=row.outcome,
        failed_step=row.failed_step,
        messages=row.messages,
        omitted=row.omitted,
    )


def _step(event: TraceEvent) -> TraceStep:
    return TraceStep(
        at=event.at,
        gap_ms=event.gap_ms,
        direction=event.direction,
        peer_id=event.peer_id,
        remote=event.remote,
        transport=event.transport,
        first_line=event.first_line,
        meaning=event.meaning,
        text=event.text,
        size=event.size,
        cut=event.is_cut,
        repeated=event.is_repeated,
        trouble=event.is_trouble,
    )
