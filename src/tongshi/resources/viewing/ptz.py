"""Turning a camera: named commands become front-end instructions, and every start has its end.

Implements: DB31DSJ/Z 001-2024 Table E.2
Implements: GB/T 28181-2022 A.3
The decision is taken and recorded before a command leaves. A movement that is started stops by itself,
whether or not the person's browser lives to send the stop: the stop belongs to the device and replaces the
one before.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import structlog

from tongshi.errors import InvalidRequest, LimitExceeded, RemoteViolation, TongshiError
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.front_end import Action, Instruction, parse_instruction
from tongshi.resources.viewing.ports import ControlReply, Guard, Signalling, Viewer
from tongshi.sharing.permissions import Permission

log = structlog.get_logger(__name__)

DEFAULT_AUTO_STOP_MS = 5_000
MAX_AUTO_STOP_MS = 10_000
MAX_MOVING = 10_000  # devices that wait for their automatic stop

Sign = Literal[-1, 0, 1]


class Command(StrEnum):
    """The commands of this first form; names are the REST face's."""

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
_WIPER = 1  # the auxiliary switch that is the wiper (A.3.7)


@dataclass(frozen=True, slots=True)
class Turn:
    """One command of a person. ``speed`` is 1-100; ``index`` a preset, cruise, scan or switch number."""

    device_id: DeviceId
    command: Command
    is_start: bool = True
    speed: int = 50
    index: int | None = None
    preset_name: str = ""
    auto_stop_ms: int = DEFAULT_AUTO_STOP_MS


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
    if command in (Command.WIPER_ON, Command.WIPER_OFF):
        return front_end.auxiliary(_WIPER, is_on=command is Command.WIPER_ON)
    return front_end.auxiliary(_number(turn), is_on=command is Command.AUX_ON)


class PtzControl:
    """Decides, sends, and stops what it started."""

    def __init__(self, signalling: Signalling, guard: Guard) -> None:
        self._signalling = signalling
        self._guard = guard
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
            PeerTimeout, PeerFailed, Unavailable: see ``Signalling.control``.
        """
        wanted = instruction(turn)
        await self._guard.admit(viewer, Permission.PTZ_CONTROL, turn.device_id, "ptz")
        return await self._send(turn.device_id, wanted, turn.preset_name, turn.auto_stop_ms)

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
        return await self._send(device_id, wanted, preset_name, MAX_AUTO_STOP_MS)

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
        pending = self._stops.pop(device_id, None)
        if pending is not None:
            pending.cancel()
        if _moves(wanted):
            if len(self._stops) >= MAX_MOVING:
                raise LimitExceeded("正在控制的设备过多", retry_after_s=5)
            ending = front_end.stop_fi() if wanted.action is Action.LENS else front_end.stop()
            # Armed before the command leaves: a lost answer does not mean that the camera stands still.
            self._stops[device_id] = asyncio.get_running_loop().call_later(
                min(auto_stop_ms, MAX_AUTO_STOP_MS) / 1000, self._auto_stop, device_id, ending
            )
        return await self._signalling.control(device_id, wanted.encode(), preset_name)

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
