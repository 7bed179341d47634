"""Statuses of all devices in memory, one byte each, by their number in the place index.

A map shows the status of a thousand devices at a time; looked up one by one that was half of the database's
work for a box. The copy follows the change feed in the background and is written by that alone. A question
asks, in its own snapshot, what has turned since the copy's position (``StatusCopy.of``), so that no status is
older than the snapshot; one may be newer by what the background took in meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from tongshi.errors import Gone, TongshiError
from tongshi.resources.devices import status_copy_store as store
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
# So many may have turned since the copy's position; past that a question looks all of its devices up.
MAX_TURNED = 500
_UNKNOWN = 0
_CODES: dict[bool | None, int] = {None: 1, True: 2, False: 3}
_STATUSES: dict[int, bool | None] = {code: status for status, code in _CODES.items()}


class StatusCopy:
    """The copy of one process. ``start`` keeps it current; before that every status is looked up."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # A question may read while a step is written: bytes first, then the position.
        self._codes = bytearray()  # bounded by devices.store.MAX_DEVICES
        self._position: int | None = None
        self._reached = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def copied(self) -> int:
        """The last number whose status was copied; 0 before the first."""
        return self._reached

    def of(self, conn: Connection, numbers: Sequence[int]) -> list[bool | None]:
        """The statuses of devices by number, none older than the snapshot; None where nobody told one."""
        position, codes = self._position, self._codes
        turned = None if position is None else store.turned(conn, position, MAX_TURNED)
        if turned is None:
            known = store.of_numbers(conn, numbers)
            return [known.get(number) for number in numbers]
        size = len(codes)
        found = [codes[number] if number < size else _UNKNOWN for number in numbers]
        if _UNKNOWN in found:
            turned |= store.of_numbers(conn, [n for n, code in zip(numbers, found, strict=True) if not code])
        if not turned:
            return [_STATUSES[code] for code in found]
        pairs = zip(numbers, found, strict=True)
        return [turned[n] if n in turned else _STATUSES[code] for n, code in pairs]

    async def start(self) -> None:
        """Follow the feed until ``stop``."""
        self._task = asyncio.create_task(self._follow(), name="status-copy")

    async def stop(self) -> None:
        """End the background work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def catch_up(self) -> None:
        """Take in everything that can be followed now."""
        while await self._step():
            pass

    async def _follow(self) -> None:
        while True:
            try:
                await self.catch_up()
            except TongshiError as error:
                log.warning("status_copy_waits", reason=error.message)
            await asyncio.sleep(INTERVAL_S)

    async def _step(self) -> bool:
        """One step; returns whether another is due at once."""
        try:
            fetched = await self._db.read(store.fetch, self._position, self._reached)
        except Gone:
            self._codes, self._position, self._reached = bytearray(), None, 0
            return True
        codes = self._codes
        codes.extend(bytes(max(0, fetched.reached + 1 - len(codes))))
        for number, status in fetched.statuses:
            # What got its number after the copy came past is taken when the copy gets there.
            if number <= fetched.reached:
                codes[number] = _CODES[status]
        self._reached = fetched.reached
        self._position = fetched.position
        return fetched.has_more
