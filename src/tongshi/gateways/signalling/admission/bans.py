"""Bans: who fails to prove itself again and again, or floods, is refused for a time that grows and ends.

Implements: GB/T 28181-2022 8.1
A ban is of an address from which nobody is registered, else of one code at that address, so that a broken
camera behind a shared address does not take its neighbours along. The first lasts a minute, each further one
within a day twice as long, none longer than an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from tongshi.resources.admission.model import Ban, BanReason

MAX_FAILURES = 10
WINDOW_S = 60.0
MAX_SOURCES = 10_000
MAX_BANS = 10_000
FIRST_BAN_S = 60.0
LONGEST_BAN_S = 3_600.0
FORGIVEN_AFTER = timedelta(days=1)


class Bans:
    """Failures within a window, and the bans they lead to. ``total`` counts failures since the start."""

    def __init__(self, on_ban: Callable[[Ban], None] = lambda ban: None) -> None:
        self._on_ban = on_ban
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._bans: OrderedDict[str, Ban] = OrderedDict()
        self.total = 0

    def __len__(self) -> int:
        return len(self._bans)

    def covers(self, subject: str, at: datetime) -> bool:
        """Is this subject banned now? Counts what is refused for it."""
        ban = self._bans.get(subject)
        if ban is None or at >= ban.until:
            return False
        self._bans[subject] = replace(ban, refused=ban.refused + 1)
        return True

    def fail(self, subject: str, reason: BanReason, now: float, at: datetime) -> bool:
        """Note one failure; True when it is one too many and the subject is banned from now on."""
        self.total += 1
        since, count = self._failures.pop(subject, (now, 0))
        if now - since >= WINDOW_S:
            since, count = now, 0
        if count + 1 >= MAX_FAILURES:
            self.ban(subject, reason, at)
            return True
        self._failures[subject] = (since, count + 1)
        while len(self._failures) > MAX_SOURCES:
            self._failures.popitem(last=False)
        return False

    def ban(self, subject: str, reason: BanReason, at: datetime) -> Ban:
        """Ban from now on, longer than last time."""
        before = self._bans.pop(subject, None)
        level = before.level + 1 if before is not None and at - before.until < FORGIVEN_AFTER else 1
        lasts_s = min(FIRST_BAN_S * 2 ** min(level - 1, 16), LONGEST_BAN_S)
        made = Ban(subject, reason, level, at, at + timedelta(seconds=lasts_s))
        self._bans[subject] = made
        while len(self._bans) > MAX_BANS:
            self._bans.popitem(last=False)
        self._on_ban(made)
        return made

    def lift(self, subject: str) -> Ban | None:
        """End a ban and forget what led to it; None when there was none."""
        self._failures.pop(subject, None)
        return self._bans.pop(subject, None)

    def restore(self, bans: Iterable[Ban]) -> None:
        """Take up bans from before a restart."""
        for ban in bans:
            self._bans[ban.subject] = ban

    def running(self, at: datetime) -> list[Ban]:
        """Bans that have not ended, the latest first; those forgiven are forgotten."""
        for subject, ban in list(self._bans.items()):
            if at - ban.until >= FORGIVEN_AFTER:
                del self._bans[subject]
        return [ban for ban in reversed(self._bans.values()) if at < ban.until]
