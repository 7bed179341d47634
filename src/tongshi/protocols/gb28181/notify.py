"""Notifications: root Notify, sent unasked as MESSAGE or under a subscription as NOTIFY.

Implements: GB/T 28181-2022 A.2.5.2
Implements: GB/T 28181-2022 A.2.5.4
Implements: GB/T 28181-2022 N.2
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final

import msgspec

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.items import BadItem, read_item, render_item
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.types import MAX_ID_CHARS, CatalogItem
from tongshi.protocols.gb28181.version import Edition

MAX_FAULTY: Final = 10_000  # no more than Annex M allows in one message
HISTORY_FINISHED: Final = "121"


class Keepalive(BaseMessage, frozen=True):
    """A heartbeat: is the source working, and which of its children are not."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Keepalive"

    status_ok: bool = True
    faulty: tuple[str, ...] = ()

    def content(self, edition: Edition) -> str:
        faulty = "".join([xml.element("DeviceID", device_id) for device_id in self.faulty])
        info = f"<Info>{faulty}</Info>" if faulty else ""
        return xml.element("Status", "OK" if self.status_ok else "ERROR") + info

    @classmethod
    def read(cls, document: xml.Document) -> Keepalive:
        reader = document.root
        info = reader.child("info")
        faulty = info.texts("deviceid")[:MAX_FAULTY] if info else ()
        return cls(
            read_sn(reader),
            read_device_id(reader),
            not read_flag(reader.text("status"), "error", "off", "offline"),
            tuple(device_id for device_id in faulty if len(device_id) <= MAX_ID_CHARS),
        )


class MediaStatus(BaseMessage, frozen=True):
    """The sender of a history stream says that it is finished (notify type 121)."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "MediaStatus"

    notify_type: str = HISTORY_FINISHED

    def content(self, edition: Edition) -> str:
        return xml.element("NotifyType", self.notify_type)

    @classmethod
    def read(cls, document: xml.Document) -> MediaStatus:
        reader = document.root
        return cls(read_sn(reader), read_device_id(reader), reader.text("notifytype"))


class CatalogEvent(Enum):
    """What happened to an item (Annex N)."""

    ON = "ON"
    OFF = "OFF"
    VIDEO_LOST = "VLOST"
    DEFECT = "DEFECT"
    ADDED = "ADD"
    DELETED = "DEL"
    UPDATED = "UPDATE"


_WHOLE_ITEM: Final = frozenset({CatalogEvent.ADDED, CatalogEvent.UPDATED})


class CatalogChange(msgspec.Struct, frozen=True):
    """One event; only ADD and UPDATE carry more of the item than its id."""

    event: CatalogEvent
    item: CatalogItem


class CatalogNotify(BaseMessage, frozen=True):
    """Changes under a catalogue subscription; SumNum is the number in this message."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Catalog"

    changes: tuple[CatalogChange, ...] = ()
    bad_items: tuple[BadItem, ...] = ()

    def content(self, edition: Edition) -> str:
        items = "\r\n".join([_render_change(change, edition) for change in self.changes])
        listed = f'\r\n<DeviceList Num="{len(self.changes)}">\r\n{items}\r\n</DeviceList>' if items else ""
        return xml.element("SumNum", len(self.changes)) + listed

    @classmethod
    def read(cls, document: xml.Document) -> CatalogNotify:
        reader = document.root
        device_list = reader.child("devicelist")
        changes: list[CatalogChange] = []
        bad: list[BadItem] = [BadItem(-1, "", "not well-formed XML") for _ in document.broken_items]
        for index, element in enumerate(device_list.each("item") if device_list else ()):
            event_text = xml.Reader(element).text("event").upper()
            try:
                changes.append(CatalogChange(CatalogEvent(event_text), read_item(element)))
            except RemoteViolation as violation:
                bad.append(BadItem(index, "", violation.message))
            except ValueError:
                bad.append(BadItem(index, "", f"unknown event {event_text[:20]!r}"))
        return cls(read_sn(reader), read_device_id(reader), tuple(changes), tuple(bad))


def _render_change(change: CatalogChange, edition: Edition) -> str:
    if change.event in _WHOLE_ITEM:
        return render_item(change.item, edition, change.event.value)
    device_id = xml.element("DeviceID", change.item.device_id)
    return f"<Item>{device_id}{xml.element('Event', change.event.value)}</Item>"
