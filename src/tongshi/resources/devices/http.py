"""Reading the device archive: one, many. Lists and searches stand in query_http.py.

Implements: DB31DSJ/Z 001-2024 E.1-2
Implements: DB31DSJ/Z 001-2024 E.1-5
A device that is unknown and one that the caller may not see look the same, unless the caller has the right to
have decisions explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.resources.devices.asking import Tagging
from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.detail_wire import Choice, DeviceDetail, detail, etag, is_held
from tongshi.resources.devices.editing import Editing
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.permitted import ACTIONS, Perm, perm_of
from tongshi.resources.devices.query import DeviceQueries
from tongshi.resources.devices.rules.check import check
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.tags.wire import DeviceTagShown
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import EVERYTHING, Target
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
_Fields = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=100)]


class BatchGet(Request, frozen=True):
    """The ids asked for. Without ``fields`` every field is shown."""

    device_ids: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=MAX_BATCH)
    ]
    fields: _Fields = field(default_factory=list)
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84
    with_perm: bool = False
    with_tags: bool = False


class OneQuery(Request, frozen=True):
    """How one device is shown; its history only to those who may see it."""

    fields: _Fields = field(default_factory=list)
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84
    with_perm: bool = False
    history: bool = False


class BatchFound(Answer, frozen=True):
    """Archives in the order asked, and the ids that are unknown to the caller.

    ``denied`` are ids that exist and that the caller may not see: told only to who may have decisions
    explained; to anybody else they are missing.
    """

    # The type is made from the standard's table at import, so that a checker knows it as Any.
    rows: list[DeviceDetail] = field(name="list")  # type: ignore[valid-type]
    missing: list[str]
    geo_coord_sys: GeoCoordSys
    denied: list[str] | UnsetType = UNSET
    tags: dict[str, list[DeviceTagShown]] | UnsetType = UNSET


def operations(
    devices: DeviceArchives, queries: DeviceQueries, editing: Editing, access: Access, tags: Tagging
) -> list[AnyOperation]:
    """The operations of the archive that read it."""

    async def batch_get(call: Call[BatchGet, Nothing]) -> BatchFound:
        body, subject = call.body, subject_of(call)
        choice = Choice(body.fields)
        asked = list(dict.fromkeys(body.device_ids))
        scope = await access.scope(subject, Permission.ARCHIVE_READ, context_of(call))
        found = await devices.get_many(asked, scope)
        shown = [found[key] for key in asked if key in found]
        perms = await perms_of(call, shown) if body.with_perm else [None] * len(shown)
        absent = [key for key in asked if key not in found]
        denied: list[str] | UnsetType = UNSET
        if subject.may(Permission.EXPLAIN):
            hidden = await devices.get_many(absent, EVERYTHING)
            denied = [key for key in absent if key in hidden]
            absent = [key for key in absent if key not in hidden]
        codes = await tags.codes(list(found))
        rows = [
            detail(
                one,
                check(one, call.at),
                body.geo_coord_sys,
                choice,
                perm,
                tag_codes=codes.get(one.device_id, ()),
            )
            for one, perm in zip(shown, perms, strict=True)
        ]
        borne = await tags.of_devices(list(found)) if body.with_tags else UNSET
        return BatchFound(rows, absent, body.geo_coord_sys, denied, borne)

    async def get(call: Call[Nothing, OneQuery]) -> Reply[Any]:
        query, subject = call.query, subject_of(call)
        choice = Choice(query.fields)
        archive = await devices.find(call.path["deviceId"])
        target = None if archive is None else _target(archive)
        await access.require(subject, Permission.ARCHIVE_READ, target, context_of(call))
        if archive is None:
            raise NotFound("设备不存在")
        history = None
        if query.history:
            await access.require(subject, Permission.ARCHIVE_HISTORY, target, context_of(call))
            history = await editing.history(archive.device_id)
        perm = (await perms_of(call, [archive]))[0] if query.with_perm else None
        codes = (await tags.codes([archive.device_id])).get(archive.device_id, ())
        issues = check(archive, call.at)
        shown = detail(archive, issues, query.geo_coord_sys, choice, perm, history, codes)
        tag = etag(archive.revision, shown)
        is_fresh = is_held(call.headers.get("if-none-match", ""), tag)
        return Reply(shown, status=304 if is_fresh else 200, headers={"ETag": tag}, rows=1)

    async def perms_of(call: Call[Any, Any], archives: Sequence[DeviceArchive]) -> list[Perm]:
        targets = [_target(one) for one in archives]
        actions = tuple(ACTIONS.values())
        allowed = await queries.allowed_on(subject_of(call), context_of(call), actions, targets)
        return [perm_of(may, one.ext.is_controllable) for may, one in zip(allowed, archives, strict=True)]

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
            query=OneQuery,
            response=DeviceDetail,
            handler=get,
            row="E.1-5",
            is_audited_within=True,
            statuses=(200, 304),
        ),
    ]


def _target(archive: DeviceArchive) -> Target:
    return Target(archive.device_id, archive.item.civil_code, archive.owner)
