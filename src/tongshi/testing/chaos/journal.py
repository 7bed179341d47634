"""What was injected into one history, when and where, and how the history ended; one line of JSON each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

KINDS = ("wrongly deleted", "missing", "different", "promise broken")


class Broken(Exception):
    """Something is not as promised. ``found`` counts devices, or promises, by kind."""

    def __init__(self, text: str, found: Counter[str] | None = None) -> None:
        super().__init__(text)
        self.found = found or Counter({"promise broken": 1})


class Event(msgspec.Struct, frozen=True):
    """``at`` is the round of a history in one process, seconds since its beginning in one of processes."""

    at: float
    what: str
    where: str = ""


class Record(msgspec.Struct, frozen=True):
    """One history as the log has it; ``replay`` is the command that runs it alone."""

    seed: int
    history: int
    form: str
    engine: str
    platforms: list[str]
    took_s: float
    ended: str
    found: dict[str, int]
    replay: str
    injected: list[Event]


@dataclass(slots=True)
class Journal:
    """Events of one history as they happen; ``now`` tells when."""

    now: Callable[[], float]
    events: list[Event] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, where: str = "") -> None:
        """Something was injected, or an injected thing showed an effect."""
        self.counts[what] += 1
        self.events.append(Event(round(self.now(), 3), what, where[:6]))
