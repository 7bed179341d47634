"""What grows is cut back: once an hour, a step at a time, whatever is kept for a set time.

Implements: DB31DSJ/Z 001-2024 7.3

A task that fails does not keep the others from their turn; the next hour tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.resources.alarms import model as alarm_model
from tongshi.resources.alarms import store as alarm_store
from tongshi.resources.devices import history_store
from tongshi.sharing import answer_store, quota_store
from tongshi.storage import changes
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

INTERVAL_S = 3_600.0
# A task that has more to do goes on after so long; others write meanwhile.
STEP_PAUSE_S = 0.2
MAX_STEPS = 500

# Rows of one step, so that no write waits long for a step to end.
HISTORY_AT_ONCE = 5_000
AUDIT_AT_ONCE = 2_000
ANSWERS_AT_ONCE = 500
COUNTERS_AT_ONCE = 500


def _cut_history(conn: Connection, before: datetime) -> int:
    return history_store.sweep(conn, before, HISTORY_AT_ONCE)


def _cut_audit(conn: Connection, before: datetime) -> int:
    return audit.purge(conn, before, before + audit.RETENTION, AUDIT_AT_ONCE)


def _cut_answers(conn: Connection, before: datetime) -> int:
    return answer_store.forget(conn, before, ANSWERS_AT_ONCE)


def _cut_counters(conn: Connection, before: datetime) -> int:
    return quota_store.forget(conn, before, COUNTERS_AT_ONCE)


# Forgets what is older than a time, a bounded number at once, and says how many went.
Forget = Callable[[Connection, datetime], int]
TASKS: dict[str, tuple[Forget, timedelta]] = {
    "change feed": (changes.compact, changes.KEEP),
    "alarms": (alarm_store.forget, alarm_model.KEEP),
    "history of records": (_cut_history, history_store.KEPT),
    "audit": (_cut_audit, audit.RETENTION),
    "kept answers": (_cut_answers, timedelta()),
    "counters of quotas": (_cut_counters, quota_store.KEPT),
}


class Housekeeping:
    """Runs the tasks of one platform between ``start`` and ``stop``."""

    def __init__(self, db: Database, clock: Clock, interval_s: float = INTERVAL_S) -> None:
        self._db = db
        self._clock = clock
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End and wait."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def turn(self) -> dict[str, int]:
        """Every task once, to its end or its bound. Returns how many rows went; what failed is absent."""
        gone = {}
        for name, (forget, keep) in TASKS.items():
            try:
                gone[name] = await self._forget(forget, self._clock.at() - keep)
            except TongshiError as error:
                log.warning("housekeeping_waits", task=name, error=error.message)
                continue
            except Exception:
                # A defect here must not end the program's other work.
                log.exception("housekeeping_failed", task=name)
                continue
            if gone[name]:
                log.info("housekeeping_done", task=name, rows=gone[name])
        return gone

    async def _forget(self, forget: Forget, before: datetime) -> int:
        total = 0
        for _ in range(MAX_STEPS):
            gone = await self._db.write(forget, before)
            if not gone:
                break
            total += gone
            await asyncio.sleep(STEP_PAUSE_S)
        return total

    async def _run(self) -> None:
        while True:
            await self.turn()
            await asyncio.sleep(self._interval_s)
