"""The eight bytes of a front-end instruction."""

from __future__ import annotations

import pytest

from tongshi.errors import InvalidRequest, RemoteViolation
from tongshi.protocols.gb28181 import front_end as fe
from tongshi.protocols.gb28181.front_end import Action, Instruction, parse_instruction

VECTORS: list[tuple[Instruction, str, str]] = [
    (fe.stop(), "A50F0000000000B4", "A50F0100000000B5"),
    (fe.ptz(pan=1, pan_speed=0x60), "A50F000160000015", "A50F010160000016"),
    (fe.ptz(pan=-1, pan_speed=0x60), "A50F000260000016", "A50F010260000017"),
    (fe.ptz(tilt=-1, tilt_speed=0x40), "A50F0004004000F8", "A50F0104004000F9"),
    (fe.ptz(tilt=1, tilt_speed=0x40), "A50F0008004000FC", "A50F0108004000FD"),
    (fe.ptz(pan=1, tilt=1, pan_speed=0x60, tilt_speed=0x40), "A50F00096040005D", "A50F01096040005E"),
    (fe.ptz(zoom=1, zoom_speed=8), "A50F001000008044", "A50F011000008045"),
    (fe.ptz(zoom=-1, zoom_speed=8), "A50F002000008054", "A50F012000008055"),
    (
        fe.ptz(pan=1, tilt=1, zoom=-1, pan_speed=0x60, tilt_speed=0x40, zoom_speed=5),
        "A50F0029604050CD",
        "A50F0129604050CE",
    ),
    (fe.stop_fi(), "A50F0040000000F4", "A50F0140000000F5"),
    (fe.fi(focus=1, focus_speed=0x30), "A50F004130000025", "A50F014130000026"),
    (fe.fi(focus=-1, focus_speed=0x30), "A50F004230000026", "A50F014230000027"),
    (fe.fi(iris=1, iris_speed=0x30), "A50F004400300028", "A50F014400300029"),
    (fe.fi(iris=-1, iris_speed=0x30), "A50F00480030002C", "A50F01480030002D"),
    (
        fe.fi(focus=1, iris=-1, focus_speed=0x30, iris_speed=0x30),
        "A50F00493030005D",
        "A50F01493030005E",
    ),
    (fe.preset("set", 5), "A50F00810005003A", "A50F01810005003B"),
    (fe.preset("call", 5), "A50F00820005003B", "A50F01820005003C"),
    (fe.preset("delete", 5), "A50F00830005003C", "A50F01830005003D"),
    (fe.add_cruise_point(1, 3), "A50F00840103003C", "A50F01840103003D"),
    (fe.delete_cruise_point(1, 3), "A50F00850103003D", "A50F01850103003E"),
    (fe.delete_cruise_point(1), "A50F00850100003A", "A50F01850100003B"),
    (fe.cruise_speed(1, 0x123), "A50F00860123106E", "A50F01860123106F"),
    (fe.cruise_dwell(1, 300), "A50F0087012C1078", "A50F0187012C1079"),
    (fe.start_cruise(1), "A50F00880100003D", "A50F01880100003E"),
    (fe.scan(1), "A50F00890100003E", "A50F01890100003F"),
    (fe.scan(1, "left"), "A50F00890101003F", "A50F018901010040"),
    (fe.scan(1, "right"), "A50F008901020040", "A50F018901020041"),
    (fe.scan_speed(1, 0x64), "A50F008A016400A3", "A50F018A016400A4"),
    (fe.auxiliary(1, is_on=True), "A50F008C01000041", "A50F018C01000042"),
    (fe.auxiliary(1, is_on=False), "A50F008D01000042", "A50F018D01000043"),
]


@pytest.mark.parametrize(("instruction", "address_00", "address_01"), VECTORS)
def test_a_worked_example_is_encoded_and_read_back(
    instruction: Instruction, address_00: str, address_01: str
) -> None:
    assert instruction.encode() == address_00
    assert parse_instruction(address_00) == instruction
    read = parse_instruction(address_01)
    assert (read.address, read.encode()) == (1, address_01)
    assert (read.code, read.data1, read.data2, read.data3) == (
        instruction.code,
        instruction.data1,
        instruction.data2,
        instruction.data3,
    )


def test_a_captured_instruction_is_read() -> None:
    read = parse_instruction("A50F01029600004D")
    assert (read.action, read.data1, read.address) == (Action.MOVE, 0x96, 1)


def test_lower_case_and_blanks_are_read() -> None:
    assert parse_instruction("a5 0f 00 08 00 40 00 fc") == fe.ptz(tilt=1, tilt_speed=0x40)


def test_actions_follow_byte_four() -> None:
    assert fe.stop().is_stop
    assert fe.stop_fi().is_stop
    assert fe.fi(iris=1).action is Action.LENS
    assert fe.preset("call", 1).action is Action.CALL_PRESET
    assert not fe.preset("call", 1).is_stop


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("A50F00000000B4", "short"),
        ("A50F0000000000B400", "long"),
        ("A50F0000000000B5", "checksum"),
        ("A40F0000000000B3", "first byte"),
        ("A50E0000000000B3", "check nibble"),
        ("A50F0003000000B7", "left and right"),
        ("A50F00430000000F7", "near and far, odd length"),
        ("A50F0043000000F7", "near and far"),
        ("A50F00FF000000B3", "unknown code"),
        ("A5 0F 00 00 00 00 00 Bß", "no hex"),
    ],
)
def test_a_wrong_instruction_is_refused(text: str, what: str) -> None:
    with pytest.raises(RemoteViolation):
        parse_instruction(text)


def test_a_value_outside_its_range_names_its_field() -> None:
    with pytest.raises(InvalidRequest) as caught:
        fe.preset("set", 0)
    assert caught.value.field == "preset"
    with pytest.raises(InvalidRequest):
        fe.ptz(zoom=1, zoom_speed=16)
    with pytest.raises(InvalidRequest):
        fe.cruise_dwell(1, 4096)
