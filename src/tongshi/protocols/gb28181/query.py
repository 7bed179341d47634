"""Queries: root Query, sent as MESSAGE or as the body of SUBSCRIBE.

Implements: GB/T 28181-2022 A.2.4.2
Implements: GB/T 28181-2022 A.2.4.3
Implements: GB/T 28181-2022 A.2.4.4
"""

from __future__ import annotations

from typing import ClassVar

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_sn
from tongshi.protocols.gb28181.version import Edition


class CatalogQuery(BaseMessage, frozen=True):
    """Ask for the items at and below a node; the times are Beijing local text, "" for none."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "Catalog"

    start_time: str = ""
    end_time: str = ""

    def content(self, edition: Edition) -> str:
        return xml.optional("StartTime", self.start_time) + xml.optional("EndTime", self.end_time)

    @classmethod
    def read(cls, document: xml.Document) -> CatalogQuery:
        reader = document.root
        return cls(read_sn(reader), read_device_id(reader), reader.text("starttime"), reader.text("endtime"))


class DeviceInfoQuery(BaseMessage, frozen=True):
    """Ask who made a device and what it is."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "DeviceInfo"

    @classmethod
    def read(cls, document: xml.Document) -> DeviceInfoQuery:
        return cls(read_sn(document.root), read_device_id(document.root))


class DeviceStatusQuery(BaseMessage, frozen=True):
    """Ask whether a device is online and works."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "DeviceStatus"

    @classmethod
    def read(cls, document: xml.Document) -> DeviceStatusQuery:
        return cls(read_sn(document.root), read_device_id(document.root))
