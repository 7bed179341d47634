"""What a neighbour above may command, over REST; extensions, no rows of Annex E.

Implements: DB31DSJ/Z 001-2024 6.4.3.1
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.ids import platform_id
from tongshi.resources.control.filters import (
    COMMANDS,
    FIELDS,
    MAX_RULES,
    ControlFilter,
    ControlFilters,
    FilterRule,
)
from tongshi.sharing.gate import subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_PATH = "/api/v1/platforms/{platformId}/control-filter"


class FilterRequest(Request, frozen=True):
    """The whole filter; with ``dryRun`` it is only written down what it would have refused."""

    rules: Annotated[list[FilterRule], Meta(max_length=MAX_RULES)]
    dry_run: bool = False


class FilterAnswer(Answer, frozen=True):
    """What holds; ``updatedAt`` null: the rule without a filter; the last two lists are to choose from."""

    rules: list[FilterRule]
    dry_run: bool
    updated_at: datetime | None
    updated_by: str
    commands: list[str]
    fields: list[str]


class Dropped(Answer, frozen=True):
    """Whether there was a filter."""

    is_dropped: bool = field(name="dropped")


def operations(filters: ControlFilters) -> list[AnyOperation]:
    """Read, write and drop a filter."""

    async def get(call: Call[Nothing, Nothing]) -> FilterAnswer:
        return _shown(await filters.get(platform_id(call.path["platformId"])))

    async def put(call: Call[FilterRequest, Nothing]) -> FilterAnswer:
        body, target = call.body, platform_id(call.path["platformId"])
        rules = tuple(body.rules)
        return _shown(await filters.put(subject_of(call), target, rules, is_dry_run=body.dry_run))

    async def drop(call: Call[Nothing, Nothing]) -> Dropped:
        return Dropped(await filters.drop(subject_of(call), platform_id(call.path["platformId"])))

    return [
        Operation(
            name="controlFilter",
            method="GET",
            path=_PATH,
            summary="查询相邻平台的控制命令过滤规则",
            permission=Permission.PLATFORM_ADMIN,
            quota=Quota.ADMIN,
            audit=AuditTag.CONTROL_FILTER,
            body=Nothing,
            query=Nothing,
            response=FilterAnswer,
            handler=get,
        ),
        Operation(
            name="putControlFilter",
            method="PUT",
            path=_PATH,
            summary="设置相邻平台的控制命令过滤规则",
            permission=Permission.PLATFORM_ADMIN,
            quota=Quota.ADMIN,
            audit=AuditTag.CONTROL_FILTER,
            body=FilterRequest,
            query=Nothing,
            response=FilterAnswer,
            handler=put,
            is_audited_within=True,
        ),
        Operation(
            name="dropControlFilter",
            method="DELETE",
            path=_PATH,
            summary="删除相邻平台的控制命令过滤规则",
            permission=Permission.PLATFORM_ADMIN,
            quota=Quota.ADMIN,
            audit=AuditTag.CONTROL_FILTER,
            body=Nothing,
            query=Nothing,
            response=Dropped,
            handler=drop,
            is_audited_within=True,
        ),
    ]


def _shown(held: ControlFilter) -> FilterAnswer:
    return FilterAnswer(
        list(held.rules), held.is_dry_run, held.updated_at, held.updated_by, list(COMMANDS), list(FIELDS)
    )
