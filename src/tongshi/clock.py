"""Time as an argument: ``now`` monotonic seconds, ``at`` an aware datetime, ``rtp_ts`` ticks of a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Protocol

BEIJING = timezone(timedelta(hours=8), "Asia/Shanghai")


class Clock(Protocol):
    """What code that needs the time is given."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def at(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    def at(self) -> datetime:
        return datetime.now(UTC)


@dataclass(slots=True)
class ManualClock:
    """A clock that a test moves by hand."""

    seconds: float = 1000.0
    start: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    base: float = 1000.0

    def now(self) -> float:
        return self.seconds

    def at(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds - self.base)

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        self.seconds += seconds
