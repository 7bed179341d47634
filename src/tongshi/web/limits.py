"""Rate limits: one token bucket for each caller and quota class, in a table that cannot grow without end.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tongshi.errors import LimitExceeded
from tongshi.web.operations import Quota

# A flood of made-up addresses may push idle buckets out, never memory up.
MAX_BUCKETS = 50_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_now: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a caller in a class; rendered as X-RateLimit-*."""

    limit: int
    remaining: int
    reset_s: float

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(round(self.reset_s)),
        }


class Meter:
    """Token buckets of this process."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._buckets: OrderedDict[tuple[str, Quota], _Bucket] = OrderedDict()
        self._max_buckets = max_buckets

    def admit(self, key: str, quota: Quota, now: float) -> Allowance:
        """Take one token.

        Raises:
            LimitExceeded: none is left; carries the seconds until one is.
        """
        per_second = quota.per_minute / 60
        bucket = self._buckets.get((key, quota))
        if bucket is None:
            bucket = self._buckets[key, quota] = _Bucket(float(quota.burst), now)
            while len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end((key, quota))
        bucket.tokens = min(quota.burst, bucket.tokens + max(0.0, now - bucket.filled_now) * per_second)
        bucket.filled_now = now
        if bucket.tokens < 1:
            wait_s = (1 - bucket.tokens) / per_second
            raise LimitExceeded("调用过于频繁，请稍后再试", code=42901, retry_after_s=wait_s)
        bucket.tokens -= 1
        return Allowance(quota.per_minute, int(bucket.tokens), (quota.burst - bucket.tokens) / per_second)

    def __len__(self) -> int:
        return len(self._buckets)
