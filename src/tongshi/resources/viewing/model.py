"""What viewing is made of: streams, sessions, their timeline and why they end.

Implements: DB31DSJ/Z 001-2024 Table E.2
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum, StrEnum

from tongshi.errors import TongshiError
from tongshi.ids import DeviceId
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.sharing.permissions import Permission


class Transport(StrEnum):
    """Who opens what for media, seen from us, the receiver. ``auto`` leaves it to the peer's profile."""

    UDP = "udp"
    TCP_PASSIVE = "tcp-passive"
    TCP_ACTIVE = "tcp-active"
    AUTO = "auto"


class StreamType(IntEnum):
    """Stream number of GB/T 28181-2022 ``a=streamnumber``."""

    MAIN = 0
    SUB = 1
    THIRD = 2


class Delivery(StrEnum):
    """How a viewer is served; the value is the protocol's name in the REST face."""

    HTTP_FLV = "http-flv"
    WS_FLV = "ws-flv"
    HTTP_FMP4 = "http-fmp4"
    WS_FMP4 = "fmp4-ws"
    HLS = "hls"
    LL_HLS = "ll-hls"  # the same playlist: who does not know its parts passes over them
    WEBRTC = "webrtc"  # by WHEP
    RTSP = "rtsp"
    HTTP_PS = "http-ps"  # GB/T 28181-2022 C.1: every codec as the camera sent it

    @property
    def sounds(self) -> tuple[str, ...]:
        """The codecs of sound that it can carry; G.711 has no place in MP4, and AAC none in WebRTC."""
        if self is Delivery.WEBRTC:
            return ("g711a", "g711u")
        if self is Delivery.HTTP_PS:
            return ("aac", "g711a", "g711u", "g722.1")
        has_g711 = self in (Delivery.HTTP_FLV, Delivery.WS_FLV, Delivery.RTSP)
        return ("aac", "g711a", "g711u") if has_g711 else ("aac",)

    def url(self, base: str, stream_id: str, ticket: str) -> str:
        """Where the viewer connects; ``base`` is the listener's URL, rtsp or http, without a final slash."""
        if self is Delivery.RTSP:
            return f"{base}/live/{stream_id}?ticket={ticket}"
        if self in (Delivery.HLS, Delivery.LL_HLS):
            return f"{base}/live/{stream_id}/index.m3u8?ticket={ticket}"
        if self is Delivery.WEBRTC:
            return f"{base}/whep/{stream_id}?ticket={ticket}"
        suffix = "flv" if self in (Delivery.HTTP_FLV, Delivery.WS_FLV) else "mp4"
        suffix = "ps" if self is Delivery.HTTP_PS else suffix
        if self in (Delivery.WS_FLV, Delivery.WS_FMP4):
            base = f"ws{base.removeprefix('http')}"
        return f"{base}/live/{stream_id}.{suffix}?ticket={ticket}"


# How sound comes without its picture.
SOUND_DELIVERIES = (Delivery.HTTP_FLV, Delivery.WS_FLV, Delivery.HTTP_FMP4, Delivery.WS_FMP4)


class FileFormat(StrEnum):
    """What a download is; the value is the file's suffix."""

    MP4 = "mp4"
    PS = "ps"

    @property
    def container(self) -> str:
        """The engine's name for it."""
        return "fmp4" if self is FileFormat.MP4 else "ps"

    @property
    def delivery(self) -> Delivery:
        """What carries the same."""
        return Delivery.HTTP_FMP4 if self is FileFormat.MP4 else Delivery.HTTP_PS


class Step(StrEnum):
    """The steps of one picture, in their order."""

    REQUESTED = "requested"
    AUTHORISED = "authorised"
    INVITED = "invited"
    ANSWERED = "answered"
    FIRST_PACKET = "firstPacket"
    FIRST_KEY_FRAME = "firstKeyFrame"
    OPENED = "opened"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a session or a stream is over."""

    CLOSED = "closed"  # asked for by the viewer
    VIEWER_LEFT = "viewerLeft"
    EXPIRED = "expired"
    DEVICE_ENDED = "deviceEnded"  # BYE or a closed media connection
    DEVICE_OFFLINE = "deviceOffline"
    MEDIA_LOST = "mediaLost"
    NODE_LOST = "nodeLost"
    REVOKED = "revoked"
    FAILED = "failed"
    SHUTDOWN = "shutdown"
    TRANSCODE_FAILED = "transcodeFailed"
    FINISHED = "finished"  # a recording came to its end


REASON_TEXT: dict[EndReason, str] = {
    EndReason.CLOSED: "已主动关闭",
    EndReason.VIEWER_LEFT: "观看端已离开",
    EndReason.EXPIRED: "地址已过期",
    EndReason.DEVICE_ENDED: "设备中止了视频",
    EndReason.DEVICE_OFFLINE: "设备已离线",
    EndReason.MEDIA_LOST: "视频流中断",
    EndReason.NODE_LOST: "承载视频的媒体节点失联，重新打开即由其他节点承载",
    EndReason.REVOKED: "授权已收回",
    EndReason.FAILED: "打开失败",
    EndReason.SHUTDOWN: "平台停止服务",
    EndReason.TRANSCODE_FAILED: "转码进程异常退出，画面已中止",
    EndReason.FINISHED: "录像已播放到末尾",
}


@dataclass(frozen=True, slots=True)
class History:
    """What of a recording is wanted, and for whom alone.

    ``owner`` makes the stream one viewer's: two who look at the same recording each have their own position
    and speed. ``download_speed`` None plays it back. ``location`` AUTO takes what this platform recorded
    itself when that is whole, and asks the device otherwise.
    """

    window: Window
    owner: str
    download_speed: int | None = None
    location: RecordLocation = RecordLocation.AUTO

    @property
    def is_download(self) -> bool:
        return self.download_speed is not None


SILENT = "none"  # the sound of a ``Transcoding`` that has none


@dataclass(frozen=True, slots=True)
class Transcoding:
    """What a stream is coded into for who cannot play what the device sends; "" leaves a track as it is.

    The sound of ``SILENT`` is left out. The numbers are the most of the picture; 0 was not said. Nothing is
    made larger or faster than it was.
    """

    video: str = ""
    audio: str = ""
    width: int = 0
    height: int = 0
    fps: int = 0
    bitrate_kbps: int = 0

    def needed_for(self, source: Codec) -> Transcoding | None:
        """What of it a stream does not have already; None when it can be shown as it is.

        Sound that has not come yet may still come: beside a picture that is coded anew it is coded too, and
        who wants none never gets the stream that it may come in.
        """
        is_too_large = 0 < self.width < source.width or 0 < self.height < source.height
        # What a device's rates are is known only later, so that a most of them is always kept by coding.
        is_bound = is_too_large or bool(self.fps or self.bitrate_kbps)
        video = self.video if source.video != self.video or is_bound else ""
        is_asked = source.audio != self.audio and bool(source.audio or video)
        audio = self.audio if is_asked or self.audio == SILENT else ""
        return replace(self, video=video, audio=audio) if video or audio else None

    def must_know_sound_of(self, source: Codec) -> bool:
        """Whether it is worth a wait for sound: it decides if anything is coded, or passes as it is."""
        needed = self.needed_for(source)
        return self.audio != SILENT and not source.audio and (needed is None) == bool(self.audio)

    @property
    def asked_by(self) -> str:
        """The field of a request that it comes from."""
        return "audio" if self.audio == SILENT and not self.video else "transcode"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """One live source is opened once, whoever watches (GB/T 28181-2022 Annex L)."""

    device_id: DeviceId
    stream_type: StreamType
    history: History | None = None
    transcoding: Transcoding | None = None

    @property
    def permission(self) -> Permission:
        """What somebody must hold to see it."""
        if self.history is None:
            return Permission.VIDEO_LIVE
        return Permission.VIDEO_DOWNLOAD if self.history.is_download else Permission.VIDEO_PLAYBACK


@dataclass(frozen=True, slots=True)
class Codec:
    """What the engine found in the stream; empty names and zeros are unknown."""

    video: str = ""
    audio: str = ""
    width: int = 0
    height: int = 0
    audio_rate_hz: int = 0


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a stream arrives, over about the last ``window_s`` seconds; None is not known.

    ``delay_ms`` is how much later than at best pictures come, ``report_delay_ms`` the newest one's age by the
    sender's wall clock and ours.
    """

    window_s: float
    bitrate_kbps: float | None
    frame_rate: float | None
    loss_rate: float | None
    jitter_ms: float
    delay_ms: float | None
    report_delay_ms: float | None
    key_interval_ms: float | None
    lost_packets: int
    kernel_drops: int


@dataclass(frozen=True, slots=True)
class Coding:
    """How a stream stands that is coded anew: pictures in and out, and what was left out between.

    ``skipped`` were left out because the coder was behind (sound too), ``thinned`` because fewer a second
    were asked for, ``undecoded`` because nothing could be made of them. ``speed`` is what it could do by what
    it must, 1 being just enough; None while it has not told. ``queued_bytes`` wait for it.
    """

    taken: int = 0
    made: int = 0
    skipped: int = 0
    thinned: int = 0
    undecoded: int = 0
    speed: float | None = None
    queued_bytes: int = 0

    @property
    def trouble(self) -> str:
        """What a viewer must know, "" while it keeps up."""
        pace = "" if self.speed is None else f"（{self.speed:.2f} 倍速）"
        if self.skipped:
            return f"转码跟不上{pace}，已跳过 {self.skipped} 帧，请改看子码流或降低画面尺寸"
        if self.speed is not None and self.speed < 1 and self.queued_bytes:
            return f"转码慢于实时{pace}，画面在推迟"
        return ""


@dataclass(frozen=True, slots=True)
class Mark:
    """One reached step, milliseconds after the session was requested."""

    step: Step
    at_ms: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no picture came: number, words for a person, and the step that was being waited for."""

    code: int
    message: str
    step: Step
    details: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, error: TongshiError, step: Step) -> Failure:
        return cls(error.code, error.message, step, dict(error.details))


@dataclass(frozen=True, slots=True)
class SoundOfFile:
    """What became of the sound of a download that its file cannot hold as it is.

    ``coded_from`` is the codec that AAC is made of, "" for none; ``why`` is why there is none, or none after
    ``until_s`` seconds of it.
    """

    coded_from: str = ""
    rate_hz: int = 0
    why: str = ""
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """How a download stands: ``receiving``, ``complete`` or ``failed``; packets lost on the way are holes.

    ``left_out`` is the codec of sound that the file cannot hold, "" when there is none.
    """

    state: str
    bytes: int
    media_s: float
    lost_packets: int
    left_out: str = ""
    sound: SoundOfFile = SoundOfFile()

    @property
    def words(self) -> str:
        """What who fetches it must know, "" when nothing is missing."""
        why = f"，{self.sound.why}" if self.sound.why else ""
        way_out = "需要声音请以 format 为 ps 下载"
        if self.left_out:
            return f"录像的声音编码为 {self.left_out}，MP4 不能承载{why}，文件中没有声音；{way_out}"
        if self.sound.until_s is not None:
            source, until_s = self.sound.coded_from, self.sound.until_s
            return f"录像的声音由 {source} 转码为 AAC{why}，文件中只有前 {until_s:.1f} 秒的声音；{way_out}"
        return ""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as it is told to people: everything but its ticket."""

    session_id: str
    stream_id: str
    trace_id: str
    device_id: DeviceId
    stream_type: StreamType
    subject: str
    client_host: str
    purpose: str
    requested_at: datetime
    opens_until: datetime
    reused: bool
    marks: tuple[Mark, ...]
    codec: Codec | None
    failure: Failure | None
    end_reason: EndReason | None
    bytes_sent: int
    duration_s: float
    history: History | None = None
    download: Download | None = None
    quality: Quality | None = None
    transcoded_from: Codec | None = None
    coding: Coding | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What the person who asked gets: where to connect, and how the picture was reached."""

    view: SessionView
    urls: tuple[tuple[Delivery, str], ...]


@dataclass(frozen=True, slots=True)
class Closing:
    """The answer to a close; a second close says ``closed`` False."""

    closed: bool
    remaining_viewers: int
    duration_s: float
    bytes_sent: int
    is_download: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Waits of one opening and the life of what was opened, in seconds.

    The three waits end in three different errors: 50401, 50402, 50403.
    """

    answer_s: float = 10.0
    first_packet_s: float = 5.0
    first_key_frame_s: float = 5.0
    media_lost_s: float = 15.0  # GB/T 28181-2022 Annex K: detected by every platform on the path
    linger_s: float = 10.0  # a stream without holders stays warm this long
    asking_s: float = (
        12.0  # who watches by asking again and again (HLS) is gone after three segments' silence
    )
    sweep_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of everything viewing keeps."""

    max_streams: int = 4096
    max_sessions: int = 20_000
    max_holders_of_stream: int = 5_000
    kept_sessions: int = 2_000  # ended ones, for the timeline
