"""The cameras' sound."""

from __future__ import annotations

import numpy as np
import pytest

from tongshi.testing.audio import RATE_HZ, chimes, encode_alaw


@pytest.mark.parametrize(
    ("sample", "code"),
    # Vectors of ITU-T G.711 A-law with even bits inverted.
    [
        (0, 0xD5),
        (-1, 0x55),
        (8, 0xD5),
        (16, 0xD4),
        (32767, 0xAA),
        (-32768, 0x2A),
        (1024, 0xE5),
        (-1024, 0x7A),
    ],
)
def test_samples_are_coded_as_the_recommendation_says(sample: int, code: int) -> None:
    assert encode_alaw(np.array([sample], np.int16)) == bytes([code])


def test_chimes_last_four_seconds_and_are_no_silence() -> None:
    sound = chimes()
    assert len(sound) == 4 * RATE_HZ
    assert len(set(sound)) > 50
