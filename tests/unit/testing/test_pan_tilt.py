"""The camera's head moves by time alone."""

from __future__ import annotations

import pytest

from tongshi.testing.pan_tilt import TILT_MAX, TILT_MIN, ZOOM_MAX, ZOOM_MIN, Head, View


def test_full_speed_to_the_right_turns_120_degrees_in_a_second() -> None:
    head = Head()
    head.move(255, 0, 0, now=10.0)
    assert head.view(11.0).pan == pytest.approx(120.0)


def test_moving_left_over_north_wraps() -> None:
    head = Head()
    head.move(-255, 0, 0, now=10.0)
    assert head.view(10.5).pan == pytest.approx(300.0)


def test_stop_keeps_the_view_it_had() -> None:
    head = Head()
    head.move(100, 100, 10, now=0.0)
    head.stop(now=0.5)
    assert head.view(0.5) == head.view(99.0)


@pytest.mark.parametrize(("tilt", "limit"), [(255, TILT_MAX), (-255, TILT_MIN)])
def test_tilt_ends_at_its_limit(tilt: int, limit: float) -> None:
    head = Head()
    head.move(0, tilt, 0, now=0.0)
    assert head.view(60.0).tilt == limit


@pytest.mark.parametrize(("zoom", "limit"), [(15, ZOOM_MAX), (-15, ZOOM_MIN)])
def test_zoom_ends_at_its_limit(zoom: int, limit: float) -> None:
    head = Head()
    head.move(0, 0, zoom, now=0.0)
    assert head.view(60.0).zoom == limit


def test_preset_is_reached_by_the_shorter_way() -> None:
    head = Head()
    head.move(-255, 0, 0, now=0.0)
    head.stop(now=0.25)  # 330 degrees
    head.set_preset(5, now=0.25, name="停车场")
    head.move(255, 0, 0, now=1.0)
    head.stop(now=1.5)  # 30 degrees
    head.call_preset(5, now=2.0)
    assert head.view(2.4).pan == pytest.approx(0.0, abs=1e-6)
    assert head.view(9.0).pan == pytest.approx(330.0)


def test_presets_outside_1_to_255_and_unknown_ones_are_ignored() -> None:
    head = Head()
    head.set_preset(0, now=0.0)
    head.set_preset(256, now=0.0)
    head.call_preset(7, now=0.0)
    head.delete_preset(7)
    assert head.presets == {}
    assert head.view(5.0) == View()
