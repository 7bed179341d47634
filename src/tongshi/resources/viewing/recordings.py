"""What was recorded within a window: stretches, gaps, coverage, and where the nearest recording is.

Implements: DB31DSJ/Z 001-2024 E.2-4
Implements: GB/T 28181-2022 9.7
No I/O: searching is the signalling side's, asking and deciding the service's (``history.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tongshi.clock import BEIJING
from tongshi.errors import InvalidRequest
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.records import RecordFile, RecordType

MAX_SEARCH = timedelta(days=31)
MAX_PLAYBACK = timedelta(hours=24)
AT_END_S = 2.0
TOUCHING = timedelta(seconds=2)  # files of one recording that follow each other within this are no gap


class RecordLocation(StrEnum):
    """Whose storage is searched; ``auto`` asks for both."""

    AUTO = "auto"
    CENTER = "center"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, both ends aware, and the kind of recording wanted in it."""

    start: datetime
    end: datetime
    kind: RecordType = RecordType.ALL

    @property
    def length_s(self) -> float:
        return (self.end - self.start).total_seconds()

    def check(self, longest: timedelta) -> Window:
        """Itself. Raises InvalidRequest (40003): empty, backward or longer than allowed."""
        if self.end <= self.start:
            raise InvalidRequest("结束时间应晚于开始时间", code=40003, field="endTime")
        if self.end - self.start > longest:
            hours = int(longest.total_seconds() // 3600)
            raise InvalidRequest(f"时间范围不能超过 {hours} 小时", code=40003, field="endTime")
        return self


@dataclass(frozen=True, slots=True)
class Search:
    """One question for recordings."""

    device_id: DeviceId
    window: Window
    location: RecordLocation = RecordLocation.AUTO


@dataclass(frozen=True, slots=True)
class Found:
    """What came. ``is_complete`` False: the answer was cut short, what is here is good (quirk 6).

    ``announced`` is how many files were said to come; a file over midnight is counted on both days.
    """

    files: tuple[RecordFile, ...]
    is_complete: bool = True
    announced: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without a recording."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """What there is within a window.

    ``files`` are whole, as their storage tells them; ``spans`` are the parts inside the window, in seconds
    from its start, joined where they touch; ``gaps`` is the rest of it.
    """

    window: Window
    files: tuple[RecordFile, ...]
    spans: tuple[tuple[float, float], ...]
    gaps: tuple[Gap, ...]
    is_complete: bool

    @property
    def total_s(self) -> float:
        """Seconds recorded inside the window."""
        return sum(end - begin for begin, end in self.spans)

    @property
    def coverage(self) -> float:
        """The share of the window that is recorded, 0 to 1."""
        return min(1.0, self.total_s / self.window.length_s)


def days_of(window: Window) -> list[Window]:
    """The window cut at Beijing midnights: small recorders cannot answer for more than a day (quirk 50)."""
    days: list[Window] = []
    start = window.start
    while start < window.end:
        local = start.astimezone(BEIJING)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        end = min(window.end, midnight)
        days.append(Window(start, end, window.kind))
        start = end
    return days


def timeline(window: Window, found: Found) -> Timeline:
    """Put what was found in order; overlaps of centre and front end count once."""
    files = _distinct(file for file in found.files if file.start < window.end and file.end > window.start)
    spans: list[tuple[datetime, datetime]] = []
    for file in files:
        begin, end = max(file.start, window.start), min(file.end, window.end)
        if spans and begin <= spans[-1][1] + TOUCHING:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((begin, end))
    return Timeline(
        window,
        tuple(files),
        tuple(
            ((begin - window.start).total_seconds(), (end - window.start).total_seconds())
            for begin, end in spans
        ),
        tuple(_gaps(window, spans)),
        found.is_complete,
    )


def nearest(files: Iterable[RecordFile], window: Window) -> tuple[RecordFile | None, RecordFile | None]:
    """The last file that ends before the window and the first that begins after it."""
    ordered = _distinct(files)
    earlier = [file for file in ordered if file.end <= window.start]
    later = [file for file in ordered if file.start >= window.end]
    return (max(earlier, key=lambda file: file.end) if earlier else None, later[0] if later else None)


class Playhead:
    """Where a playback stands, reckoned by the clock over what is recorded: gaps are passed over in no time.

    The sender tells its position only when it is steered; between, this is an estimate.
    """

    def __init__(self, window: Window, spans: Sequence[tuple[float, float]], now: float) -> None:
        self.window = window
        self.scale = 1.0
        self.is_paused = False
        self._spans = tuple(spans) or ((0.0, window.length_s),)
        self._base_s = self._spans[0][0]
        self._since = now

    def position_s(self, now: float) -> float:
        """Seconds from the start of the window."""
        if self.is_paused:
            return self._base_s
        left_s = (now - self._since) * abs(self.scale)
        return self._on(left_s) if self.scale > 0 else self._back(left_s)

    def at(self, now: float) -> datetime:
        """The recorded moment."""
        return self.window.start + timedelta(seconds=self.position_s(now))

    def is_at_end(self, now: float) -> bool:
        """Whether nothing more was to come then, within two seconds of playing."""
        slack_s = AT_END_S * abs(self.scale)
        if self.scale > 0:
            return self.position_s(now) >= self._spans[-1][1] - slack_s
        return self.position_s(now) <= self._spans[0][0] + slack_s

    def play(self, now: float, position_s: float | None = None, scale: float | None = None) -> None:
        """It plays, from another position or at another speed when one is named."""
        self._base_s = self.position_s(now) if position_s is None else position_s
        self._since, self.is_paused = now, False
        self.scale = self.scale if scale is None else scale

    def pause(self, now: float) -> None:
        """It stands."""
        self._base_s, self._since, self.is_paused = self.position_s(now), now, True

    def stand(self, now: float, position_s: float) -> None:
        """It stands where its sender says."""
        self._base_s, self._since, self.is_paused = position_s, now, True

    def _on(self, left_s: float) -> float:
        at = self._base_s
        for begin, end in self._spans:
            if end <= at:
                continue
            at = max(at, begin)
            if at + left_s <= end:
                return at + left_s
            left_s -= end - at
            at = end
        return at

    def _back(self, left_s: float) -> float:
        at = self._base_s
        for begin, end in reversed(self._spans):
            if begin >= at:
                continue
            at = min(at, end)
            if at - left_s >= begin:
                return at - left_s
            left_s -= at - begin
            at = begin
        return at


def _distinct(files: Iterable[RecordFile]) -> list[RecordFile]:
    """In order of time, each once."""
    known: dict[tuple[datetime, datetime, str], RecordFile] = {}
    for file in files:
        known.setdefault((file.start, file.end, file.location), file)
    return sorted(known.values(), key=lambda file: (file.start, file.end))


def _gaps(window: Window, spans: Sequence[tuple[datetime, datetime]]) -> Iterable[Gap]:
    at = window.start
    for begin, end in spans:
        if begin > at + TOUCHING:
            yield Gap(at, begin)
        at = max(at, end)
    if window.end > at + TOUCHING:
        yield Gap(at, window.end)
