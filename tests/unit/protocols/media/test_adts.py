"""The head of an AAC frame, and what an AudioSpecificConfig says of it."""

from __future__ import annotations

import pytest

from tongshi.protocols.media.adts import HEAD_BYTES, RATES_HZ, adts, shape_of


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_config_of_low_complexity_is_read(rate_hz: int, channels: int) -> None:
    number = RATES_HZ.index(rate_hz)
    config = bytes([2 << 3 | number >> 1, (number & 1) << 7 | channels << 3])
    assert shape_of(config) == (rate_hz, channels)


@pytest.mark.parametrize("config", [b"", b"\x12", b"\x17\x88", b"\x12\x00", b"\x16\x88"])
def test_one_that_tells_no_number_is_none(config: bytes) -> None:
    assert shape_of(config) is None


def test_a_head_holds_the_length_of_the_whole_frame() -> None:
    framed = adts(b"x" * 300, 16_000, 1)
    assert framed[:2] == b"\xff\xf1"
    assert (framed[3] & 3) << 11 | framed[4] << 3 | framed[5] >> 5 == 300 + HEAD_BYTES == len(framed)
