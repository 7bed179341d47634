"""Reading the device archive: one, many. Lists and searches stand in query_http.py.

Implements: DB31DSJ/Z 001-2024 E.1-2
Implements: DB31DSJ/Z 001-2024 E.1-5
A device that is unknown and one that the caller may not see look the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.resources.devices import wire
from tongshi.resources.devices.asking import Tagging
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.rules.check import check
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.tags.wire import DeviceTagShown
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Target
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import (
    Answer,
    AnyOperation,
    Call,
    Nothing,
    Operation,
    Quota,
    Reply,
    Request,
)

MAX_PAGED_ROWS = 10_000
MAX_BATCH = 1_000


class BatchGet(Request, frozen=True):
    """The ids asked for."""

    device_ids: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=MAX_BATCH)
    ]
    with_tags: bool = False


class BatchFound(Answer, frozen=True):
    """Archives in the order asked, and the ids that are unknown to the caller."""

    # The type is made from the standard's table at import, so that a checker knows it as Any.
    rows: list[wire.DeviceFull] = field(name="list")  # type: ignore[valid-type]
    missing: list[str]
    tags: dict[str, list[DeviceTagShown]] | UnsetType = UNSET


def operations(devices: DeviceArchives, access: Access, tags: Tagging) -> list[AnyOperation]:
    """The operations of the archive that read it."""

    async def batch_get(call: Call[BatchGet, Nothing]) -> BatchFound:
        wanted = list(dict.fromkeys(call.body.device_ids))
        scope = await access.scope(subject_of(call), Permission.ARCHIVE_READ, context_of(call))
        found = await devices.get_many(wanted, scope)
        rows = [_full(found[key], call.at) for key in wanted if key in found]
        borne = await tags.of_devices(list(found)) if call.body.with_tags else UNSET
        return BatchFound(rows, [key for key in wanted if key not in found], borne)

    async def get(call: Call[Nothing, Nothing]) -> Reply[Any]:
        archive = await devices.find(call.path["deviceId"])
        target = None
        if archive is not None:
            target = Target(archive.device_id, archive.item.civil_code, archive.owner)
        await access.require(subject_of(call), Permission.ARCHIVE_READ, target, context_of(call))
        if archive is None:
            raise NotFound("设备不存在")
        return Reply(_full(archive, call.at), headers={"ETag": f'"{archive.revision}"'})

    return [
        Operation(
            name="batchGetDevices",
            method="POST",
            path="/api/v1/archive/devices/batch-get",
            summary="根据设备 ID 批量查询设备详情",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_QUERY,
            body=BatchGet,
            query=Nothing,
            response=BatchFound,
            handler=batch_get,
            row="E.1-2",
        ),
        Operation(
            name="getDevice",
            method="GET",
            path="/api/v1/archive/devices/{deviceId}",
            summary="根据设备 ID 查询设备详情",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.ARCHIVE_QUERY,
            body=Nothing,
            query=Nothing,
            response=wire.DeviceFull,
            handler=get,
            row="E.1-5",
            is_audited_within=True,
        ),
    ]


def _full(archive: DeviceArchive, at: datetime) -> Any:
    return wire.to_full(archive, check(archive, at))
