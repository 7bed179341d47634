"""Answers: root Response, sent as a MESSAGE of their own with the SN of the request.

Implements: GB/T 28181-2022 A.2.6.2
Implements: GB/T 28181-2022 A.2.6.4
Implements: GB/T 28181-2022 A.2.6.5
Implements: GB/T 28181-2022 A.2.6.6
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.items import BadItem, read_list, render_item
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.gb28181.version import Edition

Switch = Literal["ON", "OFF"]


class CatalogResponse(BaseMessage, frozen=True):
    """A part of a catalogue. ``sum_num`` counts the whole answer; -1 says that the peer gave no number."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Catalog"

    sum_num: int
    items: tuple[CatalogItem, ...] = ()
    bad_items: tuple[BadItem, ...] = ()

    def content(self, edition: Edition) -> str:
        items = "\r\n".join([render_item(item, edition) for item in self.items])
        listed = f'\r\n<DeviceList Num="{len(self.items)}">\r\n{items}\r\n</DeviceList>' if items else ""
        return xml.element("SumNum", max(self.sum_num, 0)) + listed

    @classmethod
    def read(cls, document: xml.Document) -> CatalogResponse:
        reader = document.root
        device_list = reader.child("devicelist")
        items, bad_items = read_list(document, device_list.element if device_list else None)
        sum_num = reader.integer("sumnum")
        sum_num = sum_num if sum_num is not None and sum_num >= 0 else -1
        return cls(read_sn(reader), read_device_id(reader), sum_num, items, bad_items)


class DeviceInfoResponse(BaseMessage, frozen=True):
    """Who made a device; ``channel`` is the number of video inputs."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceInfo"

    device_name: str = ""
    result_ok: bool = True
    manufacturer: str = ""
    model: str = ""
    firmware: str = ""
    channel: int | None = None

    def content(self, edition: Edition) -> str:
        return (
            xml.optional("DeviceName", self.device_name)
            + _result(self.result_ok)
            + xml.optional("Manufacturer", self.manufacturer)
            + xml.optional("Model", self.model)
            + xml.optional("Firmware", self.firmware)
            + xml.optional("Channel", self.channel)
        )

    @classmethod
    def read(cls, document: xml.Document) -> DeviceInfoResponse:
        reader = document.root
        channel = reader.integer("channel")
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            device_name=reader.text("devicename"),
            result_ok=_read_result(reader),
            manufacturer=reader.text("manufacturer"),
            model=reader.text("model"),
            firmware=reader.text("firmware"),
            channel=channel if channel is not None and channel >= 0 else None,
        )


class DeviceStatusResponse(BaseMessage, frozen=True):
    """Whether a device is online and works; ``online`` and ``status_ok`` are None when they cannot be read.

    ``alarms`` pairs an alarm input with its duty: ONDUTY, OFFDUTY or ALARM. ``device_time`` is as on the
    wire.
    """

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceStatus"

    online: bool | None = None
    status_ok: bool | None = None
    result_ok: bool = True
    reason: str = ""
    encode: Switch | None = None
    record: Switch | None = None
    device_time: str = ""
    alarms: tuple[tuple[str, str], ...] = ()

    def content(self, edition: Edition) -> str:
        return (
            _result(self.result_ok)
            + _word("Online", self.online, "ONLINE", "OFFLINE")
            + _word("Status", self.status_ok, "OK", "ERROR")
            + xml.optional("Reason", self.reason)
            + xml.optional("Encode", self.encode)
            + xml.optional("Record", self.record)
            + xml.optional("DeviceTime", self.device_time)
            + self._alarm_list()
        )

    def _alarm_list(self) -> str:
        if not self.alarms:
            return ""
        items = "".join(
            f"<Item>{xml.element('DeviceID', device_id)}{xml.element('DutyStatus', duty)}</Item>"
            for device_id, duty in self.alarms
        )
        return f'<Alarmstatus Num="{len(self.alarms)}">{items}</Alarmstatus>'

    @classmethod
    def read(cls, document: xml.Document) -> DeviceStatusResponse:
        reader = document.root
        alarm_list = reader.child("alarmstatus")
        rows = [xml.Reader(item) for item in alarm_list.each("item")] if alarm_list else []
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            online=_read_word(reader.text("online"), ("online", "on", "ok"), ("offline", "off", "error")),
            status_ok=_read_word(reader.text("status"), ("ok", "on", "online"), ("error", "off", "offline")),
            result_ok=_read_result(reader),
            reason=reader.text("reason"),
            encode=_read_switch(reader.text("encode")),
            record=_read_switch(reader.text("record")),
            device_time=reader.text("devicetime"),
            alarms=tuple((row.text("deviceid"), row.text("dutystatus").upper()) for row in rows),
        )


class DeviceControlResponse(BaseMessage, frozen=True):
    """Whether a control was carried out; only some commands are answered (A.2.3.1)."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceControl"

    result_ok: bool = True

    def content(self, edition: Edition) -> str:
        return _result(self.result_ok)

    @classmethod
    def read(cls, document: xml.Document) -> DeviceControlResponse:
        reader = document.root
        return cls(read_sn(reader), read_device_id(reader), _read_result(reader))


def _result(is_ok: bool) -> str:
    return xml.element("Result", "OK" if is_ok else "ERROR")


def _read_result(reader: xml.Reader) -> bool:
    """Absent counts as OK: the answer itself shows that the query was understood."""
    return not read_flag(reader.text("result"), "error", "err", "fail", "failed")


def _word(name: str, value: bool | None, true_word: str, false_word: str) -> str:
    return "" if value is None else xml.element(name, true_word if value else false_word)


def _read_word(text: str, true_words: tuple[str, ...], false_words: tuple[str, ...]) -> bool | None:
    if read_flag(text, *true_words):
        return True
    return False if read_flag(text, *false_words) else None


def _read_switch(text: str) -> Switch | None:
    if read_flag(text, "on"):
        return "ON"
    return "OFF" if read_flag(text, "off") else None
