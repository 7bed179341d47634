"""Devices of a map gathered by the cells of a grid, so that however many become few marks.

Implements: DB31DSJ/Z 001-2024 E.1-1
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.query_store import Cell, Spot

MAX_CLUSTERS = 1_024


@dataclass(frozen=True, slots=True)
class Cluster:
    """Devices of one cell of a grid; the position is their mean, in the system of the question."""

    lon: float
    lat: float
    count: int
    online: int
    box: Box


def cells(spots: Sequence[Spot], cell_deg: float) -> list[Cell]:
    """Spots by cell of a grid that does not move with the map."""
    members: defaultdict[tuple[int, int], list[Spot]] = defaultdict(list)
    for spot in spots:
        members[floor(spot.longitude / cell_deg), floor(spot.latitude / cell_deg)].append(spot)
    return [_cell(x, y, found) for (x, y), found in members.items()]


def _cell(x: int, y: int, members: Sequence[Spot]) -> Cell:
    lons, lats = [m.longitude for m in members], [m.latitude for m in members]
    online = sum(m.online is True for m in members)
    return Cell(x, y, len(members), online, sum(lons), sum(lats), min(lons), min(lats), max(lons), max(lats))


def coarse(box: Box, cell_deg: float) -> float:
    """The width, doubled until a box has so few cells that the database can be asked for all of them."""
    while ((box.east - box.west) / cell_deg + 2) * (
        (box.north - box.south) / cell_deg + 2
    ) > 4 * MAX_CLUSTERS:
        cell_deg *= 2
    return cell_deg


def clusters(cells: Sequence[Cell]) -> list[Cluster]:
    """The cells, joined four by four until there are few enough."""
    while len(cells) > MAX_CLUSTERS:
        joined: dict[tuple[int, int], Cell] = {}
        for cell in cells:
            key = cell.x // 2, cell.y // 2
            held = joined.get(key)
            joined[key] = cell._replace(x=key[0], y=key[1]) if held is None else _joined(held, cell)
        cells = list(joined.values())
    return [_cluster(cell) for cell in sorted(cells)]


def _joined(one: Cell, other: Cell) -> Cell:
    return Cell(
        one.x,
        one.y,
        one.total + other.total,
        one.online + other.online,
        one.longitudes + other.longitudes,
        one.latitudes + other.latitudes,
        min(one.west, other.west),
        min(one.south, other.south),
        max(one.east, other.east),
        max(one.north, other.north),
    )


def _cluster(cell: Cell) -> Cluster:
    box = Box(cell.west, cell.south, cell.east, cell.north)
    return Cluster(cell.longitudes / cell.total, cell.latitudes / cell.total, cell.total, cell.online, box)
