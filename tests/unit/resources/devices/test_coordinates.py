"""Coordinate systems: independent sample points, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.resources.devices.coordinates import (
    MAX_SHIFT_DEG,
    GeoCoordSys,
    Position,
    from_wgs84,
    to_wgs84,
)

SHIFTED = (GeoCoordSys.GCJ02, GeoCoordSys.BD09)
in_china = st.tuples(st.floats(75, 134), st.floats(4, 53))


@pytest.mark.parametrize(
    ("system", "before", "after"),
    [
        # Sample points printed by several public converters (WGS 84 to GCJ-02, GCJ-02 to BD-09).
        (GeoCoordSys.GCJ02, (116.404, 39.915), (116.41024449916938, 39.91640428150164)),
        (GeoCoordSys.BD09, to_wgs84((116.404, 39.915), GeoCoordSys.GCJ02), (116.41036949, 39.92133699)),
        (GeoCoordSys.CGCS2000, (121.4737, 31.2304), (121.4737, 31.2304)),
        # Outside the rectangle nothing is shifted.
        (GeoCoordSys.GCJ02, (2.3522, 48.8566), (2.3522, 48.8566)),
    ],
)
def test_a_known_point_lands_where_others_say(system: GeoCoordSys, before: Position, after: Position) -> None:
    assert from_wgs84(before, system) == pytest.approx(after, abs=2e-8)


@pytest.mark.parametrize("system", SHIFTED)
@given(position=in_china)
def test_there_and_back_is_the_same_place(system: GeoCoordSys, position: Position) -> None:
    assert to_wgs84(from_wgs84(position, system), system) == pytest.approx(position, abs=1e-7)


@pytest.mark.parametrize("system", SHIFTED)
@given(position=in_china)
def test_no_shift_exceeds_the_margin_that_searches_add(system: GeoCoordSys, position: Position) -> None:
    shifted = from_wgs84(position, system)
    assert max(abs(a - b) for a, b in zip(shifted, position, strict=True)) < MAX_SHIFT_DEG
