"""Shapes: edges count, rings close, metres are those of the ellipsoid."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest
from tongshi.resources.devices.geometry import (
    Circle,
    Corridor,
    Polygon,
    degree_m,
    distance_m,
    rectangle,
)

SQUARE = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]
HOLE = [(1.0, 1.0), (3.0, 1.0), (3.0, 3.0), (1.0, 3.0)]


@pytest.mark.parametrize(
    ("first", "second", "metres"),
    [
        # Vincenty's own check line on GRS80/WGS 84 (Flinders Peak to Buninyong, Geoscience Australia).
        ((144.42486789, -37.95103341), (143.92649554, -37.65282114), 54_972.271),
        # One degree of the equator, and a quarter of a meridian, from the ellipsoid's axes.
        ((0.0, 0.0), (1.0, 0.0), 111_319.4908),
        ((0.0, 0.0), (0.0, 90.0), 10_001_965.7293),
        ((121.5, 31.2), (121.5, 31.2), 0.0),
    ],
)
def test_distances_agree_with_published_lines(
    first: tuple[float, float], second: tuple[float, float], metres: float
) -> None:
    assert distance_m(first, second) == pytest.approx(metres, abs=2e-3)


def test_a_sphere_would_be_wrong_by_more_than_the_tolerance() -> None:
    parallel_m, meridian_m = degree_m(31.2)
    assert distance_m((121.0, 31.2), (121.01, 31.2)) == pytest.approx(parallel_m / 100, rel=1e-6)
    assert distance_m((121.0, 31.195), (121.0, 31.205)) == pytest.approx(meridian_m / 100, rel=1e-6)
    assert abs(meridian_m - 111_194.93) > 200


def test_a_circle_ends_at_its_radius_in_every_direction() -> None:
    circle = Circle((121.5, 31.2), 1_000.0)
    parallel_m, meridian_m = degree_m(31.2)
    for share, is_inside in ((0.999, True), (1.001, False)):
        assert circle.holds(121.5 + share * 1_000 / parallel_m, 31.2) is is_inside
        assert circle.holds(121.5, 31.2 - share * 1_000 / meridian_m) is is_inside


@pytest.mark.parametrize("closing", [[], SQUARE[:1]])
def test_a_ring_is_closed_and_its_edges_and_corners_belong_to_it(closing: list[tuple[float, float]]) -> None:
    polygon = Polygon.of([*SQUARE, *closing], [HOLE])
    inside = [(0.5, 0.5), (0.0, 0.0), (4.0, 4.0), (2.0, 0.0), (0.0, 2.0), (1.0, 2.0), (3.0, 3.0)]
    outside = [(2.0, 2.0), (-0.1, 2.0), (4.1, 2.0), (2.0, 4.1), (1.1, 1.1)]
    assert all(polygon.holds(*point) for point in inside)
    assert not any(polygon.holds(*point) for point in outside)


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 0.0), (4.0, 4.0), (4.0, 0.0), (0.0, 4.0)],  # a bow tie
        [(0.0, 0.0), (4.0, 0.0), (2.0, 0.0), (2.0, 4.0)],  # folds back upon itself
        [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (2.0, 0.0), (0.0, 4.0)],  # touches an edge
        [(0.0, 0.0), (4.0, 0.0), (0.0, 0.0)],  # two corners
    ],
)
def test_a_ring_that_is_no_simple_ring_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Polygon.of(points)
    assert caught.value.code == 40002


def test_a_box_inside_out_is_refused_and_its_edges_count() -> None:
    assert rectangle(1, 1, 2, 2).holds(2, 1)
    with pytest.raises(InvalidRequest):
        rectangle(2, 1, 1, 2)


near = st.tuples(st.floats(121.0, 121.2), st.floats(31.0, 31.2))


@given(line=st.lists(near, min_size=2, max_size=4), point=near, buffer_m=st.floats(10, 5_000))
def test_a_corridor_holds_what_lies_near_some_point_of_its_line(
    line: list[tuple[float, float]], point: tuple[float, float], buffer_m: float
) -> None:
    steps = 400
    dense = [
        (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps)
        for a, b in pairwise(line)
        for i in range(steps + 1)
    ]
    nearest_m = min(distance_m(one, point) for one in dense)
    corridor = Corridor(tuple(line), buffer_m)
    # The samples stand at most 80 m apart; half of that is what the brute force may miss far from the foot.
    if nearest_m <= buffer_m:
        assert corridor.holds(*point) or buffer_m - nearest_m < buffer_m * 1e-3
    elif nearest_m > buffer_m * 1.001 + 45:
        assert not corridor.holds(*point)
    assert corridor.box.holds(*point) or nearest_m > buffer_m


@given(
    radii=st.lists(st.floats(0.2, 2.0), min_size=3, max_size=30),
    point=st.tuples(st.floats(-2.1, 2.1), st.floats(-2.1, 2.1)),
)
def test_a_star_holds_what_winding_round_it_says(radii: list[float], point: tuple[float, float]) -> None:
    from math import atan2, cos, hypot, pi, sin

    count = len(radii)
    ring = [(r * cos(2 * pi * i / count), r * sin(2 * pi * i / count)) for i, r in enumerate(radii)]
    polygon = Polygon.of(ring)
    turned = 0.0
    for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
        ax, ay, bx, by = x1 - point[0], y1 - point[1], x2 - point[0], y2 - point[1]
        length = hypot(x2 - x1, y2 - y1)
        if abs(ax * by - ay * bx) / length < 1e-6 or min(hypot(ax, ay), hypot(bx, by)) < 1e-6:
            return
        turned += atan2(ax * by - ay * bx, ax * bx + ay * by)
    assert polygon.holds(*point) is (abs(turned) > pi)
