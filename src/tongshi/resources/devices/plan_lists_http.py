"""Devices of plans over REST: a row of the archive's table and one of the plans'.

Implements: DB31DSJ/Z 001-2024 E.1-9
Implements: DB31DSJ/Z 001-2024 E.4-5

A plan that the caller may not see looks unknown (40402); a device outside his scope is counted in
``deniedCount`` and never named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.resources.devices.asking import Asking
from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.http import MAX_PAGED_ROWS
from tongshi.resources.devices.permitted import ACTIONS, DecidedBy, Perm
from tongshi.resources.devices.plan_lists import Part, PlanLists, PlanPart
from tongshi.resources.devices.query import DeviceQueries
from tongshi.resources.devices.query_http import opened, question_of, sealed, selection_of, skip_of
from tongshi.resources.devices.query_store import Lite
from tongshi.resources.devices.query_wire import Cursor, FilterAsked, lite_of, permitted_of
from tongshi.resources.devices.search_terms import MAX_KEYWORD
from tongshi.resources.devices.wire import DeviceLite
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

MAX_PLANS = 50
_PageNo = Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)]
_PageSize = Annotated[int, Meta(ge=1, le=1000)]


class PlansQuery(Request, frozen=True):
    """Devices of plans: ``union`` lists each device once in order of id, ``perPlan`` plan after plan."""

    plan_codes: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=MAX_PLANS)
    ]
    merge: Literal["union", "perPlan"] = "union"
    with_perm: bool = False
    page_no: _PageNo = 1
    page_size: _PageSize = 50
    cursor: Cursor = ""
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class PlanQuery(Request, frozen=True):
    """Which devices of one plan."""

    page_no: _PageNo = 1
    page_size: _PageSize = 50
    online: bool | None = None
    keyword: Annotated[str, Meta(max_length=MAX_KEYWORD)] = ""
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class PlanDevice(DeviceLite, frozen=True, omit_defaults=True, kw_only=True):
    """A device of a plan; what the caller may do with it when he asked."""

    perm: Perm | None = None
    decidedBy: list[DecidedBy] = field(default_factory=list)


class PlanDevices(Answer, frozen=True):
    """One plan: what it lists, what of it is gone from the archive, how much of it is not the caller's.

    ``list`` holds the devices of this page when they were asked for plan by plan.
    """

    PlanCode: str
    PlanName: str
    DeviceCount: int
    rows: list[PlanDevice] = field(name="list")
    missing: list[str]
    denied_count: int


class PlansFound(Answer, frozen=True):
    """Plans and one page of their devices; ``total`` counts what the caller may see, over all pages."""

    plans: list[PlanDevices]
    devices: list[PlanDevice] = field(name="list")
    total: int
    page_no: int
    page_size: int
    next_cursor: str
    as_of_version: int

    @property
    def rows(self) -> list[PlanDevice]:
        """What the audit counts."""
        return [*self.devices, *(row for plan in self.plans for row in plan.rows)]


class PlanFound(Answer, frozen=True):
    """One page of the devices of a plan in its order; ``total`` counts those that fit the question."""

    PlanCode: str
    PlanName: str
    DeviceCount: int
    rows: list[PlanDevice] = field(name="list")
    total: int
    page_no: int
    page_size: int
    missing: list[str]
    denied_count: int


def operations(lists: PlanLists, queries: DeviceQueries, asking: Asking) -> list[AnyOperation]:
    """Rows E.1-9 and E.4-5."""

    async def shown(
        call: Call[Any, Any], rows: Sequence[Lite], system: GeoCoordSys, *, with_perm: bool
    ) -> dict[str, PlanDevice]:
        """Rows as they are answered, by device."""
        labelled = await asking.labelled(rows)
        if not with_perm:
            return {row.device_id: _device(lite_of(row, system)) for row in labelled}
        actions = tuple(ACTIONS.values())
        allowed = await queries.allowed(subject_of(call), context_of(call), actions, labelled)
        made = [permitted_of(row, may, system) for row, may in zip(labelled, allowed, strict=True)]
        return {row.DeviceID: _device(row) for row in made}

    async def plan_devices(call: Call[PlansQuery, Nothing]) -> PlansFound:
        body = call.body
        question = question_of(call, msgspec.structs.replace(body, cursor="", page_no=1, page_size=1))
        after = opened(queries, question, body.cursor)
        skip = 0 if body.cursor else skip_of(body.page_no, body.page_size)
        page = await lists.of_plans(
            subject_of(call),
            await asking.scope(call),
            list(dict.fromkeys(body.plan_codes)),
            Part(body.page_size, skip, after),
            is_union=body.merge == "union",
        )
        rows = {row.device_id: row for part in page.parts for row in part.rows}
        rows.update((row.device_id, row) for row in page.rows)
        known = await shown(call, list(rows.values()), body.geo_coord_sys, with_perm=body.with_perm)
        return PlansFound(
            [_plan(part, known) for part in page.parts],
            [known[row.device_id] for row in page.rows],
            page.total,
            body.page_no,
            body.page_size,
            sealed(queries, question, page.after),
            page.as_of,
        )

    async def devices_of_plan(call: Call[Nothing, PlanQuery]) -> PlanFound:
        query, code = call.query, call.path["planCode"]
        asked = FilterAsked(online=query.online, keyword=query.keyword)
        page = await lists.of_plan(
            subject_of(call),
            selection_of(await asking.scope(call), asked),
            code,
            query.page_size,
            skip_of(query.page_no, query.page_size),
        )
        known = await shown(call, page.rows, query.geo_coord_sys, with_perm=True)
        part = page.parts[0]
        return PlanFound(
            code,
            part.head.name,
            part.head.device_count,
            [known[row.device_id] for row in page.rows],
            page.total,
            query.page_no,
            query.page_size,
            part.missing,
            part.denied,
        )

    return [
        Operation(
            name="planDevices",
            method="POST",
            path="/api/v1/archive/plans/devices",
            summary="查询预案设备信息",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.ARCHIVE_QUERY,
            body=PlansQuery,
            query=Nothing,
            response=PlansFound,
            handler=plan_devices,
            row="E.1-9",
        ),
        Operation(
            name="devicesOfPlan",
            method="GET",
            path="/api/v1/plans/{planCode}/devices",
            summary="预案下设备列表",
            permission=Permission.PLAN_READ,
            quota=Quota.QUERY,
            audit=AuditTag.PLAN_QUERY,
            body=Nothing,
            query=PlanQuery,
            response=PlanFound,
            handler=devices_of_plan,
            row="E.4-5",
        ),
    ]


def _plan(part: PlanPart, known: dict[str, PlanDevice]) -> PlanDevices:
    head = part.head
    rows = [known[row.device_id] for row in part.rows]
    return PlanDevices(head.code, head.name, head.device_count, rows, part.missing, part.denied)


def _device(row: DeviceLite) -> PlanDevice:
    return PlanDevice(**msgspec.structs.asdict(row))
