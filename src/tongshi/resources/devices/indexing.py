"""Keeps the indexes of search and place current: a little at a time, and at once when somebody searches."""

from __future__ import annotations

import asyncio
from itertools import count

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.resources.devices import index_store
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
ADVANCE_TURNS = 20
# A search waits this long for the index; after a very large exchange it answers from what is there.
PATIENCE_S = 2.0


class SearchIndex:
    """The index of one platform. ``start`` follows the feed in the background; ``refresh`` does it now."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def refresh(self, patience_s: float = PATIENCE_S) -> bool:
        """Bring the index up to date within a bounded time. Returns whether it is."""
        if await self._db.read(index_store.is_current):
            return True
        ends_now = self._clock.now() + patience_s
        async with self._turn:
            while await self._db.write(index_store.catch_up):
                if self._clock.now() >= ends_now:
                    return await self._db.read(index_store.is_current)
        return True

    async def start(self) -> None:
        """Follow the feed until ``stop``."""
        self._task = asyncio.create_task(self._follow(), name="search-index")

    async def stop(self) -> None:
        """End the background work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        for turn in count():
            try:
                await self.refresh()
                if turn % ADVANCE_TURNS == 0:
                    # Status changes are no archives: step past them, so that the next look is short.
                    await self._db.write(index_store.catch_up)
            except TongshiError as error:
                log.warning("search_index_waits", reason=error.message)
            await asyncio.sleep(INTERVAL_S)
