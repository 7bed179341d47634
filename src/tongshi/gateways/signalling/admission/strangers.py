"""Requests of those who may not ask: counted by source, told in the log once a second at most.

Whoever knows our address can send as many as the line carries: a line of the log for each would fill a disk,
and a row for each source would fill the memory; the source heard of longest ago is forgotten past the bound.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import structlog

from tongshi.clock import Clock
from tongshi.protocols.sip.message import Remote
from tongshi.resources.admission.model import Stranger

log = structlog.get_logger(__name__)

SAID_EVERY_S = 1.0
MAX_STRANGERS = 5_000


class Strangers:
    """Counts refusals: ``total`` and ``dropped`` since the start; in the log those since the line before."""

    def __init__(self, clock: Clock, limit: int = MAX_STRANGERS) -> None:
        self.total = 0
        self.dropped = 0
        self._clock = clock
        self._limit = limit
        self._unsaid = 0
        self._said_at: float | None = None
        self._sources: OrderedDict[str, Stranger] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def note(self, method: str, remote: Remote, code: str = "") -> None:
        """One request was refused."""
        self.total += 1
        known = self._of(remote.host)
        self._keep(replace(known, refused=known.refused + 1, method=method[:16], code=code[:64]))
        self._say(method, remote)

    def drop(self, remote: Remote) -> int:
        """Something was dropped unread; how many of this source by now."""
        self.dropped += 1
        known = self._of(remote.host)
        self._keep(replace(known, dropped=known.dropped + 1))
        self._say("", remote)
        return known.dropped + 1

    def latest(self) -> list[Stranger]:
        """All we remember, the latest first."""
        return list(reversed(self._sources.values()))

    def forget(self, address: str) -> bool:
        """Count this source from nothing again."""
        return self._sources.pop(address, None) is not None

    def _of(self, host: str) -> Stranger:
        at = self._clock.at()
        known = self._sources.get(host)
        return Stranger(host, at, at) if known is None else replace(known, last_at=at)

    def _keep(self, stranger: Stranger) -> None:
        self._sources[stranger.address] = stranger
        self._sources.move_to_end(stranger.address)
        if len(self._sources) > self._limit:
            self._sources.popitem(last=False)

    def _say(self, method: str, remote: Remote) -> None:
        self._unsaid += 1
        now = self._clock.now()
        if self._said_at is not None and now - self._said_at < SAID_EVERY_S:
            return
        log.warning("strangers_refused", count=self._unsaid, latest=str(remote), method=method[:16])
        self._said_at, self._unsaid = now, 0
