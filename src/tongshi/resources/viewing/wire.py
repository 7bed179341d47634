"""Viewing on the wire: the fields of rows E.2-1, E.2-2 and E.2-6 and of the session timeline.

Implements: DB31DSJ/Z 001-2024 Table E.2
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from tongshi.errors import Unprocessable
from tongshi.ids import device_id
from tongshi.protocols.gb28181.control_parts import DragBox, PreciseView
from tongshi.resources.viewing.model import (
    REASON_TEXT,
    SILENT,
    Closing,
    Codec,
    Delivery,
    Download,
    Opening,
    SessionView,
    Step,
    StreamType,
    Transcoding,
    Transport,
)
from tongshi.resources.viewing.ports import ControlReply
from tongshi.resources.viewing.ptz import DEFAULT_AUTO_STOP_MS, MAX_AUTO_STOP_MS, Command, Turn
from tongshi.resources.viewing.quality_wire import WireCoding, WireQuality, wire_coding, wire_quality
from tongshi.resources.viewing.sessions import Wish
from tongshi.resources.viewing.streams import SharedStream
from tongshi.web.operations import Answer, Request

# Names that a caller may ask for; others of the annex are known and not built.
_DELIVERIES = {
    **{d.value: d for d in Delivery},
    "fmp4": Delivery.HTTP_FMP4,
    "ws-fmp4": Delivery.WS_FMP4,
}

_Text = Annotated[str, Meta(max_length=256)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Transcode(Request, frozen=True):
    """What the stream is to be coded into; ``none`` leaves a track as the device sends it.

    Beside a picture that is coded anew, sound that begins only later is coded as ``aac`` all the same.

    The numbers are the most of a picture that is ``h264``: the shape is kept, nothing is made larger or
    faster than it was. A stream that has the codec and the size already is not coded anew unless ``fps`` or
    ``bitrateKbps`` is said. What is wanted and cannot be had is refused, never silently ignored.
    """

    video: Literal["none", "h264", "h265", "mjpeg"] = "none"
    audio: Literal["none", "aac", "g711a", "opus"] = "none"
    width: Annotated[int, Meta(ge=160, le=1_920)] | None = None
    height: Annotated[int, Meta(ge=90, le=1_080)] | None = None
    fps: Annotated[int, Meta(ge=1, le=30)] | None = None
    bitrate_kbps: Annotated[int, Meta(ge=64, le=8_000)] | None = None

    def wanted(self, *, is_silent: bool = False) -> Transcoding | None:
        """What is asked for, understood. Raises Unprocessable: a codec that we do not make (42203)."""
        if is_silent and self.audio != "none":
            message = "audio 为 false 时没有声音可转码，请去掉 transcode.audio，或将 audio 设为 true"
            details: dict[str, object] = {"supported": [True]}
            raise Unprocessable(message, code=42203, field="audio", details=details)
        if self.video not in ("none", "h264"):
            raise unsupported("transcode.video", ["none", "h264"])
        if self.audio not in ("none", "aac"):
            raise unsupported("transcode.audio", ["none", "aac"])
        numbers = {
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "bitrateKbps": self.bitrate_kbps,
        }
        said = [name for name, number in numbers.items() if number is not None]
        if said and self.video == "none":
            message = "画面尺寸、帧率和码率只在 transcode.video 为 h264 时可以指定"
            details = {"supported": ["h264"]}
            raise Unprocessable(message, code=42203, field=f"transcode.{said[0]}", details=details)
        if (self.video, self.audio, is_silent) == ("none", "none", False):
            return None
        return Transcoding(
            self.video.replace("none", ""),
            SILENT if is_silent else self.audio.replace("none", ""),
            *(number or 0 for number in numbers.values()),
        )


class WireViewer(Request, frozen=True):
    """For whom a service asks; a person's own call needs none of it."""

    user_id: _Text = ""
    org_code: _Text = ""
    client_ip: Annotated[str, Meta(max_length=45)] = ""
    terminal_id: _Text = ""


class LiveUrlRequest(Request, frozen=True):
    """E.2-2. ``protocol`` is an ordered preference; ``expireSec`` is the time to open the address.

    ``audio`` false is a picture whose stream has no sound in it, whatever the device sends; true, which is
    usual, leaves it in, and ``urls[].audio`` of the answer says what of it comes.
    """

    device_id: Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")] = field(name="DeviceID")
    stream_type: Literal[0, 1, 2] = 0
    protocol: Annotated[list[Annotated[str, Meta(max_length=32)]], Meta(min_length=1, max_length=16)] = field(
        default_factory=lambda: [Delivery.HTTP_FLV.value]
    )
    transport: Literal["udp", "tcp-passive", "tcp-active", "auto"] = "auto"
    transcode: Transcode = Transcode()
    audio: bool = True
    expire_sec: Annotated[int, Meta(ge=10, le=86_400)] = 300
    max_session_sec: Annotated[int, Meta(ge=10, le=86_400)] | None = None
    purpose: _Text = ""
    apply_no: Annotated[str, Meta(max_length=64)] = ""
    viewer: WireViewer = WireViewer()
    watermark: Literal["auto", "visible", "invisible", "both"] = "auto"

    def wish(self) -> Wish:
        """What is asked, understood.

        Raises:
            Unprocessable: an option we do not have (42203, details ``supported``).
        """
        wanted = deliveries(self.protocol)
        if self.watermark != "auto":
            raise unsupported("watermark", ["auto"])
        return Wish(
            device_id=device_id(self.device_id),
            stream_type=StreamType(self.stream_type),
            deliveries=wanted,
            transport=Transport(self.transport),
            expire_s=self.expire_sec,
            max_session_s=self.max_session_sec,
            purpose=self.purpose,
            transcoding=self.transcode.wanted(is_silent=not self.audio),
        )


class StopRequest(Request, frozen=True):
    """E.2-1: one of the two."""

    session_id: _Id | None = None
    stream_id: _Id | None = None
    reason: _Text = ""


class PtzRequest(Request, frozen=True):
    """E.2-6. ``presetIndex`` also numbers cruises, scans and switches.

    ``group`` and ``value`` build cruises and scans; ``box`` is of drag zoom, ``absolute`` of the precise
    view, ``homeResetSec`` of the home position. With ``lockId`` it is refused once that lock is lost.
    """

    device_id: Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")] = field(name="DeviceID")
    command: str
    action: Literal["start", "stop"] = "start"
    speed: Annotated[int, Meta(ge=1, le=100)] = 50
    preset_index: Annotated[int, Meta(ge=0, le=255)] | None = None
    preset_name: Annotated[str, Meta(max_length=64)] = ""
    auto_stop_ms: Annotated[int, Meta(ge=100, le=MAX_AUTO_STOP_MS)] = DEFAULT_AUTO_STOP_MS
    group: Annotated[int, Meta(ge=0, le=255)] | None = None
    value: Annotated[int, Meta(ge=0, le=4095)] | None = None
    box: DragBox | None = None
    absolute: PreciseView | None = None
    home_reset_sec: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    lock_id: Annotated[str, Meta(max_length=64)] = ""

    def turn(self) -> Turn:
        """The command, understood. Raises Unprocessable for one we do not have (42203)."""
        if self.command not in tuple(Command):
            raise unsupported("command", [c.value for c in Command])
        return Turn(
            device_id(self.device_id),
            Command(self.command),
            is_start=self.action == "start",
            speed=self.speed,
            index=self.preset_index,
            preset_name=self.preset_name,
            auto_stop_ms=self.auto_stop_ms,
            group=self.group,
            value=self.value,
            box=self.box,
            view=self.absolute,
            reset_s=self.home_reset_sec,
            lock_id=self.lock_id,
        )


class StreamUrl(Answer, frozen=True):
    """One way to the picture; all ways of a session share one ticket.

    ``audio`` is the sound that comes this way: "" when the stream has some that it cannot carry, null while
    none was heard.
    """

    protocol: str
    url: str
    expires_at: datetime
    audio: str | None = None


class WireCodec(Answer, frozen=True):
    """What the stream carries. A browser without H.265 must look here before it plays."""

    video: str
    width: int
    height: int
    audio: str
    fps: float | None = None


class Trace(Answer, frozen=True):
    """Milliseconds from the request to each step; null when another viewer's opening took it."""

    auth_ms: float | None = None
    invite_ms: float | None = None
    answer_ms: float | None = None
    first_rtp_ms: float | None = None
    first_idr_ms: float | None = None


class Watermark(Answer, frozen=True):
    """Not built yet, and said so."""

    visible: bool = False
    invisible: bool = False
    token: str = ""


class LiveUrlAnswer(Answer, frozen=True):
    """E.2-2. ``transcodedFrom`` is what the device sends when ``codec`` is made of it here, else null."""

    session_id: str
    stream_id: str
    urls: list[StreamUrl]
    codec: WireCodec | None
    reused: bool
    watermark: Watermark
    expires_at: datetime
    trace: Trace
    trace_id: str
    transcoded_from: WireCodec | None = None


class StopAnswer(Answer, frozen=True):
    """E.2-1."""

    closed: bool
    remaining_viewers: int
    duration_sec: float
    bytes: int


class PtzAnswer(Answer, frozen=True):
    """E.2-6. ``controlDelayMs`` runs from our request to the SIP answer.

    ``accepted`` is false when the device itself answers that it could not do it.
    """

    accepted: bool
    control_delay_ms: float
    device_reply: int
    holder: str | None = None


class TimelineStep(Answer, frozen=True):
    """One reached step."""

    step: str
    at_ms: float


class WireFailure(Answer, frozen=True):
    """Why there was no picture, and which step was being waited for."""

    code: int
    message: str
    step: str
    details: dict[str, Any]


class WireDownload(Answer, frozen=True):
    """How a download stands. ``mediaSec`` of the recording have come; lost packets are holes in the file.

    ``notice`` says what else is missing in it and why: sound that MP4 cannot hold, or that broke off.
    """

    state: str
    bytes: int
    media_sec: float
    lost_packets: int
    notice: str = ""


class SessionAnswer(Answer, frozen=True):
    """The timeline of one session."""

    session_id: str
    stream_id: str
    device_id: str = field(name="DeviceID")
    stream_type: int
    viewer: str
    client_ip: str
    purpose: str
    requested_at: datetime
    reused: bool
    steps: list[TimelineStep]
    codec: WireCodec | None
    failure: WireFailure | None
    end_reason: str | None
    end_text: str
    trace_id: str
    bytes: int
    duration_sec: float
    download: WireDownload | None = None
    quality: WireQuality | None = None
    transcoded_from: WireCodec | None = None
    coding: WireCoding | None = None


class SessionList(Answer, frozen=True):
    """The latest sessions, newest first."""

    rows: list[SessionAnswer] = msgspec.field(name="list")


def live_url_answer(opening: Opening) -> LiveUrlAnswer:
    """E.2-2's answer."""
    view = opening.view
    urls = [StreamUrl(d.value, url, view.opens_until, _sound(view.codec, d)) for d, url in opening.urls]
    at = {mark.step: mark.at_ms for mark in view.marks}
    return LiveUrlAnswer(
        session_id=view.session_id,
        stream_id=view.stream_id,
        urls=urls,
        codec=wire_codec(view.codec),
        reused=view.reused,
        watermark=Watermark(),
        expires_at=view.opens_until,
        trace=Trace(
            at.get(Step.AUTHORISED),
            at.get(Step.INVITED),
            at.get(Step.ANSWERED),
            at.get(Step.FIRST_PACKET),
            at.get(Step.FIRST_KEY_FRAME),
        ),
        trace_id=view.trace_id,
        transcoded_from=wire_codec(view.transcoded_from),
    )


def stop_answer(closing: Closing) -> StopAnswer:
    """E.2-1's answer."""
    return StopAnswer(closing.closed, closing.remaining_viewers, closing.duration_s, closing.bytes_sent)


def ptz_answer(reply: ControlReply) -> PtzAnswer:
    """E.2-6's answer."""
    accepted = reply.is_done is not False
    return PtzAnswer(accepted, control_delay_ms=reply.delay_ms, device_reply=reply.sip_status)


def session_answer(view: SessionView) -> SessionAnswer:
    """A session's timeline."""
    failure = view.failure
    return SessionAnswer(
        session_id=view.session_id,
        stream_id=view.stream_id,
        device_id=view.device_id,
        stream_type=int(view.stream_type),
        viewer=view.subject,
        client_ip=view.client_host,
        purpose=view.purpose,
        requested_at=view.requested_at,
        reused=view.reused,
        steps=[TimelineStep(mark.step.value, mark.at_ms) for mark in view.marks],
        codec=wire_codec(view.codec),
        failure=None
        if failure is None
        else WireFailure(failure.code, failure.message, failure.step.value, failure.details),
        end_reason=None if view.end_reason is None else view.end_reason.value,
        end_text="" if view.end_reason is None else REASON_TEXT[view.end_reason],
        trace_id=view.trace_id,
        bytes=view.bytes_sent,
        duration_sec=view.duration_s,
        download=_download(view.download),
        quality=wire_quality(view.quality),
        transcoded_from=wire_codec(view.transcoded_from),
        coding=wire_coding(view.coding),
    )


def _download(download: Download | None) -> WireDownload | None:
    if download is None:
        return None
    known = (download.state, download.bytes, download.media_s, download.lost_packets)
    return WireDownload(*known, notice=download.words)


def _sound(codec: Codec | None, delivery: Delivery) -> str | None:
    if codec is None or not codec.audio:
        return None
    return codec.audio if codec.audio in delivery.sounds else ""


def wire_codec(codec: Codec | None) -> WireCodec | None:
    """What a stream carries, as it is told."""
    return None if codec is None else WireCodec(codec.video, codec.width, codec.height, codec.audio)


def deliveries(names: Sequence[str]) -> tuple[Delivery, ...]:
    """The ways we have among those asked for, in their order. Raises Unprocessable when there is none."""
    wanted = tuple(dict.fromkeys(_DELIVERIES[name] for name in names if name in _DELIVERIES))
    if not wanted:
        raise unsupported("protocol", [delivery.value for delivery in Delivery])
    return wanted


def unsupported(name: str, supported: list[str]) -> Unprocessable:
    """An option we know of and do not have."""
    return Unprocessable(f"不支持所选的 {name}", code=42203, field=name, details={"supported": supported})


class StreamLine(Answer, frozen=True):
    """One source open or opening inside the engine. ``step`` is the step it waits for, or its last."""

    stream_id: str
    device_id: str
    step: str
    peer_id: str
    holders: int
    age_sec: float
    codec: WireCodec | None


class StreamList(Answer, frozen=True):
    """Every source now."""

    rows: list[StreamLine] = field(name="list")


def stream_list(streams: Sequence[SharedStream], now: float) -> StreamList:
    """Sources as an engineer reads them."""
    return StreamList(
        [
            StreamLine(
                stream_id=stream.stream_id,
                device_id=stream.key.device_id,
                step=stream.step.value,
                peer_id=stream.route.peer_id if stream.route else "",
                holders=len(stream.holders),
                age_sec=round(now - stream.reached[Step.REQUESTED], 3),
                codec=wire_codec(stream.codec),
            )
            for stream in streams
        ]
    )
