"""Who dials us by TLS: accepted one by one, so that half-open handshakes are counted and end.

Implements: GB/T 28181-2022 8.2
The event loop's own TLS server shows a connection only after its handshake, whoever and how many wait there.
Here an address is looked at before the first byte, and there is a bound on all handshakes under way.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

import structlog

from tongshi.gateways.signalling.connection import Connection
from tongshi.gateways.signalling.tls import HANDSHAKE_S, SHUTDOWN_S
from tongshi.gateways.tls import reason_of
from tongshi.protocols.sip.message import Remote

log = structlog.get_logger(__name__)

BACKLOG = 512
_OUT_OF_FILES_S = 0.1


class TlsListener:
    """Accepts and shakes hands.

    Args:
        context: for one handshake.
        make: what a connection is, once its handshake is done.
        enters: asked before each handshake; False when there is no room for it.
        leaves: told when that handshake is over, well or not.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        make: Callable[[Remote], Connection],
        enters: Callable[[Remote, int], bool],
        leaves: Callable[[Remote], None],
    ) -> None:
        self._context = context
        self._make = make
        self._enters, self._leaves = enters, leaves
        self._shaking: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def open(self, host: str, port: int) -> int:
        """Bind and listen; returns the port. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
        made.setblocking(False)
        self._socket = made
        self._accepting = asyncio.get_running_loop().create_task(self._accept(made))
        return cast(int, made.getsockname()[1])

    async def close(self) -> None:
        """Accept nobody any more and give up what is half open."""
        tasks = [*self._shaking, *((self._accepting,) if self._accepting is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, at = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("sip_accept_failed", reason=str(error))
                await asyncio.sleep(_OUT_OF_FILES_S)
                continue
            remote = Remote(at[0], at[1], "tls")
            if not self._enters(remote, len(self._shaking)):
                log.warning("sip_connection_refused", remote=str(remote), reason="too many")
                accepted.close()
                continue
            task = loop.create_task(self._shake_hands(accepted, remote))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake_hands(self, accepted: socket.socket, remote: Remote) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(remote),
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, TimeoutError) as error:
            log.info("sip_tls_refused", remote=str(remote), reason=reason_of(error))
        finally:
            self._leaves(remote)
