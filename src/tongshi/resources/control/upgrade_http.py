"""How upgrades ended, over REST; an extension, no row of Annex E.

Implements: GB/T 28181-2022 9.13
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest
from tongshi.resources.control.upgrades import Upgrade, Upgrades
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

MAX_PAGED_ROWS = 10_000


class UpgradeQuery(Request, frozen=True):
    """Which upgrades: of one device, or all that the caller may see."""

    device_id: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50


class UpgradeRow(Answer, frozen=True):
    """One upgrade. ``succeeded`` is null until the device has said; ``running`` is what it says it runs."""

    session_id: str
    device_id: str = field(name="DeviceID")
    name: str
    firmware: str
    manufacturer: str
    ordered_by: str
    ordered_at: datetime
    ended_at: datetime | None
    has_succeeded: bool | None = field(name="succeeded")
    running: str
    reason: str


def operations(upgrades: Upgrades) -> list[AnyOperation]:
    """The list of upgrades."""

    async def page(call: Call[Nothing, UpgradeQuery]) -> Page[UpgradeRow]:
        query = call.query
        if query.page_no * query.page_size > MAX_PAGED_ROWS:
            raise InvalidRequest("翻页超过 10000 条，请缩小范围", code=40006, field="pageNo")
        found, total = await upgrades.page(
            subject_of(call), query.device_id, query.page_no, query.page_size, context_of(call)
        )
        return Page([_row(one) for one in found], total, query.page_no, query.page_size)

    return [
        Operation(
            name="listUpgrades",
            method="GET",
            path="/api/v1/upgrades",
            summary="查询设备升级结果",
            permission=Permission.STATUS_READ,
            quota=Quota.QUERY,
            audit=AuditTag.DEVICE_QUERY,
            body=Nothing,
            query=UpgradeQuery,
            response=Page[UpgradeRow],
            handler=page,
        )
    ]


def _row(one: Upgrade) -> UpgradeRow:
    return UpgradeRow(
        one.id,
        one.device_id,
        one.name,
        one.firmware,
        one.manufacturer,
        one.subject_name,
        one.ordered_at,
        one.ended_at,
        one.has_succeeded,
        one.running,
        one.reason,
    )
