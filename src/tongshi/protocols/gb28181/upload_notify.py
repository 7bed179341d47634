"""A device, as one worn on a body, says that it wants to send its live picture.

Implements: GB/T 28181-2022 A.2.5.8
"""

from __future__ import annotations

from typing import ClassVar

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_sn
from tongshi.protocols.gb28181.version import Edition


class VideoUploadNotify(BaseMessage, frozen=True):
    """``time`` is Beijing local text; the place is degrees, None when it was not told."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "VideoUploadNotify"

    time: str = ""
    longitude: float | None = None
    latitude: float | None = None

    def content(self, edition: Edition) -> str:
        return (
            xml.optional("Time", self.time)
            + xml.optional("Longitude", self.longitude)
            + xml.optional("Latitude", self.latitude)
        )

    @classmethod
    def read(cls, document: xml.Document) -> VideoUploadNotify:
        reader = document.root
        return cls(
            read_sn(reader),
            read_device_id(reader),
            reader.text("time"),
            xml.to_float(reader.text("longitude")),
            xml.to_float(reader.text("latitude")),
        )
