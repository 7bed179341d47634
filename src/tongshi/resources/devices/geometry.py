"""Shapes on the map: what lies in a rectangle, polygon, circle or corridor, edges included.

Implements: DB31DSJ/Z 001-2024 E.1-1

Metres are those of the WGS 84 ellipsoid: a circle's radius is a geodesic (Vincenty's inverse formula, error
below a millimetre). A corridor's sides are straight on the map between its points; the foot of the
perpendicular is found with the local radii of curvature and the distance to it is geodesic, right to 0.1 % of
the buffer for segments up to 100 km. Polygons are straight on the map as well. A ring that crosses or
touches itself elsewhere than at neighbouring corners is refused, because nobody can say what lies inside it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import atan, atan2, cos, hypot, radians, sin, sqrt, tan
from typing import Protocol

from tongshi.errors import InvalidRequest
from tongshi.resources.devices.coordinates import Position

MIN_RING, MAX_POINTS = 3, 500
MAX_HOLES = 20
MAX_METRES = 50_000.0

_A = 6378137.0
_F = 1 / 298.257223563
_B = _A * (1 - _F)
_E2 = _F * (2 - _F)
# Two numbers that differ by less are one position: about a tenth of a millimetre.
_SAME_DEG = 1e-9


@dataclass(frozen=True, slots=True)
class Box:
    """West, south, east, north in degrees, edges included."""

    west: float
    south: float
    east: float
    north: float

    def holds(self, lon: float, lat: float) -> bool:
        """Whether the position lies within or on an edge."""
        return self.west <= lon <= self.east and self.south <= lat <= self.north

    def widened(self, degrees: float) -> Box:
        """The box with a margin on every side."""
        return Box(self.west - degrees, self.south - degrees, self.east + degrees, self.north + degrees)

    @property
    def box(self) -> Box:
        return self


class Shape(Protocol):
    """What a search by place asks of a shape."""

    @property
    def box(self) -> Box:
        """A box that holds the whole shape."""
        ...

    def holds(self, lon: float, lat: float) -> bool:
        """Whether the position lies within or on an edge."""
        ...


def rectangle(west: float, south: float, east: float, north: float) -> Box:
    """Raises InvalidRequest 40002 for a box that is inside out; one across 180 degrees is not taken."""
    if west > east or south > north:
        raise _wrong("矩形的最小值大于最大值")
    return Box(west, south, east, north)


@dataclass(frozen=True, slots=True)
class Circle:
    """All positions within ``radius_m`` metres of a centre."""

    centre: Position
    radius_m: float

    @property
    def box(self) -> Box:
        return _around(self.centre, self.radius_m)

    def holds(self, lon: float, lat: float) -> bool:
        return distance_m(self.centre, (lon, lat)) <= self.radius_m


@dataclass(frozen=True, slots=True)
class Corridor:
    """All positions within ``buffer_m`` metres of a line of at least two points."""

    line: tuple[Position, ...]
    buffer_m: float

    @property
    def box(self) -> Box:
        return _union([_around(point, self.buffer_m) for point in self.line])

    def holds(self, lon: float, lat: float) -> bool:
        return any(self._is_near(start, end, (lon, lat)) for start, end in pairwise(self.line))

    def _is_near(self, start: Position, end: Position, point: Position) -> bool:
        parallel_m, meridian_m = degree_m(point[1])
        from_x, from_y = (start[0] - point[0]) * parallel_m, (start[1] - point[1]) * meridian_m
        along_x, along_y = (end[0] - start[0]) * parallel_m, (end[1] - start[1]) * meridian_m
        length2 = along_x * along_x + along_y * along_y
        share = 0.0 if length2 == 0 else -(from_x * along_x + from_y * along_y) / length2
        share = min(1.0, max(0.0, share))
        # The plane is right to a few parts in a thousand here: far away is decided without the geodesic.
        if hypot(from_x + share * along_x, from_y + share * along_y) > self.buffer_m * 1.1 + 1.0:
            return False
        foot = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
        return distance_m(foot, point) <= self.buffer_m


@dataclass(frozen=True, slots=True)
class Polygon:
    """An outer ring without its holes; a hole's own edge belongs to the polygon."""

    outer: _Ring
    holes: tuple[_Ring, ...] = ()

    @classmethod
    def of(cls, points: Sequence[Position], holes: Sequence[Sequence[Position]] = ()) -> Polygon:
        """Close the rings and check them. Raises InvalidRequest 40002."""
        if len(holes) > MAX_HOLES or len(points) + sum(map(len, holes)) > MAX_POINTS + 1 + len(holes):
            raise _wrong(f"孔洞最多 {MAX_HOLES} 个，顶点总数最多 {MAX_POINTS} 个")
        return cls(_Ring.of(points), tuple(_Ring.of(hole) for hole in holes))

    @property
    def box(self) -> Box:
        return self.outer.box

    def holds(self, lon: float, lat: float) -> bool:
        if not self.outer.box.holds(lon, lat) or self.outer.side(lon, lat) < 0:
            return False
        return not any(hole.box.holds(lon, lat) and hole.side(lon, lat) > 0 for hole in self.holes)


@dataclass(frozen=True, slots=True)
class _Ring:
    """Edges of a closed ring, sorted into latitude strips so that a test looks at few of them."""

    box: Box
    _south: tuple[float, ...]
    _strips: tuple[tuple[tuple[Position, Position], ...], ...] = field(repr=False)

    @classmethod
    def of(cls, points: Sequence[Position]) -> _Ring:
        corners = [point for point, after in pairwise([*points, points[0]]) if not _is_same(point, after)]
        if not MIN_RING <= len(corners) <= MAX_POINTS:
            raise _wrong(f"多边形应有 {MIN_RING} 至 {MAX_POINTS} 个不同的顶点")
        edges = list(pairwise([*corners, corners[0]]))
        if _crosses_itself(edges):
            raise _wrong("多边形自相交")
        box = _union([Box(lon, lat, lon, lat) for lon, lat in corners])
        south = tuple(sorted({lat for _, lat in corners}))
        strips = tuple(
            tuple(e for e in edges if min(e[0][1], e[1][1]) <= top and max(e[0][1], e[1][1]) >= bottom)
            for bottom, top in pairwise([*south, south[-1]])
        )
        return cls(box, south, strips)

    def side(self, lon: float, lat: float) -> int:
        """1 inside, 0 on the edge, -1 outside."""
        is_inside = False
        strip = bisect_right(self._south, lat) - 1
        if strip < 0:
            return -1
        for (x1, y1), (x2, y2) in self._strips[strip]:
            turn = (x2 - x1) * (lat - y1) - (y2 - y1) * (lon - x1)
            length = hypot(x2 - x1, y2 - y1)
            is_beside = min(x1, x2) - _SAME_DEG <= lon <= max(x1, x2) + _SAME_DEG
            if is_beside and min(y1, y2) <= lat <= max(y1, y2) and abs(turn) <= _SAME_DEG * length:
                return 0
            if (y1 > lat) != (y2 > lat) and (turn > 0) == (y2 > y1):
                is_inside = not is_inside
        return 1 if is_inside else -1


def degree_m(latitude: float) -> tuple[float, float]:
    """Metres in one degree along the parallel and along the meridian at a latitude."""
    sine2 = sin(radians(latitude)) ** 2
    normal = _A / sqrt(1 - _E2 * sine2)
    meridian = _A * (1 - _E2) / (1 - _E2 * sine2) ** 1.5
    return radians(normal * cos(radians(latitude))), radians(meridian)


def distance_m(first: Position, second: Position) -> float:
    """Length of the geodesic in metres, Vincenty 1975; points nearly antipodal count as half round."""
    if first == second:
        return 0.0
    difference = radians(second[0] - first[0])
    u1, u2 = atan((1 - _F) * tan(radians(first[1]))), atan((1 - _F) * tan(radians(second[1])))
    sin_u1, cos_u1, sin_u2, cos_u2 = sin(u1), cos(u1), sin(u2), cos(u2)
    lam = difference
    for _ in range(100):
        sin_l, cos_l = sin(lam), cos(lam)
        sin_s = hypot(cos_u2 * sin_l, cos_u1 * sin_u2 - sin_u1 * cos_u2 * cos_l)
        if sin_s == 0:
            return 0.0
        cos_s = sin_u1 * sin_u2 + cos_u1 * cos_u2 * cos_l
        sigma = atan2(sin_s, cos_s)
        sin_a = cos_u1 * cos_u2 * sin_l / sin_s
        cos2_a = 1 - sin_a * sin_a
        cos_m = cos_s - 2 * sin_u1 * sin_u2 / cos2_a if cos2_a > 1e-15 else 0.0
        c = _F / 16 * cos2_a * (4 + _F * (4 - 3 * cos2_a))
        before = lam
        lam = difference + (1 - c) * _F * sin_a * (
            sigma + c * sin_s * (cos_m + c * cos_s * (2 * cos_m * cos_m - 1))
        )
        if abs(lam - before) < 1e-12:
            break
    else:
        return 20_003_931.0
    return _B * _series(cos2_a, sin_s, cos_s, cos_m, sigma)


def _series(cos2_a: float, sin_s: float, cos_s: float, cos_m: float, sigma: float) -> float:
    u2 = cos2_a * (_A * _A - _B * _B) / (_B * _B)
    big_a = 1 + u2 / 16384 * (4096 + u2 * (-768 + u2 * (320 - 175 * u2)))
    big_b = u2 / 1024 * (256 + u2 * (-128 + u2 * (74 - 47 * u2)))
    inner = cos_s * (2 * cos_m * cos_m - 1)
    inner -= big_b / 6 * cos_m * (4 * sin_s * sin_s - 3) * (4 * cos_m * cos_m - 3)
    return big_a * (sigma - big_b * sin_s * (cos_m + big_b / 4 * inner))


def _around(centre: Position, metres: float) -> Box:
    """A box that surely holds everything within ``metres`` of a position."""
    lon, lat = centre
    reach = metres / degree_m(0.0)[1] * 1.01
    parallel_m = degree_m(min(89.0, max(abs(lat - reach), abs(lat + reach))))[0]
    width = metres / parallel_m * 1.01
    return Box(lon - width, lat - reach, lon + width, lat + reach)


def _union(boxes: Sequence[Box]) -> Box:
    return Box(
        min(b.west for b in boxes),
        min(b.south for b in boxes),
        max(b.east for b in boxes),
        max(b.north for b in boxes),
    )


def _crosses_itself(edges: Sequence[tuple[Position, Position]]) -> bool:
    count = len(edges)
    # From west to east, so that an edge is compared only with those that begin before it ends.
    order = sorted(range(count), key=lambda i: min(edges[i][0][0], edges[i][1][0]))
    for place, one in enumerate(order):
        east = max(edges[one][0][0], edges[one][1][0])
        for other in order[place + 1 :]:
            if min(edges[other][0][0], edges[other][1][0]) > east:
                break
            i, j = min(one, other), max(one, other)
            is_next = j == i + 1 or (i == 0 and j == count - 1)
            if is_next and not _folds_back(edges[i], edges[j], j == i + 1):
                continue
            if is_next or _meet(*edges[i], *edges[j]):
                return True
    return False


def _folds_back(
    first: tuple[Position, Position], second: tuple[Position, Position], is_forward: bool
) -> bool:
    """Whether two neighbouring edges lie upon each other beyond their common corner."""
    shared, one, two = (first[1], first[0], second[1]) if is_forward else (first[0], first[1], second[0])
    if _turn(one, shared, two) != 0:
        return False
    return (one[0] - shared[0]) * (two[0] - shared[0]) + (one[1] - shared[1]) * (two[1] - shared[1]) > 0


def _meet(a: Position, b: Position, c: Position, d: Position) -> bool:
    turns = (_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b))
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    pairs = zip(turns, ((a, b, c), (a, b, d), (c, d, a), (c, d, b)), strict=True)
    return any(turn == 0 and _union_of(p, q).holds(*r) for turn, (p, q, r) in pairs)


def _union_of(p: Position, q: Position) -> Box:
    return Box(min(p[0], q[0]), min(p[1], q[1]), max(p[0], q[0]), max(p[1], q[1]))


def _turn(a: Position, b: Position, c: Position) -> int:
    value = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (value > 0) - (value < 0)


def _is_same(first: Position, second: Position) -> bool:
    return abs(first[0] - second[0]) < _SAME_DEG and abs(first[1] - second[1]) < _SAME_DEG


def _wrong(reason: str) -> InvalidRequest:
    return InvalidRequest(f"图形不合法：{reason}", code=40002, field="shape")
