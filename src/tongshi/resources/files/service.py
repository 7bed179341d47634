"""Exports, imports and their jobs: started, watched, cancelled, kept for a while.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import Conflict, Forbidden, NotFound, TongshiError, Unprocessable
from tongshi.resources.devices.editing import act_of
from tongshi.resources.devices.model import Source
from tongshi.resources.devices.selection import Selection
from tongshi.resources.files import intake, store
from tongshi.resources.files.exporting import Exporter
from tongshi.resources.files.importing import OWN_KEY, Importer, Neighbours, Order, Secrets
from tongshi.resources.files.jobs import Runner, Running, Seen, entry, finish, owner_of
from tongshi.resources.files.model import (
    BATCH,
    FILE_KEPT,
    MAX_RUNNING,
    UNDO_KEPT,
    Format,
    Job,
    JobKind,
    JobState,
    Signature,
    bad_file,
    parquet_missing,
)
from tongshi.resources.files.package import Key, signature_of
from tongshi.resources.files.parquet_writer import is_installed
from tongshi.sharing.decision import Access
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.web.uploads import full_disk

log = structlog.get_logger(__name__)

# A short job is answered with its end instead of its beginning.
PATIENCE_S = 1.0
EVERYTHING = Selection(Scope())
# What this feature leaves in its folder; anything else there is not ours to remove.
_OURS = re.compile(r"([0-9a-f]{24})\.(part|data|upload|errors\.csv)\Z")


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
        self.folder = folder
        self._platform_id = platform_id
        self._exporter = Exporter(db, clock, platform_id, feed)
        self._importer = Importer(db, clock, secrets_, neighbours, platform_id)
        self._running: dict[str, Running] = {}
        self._turns = asyncio.Semaphore(MAX_RUNNING)

    async def start(self) -> None:
        """Say of jobs that a stop interrupted that they failed; forget what is past its time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._db.write(store.fail_interrupted, self._clock.at())
        await self.sweep()
        known, whole = await self._db.read(store.ids_with_files)
        await asyncio.to_thread(self._remove_leftovers, known, whole)

    async def stop(self) -> None:
        """End what runs."""
        tasks = [running.task for running in self._running.values() if running.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """Forget jobs past their time, their files, and what nobody may undo any more."""
        at = self._clock.at()
        for job_id in await self._db.read(store.without_undo, at, at - UNDO_KEPT):
            while await self._db.write(store.drop_some_undo, job_id, BATCH):
                continue
        for job_id in await self._db.write(store.drop_expired, at):
            for path in (self._path(job_id), self._refused_path(job_id)):
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

        async def run(running: Running) -> Job:
            path, selection = self._path(running.job.id), replace(wanted, scope=scope)
            return await self._exporter.run(running, path, form, selection, key, by, context)

        return await self._begin(JobKind.EXPORT, by, form.value, run, grants)

    async def take(
        self, by: Subject, file: Path, context: Context, *, dry_run: bool, is_atomic: bool
    ) -> Seen:
        """Take in a file: in a dry run say what it would do, else put the good rows in.

        Args:
            file: moved away; it lies on the file system of ``folder``.

        Raises:
            Unprocessable: an empty file.
        """
        scope = await self._access.scope(by, Permission.ARCHIVE_READ, context)
        house = intake.House(self._platform_id, scope, self._platform_id, act_of(by, Source.FILE))
        upload = self.folder / f"{secrets.token_hex(12)}.upload"
        await asyncio.to_thread(_move, file, upload)

        async def run(running: Running) -> Job:
            refused = self._refused_path(running.job.id)
            try:
                order = Order(upload, refused, house, by, context, dry_run, is_atomic)
                return await self._importer.run(running, order)
            finally:
                upload.unlink(missing_ok=True)
                upload.with_suffix(".data").unlink(missing_ok=True)

        # Known before the first row is stored: what a crash leaves behind can be undone by its caller.
        token = "" if dry_run else secrets.token_urlsafe(18)
        try:
            return await self._begin(JobKind.IMPORT, by, "", run, (), token)
        except TongshiError:
            upload.unlink(missing_ok=True)
            raise

    async def see(self, by: Subject, job_id: str) -> Seen:
        """A job of the caller. Raises NotFound for another's too."""
        running = self._running.get(job_id)
        job = running.job if running else await self._db.read(store.get_job, job_id)
        if job is None or job.owner != owner_of(by):
            raise NotFound("没有这个任务", code=40404)
        return self._seen(job)

    async def mine(self, by: Subject) -> list[Seen]:
        """Every job of the caller, the youngest first."""
        kept = await self._db.read(store.jobs_of, owner_of(by))
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

    async def refused(self, by: Subject, job_id: str) -> Path:
        """Every refused row of an import as CSV. Raises NotFound when there are none (any more)."""
        job = (await self.see(by, job_id)).job
        path = self._refused_path(job_id)
        if job.expires_at <= self._clock.at() or not path.is_file():
            raise NotFound("该任务没有被拒绝的行，或已过保存期", code=40404)
        return path

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
        if job_id in self._running:
            raise Conflict("该导入正在进行或正在撤销")
        total = await self._db.read(store.count_undo, job_id)
        undoing = replace(job, state=JobState.RUNNING, done=0, total=total)
        running = self._running[job_id] = Running(undoing, self._clock.now())
        try:
            return await self._undo(running, job, by, context)
        finally:
            self._running.pop(job_id, None)

    async def _undo(self, running: Running, job: Job, by: Subject, context: Context) -> tuple[int, int]:
        restored = left = 0
        looked = BATCH
        while looked:
            unit = (self._platform_id, job.id, BATCH, context.at, act_of(by, Source.FILE, "undo"))
            looked, done, skipped = await self._db.write(intake.undo, *unit)
            restored, left = restored + done, left + skipped
            running.job = replace(running.job, done=restored + left)
        details: dict[str, object] = {"jobId": job.id, "undone": restored, "leftAlone": left}
        note = entry(AuditTag.ARCHIVE_CHANGE, by, context, details)
        await self._db.write(finish, replace(job, state=JobState.UNDONE), note)
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
        job = Job(job_id, kind, JobState.QUEUED, owner_of(by), form, at, at + FILE_KEPT)
        job = replace(job, grants=grants, undo_token=undo_token)
        await self._db.write(store.add_job, job)
        running = Running(job, self._clock.now())
        self._running[job.id] = running
        running.task = asyncio.create_task(self._run(running, run), name=f"file-job-{job.id}")
        await asyncio.wait([running.task], timeout=PATIENCE_S)
        return await self.see(by, job.id)

    async def _run(self, running: Running, run: Runner) -> None:
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
            where = _place(error.details) if isinstance(error, Unprocessable) else ""
            await self._end(running, JobState.FAILED, error.message + where)
        except OSError as error:
            log.warning("file_job_failed", job_id=running.job.id, error=str(error))
            await self._end(running, JobState.FAILED, full_disk(error).message)
        except Exception:
            log.exception("file_job_crashed", job_id=running.job.id)
            await self._end(running, JobState.FAILED, "内部错误")
        finally:
            self._running.pop(running.job.id, None)

    async def _end(self, running: Running, state: JobState, error: str) -> None:
        running.job = replace(running.job, state=state, error=error, finished_at=self._clock.at())
        with contextlib.suppress(TongshiError):
            await self._db.write(store.put_job, running.job)

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.part"

    def _refused_path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.errors.csv"

    def _remove_leftovers(self, known: set[str], whole: set[str]) -> None:
        """What a killed process left: half a package, an upload that nobody reads any more."""
        for path in self.folder.iterdir():
            match = _OURS.match(path.name)
            if match is None:
                continue
            kept = {"part": whole, "errors.csv": known}.get(match.group(2), set())
            if match.group(1) not in kept:
                path.unlink(missing_ok=True)


def _move(file: Path, to: Path) -> None:
    if not file.stat().st_size:
        raise bad_file("文件为空", rule="empty")
    file.replace(to)


def _place(details: Mapping[str, object]) -> str:
    """Where a file is broken, for a person."""
    parts = [
        f"工作表 {details['sheet']}" if details.get("sheet") else "",
        f"第 {details['row']} 行" if details.get("row") else "",
        f"列 {details['column']}" if details.get("column") else "",
    ]
    told = "，".join(part for part in parts if part)
    return f"（{told}）" if told else ""
