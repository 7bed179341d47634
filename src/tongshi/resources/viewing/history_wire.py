"""Recordings on the wire: the fields of rows E.2-3 to E.2-5 and of our own search.

Implements: DB31DSJ/Z 001-2024 E.2-3
Implements: DB31DSJ/Z 001-2024 E.2-4
Implements: DB31DSJ/Z 001-2024 E.2-5
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from tongshi.clock import BEIJING
from tongshi.errors import InvalidRequest, RemoteViolation, Unprocessable
from tongshi.ids import device_id
from tongshi.protocols.gb28181.dates import parse_time
from tongshi.protocols.gb28181.records import RecordFile, RecordType
from tongshi.resources.viewing import wire
from tongshi.resources.viewing.history import SCALES, Action, HistoryOpening, PlayState, Steering
from tongshi.resources.viewing.model import Closing, FileFormat, StreamType, Transport
from tongshi.resources.viewing.recordings import RecordLocation, Search, Timeline, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.web.operations import Answer, Request

_Text = Annotated[str, Meta(max_length=256)]
_Time = Annotated[str, Meta(min_length=8, max_length=64)]
_Device = Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
_Session = Annotated[str, Meta(min_length=1, max_length=64)]
_Kind = Literal["all", "time", "alarm", "manual"]
_Location = Literal["auto", "center", "device"]


class RecordingsQuery(Request, frozen=True):
    """Our own search. Times without a zone are Beijing's; the window is at most 31 days."""

    device_id: _Device = field(name="DeviceID")
    start_time: _Time
    end_time: _Time
    record_type: _Kind = "all"
    record_location: _Location = "auto"

    def search(self) -> Search:
        """What is asked, understood. Raises InvalidRequest (40003)."""
        window = _window(self.start_time, self.end_time, self.record_type)
        return Search(device_id(self.device_id), window, RecordLocation(self.record_location))


class PlaybackUrlRequest(Request, frozen=True):
    """E.2-4. ``speed`` and ``format`` are of a download; a playback's speed is changed by E.2-5.

    ``transcode`` is of a playback, as in E.2-2; what is downloaded is what was recorded.
    """

    device_id: _Device = field(name="DeviceID")
    start_time: _Time
    end_time: _Time
    record_location: _Location = "auto"
    record_type: _Kind = "all"
    mode: Literal["play", "download"] = "play"
    speed: Literal[1, 2, 4, 8] = 1
    format: Literal["mp4", "ps"] = "mp4"
    protocol: Annotated[list[Annotated[str, Meta(max_length=32)]], Meta(min_length=1, max_length=16)] = field(
        default_factory=lambda: ["http-flv"]
    )
    stream_type: Literal[0, 1, 2] = 0
    transport: Literal["udp", "tcp-passive", "tcp-active", "auto"] = "auto"
    transcode: wire.Transcode = wire.Transcode()
    expire_sec: Annotated[int, Meta(ge=10, le=86_400)] = 300
    max_session_sec: Annotated[int, Meta(ge=10, le=86_400)] | None = None
    purpose: _Text = ""
    apply_no: Annotated[str, Meta(max_length=64)] = ""
    viewer: wire.WireViewer = wire.WireViewer()
    watermark: Literal["auto", "visible", "invisible", "both"] = "auto"
    sign: bool = False

    @property
    def location(self) -> RecordLocation:
        """Whose storage is searched."""
        return RecordLocation(self.record_location)

    def wish(self) -> Wish:
        """What is asked, understood.

        Raises:
            Unprocessable: an option we do not have (42203, details ``supported``).
            InvalidRequest: times that are none (40003).
        """
        if self.watermark != "auto":
            raise wire.unsupported("watermark", ["auto"])
        if self.sign:
            raise wire.unsupported("sign", ["false"])  # signing what leaves (7.6) is not built
        is_download = self.mode == "download"
        if self.speed != 1 and not is_download:
            raise InvalidRequest("speed 只用于下载，回放倍速请用播放控制", field="speed")
        if self.format != "mp4" and not is_download:
            raise InvalidRequest("format 只用于下载，回放请用 protocol", field="format")
        transcoding = self.transcode.wanted()
        if transcoding is not None and is_download:
            raise wire.unsupported("transcode", ["none"])
        return Wish(
            device_id=device_id(self.device_id),
            stream_type=StreamType(self.stream_type),
            deliveries=wire.deliveries(self.protocol),
            transcoding=transcoding,
            transport=Transport(self.transport),
            expire_s=self.expire_sec,
            max_session_s=self.max_session_sec,
            purpose=self.purpose,
            window=_window(self.start_time, self.end_time, self.record_type),
            download_speed=self.speed if is_download else None,
            file_format=FileFormat(self.format),
        )


class StopPlaybackRequest(Request, frozen=True):
    """E.2-3. A recording is one viewer's, so that its session says everything."""

    session_id: _Session
    reason: _Text = ""


class PlaybackControlRequest(Request, frozen=True):
    """E.2-5. ``position`` is seconds from the start of what was asked for, or a moment."""

    session_id: _Session
    action: Annotated[str, Meta(max_length=32)]
    position: Annotated[float, Meta(ge=0)] | _Time | None = None
    scale: Annotated[float, Meta(ge=-64, le=64)] | None = None
    client_seq: Annotated[int, Meta(ge=0, le=2**53)] | None = None

    def steering(self) -> Steering:
        """What is asked, understood. Raises Unprocessable (42203), InvalidRequest."""
        if self.action not in tuple(Action):
            raise wire.unsupported("action", [action.value for action in Action])
        if self.scale is not None and abs(self.scale) not in SCALES:
            scales = sorted({*SCALES, *(-scale for scale in SCALES)})
            raise Unprocessable("不支持所选的倍速", field="scale", details={"supportedScales": scales})
        if isinstance(self.position, str):
            at = _moment(self.position, "position")
            return Steering(Action(self.action), at=at, scale=self.scale)
        return Steering(Action(self.action), position_s=self.position, scale=self.scale)


class Segment(Answer, frozen=True):
    """One recorded stretch as its storage tells it; ``source`` says who keeps it, a platform or the device.

    GB/T 28181 does not tell whether it is ``locked``.
    """

    start_time: datetime
    end_time: datetime
    size: int | None
    location: str
    type: str
    source: Literal["center", "device"]
    locked: bool | None = None


class WireGap(Answer, frozen=True):
    """A stretch without a recording."""

    start_time: datetime
    end_time: datetime


class TimelineAnswer(Answer, frozen=True):
    """What there is within a window. ``complete`` false: the device's answer was cut short."""

    segments: list[Segment]
    gaps: list[WireGap]
    total_sec: float
    coverage: float
    complete: bool


class TimelineProblem(Answer, frozen=True):
    """Why a device could not be searched."""

    code: int
    message: str


class PlaybackUrlAnswer(Answer, frozen=True):
    """E.2-4. ``timelineProblem`` says why segments and gaps are unknown, when they are.

    ``source`` says what is played: what this platform recorded itself, or what comes from the device's side;
    ``transcodedFrom`` is what that is when ``codec`` is made of it here, else null; of a download as MP4 the
    sound is all that is made. ``notice`` says what a download leaves out and why: sound that MP4 cannot hold.
    """

    session_id: str
    stream_id: str
    urls: list[wire.StreamUrl]
    codec: wire.WireCodec | None
    segments: list[Segment]
    gaps: list[WireGap]
    total_sec: float | None
    coverage: float | None
    complete: bool
    timeline_problem: TimelineProblem | None
    source: Literal["center", "device"]
    file_size: int | None
    expires_at: datetime
    watermark: wire.Watermark
    trace: wire.Trace
    transcoded_from: wire.WireCodec | None = None
    notice: str = ""


class PlaybackState(Answer, frozen=True):
    """E.2-5. ``position`` is reckoned by the clock between two controls."""

    state: str
    position: float
    position_time: datetime
    scale: float
    applied_at: datetime
    client_seq: int | None = None


class StopPlaybackAnswer(Answer, frozen=True):
    """E.2-3. ``signatureId`` stays empty: signing is not built."""

    closed: bool
    remaining_viewers: int
    duration_sec: float
    bytes: int
    downloaded_bytes: int | None
    signature_id: str = ""


def timeline_answer(timeline: Timeline) -> TimelineAnswer:
    """The answer to a search."""
    return TimelineAnswer(
        segments=_segments(timeline),
        gaps=_gaps(timeline),
        total_sec=timeline.total_s,
        coverage=round(timeline.coverage, 6),
        complete=timeline.is_complete,
    )


def playback_answer(opened: HistoryOpening) -> PlaybackUrlAnswer:
    """E.2-4's answer."""
    live = wire.live_url_answer(opened.opening)
    known, why = opened.timeline, opened.why_unknown
    download = opened.opening.view.download
    return PlaybackUrlAnswer(
        session_id=live.session_id,
        stream_id=live.stream_id,
        urls=live.urls,
        codec=live.codec,
        segments=[] if known is None else _segments(known),
        gaps=[] if known is None else _gaps(known),
        total_sec=None if known is None else known.total_s,
        coverage=None if known is None else round(known.coverage, 6),
        complete=known is not None and known.is_complete,
        timeline_problem=None if why is None else TimelineProblem(why.code, why.message),
        source="center" if opened.is_own else "device",
        file_size=opened.file_size,
        expires_at=live.expires_at,
        watermark=live.watermark,
        trace=live.trace,
        transcoded_from=live.transcoded_from,
        notice="" if download is None else download.words,
    )


def state_answer(state: PlayState, applied_at: datetime, client_seq: int | None) -> PlaybackState:
    """E.2-5's answer."""
    at = state.at.astimezone(BEIJING)
    return PlaybackState(state.state, state.position_s, at, state.scale, applied_at, client_seq)


def stop_answer(closing: Closing) -> StopPlaybackAnswer:
    """E.2-3's answer."""
    return StopPlaybackAnswer(
        closed=closing.closed,
        remaining_viewers=closing.remaining_viewers,
        duration_sec=closing.duration_s,
        bytes=closing.bytes_sent,
        downloaded_bytes=closing.bytes_sent if closing.is_download else None,
    )


def _segments(timeline: Timeline) -> list[Segment]:
    return [_segment(file) for file in timeline.files]


def _segment(file: RecordFile) -> Segment:
    kind = "" if file.kind is RecordType.ALL else file.kind.value
    start, end = file.start.astimezone(BEIJING), file.end.astimezone(BEIJING)
    source: Literal["center", "device"] = "device" if file.location == file.device_id else "center"
    return Segment(start, end, file.file_size, file.location, kind, source)


def _gaps(timeline: Timeline) -> list[WireGap]:
    return [WireGap(gap.start.astimezone(BEIJING), gap.end.astimezone(BEIJING)) for gap in timeline.gaps]


def _window(start: str, end: str, kind: str) -> Window:
    return Window(_moment(start, "startTime"), _moment(end, "endTime"), RecordType(kind))


def _moment(text: str, name: str) -> datetime:
    try:
        return parse_time(text)
    except RemoteViolation as violation:
        raise InvalidRequest("时间无法识别", code=40003, field=name) from violation
