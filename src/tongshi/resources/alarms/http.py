"""Alarms over REST; an extension, no row of Annex E lists them.

Implements: GB/T 28181-2022 9.4
An alarm that the caller may not see looks unknown.
"""

from __future__ import annotations

from typing import Any

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest, NotFound
from tongshi.resources.alarms import wire
from tongshi.resources.alarms.model import Filters
from tongshi.resources.alarms.service import Alarms
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Page, Quota, Reply

_BASE = "/api/v1/alarms"


def operations(alarms: Alarms) -> list[AnyOperation]:
    """The operations on alarms and on whom they are passed on to."""

    async def page(call: Call[Nothing, wire.AlarmQueryParams]) -> Page[wire.AlarmRow]:
        query = call.query
        if query.page_no * query.page_size > wire.MAX_PAGED_ROWS:
            raise InvalidRequest("翻页超过 10000 条，请缩小范围", code=40006, field="pageNo")
        filters = Filters(
            query.device_id,
            query.civil_code,
            frozenset(query.priority),
            frozenset(query.method),
            query.since,
            query.until,
            query.acknowledged,
        )
        found, total = await alarms.page(
            subject_of(call), filters, query.page_no, query.page_size, context_of(call)
        )
        return Page([wire.row(one) for one in found], total, query.page_no, query.page_size)

    async def get(call: Call[Nothing, Nothing]) -> wire.AlarmDetail:
        return wire.detail(*await alarms.get(subject_of(call), call.path["alarmId"], context_of(call)))

    async def acknowledge(call: Call[wire.AckBody, Nothing]) -> wire.AckAnswer:
        body = call.body
        return wire.ack_answer(
            await alarms.acknowledge(subject_of(call), body.ids, body.note, context_of(call))
        )

    async def words(_: Call[Nothing, Nothing]) -> wire.AlarmWords:
        return wire.words()

    async def routes(_: Call[Nothing, Nothing]) -> wire.RouteList:
        return wire.RouteList([wire.route_row(route) for route in await alarms.routes()])

    async def add_route(call: Call[wire.RouteBody, Nothing]) -> Reply[wire.RouteRow]:
        made = await alarms.add_route(subject_of(call), call.body.route(), context_of(call))
        return Reply(wire.route_row(made), status=201)

    async def remove_route(call: Call[Nothing, Nothing]) -> Nothing:
        await alarms.remove_route(subject_of(call), call.path["routeId"], context_of(call))
        return Nothing()

    read, query = Permission.ALARM_READ, AuditTag.ALARM_QUERY
    admin, change = Permission.PLATFORM_ADMIN, AuditTag.ALARM_ROUTE
    return [
        _operation(
            "listAlarms", "GET", "", "查询报警", page, Page[wire.AlarmRow], read, query,
            query=wire.AlarmQueryParams,
        ),
        _operation("alarmWords", "GET", "/words", "查询报警字典", words, wire.AlarmWords, read, query),
        _operation(
            "acknowledgeAlarms", "POST", "/ack", "确认报警", acknowledge, wire.AckAnswer,
            Permission.ALARM_HANDLE, AuditTag.ALARM_HANDLE, body=wire.AckBody, is_audited_within=True,
        ),
        _operation(
            "listAlarmRoutes", "GET", "/routes", "查询报警分发规则", routes, wire.RouteList, admin, change
        ),
        _operation(
            "addAlarmRoute", "POST", "/routes", "新增报警分发规则", add_route, wire.RouteRow, admin, change,
            body=wire.RouteBody, is_audited_within=True, statuses=(201,),
        ),
        _operation(
            "removeAlarmRoute", "DELETE", "/routes/{routeId}", "删除报警分发规则", remove_route, Nothing,
            admin, change, is_audited_within=True, refusals=(NotFound,),
        ),
        _operation(
            "getAlarm", "GET", "/{alarmId}", "查询一条报警及其分发", get, wire.AlarmDetail, read, query,
            refusals=(NotFound,),
        ),
    ]  # fmt: skip


def _operation(
    name: str,
    method: str,
    path: str,
    summary: str,
    handler: Any,
    response: Any,
    permission: Permission,
    audit: AuditTag,
    **more: Any,
) -> AnyOperation:
    is_reading = method == "GET"
    return Operation(
        name=name,
        method=method,
        path=_BASE + path,
        summary=summary,
        permission=permission,
        quota=Quota.QUERY if is_reading else Quota.ADMIN,
        audit=audit,
        body=more.pop("body", Nothing),
        query=more.pop("query", Nothing),
        response=response,
        handler=handler,
        **more,
    )
