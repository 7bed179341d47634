"""One TCP or TLS connection of the SIP sockets, accepted or dialled, and the UDP socket's ear.

Implements: GB/T 28181-2022 4.3.2
Implements: GB/T 28181-2022 8.2
Over TLS the same bytes in the same frames with the same bounds; only the beginning differs.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

import structlog

from tongshi.gateways.signalling.tls import Dialling, objection_to
from tongshi.gateways.tls import reason_of
from tongshi.protocols.sip.message import Remote
from tongshi.protocols.sip.stream import StreamParser

log = structlog.get_logger(__name__)

MAX_UNSENT_BYTES = 4 * 1024 * 1024
PAUSE_S = 0.5


class Sockets(Protocol):
    """What a connection tells the sockets it belongs to."""

    def heard(self, data: bytes, source: Remote) -> None:
        """A datagram or a whole frame."""
        ...

    def opened(self, connection: Connection) -> bool:
        """A connection came to be. False when there is no room for it."""
        ...

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        ...


class Datagrams(asyncio.DatagramProtocol):
    """The UDP socket."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._sockets.heard(data, Remote(addr[0], addr[1], "udp"))

    def error_received(self, exc: Exception) -> None:
        # An ICMP answer does not say which datagram it means; the transaction's timer will.
        log.debug("sip_udp_error", reason=str(exc))


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        remote: where it leads.
        is_dialled: by us, not by them.
        dialling: how a server that we dial by TLS proves itself.

    Attributes:
        reason: why it ended, when there is more to say than that it did.
    """

    def __init__(
        self,
        sockets: Sockets,
        remote: Remote | None,
        *,
        is_dialled: bool = False,
        dialling: Dialling | None = None,
    ) -> None:
        self._sockets = sockets
        self.is_dialled = is_dialled
        self._dialling = dialling
        self._parser = StreamParser()
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_known = remote is not None
        self.remote = remote or Remote("", 0, "tcp")
        self.reason = ""
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.active_at = self._loop.time()
        self.has_spoken = is_dialled
        self._has_heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)
        self._transport = made
        if not self._is_known:
            peer = transport.get_extra_info("peername")
            if peer is None:
                made.abort()
                return
            self.remote = Remote(peer[0], peer[1], "tcp")
        if self._dialling is not None:
            self.reason = objection_to(self._dialling, _certificate(transport))
            if self.reason:
                made.abort()
                return
        if not self._sockets.opened(self):
            log.warning("sip_connection_refused", remote=str(self.remote), reason="too many")
            made.abort()

    def data_received(self, data: bytes) -> None:
        frames = self._parser.feed(data)
        self._deliver(frames)
        if self._parser.violation is not None:
            log.info("sip_stream_lost", remote=str(self.remote), reason=self._parser.violation.message)
            self.abort()
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._parser.awaits_pause:
            self._pause = self._loop.call_later(PAUSE_S, lambda: self._deliver(self._parser.pause()))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if not self.reason and self._transport is not None:
            self.reason = self._why_lost(exc)
        # What a peer said before it hung up counts, even without a length.
        self._deliver(self._parser.pause())
        self._sockets.lost(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def write(self, data: bytes) -> None:
        """Send; a peer that does not read is hung up on."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() + len(data) > MAX_UNSENT_BYTES:
            log.warning("sip_peer_does_not_read", remote=str(self.remote))
            self._transport.abort()
            return
        self.active_at = self._loop.time()
        self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _why_lost(self, exc: Exception | None) -> str:
        """With TLS 1.3 a server refuses our certificate after the handshake, by an alert or by hanging up."""
        if isinstance(exc, ssl.SSLError):
            return reason_of(exc)
        if self._dialling is not None and not self._has_heard:
            return "对端在 TLS 握手后立即断开（可能要求客户端证书，或不信任我方证书）"
        return ""

    def _deliver(self, frames: list[bytes]) -> None:
        if frames:
            self._has_heard = True
            # Line ends alone are no sign of life worth a place in the table.
            self.active_at, self.has_spoken = self._loop.time(), True
        for frame in frames:
            self._sockets.heard(frame, self.remote)


def _certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """What the other end showed (DER)."""
    link = transport.get_extra_info("ssl_object")
    shown: bytes | None = link.getpeercert(binary_form=True) if link is not None else None
    return shown
