"""Payload types of RTP, by number and by name.

Implements: GB/T 28181-2022 C.2

Packets live in the native engine; here are only the names that signalling speaks of.
"""

from __future__ import annotations

from typing import Final

import msgspec


class RtpMap(msgspec.Struct, frozen=True):
    """One a=rtpmap: payload type 0-127, encoding name as spelt, clock in Hz, channels when given."""

    payload_type: int
    encoding: str
    clock_hz: int
    channels: int | None = None

    def render(self) -> str:
        """The value after ``a=rtpmap:``."""
        suffix = f"/{self.channels}" if self.channels is not None else ""
        return f"{self.payload_type} {self.encoding}/{self.clock_hz}{suffix}"


PS: Final = RtpMap(96, "PS", 90_000)
RTP_MAPS: Final = {
    96: PS,
    97: RtpMap(97, "MPEG4", 90_000),
    98: RtpMap(98, "H264", 90_000),
    99: RtpMap(99, "SVAC", 90_000),
    100: RtpMap(100, "H265", 90_000),
    102: RtpMap(102, "AAC", 8_000),
    8: RtpMap(8, "PCMA", 8_000),
    4: RtpMap(4, "G723", 8_000),
    9: RtpMap(9, "G722", 8_000),
    18: RtpMap(18, "G729", 8_000),
    20: RtpMap(20, "SVACA", 8_000),
}
LIVE_PAYLOAD_TYPES: Final = (96, 98, 97, 99, 100)  # PS first: some devices take the first whatever it is
