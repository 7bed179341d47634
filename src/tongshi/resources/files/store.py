"""Jobs, what an import replaced, and the rows of an export."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, exists, func, insert, or_, select, update

from tongshi.errors import LimitExceeded
from tongshi.resources.devices import digest_store, query_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.resources.files.model import (
    FINAL,
    MAX_JOBS,
    MAX_JOBS_OF_A_CALLER,
    Head,
    ImportReport,
    Job,
    JobKind,
    JobState,
)
from tongshi.storage.bulk import among, bulk_upsert, chunks
from tongshi.storage.schema import device_archive, file_job, file_undo
from tongshi.storage.times import from_ms, to_ms

Row = Any  # a row of a select on file_job
_j = file_job.c
_u = file_undo.c
_a = device_archive.c


def add_job(conn: Connection, job: Job) -> None:
    """Keep a new job. Raises LimitExceeded when too many are kept for all or for its owner."""
    total = conn.execute(select(func.count()).select_from(file_job)).scalar_one()
    own = conn.execute(select(func.count()).select_from(file_job).where(_j.owner == job.owner)).scalar_one()
    if total >= MAX_JOBS or own >= MAX_JOBS_OF_A_CALLER:
        raise LimitExceeded("文件任务过多，请稍后再试", code=42902, retry_after_s=600)
    conn.execute(
        insert(file_job).values(
            id=job.id,
            kind=job.kind.value,
            state=job.state.value,
            owner=job.owner,
            format=job.format,
            created_at=to_ms(job.created_at),
            expires_at=to_ms(job.expires_at),
            grants="/".join(job.grants),
            undo_token=job.undo_token,
        )
    )


def get_job(conn: Connection, job_id: str) -> Job | None:
    """One job or None."""
    row = conn.execute(select(file_job).where(_j.id == job_id)).one_or_none()
    return None if row is None else _from_row(row)


def jobs_of(conn: Connection, owner: str) -> list[Job]:
    """Every job of a caller, the youngest first; at most ``MAX_JOBS_OF_A_CALLER``."""
    statement = select(file_job).where(_j.owner == owner).order_by(_j.created_at.desc(), _j.id)
    return [_from_row(row) for row in conn.execute(statement)]


def put_job(conn: Connection, job: Job) -> None:
    """Keep how a job stands now."""
    conn.execute(
        update(file_job)
        .where(_j.id == job.id)
        .values(
            state=job.state.value,
            format=job.format,
            expires_at=to_ms(job.expires_at),
            row_count=job.done,
            total=job.total,
            started_at=None if job.started_at is None else to_ms(job.started_at),
            finished_at=None if job.finished_at is None else to_ms(job.finished_at),
            error=job.error[:500],
            size_bytes=job.size_bytes,
            digest=job.digest,
            report="" if job.report is None else msgspec.json.encode(job.report).decode(),
        )
    )


def fail_interrupted(conn: Connection, at: datetime) -> int:
    """Jobs that ran when the platform stopped did not end. Returns how many."""
    states = [state.value for state in JobState if state not in FINAL]
    ended = conn.execute(
        update(file_job)
        .where(_j.state.in_(states))
        .values(state=JobState.FAILED.value, finished_at=to_ms(at), error="平台重新启动，任务中断")
    )
    return ended.rowcount


def without_undo(conn: Connection, at: datetime, ended_before: datetime) -> list[str]:
    """Jobs that keep what nobody may undo any more: past their time, or ended before then."""
    is_over = or_(_j.expires_at <= to_ms(at), _j.finished_at <= to_ms(ended_before))
    has_some = exists().where(_u.job_id == _j.id)
    return list(conn.execute(select(_j.id).where(is_over, has_some)).scalars())


def drop_some_undo(conn: Connection, job_id: str, limit: int) -> int:
    """Forget some of what a job would restore: a million at once would hold up every other writer."""
    some = select(_u.device_id).where(_u.job_id == job_id).order_by(_u.device_id).limit(limit)
    keys = list(conn.execute(some).scalars())
    drop_undo(conn, job_id, keys)
    return len(keys)


def count_undo(conn: Connection, job_id: str) -> int:
    """How many rows an undo would look at."""
    return conn.execute(select(func.count()).select_from(file_undo).where(_u.job_id == job_id)).scalar_one()


def drop_expired(conn: Connection, at: datetime) -> list[str]:
    """Forget jobs past their time. Returns their ids."""
    expired = list(conn.execute(select(_j.id).where(_j.expires_at <= to_ms(at))).scalars())
    for chunk in chunks(expired):
        conn.execute(delete(file_undo).where(_u.job_id.in_(chunk)))
        conn.execute(delete(file_job).where(_j.id.in_(chunk)))
    return expired


def ids_with_files(conn: Connection) -> tuple[set[str], set[str]]:
    """Ids of all jobs, and of exports whose package is whole."""
    is_whole = (_j.kind == JobKind.EXPORT.value, _j.state == JobState.DONE.value)
    known = set(conn.execute(select(_j.id)).scalars())
    return known, set(conn.execute(select(_j.id).where(*is_whole)).scalars())


def export_page(conn: Connection, selection: Selection, after_key: str, limit: int) -> list[DeviceArchive]:
    """The next archives of a selection in order of DeviceID."""
    ids = [key for key, _ in query_store.keys(conn, selection, Sort.ID, limit, [after_key, after_key])]
    found = devices.get_many(conn, ids)
    return [found[key] for key in ids if key in found]


def count_in(conn: Connection, selection: Selection) -> int:
    """Archives of a selection."""
    return query_store.count(conn, selection)


def heads(conn: Connection, device_ids: Sequence[str]) -> dict[str, Head]:
    """What is known of these devices, missing ones too."""
    columns = (_a.device_id, _a.owner_platform, _a.civil_code, _a.revision, _a.digest, _a.missing_since)
    found: dict[str, Head] = {}
    for chunk in chunks(device_ids):
        for row in conn.execute(select(*columns).where(among(conn, _a.device_id, chunk))):
            device_id, owner, code, revision, digest, missing_since = row
            found[device_id] = Head(owner, code, revision, bytes(digest), missing_since is not None)
    return found


def roots(conn: Connection, owners: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Count and hexadecimal digest of all present archives of owners."""
    found = {owner: digest_store.root_digest(conn, owner) for owner in owners}
    return {owner: (count, value.hex()) for owner, (count, value) in found.items()}


def keep_for_undo(
    conn: Connection, job_id: str, rows: Sequence[tuple[str, DeviceArchive | None, bytes]]
) -> None:
    """Note ``(device id, archive before, digest after)`` of rows that an import touched."""
    encoded = [
        (job_id, key, "" if before is None else msgspec.json.encode(before).decode(), after)
        for key, before, after in rows
    ]
    bulk_upsert(conn, file_undo, ("job_id", "device_id", "before", "after_digest"), encoded)


def kept_for_undo(conn: Connection, job_id: str, limit: int) -> list[tuple[str, DeviceArchive | None, bytes]]:
    """The next rows that an undo restores."""
    statement = select(_u.device_id, _u.before, _u.after_digest).where(_u.job_id == job_id)
    return [
        (key, msgspec.json.decode(before, type=DeviceArchive) if before else None, bytes(after))
        for key, before, after in conn.execute(statement.order_by(_u.device_id).limit(limit))
    ]


def drop_undo(conn: Connection, job_id: str, device_ids: Sequence[str]) -> None:
    """Rows that were restored, or cannot be any more."""
    for chunk in chunks(device_ids):
        conn.execute(delete(file_undo).where(_u.job_id == job_id, _u.device_id.in_(chunk)))


def _from_row(row: Row) -> Job:
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        owner=row.owner,
        format=row.format,
        created_at=from_ms(int(row.created_at)),
        expires_at=from_ms(int(row.expires_at)),
        done=row.row_count,
        total=row.total,
        started_at=from_ms(row.started_at),
        finished_at=from_ms(row.finished_at),
        error=row.error,
        size_bytes=row.size_bytes,
        digest=row.digest,
        grants=tuple(row.grants.split("/")) if row.grants else (),
        report=msgspec.json.decode(row.report, type=ImportReport) if row.report else None,
        undo_token=row.undo_token,
    )
