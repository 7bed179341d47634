"""What grows is cut back: once an hour, a step at a time, the change feed and alarms.

The history of records is swept by who keeps it (``resources.devices.editing``). The audit is not cut by
itself: who answers for a platform decides when records that may go do go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.resources.alarms import model as alarm_model
from tongshi.resources.alarms import store as alarm_store
from tongshi.storage import changes
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

INTERVAL_S = 3_600.0
# A task that has more to do goes on after so long; others write meanwhile.
STEP_PAUSE_S = 0.2
MAX_STEPS = 500

# Forgets what is older than a time, a bounded number at once, and says how many went.
Forget = Callable[[Connection, datetime], int]
TASKS: dict[str, tuple[Forget, timedelta]] = {
    "change feed": (changes.compact, changes.KEEP),
    "alarms": (alarm_store.forget, alarm_model.KEEP),
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
        """Every task once, to its end or its bound. Returns how many rows each forgot."""
        gone = {}
        for name, (forget, keep) in TASKS.items():
            gone[name] = await self._forget(forget, self._clock.at() - keep)
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
            try:
                await self.turn()
            except TongshiError as error:
                log.warning("housekeeping_waits", error=error.message)
            await asyncio.sleep(self._interval_s)
