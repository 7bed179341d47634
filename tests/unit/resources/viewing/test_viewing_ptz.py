"""Named commands become the right bytes, and every movement gets its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tongshi.errors import Forbidden, InvalidRequest, PeerTimeout, RemoteViolation
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition, PreciseView
from tongshi.protocols.gb28181.front_end import parse_instruction
from tongshi.resources.control.ports import CommandReply
from tongshi.resources.viewing.ports import ControlReply, Viewer
from tongshi.resources.viewing.ptz import Command, PtzControl, Turn, instruction
from tongshi.sharing.model import Subject, SubjectKind

CODE = DeviceId("31010100001320000001")
VIEWER = Viewer(Subject(SubjectKind.USER, "1", "张三"), "127.0.0.1")


class Line:
    """Signalling that remembers the commands; ``is_silent`` makes it time out."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_silent = False
        self.heard = asyncio.Event()

    async def control(self, device_id: DeviceId, ptz_cmd: str, preset_name: str = "") -> ControlReply:
        self.sent.append(ptz_cmd)
        self.heard.set()
        if self.is_silent:
            raise PeerTimeout("silent")
        return ControlReply(1.0, 200)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not part of control")


class Guard:
    """Admits, or refuses when told to."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None

    async def admit(self, viewer: Viewer, action: object, device_id: DeviceId, purpose: str) -> str:
        if self.refusal is not None:
            raise self.refusal
        return "g-1"

    async def is_valid(self, grant: str) -> bool:
        return True


def turn(command: Command, **changes: Any) -> Turn:
    return Turn(CODE, command, **changes)


@pytest.mark.parametrize(
    ("command", "changes", "expected"),
    [
        (Command.RIGHT, {"speed": 100}, (0x01, 255, 0, 0)),
        (Command.LEFT, {"speed": 1}, (0x02, 3, 0, 0)),
        (Command.UP, {"speed": 50}, (0x08, 0, 128, 0)),
        (Command.DOWN_LEFT, {"speed": 50}, (0x06, 128, 128, 0)),
        (Command.ZOOM_IN, {"speed": 100}, (0x10, 0, 0, 15)),
        (Command.ZOOM_OUT, {"speed": 1}, (0x20, 0, 0, 1)),
        (Command.FOCUS_FAR, {"speed": 100}, (0x41, 255, 0, 0)),
        (Command.IRIS_CLOSE, {"speed": 100}, (0x48, 0, 255, 0)),
        (Command.RIGHT, {"is_start": False}, (0x00, 0, 0, 0)),
        (Command.FOCUS_NEAR, {"is_start": False}, (0x40, 0, 0, 0)),
        (Command.STOP, {}, (0x00, 0, 0, 0)),
        (Command.PRESET_SET, {"index": 5}, (0x81, 0, 5, 0)),
        (Command.PRESET_CALL, {"index": 255}, (0x82, 0, 255, 0)),
        (Command.WIPER_ON, {}, (0x8C, 1, 0, 0)),
        (Command.AUX_OFF, {"index": 3}, (0x8D, 3, 0, 0)),
        (Command.CRUISE_ADD, {"group": 1, "index": 3}, (0x84, 1, 3, 0)),
        (Command.CRUISE_DEL, {"group": 1}, (0x85, 1, 0, 0)),
        (Command.CRUISE_SPEED, {"group": 1, "value": 0x123}, (0x86, 1, 0x23, 1)),
        (Command.CRUISE_DWELL, {"group": 1, "value": 300}, (0x87, 1, 0x2C, 1)),
        (Command.SCAN_LEFT, {"group": 1}, (0x89, 1, 1, 0)),
        (Command.SCAN_RIGHT, {"group": 1}, (0x89, 1, 2, 0)),
        (Command.SCAN_SPEED, {"group": 1, "value": 0x64}, (0x8A, 1, 0x64, 0)),
    ],
)
def test_a_command_becomes_its_instruction(
    command: Command, changes: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    made = instruction(turn(command, **changes))
    assert (made.code, made.data1, made.data2, made.data3) == expected
    assert parse_instruction(made.encode()) == made


@pytest.mark.parametrize("command", [c for c in Command if c.value.startswith(("preset", "aux"))])
def test_a_numbered_command_without_its_number_is_refused(command: Command) -> None:
    with pytest.raises(InvalidRequest) as caught:
        instruction(turn(command))
    assert caught.value.field == "presetIndex"


async def test_a_start_is_followed_by_a_stop_even_when_its_answer_was_lost() -> None:
    line = Line()
    line.is_silent = True
    control = PtzControl(line, Guard())
    with pytest.raises(PeerTimeout):
        await control.turn(VIEWER, turn(Command.RIGHT, auto_stop_ms=10))
    line.heard.clear()
    await asyncio.wait_for(line.heard.wait(), 1)
    assert parse_instruction(line.sent[-1]).is_stop
    await control.stop()
    assert control.moving == 0


async def test_a_new_command_replaces_the_automatic_stop_of_the_one_before() -> None:
    line, guard = Line(), Guard()
    control = PtzControl(line, guard)
    await control.turn(VIEWER, turn(Command.RIGHT, auto_stop_ms=10_000))
    await control.turn(VIEWER, turn(Command.UP, auto_stop_ms=10_000))
    assert control.moving == 1
    await control.turn(VIEWER, turn(Command.STOP))
    assert control.moving == 0
    await control.stop()
    assert len(line.sent) == 3


async def test_stopping_the_platform_stops_what_moves() -> None:
    line = Line()
    control = PtzControl(line, Guard())
    await control.turn(VIEWER, turn(Command.FOCUS_FAR))
    await control.stop()
    assert [parse_instruction(text).code for text in line.sent] == [0x41, 0x00]


async def test_a_refused_person_moves_nothing() -> None:
    line, guard = Line(), Guard()
    guard.refusal = Forbidden("no", code=40303)
    control = PtzControl(line, guard)
    with pytest.raises(Forbidden):
        await control.turn(VIEWER, turn(Command.RIGHT))
    assert (line.sent, control.moving) == ([], 0)


async def test_a_relayed_command_is_checked_and_stopped_too() -> None:
    line = Line()
    control = PtzControl(line, Guard())
    with pytest.raises(RemoteViolation):
        await control.relay(VIEWER, CODE, "A50F01")
    await control.relay(VIEWER, CODE, "A50F010160000016")
    assert control.moving == 1
    await control.stop()


async def test_preset_0_of_a_platform_above_is_refused_before_it_is_decided() -> None:
    line, guard = Line(), Guard()
    guard.refusal = AssertionError("not asked")
    control = PtzControl(line, guard)
    with pytest.raises(RemoteViolation, match="preset 0"):
        await control.relay(VIEWER, CODE, "A50F008200000036")
    assert line.sent == []


class Elements:
    """Takes the commands that are no instructions."""

    def __init__(self) -> None:
        self.sent: list[DeviceControl] = []

    async def command(self, device_id: str, make: Callable[[int], DeviceControl]) -> CommandReply:
        self.sent.append(make(7))
        return CommandReply(1.0, 200, False)


BOX = DragBox(length=640, width=360, mid_point_x=320, mid_point_y=180, length_x=64, length_y=36)


@pytest.mark.parametrize(
    ("command", "changes", "expected"),
    [
        (Command.ABSOLUTE, {"view": PreciseView(pan=1.0)}, {"precise_view": PreciseView(pan=1.0)}),
        (Command.DRAG_ZOOM_IN, {"box": BOX}, {"drag_zoom_in": BOX}),
        (Command.DRAG_ZOOM_OUT, {"box": BOX}, {"drag_zoom_out": BOX}),
        (
            Command.HOME_ON,
            {"index": 5, "reset_s": 60},
            {"home_position": HomePosition(enabled=True, reset_time=60, preset_index=5)},
        ),
        (Command.HOME_OFF, {}, {"home_position": HomePosition(enabled=False)}),
    ],
)
async def test_other_commands_are_elements_of_their_own(
    command: Command, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    elements = Elements()
    control = PtzControl(Line(), Guard(), None, elements)
    reply = await control.turn(VIEWER, turn(command, **changes))
    assert elements.sent == [DeviceControl(7, CODE, **expected)]
    assert reply.is_done is False


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        (Command.ABSOLUTE, {"view": PreciseView()}),
        (Command.ABSOLUTE, {"view": PreciseView(pan=361.0)}),
        (Command.DRAG_ZOOM_IN, {}),
        (Command.HOME_ON, {}),
        (Command.HOME_ON, {"index": 256}),
        (Command.CRUISE_ADD, {"group": 1, "index": 0}),
        (Command.SCAN_SPEED, {"group": 1}),
        (Command.SCAN_SPEED, {"group": 1, "value": 4096}),
    ],
)
async def test_what_is_missing_or_out_of_range_is_refused_before_anything(
    command: Command, changes: dict[str, Any]
) -> None:
    line, elements = Line(), Elements()
    with pytest.raises(InvalidRequest):
        await PtzControl(line, Guard(), None, elements).turn(VIEWER, turn(command, **changes))
    assert not line.sent
    assert not elements.sent
