"""What can be configured in a device: twelve elements, the same in DeviceConfig and in ConfigDownload.

Implements: GB/T 28181-2022 A.2.1.10
Implements: GB/T 28181-2022 A.2.3.2
VideoParamOpt can be read and has no command (dossier 9.13). The picture that PictureMask is drawn on is the
main stream's, its origin the upper left corner (24 no. 15).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from tongshi.protocols.gb28181.shape import Part
from tongshi.protocols.gb28181.version import Edition

MAX_PIXELS: Final = 65_535

Flag = bool  # 0 or 1 on the wire
Seconds = Annotated[int, Meta(ge=0, le=31_536_000)]
Pixels = Annotated[int, Meta(ge=0, le=MAX_PIXELS)]
StreamNumber = Annotated[int, Meta(ge=0, le=99)]
SessionId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{32,128}\Z")]
SvcMode = Annotated[int, Meta(ge=0, le=3)]


class BasicParam(Part, frozen=True, kw_only=True):
    """Name and rhythms; seconds."""

    name: Annotated[str, Meta(max_length=255)] | None = None
    expiration: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None
    heart_beat_interval: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    heart_beat_count: Annotated[int, Meta(ge=1, le=1_000)] | None = None


class VideoParamOpt(Part, frozen=True, kw_only=True):
    """What the device can do; read only. Resolutions are codes of the f= line."""

    NAMES: ClassVar[dict[str, str]] = {"download_speeds": "DownloadSpeed", "resolutions": "Resolution"}

    download_speeds: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()


class Region(Part, frozen=True, kw_only=True):
    """A region of interest in blocks of 32 x 32 in raster order; quality 0 normal to 3 very good."""

    NAMES: ClassVar[dict[str, str]] = {"number": "ROISeq", "quality": "ROIQP"}

    number: Annotated[int, Meta(ge=1, le=16)]
    top_left: Annotated[int, Meta(ge=0, le=1_000_000)]
    bottom_right: Annotated[int, Meta(ge=0, le=1_000_000)]
    quality: Annotated[int, Meta(ge=0, le=3)]


class RegionParam(Part, frozen=True, kw_only=True):
    """Regions of interest."""

    NAMES: ClassVar[dict[str, str]] = {"is_on": "ROIFlag", "count": "ROINumber"}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"regions": ("", "Item")}

    is_on: Flag
    count: Annotated[int, Meta(ge=0, le=16)]
    regions: Annotated[tuple[Region, ...], Meta(max_length=16)] = ()


class EncodeScalability(Part, frozen=True, kw_only=True):
    """SVC layers of the encoder; the ``support`` fields are told in an answer only."""

    NAMES: ClassVar[dict[str, str]] = {
        "space_domain_mode": "SVCSpaceDomainMode",
        "time_domain_mode": "SVCTimeDomainMode",
        "ratio": "SSVCRatioValue",
        "space_support_mode": "SVCSpaceSupportMode",
        "time_support_mode": "SVCTimeSupportMode",
        "ratios_supported": "SSVCRatioSupportList",
    }

    space_domain_mode: SvcMode
    time_domain_mode: SvcMode
    ratio: Annotated[str, Meta(pattern=r"^[0-9]{1,2}:[0-9]{1,2}\Z")] | None = None
    space_support_mode: SvcMode | None = None
    time_support_mode: SvcMode | None = None
    ratios_supported: tuple[str, ...] = ()


class EncodeSurveillance(Part, frozen=True, kw_only=True):
    """Extensions inside the encoded stream; told in an answer only."""

    NAMES: ClassVar[dict[str, str]] = {"osd_flag": "OSDFlag", "ai_flag": "AIFlag", "gis_flag": "GISFlag"}

    time_flag: Flag | None = None
    osd_flag: Flag | None = None
    ai_flag: Flag | None = None
    gis_flag: Flag | None = None


class AudioRecognition(Part, frozen=True, kw_only=True):
    """Whether sound features are encoded."""

    audio_recognition_flag: Flag


class SvacEncodeConfig(Part, frozen=True, kw_only=True):
    """SVAC encoding."""

    NAMES: ClassVar[dict[str, str]] = {"roi_param": "ROIParam", "svc_param": "SVCParam"}

    roi_param: RegionParam | None = None
    svc_param: EncodeScalability | None = None
    surveillance_param: EncodeSurveillance | None = None
    audio_param: AudioRecognition | None = None


class DecodeScalability(Part, frozen=True, kw_only=True):
    """Layers that are decoded: 0 the base alone, 1 to 3 that many enhancements."""

    NAMES: ClassVar[dict[str, str]] = {
        "mode": "SVCSTMMode",
        "space_support_mode": "SVCSpaceSupportMode",
        "time_support_mode": "SVCTimeSupportMode",
    }

    mode: SvcMode | None = None
    space_support_mode: SvcMode | None = None
    time_support_mode: SvcMode | None = None


class DecodeSurveillance(Part, frozen=True, kw_only=True):
    """What the decoder shows."""

    NAMES: ClassVar[dict[str, str]] = {
        "osd_show_flag": "OSDShowFlag",
        "ai_show_flag": "AIShowFlag",
        "gis_show_flag": "GISShowFlag",
    }

    time_show_flag: Flag | None = None
    osd_show_flag: Flag | None = None
    ai_show_flag: Flag | None = None
    gis_show_flag: Flag | None = None


class SvacDecodeConfig(Part, frozen=True, kw_only=True):
    """SVAC decoding."""

    NAMES: ClassVar[dict[str, str]] = {"svc_param": "SVCParam"}

    svc_param: DecodeScalability | None = None
    surveillance_param: DecodeSurveillance | None = None


class VideoStream(Part, frozen=True, kw_only=True):
    """One stream in codes of the f= line: format 1-5, resolution 1-6 or WxH, rate type 1 or 2."""

    stream_number: StreamNumber
    video_format: Annotated[str, Meta(pattern=r"^[1-5]\Z")]
    resolution: Annotated[str, Meta(pattern=r"^([1-6]|[1-9][0-9]{1,4}[xX*][1-9][0-9]{1,4})\Z")]
    frame_rate: Annotated[str, Meta(pattern=r"^[0-9]{1,2}\Z")]
    bit_rate_type: Literal["1", "2"]
    video_bit_rate: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,6}\Z")] | None = None

    def __post_init__(self) -> None:
        if self.bit_rate_type == "1" and self.video_bit_rate is None:
            raise ValueError("a constant bit rate needs VideoBitRate")


class TimeSegment(Part, frozen=True, kw_only=True):
    """From and to within one day."""

    start_hour: Annotated[int, Meta(ge=0, le=23)]
    start_min: Annotated[int, Meta(ge=0, le=59)]
    start_sec: Annotated[int, Meta(ge=0, le=59)]
    stop_hour: Annotated[int, Meta(ge=0, le=23)]
    stop_min: Annotated[int, Meta(ge=0, le=59)]
    stop_sec: Annotated[int, Meta(ge=0, le=59)]


class DaySchedule(Part, frozen=True, kw_only=True):
    """One day's segments, Monday 1 to Sunday 7."""

    NAMES: ClassVar[dict[str, str]] = {"week_day": "WeekDayNum", "segment_count": "TimeSegmentSumNum"}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"segments": ("", "TimeSegment")}

    week_day: Annotated[int, Meta(ge=1, le=7)]
    segment_count: Annotated[int, Meta(ge=0, le=8)]
    segments: Annotated[tuple[TimeSegment, ...], Meta(max_length=8)] = ()


class VideoRecordPlan(Part, frozen=True, kw_only=True):
    """When the device records; a day without a plan may be absent."""

    NAMES: ClassVar[dict[str, str]] = {"is_on": "RecordEnable", "day_count": "RecordScheduleSumNum"}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"days": ("", "RecordSchedule")}

    is_on: Flag
    day_count: Annotated[int, Meta(ge=0, le=7)]
    days: Annotated[tuple[DaySchedule, ...], Meta(max_length=7)] = ()
    stream_number: StreamNumber


class VideoAlarmRecord(Part, frozen=True, kw_only=True):
    """Recording at an alarm: seconds after and before it."""

    NAMES: ClassVar[dict[str, str]] = {"is_on": "RecordEnable"}

    is_on: Flag
    record_time: Seconds | None = None
    pre_record_time: Seconds | None = None
    stream_number: StreamNumber


class MaskRegion(Part, frozen=True, kw_only=True):
    """One hidden rectangle: left, top, right, bottom in pixels."""

    NAMES: ClassVar[dict[str, str]] = {"number": "Seq"}

    number: Annotated[int, Meta(ge=1, le=4)]
    point: Annotated[str, Meta(pattern=r"^[0-9]{1,5}( ?, ?[0-9]{1,5}){3}\Z")]


class PictureMask(Part, frozen=True, kw_only=True):
    """Privacy masks."""

    NAMES: ClassVar[dict[str, str]] = {"is_on": "On", "count": "SumNum"}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"regions": ("RegionList", "Item")}

    is_on: Flag
    count: Annotated[int, Meta(ge=0, le=4)]
    regions: Annotated[tuple[MaskRegion, ...], Meta(max_length=4)] = ()


class AlarmReport(Part, frozen=True, kw_only=True):
    """Which events are reported."""

    motion_detection: Flag
    field_detection: Flag


class OsdText(Part, frozen=True, kw_only=True):
    """One line on the picture."""

    text: Annotated[str, Meta(min_length=1, max_length=32)]
    x: Pixels
    y: Pixels


class OsdConfig(Part, frozen=True, kw_only=True):
    """What is written on the picture; ``length`` and ``width`` are the window in which positions count."""

    NAMES: ClassVar[dict[str, str]] = {"time_x": "TimeX", "time_y": "TimeY", "count": "SumNum"}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"lines": ("", "Item")}

    length: Annotated[int, Meta(ge=1, le=MAX_PIXELS)]
    width: Annotated[int, Meta(ge=1, le=MAX_PIXELS)]
    time_x: Pixels
    time_y: Pixels
    time_enable: Flag = True
    time_type: Literal[0, 1] | None = None
    text_enable: Flag = True
    count: Annotated[int, Meta(ge=0, le=8)]
    lines: Annotated[tuple[OsdText, ...], Meta(max_length=8)] = ()


class SnapShotConfig(Part, frozen=True, kw_only=True):
    """Take pictures and upload them; the interval is in seconds and always told (24 no. 2)."""

    NAMES: ClassVar[dict[str, str]] = {
        "count": "SnapNum",
        "upload_url": "UploadURL",
        "session_id": "SessionID",
    }

    count: Annotated[int, Meta(ge=1, le=10)]
    interval: Annotated[int, Meta(ge=1, le=86_400)] = 1
    upload_url: Annotated[str, Meta(min_length=1, max_length=1024)]
    session_id: SessionId


class Configuration(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Any of the twelve; None is absent. ``frame_mirror`` is 0 none, 1 horizontal, 2 vertical, 3 both."""

    NAMES: ClassVar[dict[str, str]] = {
        "svac_encode_config": "SVACEncodeConfig",
        "svac_decode_config": "SVACDecodeConfig",
        "osd_config": "OSDConfig",
    }
    # A.2.6.9 prints SnapShot where the command says SnapShotConfig (24 no. 3).
    ALIASES: ClassVar[dict[str, tuple[str, ...]]] = {"snap_shot_config": ("snapshot",)}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"video_param_attribute": ("VideoParamAttribute", "Item")}

    basic_param: BasicParam | None = None
    video_param_opt: VideoParamOpt | None = None
    svac_encode_config: SvacEncodeConfig | None = None
    svac_decode_config: SvacDecodeConfig | None = None
    video_param_attribute: Annotated[tuple[VideoStream, ...], Meta(max_length=16)] = ()
    video_record_plan: VideoRecordPlan | None = None
    video_alarm_record: VideoAlarmRecord | None = None
    picture_mask: PictureMask | None = None
    frame_mirror: Literal[0, 1, 2, 3] | None = None
    alarm_report: AlarmReport | None = None
    osd_config: OsdConfig | None = None
    snap_shot_config: SnapShotConfig | None = None

    @property
    def present(self) -> tuple[str, ...]:
        """Attributes that are set."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name) not in (None, ()))


# ConfigType on the wire -> the attribute of `Configuration`, in the order of A.2.4.7.
CONFIG_TYPES: Final[dict[str, str]] = {
    "BasicParam": "basic_param",
    "VideoParamOpt": "video_param_opt",
    "SVACEncodeConfig": "svac_encode_config",
    "SVACDecodeConfig": "svac_decode_config",
    "VideoParamAttribute": "video_param_attribute",
    "VideoRecordPlan": "video_record_plan",
    "VideoAlarmRecord": "video_alarm_record",
    "PictureMask": "picture_mask",
    "FrameMirror": "frame_mirror",
    "AlarmReport": "alarm_report",
    "OSDConfig": "osd_config",
    "SnapShotConfig": "snap_shot_config",
}
READ_ONLY: Final = frozenset({"VideoParamOpt"})
_SINCE_2014: Final = frozenset({"BasicParam", "VideoParamOpt", "SVACEncodeConfig", "SVACDecodeConfig"})


def config_edition(config_type: str) -> Edition:
    """The first edition that has a configuration."""
    return Edition.GB2014 if config_type in _SINCE_2014 else Edition.GB2022


def types_of(settings: Configuration) -> tuple[str, ...]:
    """ConfigType names of what is set."""
    present = settings.present
    return tuple(name for name, attribute in CONFIG_TYPES.items() if attribute in present)


def only(settings: Configuration, config_type: str) -> Configuration:
    """One of the twelve alone."""
    attribute = CONFIG_TYPES[config_type]
    return Configuration(**{attribute: getattr(settings, attribute)})


def merged(first: Configuration, second: Configuration) -> Configuration:
    """Both; what the second says goes before the first."""
    return msgspec.structs.replace(first, **{name: getattr(second, name) for name in second.present})
