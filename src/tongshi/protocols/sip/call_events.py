"""What happens to calls, as their users hear of it, and what is kept of each.

Implements: GB/T 28181-2022 9.2.3
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.session_timer import SessionTimer
from tongshi.protocols.sip.transaction_events import Key


class CallState(Enum):
    """See the table above."""

    CALLING = "Calling"
    PROCEEDING = "Proceeding"
    GIVEN_UP = "GivenUp"
    OFFERED = "Offered"
    ANSWERED = "Answered"
    ESTABLISHED = "Established"


@dataclass(frozen=True, slots=True)
class InviteArrived:
    """Somebody calls; answer with ``accept`` or ``reject``."""

    call: int
    request: Request
    source: Remote


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """Our call was answered; the ACK is on its way, or waits for ``acknowledge`` when we offered nothing."""

    call: int
    response: Response


@dataclass(frozen=True, slots=True)
class CallRefused:
    """Our call was refused with 300-699."""

    call: int
    response: Response


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call never came to be: silence (``is_timeout``), broken transport; incoming: no ACK."""

    call: int
    is_timeout: bool


@dataclass(frozen=True, slots=True)
class CallConfirmed:
    """The ACK for our 200 came; ``body`` is the answer it brought, if any."""

    call: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class InviteCancelled:
    """The caller cancelled; 487 is sent."""

    call: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The peer ended the call or does not know it any more; ``why`` when we ended it: nobody refreshed."""

    call: int
    why: str = ""


CallEvent = (
    InviteArrived | CallAnswered | CallRefused | CallFailed | CallConfirmed | InviteCancelled | CallEnded
)


@dataclass(slots=True)
class CallRecord:
    """What is known of one call, of either side."""

    number: int
    state: CallState
    invite: Request
    key: Key
    remote: Remote
    local_tag: str
    dialog: Dialog | None = None
    answer: bytes = b""
    interval_s: float = 0.0
    # The session as both sides last described it, and a re-INVITE whose 200 is not acknowledged yet.
    local_sdp: bytes = b""
    remote_sdp: bytes = b""
    refresh: Key | None = None
    # What was agreed on refreshing it, and our own re-INVITE that waits for its answer.
    timer: SessionTimer | None = None
    own_refresh: Key | None = None
