"""The way of what is being served, from an upper platform's request to the one that we send for it.

Implements: GB/T 28181-2022 Annex H
Implements: GB/T 28181-2022 8.3
Between the two stands viewing, which knows pictures and no SIP: the journey travels beside it in the context
of the task, as the request id of a log line does. A picture opened for somebody of our own begins one.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import routing
from tongshi.protocols.sip.message import Request

MAX_FORWARDS = 70


@dataclass(frozen=True, slots=True)
class Journey:
    """How a call, a question or a command came here and how it is to go on.

    Attributes:
        preferred: platforms that it should go through, as it came.
        identity: Monitor-User-Identity as it came; "" for what is our own.
        hops_left: Max-Forwards of what we send.
    """

    preferred: tuple[str, ...] = ()
    identity: str = ""
    hops_left: int = MAX_FORWARDS

    def headers(self, own_id: str) -> tuple[tuple[str, str], ...]:
        """What a request to a lower platform carries of it."""
        onward = routing.onward(self.preferred, own_id)
        path = ((routing.PREFERRED_PATH, routing.render_path(onward)),) if onward else ()
        return (
            *path,
            (routing.USER_IDENTITY, routing.identity_through(own_id, self.identity)),
            ("Max-Forwards", str(self.hops_left)),
        )


current: ContextVar[Journey] = ContextVar("journey", default=Journey())  # noqa: B039  # frozen


def refusal(own_id: str, invite: Request) -> int:
    """The SIP status that ends what goes in circles; 0 when it may go on. Raises RemoteViolation."""
    if _hops(invite) < 1:
        return 483
    return 482 if routing.has_passed(own_id, invite.headers.get(routing.USER_IDENTITY)) else 0


def of(invite: Request) -> Journey:
    """The journey of an upper platform's request. Raises RemoteViolation: a path that cannot be read."""
    return Journey(
        routing.parse_path(invite.headers.get(routing.PREFERRED_PATH)),
        invite.headers.get(routing.USER_IDENTITY),
        _hops(invite) - 1,
    )


def _hops(invite: Request) -> int:
    text = invite.headers.get("Max-Forwards")
    if not text:
        return MAX_FORWARDS
    if not (text.isascii() and text.isdigit()):
        raise RemoteViolation("malformed Max-Forwards", field="Max-Forwards")
    return min(int(text[:4]), MAX_FORWARDS)
