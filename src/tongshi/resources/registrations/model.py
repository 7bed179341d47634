"""SIP accounts and registrations.

Implements: GB/T 28181-2022 9.1
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
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
