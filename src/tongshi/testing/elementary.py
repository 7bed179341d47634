"""A sender of bare elementary streams: the picture by RFC 6184 or RFC 7798, G.711 beside it, one SSRC.

Implements: GB/T 28181-2022 C.2
"""

from __future__ import annotations

import socket
import struct

from tongshi.testing.picture import Codec

_PAYLOAD_MAX = 1388
_PCMA = 8
_END, _START = 0x40, 0x80


class ElementarySender:
    """Fulfils ``stream.FrameSender`` over UDP or, connecting, over TCP."""

    def __init__(self, *, is_tcp: bool, host: str, ssrc: int, codec: Codec, payload_type: int) -> None:
        kind = socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM
        self._is_tcp, self._ssrc, self._codec, self._payload_type = is_tcp, ssrc, codec, payload_type
        self._sequence = 0
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.bind((host, 0))
        self._socket.settimeout(5.0)

    @property
    def local_port(self) -> int:
        """The port bound."""
        return int(self._socket.getsockname()[1])

    def connect(self, host: str, port: int) -> None:
        """Name the receiver."""
        self._socket.connect((host, port))

    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int:
        """One access unit, the marker on its last packet."""
        nals = [part.strip(b"\0") for part in annexb.split(b"\0\0\1")]
        payloads = [payload for nal in nals if nal for payload in self._fragments(nal)]
        for number, payload in enumerate(payloads, 1):
            self._send(payload, pts_90k, self._payload_type, is_last=number == len(payloads))
        return len(payloads)

    def send_audio(self, payload: bytes, pts_90k: int) -> int:
        """One packet at 8 kHz."""
        self._send(payload, pts_90k * 8 // 90, _PCMA, is_last=False)
        return 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _fragments(self, nal: bytes) -> list[bytes]:
        if len(nal) <= _PAYLOAD_MAX:
            return [nal]
        head = 1 if self._codec == "h264" else 2
        pieces = [nal[at : at + _PAYLOAD_MAX] for at in range(head, len(nal), _PAYLOAD_MAX)]
        made = []
        for number, piece in enumerate(pieces):
            flags = (_START if number == 0 else 0) | (_END if number == len(pieces) - 1 else 0)
            if self._codec == "h264":
                made.append(bytes([nal[0] & 0xE0 | 28, flags | nal[0] & 0x1F]) + piece)
            else:
                made.append(bytes([nal[0] & 0x81 | 49 << 1, nal[1], flags | nal[0] >> 1 & 0x3F]) + piece)
        return made

    def _send(self, payload: bytes, timestamp: int, payload_type: int, *, is_last: bool) -> None:
        mark = 0x80 if is_last else 0
        head = struct.pack(
            ">BBHII", 0x80, mark | payload_type, self._sequence, timestamp & 0xFFFFFFFF, self._ssrc
        )
        self._sequence = (self._sequence + 1) & 0xFFFF
        packet = head + payload
        if self._is_tcp:
            self._socket.sendall(struct.pack(">H", len(packet)) + packet)
            return
        try:
            self._socket.send(packet)
        except ConnectionRefusedError:
            pass  # an ICMP answer to an earlier datagram; UDP cameras do not notice that nobody listens
