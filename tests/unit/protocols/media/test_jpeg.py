"""A picture is known by its own markers; what is cut, empty or too large is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.media.jpeg import MAX_SIDE, Size, measure
from tongshi.testing.jpeg import tiny_jpeg


def test_width_and_height_are_read_from_the_frame() -> None:
    assert measure(tiny_jpeg(640, 360)) == Size(640, 360)
    assert measure(tiny_jpeg(640, 360) + b"\0" * 100) == Size(640, 360)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        tiny_jpeg(640, 360)[:-2],
        tiny_jpeg(640, 360)[:40],
        tiny_jpeg(0, 360),
        tiny_jpeg(MAX_SIDE + 1, 1),
        tiny_jpeg(MAX_SIDE, MAX_SIDE),
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2_000 + tiny_jpeg(8, 8)[2:],
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteViolation):
        measure(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_measured_or_refused(data: bytes) -> None:
    for one in (data, b"\xff\xd8" + data):
        try:
            size = measure(one)
        except RemoteViolation:
            continue
        assert 0 < size.width <= MAX_SIDE


@given(st.integers(0, 300), st.integers(0, 255))
def test_one_wrong_byte_is_measured_or_refused(at: int, value: int) -> None:
    data = bytearray(tiny_jpeg(64, 48))
    data[at % len(data)] = value
    try:
        measure(bytes(data))
    except RemoteViolation:
        pass
