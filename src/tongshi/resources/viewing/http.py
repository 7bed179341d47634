"""Viewing over REST: open, close, turn, and what became of a session.

Implements: DB31DSJ/Z 001-2024 E.2-1
Implements: DB31DSJ/Z 001-2024 E.2-2
Implements: DB31DSJ/Z 001-2024 E.2-6
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, PeerFailed, PeerTimeout, Unprocessable
from tongshi.resources.viewing import wire
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.ptz import PtzControl
from tongshi.resources.viewing.service import Viewing
from tongshi.sharing.gate import subject_of
from tongshi.sharing.model import SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Quota, Request


class RecentQuery(Request, frozen=True):
    """How many sessions."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50


# What a device or the platform before it may bring about.
_OVER_THE_LINE = (Conflict, Unprocessable, PeerFailed, PeerTimeout)


def operations(viewing: Viewing, ptz: PtzControl) -> list[AnyOperation]:
    """The operations of viewing and control."""

    async def live_url(call: Call[wire.LiveUrlRequest, Nothing]) -> wire.LiveUrlAnswer:
        wish = call.body.wish()
        return wire.live_url_answer(await viewing.watch(viewer_of(call, call.body.viewer.client_ip), wish))

    async def stop_live(call: Call[wire.StopRequest, Nothing]) -> wire.StopAnswer:
        body = call.body
        if body.session_id is not None:
            return wire.stop_answer(await viewing.stop(viewer_of(call), body.session_id))
        if body.stream_id is None:
            raise InvalidRequest("需要给出 sessionId 或 streamId", field="sessionId")
        return wire.stop_answer(await viewing.stop_stream(viewer_of(call), body.stream_id))

    async def control_ptz(call: Call[wire.PtzRequest, Nothing]) -> wire.PtzAnswer:
        return wire.ptz_answer(await ptz.turn(viewer_of(call), call.body.turn()))

    async def get_session(call: Call[Nothing, Nothing]) -> wire.SessionAnswer:
        view = viewing.session(viewer_of(call), call.path["sessionId"], may_see_any=_may_see_any(call))
        return wire.session_answer(view)

    async def list_sessions(call: Call[Nothing, RecentQuery]) -> wire.SessionList:
        views = viewing.recent(viewer_of(call), call.query.limit, may_see_any=_may_see_any(call))
        return wire.SessionList([wire.session_answer(view) for view in views])

    async def list_streams(call: Call[Nothing, Nothing]) -> wire.StreamList:
        return wire.stream_list(viewing.streams.streams(), viewing.now())

    return [
        Operation(
            name="stopLive",
            method="POST",
            path="/api/v1/video/live/stop",
            summary="关闭视频流",
            permission=Permission.VIDEO_CLOSE,
            quota=Quota.VIDEO,
            audit=AuditTag.VIDEO_CLOSE,
            body=wire.StopRequest,
            query=Nothing,
            response=wire.StopAnswer,
            handler=stop_live,
            refusals=(Conflict,),
            row="E.2-1",
        ),
        Operation(
            name="liveUrl",
            method="POST",
            path="/api/v1/video/live/url",
            summary="获取实时流地址",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.VIDEO,
            audit=AuditTag.VIDEO_LIVE,
            body=wire.LiveUrlRequest,
            query=Nothing,
            response=wire.LiveUrlAnswer,
            handler=live_url,
            refusals=_OVER_THE_LINE,
            row="E.2-2",
        ),
        Operation(
            name="controlPtz",
            method="POST",
            path="/api/v1/video/ptz/control",
            summary="云台控制",
            permission=Permission.PTZ_CONTROL,
            quota=Quota.CONTROL,
            audit=AuditTag.PTZ_CONTROL,
            body=wire.PtzRequest,
            query=Nothing,
            response=wire.PtzAnswer,
            handler=control_ptz,
            refusals=_OVER_THE_LINE,
            row="E.2-6",
        ),
        Operation(
            name="listVideoSessions",
            method="GET",
            path="/api/v1/video/sessions",
            summary="查询近期调阅会话",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.QUERY,
            audit=AuditTag.VIDEO_QUERY,
            body=Nothing,
            query=RecentQuery,
            response=wire.SessionList,
            handler=list_sessions,
        ),
        Operation(
            name="getVideoSession",
            method="GET",
            path="/api/v1/video/sessions/{sessionId}",
            summary="查询调阅会话时间线",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.QUERY,
            audit=AuditTag.VIDEO_QUERY,
            body=Nothing,
            query=Nothing,
            response=wire.SessionAnswer,
            handler=get_session,
        ),
        Operation(
            name="listVideoStreams",
            method="GET",
            path="/api/v1/video/streams",
            summary="查询本平台正在运行的码流",
            permission=Permission.PLATFORM_ADMIN,
            quota=Quota.QUERY,
            audit=AuditTag.VIDEO_QUERY,
            body=Nothing,
            query=Nothing,
            response=wire.StreamList,
            handler=list_streams,
        ),
    ]


def viewer_of(call: Call[Any, Any], client_ip: str = "") -> Viewer:
    """Who watches and from where. Only a service may name its user's address; a person has its own.

    Raises:
        InvalidRequest: the address named is none.
    """
    subject = subject_of(call)
    host = call.client_host
    if client_ip and subject.kind is SubjectKind.API_KEY:
        try:
            host = str(ipaddress.ip_address(client_ip))
        except ValueError as error:
            raise InvalidRequest("clientIp 不是 IP 地址", field="viewer.clientIp") from error
    return Viewer(subject, host, call.request_id)


def _may_see_any(call: Call[Any, Any]) -> bool:
    return subject_of(call).may(Permission.AUDIT_READ)
