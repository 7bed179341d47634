"""RTP packets of sound: written for a loudspeaker, read from a platform above. No I/O.

Implements: GB/T 28181-2022 C.2.4
Implements: GB/T 28181-2022 Annex D
Pictures never come here: their packets live in the native engine. Sound toward a loudspeaker is fifty packets
a second of one size, which Python sends without being noticed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAX_PACKET_BYTES: Final = 4_096
_HEAD: Final = struct.Struct(">BBHII")


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One packet. ``rtp_ts`` counts samples."""

    payload_type: int
    sequence: int
    rtp_ts: int
    ssrc: int
    payload: bytes
    marker: bool = False

    def render(self) -> bytes:
        """The bytes of a datagram."""
        second = self.payload_type | (0x80 if self.marker else 0)
        head = _HEAD.pack(0x80, second, self.sequence & 0xFFFF, self.rtp_ts & 0xFFFFFFFF, self.ssrc)
        return head + self.payload


def parse_packet(data: bytes) -> AudioPacket | None:
    """Read a datagram; None for what is no RTP. Padding, extension and contributors are left out."""
    if not _HEAD.size < len(data) <= MAX_PACKET_BYTES or data[0] >> 6 != 2:
        return None
    first, second, sequence, rtp_ts, ssrc = _HEAD.unpack_from(data)
    begin, end = _HEAD.size + 4 * (first & 0x0F), len(data)
    if first & 0x10:
        if begin + 4 > end:
            return None
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    if first & 0x20:
        end -= data[-1]
    if begin >= end:
        return None
    return AudioPacket(second & 0x7F, sequence, rtp_ts, ssrc, data[begin:end], bool(second & 0x80))


def framed(packet: bytes) -> bytes:
    """A packet as it travels over TCP: two bytes of length before it (RFC 4571)."""
    return len(packet).to_bytes(2, "big") + packet
