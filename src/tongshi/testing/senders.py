"""Where a camera's frames leave: the engine's sender, one that sends garbage, and the choice between them."""

from __future__ import annotations

import random
import socket
import struct
from typing import Literal

from tongshi.testing.picture import Codec
from tongshi.testing.stream import FrameSender

MediaTransport = Literal["udp", "tcp-active", "tcp-passive"]

_FAST_ETHERNET_KBPS = 100_000  # the port of most cameras: a key frame's packets leave no faster
_GARBAGE_PACKETS, _GARBAGE_BYTES = 4, 1000


def open_sender(transport: MediaTransport, host: str, ssrc: int, codec: Codec, sound: str) -> FrameSender:
    """The native engine's sender of PS over RTP; ``sound`` "" has none. Raises OSError: no port."""
    # Imported here, because cameras that are never watched and most tests need no engine.
    from tongshi._media import PsSender

    return PsSender(transport, host, 0, ssrc, codec, sound, rate_kbps=_FAST_ETHERNET_KBPS)


class GarbageSender:
    """Sends RTP packets of the right SSRC whose payload is noise: packets come, a picture never does."""

    def __init__(self, transport: MediaTransport, host: str, ssrc: int, rng: random.Random) -> None:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self._transport, self._ssrc, self._rng = transport, ssrc, rng
        self._sequence = 0
        self._peer: socket.socket | None = None
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.bind((host, 0))
        if transport == "tcp-passive":
            self._socket.listen(1)
            self._socket.setblocking(False)

    @property
    def local_port(self) -> int:
        """The port bound."""
        return int(self._socket.getsockname()[1])

    def connect(self, host: str, port: int) -> None:
        """Name the receiver; for tcp-passive it comes by itself."""
        if self._transport != "tcp-passive":
            self._socket.settimeout(5.0)
            self._socket.connect((host, port))
            self._peer = self._socket

    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int:
        """Send noise of about a frame's size instead."""
        peer = self._peer or self._accept()
        if peer is None:
            return 0
        for _ in range(_GARBAGE_PACKETS):
            packet = self._packet(pts_90k)
            if self._transport == "udp":
                self._send_datagram(peer, packet)
            else:
                peer.sendall(struct.pack(">H", len(packet)) + packet)
        return _GARBAGE_PACKETS

    def send_audio(self, payload: bytes, pts_90k: int) -> int:
        """Nothing: the noise is enough."""
        return 0

    def close(self) -> None:
        """Close the sockets."""
        if self._peer is not None:
            self._peer.close()
        self._socket.close()

    def _accept(self) -> socket.socket | None:
        try:
            self._peer, _ = self._socket.accept()
        except BlockingIOError:
            return None
        self._peer.settimeout(5.0)
        return self._peer

    def _packet(self, timestamp: int) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        head = struct.pack(">BBHII", 0x80, 96, self._sequence, timestamp & 0xFFFFFFFF, self._ssrc)
        return head + self._rng.randbytes(_GARBAGE_BYTES)

    @staticmethod
    def _send_datagram(peer: socket.socket, packet: bytes) -> None:
        try:
            peer.send(packet)
        except ConnectionRefusedError:
            pass  # an ICMP answer to an earlier datagram; UDP cameras do not notice that nobody listens
