"""The ADTS head of an AAC frame, as PS over RTP carries it."""

from __future__ import annotations

from typing import Final

RATES_HZ: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350
)  # fmt: skip
SAMPLES: Final = 1_024
HEAD_BYTES: Final = 7


def adts(frame: bytes, rate_hz: int, channels: int) -> bytes:
    """An AAC-LC frame with its head, without checksum. The rate is one of RATES_HZ."""
    rate, length = RATES_HZ.index(rate_hz), len(frame) + HEAD_BYTES
    head = (
        0xFF,
        0xF1,
        1 << 6 | rate << 2 | channels >> 2,
        (channels & 3) << 6 | length >> 11,
        length >> 3 & 0xFF,
        (length & 7) << 5 | 0x1F,
        0xFC,
    )
    return bytes(head) + frame


def shape_of(config: bytes) -> tuple[int, int] | None:
    """Rate in Hz and channels of an AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1), if it numbers them."""
    if len(config) < 2:
        return None
    rate, channels = (config[0] & 7) << 1 | config[1] >> 7, config[1] >> 3 & 0x0F
    return (RATES_HZ[rate], channels) if rate < len(RATES_HZ) and 1 <= channels <= 7 else None
