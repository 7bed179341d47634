"""Client side of registration: REGISTER with digest, refresh, retry, deregistration.

Implements: GB/T 28181-2022 9.1
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tongshi.gateways.signalling.endpoint import SipEndpoint
from tongshi.protocols.sip.message import Remote


class Registrant:
    """Keeps one identity registered at one server.

    Args:
        server_id: 20-digit code of the server. remote: its address.
        username: digest user, normally our own code. password: its secret.
        expires_s: lifetime we ask for; the server's answer decides.
        retry_s: shortest gap after a failure; up to half of it is added at random (9.1.1 c).
        on_state: called with (registered, reason) at every change.
        rng: source of jitter and cnonces.
        local_id: registers this identity instead of the endpoint's own.

    Attributes:
        registered: set while registered. server_date: Date header of the last 200, as it came.
    """

    registered: asyncio.Event
    server_date: str | None

    def __init__(
        self,
        endpoint: SipEndpoint,
        *,
        server_id: str,
        remote: Remote,
        username: str,
        password: str,
        expires_s: int = 3600,
        retry_s: float = 60.0,
        on_state: Callable[[bool, str], None] | None = None,
        rng: random.Random | None = None,
        local_id: str | None = None,
        headers: tuple[tuple[str, str], ...] = (("X-GB-Ver", "3.0"),),
    ) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Begin registering in the background; returns at once."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Deregister (Expires 0) when registered, and end."""
        raise NotImplementedError

    def renew(self) -> None:
        """Register again now, e.g. after the keepalives went unanswered."""
        raise NotImplementedError
