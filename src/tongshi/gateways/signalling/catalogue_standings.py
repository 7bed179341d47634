"""How the catalogue of each peer stands, since this process started.

A catalogue that was not proved complete says so here, with the number announced, the number received and the
reason. Bounded: the longest unchanged is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from tongshi.clock import Clock
from tongshi.resources.registrations.model import CatalogueStanding, CatalogueState

MAX_STANDINGS = 200_000


class Standings:
    """Standings by peer. Fulfils ``registrations.catalogue_http.Standings``."""

    def __init__(self, clock: Clock, limit: int = MAX_STANDINGS) -> None:
        self._clock = clock
        self._limit = limit
        self._rows: OrderedDict[str, CatalogueStanding] = OrderedDict()

    def of(self, peer_id: str) -> CatalogueStanding | None:
        """One peer's; None when it was not asked since the start of this process."""
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

    def failed(self, peer_id: str, reason: str) -> None:
        """There was no answer, or it could not be kept."""
        self.ended(peer_id, CatalogueState.FAILED, reason)

    def lost(self, peer_id: str) -> None:
        """The peer went away; what was being asked stays incomplete."""
        old = self._rows.get(peer_id)
        if old is not None and old.state is CatalogueState.ASKING:
            self.ended(peer_id, CatalogueState.INCOMPLETE, "peerLost")

    def _old(self, peer_id: str) -> CatalogueStanding:
        at = self._clock.at()
        return self._rows.get(peer_id) or CatalogueStanding(peer_id, CatalogueState.ASKING, at, at)

    def _put(self, row: CatalogueStanding) -> None:
        self._rows[row.peer_id] = replace(row, at=self._clock.at())
        self._rows.move_to_end(row.peer_id)
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)
