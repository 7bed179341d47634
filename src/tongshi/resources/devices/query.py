"""Questions about many devices: by place, by words, by division, page by page.

Implements: DB31DSJ/Z 001-2024 E.1-1
Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7
Implements: DB31DSJ/Z 001-2024 E.1-8

Each answer is read from one snapshot of the database. Scope and filters narrow before anything is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor

from sqlalchemy import Connection

from tongshi.errors import InvalidRequest
from tongshi.resources.devices import query_store as store
from tongshi.resources.devices.coordinates import MAX_SHIFT_DEG, GeoCoordSys, from_wgs84
from tongshi.resources.devices.geometry import Box, Shape
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.query_store import Group, Lite, Spot
from tongshi.resources.devices.selection import UNASSIGNED, Cursors, Place, Selection, Sort
from tongshi.sharing import store as sharing
from tongshi.sharing.model import Context, Decision, Grant, Subject, SubjectKind, Target, judge
from tongshi.sharing.permissions import Permission
from tongshi.storage import changes
from tongshi.storage.engine import Database

# Candidates of a shape that is decided position by position; more are refused instead of waited for.
MAX_EXAMINED = 200_000
MAX_CLUSTERS = 1_024


@dataclass(frozen=True, slots=True)
class Found:
    """One page. ``total`` is None when it was not asked for; ``after`` is where the next page begins."""

    rows: list[Lite]
    total: int | None
    after: Place | None
    as_of: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Devices of one cell of a grid; the position is their mean, in the system of the question."""

    lon: float
    lat: float
    count: int
    online: int
    box: Box


@dataclass(frozen=True, slots=True)
class FoundInArea:
    """Devices in a shape. ``placeless`` counts those that fit the filter and have no position."""

    ids: list[str]
    rows: list[Lite]
    clusters: list[Cluster]
    total: int
    placeless: int
    after: Place | None


@dataclass(frozen=True, slots=True)
class Area:
    """A shape in its coordinate system; ``cell_deg`` asks for clusters on a grid of that width."""

    shape: Shape
    system: GeoCoordSys = GeoCoordSys.WGS84
    cell_deg: float | None = None
    with_rows: bool = True


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a subject may do with one device, and the grants that say so."""

    decisions: dict[Permission, Decision]
    grants: tuple[Grant, ...]


class DeviceQueries:
    """Answers questions about the archive. ``index`` is brought up to date before words and places."""

    def __init__(self, db: Database, index: SearchIndex, cursors: Cursors | None = None) -> None:
        self._db = db
        self._index = index
        self.cursors = cursors or Cursors()

    async def in_area(
        self, selection: Selection, area: Area, limit: int, after: Place | None = None
    ) -> FoundInArea:
        """Devices in a shape in order of the place index. Raises InvalidRequest 40002 for too many."""
        await self._index.refresh()
        return await self._db.read(_in_area, selection, area, limit, after)

    async def page(
        self,
        selection: Selection,
        sort: Sort,
        limit: int,
        *,
        after: Place | None = None,
        skip: int = 0,
        with_total: bool = True,
        with_rows: bool = True,
    ) -> tuple[list[str], Found]:
        """Ids and rows of one page in order, by cursor (``after``) or by offset (``skip``)."""
        if selection.needle is not None:
            await self._index.refresh()
        return await self._db.read(_page, selection, sort, limit, after, skip, with_total, with_rows)

    async def groups(self, selection: Selection, codes: Sequence[str], by: str) -> list[Group]:
        """Counts of a selection below each division: ``child`` divisions, ``street`` or ``department``."""
        if selection.needle is not None:
            await self._index.refresh()
        return await self._db.read(_groups, selection, codes, by)

    async def allowed(
        self, subject: Subject, context: Context, actions: Sequence[Permission], rows: Sequence[Lite]
    ) -> list[Allowed]:
        """What the subject may do with each device, by the rules of the one access decision."""
        return await self._db.read(_allowed, subject, context, actions, rows)


def _page(
    conn: Connection,
    selection: Selection,
    sort: Sort,
    limit: int,
    after: Place | None,
    skip: int,
    with_total: bool,
    with_rows: bool,
) -> tuple[list[str], Found]:
    total = store.count(conn, selection) if with_total else None
    found = store.keys(conn, selection, sort, limit + 1, after, skip)
    kept = found[:limit]
    ids = [key for key, _ in kept]
    rows = store.lite(conn, ids) if with_rows else []
    further = kept[-1][1] if len(found) > limit else None
    return ids, Found(rows, total, further, changes.head(conn))


def _in_area(
    conn: Connection, selection: Selection, area: Area, limit: int, after: Place | None
) -> FoundInArea:
    beyond = int(after[0]) if after else 0
    clusters: list[Cluster] = []
    box = area.shape.box
    is_exact = isinstance(area.shape, Box) and area.system in (GeoCoordSys.WGS84, GeoCoordSys.CGCS2000)
    if is_exact and area.cell_deg is None:
        total = store.count_in_box(conn, selection, box)
        page = store.ids_in_box(conn, selection, box, limit + 1, beyond)
    else:
        spots = _spots(conn, selection, area)
        total = len(spots)
        if area.cell_deg is not None:
            clusters = _clusters(spots, area)
        numbers = sorted(spot.number for spot in spots if spot.number > beyond)[: limit + 1]
        ids = store.ids_of_numbers(conn, numbers)
        page = [(ids[number], number) for number in numbers]
    kept = page[:limit]
    keys = [key for key, _ in kept]
    return FoundInArea(
        keys,
        store.lite(conn, keys) if area.with_rows else [],
        clusters,
        total,
        store.count_placeless(conn, selection),
        [kept[-1][1]] if len(page) > limit and kept else None,
    )


def _spots(conn: Connection, selection: Selection, area: Area) -> list[Spot]:
    """Every position in the shape, in the shape's own coordinate system."""
    box = area.shape.box
    if area.system not in (GeoCoordSys.WGS84, GeoCoordSys.CGCS2000):
        box = box.widened(MAX_SHIFT_DEG)
    near = store.spots_in_box(conn, selection, box, MAX_EXAMINED + 1)
    if len(near) > MAX_EXAMINED:
        raise InvalidRequest(f"范围内点位超过 {MAX_EXAMINED} 个，请缩小范围", code=40002, field="shape")
    found = []
    for number, lon, lat, online in near:
        lon, lat = from_wgs84((lon, lat), area.system)
        if area.shape.holds(lon, lat):
            found.append(Spot(number, lon, lat, online))
    return found


def _clusters(spots: Sequence[Spot], area: Area) -> list[Cluster]:
    """Spots by cell of a grid that does not move with the map; the cells grow until there are few enough."""
    cell = area.cell_deg or 1.0
    while True:
        cells: defaultdict[tuple[int, int], list[Spot]] = defaultdict(list)
        for spot in spots:
            cells[floor(spot.longitude / cell), floor(spot.latitude / cell)].append(spot)
        if len(cells) <= MAX_CLUSTERS:
            return [_cluster(members) for _, members in sorted(cells.items())]
        cell *= 2


def _cluster(members: Sequence[Spot]) -> Cluster:
    lons, lats = [m.longitude for m in members], [m.latitude for m in members]
    return Cluster(
        sum(lons) / len(lons),
        sum(lats) / len(lats),
        len(members),
        sum(m.online is True for m in members),
        Box(min(lons), min(lats), max(lons), max(lats)),
    )


def _groups(conn: Connection, selection: Selection, codes: Sequence[str], by: str) -> list[Group]:
    """A device counts once although codes that contain each other are asked together."""
    found: dict[str, Group] = {}
    plain = sorted({code for code in codes if code != UNASSIGNED})
    outer = [c for c in plain if not any(c != o and c.startswith(o) for o in plain)]
    for code in outer:
        digits = {"child": len(code) + 2, "street": 8, "department": None}[by]
        for group in store.group(conn, replace(selection, civil_codes=(code,)), digits):
            held = found.get(group.key, Group(group.key, 0, 0, 0))
            sums = (held.total + group.total, held.online + group.online, held.networked + group.networked)
            found[group.key] = Group(group.key, *sums)
    nowhere = store.tally(conn, replace(selection, civil_codes=(UNASSIGNED,)))
    return [*(found[key] for key in sorted(found)), nowhere._replace(key=UNASSIGNED)]


def _allowed(
    conn: Connection,
    subject: Subject,
    context: Context,
    actions: Sequence[Permission],
    rows: Sequence[Lite],
) -> list[Allowed]:
    grants = sharing.grants_of(conn, subject)
    by_number = {grant.number: grant for grant in grants}
    found = []
    for row in rows:
        target = Target(row.device_id, row.civil_code or "", row.owner)
        decisions = {
            action: judge(subject, action, target, grants, context, is_device_action=True)
            for action in actions
        }
        used = dict.fromkeys(d.grant for d in decisions.values() if d.allow and d.grant)
        found.append(Allowed(decisions, tuple(by_number[number] for number in used)))
    return found


def role_of(grant: Grant) -> str:
    """The role through which a grant reached the subject; empty when it was given to the subject itself."""
    return grant.subject_id if grant.subject_kind is SubjectKind.ROLE else ""
