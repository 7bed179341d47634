"""Which alarms of a flood are kept one by one, and which are merged.

A detector that swings in the wind tells the same thing many times a second, and a device gone mad tells
anything. Of one kind (device, method, type) so many are kept in a window; the others are counted on the last
of them. Of one source so many are kept in all; past that one alarm of our own says so and counts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MAX_KINDS: Final = 20_000  # remembered; the one heard of longest ago is forgotten
MAX_SOURCES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many are kept within ``window_s``."""

    window_s: float = 60.0
    of_kind: int = 10
    of_source: int = 300


@dataclass(slots=True)
class _Window:
    since: float
    count: int = 0
    last_id: str = ""


class _Windows:
    """Windows by key, bounded."""

    def __init__(self, window_s: float, limit: int) -> None:
        self._window_s = window_s
        self._limit = limit
        self._held: OrderedDict[object, _Window] = OrderedDict()

    def of(self, key: object, now: float) -> _Window:
        held = self._held.get(key)
        if held is None or now - held.since >= self._window_s:
            held = self._held[key] = _Window(now)
        self._held.move_to_end(key)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)
        return held


class Flood:
    """Counts within windows, by kind and by source."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._kinds = _Windows(self._bounds.window_s, MAX_KINDS)
        self._sources = _Windows(self._bounds.window_s, MAX_SOURCES)

    def into(self, source_id: str, kind: object, now: float) -> str | None:
        """The alarm that this one is merged into; None when it is to be kept, "" when its source is over."""
        if self._sources.of(source_id, now).count >= self._bounds.of_source:
            return ""
        of_kind = self._kinds.of(kind, now)
        return of_kind.last_id if of_kind.count >= self._bounds.of_kind else None

    def kept(self, source_id: str, kind: object, alarm_id: str, now: float) -> None:
        """Note one that was kept."""
        self._sources.of(source_id, now).count += 1
        of_kind = self._kinds.of(kind, now)
        of_kind.count += 1
        of_kind.last_id = alarm_id

    def window_of(self, source_id: str, now: float) -> float:
        """When the source's window began: the number of its flood."""
        return self._sources.of(source_id, now).since
