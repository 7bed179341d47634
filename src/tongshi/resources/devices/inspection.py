"""Holds every archive against the rules, behind the writers: first all of them, then whatever changes.

It follows the change feed from a remembered position, so that storing an archive costs nothing more and a
restart loses nothing. Between two batches it rests: an exchange that runs at the same time goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import structlog
from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import Gone, TongshiError
from tongshi.resources.devices import inspection_store as issues
from tongshi.resources.devices import reading_store
from tongshi.resources.devices import store as archives
from tongshi.resources.devices.inspection_store import IssueFilters, IssueRow, Position
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.rules.check import EDITION, check
from tongshi.sharing.model import Scope
from tongshi.storage import changes
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

BATCH = 500
LOOK_S = 2.0
REST_S = 0.05
_KINDS = frozenset({archives.KIND, archives.KIND_STATUS})
_Found = dict[str, tuple[str, ...]]


class Inspection:
    """Issues of all archives. ``start`` keeps them current; the rest reads them."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow; returns at once."""
        assert self._task is None, "started twice"
        self._task = asyncio.create_task(self._run(), name="inspection")

    async def stop(self) -> None:
        """End and wait for it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def step(self) -> bool:
        """Inspect one batch. Returns whether more is waiting."""
        found, reached, is_more = await self._db.read(_next_batch, self._clock.at())
        if reached is not None:
            await self._db.write(issues.put, found, reached)
        return is_more

    async def is_current(self) -> bool:
        """Whether the issues show all that was stored until now."""
        return await self._db.read(_is_current)

    async def page(
        self, scope: Scope, filters: IssueFilters, page_no: int, page_size: int
    ) -> tuple[list[IssueRow], int]:
        """One page of issues that the caller may see, and how many that is in all."""
        return await self._db.read(issues.page, scope, filters, page_no, page_size)

    async def counts(
        self, scope: Scope, filters: IssueFilters, by: Literal["", "owner", "civil_code"] = ""
    ) -> list[tuple[str, str, int]]:
        """``(group, rule, devices)`` that the caller may see."""
        return await self._db.read(issues.counts, scope, filters, by)

    async def _run(self) -> None:
        while True:
            is_more = False
            try:
                is_more = await self.step()
            except TongshiError as error:
                log.warning("inspection_delayed", error=error.message)
            except Exception:
                # A defect here must not end the program's other work; the next look tries again.
                log.exception("inspection_failed")
            await asyncio.sleep(REST_S if is_more else LOOK_S)


def _next_batch(conn: Connection, at: datetime) -> tuple[_Found, Position | None, bool]:
    """Issues of the next devices, the position after them (None: nothing new), and whether more waits."""
    known = issues.position(conn)
    if known.edition != EDITION:
        known = Position(EDITION, changes.head(conn))
    if known.after is not None:
        page = reading_store.iter_owned(conn, None, known.after, BATCH)
        after = page[-1].device_id if len(page) == BATCH else None
        return _broken(page, at), Position(EDITION, known.seq, after), True
    try:
        news = changes.read_after(conn, known.seq, BATCH)
    except Gone:
        return {}, Position(EDITION, changes.head(conn)), True
    if not news:
        return {}, None, False
    keys = sorted({change.key for change in news if change.kind in _KINDS})
    found: _Found = dict.fromkeys(keys, ())
    found.update(_broken(archives.get_many(conn, keys).values(), at))
    return found, Position(EDITION, news[-1].seq, None), len(news) == BATCH


def _broken(page: Iterable[DeviceArchive], at: datetime) -> _Found:
    """Rules broken by id; what its owner no longer has is not complained of."""
    return {
        archive.device_id: tuple(issue.rule for issue in check(archive, at))
        for archive in page
        if archive.missing_since is None
    }


def _is_current(conn: Connection) -> bool:
    known = issues.position(conn)
    return known.edition == EDITION and known.after is None and known.seq >= changes.head(conn)
