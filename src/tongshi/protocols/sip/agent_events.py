"""What the user of an agent hears."""

from __future__ import annotations

from dataclasses import dataclass

from tongshi.protocols.sip.call_events import CallEvent
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.subscription_events import SubscriptionEvent
from tongshi.protocols.sip.transaction_events import Key


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A request to be answered with ``respond``; ``call`` or ``subscription`` is what it belongs to."""

    key: Key
    request: Request
    source: Remote
    call: int | None
    subscription: int | None = None


@dataclass(frozen=True, slots=True)
class ResponseArrived:
    """The final response to a request of ours."""

    key: Key
    response: Response


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request of ours will get no answer: silence, or a broken transport."""

    key: Key
    is_timeout: bool


AgentEvent = RequestArrived | ResponseArrived | RequestFailed | CallEvent | SubscriptionEvent
