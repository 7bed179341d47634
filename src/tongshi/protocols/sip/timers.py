"""Timers as data: a heap of instants that somebody else sleeps on."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class TimerValues:
    """RFC 3261 Table 4, in seconds. Everything else is derived from these three.

    Attributes:
        t1_s: estimate of the round trip. t2_s: longest retransmission gap. t4_s: longest life in the network.
    """

    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0

    @property
    def timeout_s(self) -> float:
        """64 x T1: Timers B, F, H, J, L, M."""
        return 64 * self.t1_s


class TimerHeap(Generic[K]):
    """Named timers of many owners; setting one again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K, str]] = []
        self._live: dict[tuple[K, str], int] = {}
        self._count = 0

    def set(self, owner: K, name: str, at: float) -> None:
        """Start or move a timer to the monotonic instant ``at``."""
        self._count += 1
        self._live[owner, name] = self._count
        heapq.heappush(self._heap, (at, self._count, owner, name))
        # Cancelled entries stay in the heap until they surface; rebuild before they outnumber the live ones.
        if len(self._heap) > 64 + 4 * len(self._live):
            self._heap = [entry for entry in self._heap if self._live.get((entry[2], entry[3])) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, owner: K, *names: str) -> None:
        """Stop timers that may not run."""
        for name in names:
            self._live.pop((owner, name), None)

    def next(self) -> float | None:
        """The earliest instant, None when nothing runs."""
        while self._heap:
            at, count, owner, name = self._heap[0]
            if self._live.get((owner, name)) == count:
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> tuple[K, str] | None:
        """Take the earliest timer that is due; None when there is none."""
        at = self.next()
        if at is None or at > now:
            return None
        _, _, owner, name = heapq.heappop(self._heap)
        del self._live[owner, name]
        return owner, name

    def __len__(self) -> int:
        return len(self._live)
