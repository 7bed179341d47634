"""Device control: root Control, CmdType DeviceControl, then one command.

Implements: GB/T 28181-2022 A.2.3.1.2
Implements: GB/T 28181-2022 A.2.3.1.3
Implements: GB/T 28181-2022 A.2.3.1.4
Implements: GB/T 28181-2022 A.2.3.1.5
Implements: GB/T 28181-2022 A.2.3.1.6
Implements: GB/T 28181-2022 A.2.3.1.7
Not here: the eight bytes inside PTZCmd (front_end.py).
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final, TypeVar

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.alarm import join_methods, split_methods
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.version import Edition

MAX_PTZ_CHARS: Final = 64  # sixteen digits and the blanks that some write between them


class RecordCommand(Enum):
    """recordType (A.2.1.7)."""

    START = "Record"
    STOP = "StopRecord"


class GuardCommand(Enum):
    """guardType (A.2.1.8)."""

    SET = "SetGuard"
    RESET = "ResetGuard"


class DeviceControl(BaseMessage, frozen=True):
    """One command to a device. A message with none of the attributes set holds a command that we do not know.

    ``ptz_cmd`` is the hex text of a front-end instruction, unchecked. ``iframe`` asks for a key frame at
    once. ``reset_alarm`` ends the alarms of ``alarm_methods`` (none: all) and ``alarm_type``.
    ``needs_response`` says whether the device answers with a DeviceControlResponse.
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
    reset_alarm: bool = False
    alarm_methods: tuple[int, ...] = ()
    alarm_type: int | None = None

    @property
    def needs_response(self) -> bool:
        """Recording, arming and reset of alarms are answered; movement, start and key frame are not."""
        return self.record_cmd is not None or self.guard_cmd is not None or self.reset_alarm

    def content(self, edition: Edition) -> str:
        params = xml.optional("PresetName", self.preset_name)
        return (
            xml.optional("PTZCmd", self.ptz_cmd)
            + (f"<PTZCmdParams>{params}</PTZCmdParams>" if params else "")
            + (xml.element("TeleBoot", "Boot") if self.tele_boot else "")
            + xml.optional("RecordCmd", self.record_cmd.value if self.record_cmd else None)
            + xml.optional("StreamNumber", self.stream_number)
            + xml.optional("GuardCmd", self.guard_cmd.value if self.guard_cmd else None)
            + self._reset(edition)
            + self._key_frame(edition)
        )

    def _reset(self, edition: Edition) -> str:
        if not self.reset_alarm:
            return ""
        methods = xml.element("AlarmMethod", join_methods(self.alarm_methods, edition))
        info = f"<Info>{methods}{xml.optional('AlarmType', self.alarm_type)}</Info>"
        is_all = not self.alarm_methods and self.alarm_type is None
        return xml.element("AlarmCmd", "ResetAlarm") + ("" if is_all else info)

    def _key_frame(self, edition: Edition) -> str:
        """Up to 2.0 the element was spelt IFameCmd (quirk 72)."""
        if not self.iframe:
            return ""
        return xml.element("IFrameCmd" if edition >= Edition.GB2022 else "IFameCmd", "Send")

    @classmethod
    def read(cls, document: xml.Document) -> DeviceControl:
        reader = document.root
        params = reader.child("ptzcmdparams")
        info = reader.child("info")
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            ptz_cmd=reader.text("ptzcmd")[:MAX_PTZ_CHARS] or None,
            preset_name=params.text("presetname") if params else "",
            tele_boot=read_flag(reader.text("teleboot"), "boot"),
            record_cmd=_member(RecordCommand, reader.text("recordcmd")),
            stream_number=reader.integer("streamnumber"),
            guard_cmd=_member(GuardCommand, reader.text("guardcmd")),
            iframe=read_flag(reader.text("iframecmd", "ifamecmd"), "send"),
            reset_alarm=read_flag(reader.text("alarmcmd"), "resetalarm"),
            alarm_methods=split_methods(info.text("alarmmethod")) if info else (),
            alarm_type=info.integer("alarmtype") if info else None,
        )


_E = TypeVar("_E", RecordCommand, GuardCommand)


def _member(kind: type[_E], text: str) -> _E | None:
    return next((member for member in kind if member.value.lower() == text.lower()), None)
