"""G.711: A-law to mu-law and back, a byte a sample, and what silence looks like.

Implements: GB/T 28181-2022 C.2.4
"""

from __future__ import annotations

from typing import Final, Literal

Law = Literal["alaw", "ulaw"]

RATE_HZ: Final = 8_000
FRAME_S: Final = 0.02
FRAME_BYTES: Final = 160  # twenty milliseconds: the least that the standard allows in one packet

PAYLOAD_TYPES: Final[dict[int, Law]] = {8: "alaw", 0: "ulaw"}
SILENCE: Final[dict[Law, bytes]] = {"alaw": b"\xd5" * FRAME_BYTES, "ulaw": b"\xff" * FRAME_BYTES}


def convert(samples: bytes, law: Law, wanted: Law) -> bytes:
    """The same sound in the other law."""
    return samples if law == wanted else samples.translate(_TABLES[wanted])


def linear(code: int, law: Law) -> int:
    """One sample as a signed 16-bit number (ITU-T G.711)."""
    return _of_alaw(code) if law == "alaw" else _of_ulaw(code)


def _of_alaw(code: int) -> int:
    code ^= 0x55
    mantissa, segment = code & 0x0F, (code & 0x70) >> 4
    magnitude = (mantissa << 4) + 8
    if segment:
        magnitude = (magnitude + 0x100) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


def _of_ulaw(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _table(source: Law, wanted: Law) -> bytes:
    """For each code of one law the nearest of the other."""
    levels = sorted((linear(code, wanted), code) for code in range(256))
    return bytes(
        min(levels, key=lambda level: abs(level[0] - linear(code, source)))[1] for code in range(256)
    )


_TABLES: Final[dict[Law, bytes]] = {"ulaw": _table("alaw", "ulaw"), "alaw": _table("ulaw", "alaw")}
