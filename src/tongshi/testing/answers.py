"""What a device answers to queries and does on controls; no I/O.

Not here: how messages travel and calls are made (``camera``, ``calls``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES, paginate
from tongshi.protocols.gb28181.control import DeviceControl, GuardCommand, RecordCommand
from tongshi.protocols.gb28181.dates import render_time
from tongshi.protocols.gb28181.front_end import Instruction, parse_instruction
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import (
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.testing.pan_tilt import Head, obey

FIRMWARE = "Tongshi-Sim 1.0"


@dataclass(slots=True)
class Channel:
    """One picture of a device, with its own head."""

    item: CatalogItem
    head: Head = field(default_factory=Head)
    is_recording: bool = False
    is_armed: bool = False
    instructions: deque[Instruction] = field(default_factory=lambda: deque(maxlen=100))


@dataclass(slots=True)
class Device:
    """The device itself and its channels by code; a plain camera is its own channel."""

    item: CatalogItem
    channels: dict[str, Channel]

    @classmethod
    def of(cls, item: CatalogItem, channels: Iterable[CatalogItem]) -> Device:
        """Build it; without channels the device is the only one."""
        items = tuple(channels) or (item,)
        return cls(item, {one.device_id: Channel(one) for one in items})

    @property
    def catalogue(self) -> list[CatalogItem]:
        """Itself, then what is below it (Annex J)."""
        below = [channel.item for channel in self.channels.values()]
        return below if self.item.device_id in self.channels else [self.item, *below]

    def knows(self, code: str) -> bool:
        """Whether a code is the device's own or of one of its channels."""
        return code == self.item.device_id or code in self.channels

    def answer(self, query: object, at: datetime, *, is_tcp: bool) -> list[BaseMessage]:
        """The messages that answer a query, in order; none for what is not asked of us.

        Args:
            query: a decoded message. at: the device's clock. is_tcp: large messages may be sent.
        """
        if isinstance(query, CatalogQuery) and self.knows(query.device_id):
            items = self.catalogue if query.device_id == self.item.device_id else self._one(query.device_id)
            max_bytes = TCP_BODY_BYTES if is_tcp else UDP_BODY_BYTES
            return list(paginate(items, query.sn, query.device_id, max_bytes=max_bytes))
        if isinstance(query, DeviceInfoQuery) and self.knows(query.device_id):
            return [self._info(query)]
        if isinstance(query, DeviceStatusQuery) and self.knows(query.device_id):
            return [self._status(query, at)]
        if isinstance(query, DeviceControl) and query.needs_response:
            return [DeviceControlResponse(query.sn, query.device_id, self._switch(query))]
        return []

    def control(self, control: DeviceControl, now: float) -> None:
        """Move the head. A broken instruction is ignored, as the standard's answer is 200 all the same."""
        channel = self.channels.get(control.device_id)
        if channel is None or control.ptz_cmd is None:
            return
        try:
            instruction = parse_instruction(control.ptz_cmd)
        except RemoteViolation:
            return
        channel.instructions.append(instruction)
        obey(channel.head, instruction, now, control.preset_name)

    def _one(self, code: str) -> list[CatalogItem]:
        return [self.channels[code].item]

    def _info(self, query: DeviceInfoQuery) -> DeviceInfoResponse:
        item = self.item if query.device_id == self.item.device_id else self.channels[query.device_id].item
        return DeviceInfoResponse(
            query.sn,
            query.device_id,
            device_name=item.name,
            manufacturer=item.manufacturer,
            model=item.model,
            firmware=FIRMWARE,
            channel=len(self.channels) if item is self.item else 1,
        )

    def _status(self, query: DeviceStatusQuery, at: datetime) -> DeviceStatusResponse:
        asked = self.channels.get(query.device_id)
        of = [asked] if asked else list(self.channels.values())
        return DeviceStatusResponse(
            query.sn,
            query.device_id,
            online=True,
            status_ok=True,
            encode="ON",
            record="ON" if any(channel.is_recording for channel in of) else "OFF",
            device_time=render_time(at),
        )

    def _switch(self, control: DeviceControl) -> bool:
        channel = self.channels.get(control.device_id)
        if channel is None:
            return False
        if control.record_cmd is not None:
            channel.is_recording = control.record_cmd is RecordCommand.START
        if control.guard_cmd is not None:
            channel.is_armed = control.guard_cmd is GuardCommand.SET
        return True
