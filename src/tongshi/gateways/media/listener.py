"""A TCP listener whose connections begin with a head of bounded size, read in bounded time.

What stands behind the head may be handed to the engine: so these are plain sockets, not asyncio's streams.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

MAX_CONNECTIONS: Final = 1_000  # not yet the engine's: a flood of silent ones is refused beyond
BACKLOG: Final = 1_024


class Listener:
    """Listens, and gives each connection to ``serve``, whose it is to close, with the peer's address.

    Args:
        host, port: where to listen; port 0 lets the system choose, see ``port`` after ``start``.
    """

    def __init__(self, host: str, port: int, serve: Callable[[socket.socket, str], Awaitable[None]]) -> None:
        self._host = host
        self.port = port
        self._serve = serve
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self.port))
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self.port = listener.getsockname()[1]
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listener))

    async def stop(self) -> None:
        """Stop listening and end the connections that are still here."""
        tasks = [*self._connections, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                # No descriptors left: those who wait in the backlog are served when one comes free.
                log.warning("viewer_accept_failed", error=str(error))
                await asyncio.sleep(0.1)
                continue
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                continue
            connection.setblocking(False)
            task = loop.create_task(self._run(connection, str(address[0])))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _run(self, connection: socket.socket, client_host: str) -> None:
        try:
            await self._serve(connection, client_host)
        finally:
            connection.close()


async def read_head(connection: socket.socket, held: bytes, max_bytes: int) -> tuple[bytes, bytes] | None:
    """What stands before the next blank line, and what came behind it; None when it is longer than allowed.

    Raises:
        ConnectionResetError: closed before its end.
    """
    data = held
    while b"\r\n\r\n" not in data[: max_bytes + 1]:
        if len(data) > max_bytes:
            return None
        part = await asyncio.get_running_loop().sock_recv(connection, max_bytes + 1 - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest
