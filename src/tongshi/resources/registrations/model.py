"""SIP accounts, registrations, running calls, and how the catalogues of peers stand.

Implements: GB/T 28181-2022 9.1
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class SipAccount:
    """A secret for one device, or for all whose code begins with the same digits.

    Attributes:
        scope: ``device`` or ``domain``.
        code: the 20 digits, or the leading digits that a domain shares.
        username: the digest user name; empty when it is the device's own code.
        secret: the shared secret; readable, because the digest is computed from it.
    """

    scope: Literal["device", "domain"]
    code: str
    username: str = ""
    secret: str = field(default="", repr=False)
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Registration:
    """Where a registered peer is reached, until when, and when it was last heard."""

    id: str
    host: str
    port: int
    transport: str
    registered_at: datetime
    expires_at: datetime
    last_seen_at: datetime
    contact: str = ""
    call_id: str = ""
    user_agent: str = ""
    edition: str = ""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """What a BYE needs that is sent by a process which did not open the call.

    Attributes:
        direction: ``down`` for a call of ours to a source, ``up`` for one that an upper platform made to us.
        from_id, to_id: our side and theirs; the tags likewise.
        host, port, transport: where their side is reached.
        target: Request-URI.
        cseq: number of our next request in the call.
    """

    call_id: str
    direction: Literal["down", "up"]
    from_id: str
    to_id: str
    host: str
    port: int
    transport: str
    target: str
    from_tag: str
    to_tag: str
    cseq: int
    opened_at: datetime


class CatalogueState(StrEnum):
    """What is known of a peer's catalogue."""

    ASKING = "asking"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CatalogueStanding:
    """How a peer's catalogue stands.

    Attributes:
        began_at, at: when the round of questions began, when this last changed.
        announced: SumNum as the peer gave it, -1 when it gave none.
        received: distinct items.
        broken: items that could not be read.
        reason: why it is not complete; "" when it is or may still be.
        asked: queries so far in this round.
        doubled: codes that another registered device tells, too.
    """

    peer_id: str
    state: CatalogueState
    began_at: datetime
    at: datetime
    announced: int = -1
    received: int = 0
    broken: int = 0
    reason: str = ""
    asked: int = 0
    doubled: int = 0
