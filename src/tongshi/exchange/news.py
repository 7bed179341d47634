"""Waiting for the first change: few waiters, one look at the database for all, ended by whoever leaves.

A waiter holds no connection to the database and no worker thread. While anybody waits, one task looks where
the feed stands; it ends with the last waiter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import structlog

from tongshi.errors import LimitExceeded, TongshiError

log = structlog.get_logger(__name__)

LOOK_S = 0.25
MAX_WAITERS = 256
MAX_WAITERS_OF_A_CALLER = 4
_RETRY_S = 5.0

Leaving = Callable[[], Awaitable[None]]


class News:
    """Tells when the feed goes on. ``head`` says where it stands."""

    def __init__(self, head: Callable[[], Awaitable[int]], look_s: float = LOOK_S) -> None:
        self._head = head
        self._look_s = look_s
        self._waiting: Counter[str] = Counter()
        self._moved = asyncio.Condition()
        self._position = -1
        self._looking: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    @property
    def waiters(self) -> int:
        """How many wait now."""
        return self._waiting.total()

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """A waiter's place. Raises LimitExceeded when all, or the caller's own, are taken."""
        if self.waiters >= MAX_WAITERS or self._waiting[caller] >= MAX_WAITERS_OF_A_CALLER:
            raise LimitExceeded("等待变更的请求过多，请不带 waitSec 再试", code=42901, retry_after_s=_RETRY_S)
        self._waiting[caller] += 1
        try:
            yield
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]
            if not self._waiting and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def past(self, position: int, wait_s: float, left: Leaving) -> bool:
        """Wait until the feed is past ``position``; False when time is over, ``left`` is done or we stop.

        Called with a place taken. What ``left`` makes ends when the caller has gone.
        """
        if self._stopped.is_set() or wait_s <= 0:
            return False
        if self._looking is None:
            self._position = -1
            self._looking = asyncio.create_task(self._look(), name="exchange-news")
        moved = asyncio.ensure_future(self._moved_past(position))
        ends = {moved, asyncio.ensure_future(left()), asyncio.ensure_future(self._stopped.wait())}
        try:
            await asyncio.wait(ends, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            return moved.done()
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def stop(self) -> None:
        """End all waiting at once, and from now on."""
        self._stopped.set()

    async def _moved_past(self, position: int) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._position > position)

    async def _look(self) -> None:
        while True:
            try:
                position = await self._head()
            except TongshiError as error:
                log.warning("news_not_seen", error=error.message)
            else:
                if position > self._position:
                    async with self._moved:
                        self._position = position
                        self._moved.notify_all()
            await asyncio.sleep(self._look_s)
