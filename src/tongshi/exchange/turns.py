"""Turns of calls from one neighbour: prepared side by side, carried out in the order in which they came.

A sender has two pages of a full on the way. Reading the second while the first is stored uses both
processors; storing it first would be refused, since it does not follow what was acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tongshi.errors import LimitExceeded

# A sender that keeps to the contract has two on the way; what a link doubled or held back comes on top.
MAX_TURNS = 8


class Turn:
    """One call's place in the row."""

    def __init__(self, before: Turn | None) -> None:
        self._before = before
        self._done = asyncio.Event()

    async def come(self) -> None:
        """Wait until the call before has ended, however it ended."""
        if self._before is not None:
            await self._before._done.wait()
            self._before = None

    def end(self) -> None:
        """Let the next one come."""
        self._done.set()


class Turns:
    """Calls under way, by neighbour, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Turn]] = {}

    @asynccontextmanager
    async def of(self, sender: str) -> AsyncIterator[Turn]:
        """A turn behind every call of the same sender that came earlier and has not ended.

        Raises:
            LimitExceeded: ``MAX_TURNS`` of this sender are under way already.
        """
        row = self._rows.setdefault(sender, [])
        if len(row) >= MAX_TURNS:
            raise LimitExceeded("贵平台同时推送的页过多，请等待应答后再发", retry_after_s=1.0)
        turn = Turn(row[-1] if row else None)
        row.append(turn)
        try:
            yield turn
        finally:
            turn.end()
            row.remove(turn)
            if not row:
                self._rows.pop(sender, None)
