"""Questions about many devices over REST.

Implements: DB31DSJ/Z 001-2024 E.1-1
Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7
Implements: DB31DSJ/Z 001-2024 E.1-8
What a caller may not see is neither listed nor counted. Not here: the devices of plans (plan_lists_http.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest, NotFound
from tongshi.resources.devices.asking import Asking
from tongshi.resources.devices.http import MAX_BATCH, MAX_PAGED_ROWS
from tongshi.resources.devices.permitted import ACTIONS
from tongshi.resources.devices.query import Area, DeviceQueries, Show
from tongshi.resources.devices.query_wire import (
    AreaFound,
    AreaQuery,
    DevicePage,
    FilterAsked,
    IdsFound,
    ListQuery,
    RegionPage,
    RegionQuery,
    SearchIds,
    cell_deg_of,
    cluster_of,
    full_of,
    group_of,
    indexing_of,
    lite_of,
    permitted_of,
    raw_of,
    shape_of,
)
from tongshi.resources.devices.search_terms import Match, needle
from tongshi.resources.devices.selection import Narrowing, Place, Selection
from tongshi.resources.tags.wire import expression_of
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Quota, Reply

# The names of divisions by code, as far as anybody told them; ``trees.service`` fulfils it.
Names = Callable[[Sequence[str]], Awaitable[dict[str, str]]]


def operations(queries: DeviceQueries, asking: Asking, names: Names) -> list[AnyOperation]:
    """The operations of the archive that ask about many devices."""

    async def area_query(call: Call[AreaQuery, Nothing]) -> AreaFound:
        body = call.body
        # Hundreds of edges are compared with each other: not in the loop.
        shape = await asyncio.to_thread(shape_of, body.shape)
        question = question_of(call, msgspec.structs.replace(body, cursor="", limit=1))
        after = opened(queries, question, body.cursor)
        system = body.geo_coord_sys
        limit = min(body.limit, MAX_BATCH) if body.fields is Show.FULL else body.limit
        cell = None if body.cluster == "none" else cell_deg_of(shape, body.zoom)
        exact = body.total_mode == "exact"
        area = Area(shape, system, cell, body.cluster == "auto", body.fields, exact)
        found = await queries.in_area(await selected(asking, call, body.filter), area, limit, after)
        rows: list[Any] = [lite_of(row, system) for row in await asking.labelled(found.rows)]
        if found.shown is not None:
            rows = raw_of(found.shown, await asking.tag_codes(found.ids))
        if found.archives:
            codes = await asking.tag_codes(found.ids)
            rows = await asyncio.to_thread(
                lambda: [
                    full_of(one, call.at, system, codes.get(one.device_id, ())) for one in found.archives
                ]
            )
        return AreaFound(
            rows,
            found.ids if body.fields is Show.ID else [],
            [cluster_of(one) for one in found.clusters or ()],
            found.total,
            found.after is not None or bool(found.clusters),
            sealed(queries, question, found.after),
            found.placeless,
            system,
            indexing_of(found.lag),
        )

    async def search_ids(call: Call[SearchIds, Nothing]) -> Reply[IdsFound]:
        body = call.body
        question = question_of(call, msgspec.structs.replace(body, cursor="", limit=1))
        selection = await selected(asking, call, body.filter, body.keyword, body.match)
        ids, found = await queries.page(
            selection,
            body.sort,
            body.limit,
            after=opened(queries, question, body.cursor),
            with_total=body.total_mode == "exact",
            with_rows=False,
        )
        cursor = sealed(queries, question, found.after)
        told = IdsFound(ids, found.total, cursor, found.as_of, indexing_of(found.lag))
        return Reply(told, rows=len(ids))

    async def page(call: Call[Nothing, ListQuery]) -> DevicePage:
        query = call.query
        question = question_of(call, msgspec.structs.replace(query, cursor="", page_no=1, page_size=1))
        action = ACTIONS[query.action] if query.action else Permission.ARCHIVE_READ
        asker = await asking.on_behalf(call, query.user_id)
        asked = FilterAsked(
            civil_codes=[query.civil_code] if query.civil_code else [],
            online=query.online,
            owner=query.owner,
            include_missing=query.include_missing,
            tag_expr=expression_of(query.tag_expr) if query.tag_expr else None,
        )
        selection = await selected(asking, call, asked, query.keyword, query.match)
        if query.action or query.user_id:
            selection = replace(selection, also=await asking.scope_of(asker, call, action))
        _, found = await queries.page(
            selection,
            query.sort,
            query.page_size,
            after=opened(queries, question, query.cursor),
            skip=0 if query.cursor else skip_of(query.page_no, query.page_size),
            with_total=query.total_mode == "exact",
        )
        shown = await asking.labelled(found.rows)
        allowed = await queries.allowed(asker, context_of(call), tuple(ACTIONS.values()), shown)
        rows = [permitted_of(row, may, query.geo_coord_sys) for row, may in zip(shown, allowed, strict=True)]
        cursor = sealed(queries, question, found.after)
        return DevicePage(
            rows,
            found.total,
            query.page_no,
            query.page_size,
            cursor,
            found.as_of,
            indexing_of(found.lag),
        )

    async def region_devices(call: Call[RegionQuery, Nothing]) -> RegionPage:
        body = call.body
        question = question_of(call, msgspec.structs.replace(body, cursor="", page_no=1, page_size=1))
        if body.filter.civil_codes:
            raise InvalidRequest("区划只在 civilCodes 中给出", field="filter.civilCodes")
        narrowed = await selected(asking, call, body.filter)
        codes = tuple(dict.fromkeys(body.civil_codes))
        selection = replace(narrowed, civil_codes=codes, is_exact_civil_code=not body.include_children)
        _, found = await queries.page(
            selection,
            body.sort,
            body.page_size,
            after=opened(queries, question, body.cursor),
            skip=0 if body.cursor else skip_of(body.page_no, body.page_size),
            with_total=body.total_mode == "exact",
        )
        groups = []
        if body.group_by != "none":
            groups = await queries.groups(selection, codes, body.group_by)
        called = None if body.group_by == "department" else await names([one.key for one in groups])
        return RegionPage(
            [lite_of(row, body.geo_coord_sys) for row in await asking.labelled(found.rows)],
            found.total,
            body.page_no,
            body.page_size,
            sealed(queries, question, found.after),
            found.as_of,
            indexing_of(found.lag),
            [group_of(one, called) for one in groups],
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
) -> Selection:
    """The devices that a caller means. Raises as ``selection_of`` and ``Asking.narrowings``."""
    scope = await asking.scope(call)
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


def skip_of(page_no: int, page_size: int) -> int:
    """Rows before a page. Raises InvalidRequest 40006 beyond ``MAX_PAGED_ROWS``."""
    if page_no * page_size > MAX_PAGED_ROWS:
        raise InvalidRequest("翻页过深，请改用 cursor 或缩小查询范围", code=40006, field="pageNo")
    return (page_no - 1) * page_size


def question_of(call: Call[Any, Any], asked: msgspec.Struct) -> bytes:
    """What a cursor is bound to: the operation's question without its page, and who asks it."""
    subject = subject_of(call)
    who = f"{type(asked).__name__}\0{subject.kind.value}\0{subject.id}\0"
    return who.encode() + msgspec.json.encode(asked)


def opened(queries: DeviceQueries, question: bytes, cursor: str) -> Place | None:
    """The place in a cursor, None without one. Raises InvalidRequest for one of another question."""
    return queries.cursors.open(question, cursor) if cursor else None


def sealed(queries: DeviceQueries, question: bytes, after: Place | None) -> str:
    """The cursor of the page that begins there; empty when nothing follows."""
    return "" if after is None else queries.cursors.seal(question, after)
