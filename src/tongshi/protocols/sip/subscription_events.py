"""States of a subscription, what happens to it, and why it ends.

Implements: GB/T 28181-2022 9.11
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.transaction_events import Key


class SubscriptionState(Enum):
    """See the table above."""

    SUBSCRIBING = "Subscribing"
    OFFERED = "Offered"
    ACTIVE = "Active"
    ENDING = "Ending"


class End(Enum):
    """Why a subscription is over."""

    CANCELLED = "cancelled"  # by the subscriber
    TERMINATED = "terminated"  # by the notifier
    EXPIRED = "expired"
    REFUSED = "refused"  # a refresh or a notification: the peer does not know it any more
    SILENT = "silent"  # a notification got no answer
    DROPPED = "dropped"  # by ourselves


@dataclass(frozen=True, slots=True)
class SubscribeArrived:
    """Somebody subscribes; answer with ``accept`` or ``reject``. ``expires_s`` is None when not asked for."""

    subscription: int
    request: Request
    source: Remote
    expires_s: int | None


@dataclass(frozen=True, slots=True)
class SubscriptionRefreshed:
    """Their subscription was refreshed inside its dialog; the 200 is sent."""

    subscription: int
    request: Request
    expires_s: int


@dataclass(frozen=True, slots=True)
class SubscriptionAnswered:
    """Our first SUBSCRIBE or a refresh was answered; ``expires_s`` is the time granted."""

    subscription: int
    response: Response
    expires_s: int


@dataclass(frozen=True, slots=True)
class SubscriptionFailed:
    """Our first SUBSCRIBE was refused (``response``), or got no answer."""

    subscription: int
    response: Response | None
    is_timeout: bool


@dataclass(frozen=True, slots=True)
class NotifyArrived:
    """A notification under one of our subscriptions, to be answered with ``respond``."""

    key: Key
    request: Request
    source: Remote
    subscription: int


@dataclass(frozen=True, slots=True)
class SubscriptionEnded:
    """A subscription of either side is over. ``detail`` is the peer's own word, if it gave one."""

    subscription: int
    end: End
    detail: str = ""


SubscriptionEvent = (
    SubscribeArrived
    | SubscriptionRefreshed
    | SubscriptionAnswered
    | SubscriptionFailed
    | NotifyArrived
    | SubscriptionEnded
)
