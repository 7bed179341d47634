"""One export from its first page to the signed package.

Implements: DB31DSJ/Z 001-2024 6.1

It takes pages of the living table, so a row may be newer than the position the manifest names, never older.
An owner is called complete when what was written equals all it has once the last page is out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.resources.devices.selection import Selection
from tongshi.resources.files import store
from tongshi.resources.files.jobs import Running, entry, finish
from tongshi.resources.files.model import BATCH, FILE_KEPT, Format, Job, JobState
from tongshi.resources.files.package import Key, Origin, PackageWriter
from tongshi.sharing.model import Context, Subject
from tongshi.storage import changes
from tongshi.storage.engine import Database


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes packages of this platform."""

    db: Database
    clock: Clock
    platform_id: str
    feed: Callable[[], Awaitable[str]]

    async def run(
        self,
        running: Running,
        path: Path,
        form: Format,
        selection: Selection,
        key: Key,
        by: Subject,
        context: Context,
    ) -> Job:
        """Write the package to ``path``; whatever ends it early leaves none."""
        feed = await self.feed()
        position = await self.db.read(changes.head)
        total = await self.db.read(store.count_in, selection)
        origin = Origin(self.platform_id, feed, position, self.clock.at(), running.job.grants)
        running.job = replace(running.job, total=total)
        writer = await asyncio.to_thread(PackageWriter, path, form)
        try:
            await self._write(running, writer, selection)
            written = writer.sums.roots()
            whole = await self.db.read(store.roots, list(written))
            complete = frozenset(owner for owner, root in written.items() if whole[owner] == root)
            await asyncio.to_thread(writer.close, origin, complete, key)
            size_bytes, digest = await asyncio.to_thread(_size_and_sm3, path)
        except BaseException:
            await asyncio.to_thread(writer.discard)
            raise
        at = self.clock.at()
        done = replace(
            running.job,
            state=JobState.DONE,
            finished_at=at,
            expires_at=at + FILE_KEPT,
            size_bytes=size_bytes,
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
        note = entry(AuditTag.ARCHIVE_EXPORT, by, context, details, done.grants)
        await self.db.write(finish, done, note)
        return done

    async def _write(self, running: Running, writer: PackageWriter, selection: Selection) -> None:
        after = ""
        while rows := await self.db.read(store.export_page, selection, after, BATCH):
            await asyncio.to_thread(writer.add, rows)
            after = rows[-1].device_id
            total = max(running.job.total, writer.count)
            running.job = replace(running.job, done=writer.count, total=total)


def _size_and_sm3(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, lambda: hashlib.new("sm3")).hexdigest()
