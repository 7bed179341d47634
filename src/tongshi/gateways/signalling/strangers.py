"""Requests of those who may not ask: counted, and told once a second at most.

Whoever knows our address can send as many as the line carries: a line of the log for each would fill a disk.
"""

from __future__ import annotations

import structlog

from tongshi.clock import Clock
from tongshi.protocols.sip.message import Remote

log = structlog.get_logger(__name__)

SAID_EVERY_S = 1.0


class Strangers:
    """Counts refusals: ``total`` since the start, and in the log those since the line before."""

    def __init__(self, clock: Clock) -> None:
        self.total = 0
        self._clock = clock
        self._unsaid = 0
        self._said_at: float | None = None

    def note(self, method: str, remote: Remote) -> None:
        """One request was refused."""
        self.total += 1
        self._unsaid += 1
        now = self._clock.now()
        if self._said_at is not None and now - self._said_at < SAID_EVERY_S:
            return
        log.warning("strangers_refused", count=self._unsaid, latest=str(remote), method=method[:16])
        self._said_at, self._unsaid = now, 0
