"""One import from the upload to its report: a person's file row by row, or a neighbour's package.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from msgspec import structs

from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.files import intake
from tongshi.resources.files.doubles import Doubles
from tongshi.resources.files.jobs import Running, entry, finish
from tongshi.resources.files.model import (
    BATCH,
    MAX_ATOMIC_ROWS,
    MAX_ERRORS_SHOWN,
    ImportReport,
    Job,
    JobState,
    Manifest,
    ReadRow,
    RowError,
    bad_file,
)
from tongshi.resources.files.package import Key, Opened, open_package
from tongshi.resources.files.refused import RefusedRows
from tongshi.resources.files.rows import estimate, read_rows, sniff
from tongshi.sharing.model import Context, Subject
from tongshi.storage.engine import Database

OWN_KEY = "platform"


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

    async def check_age(self, manifest: Manifest) -> None:
        """Raises Conflict for a package older than what is known of its feed."""
        ...


class Secrets(Protocol):
    """The platform's own secret, and those of keys."""

    async def own(self) -> str: ...
    async def grantee(self, key_id: str) -> tuple[Subject, str]: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be taken in, for whom and how; the caller removes ``upload`` and ``.data``."""

    upload: Path
    refused: Path
    house: intake.House
    by: Subject
    context: Context
    is_dry_run: bool
    is_atomic: bool


@dataclass(frozen=True, slots=True)
class Importer:
    """Takes files in."""

    db: Database
    clock: Clock
    secrets: Secrets
    neighbours: Neighbours
    platform_id: str

    async def run(self, running: Running, order: Order) -> Job:
        """Read, judge, store. Raises Unprocessable for a file that cannot be read at all."""
        form = await asyncio.to_thread(sniff, order.upload)
        source = order.upload
        opened: Opened | None = None
        if form is None:
            source = order.upload.with_suffix(".data")
            opened = await asyncio.to_thread(open_package, order.upload, source)
            form = opened.manifest.format
            await self._check_signature(opened)
            total = opened.manifest.count
        else:
            total = await asyncio.to_thread(estimate, source, form)
        running.job = replace(running.job, format=form.value, total=total)
        ledger, rows = _Ledger(running, order), _Batches(read_rows(source, form))
        try:
            if opened is not None and opened.manifest.platform != self.platform_id:
                return await self._take_neighbours(ledger, rows, opened.manifest)
            return await self._take_rows(ledger, rows)
        finally:
            await rows.close()
            await asyncio.to_thread(ledger.close)

    async def _take_rows(self, ledger: _Ledger, rows: _Batches) -> Job:
        order = ledger.order
        if order.is_atomic and not order.is_dry_run:
            every = await asyncio.to_thread(ledger.without_doubles, await rows.all(MAX_ATOMIC_ROWS))
            judged = await self.db.read(intake.judge, order.house, every)
            await ledger.count(judged, len(every))
            if ledger.tally.rejected:
                return await self._ended(ledger, JobState.REFUSED)
            await self.db.write(intake.apply, order.house, ledger.running.job.id, every, self.clock.at())
            return await self._ended(ledger, JobState.DONE)
        while batch := await rows.next():
            fresh = await asyncio.to_thread(ledger.without_doubles, batch)
            if order.is_dry_run:
                judged = await self.db.read(intake.judge, order.house, fresh)
            else:
                unit = (order.house, ledger.running.job.id, fresh, self.clock.at())
                judged = await self.db.write(intake.apply, *unit)
            await ledger.count(judged, len(batch))
        tally = ledger.tally
        is_taken = tally.inserted + tally.updated + tally.unchanged > 0 or not tally.rejected
        return await self._ended(ledger, JobState.DONE if is_taken or order.is_dry_run else JobState.REFUSED)

    async def _ended(self, ledger: _Ledger, state: JobState) -> Job:
        order = ledger.order
        report = ledger.report()
        if state is JobState.REFUSED:
            report = structs.replace(report, inserted=0, updated=0)
        details: dict[str, object] = {
            "dryRun": order.is_dry_run,
            "inserted": report.inserted,
            "updated": report.updated,
            "rejected": report.rejected,
        }
        return await self._keep(ledger, state, report, AuditTag.ARCHIVE_CHANGE, details)

    async def _keep(
        self,
        ledger: _Ledger,
        state: JobState,
        report: ImportReport,
        tag: AuditTag,
        details: dict[str, object],
    ) -> Job:
        job = ledger.running.job
        rows = ledger.tally.rows
        done = replace(job, state=state, done=rows, total=rows, finished_at=self.clock.at(), report=report)
        note = entry(tag, ledger.order.by, ledger.order.context, {"jobId": job.id, **details})
        await self.db.write(finish, done, note)
        return done

    async def _check_signature(self, opened: Opened) -> None:
        """A package counts for nothing before it is known who signed it."""
        platform, key_id = opened.manifest.platform, opened.signature.key_id
        key: Key | None = None
        if platform != self.platform_id:
            key = await self.neighbours.key_of(platform, key_id)
        elif key_id == OWN_KEY:
            key = Key(OWN_KEY, await self.secrets.own())
        else:
            with contextlib.suppress(TongshiError):
                key = Key(key_id, (await self.secrets.grantee(key_id))[1])
        if key is None:
            raise bad_file(
                f"文件包的签名者不是本平台的邻居：平台 {platform}，密钥 {key_id[:64]}", rule="signer"
            )
        if not opened.is_signed_with(key):
            raise bad_file(
                "文件包的签名无效：清单在签名之后被改动，或签名所用的密钥与双方约定的不同", rule="signature"
            )

    async def _take_neighbours(self, ledger: _Ledger, rows: _Batches, manifest: Manifest) -> Job:
        """A neighbour's package over a one-way link: the same path as an exchange full."""
        if not all(owner.is_complete for owner in manifest.owners):
            raise bad_file("该文件包不含其平台的全部设备，不能代替全量同步", rule="incomplete", code=42203)
        await self.neighbours.check_age(manifest)
        tally, is_dry_run = ledger.tally, ledger.order.is_dry_run

        async def pages() -> list[DeviceArchive]:
            found: list[DeviceArchive] = []
            while not found and (batch := await rows.next()):
                refused = [row.error for row in batch if row.error is not None]
                await ledger.refuse(refused, len(batch))
                found = [row.archive for row in batch if row.archive is not None]
            return found

        taken = ImportReport(dry_run=is_dry_run)
        refused: list[tuple[str, int, str]] = []
        if is_dry_run:
            while await pages():
                pass
        else:
            taken, refused = await self.neighbours.take(manifest, pages)
        await ledger.refuse([RowError("", 0, "DeviceID", d, c, "exchange", m) for d, c, m in refused], 0)
        report = structs.replace(taken, rows=tally.rows, rejected=tally.rejected, errors=tally.errors)
        details: dict[str, object] = {
            "platform": manifest.platform,
            "rows": tally.rows,
            "equal": report.equal,
            "dryRun": is_dry_run,
        }
        return await self._keep(ledger, JobState.DONE, report, AuditTag.EXCHANGE_PUSH, details)


class _Ledger:
    """What became of the rows of one import, and what of it stands on disk."""

    def __init__(self, running: Running, order: Order) -> None:
        self.running = running
        self.order = order
        self.tally = intake.Tally()
        self._doubles = Doubles()
        self._refused = RefusedRows(order.refused)

    def without_doubles(self, batch: list[ReadRow]) -> list[ReadRow]:
        """A device that the file names twice is refused the second time."""
        seen = self._doubles.add([row.archive.device_id for row in batch if row.archive is not None])
        found: list[ReadRow] = []
        for row in batch:
            if row.archive is not None and row.archive.device_id in seen:
                place = (row.sheet, row.number, "DeviceID", row.archive.device_id)
                error = RowError(*place, 40902, "duplicate", "该编码在文件中已出现过")
                found.append(ReadRow(row.sheet, row.number, error=error))
                continue
            if row.archive is not None:
                seen.add(row.archive.device_id)
            found.append(row)
        return found

    async def count(self, judged: intake.Judged, rows: int) -> None:
        """Add a batch that was judged."""
        tally = self.tally
        tally.inserted += sum(change.known is None for change in judged.changing)
        tally.updated += sum(change.known is not None for change in judged.changing)
        tally.unchanged += judged.unchanged
        await self.refuse(judged.refused, rows)

    async def refuse(self, errors: Sequence[RowError], rows: int) -> None:
        """Add rows that were looked at, and those among them that were refused."""
        tally = self.tally
        tally.rows += rows
        tally.rejected += len(errors)
        tally.errors += errors[: max(MAX_ERRORS_SHOWN - len(tally.errors), 0)]
        await asyncio.to_thread(self._refused.add, errors)
        job = self.running.job
        total = job.total and max(job.total, tally.rows)
        self.running.job = replace(job, done=tally.rows, total=total, report=self.report())

    def report(self) -> ImportReport:
        """What became of the rows so far: what a job that breaks off has done stands in it."""
        tally = self.tally
        return ImportReport(
            dry_run=self.order.is_dry_run,
            rows=tally.rows,
            inserted=tally.inserted,
            updated=tally.updated,
            unchanged=tally.unchanged,
            rejected=tally.rejected,
            errors=tally.errors,
        )

    def close(self) -> None:
        """Let go of files."""
        self._doubles.close()
        self._refused.close()


class _Batches:
    """Rows read in a worker thread, a batch at a time, the next one while the last is being stored."""

    def __init__(self, rows: Iterator[ReadRow]) -> None:
        self._rows = rows
        self._ahead: asyncio.Task[list[ReadRow]] | None = None

    async def next(self) -> list[ReadRow]:
        """The next rows; none at the end."""
        batch = await (self._ahead or self._take(BATCH))
        self._ahead = self._take(BATCH) if batch else None
        return batch

    async def all(self, most: int) -> list[ReadRow]:
        """Every row. Raises Unprocessable when there are more than ``most``."""
        rows = await self._take(most + 1)
        if len(rows) > most:
            raise bad_file(f"整体提交（atomic）最多 {most} 行", rule="rows", code=42203)
        return rows

    async def close(self) -> None:
        """Wait for what is being read, so that its file may be removed."""
        if self._ahead is not None:
            await asyncio.gather(self._ahead, return_exceptions=True)

    def _take(self, most: int) -> asyncio.Task[list[ReadRow]]:
        return asyncio.create_task(asyncio.to_thread(lambda: list(islice(self._rows, most))))
