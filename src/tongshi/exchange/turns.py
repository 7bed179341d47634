"""Pages of one neighbour: prepared side by side, stored one after another in the order of their keys.

A sender has several pages of a full on the way. One is read and checked while another is stored, which uses
both processors. On the way they may overtake each other: one that came too early waits for those before it,
and only when nothing comes to fill the gap is it refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tongshi.errors import Conflict, LimitExceeded

# A sender that keeps to the contract has three on the way; what a link doubled or held back comes on top.
MAX_TURNS = 8
# Pages that overtook each other arrive within milliseconds; a gap that stays is the sender's to mend.
PATIENCE_S = 0.3

T = TypeVar("T")


class Row:
    """Calls of one neighbour that are under way."""

    def __init__(self, patience_s: float) -> None:
        self.count = 0
        self._patience_s = patience_s
        self._storing = asyncio.Lock()
        self._stored = asyncio.Event()

    async def store(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work`` alone, and again after each call before it that stored something.

        Raises:
            Conflict: from ``work``, when nothing was stored for ``patience_s``.
        """
        while True:
            stored = self._stored
            try:
                async with self._storing:
                    result = await work()
            except Conflict:
                try:
                    await asyncio.wait_for(stored.wait(), self._patience_s)
                except TimeoutError:
                    pass
                else:
                    continue
                raise
            self._stored, stored = asyncio.Event(), self._stored
            stored.set()
            return result


class Turns:
    """Rows of calls, by neighbour; one that has no call under way has no row."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._rows: dict[str, Row] = {}

    @asynccontextmanager
    async def of(self, sender: str) -> AsyncIterator[Row]:
        """The row of a sender, with one call more in it.

        Raises:
            LimitExceeded: ``MAX_TURNS`` of this sender are under way already.
        """
        row = self._rows.setdefault(sender, Row(self._patience_s))
        if row.count >= MAX_TURNS:
            raise LimitExceeded("贵平台同时推送的页过多，请等待应答后再发", retry_after_s=1.0)
        row.count += 1
        try:
            yield row
        finally:
            row.count -= 1
            if not row.count:
                self._rows.pop(sender, None)
