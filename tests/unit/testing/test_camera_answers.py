"""What a simulated device answers and does, without any socket."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.control import DeviceControl, GuardCommand, RecordCommand
from tongshi.protocols.gb28181.front_end import Instruction
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import (
    CatalogResponse,
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.testing.answers import Device
from tongshi.testing.shanghai import make_item

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CAMERA, NVR = "31010100001320000001", "31010100001180000001"
PLATFORM = "31010100002000000001"


def device(channels: int = 0) -> Device:
    rng = random.Random(1)
    code = NVR if channels else CAMERA
    item = make_item(code, 0, civil_code="310101", parent_id=PLATFORM, rng=rng)
    below = [
        make_item(f"31010100001320{n:06d}", n, civil_code="310101", parent_id=NVR, rng=rng)
        for n in range(1, channels + 1)
    ]
    return Device.of(item, below)


def test_a_camera_lists_itself_and_nothing_else() -> None:
    one = device()
    (answer,) = one.answer(CatalogQuery(7, CAMERA), AT, is_tcp=False)
    assert isinstance(answer, CatalogResponse)
    assert (answer.sn, answer.sum_num, answer.items) == (7, 1, (one.item,))


def test_the_item_survives_the_wire_with_every_field() -> None:
    one = device()
    (answer,) = one.answer(CatalogQuery(7, CAMERA), AT, is_tcp=False)
    read = decode(answer.render())
    assert isinstance(read, CatalogResponse)
    assert read.items == (one.item,)


def test_an_nvr_lists_itself_first_and_its_channels_in_several_datagrams() -> None:
    nvr = device(channels=20)
    answers = nvr.answer(CatalogQuery(8, NVR), AT, is_tcp=False)
    items = [item for answer in answers if isinstance(answer, CatalogResponse) for item in answer.items]
    assert len(answers) > 5
    assert items[0] is nvr.item
    assert len({item.device_id for item in items}) == 21
    assert {answer.sum_num for answer in answers if isinstance(answer, CatalogResponse)} == {21}


def test_over_tcp_the_same_list_needs_one_message() -> None:
    assert len(device(channels=20).answer(CatalogQuery(8, NVR), AT, is_tcp=True)) == 1


def test_device_info_counts_channels() -> None:
    (answer,) = device(channels=3).answer(DeviceInfoQuery(1, NVR), AT, is_tcp=False)
    assert isinstance(answer, DeviceInfoResponse)
    assert answer.channel == 3
    assert answer.result_ok


def test_device_status_tells_beijing_time_and_whether_it_records() -> None:
    one = device()
    assert one.answer(DeviceControl(1, CAMERA, record_cmd=RecordCommand.START), AT, is_tcp=False) == [
        DeviceControlResponse(1, CAMERA, True)
    ]
    (answer,) = one.answer(DeviceStatusQuery(2, CAMERA), AT, is_tcp=False)
    assert isinstance(answer, DeviceStatusResponse)
    assert (answer.online, answer.record, answer.device_time) == (True, "ON", "2026-01-02T11:04:05")


def test_movement_is_not_answered_and_arming_an_unknown_channel_is_an_error() -> None:
    one = device()
    assert one.answer(DeviceControl(1, CAMERA, ptz_cmd="A50F0000000000B4"), AT, is_tcp=False) == []
    (answer,) = one.answer(DeviceControl(1, NVR, guard_cmd=GuardCommand.SET), AT, is_tcp=False)
    assert isinstance(answer, DeviceControlResponse)
    assert not answer.result_ok


def test_queries_for_others_are_not_answered() -> None:
    assert device().answer(CatalogQuery(1, NVR), AT, is_tcp=False) == []


def turn(one: Device, instruction: Instruction, now: float) -> None:
    one.control(DeviceControl(1, CAMERA, ptz_cmd=instruction.encode()), now)


def test_an_instruction_moves_until_the_stop() -> None:
    one = device()
    turn(one, front_end.ptz(pan=1, tilt=1, pan_speed=255, tilt_speed=128), 10.0)
    turn(one, front_end.stop(), 10.5)
    view = one.channels[CAMERA].head.view(99.0)
    assert round(view.pan, 1) == 60.0
    assert round(view.tilt, 1) == 15.1
    assert len(one.channels[CAMERA].instructions) == 2


def test_speed_of_an_axis_whose_bit_is_clear_moves_nothing() -> None:
    one = device()
    turn(one, Instruction(0x01, data1=100, data2=255, data3=15), 0.0)
    view = one.channels[CAMERA].head.view(1.0)
    assert (view.tilt, view.zoom) == (0.0, 1.0)


def test_a_preset_is_set_called_and_deleted() -> None:
    one = device()
    turn(one, front_end.preset("set", 5), 0.0)
    turn(one, front_end.ptz(zoom=1, zoom_speed=15), 1.0)
    turn(one, front_end.preset("call", 5), 2.0)
    assert one.channels[CAMERA].head.view(9.0).zoom == 1.0
    turn(one, front_end.preset("delete", 5), 10.0)
    assert one.channels[CAMERA].head.presets == {}


def test_a_broken_instruction_changes_nothing() -> None:
    one = device()
    one.control(DeviceControl(1, CAMERA, ptz_cmd="A50F0101600000FF"), 0.0)
    assert one.channels[CAMERA].head.view(5.0).pan == 0.0
    assert not one.channels[CAMERA].instructions
