"""Questions about many devices over REST.

Implements: DB31DSJ/Z 001-2024 E.1-1
Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7
Implements: DB31DSJ/Z 001-2024 E.1-8
What a caller may not see is neither listed nor counted. Not here: the devices of plans (plan_lists_http.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest, NotFound
from tongshi.resources.devices import wire
from tongshi.resources.devices.asking import Asking
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
from tongshi.resources.devices.permitted import ACTIONS, DecidedBy, Perm, decided_by, perm_of
from tongshi.resources.devices.query import Allowed, Area, Cluster, DeviceQueries, Show
from tongshi.resources.devices.query_store import Group, Lite
from tongshi.resources.devices.rules.check import check
from tongshi.resources.devices.search_terms import MAX_KEYWORD, Match, needle
from tongshi.resources.devices.selection import Narrowing, Place, Selection, Sort
from tongshi.resources.devices.wire import DeviceLite
from tongshi.resources.tags.wire import MAX_EXPRESSION_CHARS, TagExpr, expression_of
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_CIVIL = r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z"
_Division = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8}|unassigned)\Z")]
_Keyword = Annotated[str, Meta(max_length=MAX_KEYWORD)]
_Cursor = Annotated[str, Meta(max_length=2_048)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Longitude = Annotated[float, Meta(ge=-180, le=180)]
_Latitude = Annotated[float, Meta(ge=-90, le=90)]
_Small = Annotated[int, Meta(ge=0, le=999)]
TotalMode = Literal["exact", "none"]
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
    fields: Annotated[Show, Meta(description=f"full 时 limit 最多 {MAX_BATCH}，坐标为 WGS84")] = Show.LITE
    limit: Annotated[int, Meta(ge=1, le=20_000)] = 1_000
    cursor: _Cursor = ""
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
    cursor: _Cursor = ""
    total_mode: TotalMode = "exact"


class IdsFound(Answer, frozen=True):
    """Ids in the order asked."""

    device_ids: list[str]
    total: int | None
    next_cursor: str
    as_of_version: int
    indexing: Indexing | None


class ListQuery(Request, frozen=True):
    """Which devices; ``action`` narrows to those on which the caller may do that now."""

    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    action: Action | None = None
    keyword: _Keyword = ""
    match: Match = Match.CONTAINS
    civil_code: Annotated[str, Meta(pattern=_CIVIL)] = ""
    online: bool | None = None
    owner: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""
    include_missing: bool = False
    tag_expr: Annotated[str, Meta(max_length=MAX_EXPRESSION_CHARS, description="JSON 格式的标签条件")] = ""
    sort: Sort = Sort.ID
    cursor: _Cursor = ""
    total_mode: TotalMode = "exact"
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class DevicePermitted(DeviceLite, frozen=True, omit_defaults=True, kw_only=True):
    """A device in a list, with what the caller may do."""

    perm: Perm
    decidedBy: list[DecidedBy]


class DevicePage(Answer, frozen=True):
    """One page; ``total`` counts what the caller may see, and is null when it was not asked for."""

    rows: list[DevicePermitted] = field(name="list")
    total: int | None
    page_no: int
    page_size: int
    next_cursor: str
    as_of_version: int
    indexing: Indexing | None


class RegionQuery(Request, frozen=True):
    """Devices of administrative divisions; ``unassigned`` stands for devices without a usable code."""

    civil_codes: Annotated[list[_Division], Meta(min_length=1, max_length=100)]
    include_children: bool = True
    group_by: Literal["none", "child", "street", "department"] = "none"
    filter: FilterAsked = FilterAsked()
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: _Cursor = ""
    sort: Sort = Sort.ID
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class RegionGroup(Answer, frozen=True):
    """Counts of one division, or of one managing unit."""

    civil_code: str
    name: str
    total: int
    online: int
    networked: int


class RegionPage(Answer, frozen=True):
    """One page, and the counts by group."""

    rows: list[DeviceLite] = field(name="list")
    total: int | None
    page_no: int
    page_size: int
    next_cursor: str
    as_of_version: int
    groups: list[RegionGroup]
    indexing: Indexing | None


def operations(queries: DeviceQueries, asking: Asking) -> list[AnyOperation]:
    """The operations of the archive that ask about many devices."""

    async def select(
        call: Call[Any, Any],
        asked: FilterAsked,
        keyword: str = "",
        match: Match = Match.CONTAINS,
        action: Permission = Permission.ARCHIVE_READ,
    ) -> Selection:
        return await selected(asking, call, asked, keyword, match, action)

    async def area_query(call: Call[AreaQuery, Nothing]) -> AreaFound:
        body = call.body
        # Hundreds of edges are compared with each other: not in the loop.
        shape = await asyncio.to_thread(_shape, body.shape)
        question = _question(call, msgspec.structs.replace(body, cursor="", limit=1))
        after = _opened(queries, question, body.cursor)
        system = body.geo_coord_sys
        if body.fields is Show.FULL and body.limit > MAX_BATCH:
            raise InvalidRequest(f"fields 为 full 时 limit 最多 {MAX_BATCH}", field="limit")
        cell = None if body.cluster == "none" else _cell_deg(shape, body.zoom)
        exact = body.total_mode == "exact"
        area = Area(shape, system, cell, body.cluster == "auto", body.fields, exact)
        found = await queries.in_area(await select(call, body.filter), area, body.limit, after)
        rows: list[Any] = [_lite(row, system) for row in await asking.labelled(found.rows)]
        if found.archives:
            rows = await asyncio.to_thread(lambda: [_full(one, call.at, system) for one in found.archives])
        return AreaFound(
            rows,
            found.ids if body.fields is Show.ID else [],
            [_cluster(one) for one in found.clusters or ()],
            found.total,
            found.after is not None or bool(found.clusters),
            _sealed(queries, question, found.after),
            found.placeless,
            system,
            _indexing(found.lag),
        )

    async def search_ids(call: Call[SearchIds, Nothing]) -> IdsFound:
        body = call.body
        question = _question(call, msgspec.structs.replace(body, cursor="", limit=1))
        selection = await select(call, body.filter, body.keyword, body.match)
        ids, found = await queries.page(
            selection,
            body.sort,
            body.limit,
            after=_opened(queries, question, body.cursor),
            with_total=body.total_mode == "exact",
            with_rows=False,
        )
        cursor = _sealed(queries, question, found.after)
        return IdsFound(ids, found.total, cursor, found.as_of, _indexing(found.lag))

    async def page(call: Call[Nothing, ListQuery]) -> DevicePage:
        query = call.query
        question = _question(call, msgspec.structs.replace(query, cursor="", page_no=1, page_size=1))
        action = ACTIONS[query.action] if query.action else Permission.ARCHIVE_READ
        asked = FilterAsked(
            civil_codes=[query.civil_code] if query.civil_code else [],
            online=query.online,
            owner=query.owner,
            include_missing=query.include_missing,
            tag_expr=expression_of(query.tag_expr) if query.tag_expr else None,
        )
        _, found = await queries.page(
            await select(call, asked, query.keyword, query.match, action),
            query.sort,
            query.page_size,
            after=_opened(queries, question, query.cursor),
            skip=0 if query.cursor else _skip(query.page_no, query.page_size),
            with_total=query.total_mode == "exact",
        )
        shown = await asking.labelled(found.rows)
        allowed = await queries.allowed(subject_of(call), context_of(call), tuple(ACTIONS.values()), shown)
        rows = [_permitted(row, may, query.geo_coord_sys) for row, may in zip(shown, allowed, strict=True)]
        cursor = _sealed(queries, question, found.after)
        return DevicePage(
            rows,
            found.total,
            query.page_no,
            query.page_size,
            cursor,
            found.as_of,
            _indexing(found.lag),
        )

    async def region_devices(call: Call[RegionQuery, Nothing]) -> RegionPage:
        body = call.body
        question = _question(call, msgspec.structs.replace(body, cursor="", page_no=1, page_size=1))
        if body.filter.civil_codes:
            raise InvalidRequest("区划只在 civilCodes 中给出", field="filter.civilCodes")
        narrowed = await select(call, body.filter)
        codes = tuple(dict.fromkeys(body.civil_codes))
        selection = replace(narrowed, civil_codes=codes, is_exact_civil_code=not body.include_children)
        _, found = await queries.page(
            selection,
            body.sort,
            body.page_size,
            after=_opened(queries, question, body.cursor),
            skip=0 if body.cursor else _skip(body.page_no, body.page_size),
        )
        groups = []
        if body.group_by != "none":
            groups = await queries.groups(selection, codes, body.group_by)
        return RegionPage(
            [_lite(row, body.geo_coord_sys) for row in await asking.labelled(found.rows)],
            found.total,
            body.page_no,
            body.page_size,
            _sealed(queries, question, found.after),
            found.as_of,
            [_group(one, is_unit=body.group_by == "department") for one in groups],
            _indexing(found.lag),
        )

    return _table(area_query, search_ids, page, region_devices)


def _table(area_query: Any, search_ids: Any, page: Any, region_devices: Any) -> list[AnyOperation]:
    def operation(
        name: str, path: str, summary: str, row: str, handler: Any, body: Any, response: Any, **more: Any
    ) -> AnyOperation:
        return Operation(
            name=name,
            path=f"/api/v1/archive/{path}",
            summary=summary,
            row=row,
            handler=handler,
            body=body,
            response=response,
            permission=Permission.ARCHIVE_READ,
            audit=AuditTag.ARCHIVE_QUERY,
            **{"method": "POST", "query": Nothing, "quota": Quota.QUERY, **more},
        )

    return [
        operation(
            "areaQueryDevices",
            "devices/area-query",
            "地图框选接口",
            "E.1-1",
            area_query,
            AreaQuery,
            AreaFound,
        ),
        operation(
            "searchDeviceIds",
            "devices/search-ids",
            "根据搜索条件展示设备 ID",
            "E.1-6",
            search_ids,
            SearchIds,
            IdsFound,
        ),
        operation(
            "listDevices",
            "devices",
            "权限校验分页查询设备信息",
            "E.1-7",
            page,
            Nothing,
            DevicePage,
            method="GET",
            query=ListQuery,
            refusals=(NotFound,),
        ),
        operation(
            "regionDevices",
            "regions/devices",
            "查询行政区划下设备信息",
            "E.1-8",
            region_devices,
            RegionQuery,
            RegionPage,
        ),
    ]


async def selected(
    asking: Asking,
    call: Call[Any, Any],
    asked: FilterAsked,
    keyword: str = "",
    match: Match = Match.CONTAINS,
    action: Permission = Permission.ARCHIVE_READ,
) -> Selection:
    """The devices that a caller means. Raises as ``selection_of`` and ``Asking.narrowings``."""
    scope = await asking.scope(call, action)
    narrowings = await asking.narrowings(call, asked.plan_code, asked.tag_expr)
    return selection_of(scope, asked, keyword, match, narrowings)


def selection_of(
    scope: Scope,
    asked: FilterAsked,
    keyword: str = "",
    match: Match = Match.CONTAINS,
    narrowings: tuple[Narrowing, ...] = (),
) -> Selection:
    """The devices of a scope that a filter and a keyword hold. Raises InvalidRequest for two keywords."""
    if keyword and asked.keyword:
        raise InvalidRequest("keyword 只能给出一次", field="filter.keyword")
    return Selection(
        scope=scope,
        civil_codes=tuple(asked.civil_codes),
        online=asked.online,
        point_classes=tuple(asked.point_class),
        ptz_types=tuple(asked.ptz),
        industries=tuple(asked.industries),
        ids=tuple(asked.ids),
        owner=asked.owner,
        include_missing=asked.include_missing,
        needle=needle(keyword, match) if keyword else needle(asked.keyword, asked.match),
        narrowings=narrowings,
    )


def _shape(asked: ShapeAsked) -> Shape:
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


def _cell_deg(shape: Shape, zoom: int | None) -> float:
    """Width of a cluster's cell: a quarter of a map tile at a zoom level, or a sixteenth of the shape."""
    if zoom is not None:
        return float(90.0 / 2**zoom)
    box = shape.box
    return max(box.east - box.west, box.north - box.south, 1e-6) / 16


def _skip(page_no: int, page_size: int) -> int:
    if page_no * page_size > MAX_PAGED_ROWS:
        raise InvalidRequest("翻页过深，请改用 cursor 或缩小查询范围", code=40006, field="pageNo")
    return (page_no - 1) * page_size


def _question(call: Call[Any, Any], asked: msgspec.Struct) -> bytes:
    """What a cursor is bound to: the operation's question without its page, and who asks it."""
    subject = subject_of(call)
    who = f"{type(asked).__name__}\0{subject.kind.value}\0{subject.id}\0"
    return who.encode() + msgspec.json.encode(asked)


def _opened(queries: DeviceQueries, question: bytes, cursor: str) -> Place | None:
    return queries.cursors.open(question, cursor) if cursor else None


def _sealed(queries: DeviceQueries, question: bytes, after: Place | None) -> str:
    return "" if after is None else queries.cursors.seal(question, after)


def _lite(row: Lite, system: GeoCoordSys) -> DeviceLite:
    # By position: a box shows thousands.
    return DeviceLite(*_lite_values(row, system))


def _lite_values(row: Lite, system: GeoCoordSys) -> tuple[Any, ...]:
    """Values of ``DeviceLite`` in its order."""
    longitude, latitude = row.longitude, row.latitude
    if longitude is not None and latitude is not None:
        longitude, latitude = from_wgs84((longitude, latitude), system)
    return (
        row.device_id,
        row.name,
        None if row.online is None else "ON" if row.online else "OFF",
        row.civil_code,
        row.owner,
        row.revision,
        longitude,
        latitude,
        system.value,
        row.ptz_type,
        row.point_type,
        wire._flag(row.is_controllable, "1", "0"),
        wire._flag(row.is_networked, "0", "1"),
        tuple(row.industries.split("/")) if row.industries else (),
        row.tag_codes,
    )


def _permitted(row: Lite, allowed: Allowed, system: GeoCoordSys) -> DevicePermitted:
    perm = perm_of(allowed, row.is_controllable)
    return DevicePermitted(*_lite_values(row, system), perm=perm, decidedBy=decided_by(allowed))


def _full(archive: DeviceArchive, at: datetime, system: GeoCoordSys) -> dict[str, Any]:
    return detail(archive, check(archive, at), system, EVERY_FIELD)


def _indexing(lag: Lag | None) -> Indexing | None:
    return None if lag is None else Indexing(False, lag.remaining, lag.remaining_s)


def _cluster(found: Cluster) -> ClusterShown:
    box = found.box
    return ClusterShown(
        found.lon, found.lat, found.count, found.online, BoxShown(box.west, box.south, box.east, box.north)
    )


def _group(found: Group, *, is_unit: bool) -> RegionGroup:
    name = found.key if is_unit else ""
    code = "" if is_unit and found.key != "unassigned" else found.key
    return RegionGroup(code, name, found.total, found.online, found.networked)
