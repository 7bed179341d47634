"""Files over REST: export, import, jobs, undo.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, field, structs
from starlette.responses import FileResponse

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, Unprocessable
from tongshi.resources.devices.selection import Selection
from tongshi.resources.files.jobs import Seen
from tongshi.resources.files.model import (
    FINAL,
    MAX_UPLOAD_BYTES,
    UNDO_KEPT,
    Format,
    ImportReport,
    JobKind,
    JobState,
    Signature,
)
from tongshi.resources.files.service import Files
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import (
    Answer,
    AnyOperation,
    Call,
    Nothing,
    Operation,
    Quota,
    Reply,
    Request,
    RowsFile,
)


class ExportRequest(Request, frozen=True):
    """Which form; ``grantee`` is the id of a key for which an administrator exports; the rest narrows.

    No keyword: the search index may lag behind, and a file must not lack what it is said to hold.
    """

    format: Format = Format.NDJSON
    grantee: Annotated[str, Meta(max_length=64)] = ""
    civil_code: Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z")] = ""
    owner: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""
    online: bool | None = None


class ImportQuery(Request, frozen=True):
    """A dry run unless it is told otherwise; ``atomic`` takes every row or none."""

    dry_run: bool = True
    atomic: bool = False


class UndoRequest(Request, frozen=True):
    """The token that the import's job carries."""

    undo_token: Annotated[str, Meta(min_length=1, max_length=64)]


class Undone(Answer, frozen=True):
    """Rows restored, and rows left alone because they were changed since."""

    restored: int
    left_alone: int


class SignatureShown(Answer, frozen=True):
    """HMAC-SM3 of a package's manifest.json, hexadecimal, with the secret of ``keyId``."""

    key_id: str
    value: str


class JobAnswer(Answer, frozen=True):
    """A job. ``rate`` is rows a second; ``content`` is where a finished package is fetched.

    ``total`` of a bare file is an estimate until it has ended. A report counts every refused row and shows
    the first ones; ``refused`` is where all of them are fetched as CSV.

    A list leaves out ``signature`` and the rows that a report refuses.
    """

    job_id: str
    kind: JobKind
    state: JobState
    format: str
    done: int
    total: int
    rate: float | None
    remaining_s: float | None
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime
    error: str
    size_bytes: int
    sm3: str
    signature: SignatureShown | None
    grants: list[str]
    content: str | None
    report: ImportReport | None
    refused: str | None
    undo_token: str | None
    undo_until: datetime | None


class Jobs(Answer, frozen=True):
    """The caller's jobs, the youngest first; so few that they need no pages."""

    rows: list[JobAnswer] = field(name="list")


def operations(files: Files) -> list[AnyOperation]:
    """The operations of sharing by file."""

    async def export(call: Call[ExportRequest, Nothing]) -> Reply[JobAnswer]:
        body = call.body
        wanted = Selection(
            Scope(),
            civil_codes=(body.civil_code,) if body.civil_code else (),
            online=body.online,
            owner=body.owner,
        )
        seen = await files.export(subject_of(call), body.format, context_of(call), body.grantee, wanted)
        return _begun(seen)

    async def take(call: Call[Nothing, ImportQuery]) -> Reply[JobAnswer]:
        query = call.query
        assert call.file is not None, "the operation takes a file"
        seen = await files.take(
            subject_of(call), call.file, context_of(call), dry_run=query.dry_run, is_atomic=query.atomic
        )
        return _begun(seen)

    async def mine(call: Call[Nothing, Nothing]) -> Jobs:
        return Jobs([_listed(seen) for seen in await files.mine(subject_of(call))])

    async def see(call: Call[Nothing, Nothing]) -> JobAnswer:
        seen = await files.see(subject_of(call), call.path["jobId"])
        return _answer(seen, await files.signature(seen.job))

    async def cancel(call: Call[Nothing, Nothing]) -> JobAnswer:
        return _answer(await files.cancel(subject_of(call), call.path["jobId"]))

    async def content(call: Call[Nothing, Nothing]) -> RowsFile:
        path, job = await files.content(subject_of(call), call.path["jobId"], context_of(call))
        name = f"devices-{job.created_at:%Y%m%d-%H%M%S}-{job.format}.zip"
        return RowsFile(path, "application/zip", name, rows=job.done)

    async def refused(call: Call[Nothing, Nothing]) -> FileResponse:
        job_id = call.path["jobId"]
        path = await files.refused(subject_of(call), job_id)
        headers = {"Cache-Control": "no-store"}
        return FileResponse(path, media_type="text/csv", filename=f"refused-{job_id}.csv", headers=headers)

    async def undo(call: Call[UndoRequest, Nothing]) -> Undone:
        who, job_id = subject_of(call), call.path["jobId"]
        return Undone(*await files.undo(who, job_id, call.body.undo_token, context_of(call)))

    return [
        Operation(
            name="exportDevices",
            method="POST",
            path="/api/v1/files/exports",
            summary="导出设备档案文件包",
            permission=Permission.ARCHIVE_EXPORT,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_EXPORT,
            body=ExportRequest,
            query=Nothing,
            response=JobAnswer,
            handler=export,
            refusals=(Unprocessable,),
            statuses=(200, 202),
        ),
        Operation(
            name="importDevices",
            method="POST",
            path="/api/v1/files/imports",
            summary="导入设备档案文件",
            permission=Permission.ARCHIVE_WRITE,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_CHANGE,
            body=Nothing,
            query=ImportQuery,
            response=JobAnswer,
            handler=take,
            refusals=(Unprocessable,),
            statuses=(200, 202),
            max_body_bytes=MAX_UPLOAD_BYTES,
            file_folder=files.folder,
        ),
        Operation(
            name="listFileJobs",
            method="GET",
            path="/api/v1/files/jobs",
            summary="列出本人的文件任务",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.SERVICE_QUERY,
            body=Nothing,
            query=Nothing,
            response=Jobs,
            handler=mine,
        ),
        Operation(
            name="getFileJob",
            method="GET",
            path="/api/v1/files/jobs/{jobId}",
            summary="查询文件任务",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.SERVICE_QUERY,
            body=Nothing,
            query=Nothing,
            response=JobAnswer,
            handler=see,
        ),
        Operation(
            name="cancelFileJob",
            method="POST",
            path="/api/v1/files/jobs/{jobId}/cancel",
            summary="取消文件任务",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_EXPORT,
            body=Nothing,
            query=Nothing,
            response=JobAnswer,
            handler=cancel,
            refusals=(Conflict,),
        ),
        Operation(
            name="downloadFile",
            method="GET",
            path="/api/v1/files/jobs/{jobId}/content",
            summary="下载导出的文件包",
            permission=Permission.ARCHIVE_EXPORT,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_EXPORT,
            body=Nothing,
            query=Nothing,
            response=Nothing,
            handler=content,
            media_types=("application/zip",),
            refusals=(Conflict,),
            is_raw=True,
        ),
        Operation(
            name="downloadRefusedRows",
            method="GET",
            path="/api/v1/files/jobs/{jobId}/refused",
            summary="下载导入被拒绝的行",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.BULK,
            audit=AuditTag.SERVICE_QUERY,
            body=Nothing,
            query=Nothing,
            response=Nothing,
            handler=refused,
            media_types=("text/csv",),
            is_raw=True,
        ),
        Operation(
            name="undoImport",
            method="POST",
            path="/api/v1/files/jobs/{jobId}/undo",
            summary="撤销导入",
            permission=Permission.ARCHIVE_WRITE,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_CHANGE,
            body=UndoRequest,
            query=Nothing,
            response=Undone,
            handler=undo,
            refusals=(Conflict,),
        ),
    ]


def _begun(seen: Seen) -> Reply[JobAnswer]:
    """200 with the end of a short job, 202 with the beginning of a long one."""
    answer = _answer(seen)
    headers = {"Location": f"/api/v1/files/jobs/{answer.job_id}"}
    return Reply(answer, status=200 if answer.state in FINAL else 202, headers=headers)


def _listed(seen: Seen) -> JobAnswer:
    answer = _answer(seen)
    if answer.report is None:
        return answer
    return structs.replace(answer, report=structs.replace(answer.report, errors=[]))


def _answer(seen: Seen, signature: Signature | None = None) -> JobAnswer:
    job = seen.job
    # While it runs the first rows would be sent with every look.
    report = job.report
    if report is not None and job.state not in FINAL:
        report = structs.replace(report, errors=[])
    can_undo = bool(job.undo_token) and job.state in FINAL - {JobState.UNDONE}
    has_content = job.kind is JobKind.EXPORT and job.state is JobState.DONE
    return JobAnswer(
        job_id=job.id,
        kind=job.kind,
        state=job.state,
        format=job.format,
        done=job.done,
        total=job.total,
        rate=None if seen.rate is None else round(seen.rate, 1),
        remaining_s=None if seen.remaining_s is None else round(seen.remaining_s, 1),
        created_at=job.created_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        error=job.error,
        size_bytes=job.size_bytes,
        sm3=job.digest,
        signature=None if signature is None else SignatureShown(signature.key_id, signature.value),
        grants=list(job.grants),
        content=f"/api/v1/files/jobs/{job.id}/content" if has_content else None,
        report=report,
        refused=f"/api/v1/files/jobs/{job.id}/refused" if report is not None and report.rejected else None,
        undo_token=job.undo_token if can_undo else None,
        undo_until=job.finished_at + UNDO_KEPT if can_undo and job.finished_at else None,
    )
