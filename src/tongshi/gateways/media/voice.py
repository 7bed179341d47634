"""Sockets of sound: one packet every twenty milliseconds toward a loudspeaker, and packets of an upper in.

Implements: GB/T 28181-2022 C.2.4
Implements: GB/T 28181-2022 Annex D
An asyncio sender and no part of the native engine: fifty small packets a second for each loudspeaker, at most
``MAX_OUTLETS`` of them, is what the loop carries beside its other work, and it needs nothing that the engine
has (no demultiplexer, no cache, no viewers). What comes faster than it is spoken is dropped, the oldest
first; while nothing comes, silence is sent, so that nobody takes the quiet for a lost stream (Annex K).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Final

import structlog

from tongshi.errors import Unavailable
from tongshi.protocols.media.g711 import FRAME_BYTES, FRAME_S, SILENCE, Law, convert
from tongshi.protocols.media.rtp_audio import MAX_PACKET_BYTES, AudioPacket, framed, parse_packet
from tongshi.resources.viewing.model import Transport

log = structlog.get_logger(__name__)

MAX_OUTLETS: Final = 500
MAX_BUFFER_BYTES: Final = 8_000  # one second
PREBUFFER_BYTES: Final = 2 * FRAME_BYTES  # what jitter may eat before a gap is heard
MAX_LATE_S: Final = 0.2  # later than this, the clock starts anew instead of hurrying
CONNECT_TIMEOUT_S: Final = 5.0
MAX_UNSENT_BYTES: Final = 16_000  # a TCP peer that reads nothing for two seconds is gone


class VoiceOutlet:
    """Sends sound to one loudspeaker.

    Attributes:
        port: the local port, for SDP.
        ended: set when nothing can be sent any more.
        packets, silent, dropped_bytes: what was sent, how much of it silence, what was too much.
    """

    def __init__(self, transport: Transport, host: str) -> None:
        self._transport = transport
        self._host = host
        self.port = 0
        self.ended = asyncio.Event()
        self.packets = 0
        self.silent = 0
        self.dropped_bytes = 0
        self._socket: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._accepted: asyncio.Future[asyncio.StreamWriter] | None = None
        self._buffer = bytearray()
        self._law: Law = "alaw"
        self._is_speaking = False
        self._task: asyncio.Task[None] | None = None

    async def bind(self) -> None:
        """Take a port. Raises Unavailable (50302)."""
        try:
            if self._transport is Transport.TCP_PASSIVE:
                self._accepted = asyncio.get_running_loop().create_future()
                self._server = await asyncio.start_server(self._accept, self._host, 0)
                self.port = int(self._server.sockets[0].getsockname()[1])
                return
            kind = socket.SOCK_DGRAM if self._transport is Transport.UDP else socket.SOCK_STREAM
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            self._socket = socket.socket(family, kind)
            self._socket.setblocking(False)
            self._socket.bind((self._host, 0))
            self.port = int(self._socket.getsockname()[1])
        except OSError as error:
            await self.close()
            raise Unavailable("媒体端口不足", code=50302, retry_after_s=5) from error

    def begin(self, host: str, port: int, *, payload_type: int, law: Law, ssrc: int) -> None:
        """Speak to this address from now on; for tcp-passive it connects by itself."""
        self._law = law
        self._task = asyncio.get_running_loop().create_task(self._run(host, port, payload_type, ssrc))

    def feed(self, samples: bytes, law: Law) -> None:
        """Take sound to be spoken; never waits."""
        self._buffer += convert(samples, law, self._law)
        excess = len(self._buffer) - MAX_BUFFER_BYTES
        if excess > 0:
            del self._buffer[:excess]
            self.dropped_bytes += excess

    async def close(self) -> None:
        """Stop and let go of the port. Idempotent."""
        self.ended.set()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._let_go()

    async def _run(self, host: str, port: int, payload_type: int, ssrc: int) -> None:
        try:
            send = await self._connect(host, port)
            await self._speak(send, payload_type, ssrc)
        except (OSError, TimeoutError) as error:
            log.info("voice_outlet_ended", peer=f"{host}:{port}", error=str(error) or "timeout")
        finally:
            self.ended.set()
            self._let_go()

    async def _connect(self, host: str, port: int) -> Callable[[bytes], None]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if self._transport is Transport.TCP_PASSIVE:
                assert self._accepted is not None  # bound before
                self._writer = await self._accepted
                return self._write
            assert self._socket is not None  # bound before
            await loop.sock_connect(self._socket, (host, port))
            if self._transport is Transport.UDP:
                return self._datagram
            taken, self._socket = self._socket, None
            _, self._writer = await asyncio.open_connection(sock=taken)
            return self._write

    async def _speak(self, send: Callable[[bytes], None], payload_type: int, ssrc: int) -> None:
        """One packet a frame by the clock."""
        loop = asyncio.get_running_loop()
        sequence, rtp_ts = secrets.randbelow(2**16), secrets.randbelow(2**32)
        due = loop.time()
        while True:
            payload, is_first = self._next()
            send(AudioPacket(payload_type, sequence, rtp_ts, ssrc, payload, is_first).render())
            self.packets += 1
            sequence, rtp_ts, due = sequence + 1, rtp_ts + FRAME_BYTES, due + FRAME_S
            if loop.time() - due > MAX_LATE_S:
                due = loop.time()
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _next(self) -> tuple[bytes, bool]:
        """The sound of the next frame, and whether speech begins with it."""
        held = len(self._buffer)
        begins = not self._is_speaking and held >= PREBUFFER_BYTES
        self._is_speaking = held >= FRAME_BYTES and (self._is_speaking or begins)
        if not self._is_speaking:
            self.silent += 1
            return SILENCE[self._law], False
        payload = bytes(self._buffer[:FRAME_BYTES])
        del self._buffer[:FRAME_BYTES]
        return payload, begins

    def _datagram(self, packet: bytes) -> None:
        assert self._socket is not None  # connected before
        try:
            self._socket.send(packet)
        except (BlockingIOError, ConnectionRefusedError):
            pass  # a full buffer costs a frame; a closed port shows by BYE, or by the peer's heartbeat

    def _write(self, packet: bytes) -> None:
        assert self._writer is not None  # connected before
        if self._writer.is_closing() or self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise ConnectionResetError("the loudspeaker reads nothing")
        self._writer.write(framed(packet))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._accepted is not None  # set before the server is
        if self._accepted.done():
            writer.close()
        else:
            self._accepted.set_result(writer)

    def _let_go(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class VoiceInlet(asyncio.DatagramProtocol):
    """Takes the sound of one sender over UDP.

    Attributes:
        port: the local port, for SDP. packets: how many were taken.
    """

    def __init__(self, host: str, on_sound: Callable[[bytes, int], None]) -> None:
        self._host = host
        self._on_sound = on_sound
        self.port = 0
        self.packets = 0
        self.foreign = 0
        self._ssrc: int | None = None
        self._sender = ""
        self._transport: asyncio.DatagramTransport | None = None

    async def bind(self) -> None:
        """Take a port. Raises Unavailable (50302)."""
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, 0))
        except OSError as error:
            raise Unavailable("媒体端口不足", code=50302, retry_after_s=5) from error
        self.port = int(self._transport.get_extra_info("sockname")[1])

    def expect(self, ssrc: int | None, sender: str) -> None:
        """Take only this source from now on; the first one seen when the answer named none."""
        self._ssrc, self._sender = ssrc, sender

    def close(self) -> None:
        """Let go of the port. Idempotent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) > MAX_PACKET_BYTES or not self._sender or addr[0] != self._sender:
            self.foreign += 1
            return
        packet = parse_packet(data)
        if packet is None or (self._ssrc is not None and packet.ssrc != self._ssrc):
            self.foreign += 1
            return
        self._ssrc = packet.ssrc
        self.packets += 1
        self._on_sound(packet.payload, packet.payload_type)


class VoiceSockets:
    """Makes outlets and inlets on one host, a bounded number of outlets at once."""

    def __init__(self, host: str, limit: int = MAX_OUTLETS) -> None:
        self.host = host
        self._limit = limit
        self._outlets: set[VoiceOutlet] = set()

    @property
    def count(self) -> int:
        """Outlets that are open."""
        self._outlets = {outlet for outlet in self._outlets if not outlet.ended.is_set()}
        return len(self._outlets)

    async def outlet(self, transport: Transport) -> VoiceOutlet:
        """A bound outlet. Raises Unavailable (50302): no room or no port."""
        if self.count >= self._limit:
            raise Unavailable("语音路数已满", code=50302, retry_after_s=10)
        made = VoiceOutlet(transport, self.host)
        await made.bind()
        self._outlets.add(made)
        return made

    async def inlet(self, on_sound: Callable[[bytes, int], None]) -> VoiceInlet:
        """A bound inlet. Raises Unavailable (50302)."""
        made = VoiceInlet(self.host, on_sound)
        await made.bind()
        return made
