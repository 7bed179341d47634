"""Commands: root Control, CmdType DeviceControl with one command, or DeviceConfig with configurations.

Implements: GB/T 28181-2022 A.2.3.1.2
Implements: GB/T 28181-2022 A.2.3.1.3
Implements: GB/T 28181-2022 A.2.3.1.4
Implements: GB/T 28181-2022 A.2.3.1.5
Implements: GB/T 28181-2022 A.2.3.1.6
Implements: GB/T 28181-2022 A.2.3.1.7
Implements: GB/T 28181-2022 A.2.3.1.9
Implements: GB/T 28181-2022 A.2.3.1.11
Implements: GB/T 28181-2022 A.2.3.1.13
Not here: the eight bytes inside PTZCmd (front_end.py); the complex elements (control_parts, configuration).
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final, Self, TypeVar

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.alarm import join_methods, split_methods
from tongshi.protocols.gb28181.configuration import Configuration, config_edition, types_of
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition, PreciseView, UpgradeOrder
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.shape import Part, read_part, render_fields
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.version import Edition

MAX_PTZ_CHARS: Final = 64  # sixteen digits and the blanks that some write between them
MAX_NAME_CHARS: Final = 64
MAX_CARD: Final = 255


class ControlKind(Enum):
    """What a DeviceControl asks for; the value is its element."""

    FRONT_END = "PTZCmd"
    TELE_BOOT = "TeleBoot"
    RECORD = "RecordCmd"
    GUARD = "GuardCmd"
    ALARM_RESET = "AlarmCmd"
    KEY_FRAME = "IFrameCmd"
    DRAG_ZOOM_IN = "DragZoomIn"
    DRAG_ZOOM_OUT = "DragZoomOut"
    HOME_POSITION = "HomePosition"
    PRECISE_VIEW = "PTZPreciseCtrl"
    UPGRADE = "DeviceUpgrade"
    FORMAT_CARD = "FormatSDCard"
    TARGET_TRACK = "TargetTrack"


# 9.3.1 d) and e): these five get an application answer, the others the SIP answer alone.
ANSWERED: Final = frozenset(
    {
        ControlKind.RECORD,
        ControlKind.GUARD,
        ControlKind.ALARM_RESET,
        ControlKind.HOME_POSITION,
        ControlKind.UPGRADE,
    }
)
_SINCE_2014: Final = frozenset(
    {
        ControlKind.KEY_FRAME,
        ControlKind.DRAG_ZOOM_IN,
        ControlKind.DRAG_ZOOM_OUT,
        ControlKind.HOME_POSITION,
    }
)
_SINCE_2022: Final = frozenset(
    {
        ControlKind.PRECISE_VIEW,
        ControlKind.UPGRADE,
        ControlKind.FORMAT_CARD,
        ControlKind.TARGET_TRACK,
    }
)


class RecordCommand(Enum):
    """recordType (A.2.1.7)."""

    START = "Record"
    STOP = "StopRecord"


class GuardCommand(Enum):
    """guardType (A.2.1.8)."""

    SET = "SetGuard"
    RESET = "ResetGuard"


class TrackCommand(Enum):
    """How a dome follows a target; MANUAL needs the area of the panorama."""

    AUTO = "Auto"
    MANUAL = "Manual"
    STOP = "Stop"


class DeviceControl(BaseMessage, frozen=True):
    """One command to a device. A message with none of the attributes set holds a command that we do not know.

    ``ptz_cmd`` is the hex text of a front-end instruction, unchecked. ``iframe`` asks for a key frame at
    once. ``alarm_methods`` and ``alarm_type`` narrow ``reset_alarm``. ``format_card`` counts from 1, 0 is
    all. ``panorama_id`` and ``target_area`` belong to ``track``.
    """

    root: ClassVar[Root] = "Control"
    cmd_type: ClassVar[str] = "DeviceControl"

    ptz_cmd: str | None = None
    preset_name: str = ""
    tele_boot: bool = False
    record_cmd: RecordCommand | None = None
    stream_number: int | None = None
    guard_cmd: GuardCommand | None = None
    iframe: bool = False
    cruise_name: str = ""
    reset_alarm: bool = False
    alarm_methods: tuple[int, ...] = ()
    alarm_type: int | None = None
    drag_zoom_in: DragBox | None = None
    drag_zoom_out: DragBox | None = None
    home_position: HomePosition | None = None
    precise_view: PreciseView | None = None
    upgrade: UpgradeOrder | None = None
    format_card: int | None = None
    track: TrackCommand | None = None
    panorama_id: str = ""
    target_area: DragBox | None = None

    @property
    def kinds(self) -> tuple[ControlKind, ...]:
        """What is asked for; the standard has one command in a message."""
        set_ = ((kind, getattr(self, name)) for kind, name in _ATTRIBUTES.items())
        return tuple(kind for kind, value in set_ if value is not None and value is not False)

    @property
    def needs_response(self) -> bool:
        """Whether the device answers with a DeviceControlResponse (9.3.1)."""
        return not ANSWERED.isdisjoint(self.kinds)

    @property
    def edition(self) -> Edition:
        """The first edition whose peers know this command (Annex I)."""
        if not _SINCE_2022.isdisjoint(self.kinds):
            return Edition.GB2022
        return Edition.GB2011 if _SINCE_2014.isdisjoint(self.kinds) else Edition.GB2014

    def content(self, edition: Edition) -> str:
        is_2022 = edition >= Edition.GB2022
        return (
            xml.optional("PTZCmd", self.ptz_cmd)
            + (self._names() if is_2022 else "")
            + (xml.element("TeleBoot", "Boot") if self.tele_boot else "")
            + _word("RecordCmd", self.record_cmd)
            + (xml.optional("StreamNumber", self.stream_number) if is_2022 else "")
            + _word("GuardCmd", self.guard_cmd)
            + self._reset(edition)
            # Up to 2.0 the element was spelt IFameCmd (quirk 72).
            + (xml.element("IFrameCmd" if is_2022 else "IFameCmd", "Send") if self.iframe else "")
            + _complex("DragZoomIn", self.drag_zoom_in)
            + _complex("DragZoomOut", self.drag_zoom_out)
            + _complex("HomePosition", self.home_position)
            + _complex("PTZPreciseCtrl", self.precise_view)
            + _complex("DeviceUpgrade", self.upgrade)
            + xml.optional("FormatSDCard", self.format_card)
            + _word("TargetTrack", self.track)
            + xml.optional("DeviceID2", self.panorama_id)
            + _complex("TargetArea", self.target_area)
        )

    def _names(self) -> str:
        """PTZCmdParams came with 3.0."""
        names = xml.optional("PresetName", self.preset_name) + xml.optional(
            "CruiseTrackName", self.cruise_name
        )
        return f"<PTZCmdParams>{names}</PTZCmdParams>" if names else ""

    def _reset(self, edition: Edition) -> str:
        if not self.reset_alarm:
            return ""
        methods = xml.element("AlarmMethod", join_methods(self.alarm_methods, edition))
        info = f"<Info>{methods}{xml.optional('AlarmType', self.alarm_type)}</Info>"
        is_all = not self.alarm_methods and self.alarm_type is None
        return xml.element("AlarmCmd", "ResetAlarm") + ("" if is_all else info)

    @classmethod
    def read(cls, document: xml.Document) -> DeviceControl:
        """Raises RemoteViolation: no DeviceID, or a value of a command out of its range."""
        reader = document.root
        params = reader.child("ptzcmdparams")
        info = reader.child("info")
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            ptz_cmd=reader.text("ptzcmd")[:MAX_PTZ_CHARS] or None,
            preset_name=params.text("presetname")[:MAX_NAME_CHARS] if params else "",
            cruise_name=params.text("cruisetrackname")[:MAX_NAME_CHARS] if params else "",
            tele_boot=read_flag(reader.text("teleboot"), "boot"),
            record_cmd=_member(RecordCommand, reader.text("recordcmd")),
            stream_number=_within(reader, "StreamNumber", 99),
            guard_cmd=_member(GuardCommand, reader.text("guardcmd")),
            iframe=read_flag(reader.text("iframecmd", "ifamecmd"), "send"),
            reset_alarm=read_flag(reader.text("alarmcmd"), "resetalarm"),
            alarm_methods=split_methods(info.text("alarmmethod")) if info else (),
            alarm_type=info.integer("alarmtype") if info else None,
            drag_zoom_in=_part(DragBox, reader, "dragzoomin"),
            drag_zoom_out=_part(DragBox, reader, "dragzoomout"),
            home_position=_part(HomePosition, reader, "homeposition"),
            precise_view=_part(PreciseView, reader, "ptzprecisectrl"),
            upgrade=_part(UpgradeOrder, reader, "deviceupgrade"),
            format_card=_within(reader, "FormatSDCard", MAX_CARD),
            track=_member(TrackCommand, reader.text("targettrack")),
            panorama_id=reader.text("deviceid2")[:MAX_ID_CHARS],
            target_area=_part(DragBox, reader, "targetarea"),
        )


_ATTRIBUTES: Final[dict[ControlKind, str]] = {
    ControlKind.FRONT_END: "ptz_cmd",
    ControlKind.TELE_BOOT: "tele_boot",
    ControlKind.RECORD: "record_cmd",
    ControlKind.GUARD: "guard_cmd",
    ControlKind.ALARM_RESET: "reset_alarm",
    ControlKind.KEY_FRAME: "iframe",
    ControlKind.DRAG_ZOOM_IN: "drag_zoom_in",
    ControlKind.DRAG_ZOOM_OUT: "drag_zoom_out",
    ControlKind.HOME_POSITION: "home_position",
    ControlKind.PRECISE_VIEW: "precise_view",
    ControlKind.UPGRADE: "upgrade",
    ControlKind.FORMAT_CARD: "format_card",
    ControlKind.TARGET_TRACK: "track",
}


class DeviceConfig(BaseMessage, frozen=True):
    """Set one or several configurations; always answered by a DeviceConfigResponse (9.3.1 e)."""

    root: ClassVar[Root] = "Control"
    cmd_type: ClassVar[str] = "DeviceConfig"

    settings: Configuration = Configuration()

    @property
    def edition(self) -> Edition:
        """The first edition whose peers know all of it."""
        return max((config_edition(name) for name in types_of(self.settings)), default=Edition.GB2014)

    def content(self, edition: Edition) -> str:
        return render_fields(self.settings)

    @classmethod
    def read(cls, document: xml.Document) -> Self:
        """Raises RemoteViolation: no DeviceID, or a value out of its range; nothing of it is taken then."""
        reader = document.root
        return cls(read_sn(reader), read_device_id(reader), read_part(Configuration, reader))


_E = TypeVar("_E", RecordCommand, GuardCommand, TrackCommand)
_P = TypeVar("_P", bound=Part)


def _member(kind: type[_E], text: str) -> _E | None:
    return next((member for member in kind if member.value.lower() == text.lower()), None)


def _part(kind: type[_P], reader: xml.Reader, name: str) -> _P | None:
    child = reader.child(name)
    return None if child is None else read_part(kind, child)


def _within(reader: xml.Reader, name: str, highest: int) -> int | None:
    text = reader.text(name.lower())
    if not text:
        return None
    value = xml.to_int(text)
    if value is None or not 0 <= value <= highest:
        raise RemoteViolation(f"{name} is not a number from 0 to {highest}", field=name)
    return value


def _word(name: str, member: Enum | None) -> str:
    return "" if member is None else xml.element(name, str(member.value))


def _complex(name: str, part: Part | None) -> str:
    return "" if part is None else f"<{name}>{render_fields(part)}</{name}>"
