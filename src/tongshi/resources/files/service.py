"""Exports, imports and their jobs: started, watched, cancelled, kept for a while.

Implements: DB31DSJ/Z 001-2024 6.1

An export takes pages of the living table, so a row may be newer than the position the manifest names, never
older. An owner is called complete when what was written equals all it has once the last page is out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import Conflict, Forbidden, NotFound, TongshiError, Unprocessable
from tongshi.resources.devices.editing import act_of
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.selection import Selection
from tongshi.resources.files import intake, store
from tongshi.resources.files.model import (
    BATCH,
    FILE_KEPT,
    MAX_ATOMIC_ROWS,
    MAX_ERRORS_SHOWN,
    MAX_RUNNING,
    UNDO_KEPT,
    Format,
    ImportReport,
    Job,
    JobKind,
    JobState,
    Manifest,
    ReadRow,
    RowError,
    Signature,
    bad_file,
    parquet_missing,
)
from tongshi.resources.files.package import (
    Key,
    Opened,
    Origin,
    PackageWriter,
    open_package,
    signature_of,
)
from tongshi.resources.files.parquet_writer import is_installed
from tongshi.resources.files.rows import read_rows, sniff
from tongshi.sharing.decision import Access
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage import changes
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

# A short job is answered with its end instead of its beginning.
PATIENCE_S = 1.0
OWN_KEY = "platform"
EVERYTHING = Selection(Scope())
Runner = Callable[["_Running"], Awaitable[Job]]


class Neighbours(Protocol):
    """Taking in the package of a platform that cannot be reached, as an exchange full."""

    async def key_of(self, platform_id: str, key_id: str) -> Key | None:
        """The key that we and a neighbour share; None when there is no such."""
        ...

    async def take(
        self, manifest: Manifest, pages: Callable[[], Awaitable[list[DeviceArchive]]]
    ) -> tuple[ImportReport, list[tuple[str, int, str]]]:
        """Apply a full; refused archives are ``(device id, code, message)``."""
        ...


class Secrets(Protocol):
    """The platform's own secret, and those of keys."""

    async def own(self) -> str: ...
    async def grantee(self, key_id: str) -> tuple[Subject, str]: ...


@dataclass(slots=True)
class _Running:
    """A job while it runs; ``job`` is replaced as it goes on."""

    job: Job
    started_now: float
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as it stands, with its rate in rows a second and the seconds that remain."""

    job: Job
    rate: float | None = None
    remaining_s: float | None = None


class Files:
    """Jobs of this process. ``folder`` holds uploads and packages."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        access: Access,
        secrets_: Secrets,
        neighbours: Neighbours,
        *,
        folder: Path,
        platform_id: str,
        feed: Callable[[], Awaitable[str]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._access = access
        self._secrets = secrets_
        self._neighbours = neighbours
        self.folder = folder
        self._platform_id = platform_id
        self._feed = feed
        self._running: dict[str, _Running] = {}
        self._turns = asyncio.Semaphore(MAX_RUNNING)

    async def start(self) -> None:
        """Say of jobs that a stop interrupted that they failed; forget what is past its time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._db.write(store.fail_interrupted, self._clock.at())
        await self.sweep()

    async def stop(self) -> None:
        """End what runs."""
        tasks = [running.task for running in self._running.values() if running.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """Forget jobs past their time, and their files."""
        for job_id in await self._db.write(store.drop_expired, self._clock.at()):
            for path in (self._path(job_id), self._path(job_id).with_suffix(".data")):
                path.unlink(missing_ok=True)

    async def export(
        self,
        by: Subject,
        form: Format,
        context: Context,
        grantee: str = "",
        wanted: Selection = EVERYTHING,
    ) -> Seen:
        """Write a package of what the caller may export, or (``grantee``) of what a key may, signed for it.

        ``wanted`` narrows it; its scope is replaced by what was granted.

        Raises:
            Unprocessable: 42203 with the forms that are supported.
            Forbidden: 40304, nothing may be exported; 40301, only who administers grants exports for others.
        """
        if form is Format.PARQUET and not is_installed():
            raise parquet_missing()
        reader, key = by, Key(OWN_KEY, "")
        if grantee:
            if not by.may(Permission.GRANT_ADMIN):
                raise Forbidden("为他人导出需要授权管理权限")
            reader, secret = await self._secrets.grantee(grantee)
            key = Key(grantee, secret)
        elif by.kind.value == "api_key":
            key = Key(by.id, (await self._secrets.grantee(by.id))[1])
        else:
            key = Key(OWN_KEY, await self._secrets.own())
        scope, grants = await self._access.entitlement(reader, Permission.ARCHIVE_EXPORT, context)
        if scope == Scope():
            raise Forbidden("没有可导出的数据范围", code=40304)

        async def run(running: _Running) -> Job:
            return await self._export(running, form, replace(wanted, scope=scope), key, by, context)

        return await self._begin(JobKind.EXPORT, by, form.value, run, grants)

    async def take(
        self, by: Subject, data: bytes, context: Context, *, dry_run: bool, is_atomic: bool
    ) -> Seen:
        """Take in a file: in a dry run say what it would do, else put the good rows in.

        Raises:
            Unprocessable: an empty file.
        """
        if not data:
            raise bad_file("文件为空", rule="empty")
        scope = await self._access.scope(by, Permission.ARCHIVE_READ, context)
        house = intake.House(self._platform_id, scope, self._platform_id, act_of(by, Source.FILE))

        async def run(running: _Running) -> Job:
            upload = self._path(running.job.id)
            try:
                await asyncio.to_thread(upload.write_bytes, data)
                return await self._import(running, upload, house, by, context, dry_run, is_atomic)
            finally:
                upload.unlink(missing_ok=True)
                upload.with_suffix(".data").unlink(missing_ok=True)

        # Known before the first row is stored: what a crash leaves behind can be undone by its caller.
        token = "" if dry_run else secrets.token_urlsafe(18)
        return await self._begin(JobKind.IMPORT, by, "", run, (), token)

    async def see(self, by: Subject, job_id: str) -> Seen:
        """A job of the caller. Raises NotFound for another's too."""
        running = self._running.get(job_id)
        job = running.job if running else await self._db.read(store.get_job, job_id)
        if job is None or job.owner != _owner(by):
            raise NotFound("没有这个任务", code=40404)
        return self._seen(job)

    async def mine(self, by: Subject) -> list[Seen]:
        """Every job of the caller, the youngest first."""
        kept = await self._db.read(store.jobs_of, _owner(by))
        running = self._running
        return [self._seen(running[job.id].job if job.id in running else job) for job in kept]

    async def signature(self, job: Job) -> Signature | None:
        """How a finished export is signed; None when there is no package (any more)."""
        if job.kind is not JobKind.EXPORT or job.state is not JobState.DONE:
            return None
        return await asyncio.to_thread(signature_of, self._path(job.id))

    def _seen(self, job: Job) -> Seen:
        running = self._running.get(job.id)
        if running is None or job.state is not JobState.RUNNING or not job.done:
            return Seen(job)
        rate = job.done / max(self._clock.now() - running.started_now, 1e-3)
        return Seen(job, rate, max(job.total - job.done, 0) / rate if job.total else None)

    async def cancel(self, by: Subject, job_id: str) -> Seen:
        """Stop a job; rows that an import had stored stay and can be undone. Raises Conflict: it ended."""
        await self.see(by, job_id)
        running = self._running.get(job_id)
        if running is None or running.task is None:
            raise Conflict("任务已经结束")
        running.task.cancel()
        await asyncio.wait([running.task])
        return await self.see(by, job_id)

    async def content(self, by: Subject, job_id: str, context: Context) -> tuple[Path, Job]:
        """The package of a finished export.

        Raises:
            NotFound: no such job of the caller, or its time is over.
            Conflict: it has not ended well.
            Forbidden: 40304, a grant that it was made under is no longer in force.
        """
        job = (await self.see(by, job_id)).job
        if job.kind is not JobKind.EXPORT or job.state is not JobState.DONE:
            raise Conflict("导出尚未完成或没有文件")
        for grant in job.grants:
            if not await self._access.is_valid(grant, context):
                raise Forbidden("导出所依据的授权已失效", code=40304)
        path = self._path(job_id)
        if job.expires_at <= context.at or not path.is_file():
            raise NotFound("文件已过保存期", code=40404)
        return path, job

    async def undo(self, by: Subject, job_id: str, token: str, context: Context) -> tuple[int, int]:
        """Restore what an import replaced. Returns (restored, left alone because changed since).

        Raises:
            NotFound: no such job, another token, or past its time.
            Conflict: it was undone before.
        """
        job = (await self.see(by, job_id)).job
        is_theirs = bool(job.undo_token) and hmac.compare_digest(token.encode(), job.undo_token.encode())
        if not is_theirs or job.finished_at is None or job.finished_at + UNDO_KEPT <= context.at:
            raise NotFound("撤销凭据无效或已过期", code=40404)
        if job.state is JobState.UNDONE:
            raise Conflict("该导入已经撤销")
        restored = left = 0
        looked = BATCH
        while looked:
            unit = (self._platform_id, job_id, BATCH, context.at, act_of(by, Source.FILE, "undo"))
            looked, done, skipped = await self._db.write(intake.undo, *unit)
            restored, left = restored + done, left + skipped
        details: dict[str, object] = {"jobId": job_id, "undone": restored, "leftAlone": left}
        entry = _entry(AuditTag.ARCHIVE_CHANGE, by, context, details)
        await self._db.write(_finish, replace(job, state=JobState.UNDONE), entry)
        return restored, left

    async def _begin(
        self,
        kind: JobKind,
        by: Subject,
        form: str,
        run: Runner,
        grants: tuple[str, ...],
        undo_token: str = "",
    ) -> Seen:
        await self.sweep()
        at, job_id = self._clock.at(), secrets.token_hex(12)
        job = Job(job_id, kind, JobState.QUEUED, _owner(by), form, at, at + FILE_KEPT)
        job = replace(job, grants=grants, undo_token=undo_token)
        await self._db.write(store.add_job, job)
        running = _Running(job, self._clock.now())
        self._running[job.id] = running
        running.task = asyncio.create_task(self._run(running, run), name=f"file-job-{job.id}")
        await asyncio.wait([running.task], timeout=PATIENCE_S)
        return await self.see(by, job.id)

    async def _run(self, running: _Running, run: Runner) -> None:
        """One job from its turn to its end, whatever that is."""
        try:
            async with self._turns:
                running.started_now = self._clock.now()
                started = replace(running.job, state=JobState.RUNNING, started_at=self._clock.at())
                running.job = started
                await self._db.write(store.put_job, started)
                running.job = await run(running)
        except asyncio.CancelledError:
            await self._end(running, JobState.CANCELLED, "已取消")
        except TongshiError as error:
            place = error.details if isinstance(error, Unprocessable) else {}
            await self._end(running, JobState.FAILED, error.message + _where(place))
        except OSError as error:
            log.warning("file_job_failed", job_id=running.job.id, error=str(error))
            await self._end(running, JobState.FAILED, "文件无法写入")
        except Exception:
            log.exception("file_job_crashed", job_id=running.job.id)
            await self._end(running, JobState.FAILED, "内部错误")
        finally:
            self._running.pop(running.job.id, None)

    async def _end(self, running: _Running, state: JobState, error: str) -> None:
        running.job = replace(running.job, state=state, error=error, finished_at=self._clock.at())
        with contextlib.suppress(TongshiError):
            await self._db.write(store.put_job, running.job)

    async def _export(
        self,
        running: _Running,
        form: Format,
        selection: Selection,
        key: Key,
        by: Subject,
        context: Context,
    ) -> Job:
        feed = await self._feed()
        position = await self._db.read(changes.head)
        total = await self._db.read(store.count_in, selection)
        origin = Origin(self._platform_id, feed, position, self._clock.at(), running.job.grants)
        path = self._path(running.job.id)
        writer = await asyncio.to_thread(PackageWriter, path, form)
        try:
            after = ""
            while rows := await self._db.read(store.export_page, selection, after, BATCH):
                await asyncio.to_thread(writer.add, rows)
                after = rows[-1].device_id
                running.job = replace(running.job, done=writer.count, total=max(total, writer.count))
            written = writer.sums.roots()
            whole = await self._db.read(store.roots, list(written))
            complete = frozenset(owner for owner, root in written.items() if whole[owner] == root)
            await asyncio.to_thread(writer.close, origin, complete, key)
            digest = await asyncio.to_thread(_sm3_of, path)
        except BaseException:
            await asyncio.to_thread(writer.discard)
            raise
        at = self._clock.at()
        done = replace(
            running.job,
            state=JobState.DONE,
            finished_at=at,
            expires_at=at + FILE_KEPT,
            size_bytes=path.stat().st_size,
            digest=digest,
            done=writer.count,
            total=writer.count,
        )
        details: dict[str, object] = {
            "jobId": done.id,
            "rows": done.done,
            "format": done.format,
            "sm3": digest,
            "keyId": key.id,
        }
        await self._db.write(
            _finish, done, _entry(AuditTag.ARCHIVE_EXPORT, by, context, details, done.grants)
        )
        return done

    async def _import(
        self,
        running: _Running,
        upload: Path,
        house: intake.House,
        by: Subject,
        context: Context,
        dry_run: bool,
        is_atomic: bool,
    ) -> Job:
        form = await asyncio.to_thread(sniff, upload)
        source = upload
        if form is None:
            source = upload.with_suffix(".data")
            opened = await asyncio.to_thread(open_package, upload, source)
            form = opened.manifest.format
            await self._check_signature(opened)
            running.job = replace(running.job, format=form.value, total=opened.manifest.count)
            if opened.manifest.platform != self._platform_id:
                return await self._import_neighbour(running, opened, by, context, dry_run)
        running.job = replace(running.job, format=form.value)
        tally = intake.Tally()
        rows = _Batches(read_rows(source, form))
        if is_atomic and not dry_run:
            every = _without_doubles(await rows.all(MAX_ATOMIC_ROWS), tally)
            self._count(
                running, tally, await self._db.read(intake.judge, house, every, self._clock.at()), every
            )
            if tally.rejected:
                return await self._ended(running, tally, by, context, JobState.REFUSED, dry_run)
            await self._db.write(intake.apply, house, running.job.id, every, self._clock.at())
            return await self._ended(running, tally, by, context, JobState.DONE, dry_run)
        while batch := await rows.next():
            fresh = _without_doubles(batch, tally)
            if dry_run:
                judged = await self._db.read(intake.judge, house, fresh, self._clock.at())
            else:
                judged = await self._db.write(intake.apply, house, running.job.id, fresh, self._clock.at())
            self._count(running, tally, judged, batch)
        is_taken = tally.inserted + tally.updated + tally.unchanged > 0 or not tally.rejected
        state = JobState.DONE if is_taken or dry_run else JobState.REFUSED
        return await self._ended(running, tally, by, context, state, dry_run)

    def _count(
        self, running: _Running, tally: intake.Tally, judged: intake.Judged, batch: list[ReadRow]
    ) -> None:
        tally.rows += len(batch)
        tally.inserted += sum(known is None for _, known in judged.changing)
        tally.updated += sum(known is not None for _, known in judged.changing)
        tally.unchanged += judged.unchanged
        for error in judged.refused:
            tally.refuse(error, MAX_ERRORS_SHOWN)
        running.job = replace(running.job, done=tally.rows)

    async def _ended(
        self,
        running: _Running,
        tally: intake.Tally,
        by: Subject,
        context: Context,
        state: JobState,
        dry_run: bool,
    ) -> Job:
        is_refused = state is JobState.REFUSED
        report = ImportReport(
            dry_run=dry_run,
            rows=tally.rows,
            inserted=0 if is_refused else tally.inserted,
            updated=0 if is_refused else tally.updated,
            unchanged=tally.unchanged,
            rejected=tally.rejected,
            errors=tally.errors,
        )
        done = replace(
            running.job,
            state=state,
            finished_at=self._clock.at(),
            report=report,
        )
        details: dict[str, object] = {
            "jobId": done.id,
            "dryRun": dry_run,
            "inserted": report.inserted,
            "updated": report.updated,
            "rejected": report.rejected,
        }
        await self._db.write(_finish, done, _entry(AuditTag.ARCHIVE_CHANGE, by, context, details))
        return done

    async def _check_signature(self, opened: Opened) -> None:
        """A package counts for nothing before it is known who signed it."""
        platform, key_id = opened.manifest.platform, opened.signature.key_id
        key: Key | None = None
        if platform != self._platform_id:
            key = await self._neighbours.key_of(platform, key_id)
        elif key_id == OWN_KEY:
            key = Key(OWN_KEY, await self._secrets.own())
        else:
            with contextlib.suppress(TongshiError):
                key = Key(key_id, (await self._secrets.grantee(key_id))[1])
        if key is None or not opened.is_signed_with(key):
            raise bad_file("文件包的签名无效，或签名者不是本平台的邻居", rule="signature")

    async def _import_neighbour(
        self, running: _Running, opened: Opened, by: Subject, context: Context, dry_run: bool
    ) -> Job:
        """A neighbour's package over a one-way link: the same path as an exchange full."""
        manifest = opened.manifest
        if not all(owner.is_complete for owner in manifest.owners):
            raise bad_file("该文件包不含其平台的全部设备，不能代替全量同步", rule="incomplete", code=42203)
        rows = _Batches(read_rows(opened.data, manifest.format))
        tally = intake.Tally()

        async def pages() -> list[DeviceArchive]:
            found: list[DeviceArchive] = []
            while not found and (batch := await rows.next()):
                tally.rows += len(batch)
                running.job = replace(running.job, done=tally.rows)
                for row in batch:
                    if row.error is not None:
                        tally.refuse(row.error, MAX_ERRORS_SHOWN)
                    elif row.archive is not None:
                        found.append(row.archive)
            return found

        report = ImportReport(dry_run=dry_run)
        refused: list[tuple[str, int, str]] = []
        if dry_run:
            while await pages():
                pass
        else:
            report, refused = await self._neighbours.take(manifest, pages)
        for device_id, code, message in refused:
            tally.refuse(RowError("", 0, "DeviceID", device_id, code, "exchange", message), MAX_ERRORS_SHOWN)
        whole = ImportReport(
            dry_run=dry_run,
            rows=tally.rows,
            inserted=report.inserted,
            updated=report.updated,
            unchanged=report.unchanged,
            rejected=tally.rejected,
            errors=tally.errors,
            equal=report.equal,
            missing=report.missing,
            held=report.held,
        )
        done = replace(running.job, state=JobState.DONE, finished_at=self._clock.at(), report=whole)
        details: dict[str, object] = {
            "jobId": done.id,
            "platform": manifest.platform,
            "rows": tally.rows,
            "equal": whole.equal,
            "dryRun": dry_run,
        }
        await self._db.write(_finish, done, _entry(AuditTag.EXCHANGE_PUSH, by, context, details))
        return done

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.part"


class _Batches:
    """Rows read in a worker thread, a batch at a time."""

    def __init__(self, rows: Iterator[ReadRow]) -> None:
        self._rows = rows

    async def next(self) -> list[ReadRow]:
        return await asyncio.to_thread(lambda: list(islice(self._rows, BATCH)))

    async def all(self, most: int) -> list[ReadRow]:
        """Every row. Raises Unprocessable when there are more than ``most``."""
        rows = await asyncio.to_thread(lambda: list(islice(self._rows, most + 1)))
        if len(rows) > most:
            raise bad_file(f"整体提交（atomic）最多 {most} 行", rule="rows", code=42203)
        return rows


def _without_doubles(batch: list[ReadRow], tally: intake.Tally) -> list[ReadRow]:
    """A device that the file names twice is refused the second time."""
    found: list[ReadRow] = []
    for row in batch:
        if row.archive is not None and row.archive.device_id in tally.seen:
            place = (row.sheet, row.number, "DeviceID", row.archive.device_id)
            error = RowError(*place, 40902, "duplicate", "该编码在文件中已出现过")
            found.append(ReadRow(row.sheet, row.number, error=error))
            continue
        if row.archive is not None:
            tally.seen.add(row.archive.device_id)
        found.append(row)
    return found


def _finish(conn: Connection, job: Job, entry: audit.AuditEntry) -> None:
    store.put_job(conn, job)
    audit.append(conn, entry)


def _entry(
    event: AuditTag, by: Subject, context: Context, details: dict[str, object], grants: tuple[str, ...] = ()
) -> audit.AuditEntry:
    return audit.AuditEntry(
        context.at,
        event,
        Outcome.DONE,
        by.kind.value,
        by.id,
        by.name,
        "file_job",
        str(details["jobId"]),
        address=context.address,
        request_id=context.request_id,
        grant_number=",".join(grants),
        details={**details, "grants": list(grants)[:100]} if grants else details,
    )


def _where(place: Mapping[str, object]) -> str:
    """Where in a file something is wrong, for people."""
    said = ("工作表 {}", place.get("sheet")), ("第 {} 行", place.get("row")), ("列 {}", place.get("column"))
    words = "，".join(form.format(value) for form, value in said if value)
    return f"（{words}）" if words else ""


def _owner(by: Subject) -> str:
    return f"{by.kind.value}:{by.id}"


def _sm3_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new("sm3")).hexdigest()
