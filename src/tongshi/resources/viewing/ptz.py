"""Turning a camera: named commands become front-end instructions, and every start has its end.

Implements: DB31DSJ/Z 001-2024 Table E.2
Implements: GB/T 28181-2022 A.3
The decision is taken and recorded before a command leaves. A movement that is started stops by itself,
whether or not the person's browser lives to send the stop: the stop belongs to the device and replaces the
one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

import structlog
from msgspec.structs import replace

from tongshi.errors import InvalidRequest, LimitExceeded, RemoteViolation, TongshiError, Unprocessable
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition, PreciseView
from tongshi.protocols.gb28181.front_end import Action, Instruction, parse_instruction
from tongshi.protocols.gb28181.shape import check
from tongshi.resources.control.ports import CommandReply
from tongshi.resources.viewing.ports import ControlReply, Guard, Signalling, Viewer
from tongshi.sharing.model import Subject
from tongshi.sharing.permissions import Permission

log = structlog.get_logger(__name__)

DEFAULT_AUTO_STOP_MS = 5_000
MAX_AUTO_STOP_MS = 10_000
MAX_MOVING = 10_000  # devices that wait for their automatic stop

Sign = Literal[-1, 0, 1]


class Command(StrEnum):
    """The commands of row E.2-6, and those that build cruises and scans; names are the REST face's."""

    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    UP_LEFT = "upLeft"
    UP_RIGHT = "upRight"
    DOWN_LEFT = "downLeft"
    DOWN_RIGHT = "downRight"
    ZOOM_IN = "zoomIn"
    ZOOM_OUT = "zoomOut"
    FOCUS_NEAR = "focusNear"
    FOCUS_FAR = "focusFar"
    IRIS_OPEN = "irisOpen"
    IRIS_CLOSE = "irisClose"
    STOP = "stop"
    PRESET_SET = "presetSet"
    PRESET_CALL = "presetCall"
    PRESET_DEL = "presetDel"
    CRUISE_START = "cruiseStart"
    CRUISE_STOP = "cruiseStop"
    SCAN_START = "scanStart"
    SCAN_STOP = "scanStop"
    WIPER_ON = "wiperOn"
    WIPER_OFF = "wiperOff"
    AUX_ON = "auxOn"
    AUX_OFF = "auxOff"
    CRUISE_ADD = "cruiseAdd"
    CRUISE_DEL = "cruiseDel"
    CRUISE_SPEED = "cruiseSpeed"
    CRUISE_DWELL = "cruiseDwell"
    SCAN_LEFT = "scanLeft"
    SCAN_RIGHT = "scanRight"
    SCAN_SPEED = "scanSpeed"
    HOME_ON = "homeOn"
    HOME_OFF = "homeOff"
    DRAG_ZOOM_IN = "dragZoomIn"
    DRAG_ZOOM_OUT = "dragZoomOut"
    ABSOLUTE = "absolute"


_MOVES: dict[Command, tuple[Sign, Sign, Sign]] = {  # pan, tilt, zoom
    Command.LEFT: (-1, 0, 0),
    Command.RIGHT: (1, 0, 0),
    Command.UP: (0, 1, 0),
    Command.DOWN: (0, -1, 0),
    Command.UP_LEFT: (-1, 1, 0),
    Command.UP_RIGHT: (1, 1, 0),
    Command.DOWN_LEFT: (-1, -1, 0),
    Command.DOWN_RIGHT: (1, -1, 0),
    Command.ZOOM_IN: (0, 0, 1),
    Command.ZOOM_OUT: (0, 0, -1),
}
_LENS: dict[Command, tuple[Sign, Sign]] = {  # focus, iris
    Command.FOCUS_NEAR: (-1, 0),
    Command.FOCUS_FAR: (1, 0),
    Command.IRIS_OPEN: (0, 1),
    Command.IRIS_CLOSE: (0, -1),
}
_PRESETS: dict[Command, Literal["set", "call", "delete"]] = {
    Command.PRESET_SET: "set",
    Command.PRESET_CALL: "call",
    Command.PRESET_DEL: "delete",
}
_STOPS = frozenset({Command.STOP, Command.CRUISE_STOP, Command.SCAN_STOP})
# What is no front-end instruction but a command of its own (A.2.3.1.8 to A.2.3.1.11).
_OWN_ELEMENT = frozenset(
    {
        Command.HOME_ON,
        Command.HOME_OFF,
        Command.DRAG_ZOOM_IN,
        Command.DRAG_ZOOM_OUT,
        Command.ABSOLUTE,
    }
)
_WIPER = 1  # the auxiliary switch that is the wiper (A.3.7)


@dataclass(frozen=True, slots=True)
class Turn:
    """One command of a person. ``speed`` is 1-100; ``index`` a preset, cruise, scan or switch number.

    ``group`` is the cruise whose ``index`` is a preset, or the cruise or scan that gets ``value``: 12 bits of
    speed, or seconds of dwell. ``reset_s`` belongs to the home position; ``lock_id`` must still be held.
    """

    device_id: DeviceId
    command: Command
    is_start: bool = True
    speed: int = 50
    index: int | None = None
    preset_name: str = ""
    auto_stop_ms: int = DEFAULT_AUTO_STOP_MS
    group: int | None = None
    value: int | None = None
    box: DragBox | None = None
    view: PreciseView | None = None
    reset_s: int | None = None
    lock_id: str = ""


def instruction(turn: Turn) -> Instruction:
    """The eight bytes of a command. Speed 1-100 becomes 3-255 for pan, tilt and lens, 1-15 for zoom.

    Raises:
        InvalidRequest: a number is missing or out of range.
    """
    speed = max(1, round(turn.speed * 255 / 100))
    command = turn.command
    if command in _STOPS:
        return front_end.stop()
    if command in _MOVES:
        pan, tilt, zoom = _MOVES[command]
        return (
            front_end.stop()
            if not turn.is_start
            else front_end.ptz(
                pan=pan,
                tilt=tilt,
                zoom=zoom,
                pan_speed=speed if pan else 0,
                tilt_speed=speed if tilt else 0,
                zoom_speed=max(1, round(turn.speed * 15 / 100)) if zoom else 0,
            )
        )
    if command in _LENS:
        focus, iris = _LENS[command]
        return (
            front_end.stop_fi()
            if not turn.is_start
            else front_end.fi(
                focus=focus, iris=iris, focus_speed=speed if focus else 0, iris_speed=speed if iris else 0
            )
        )
    if command in _PRESETS:
        return front_end.preset(_PRESETS[command], _number(turn))
    if command is Command.CRUISE_START:
        return front_end.start_cruise(_number(turn))
    if command is Command.SCAN_START:
        return front_end.scan(_number(turn))
    if command in _BUILDING:
        return _BUILDING[command](turn)
    if command in (Command.WIPER_ON, Command.WIPER_OFF):
        return front_end.auxiliary(_WIPER, is_on=command is Command.WIPER_ON)
    return front_end.auxiliary(_number(turn), is_on=command is Command.AUX_ON)


def element(turn: Turn) -> DeviceControl:
    """The message of a command that is an element of its own; its SN still 0.

    Raises:
        InvalidRequest: what belongs to it is missing or out of range.
    """
    code, command = turn.device_id, turn.command
    if command is Command.ABSOLUTE:
        if turn.view is None or turn.view == PreciseView():
            raise InvalidRequest("需要给出 pan、tilt、zoom 中的至少一项", field="absolute")
        return DeviceControl(0, code, precise_view=check(turn.view))
    if command in (Command.DRAG_ZOOM_IN, Command.DRAG_ZOOM_OUT):
        if turn.box is None:
            raise InvalidRequest("需要给出框选范围", field="box")
        box = check(turn.box)
        is_in = command is Command.DRAG_ZOOM_IN
        return (
            DeviceControl(0, code, drag_zoom_in=box) if is_in else DeviceControl(0, code, drag_zoom_out=box)
        )
    is_on = command is Command.HOME_ON
    home = HomePosition(
        enabled=is_on,
        reset_time=turn.reset_s if is_on else None,
        preset_index=_number(turn) if is_on else None,
    )
    return DeviceControl(0, code, home_position=check(home))


class Locks(Protocol):
    """Who holds a head (``locks.PtzLocks``)."""

    async def check(self, subject: Subject, device_id: str, lock_id: str = "") -> None:
        """Raises Conflict: another holds it, or the named lock is over."""
        ...

    async def hold_for_platform(self, subject: Subject, device_id: str) -> None:
        """Raises Conflict: somebody of the same or a higher priority holds it."""
        ...


class Commands(Protocol):
    """Sends a command that is no front-end instruction (``control.ports.DeviceTalk``)."""

    async def command(self, device_id: str, make: Callable[[int], DeviceControl]) -> CommandReply: ...


class PtzControl:
    """Decides, sends, and stops what it started.

    Without ``locks`` nobody holds anything; without ``commands`` only front-end instructions are sent.
    """

    def __init__(
        self,
        signalling: Signalling,
        guard: Guard,
        locks: Locks | None = None,
        commands: Commands | None = None,
    ) -> None:
        self._signalling = signalling
        self._guard = guard
        self._locks = locks
        self._commands = commands
        self._stops: dict[DeviceId, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def moving(self) -> int:
        """Devices that wait for their automatic stop."""
        return len(self._stops)

    async def turn(self, viewer: Viewer, turn: Turn) -> ControlReply:
        """Carry out one command.

        Raises:
            InvalidRequest: a number out of range. NotFound, Forbidden: the access decision.
            Conflict: another holds the head (40903). PeerTimeout, PeerFailed, Unavailable: see
            ``Signalling.control``; Unprocessable: the device's edition does not know the command.
        """
        if turn.command in _OWN_ELEMENT:
            return await self._turn_by_element(viewer, turn)
        wanted = instruction(turn)
        await self._admit(viewer, turn)
        return await self._send(turn.device_id, wanted, turn.preset_name, turn.auto_stop_ms)

    async def _turn_by_element(self, viewer: Viewer, turn: Turn) -> ControlReply:
        control = element(turn)
        await self._admit(viewer, turn)
        if self._commands is None:
            raise Unprocessable("不支持所选的 command", code=42203, field="command")
        self._forget_stop(turn.device_id)  # the head goes to a place and stops there
        reply = await self._commands.command(turn.device_id, lambda sn: replace(control, sn=sn))
        return ControlReply(reply.delay_ms, reply.sip_status, reply.is_done)

    async def _admit(self, viewer: Viewer, turn: Turn) -> None:
        await self._guard.admit(viewer, Permission.PTZ_CONTROL, turn.device_id, "ptz")
        if self._locks is not None:
            await self._locks.check(viewer.subject, turn.device_id, turn.lock_id)

    async def relay(
        self, viewer: Viewer, device_id: DeviceId, ptz_cmd: str, preset_name: str = ""
    ) -> ControlReply:
        """Pass on a platform's command. It is checked, decided upon and stopped like a person's.

        Raises:
            RemoteViolation: no instruction. Otherwise as ``turn``.
        """
        wanted = parse_instruction(ptz_cmd)
        if wanted.action in _PRESET_ACTIONS and wanted.data2 == 0:
            raise RemoteViolation("preset 0 is reserved (A.3.4)")
        await self._guard.admit(viewer, Permission.PTZ_CONTROL, device_id, "cascade")
        await self.hold_for_platform(viewer, device_id)
        return await self._send(device_id, wanted, preset_name, MAX_AUTO_STOP_MS)

    async def hold_for_platform(self, viewer: Viewer, device_id: DeviceId) -> None:
        """A platform above turns a head. Raises Conflict: somebody of its priority or above holds it."""
        if self._locks is not None:
            await self._locks.hold_for_platform(viewer.subject, device_id)

    async def stop(self) -> None:
        """Stop what still moves."""
        for device_id, timer in list(self._stops.items()):
            timer.cancel()
            self._auto_stop(device_id, front_end.stop())
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(
        self, device_id: DeviceId, wanted: Instruction, preset_name: str, auto_stop_ms: int
    ) -> ControlReply:
        self._forget_stop(device_id)
        if _moves(wanted):
            if len(self._stops) >= MAX_MOVING:
                raise LimitExceeded("正在控制的设备过多", retry_after_s=5)
            ending = front_end.stop_fi() if wanted.action is Action.LENS else front_end.stop()
            # Armed before the command leaves: a lost answer does not mean that the camera stands still.
            self._stops[device_id] = asyncio.get_running_loop().call_later(
                min(auto_stop_ms, MAX_AUTO_STOP_MS) / 1000, self._auto_stop, device_id, ending
            )
        return await self._signalling.control(device_id, wanted.encode(), preset_name)

    def _forget_stop(self, device_id: DeviceId) -> None:
        pending = self._stops.pop(device_id, None)
        if pending is not None:
            pending.cancel()

    def _auto_stop(self, device_id: DeviceId, ending: Instruction) -> None:
        self._stops.pop(device_id, None)
        task = asyncio.get_running_loop().create_task(self._send_stop(device_id, ending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_stop(self, device_id: DeviceId, ending: Instruction) -> None:
        try:
            await self._signalling.control(device_id, ending.encode())
        except TongshiError as error:
            log.warning("ptz_stop_failed", device_id=device_id, code=error.code)


_PRESET_ACTIONS = frozenset({Action.SET_PRESET, Action.CALL_PRESET, Action.DELETE_PRESET})


def _moves(wanted: Instruction) -> bool:
    return wanted.action in (Action.MOVE, Action.LENS) and not wanted.is_stop


def _number(turn: Turn) -> int:
    if turn.index is None:
        raise InvalidRequest("需要给出编号", field="presetIndex")
    return turn.index


def _group(turn: Turn) -> int:
    if turn.group is None:
        raise InvalidRequest("需要给出巡航或扫描组号", field="group")
    return turn.group


def _value(turn: Turn) -> int:
    if turn.value is None:
        raise InvalidRequest("需要给出速度或停留时间", field="value")
    return turn.value


_BUILDING: dict[Command, Callable[[Turn], Instruction]] = {
    Command.CRUISE_ADD: lambda turn: front_end.add_cruise_point(_group(turn), _number(turn)),
    Command.CRUISE_DEL: lambda turn: front_end.delete_cruise_point(_group(turn), turn.index or 0),
    Command.CRUISE_SPEED: lambda turn: front_end.cruise_speed(_group(turn), _value(turn)),
    Command.CRUISE_DWELL: lambda turn: front_end.cruise_dwell(_group(turn), _value(turn)),
    Command.SCAN_LEFT: lambda turn: front_end.scan(_group(turn), "left"),
    Command.SCAN_RIGHT: lambda turn: front_end.scan(_group(turn), "right"),
    Command.SCAN_SPEED: lambda turn: front_end.scan_speed(_group(turn), _value(turn)),
}
