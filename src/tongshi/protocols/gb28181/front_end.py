"""Front-end control instructions: eight bytes sent as hex text in PTZCmd.

Implements: GB/T 28181-2022 A.3
Not here: the XML around it (control.py); who may send it (sharing/).

The address is not used by the standard's control: DeviceID selects the device. We send 0 and read any. Byte
4 selects the family: below 40H movement, 40H to 4FH lens, from 81H on numbered functions with their data in
bytes 5 to 7.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

import msgspec

from tongshi.errors import InvalidRequest, RemoteViolation

FIRST_BYTE: Final = 0xA5
_PAIRS: Final = (0b000011, 0b001100, 0b110000)
_HEX: Final = frozenset("0123456789abcdefABCDEF")


class Action(Enum):
    """What an instruction does, by byte 4."""

    MOVE = "move"
    LENS = "lens"
    SET_PRESET = 0x81
    CALL_PRESET = 0x82
    DELETE_PRESET = 0x83
    ADD_CRUISE_POINT = 0x84
    DELETE_CRUISE_POINT = 0x85
    SET_CRUISE_SPEED = 0x86
    SET_CRUISE_DWELL = 0x87
    START_CRUISE = 0x88
    SCAN = 0x89
    SET_SCAN_SPEED = 0x8A
    AUXILIARY_ON = 0x8C
    AUXILIARY_OFF = 0x8D


class Instruction(msgspec.Struct, frozen=True):
    """Byte 4 with its data: ``data1`` and ``data2`` are bytes 5 and 6, ``data3`` the high half of byte 7."""

    code: int
    data1: int = 0
    data2: int = 0
    data3: int = 0
    address: int = 0

    @property
    def action(self) -> Action:
        """What it does; a code outside the tables is refused when it is parsed, so that this never fails."""
        if self.code < 0x40:
            return Action.MOVE
        return Action.LENS if self.code < 0x50 else Action(self.code)

    @property
    def is_stop(self) -> bool:
        """Whether it only ends motion: PTZ stop (also ends cruise and scan) or lens stop."""
        return self.code in (0x00, 0x40)

    def encode(self) -> str:
        """The 16 hex digits of PTZCmd, upper case."""
        body = bytes(
            (
                FIRST_BYTE,
                0x0F,
                self.address & 0xFF,
                self.code,
                self.data1,
                self.data2,
                self.data3 << 4 | self.address >> 8,
            )
        )
        return (body + bytes((sum(body) % 256,))).hex().upper()


def parse_instruction(text: str) -> Instruction:
    """Decode one front-end control instruction.

    Args:
        text: 16 hex digits in either case, blanks between them allowed.

    Returns:
        The instruction. Address is 0-4095; speeds are raw steps, not degrees.

    Raises:
        RemoteViolation: wrong length, first byte not A5H, a check nibble or checksum (sum of bytes 1-7
        modulo 256)
            that does not fit, both directions of one axis at once, or a code outside the tables.
    """
    digits = "".join(text[:64].split())
    if len(digits) != 16 or not _HEX.issuperset(digits):
        raise RemoteViolation("PTZCmd is not 16 hex digits", field="PTZCmd")
    body = bytes.fromhex(digits)
    version = body[1] >> 4
    if body[0] != FIRST_BYTE or body[1] & 0x0F != (0xA + 0x5 + version) % 16:
        raise RemoteViolation("PTZCmd does not start with A5H and its check", field="PTZCmd")
    if sum(body[:7]) % 256 != body[7]:
        raise RemoteViolation("PTZCmd checksum differs", field="PTZCmd")
    _check_code(body[3])
    return Instruction(body[3], body[4], body[5], body[6] >> 4, (body[6] & 0x0F) << 8 | body[2])


def ptz(
    *,
    pan: Literal[-1, 0, 1] = 0,
    tilt: Literal[-1, 0, 1] = 0,
    zoom: Literal[-1, 0, 1] = 0,
    pan_speed: int = 0,
    tilt_speed: int = 0,
    zoom_speed: int = 0,
) -> Instruction:
    """Move: right, up and in are 1; left, down and out are -1; 0 stops that axis.

    Raises:
        InvalidRequest: a pan or tilt speed outside 0-255, or a zoom speed outside 0-15.
    """
    code = _direction(pan, 0b01, 0b10) | _direction(tilt, 0b1000, 0b0100) | _direction(zoom, 0x10, 0x20)
    return Instruction(
        code,
        _within(pan_speed, 255, "panSpeed"),
        _within(tilt_speed, 255, "tiltSpeed"),
        _within(zoom_speed, 15, "zoomSpeed"),
    )


def fi(
    *, focus: Literal[-1, 0, 1] = 0, iris: Literal[-1, 0, 1] = 0, focus_speed: int = 0, iris_speed: int = 0
) -> Instruction:
    """Focus and iris: far and open are 1; near and close are -1; 0 stops that motion."""
    code = 0x40 | _direction(focus, 0b0001, 0b0010) | _direction(iris, 0b0100, 0b1000)
    return Instruction(code, _within(focus_speed, 255, "focusSpeed"), _within(iris_speed, 255, "irisSpeed"))


def stop() -> Instruction:
    """End pan, tilt, zoom, cruise and scan."""
    return Instruction(0x00)


def stop_fi() -> Instruction:
    """End focus and iris motion."""
    return Instruction(0x40)


def preset(action: Literal["set", "call", "delete"], number: int) -> Instruction:
    """Set, call or delete preset 1-255."""
    code = {"set": 0x81, "call": 0x82, "delete": 0x83}[action]
    return Instruction(code, 0, _within(number, 255, "preset", low=1))


def add_cruise_point(group: int, number: int) -> Instruction:
    """Append preset 1-255 to a cruise group 0-255."""
    return Instruction(0x84, _within(group, 255, "group"), _within(number, 255, "preset", low=1))


def delete_cruise_point(group: int, number: int = 0) -> Instruction:
    """Take a preset out of a cruise group; 0 deletes the whole cruise."""
    return Instruction(0x85, _within(group, 255, "group"), _within(number, 255, "preset"))


def cruise_speed(group: int, speed: int) -> Instruction:
    """Speed of a cruise, 12 bits."""
    return _twelve_bits(0x86, group, speed, "speed")


def cruise_dwell(group: int, dwell_s: int) -> Instruction:
    """Seconds a cruise stays at each preset, 12 bits."""
    return _twelve_bits(0x87, group, dwell_s, "dwell")


def start_cruise(group: int) -> Instruction:
    """Start a cruise; stop() ends it."""
    return Instruction(0x88, _within(group, 255, "group"))


def scan(group: int, step: Literal["start", "left", "right"] = "start") -> Instruction:
    """Start an automatic scan, or set its left or right limit; stop() ends it."""
    return Instruction(0x89, _within(group, 255, "group"), {"start": 0, "left": 1, "right": 2}[step])


def scan_speed(group: int, speed: int) -> Instruction:
    """Speed of a scan, 12 bits."""
    return _twelve_bits(0x8A, group, speed, "speed")


def auxiliary(number: int, *, is_on: bool) -> Instruction:
    """Switch 0-255 on or off; switch 1 is the wiper."""
    return Instruction(0x8C if is_on else 0x8D, _within(number, 255, "auxiliary"))


def _check_code(code: int) -> None:
    if code < 0x50:
        bits = code & (0x3F if code < 0x40 else 0x0F)
        if any(bits & pair == pair for pair in _PAIRS):
            raise RemoteViolation("PTZCmd moves one axis both ways", field="PTZCmd")
    elif code not in _NUMBERED:
        raise RemoteViolation(f"unknown PTZCmd code {code:02X}H", field="PTZCmd")


_NUMBERED: Final = frozenset(action.value for action in Action if isinstance(action.value, int))


def _direction(sign: int, plus: int, minus: int) -> int:
    if sign not in (-1, 0, 1):
        raise InvalidRequest("方向只能是 -1、0、1", field="direction")
    return (0, plus, minus)[sign]


def _within(value: int, high: int, field: str, low: int = 0) -> int:
    if not low <= value <= high:
        raise InvalidRequest(f"{field} 应在 {low} 到 {high} 之间", field=field)
    return value


def _twelve_bits(code: int, group: int, value: int, field: str) -> Instruction:
    value = _within(value, 0xFFF, field)
    return Instruction(code, _within(group, 255, "group"), value & 0xFF, value >> 8)
