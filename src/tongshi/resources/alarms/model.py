"""An alarm as it is kept, whom it is passed on to, and the bounds of both.

Implements: GB/T 28181-2022 9.4
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

KEEP = timedelta(days=180)
MAX_ALARMS = 1_000_000  # past this the oldest go before their time
MAX_ROUTES = 1_000
MAX_TARGETS = 32  # of one alarm
CLOCK_TOLERANCE = timedelta(minutes=10)


class SourceKind(StrEnum):
    """Who told of an alarm."""

    DEVICE = "device"
    LOWER = "lower"
    UPPER = "upper"
    OURSELVES = "self"


@dataclass(frozen=True, slots=True)
class Source:
    """The peer that told of an alarm."""

    id: str
    kind: SourceKind


@dataclass(frozen=True, slots=True)
class Told:
    """An alarm as somebody told it, understood. ``raised_at`` is when it began by the teller's clock.

    ``faults`` names what was wrong with it (``alarm_types.FAULT_TEXTS``): kept all the same.
    """

    device_id: str
    raised_at: datetime
    priority: int | None = None
    method: int | None = None
    alarm_type: int | None = None
    event_type: int | None = None
    type_param: str = ""
    description: str = ""
    longitude: float | None = None
    latitude: float | None = None
    extra: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def kind(self) -> tuple[object, ...]:
        """Alarms of one kind of one device are merged when they flood."""
        return (self.device_id, self.method, self.alarm_type, self.event_type)

    def number(self) -> str:
        """The same alarm told twice, or by two ways, has the same number."""
        parts = (*self.kind, self.raised_at.isoformat(), self.description)
        return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is and whose: what a caller's scope is held against, as it was when the alarm came."""

    name: str = ""
    civil_code: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who saw to an alarm, when, and what was noted."""

    by: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A kept alarm. ``repeats`` counts those that were merged into it, the last of them at ``last_at``."""

    id: str
    told: Told
    place: Place
    source: Source
    received_at: datetime
    last_at: datetime
    repeats: int = 0
    acknowledged: Acknowledgement | None = None


class DeliveryState(StrEnum):
    """How it went with one target of an alarm."""

    WAITING = "waiting"
    ANSWERED = "answered"  # its Response said OK
    REFUSED = "refused"  # its Response said ERROR, or SIP refused
    FAILED = "failed"  # no answer after the last try


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alarm toward one target."""

    alarm_id: str
    target_id: str
    state: DeliveryState = DeliveryState.WAITING
    tries: int = 0
    at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Which alarms go to a target; an empty condition holds always.

    A platform gets an alarm only when a grant lets it read alarms of that device besides.
    """

    id: str
    target_id: str
    device_id: str = ""
    civil_code: str = ""
    methods: frozenset[int] = frozenset()
    lowest_priority: int = 4
    created_by: str = ""
    created_at: datetime | None = None

    def takes(self, told: Told, place: Place) -> bool:
        """Whether an alarm is for this target. One without a priority goes wherever others go."""
        return (
            self.device_id in ("", told.device_id)
            and place.civil_code.startswith(self.civil_code)
            and (not self.methods or told.method in self.methods)
            and (told.priority or 1) <= self.lowest_priority
        )


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed by; an empty filter narrows nothing."""

    device_id: str = ""
    civil_code: str = ""
    priorities: frozenset[int] = frozenset()
    methods: frozenset[int] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    is_acknowledged: bool | None = None


class Verdict(StrEnum):
    """What became of an alarm that was told."""

    KEPT = "kept"
    REPEATED = "repeated"  # told before, word for word
    MERGED = "merged"  # one of a flood


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of one telling, with the alarm and those it must be passed on to when it is new."""

    verdict: Verdict
    alarm: Alarm | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a wish to acknowledge; unknown and not permitted look the same."""

    acknowledged: tuple[str, ...]
    already: tuple[str, ...]
    missing: tuple[str, ...]
