"""What a device answers to queries and does on controls; no I/O.

Not here: how messages travel and calls are made (``camera``, ``calls``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.alarm import AlarmNotify
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES, paginate
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl, GuardCommand, RecordCommand
from tongshi.protocols.gb28181.dates import render_time
from tongshi.protocols.gb28181.front_end import Instruction, parse_instruction
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.records import RecordInfoQuery, paginate_records
from tongshi.protocols.gb28181.response import (
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.testing import recordings
from tongshi.testing.installation import CardSlot, Installation, configure, default_settings, place, tell
from tongshi.testing.pan_tilt import Head, obey
from tongshi.testing.recordings import Recorded
from tongshi.testing.siren import Siren

FIRMWARE = "Tongshi-Sim 1.0"


@dataclass(slots=True)
class Channel:
    """One picture of a device, with its own head."""

    item: CatalogItem
    head: Head = field(default_factory=Head)
    recorded_streams: set[int] = field(default_factory=set)
    is_armed: bool = False
    installation: Installation = field(default_factory=Installation)
    instructions: deque[Instruction] = field(default_factory=lambda: deque(maxlen=100))

    @property
    def is_recording(self) -> bool:
        return bool(self.recorded_streams)


@dataclass(slots=True)
class Device:
    """The device itself and its channels by code; a plain camera is its own channel."""

    item: CatalogItem
    channels: dict[str, Channel]
    cards: dict[int, CardSlot] = field(default_factory=lambda: {1: CardSlot(1), 2: CardSlot(2)})
    own: Installation = field(default_factory=Installation)
    peripherals: dict[str, CatalogItem] = field(default_factory=dict)
    siren: Siren = field(default_factory=Siren)
    firmware: str = FIRMWARE
    recorded: tuple[Recorded, ...] = ()
    rate_kbps: int = 512

    @classmethod
    def of(cls, item: CatalogItem, channels: Iterable[CatalogItem]) -> Device:
        """Build it; without channels the device is the only one."""
        items = tuple(channels) or (item,)
        made = cls(item, {one.device_id: Channel(one) for one in items})
        mounts: tuple[Channel | Device, ...] = (made, *made.channels.values())
        for mount in mounts:
            mount.installation.settings = default_settings(mount.item.name, 60.0, 3600)
        return made

    @property
    def head(self) -> Head:
        """A device is turned by its first channel."""
        return next(iter(self.channels.values())).head

    @property
    def installation(self) -> Installation:
        """What is set in the device itself; a plain camera is its own channel."""
        channel = self.channels.get(self.item.device_id)
        return channel.installation if channel else self.own

    @property
    def catalogue(self) -> list[CatalogItem]:
        """Itself, then what is below it (Annex J)."""
        below = [channel.item for channel in self.channels.values()] + list(self.peripherals.values())
        return below if self.item.device_id in self.channels else [self.item, *below]

    def knows(self, code: str) -> bool:
        """Whether a code is the device's own, of one of its channels, or of what is wired to it."""
        return code == self.item.device_id or code in self.channels or code in self.peripherals

    def mount(self, code: str) -> Channel | Device | None:
        """The channel of a code, or the device itself."""
        return self.channels.get(code) or (self if code == self.item.device_id else None)

    def recordings(self, query: RecordInfoQuery, *, is_tcp: bool, withheld: int = 0) -> list[BaseMessage]:
        """The answer to a search, in parts; ``withheld`` files at its end are counted and never sent."""
        channel = self.channels.get(query.device_id)
        if channel is None:
            return []
        found = recordings.files(
            recordings.matching(self.recorded, query),
            channel_id=query.device_id,
            name=channel.item.name,
            location=self.item.device_id,
            rate_kbps=self.rate_kbps,
        )
        max_bytes = TCP_BODY_BYTES if is_tcp else UDP_BODY_BYTES
        kept = found[: len(found) - withheld]
        parts = paginate_records(kept, query.sn, query.device_id, channel.item.name, max_bytes=max_bytes)
        return [replace(part, sum_num=len(found)) for part in parts]

    def answer(self, query: object, at: datetime, *, is_tcp: bool, now: float = 0.0) -> list[BaseMessage]:
        """The messages that answer a query, in order; none for what is not asked of us.

        Args:
            query: a decoded message. at: the device's clock. is_tcp: large messages may be sent. now: of
            the head.
        """
        if isinstance(query, AlarmNotify):
            return [self.siren.take(query)]
        if isinstance(query, CatalogQuery) and self.knows(query.device_id):
            items = self.catalogue if query.device_id == self.item.device_id else self._one(query.device_id)
            max_bytes = TCP_BODY_BYTES if is_tcp else UDP_BODY_BYTES
            return list(paginate(items, query.sn, query.device_id, max_bytes=max_bytes))
        if isinstance(query, DeviceInfoQuery) and self.knows(query.device_id):
            return [self._info(query)]
        if isinstance(query, DeviceStatusQuery) and self.knows(query.device_id):
            return [self._status(query, at)]
        if isinstance(query, DeviceControl) and query.needs_response:
            return [DeviceControlResponse(query.sn, query.device_id, self._switch(query, now))]
        mount = self.mount(query.device_id) if isinstance(query, BaseMessage) else None
        if mount is not None and isinstance(query, DeviceConfig):
            return [self._configure(query, mount)]
        return [] if mount is None else tell(query, mount, self.cards, now)

    def _configure(self, order: DeviceConfig, mount: Channel | Device) -> BaseMessage:
        answer = configure(order, mount)
        basic = order.settings.basic_param
        if answer.result_ok and basic is not None and basic.name:
            mount.item = replace(mount.item, name=basic.name)
            if isinstance(mount, Channel) and mount.item.device_id == self.item.device_id:
                self.item = mount.item
        return answer

    def control(self, control: DeviceControl, now: float) -> None:
        """Do what gets no answer. A broken instruction is ignored, as the standard's answer is 200."""
        channel = self.channels.get(control.device_id)
        mount = self.mount(control.device_id)
        if mount is not None and not control.needs_response:
            place(control, mount, self.cards, now)
        if channel is None or control.ptz_cmd is None:
            return
        try:
            instruction = parse_instruction(control.ptz_cmd)
        except RemoteViolation:
            return
        channel.instructions.append(instruction)
        obey(channel.head, instruction, now, control.preset_name or control.cruise_name)

    def _one(self, code: str) -> list[CatalogItem]:
        return [self.peripherals[code] if code in self.peripherals else self.channels[code].item]

    def _info(self, query: DeviceInfoQuery) -> DeviceInfoResponse:
        item = self.item if query.device_id == self.item.device_id else self.channels[query.device_id].item
        return DeviceInfoResponse(
            query.sn,
            query.device_id,
            device_name=item.name,
            manufacturer=item.manufacturer,
            model=item.model,
            firmware=self.firmware,
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

    def _switch(self, control: DeviceControl, now: float) -> bool:
        if control.reset_alarm:
            return self.siren.reset(control)
        if control.upgrade is not None:
            return control.device_id == self.item.device_id
        channel = self.channels.get(control.device_id)
        if channel is None:
            return False
        if control.home_position is not None:
            return place(control, channel, self.cards, now)
        if control.record_cmd is not None:
            streams = channel.recorded_streams
            stream = control.stream_number or 0
            (streams.add if control.record_cmd is RecordCommand.START else streams.discard)(stream)
        if control.guard_cmd is not None:
            channel.is_armed = control.guard_cmd is GuardCommand.SET
        return True
