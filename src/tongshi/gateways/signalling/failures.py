"""Failed registrations by source, so that a guesser or a broken device costs little.

Implements: GB/T 28181-2022 8.1
"""

from __future__ import annotations

from collections import OrderedDict

MAX_SOURCES = 10_000
MAX_FAILURES = 10
WINDOW_S = 60.0


class Failures:
    """Counts within a window; past ``MAX_FAILURES`` a source is refused before its secret is looked up."""

    def __init__(self, limit: int = MAX_FAILURES, window_s: float = WINDOW_S) -> None:
        self._limit = limit
        self._window_s = window_s
        self._sources: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.total = 0

    def is_blocked(self, source: str, now: float) -> bool:
        """Has this source failed too often lately?"""
        since, count = self._sources.get(source, (now, 0))
        return count >= self._limit and now - since < self._window_s

    def count(self, source: str, now: float) -> None:
        """Note one more failure; the source heard of longest ago is forgotten past the bound."""
        self.total += 1
        since, count = self._sources.pop(source, (now, 0))
        if now - since >= self._window_s:
            since, count = now, 0
        self._sources[source] = (since, count + 1)
        while len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
