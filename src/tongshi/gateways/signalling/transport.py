"""The sockets of one SIP address: UDP and TCP on the same port, TLS on its own, bytes in and out.

Implements: GB/T 28181-2022 4.3.2
Implements: GB/T 28181-2022 8.2
TCP connections are told apart by the peer's address, whoever opened them, and serve both directions (9.1.1
f). A reply never opens one. A connection that sends no whole message soon, idles, cannot be framed, or does
not read what we write is closed; there is a bound on how many there are.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import cast

import structlog

from tongshi.errors import Unavailable
from tongshi.gateways.signalling import kernel_filter
from tongshi.gateways.signalling.connection import MAX_UNSENT_BYTES, Connection, Datagrams
from tongshi.gateways.signalling.tls import HANDSHAKE_S, MAX_HANDSHAKES, SHUTDOWN_S, Tls
from tongshi.gateways.signalling.tls_listener import TlsListener
from tongshi.gateways.tls import reason_of
from tongshi.protocols.sip.message import Remote
from tongshi.protocols.sip.transaction_events import Output

log = structlog.get_logger(__name__)

UDP_BUFFER_BYTES = 4 * 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
FIRST_MESSAGE_S = 10.0
_PORT_TRIES = 32


class SipSockets:
    """UDP socket, TCP and TLS listeners, and connections.

    Attributes:
        on_message: called with each datagram or whole frame and its source.
        on_lost: called when a connection is gone or could not be made, with the reason if there is one to
            tell.
        admits: asked for each connection that somebody opens, with how many of that address are open.
            All are set before ``open``.
        tls_port: where TLS is listened for, 0 for nowhere.
        allows_tcp: False speaks UDP alone, however large a request is.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        allow_udp: bool,
        allow_tcp: bool,
        max_connections: int,
        idle_timeout_s: float,
        tls: Tls | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self.on_message: Callable[[bytes, Remote], None] = _nothing
        self.on_lost: Callable[[Remote, str], None] = _nothing
        self.tls_port = 0
        self.admits: Callable[[Remote, int], bool] = lambda remote, open_already: True
        self._allow_udp = allow_udp
        self.allows_tcp = allow_tcp
        self._max_connections = max_connections
        self._idle_timeout_s = idle_timeout_s
        self._udp: asyncio.DatagramTransport | None = None
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._connections: dict[Remote, Connection] = {}
        self._listener: TlsListener | None = None
        self._hosts: Counter[str] = Counter()
        self._dials: dict[Remote, tuple[asyncio.Task[None], list[bytes]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self) -> int:
        """Bind; returns the port. Raises OSError."""
        for attempt in range(_PORT_TRIES):
            try:
                port = await self._bind_udp(self._port) if self._allow_udp else self._port
                port = await self._bind_tcp(port) if self.allows_tcp else port
            except OSError:
                self._unbind()
                if self._port or attempt == _PORT_TRIES - 1:
                    raise
            else:
                break
        self._open_tls()
        self._schedule_sweep()
        return port

    async def close(self) -> None:
        """Close everything and wait until it is closed."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        dials = [task for task, _ in self._dials.values()]
        for task in dials:
            task.cancel()
        connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        self._unbind()
        await asyncio.gather(*dials, return_exceptions=True)
        if self._listener is not None:
            await self._listener.close()
        if connections:
            _, pending = await asyncio.wait([connection.closed for connection in connections], timeout=1.0)
            for connection in connections:
                if connection.closed in pending:
                    connection.abort()
        # One turn of the loop lets the transports close their descriptors.
        await asyncio.sleep(0)

    def send(self, output: Output) -> None:
        """Send, dialling if need be; trouble is reported through ``on_lost``."""
        remote = output.remote
        if remote.transport == "udp":
            if self._udp is not None and not self._udp.is_closing():
                self._udp.sendto(output.data, (remote.host, remote.port))
            return
        connection = self._connections.get(remote)
        if connection is not None:
            connection.write(output.data)
        elif not output.is_reply and not self._is_closed:
            self._dial(remote, output.data)

    async def dial(self, remote: Remote, timeout_s: float = CONNECT_TIMEOUT_S) -> bool:
        """Open a TCP connection ahead of what will be sent. Whether there is one now, or after a while."""
        if remote not in self._connections and not self._is_closed:
            self._dial(remote, b"")
            dial = self._dials.get(remote)
            if dial is not None:
                await asyncio.wait((dial[0],), timeout=timeout_s)
        return remote in self._connections

    def shut_out(self, hosts: Iterable[str]) -> None:
        """Drop what comes from these hosts before it costs anything, and close their connections."""
        shut = frozenset(hosts)
        if self._udp is not None:
            kernel_filter.shut_out(self._udp.get_extra_info("socket"), sorted(shut))
        for remote, connection in list(self._connections.items()):
            if remote.host in shut:
                connection.abort()

    def has_connection(self, remote: Remote) -> bool:
        """Is this connection open?"""
        return remote in self._connections

    @property
    def connection_count(self) -> int:
        """Open TCP connections."""
        return len(self._connections)

    # For the connections.

    def heard(self, data: bytes, source: Remote) -> None:
        """A datagram or a whole frame."""
        self.on_message(data, source)

    def opened(self, connection: Connection) -> bool:
        """A connection came to be. False when there is no room for it."""
        if self._is_closed or len(self._connections) >= self._max_connections:
            return False
        host = connection.remote.host
        if not connection.is_dialled and not self.admits(connection.remote, self._hosts[host]):
            return False
        self._hosts[host] += 1
        self._connections[connection.remote] = connection
        return True

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        if self._connections.get(connection.remote) is connection:
            del self._connections[connection.remote]
            self._leave(connection.remote.host)
            self.on_lost(connection.remote, connection.reason)

    # Private.

    def _enters(self, remote: Remote, shaking: int) -> bool:
        """A handshake begins. False when there is no room for it: half open, it is no cheaper than open."""
        has_room = shaking < MAX_HANDSHAKES and len(self._connections) + shaking < self._max_connections
        if self._is_closed or not has_room or not self.admits(remote, self._hosts[remote.host]):
            return False
        self._hosts[remote.host] += 1
        return True

    def _leave(self, host: str) -> None:
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    async def _bind_udp(self, port: int) -> int:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(self), local_addr=(self._host, port)
        )
        self._udp = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        return cast(int, transport.get_extra_info("sockname")[1])

    async def _bind_tcp(self, port: int) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self, None), self._host, port, backlog=512)
        self._servers.append(server)
        return cast(int, server.sockets[0].getsockname()[1])

    def _open_tls(self) -> None:
        """Listen for TLS, too, where that is wanted. Raises OSError."""
        if self._tls is None or self._tls.port is None:
            return
        self._listener = TlsListener(
            self._tls.server,
            lambda remote: Connection(self, remote),
            self._enters,
            lambda remote: self._leave(remote.host),
        )
        self.tls_port = self._listener.open(self._host, self._tls.port or 0)

    def _unbind(self) -> None:
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _dial(self, remote: Remote, data: bytes) -> None:
        dial = self._dials.get(remote)
        if dial is not None:
            if sum(map(len, dial[1])) + len(data) <= MAX_UNSENT_BYTES:
                dial[1].append(data)
            return
        if len(self._connections) + len(self._dials) >= self._max_connections:
            asyncio.get_running_loop().call_soon(self.on_lost, remote, "连接数已满")
            return
        task = asyncio.create_task(self._connect(remote), name=f"sip-dial-{remote}")
        self._dials[remote] = task, [data]

    async def _connect(self, remote: Remote) -> None:
        connection: Connection | None = None
        reason = ""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._reach(remote)
        except (OSError, TimeoutError, Unavailable) as error:
            reason = reason_of(error, is_tls=remote.transport == "tls")
        waiting = self._dials.pop(remote)[1]
        if connection is None or not self.has_connection(remote):
            reason = reason or (connection.reason if connection is not None else "")
            log.info("sip_connect_failed", remote=str(remote), reason=reason)
            self.on_lost(remote, reason)
            return
        for data in waiting:
            connection.write(data)

    async def _reach(self, remote: Remote) -> Connection:
        """Dial. Raises OSError; Unavailable when nothing says how to believe a TLS server."""
        loop, host, port = asyncio.get_running_loop(), remote.host, remote.port
        if remote.transport == "tcp":
            made = await loop.create_connection(lambda: Connection(self, remote, is_dialled=True), host, port)
            return made[1]
        if self._tls is None:
            raise Unavailable("没有配置 TLS")
        dialling = self._tls.dialling(remote)
        shaken = await loop.create_connection(
            lambda: Connection(self, remote, is_dialled=True, dialling=dialling),
            host,
            port,
            ssl=dialling.context,
            server_hostname=dialling.server_name,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
        return shaken[1]

    def _schedule_sweep(self) -> None:
        period_s = min(self._idle_timeout_s / 4, FIRST_MESSAGE_S / 2)
        self._sweep = asyncio.get_running_loop().call_later(period_s, self._close_idle)

    def _close_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections.values()):
            limit_s = self._idle_timeout_s if connection.has_spoken else FIRST_MESSAGE_S
            if now - connection.active_at > min(limit_s, self._idle_timeout_s):
                connection.abort()
        self._schedule_sweep()


def _nothing(*_: object) -> None:
    """Nobody listens yet."""
