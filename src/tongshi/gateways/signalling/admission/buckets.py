"""Token buckets by source, so that somebody who sends too much is slowed and costs no memory."""

from __future__ import annotations

from collections import OrderedDict

MAX_BUCKETS = (
    20_000  # a flood from forged addresses makes one each: the oldest is forgotten, that is refilled
)


class Buckets:
    """A bucket for each source: ``burst`` at once, then ``rate_per_s``."""

    def __init__(self, rate_per_s: float, burst: float, limit: int = MAX_BUCKETS) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: str, now: float, cost: float = 1.0) -> bool:
        """Take tokens; False, and nothing taken, when there are not enough."""
        left = self._left(source, now)
        is_enough = left >= cost
        self._put(source, left - cost if is_enough else left, now)
        return is_enough

    def give(self, source: str, now: float, tokens: float) -> None:
        """Give tokens back to who proved to be somebody."""
        self._put(source, min(self._burst, self._left(source, now) + tokens), now)

    def _left(self, source: str, now: float) -> float:
        tokens, at = self._buckets.get(source, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._rate_per_s)

    def _put(self, source: str, tokens: float, now: float) -> None:
        self._buckets[source] = (tokens, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
