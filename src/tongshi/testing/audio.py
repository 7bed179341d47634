"""A sound for cameras: soft chimes in G.711 A-law, 8 kHz, made once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8000
_LOOP_S = 4
_NOTES_HZ = (523.25, 659.25, 783.99, 659.25)


def chimes() -> bytes:
    """Four seconds that loop without a click: 32,000 A-law bytes."""
    t = np.arange(RATE_HZ) / RATE_HZ
    envelope = np.exp(-4.0 * t) * np.minimum(1.0, t * 200.0)
    notes = [np.sin(2 * np.pi * hz * t) * envelope for hz in _NOTES_HZ[:_LOOP_S]]
    return encode_alaw((np.concatenate(notes) * 9000).astype(np.int16))


def encode_alaw(samples: NDArray[np.int16]) -> bytes:
    """Linear 16-bit samples to A-law (ITU-T G.711), one byte a sample."""
    positive = samples >= 0
    magnitude = np.where(positive, samples.astype(np.int32), -samples.astype(np.int32) - 1) >> 3
    magnitude = np.clip(magnitude, 0, 0xFFF)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    mantissa = np.where(segment == 0, magnitude >> 1, magnitude >> segment) & 0x0F
    code = (segment << 4) | mantissa
    coded: NDArray[np.uint8] = (np.where(positive, code | 0x80, code) ^ 0x55).astype(np.uint8)
    return coded.tobytes()
