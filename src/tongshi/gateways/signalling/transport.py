"""The sockets of one SIP address: UDP and TCP on the same port, bytes in and out.

Implements: GB/T 28181-2022 4.3.2
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

from tongshi.gateways.signalling import kernel_filter
from tongshi.protocols.sip.message import Remote
from tongshi.protocols.sip.stream import StreamParser
from tongshi.protocols.sip.transaction import Output

log = structlog.get_logger(__name__)

UDP_BUFFER_BYTES = 4 * 1024 * 1024
MAX_UNSENT_BYTES = 4 * 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
FIRST_MESSAGE_S = 10.0
PAUSE_S = 0.5
_PORT_TRIES = 32


class SipSockets:
    """UDP socket, TCP listener and TCP connections.

    Attributes:
        on_message: called with each datagram or whole frame and its source.
        on_lost: called when a TCP connection is gone or could not be made.
        admits: asked for each connection that somebody opens, with how many of that address are open.
            All are set before ``open``.
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
    ) -> None:
        self._host = host
        self._port = port
        self.on_message: Callable[[bytes, Remote], None] = _nothing
        self.on_lost: Callable[[Remote], None] = _nothing
        self.admits: Callable[[Remote, int], bool] = lambda remote, open_already: True
        self._allow_udp = allow_udp
        self._allow_tcp = allow_tcp
        self._max_connections = max_connections
        self._idle_timeout_s = idle_timeout_s
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._connections: dict[Remote, _Connection] = {}
        self._hosts: Counter[str] = Counter()
        self._dials: dict[Remote, tuple[asyncio.Task[None], list[bytes]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self) -> int:
        """Bind; returns the port. Raises OSError."""
        for attempt in range(_PORT_TRIES):
            try:
                port = await self._bind_udp(self._port) if self._allow_udp else self._port
                port = await self._bind_tcp(port) if self._allow_tcp else port
            except OSError:
                self._unbind()
                if self._port or attempt == _PORT_TRIES - 1:
                    raise
            else:
                self._schedule_sweep()
                return port
        raise OSError("no port free for UDP and TCP")

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

    async def dial(self, remote: Remote) -> bool:
        """Open a TCP connection ahead of what will be sent. Whether there is one now."""
        if remote not in self._connections and not self._is_closed:
            self._dial(remote, b"")
            dial = self._dials.get(remote)
            if dial is not None:
                await asyncio.wait((dial[0],))
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

    def opened(self, connection: _Connection) -> bool:
        """A connection came to be. False when there is no room for it."""
        if self._is_closed or len(self._connections) >= self._max_connections:
            return False
        host = connection.remote.host
        if not connection.is_dialled and not self.admits(connection.remote, self._hosts[host]):
            return False
        self._hosts[host] += 1
        self._connections[connection.remote] = connection
        return True

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        if self._connections.get(connection.remote) is connection:
            del self._connections[connection.remote]
            host = connection.remote.host
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            self.on_lost(connection.remote)

    # Private.

    async def _bind_udp(self, port: int) -> int:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self._host, port)
        )
        self._udp = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        return cast(int, transport.get_extra_info("sockname")[1])

    async def _bind_tcp(self, port: int) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, port, backlog=512)
        return cast(int, self._server.sockets[0].getsockname()[1])

    def _unbind(self) -> None:
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._server is not None:
            self._server.close()
            self._server = None

    def _dial(self, remote: Remote, data: bytes) -> None:
        dial = self._dials.get(remote)
        if dial is not None:
            if sum(map(len, dial[1])) + len(data) <= MAX_UNSENT_BYTES:
                dial[1].append(data)
            return
        if len(self._connections) + len(self._dials) >= self._max_connections:
            asyncio.get_running_loop().call_soon(self.on_lost, remote)
            return
        task = asyncio.create_task(self._connect(remote), name=f"sip-dial-{remote}")
        self._dials[remote] = task, [data]

    async def _connect(self, remote: Remote) -> None:
        loop = asyncio.get_running_loop()
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, remote), remote.host, remote.port
                )
        except (OSError, TimeoutError) as error:
            log.info("sip_connect_failed", remote=str(remote), reason=str(error))
        waiting = self._dials.pop(remote)[1]
        if connection is None or not self.has_connection(remote):
            self.on_lost(remote)
            return
        for data in waiting:
            connection.write(data)

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


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, sockets: SipSockets) -> None:
        self._sockets = sockets

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._sockets.on_message(data, Remote(addr[0], addr[1], "udp"))

    def error_received(self, exc: Exception) -> None:
        # An ICMP answer does not say which datagram it means; the transaction's timer will.
        log.debug("sip_udp_error", reason=str(exc))


class _Connection(asyncio.Protocol):
    """One TCP connection, accepted (``remote`` None) or dialled."""

    def __init__(self, sockets: SipSockets, remote: Remote | None = None) -> None:
        self._sockets = sockets
        self._dialled = remote
        self.is_dialled = remote is not None
        self._parser = StreamParser()
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.remote = remote or Remote("", 0, "tcp")
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.active_at = self._loop.time()
        self.has_spoken = remote is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._dialled is None:
            peer = transport.get_extra_info("peername")
            if peer is None:
                self._transport.abort()
                return
            self.remote = Remote(peer[0], peer[1], "tcp")
        if not self._sockets.opened(self):
            log.warning("sip_connection_refused", remote=str(self.remote), reason="too many")
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        frames = self._parser.feed(data)
        self._deliver(frames)
        if self._parser.violation is not None:
            log.info("sip_stream_lost", remote=str(self.remote), reason=self._parser.violation.message)
            self._transport.abort()
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._parser.awaits_pause:
            self._pause = self._loop.call_later(PAUSE_S, lambda: self._deliver(self._parser.pause()))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        # What a peer said before it hung up counts, even without a length.
        self._deliver(self._parser.pause())
        self._sockets.lost(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() + len(data) > MAX_UNSENT_BYTES:
            log.warning("sip_peer_does_not_read", remote=str(self.remote))
            self._transport.abort()
            return
        self.active_at = self._loop.time()
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _deliver(self, frames: list[bytes]) -> None:
        if frames:
            # Line ends alone are no sign of life worth a place in the table.
            self.active_at, self.has_spoken = self._loop.time(), True
        for frame in frames:
            self._sockets.on_message(frame, self.remote)


def _nothing(*_: object) -> None:
    """Nobody listens yet."""
