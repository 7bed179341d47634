"""G.711: silence, both laws, and the way from one to the other."""

from __future__ import annotations

import numpy as np
import pytest

from tongshi.protocols.media.g711 import FRAME_BYTES, SILENCE, Law, convert, linear
from tongshi.testing.audio import encode_alaw


@pytest.mark.parametrize("law", ["alaw", "ulaw"])
def test_silence_is_nearly_nothing(law: Law) -> None:
    assert len(SILENCE[law]) == FRAME_BYTES == 160
    assert abs(linear(SILENCE[law][0], law)) <= 8


def test_what_an_encoder_writes_is_read_back() -> None:
    samples = np.array([-32_000, -1_000, -40, 0, 40, 1_000, 32_000], np.int16)
    for sample, code in zip(samples, encode_alaw(samples), strict=True):
        assert abs(linear(code, "alaw") - int(sample)) <= abs(int(sample)) / 16 + 16


@pytest.mark.parametrize(("law", "wanted"), [("alaw", "ulaw"), ("ulaw", "alaw")])
def test_a_sample_keeps_its_height_in_the_other_law(law: Law, wanted: Law) -> None:
    for code in range(256):
        (other,) = convert(bytes([code]), law, wanted)
        height = linear(code, law)
        assert abs(linear(other, wanted) - height) <= abs(height) / 24 + 16
    assert convert(b"\x01\x02", law, law) == b"\x01\x02"


def test_known_levels() -> None:
    assert (linear(0xD5, "alaw"), linear(0x2A, "alaw"), linear(0xAA, "alaw")) == (8, -32_256, 32_256)
    assert (linear(0xFF, "ulaw"), linear(0x00, "ulaw"), linear(0x80, "ulaw")) == (0, -32_124, 32_124)
