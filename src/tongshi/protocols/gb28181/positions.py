"""Positions under a subscription: of things that move, and of a head that turns.

Implements: GB/T 28181-2022 A.2.4.9
Implements: GB/T 28181-2022 A.2.5.6
The edition of 2022 tells many in a list, those before it told one flat under Notify. Both are read; which is
written follows from the edition of the receiver: an older one is told one position a message.
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.device_response import PTZPositionResponse
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_sn
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.version import Edition, Feature, supports

DEFAULT_INTERVAL_S: Final = 5
MAX_POSITIONS: Final = 10_000  # Annex M
_MAX_INTERVAL_S: Final = 86_400


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a device is: degrees of WGS 84, km/h, degrees clockwise from north, metres.

    Altitude is above the sea, height above the ground. ``at`` is Beijing local text as on the wire.
    """

    device_id: str
    at: str
    longitude: float
    latitude: float
    speed: float | None = None
    direction: float | None = None
    altitude: float | None = None
    height: float | None = None


class MobilePositionQuery(BaseMessage, frozen=True):
    """Subscribe to the position of a device, or of all below a system, every ``interval_s``."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "MobilePosition"

    interval_s: int = DEFAULT_INTERVAL_S

    def content(self, edition: Edition) -> str:
        return xml.element("Interval", self.interval_s)

    @classmethod
    def read(cls, document: xml.Document) -> MobilePositionQuery:
        reader = document.root
        interval_s = reader.integer("interval")
        if interval_s is None or not 0 < interval_s <= _MAX_INTERVAL_S:
            interval_s = DEFAULT_INTERVAL_S
        return cls(read_sn(reader), read_device_id(reader), interval_s)


class MobilePositionNotify(BaseMessage, frozen=True):
    """Positions at a time. ``bad_items`` counts entries that named no device or no place."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "MobilePosition"

    time: str = ""
    positions: tuple[Position, ...] = ()
    bad_items: int = 0

    def for_edition(self, edition: Edition) -> tuple[MobilePositionNotify, ...]:
        """What to send to a peer of that edition: the list whole, or a flat message for each position."""
        if supports(edition, Feature.MOBILE_POSITION_LIST):
            return (self,)
        return tuple(
            MobilePositionNotify(self.sn, position.device_id, position.at or self.time, (position,))
            for position in self.positions
        )

    def content(self, edition: Edition) -> str:
        if not supports(edition, Feature.MOBILE_POSITION_LIST):
            return xml.element("Time", self.time) + "".join(_fields(p) for p in self.positions[:1])
        items = "\r\n".join(
            f"<Item>{xml.element('DeviceID', p.device_id)}{xml.element('CaptureTime', p.at)}{_fields(p)}"
            f"{xml.optional('Height', p.height)}</Item>"
            for p in self.positions
        )
        count = len(self.positions)
        listed = f'\r\n<DeviceList Num="{count}">\r\n{items}\r\n</DeviceList>' if items else ""
        return xml.element("Time", self.time) + xml.element("SumNum", count) + listed

    @classmethod
    def read(cls, document: xml.Document) -> MobilePositionNotify:
        reader = document.root
        sn, device_id, time = read_sn(reader), read_device_id(reader), reader.text("time")
        device_list = reader.child("devicelist")
        if device_list is None:
            found = _read(reader, device_id, time)
            return cls(sn, device_id, time, (found,) if found else (), 0 if found else 1)
        positions: list[Position] = []
        bad = len(document.broken_items)
        for element in device_list.each("item"):
            row = xml.Reader(element)
            found = _read(row, row.text("deviceid"), row.text("capturetime") or time)
            if found is None or len(positions) >= MAX_POSITIONS:
                bad += 1
            else:
                positions.append(found)
        return cls(sn, device_id, time, tuple(positions), bad)


class PTZPositionNotify(PTZPositionResponse, frozen=True, kw_only=True):
    """The head turned: the fields of the answer under the root of a notification (9.11)."""

    root: ClassVar[Root] = "Notify"


def _fields(position: Position) -> str:
    return (
        xml.element("Longitude", position.longitude)
        + xml.element("Latitude", position.latitude)
        + xml.optional("Speed", position.speed)
        + xml.optional("Direction", position.direction)
        + xml.optional("Altitude", position.altitude)
    )


def _read(reader: xml.Reader, device_id: str, at: str) -> Position | None:
    """One position; None without a device or a place on the globe. 0, 0 is "no fix" (quirk 14)."""
    longitude, latitude = xml.to_float(reader.text("longitude")), xml.to_float(reader.text("latitude"))
    if not 0 < len(device_id) <= MAX_ID_CHARS or longitude is None or latitude is None:
        return None
    if abs(longitude) > 180 or abs(latitude) > 90 or (longitude == 0 and latitude == 0):
        return None
    return Position(
        device_id=device_id,
        at=at,
        longitude=longitude,
        latitude=latitude,
        speed=xml.to_float(reader.text("speed")),
        direction=xml.to_float(reader.text("direction")),
        altitude=xml.to_float(reader.text("altitude")),
        height=xml.to_float(reader.text("height")),
    )
