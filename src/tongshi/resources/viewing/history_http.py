"""Recordings over REST: search, open, steer, close.

Implements: DB31DSJ/Z 001-2024 E.2-3
Implements: DB31DSJ/Z 001-2024 E.2-4
Implements: DB31DSJ/Z 001-2024 E.2-5
"""

from __future__ import annotations

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, PeerFailed, PeerTimeout, Unprocessable
from tongshi.resources.viewing import history_wire as wire
from tongshi.resources.viewing.history import HistoryViewing
from tongshi.resources.viewing.http import viewer_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Quota

_OVER_THE_LINE = (Conflict, Unprocessable, PeerFailed, PeerTimeout)


def operations(history: HistoryViewing) -> list[AnyOperation]:
    """The operations of recordings."""

    async def query_recordings(call: Call[wire.RecordingsQuery, Nothing]) -> wire.TimelineAnswer:
        return wire.timeline_answer(await history.search(viewer_of(call), call.body.search()))

    async def playback_url(call: Call[wire.PlaybackUrlRequest, Nothing]) -> wire.PlaybackUrlAnswer:
        body = call.body
        viewer = viewer_of(call, body.viewer.client_ip)
        return wire.playback_answer(await history.watch(viewer, body.wish(), body.location))

    async def control_playback(call: Call[wire.PlaybackControlRequest, Nothing]) -> wire.PlaybackState:
        body = call.body
        state = await history.steer(viewer_of(call), body.session_id, body.steering())
        return wire.state_answer(state, call.at, body.client_seq)

    async def stop_playback(call: Call[wire.StopPlaybackRequest, Nothing]) -> wire.StopPlaybackAnswer:
        return wire.stop_answer(await history.close(viewer_of(call), call.body.session_id))

    return [
        Operation(
            name="queryRecordings",
            method="POST",
            path="/api/v1/video/recordings/query",
            summary="检索设备录像",
            permission=Permission.VIDEO_PLAYBACK,
            quota=Quota.VIDEO,
            audit=AuditTag.VIDEO_QUERY,
            body=wire.RecordingsQuery,
            query=Nothing,
            response=wire.TimelineAnswer,
            handler=query_recordings,
            refusals=_OVER_THE_LINE,
        ),
        Operation(
            name="stopPlayback",
            method="POST",
            path="/api/v1/video/playback/stop",
            summary="关闭历史流",
            permission=Permission.VIDEO_CLOSE,
            quota=Quota.VIDEO,
            audit=AuditTag.VIDEO_CLOSE,
            body=wire.StopPlaybackRequest,
            query=Nothing,
            response=wire.StopPlaybackAnswer,
            handler=stop_playback,
            refusals=(Conflict,),
            row="E.2-3",
        ),
        Operation(
            name="playbackUrl",
            method="POST",
            path="/api/v1/video/playback/url",
            summary="获取历史流地址",
            permission=Permission.VIDEO_PLAYBACK,
            quota=Quota.VIDEO,
            audit=AuditTag.VIDEO_PLAYBACK,
            body=wire.PlaybackUrlRequest,
            query=Nothing,
            response=wire.PlaybackUrlAnswer,
            handler=playback_url,
            refusals=_OVER_THE_LINE,
            row="E.2-4",
        ),
        Operation(
            name="controlPlayback",
            method="POST",
            path="/api/v1/video/playback/control",
            summary="历史流播放控制",
            permission=Permission.VIDEO_PLAYBACK,
            quota=Quota.CONTROL,
            audit=AuditTag.VIDEO_PLAYBACK,
            body=wire.PlaybackControlRequest,
            query=Nothing,
            response=wire.PlaybackState,
            handler=control_playback,
            refusals=_OVER_THE_LINE,
            row="E.2-5",
        ),
    ]
