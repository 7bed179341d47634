"""Ordering, listing and fetching snapshots over REST; extensions, no rows of Annex E.

Implements: GB/T 28181-2022 9.14
"""

from __future__ import annotations

from starlette.responses import Response

from tongshi.audit.tags import AuditTag
from tongshi.errors import (
    Conflict,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PeerFailed,
    PeerTimeout,
    Unavailable,
    Unprocessable,
)
from tongshi.ids import device_id
from tongshi.resources.snapshots import wire
from tongshi.resources.snapshots.service import Snapshots
from tongshi.resources.viewing.model import StreamType
from tongshi.resources.viewing.ports import Viewer
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Page, Quota, Reply

JPEG = "image/jpeg"
# A picture is shown as one and as nothing else, and stays in no cache.
_PICTURE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def operations(snapshots: Snapshots) -> list[AnyOperation]:
    """The operations on snapshots."""

    async def order(call: Call[wire.SnapshotRequest, Nothing]) -> Reply[wire.SnapshotOrder]:
        viewer = Viewer(subject_of(call), call.client_host, call.request_id)
        wish = call.body
        made = await snapshots.order(
            viewer, device_id(call.path["deviceId"]), wish.count, wish.interval_sec, wish.purpose
        )
        return Reply(wire.order(made), status=202)

    async def capture(call: Call[wire.CaptureRequest, Nothing]) -> Reply[wire.SnapshotOrder]:
        viewer = Viewer(subject_of(call), call.client_host, call.request_id)
        made, picture = await snapshots.capture(
            viewer, device_id(call.path["deviceId"]), StreamType(call.body.stream_type), call.body.purpose
        )
        return Reply(wire.order(made, [picture]), status=201)

    async def page(call: Call[Nothing, wire.SnapshotQuery]) -> Page[wire.SnapshotOrder]:
        query = call.query
        if query.page_no * query.page_size > wire.MAX_PAGED_ROWS:
            raise InvalidRequest("翻页超过 10000 条，请缩小范围", code=40006, field="pageNo")
        found, total = await snapshots.page(
            subject_of(call), query.filters, query.page_no, query.page_size, context_of(call)
        )
        return Page([wire.order(*one) for one in found], total, query.page_no, query.page_size)

    async def get(call: Call[Nothing, Nothing]) -> wire.SnapshotOrder:
        return wire.order(*await snapshots.get(subject_of(call), call.path["orderId"], context_of(call)))

    async def show(call: Call[Nothing, Nothing]) -> Response:
        viewer = Viewer(subject_of(call), call.client_host, call.request_id)
        picture, data = await snapshots.show(viewer, call.path["pictureId"])
        name = (
            picture.file_name if picture.file_name.isascii() and picture.file_name.isalnum() else picture.id
        )
        headers = {**_PICTURE_HEADERS, "Content-Disposition": f'inline; filename="{name}.jpg"'}
        return Response(data, media_type=JPEG, headers=headers)

    return [
        Operation(
            name="orderSnapshot",
            method="POST",
            path="/api/v1/devices/{deviceId}/snapshots",
            summary="设备图像抓拍",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.CONTROL,
            audit=AuditTag.SNAPSHOT_ORDER,
            body=wire.SnapshotRequest,
            query=Nothing,
            response=wire.SnapshotOrder,
            handler=order,
            is_audited_within=True,
            statuses=(202,),
            refusals=(Conflict, Unprocessable, PeerFailed, PeerTimeout, LimitExceeded, Unavailable, NotFound),
        ),
        Operation(
            name="captureLive",
            method="POST",
            path="/api/v1/devices/{deviceId}/snapshots/live",
            summary="截取实时画面",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.VIDEO,
            audit=AuditTag.SNAPSHOT_ORDER,
            body=wire.CaptureRequest,
            query=Nothing,
            response=wire.SnapshotOrder,
            handler=capture,
            is_audited_within=True,
            statuses=(201,),
            refusals=(Conflict, Unprocessable, PeerFailed, PeerTimeout, LimitExceeded, Unavailable, NotFound),
        ),
        Operation(
            name="listSnapshots",
            method="GET",
            path="/api/v1/snapshots",
            summary="查询抓拍记录",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.QUERY,
            audit=AuditTag.SNAPSHOT_QUERY,
            body=Nothing,
            query=wire.SnapshotQuery,
            response=Page[wire.SnapshotOrder],
            handler=page,
        ),
        Operation(
            name="getSnapshot",
            method="GET",
            path="/api/v1/snapshots/{orderId}",
            summary="查询一次抓拍及其图像",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.QUERY,
            audit=AuditTag.SNAPSHOT_QUERY,
            body=Nothing,
            query=Nothing,
            response=wire.SnapshotOrder,
            handler=get,
            refusals=(NotFound,),
        ),
        Operation(
            name="showSnapshotPicture",
            method="GET",
            path="/api/v1/snapshots/pictures/{pictureId}",
            summary="查看抓拍图像",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.QUERY,
            audit=AuditTag.SNAPSHOT_VIEW,
            body=Nothing,
            query=Nothing,
            response=Nothing,
            handler=show,
            is_raw=True,
            media_types=(JPEG,),
            refusals=(NotFound, Unprocessable),
        ),
    ]
