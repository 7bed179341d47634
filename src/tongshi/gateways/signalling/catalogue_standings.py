"""How the catalogue of each peer stands.

A catalogue that was not proved complete says so here, with the number announced, the number received and the
reason. Bounded: the longest unchanged is forgotten first. How a round of questions ended is written down a
moment later and taken up after a restart; a round that a crash cut off leaves the one before it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.ports import StandingRecord
from tongshi.resources.registrations.model import CatalogueStanding, CatalogueState

log = structlog.get_logger(__name__)

MAX_STANDINGS = 200_000
WRITE_AFTER_S = 2.0
WRITE_AT_ONCE = 1_000
KEPT_FOR = timedelta(days=90)


class Standings:
    """Standings by peer. Fulfils ``registrations.catalogue_http.Standings``."""

    def __init__(self, clock: Clock, limit: int = MAX_STANDINGS) -> None:
        self._clock = clock
        self._limit = limit
        self._rows: OrderedDict[str, CatalogueStanding] = OrderedDict()
        self._record: StandingRecord | None = None
        self._unwritten: set[str] = set()
        self._writing: asyncio.Task[None] | None = None

    async def load(self, record: StandingRecord) -> None:
        """Take up what was written, and write from now on."""
        self._record = record
        for row in await record.standings(self._clock.at() - KEPT_FOR, self._limit):
            self._rows.setdefault(row.peer_id, row)

    async def stop(self) -> None:
        """Write what is not written."""
        task, self._writing = self._writing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._write()

    def of(self, peer_id: str) -> CatalogueStanding | None:
        """One peer's; None when it was not asked as far as we remember."""
        return self._rows.get(peer_id)

    def all(self) -> Sequence[CatalogueStanding]:
        """Every peer's, the last changed first."""
        return tuple(reversed(self._rows.values()))

    def begun(self, peer_id: str) -> None:
        """A new round of questions."""
        at = self._clock.at()
        self._put(CatalogueStanding(peer_id, CatalogueState.ASKING, at, at))

    def asked(self, peer_id: str) -> None:
        """One more query is on its way."""
        old = self._old(peer_id)
        self._put(replace(old, state=CatalogueState.ASKING, reason="", asked=old.asked + 1, doubled=0))

    def counted(self, peer_id: str, announced: int, received: int, broken: int) -> None:
        """What has come so far."""
        row = replace(self._old(peer_id), announced=announced, received=received, broken=broken)
        self._put(row)

    def doubled(self, peer_id: str, codes: int) -> None:
        """So many more codes are told by another device, too."""
        old = self._old(peer_id)
        self._put(replace(old, doubled=old.doubled + codes))

    def ended(self, peer_id: str, state: str, reason: str) -> None:
        """The answer ended, complete or for a reason not."""
        self._put(replace(self._old(peer_id), state=CatalogueState(state), reason=reason))
        self._unwritten.add(peer_id)
        if self._record is not None and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    def failed(self, peer_id: str, reason: str) -> None:
        """There was no answer, or it could not be kept."""
        self.ended(peer_id, CatalogueState.FAILED, reason)

    def lost(self, peer_id: str) -> None:
        """The peer went away; what was being asked stays incomplete."""
        old = self._rows.get(peer_id)
        if old is not None and old.state is CatalogueState.ASKING:
            self.ended(peer_id, CatalogueState.INCOMPLETE, "peerLost")

    async def _write_later(self) -> None:
        await asyncio.sleep(WRITE_AFTER_S)
        self._writing = None
        await self._write()

    async def _write(self) -> None:
        while self._record is not None and self._unwritten:
            batch = sorted(self._unwritten)[:WRITE_AT_ONCE]
            self._unwritten.difference_update(batch)
            rows = [self._rows[peer_id] for peer_id in batch if peer_id in self._rows]
            try:
                await self._record.put_standings(
                    [row for row in rows if row.state is not CatalogueState.ASKING]
                )
            except TongshiError as error:
                log.warning("catalogue_standings_not_written", count=len(rows), error=error.message)

    def _old(self, peer_id: str) -> CatalogueStanding:
        at = self._clock.at()
        return self._rows.get(peer_id) or CatalogueStanding(peer_id, CatalogueState.ASKING, at, at)

    def _put(self, row: CatalogueStanding) -> None:
        self._rows[row.peer_id] = replace(row, at=self._clock.at())
        self._rows.move_to_end(row.peer_id)
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)
