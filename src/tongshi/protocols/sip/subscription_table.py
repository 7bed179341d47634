"""The subscriptions there are, by number and by their dialog, and when each expires."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.message import Remote, Request
from tongshi.protocols.sip.subscription_events import (
    End,
    SubscriptionEnded,
    SubscriptionEvent,
    SubscriptionState,
)
from tongshi.protocols.sip.timers import TimerHeap
from tongshi.protocols.sip.transaction_events import Key


@dataclass(slots=True)
class Subscription:
    """What is known of one, of either side."""

    number: int
    state: SubscriptionState
    request: Request
    key: Key
    remote: Remote
    local_tag: str
    is_ours: bool
    asked_s: int
    ends_at: float = 0.0
    dialog: Dialog | None = None
    # A SUBSCRIBE of ours inside the dialog that has no answer yet.
    refresh: Key | None = None


class SubscriptionTable:
    """All of one endpoint, in either role, and what happened to them; who adds one has looked at the bound.

    Args:
        grace_s: how much longer than granted a subscriber waits, so that a refresh on its way is not lost to
            a rounding.
    """

    def __init__(self, grace_s: float) -> None:
        self.timers: TimerHeap[int] = TimerHeap()
        self.events: deque[SubscriptionEvent] = deque()
        self._grace_s = grace_s
        self._all: dict[int, Subscription] = {}
        self._by_dialog: dict[tuple[str, str], int] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> Subscription:
        return self._all[number]

    def get(self, number: int) -> Subscription | None:
        """The subscription, None when it is over."""
        return self._all.get(number)

    def find(self, request: Request, *, is_ours: bool) -> Subscription | None:
        """The one that a request inside a dialog belongs to."""
        found = self._all.get(self._by_dialog.get((request.call_id, request.to.tag), 0))
        if found is None or found.is_ours is not is_ours:
            return None
        return found if found.dialog is None or found.dialog.belongs(request) else None

    def add(
        self,
        state: SubscriptionState,
        request: Request,
        key: Key,
        remote: Remote,
        tag: str,
        asked_s: int,
        *,
        is_ours: bool = True,
    ) -> Subscription:
        """Begin one; ``tag`` is ours."""
        self._last_number += 1
        found = Subscription(self._last_number, state, request, key, remote, tag, is_ours, asked_s)
        self._all[found.number] = found
        self._by_dialog[request.call_id, tag] = found.number
        return found

    def set_expiry(self, found: Subscription, expires_s: int, now: float) -> None:
        """It lasts so long from now."""
        found.ends_at = now + expires_s
        grace_s = self._grace_s if found.is_ours else 0.0
        self.timers.set(found.number, "expires", found.ends_at + grace_s)

    def end(self, found: Subscription, end: End, detail: str = "") -> None:
        """It is over, and its user hears why."""
        self.drop(found)
        self.events.append(SubscriptionEnded(found.number, end, detail))

    def drop(self, found: Subscription) -> None:
        """It is over, and nobody hears of it."""
        self._all.pop(found.number, None)
        self.timers.cancel(found.number, "expires", "offer", "N")
        place = (found.request.call_id, found.local_tag)
        if self._by_dialog.get(place) == found.number:
            del self._by_dialog[place]
