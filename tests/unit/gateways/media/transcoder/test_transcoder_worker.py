"""What the worker makes of sizes, NAL units and configuration records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("av")

from tongshi.gateways.media.transcoder.worker import fitted, parameter_sets, units_of
from tongshi.resources.viewing.model import Codec, Transcoding


def test_a_picture_is_made_smaller_in_its_shape_and_never_larger() -> None:
    assert fitted(3840, 2160, 1280, 720) == (1280, 720)
    assert fitted(640, 360, 1280, 720) == (640, 360)
    assert fitted(1080, 1920, 1280, 720) == (404, 720)
    assert fitted(1921, 1081, 1920, 1080) == (1920, 1080)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_any_size_is_fitted_and_even(width: int, height: int) -> None:
    made = fitted(width, height, 1280, 720)
    assert 2 <= made[0] <= 1280
    assert 2 <= made[1] <= 720
    assert not made[0] % 2
    assert not made[1] % 2


def test_units_are_read_as_long_as_they_are_whole() -> None:
    assert list(units_of(b"\0\0\0\1a\0\0\0\2bc\0\0\0\5d")) == [b"a", b"bc"]


def test_parameter_sets_come_out_of_both_records() -> None:
    avcc = b"\1\x42\0\x1e\xff\xe1\0\3sps\1\0\3pps"
    assert parameter_sets("h264", avcc) == b"\0\0\0\1sps\0\0\0\1pps"
    hvcc = bytes(22) + b"\2" + b"\x20\0\1\0\3vps" + b"\x21\0\1\0\3sps"
    assert parameter_sets("h265", hvcc) == b"\0\0\0\1vps\0\0\0\1sps"


def test_only_what_a_stream_lacks_is_made() -> None:
    both = Transcoding("h264", "aac")
    assert both.needed_for(Codec("h264", "aac")) is None
    assert both.needed_for(Codec("h264", "")) is None
    assert both.needed_for(Codec("h265", "g711a")) == both
    assert both.needed_for(Codec("h265", "")) == both  # sound may still come
    assert both.needed_for(Codec("h264", "g711a")) == Transcoding("", "aac")
    assert Transcoding("h264").needed_for(Codec("h265", "g711a")) == Transcoding("h264")
