"""Alarms: the notification, its answer, and the query that is the body of a subscription.

Implements: GB/T 28181-2022 A.2.5.3
Implements: GB/T 28181-2022 A.2.4.6
Implements: GB/T 28181-2022 A.2.6.3
Not here: which type belongs to which method (``alarm_types``).
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.version import Edition

MAX_EXTRA: Final = 16  # ExtraInfo, each of at most 1024 characters; the schema says "unbounded"
_DIGIT = re.compile(r"[0-9]", re.ASCII)


class AlarmNotify(BaseMessage, frozen=True):
    """One alarm. Numbers are None when they were absent or no numbers; the time is text as on the wire.

    ``device_id`` is the alarm device, or an alarm centre of ten digits. ``type_param`` is what the edition of
    2016 wrote as plain text in AlarmTypeParam.
    """

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Alarm"

    priority: int | None = None
    method: int | None = None
    time: str = ""
    description: str = ""
    longitude: float | None = None
    latitude: float | None = None
    alarm_type: int | None = None
    event_type: int | None = None
    type_param: str = ""
    extra: tuple[str, ...] = ()

    def content(self, edition: Edition) -> str:
        extra = "".join([xml.element("ExtraInfo", text) for text in self.extra])
        return (
            xml.optional("AlarmPriority", self.priority)
            + xml.optional("AlarmMethod", self.method)
            + xml.optional("AlarmTime", self.time)
            + xml.optional("AlarmDescription", self.description)
            + xml.optional("Longitude", self.longitude)
            + xml.optional("Latitude", self.latitude)
            + self._info()
            + extra
        )

    def _info(self) -> str:
        if self.alarm_type is None:
            return ""
        event = xml.optional("EventType", self.event_type) or xml.escape(self.type_param)
        param = f"<AlarmTypeParam>{event}</AlarmTypeParam>" if event else ""
        return f"<Info>{xml.element('AlarmType', self.alarm_type)}{param}</Info>"

    @classmethod
    def read(cls, document: xml.Document) -> AlarmNotify:
        reader = document.root
        info = reader.child("info")
        param = info.child("alarmtypeparam") if info else None
        # Some of 2016 wrote both beside Info instead of inside.
        alarm_type = info.integer("alarmtype") if info else None
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            priority=reader.integer("alarmpriority"),
            method=reader.integer("alarmmethod"),
            time=reader.text("alarmtime"),
            description=reader.text("alarmdescription"),
            longitude=xml.to_float(reader.text("longitude")),
            latitude=xml.to_float(reader.text("latitude")),
            alarm_type=reader.integer("alarmtype") if alarm_type is None else alarm_type,
            event_type=param.integer("eventtype") if param else None,
            type_param=info.text("alarmtypeparam") if info else "",
            extra=reader.texts("extrainfo")[:MAX_EXTRA],
        )


class AlarmResponse(BaseMessage, frozen=True):
    """Whether an alarm was taken; the SN is that of the notification."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Alarm"

    result_ok: bool = True

    def content(self, edition: Edition) -> str:
        return xml.element("Result", "OK" if self.result_ok else "ERROR")

    @classmethod
    def read(cls, document: xml.Document) -> AlarmResponse:
        reader = document.root
        is_error = read_flag(reader.text("result"), "error", "err", "fail", "failed")
        return cls(read_sn(reader), read_device_id(reader), not is_error)


class AlarmQuery(BaseMessage, frozen=True):
    """Which alarms a subscriber wants. Priority 0 and no methods mean all; times are Beijing local text."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "Alarm"

    start_priority: int = 0
    end_priority: int = 0
    methods: tuple[int, ...] = ()
    alarm_type: int | None = None
    start_time: str = ""
    end_time: str = ""

    def content(self, edition: Edition) -> str:
        return (
            xml.element("StartAlarmPriority", self.start_priority)
            + xml.element("EndAlarmPriority", self.end_priority)
            + xml.element("AlarmMethod", join_methods(self.methods, edition))
            + xml.optional("AlarmType", self.alarm_type)
            + xml.optional("StartAlarmTime", self.start_time)
            + xml.optional("EndAlarmTime", self.end_time)
        )

    @classmethod
    def read(cls, document: xml.Document) -> AlarmQuery:
        reader = document.root
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            start_priority=reader.integer("startalarmpriority") or 0,
            end_priority=reader.integer("endalarmpriority") or 0,
            methods=split_methods(reader.text("alarmmethod")),
            alarm_type=reader.integer("alarmtype"),
            start_time=reader.text("startalarmtime"),
            end_time=reader.text("endalarmtime"),
        )

    def wants(self, priority: int | None, method: int | None, alarm_type: int | None) -> bool:
        """Whether an alarm of these values is among the wanted; the times are the subscriber's business."""
        low, high = self.start_priority or 1, self.end_priority or 4
        return (
            (priority is None or low <= priority <= high)
            and (not self.methods or method in self.methods)
            and (not self.alarm_type or alarm_type == self.alarm_type)
        )


def join_methods(methods: tuple[int, ...], edition: Edition) -> str:
    """A combination of methods: ``2/5``, up to 2016 ``25``; ``0`` for all."""
    if not methods:
        return "0"
    return ("/" if edition >= Edition.GB2022 else "").join(map(str, methods))


def split_methods(text: str) -> tuple[int, ...]:
    """Read either form; a method has one digit. All (0, or nothing) is the empty tuple."""
    found = dict.fromkeys(int(digit) for digit in _DIGIT.findall(text[:64]))
    return () if 0 in found else tuple(found)
