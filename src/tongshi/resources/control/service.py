"""Asking, commanding and configuring devices for a person: decided and recorded before anything is sent.

Implements: DB31DSJ/Z 001-2024 6.4.3.1
Implements: GB/T 28181-2022 7.3
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from tongshi.errors import InvalidRequest, TongshiError, Unprocessable
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.configuration import (
    CONFIG_TYPES,
    READ_ONLY,
    Configuration,
    only,
    types_of,
)
from tongshi.protocols.gb28181.control import (
    DeviceControl,
    GuardCommand,
    RecordCommand,
    TrackCommand,
)
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition, UpgradeOrder
from tongshi.protocols.gb28181.device_response import (
    Card,
    CruisePoint,
    CruiseTrack,
    Preset,
    PTZPositionResponse,
)
from tongshi.protocols.gb28181.shape import check
from tongshi.resources.control.ports import CommandReply, Configured, DeviceTalk, Heard
from tongshi.resources.control.upgrades import Upgrades
from tongshi.resources.viewing.ports import Guard, Viewer
from tongshi.sharing.permissions import Permission

SNAPSHOT: Final = "SnapShotConfig"


class Command(StrEnum):
    """What a device is told to do; names are the REST face's."""

    RECORD = "record"
    STOP_RECORD = "stopRecord"
    GUARD = "guard"
    UNGUARD = "unguard"
    RESET_ALARM = "resetAlarm"
    KEY_FRAME = "keyFrame"
    TRACK = "track"
    REBOOT = "reboot"
    FORMAT_CARD = "formatCard"
    UPGRADE = "upgrade"


# What cannot be undone, or takes the device away for a while.
MAINTENANCE: Final = frozenset({Command.REBOOT, Command.FORMAT_CARD, Command.UPGRADE})


@dataclass(frozen=True, slots=True)
class Order:
    """One command of a person; only what belongs to the command is used."""

    command: Command
    stream_number: int | None = None
    alarm_methods: tuple[int, ...] = ()
    alarm_type: int | None = None
    card: int | None = None
    firmware: str = ""
    file_url: str = ""
    manufacturer: str = ""
    track: TrackCommand | None = None
    panorama_id: str = ""
    area: DragBox | None = None


@dataclass(frozen=True, slots=True)
class Ordered:
    """How a command ended; ``session_id`` is the number of an upgrade."""

    reply: CommandReply
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a configuration ended: what the device tells now, and what differs from the wish."""

    reply: CommandReply
    told: Configuration | None
    differing: tuple[str, ...]
    trouble: str = ""


class DeviceControlDesk:
    """Decides, then talks to the device."""

    def __init__(self, talk: DeviceTalk, guard: Guard, upgrades: Upgrades | None = None) -> None:
        self._talk = talk
        self._guard = guard
        self._upgrades = upgrades

    # Every question and command raises NotFound or Forbidden (the decision) and what DeviceTalk raises.

    async def presets(self, viewer: Viewer, device_id: DeviceId) -> Heard[Preset]:
        await self._may_ask(viewer, device_id)
        return await self._talk.presets(device_id)

    async def home_position(self, viewer: Viewer, device_id: DeviceId) -> HomePosition | None:
        await self._may_ask(viewer, device_id)
        return await self._talk.home_position(device_id)

    async def cruise_tracks(self, viewer: Viewer, device_id: DeviceId) -> Heard[CruiseTrack]:
        await self._may_ask(viewer, device_id)
        return await self._talk.cruise_tracks(device_id)

    async def cruise_track(
        self, viewer: Viewer, device_id: DeviceId, number: int
    ) -> tuple[str, Heard[CruisePoint]]:
        await self._may_ask(viewer, device_id)
        return await self._talk.cruise_track(device_id, number)

    async def position(self, viewer: Viewer, device_id: DeviceId) -> PTZPositionResponse:
        await self._may_ask(viewer, device_id)
        return await self._talk.position(device_id)

    async def cards(self, viewer: Viewer, device_id: DeviceId) -> Heard[Card]:
        await self._may_ask(viewer, device_id)
        return await self._talk.cards(device_id)

    async def configuration(
        self, viewer: Viewer, device_id: DeviceId, config_types: tuple[str, ...]
    ) -> Configured:
        """Read configurations. Raises InvalidRequest: a name that is none of the twelve."""
        unknown = [name for name in config_types if name not in CONFIG_TYPES]
        if unknown or not config_types:
            message = f"未知的配置类型：{'、'.join(unknown)}" if unknown else "需要给出配置类型"
            raise InvalidRequest(message, field="types", details={"supported": list(CONFIG_TYPES)})
        await self._may_ask(viewer, device_id)
        return await self._talk.configuration(device_id, config_types)

    async def command(self, viewer: Viewer, device_id: DeviceId, order: Order) -> Ordered:
        """Carry out one command. Raises InvalidRequest: something that belongs to it is missing."""
        session_id = secrets.token_hex(16) if order.command is Command.UPGRADE else ""
        control = control_of(order, device_id, session_id)
        is_maintenance = order.command in MAINTENANCE
        action = Permission.DEVICE_MAINTAIN if is_maintenance else Permission.DEVICE_COMMAND
        await self._guard.admit(viewer, action, device_id, order.command.value)
        if self._upgrades is None or order.command is not Command.UPGRADE:
            return Ordered(await self._talk.command(device_id, lambda sn: _numbered(control, sn)), session_id)
        begun = (viewer.subject, device_id, session_id, order.firmware, order.manufacturer)
        await self._upgrades.begin(*begun)
        try:
            reply = await self._talk.command(device_id, lambda sn: _numbered(control, sn))
        except TongshiError as error:
            if not error.details.get("isTaken"):
                await self._upgrades.failed(device_id, session_id, error.message)
            raise
        if reply.is_done is False:
            await self._upgrades.failed(device_id, session_id, "设备拒绝了升级命令")
        return Ordered(reply, session_id)

    async def configure(self, viewer: Viewer, device_id: DeviceId, wish: Configuration) -> Settled:
        """Set configurations and read back what the device has now (quirks 63 and 66)."""
        names = types_of(wish)
        if not names:
            raise InvalidRequest("没有要设置的内容", field="settings")
        if not READ_ONLY.isdisjoint(names):
            raise Unprocessable("VideoParamOpt 只能查询，不能设置", code=42203, field="videoParamOpt")
        if SNAPSHOT in names:
            raise Unprocessable("图像抓拍请使用抓拍接口", code=42203, field="snapShotConfig")
        check(wish)
        await self._guard.admit(viewer, Permission.DEVICE_CONFIG, device_id, "configure")
        reply = await self._talk.configure(device_id, wish)
        try:
            told = (await self._talk.configuration(device_id, names)).settings
        except TongshiError as error:
            return Settled(reply, None, names, error.message)
        return Settled(reply, told, _differing(wish, told, names))

    async def _may_ask(self, viewer: Viewer, device_id: DeviceId) -> None:
        await self._guard.admit(viewer, Permission.STATUS_READ, device_id, "ask")


def control_of(order: Order, device_id: str, session_id: str) -> DeviceControl:
    """The message of a command, its SN still 0.

    Raises:
        InvalidRequest: something that belongs to the command is missing or out of range.
    """
    command = order.command
    if command in (Command.RECORD, Command.STOP_RECORD):
        record = RecordCommand.START if command is Command.RECORD else RecordCommand.STOP
        return DeviceControl(0, device_id, record_cmd=record, stream_number=order.stream_number or 0)
    if command in (Command.GUARD, Command.UNGUARD):
        guard = GuardCommand.SET if command is Command.GUARD else GuardCommand.RESET
        return DeviceControl(0, device_id, guard_cmd=guard)
    if command is Command.RESET_ALARM:
        return DeviceControl(
            0,
            device_id,
            reset_alarm=True,
            alarm_methods=order.alarm_methods,
            alarm_type=order.alarm_type,
        )
    if command is Command.KEY_FRAME:
        return DeviceControl(0, device_id, iframe=True)
    if command is Command.REBOOT:
        return DeviceControl(0, device_id, tele_boot=True)
    if command is Command.FORMAT_CARD:
        if order.card is None:
            raise InvalidRequest("需要给出存储卡编号，0 表示全部", field="card")
        return DeviceControl(0, device_id, format_card=order.card)
    if command is Command.UPGRADE:
        upgrade = UpgradeOrder(
            firmware=order.firmware,
            file_url=order.file_url,
            manufacturer=order.manufacturer,
            session_id=session_id,
        )
        return DeviceControl(0, device_id, upgrade=check(upgrade))
    return _tracking(order, device_id)


def _tracking(order: Order, device_id: str) -> DeviceControl:
    if order.track is None:
        raise InvalidRequest("需要给出跟踪方式", field="track")
    if order.track is TrackCommand.MANUAL and order.area is None:
        raise InvalidRequest("手动跟踪需要给出目标区域", field="area")
    area = None if order.area is None else check(order.area)
    return DeviceControl(0, device_id, track=order.track, panorama_id=order.panorama_id, target_area=area)


def _numbered(control: DeviceControl, sn: int) -> DeviceControl:
    return replace(control, sn=sn)


def _differing(wish: Configuration, told: Configuration, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names whose wish is not what the device has; fields that the wish left open are not compared."""
    return tuple(name for name in names if not _holds(only(wish, name), only(told, name)))


def _holds(wish: object, told: object) -> bool:
    fields = getattr(wish, "__struct_fields__", None)
    if fields is None or type(wish) is not type(told):
        return wish == told
    wanted = ((getattr(wish, name), getattr(told, name)) for name in fields)
    return all(want is None or want == () or _holds(want, have) for want, have in wanted)
