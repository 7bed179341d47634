"""Coordinate systems of maps in China, converted explicitly in both directions.

Implements: DB31DSJ/Z 001-2024 E.1-1

The archive keeps WGS 84, as GB/T 28181 says. CGCS2000 differs from it by centimetres and is taken as equal.
GCJ-02 is the obfuscated system of public maps and BD-09 one more shift upon it. The formulas are published
one way only; the way back is found by fixed-point iteration to 1e-9 degrees. Outside the rectangle that the
published formula names, GCJ-02 is WGS 84.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from math import atan2, cos, pi, sin, sqrt

Position = tuple[float, float]


class GeoCoordSys(StrEnum):
    """In which system a longitude and a latitude are meant."""

    WGS84 = "WGS84"
    CGCS2000 = "CGCS2000"
    GCJ02 = "GCJ02"
    BD09 = "BD09"


# The most that a shift moves a point, in degrees (it stays below 0.017 everywhere in the rectangle).
MAX_SHIFT_DEG = 0.02

_KRASOVSKY_A = 6378245.0
_KRASOVSKY_EE = 0.00669342162296594323
_BD_PI = pi * 3000.0 / 180.0
_ROUNDS = 30
_CLOSE_DEG = 1e-10


def from_wgs84(position: Position, system: GeoCoordSys) -> Position:
    """A WGS 84 ``(longitude, latitude)`` in another system, degrees."""
    if system is GeoCoordSys.GCJ02:
        return _gcj02(position)
    if system is GeoCoordSys.BD09:
        return _bd09(_gcj02(position))
    return position


def to_wgs84(position: Position, system: GeoCoordSys) -> Position:
    """The WGS 84 ``(longitude, latitude)`` of a position in another system, degrees."""
    if system is GeoCoordSys.GCJ02:
        return _undo(_gcj02, position)
    if system is GeoCoordSys.BD09:
        return _undo(_gcj02, _undo(_bd09, position))
    return position


def _undo(shift: Callable[[Position], Position], wanted: Position) -> Position:
    """The position that ``shift`` moves to ``wanted``: the shift changes slowly, each round gains digits."""
    guess = wanted
    for _ in range(_ROUNDS):
        lon, lat = shift(guess)
        d_lon, d_lat = lon - wanted[0], lat - wanted[1]
        guess = (guess[0] - d_lon, guess[1] - d_lat)
        if abs(d_lon) < _CLOSE_DEG and abs(d_lat) < _CLOSE_DEG:
            break
    return guess


def _gcj02(position: Position) -> Position:
    lon, lat = position
    if not (72.004 <= lon <= 137.8347 and 0.8293 <= lat <= 55.8271):
        return position
    x, y = lon - 105.0, lat - 35.0
    ripple = 20.0 * sin(6.0 * x * pi) + 20.0 * sin(2.0 * x * pi)
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * sqrt(abs(x))
    north += (ripple + _waves(y, (20.0, 1.0), (40.0, 3.0), (160.0, 12.0), (320.0, 30.0))) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * sqrt(abs(x))
    east += (ripple + _waves(x, (20.0, 1.0), (40.0, 3.0), (150.0, 12.0), (300.0, 30.0))) * 2.0 / 3.0
    phi = lat / 180.0 * pi
    magic = 1.0 - _KRASOVSKY_EE * sin(phi) ** 2
    meridian = _KRASOVSKY_A * (1.0 - _KRASOVSKY_EE) / (magic * sqrt(magic))
    parallel = _KRASOVSKY_A / sqrt(magic) * cos(phi)
    return lon + east / (parallel * pi / 180.0), lat + north / (meridian * pi / 180.0)


def _waves(value: float, *terms: tuple[float, float]) -> float:
    return sum(height * sin(value / length * pi) for height, length in terms)


def _bd09(position: Position) -> Position:
    lon, lat = position
    radius = sqrt(lon * lon + lat * lat) + 0.00002 * sin(lat * _BD_PI)
    angle = atan2(lat, lon) + 0.000003 * cos(lon * _BD_PI)
    return radius * cos(angle) + 0.0065, radius * sin(angle) + 0.006
