"""Administrative divisions by code: the whole country to the city, Shanghai to the street.

Implements: GB/T 28181-2022 E.3
Codes of 2, 4 and 6 digits are those of GB/T 2260. Below the county there are 9 digits: the county and the
township part of GrassrootsCode. Of other provinces the counties are not known here, so that "unknown" is an
answer of its own. Origin of the table: data/README.md.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

SHANGHAI: Final = "31"
# Boxes in degrees (west, south, east, north): 120°52'-122°12' E, 30°40'-31°53' N, and some kilometres.
_BOXES: Final = {SHANGHAI: (120.80, 30.60, 122.30, 31.95), "": (73.0, 3.0, 136.0, 54.0)}
_LEVELS: Final = (8, 6, 4, 2)


def name_of(code: str) -> str:
    """The name of a division of 2, 4, 6 or 9 digits; "" when the table lacks it."""
    return _names().get(code, "")


def is_known(code: str) -> bool | None:
    """Whether a division exists; None when the table does not reach that far.

    A city of a municipality is known by its number (3101). Digits 7 and 8 are the basic access unit, which
    each place numbers for itself.
    """
    names = _names()
    if code[:2] not in names:
        return False
    if len(code) < 4 or code[2:4] == "00":
        return True
    if code[:4] not in names:
        # Counties under direct rule of a province (429000) stand below 90, which is no city.
        return None if code[2:4] == "90" else False
    if len(code) < 6 or code[4:6] == "00":
        return True
    return code[:6] in names if code[:2] == SHANGHAI else None


def is_street(county: str, grassroots: str) -> bool | None:
    """Whether a township (first half of GrassrootsCode) lies in the county; None when we cannot know."""
    if county[:2] != SHANGHAI or len(county) < 6 or county[:6] not in _names():
        return None
    return f"{county[:6]}{grassroots[:3]}" in _names()


def box_of(code: str) -> tuple[float, float, float, float]:
    """A box of degrees (west, south, east, north) that holds the division."""
    return _BOXES.get(code[:2], _BOXES[""])


def chain(code: str) -> tuple[str, ...]:
    """A division and those above it, itself first: 31010401, 310104, 3101, 31. A part that is 00 is left out.

    Municipalities have no city of their own (3101 is 市辖区), yet the level stays: other platforms name it.
    """
    lengths = (n for n in _LEVELS if n <= len(code))
    return tuple(code[:n] for n in lengths if n == _LEVELS[-1] or code[n - 2 : n] != "00")


@cache
def _names() -> dict[str, str]:
    text = files("tongshi.resources.devices").joinpath("data/divisions.csv").read_text(encoding="utf-8")
    return dict(line.split(",", 1) for line in text.splitlines())
