"""Reading the audit.

Implements: DB31DSJ/Z 001-2024 7.3
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from tongshi.audit import store
from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

_Word = Annotated[str, Meta(max_length=64)]
_Time = Annotated[datetime, Meta(tz=True)]
MAX_PAGED_ROWS = 10_000


class AuditQuery(Request, frozen=True):
    """Which records, newest first."""

    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    event: _Word = ""
    subject_id: _Word = ""
    object_id: _Word = ""
    since: _Time | None = None
    until: _Time | None = None


class AuditLine(Answer, frozen=True):
    """One record of the chain."""

    seq: int
    at: datetime
    event: AuditTag
    outcome: str
    subject_kind: str
    subject_id: str
    subject_name: str
    object_kind: str
    object_id: str
    address: str
    request_id: str
    grant_number: str
    reason: str
    details: dict[str, Any]
    hash: str


def operations(db: Database) -> list[AnyOperation]:
    """The operations of the audit."""

    async def search(call: Call[Nothing, AuditQuery]) -> Page[AuditLine]:
        q = call.query
        if q.page_no * q.page_size > MAX_PAGED_ROWS:
            raise InvalidRequest("翻页过深，请缩小查询范围", code=40006, field="pageNo")
        records, total = await db.read(
            store.page,
            q.page_no,
            q.page_size,
            event=q.event,
            subject_id=q.subject_id,
            object_id=q.object_id,
            since=q.since,
            until=q.until,
        )
        return Page([_line(record) for record in records], total, q.page_no, q.page_size)

    return [
        Operation(
            name="searchAudit",
            method="GET",
            path="/api/v1/audit",
            summary="查询审计记录",
            permission=Permission.AUDIT_READ,
            quota=Quota.ADMIN,
            audit=AuditTag.AUDIT_QUERY,
            body=Nothing,
            query=AuditQuery,
            response=Page[AuditLine],
            handler=search,
        )
    ]


def _line(record: store.AuditRecord) -> AuditLine:
    entry = record.entry
    return AuditLine(
        seq=record.seq,
        at=entry.at,
        event=entry.event,
        outcome=entry.outcome.value,
        subject_kind=entry.subject_kind,
        subject_id=entry.subject_id,
        subject_name=entry.subject_name,
        object_kind=entry.object_kind,
        object_id=entry.object_id,
        address=entry.address,
        request_id=entry.request_id,
        grant_number=entry.grant_number,
        reason=entry.reason,
        details=dict(entry.details),
        hash=record.hash.hex(),
    )
