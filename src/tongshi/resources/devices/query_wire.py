"""Questions about many devices on the wire: what is asked, what is answered, and what both mean here.

Implements: DB31DSJ/Z 001-2024 E.1-1
Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7
Implements: DB31DSJ/Z 001-2024 E.1-8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import Meta, Raw, field, json

from tongshi.errors import InvalidRequest
from tongshi.resources.devices import wire
from tongshi.resources.devices.clusters import Cluster
from tongshi.resources.devices.coordinates import GeoCoordSys, Position, from_wgs84
from tongshi.resources.devices.detail_wire import EVERY_FIELD, detail
from tongshi.resources.devices.geometry import (
    MAX_HOLES,
    MAX_METRES,
    MAX_POINTS,
    Circle,
    Corridor,
    Polygon,
    Shape,
    rectangle,
)
from tongshi.resources.devices.http import MAX_BATCH, MAX_PAGED_ROWS
from tongshi.resources.devices.indexing import Lag
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.permitted import DecidedBy, Perm, decided_by, perm_of
from tongshi.resources.devices.query import Allowed, Show
from tongshi.resources.devices.query_store import Group, Lite, Shown
from tongshi.resources.devices.rules.check import check
from tongshi.resources.devices.search_terms import MAX_KEYWORD, Match
from tongshi.resources.devices.selection import UNASSIGNED, Sort
from tongshi.resources.devices.wire import DeviceLite
from tongshi.resources.tags.wire import MAX_EXPRESSION_CHARS, TagExpr
from tongshi.web.operations import Answer, Request

_CIVIL = r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z"
_Division = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8}|unassigned)\Z")]
_Keyword = Annotated[str, Meta(max_length=MAX_KEYWORD)]
Cursor = Annotated[str, Meta(max_length=2_048)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Longitude = Annotated[float, Meta(ge=-180, le=180)]
_Latitude = Annotated[float, Meta(ge=-90, le=90)]
_Small = Annotated[int, Meta(ge=0, le=999)]
TotalMode = Literal["exact", "none"]
# The first so many values of ``Lite`` are what an archive itself says.
_TOLD = len(wire.DeviceTold.__struct_fields__)
Action = Literal["view", "playback", "download", "ptz", "talk"]


class Coord(Request, frozen=True):
    """A position in degrees, in the system that the request names."""

    lon: _Longitude
    lat: _Latitude


class Rect(Request, frozen=True):
    """West, south, east, north."""

    min_lon: _Longitude
    min_lat: _Latitude
    max_lon: _Longitude
    max_lat: _Latitude


_Metres = Annotated[float, Meta(gt=0, le=MAX_METRES)]
_Ring = Annotated[list[Coord], Meta(min_length=3, max_length=MAX_POINTS + 1)]


class ShapeAsked(Request, frozen=True):
    """``rect`` for a rectangle; ``points`` (and ``holes``) for a polygon; ``center`` and ``radiusM`` for a
    circle; ``points`` and ``bufferM`` for a corridor."""

    type: Literal["rect", "polygon", "circle", "corridor"]
    rect: Rect | None = None
    points: Annotated[list[Coord], Meta(max_length=MAX_POINTS + 1)] = field(default_factory=list)
    holes: Annotated[list[_Ring], Meta(max_length=MAX_HOLES)] = field(default_factory=list)
    center: Coord | None = None
    radius_m: _Metres | None = None
    buffer_m: _Metres | None = None


class FilterAsked(Request, frozen=True):
    """What narrows a question; what is left out narrows nothing."""

    civil_codes: Annotated[list[_Division], Meta(max_length=100)] = field(default_factory=list)
    online: bool | None = None
    point_class: Annotated[list[_Small], Meta(max_length=20)] = field(default_factory=list)
    ptz: Annotated[list[_Small], Meta(max_length=20)] = field(default_factory=list)
    industries: Annotated[list[Annotated[str, Meta(min_length=1, max_length=50)]], Meta(max_length=50)] = (
        field(name="SSBMHY", default_factory=list)
    )
    keyword: _Keyword = ""
    match: Match = Match.CONTAINS
    ids: Annotated[list[_Id], Meta(max_length=1_000)] = field(default_factory=list)
    owner: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""
    include_missing: bool = False
    plan_code: Annotated[str, Meta(max_length=64)] = ""
    tag_expr: TagExpr | None = None


class AreaQuery(Request, frozen=True):
    """Devices in a shape."""

    shape: ShapeAsked
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84
    filter: FilterAsked = FilterAsked()
    zoom: Annotated[int, Meta(ge=0, le=22)] | None = None
    cluster: Literal["none", "grid", "auto"] = "none"
    fields: Annotated[Show, Meta(description=f"full 时每页最多 {MAX_BATCH} 条，余下的用 nextCursor 续取")] = (
        Show.LITE
    )
    limit: Annotated[int, Meta(ge=1, le=20_000)] = 1_000
    cursor: Cursor = ""
    total_mode: TotalMode = "exact"


class BoxShown(Answer, frozen=True):
    """West, south, east, north of what a cluster holds."""

    min_lon: float
    min_lat: float
    max_lon: float
    max_lat: float


class ClusterShown(Answer, frozen=True):
    """Devices that are shown as one."""

    lon: float
    lat: float
    count: int
    online_count: int
    bbox: BoxShown


class Indexing(Answer, frozen=True):
    """The index does not know every archive yet: what remains, and the seconds until it does (null: unknown).

    While it is there, an answer may lack devices that were changed a short while ago.
    """

    is_current: bool
    remaining: int
    remaining_sec: float | None


_LITE_OR_FULL = {
    "items": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("DeviceLite", "DeviceDetail")]}
}


class AreaFound(Answer, frozen=True):
    """Devices in a shape; with clusters from ``grid``, or ``auto`` beyond the limit, the list is empty.

    The list holds ``DeviceDetail`` when these were asked for. Counts are null when they were not asked for.
    """

    rows: Annotated[list[Any], Meta(extra_json_schema=_LITE_OR_FULL)] = field(name="list")
    device_ids: list[str]
    clusters: list[ClusterShown]
    total: int | None
    truncated: bool
    next_cursor: str
    no_coordinate_count: int | None
    geo_coord_sys: GeoCoordSys
    indexing: Indexing | None


class SearchIds(Request, frozen=True):
    """Ids of what a keyword and a filter find."""

    keyword: _Keyword = ""
    match: Match = Match.CONTAINS
    filter: FilterAsked = FilterAsked()
    sort: Sort = Sort.ID
    limit: Annotated[int, Meta(ge=1, le=50_000)] = 1_000
    cursor: Cursor = ""
    total_mode: TotalMode = "exact"


class IdsFound(Answer, frozen=True):
    """Ids in the order asked."""

    device_ids: list[str]
    total: int | None
    next_cursor: str
    as_of_version: int
    indexing: Indexing | None


class ListQuery(Request, frozen=True):
    """Which devices; ``action`` narrows to those on which the caller may do that now.

    ``userId`` asks what another person may do, of the devices that the caller may see; it takes the right to
    have decisions explained.
    """

    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    user_id: Annotated[str, Meta(pattern=r"^(?:[0-9]{1,15})?\Z")] = ""
    action: Action | None = None
    keyword: _Keyword = ""
    match: Match = Match.CONTAINS
    civil_code: Annotated[str, Meta(pattern=_CIVIL)] = ""
    online: bool | None = None
    owner: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""
    include_missing: bool = False
    tag_expr: Annotated[str, Meta(max_length=MAX_EXPRESSION_CHARS, description="JSON 格式的标签条件")] = ""
    sort: Sort = Sort.ID
    cursor: Cursor = ""
    total_mode: TotalMode = "exact"
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class DevicePermitted(DeviceLite, frozen=True, omit_defaults=True, kw_only=True):
    """A device in a list, with what the caller may do."""

    perm: Perm
    decidedBy: list[DecidedBy]


T = TypeVar("T")


class ArchivePage(Answer, Generic[T], frozen=True):
    """One page; ``total`` counts what the caller may see, and is null when it was not asked for."""

    rows: list[T] = field(name="list")
    total: int | None
    page_no: int
    page_size: int
    next_cursor: str
    as_of_version: int
    indexing: Indexing | None


class DevicePage(ArchivePage[DevicePermitted], frozen=True):
    """One page of devices with what may be done with them."""


class RegionQuery(Request, frozen=True):
    """Devices of administrative divisions; ``unassigned`` stands for devices without a usable code."""

    civil_codes: Annotated[list[_Division], Meta(min_length=1, max_length=100)]
    include_children: bool = True
    group_by: Literal["none", "child", "street", "department"] = "none"
    filter: FilterAsked = FilterAsked()
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: Cursor = ""
    sort: Sort = Sort.ID
    total_mode: TotalMode = "exact"
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class RegionGroup(Answer, frozen=True):
    """Counts of one division, or of one managing unit; the name is empty when nobody told one."""

    civil_code: str
    name: str
    total: int
    online: int
    networked: int


class RegionPage(ArchivePage[DeviceLite], frozen=True):
    """One page, and the counts by group."""

    groups: list[RegionGroup]


def shape_of(asked: ShapeAsked) -> Shape:
    """Raises InvalidRequest 40002 for a shape that lacks a part or that nobody can read."""
    points = [_position(point) for point in asked.points]
    if asked.type == "rect" and asked.rect is not None:
        r = asked.rect
        return rectangle(r.min_lon, r.min_lat, r.max_lon, r.max_lat)
    if asked.type == "polygon" and points:
        return Polygon.of(points, [[_position(point) for point in hole] for hole in asked.holes])
    if asked.type == "circle" and asked.center is not None and asked.radius_m is not None:
        return Circle(_position(asked.center), asked.radius_m)
    if asked.type == "corridor" and len(points) >= 2 and asked.buffer_m is not None:
        return Corridor(tuple(points), asked.buffer_m)
    raise InvalidRequest(f"图形 {asked.type} 缺少必填项", code=40002, field="shape")


def _position(coord: Coord) -> Position:
    return coord.lon, coord.lat


def cell_deg_of(shape: Shape, zoom: int | None) -> float:
    """Width of a cluster's cell: a quarter of a map tile at a zoom level, or a sixteenth of the shape."""
    if zoom is not None:
        return float(90.0 / 2**zoom)
    box = shape.box
    return max(box.east - box.west, box.north - box.south, 1e-6) / 16


def lite_of(row: Lite, system: GeoCoordSys) -> DeviceLite:
    """A row as a list shows it."""
    return DeviceLite(
        *_told(row, system), Status=_status(row.online), geoCoordSys=system, tagCodes=row.tag_codes
    )


def _told(row: Lite, system: GeoCoordSys) -> tuple[Any, ...]:
    if row.longitude is not None and row.latitude is not None:
        longitude, latitude = from_wgs84((row.longitude, row.latitude), system)
        row = row._replace(longitude=longitude, latitude=latitude)
    return wire.told_values(row[:_TOLD])


def _status(online: bool | None) -> Literal["ON", "OFF"] | None:
    return None if online is None else "ON" if online else "OFF"


def raw_of(shown: Shown, tag_codes: Mapping[str, Sequence[str]]) -> list[Raw]:
    """Rows that the database gave as JSON, as a list shows them."""
    rows: list[Raw] = []
    for device_id, line in zip(shown.ids, shown.rows, strict=True):
        if codes := tag_codes.get(device_id):
            line = f'{line[:-1]},"tagCodes":{json.encode(codes).decode()}}}'
        rows.append(Raw(line.encode()))
    return rows


def permitted_of(row: Lite, allowed: Allowed, system: GeoCoordSys) -> DevicePermitted:
    """A row with what its asker may do."""
    perm = perm_of(allowed, row.is_controllable)
    return DevicePermitted(
        *_told(row, system),
        Status=_status(row.online),
        geoCoordSys=system,
        tagCodes=row.tag_codes,
        perm=perm,
        decidedBy=decided_by(allowed),
    )


def full_of(
    archive: DeviceArchive, at: datetime, system: GeoCoordSys, tag_codes: tuple[str, ...]
) -> dict[str, Any]:
    """An archive with everything that is known of it."""
    return detail(archive, check(archive, at), system, EVERY_FIELD, tag_codes=tag_codes)


def indexing_of(lag: Lag | None) -> Indexing | None:
    """What the index lacks, if anything."""
    return None if lag is None else Indexing(False, lag.remaining, lag.remaining_s)


def cluster_of(found: Cluster) -> ClusterShown:
    """A cluster on the wire."""
    box = found.box
    return ClusterShown(
        found.lon, found.lat, found.count, found.online, BoxShown(box.west, box.south, box.east, box.north)
    )


def group_of(found: Group, names: Mapping[str, str] | None) -> RegionGroup:
    """Counts on the wire, of a division, or without ``names`` of a managing unit."""
    if found.key == UNASSIGNED:
        code, name = UNASSIGNED, "未归入行政区划"
    elif names is None:
        code, name = "", found.key
    else:
        code, name = found.key, names.get(found.key, "")
    return RegionGroup(code, name, found.total, found.online, found.networked)
