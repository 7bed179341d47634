"""Jobs of this process while they run, and how their end is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.resources.files import store
from tongshi.resources.files.model import Job
from tongshi.sharing.model import Context, Subject


@dataclass(slots=True)
class Running:
    """A job while it runs; ``job`` is replaced as it goes on."""

    job: Job
    started_now: float
    task: asyncio.Task[None] | None = None


Runner = Callable[[Running], Awaitable[Job]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as it stands, with its rate in rows a second and the seconds that remain."""

    job: Job
    rate: float | None = None
    remaining_s: float | None = None


def owner_of(by: Subject) -> str:
    """Whose job it is."""
    return f"{by.kind.value}:{by.id}"


def finish(conn: Connection, job: Job, entry: audit.AuditEntry) -> None:
    """Keep the end of a job together with its audit record."""
    store.put_job(conn, job)
    audit.append(conn, entry)


def entry(
    event: AuditTag, by: Subject, context: Context, details: dict[str, object], grants: tuple[str, ...] = ()
) -> audit.AuditEntry:
    """The audit record of what a job did."""
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
