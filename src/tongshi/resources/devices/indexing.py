"""Keeps the indexes of search and place current: a little at a time, and at once when somebody searches.

After a very large exchange the index follows for a while. Whoever searches then is not kept waiting for it
and is told how far it is (``Lag``): an answer that may lack something says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.resources.devices import index_store
from tongshi.resources.devices.status_copy import StatusCopy
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
# A search waits this long for the index; after a very large exchange it answers from what is there.
PATIENCE_S = 2.0
# What remains is counted at most this often.
LAG_KEPT_S = 1.0
# Weight of the latest step in the rate that is told.
_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not indexed yet: archives or changes of archives, and seconds until it is (None: unknown)."""

    remaining: int
    remaining_s: float | None


class SearchIndex:
    """The index of one platform. ``start`` follows the feed in the background; ``refresh`` does it now.

    ``note`` is told how much remains whenever that was counted. ``statuses`` are copied by its numbers and
    followed with it.
    """

    def __init__(
        self, db: Database, clock: Clock, note: Callable[[int], None] = lambda remaining: None
    ) -> None:
        self._db = db
        self._clock = clock
        self._note = note
        self.statuses = StatusCopy(db)
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._rate: float | None = None
        self._lag: tuple[float, Lag] | None = None

    async def refresh(self, patience_s: float = PATIENCE_S) -> bool:
        """Bring the index up to date within a bounded time. Returns whether it is."""
        if await self._db.read(index_store.is_current):
            return True
        if self._is_far(patience_s):
            return False
        ends_now = self._clock.now() + patience_s
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    await self._turn.acquire()
            except TimeoutError:
                return False
            try:
                has_more = await self._step()
            finally:
                self._turn.release()
            if not has_more or self._clock.now() >= ends_now:
                return await self._db.read(index_store.is_current)

    async def lag(self) -> Lag:
        """How far the index is behind."""
        now = self._clock.now()
        if self._lag is None or now - self._lag[0] >= LAG_KEPT_S:
            remaining = await self._db.read(index_store.remaining)
            self._note(remaining)
            seconds = None if self._rate is None else round(remaining / self._rate, 1)
            self._lag = now, Lag(remaining, seconds)
        return self._lag[1]

    async def start(self) -> None:
        """Follow the feed until ``stop``."""
        self._task = asyncio.create_task(self._follow(), name="search-index")
        await self.statuses.start()

    async def stop(self) -> None:
        """End the background work."""
        await self.statuses.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _step(self) -> bool:
        """One step towards the feed's end; the caller holds the turn. Returns whether more is to be done."""
        began_now = self._clock.now()
        fetched = await self._db.read(index_store.fetch)
        step = await asyncio.to_thread(index_store.make, fetched)
        is_taken = await self._db.write(index_store.apply, step)
        spent_s = self._clock.now() - began_now
        if fetched.entries and spent_s > 0:
            rate = len(fetched.entries) / spent_s
            self._rate = rate if self._rate is None else self._rate + _SHARE * (rate - self._rate)
        return fetched.has_more or not is_taken

    def _is_far(self, patience_s: float) -> bool:
        """Whether waiting is in vain: the follower is at work and needs much longer."""
        if self._task is None or self._lag is None or self._clock.now() - self._lag[0] > 2 * LAG_KEPT_S:
            return False
        left_s = self._lag[1].remaining_s
        return left_s is not None and left_s > 2 * patience_s

    async def _follow(self) -> None:
        while True:
            try:
                if await self._db.read(index_store.is_trailing):
                    await self._catch_up()
            except TongshiError as error:
                log.warning("search_index_waits", reason=error.message)
            await asyncio.sleep(INTERVAL_S)

    async def _catch_up(self) -> None:
        """Steps until the feed's end; what takes longer than a search waits is logged."""
        began_now = said_now = self._clock.now()
        is_long = False
        while True:
            async with self._turn:
                has_more = await self._step()
            if not has_more:
                break
            now = self._clock.now()
            if now - said_now >= PATIENCE_S:
                said_now, is_long = now, True
                lag = await self.lag()
                log.info("search_index_behind", remaining=lag.remaining, remaining_s=lag.remaining_s)
        if is_long:
            self._lag = None
            self._note(0)
            log.info("search_index_current", spent_s=round(self._clock.now() - began_now, 1))
