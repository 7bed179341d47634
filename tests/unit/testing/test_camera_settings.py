"""What a simulated device is set to: every command has an effect that a query or the picture shows."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.configuration import (
    BasicParam,
    Configuration,
    OsdConfig,
    OsdText,
    VideoParamOpt,
    types_of,
)
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl, RecordCommand, TrackCommand
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition, PreciseView
from tongshi.protocols.gb28181.device_query import (
    ConfigDownloadQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    HomePositionQuery,
    PresetQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
)
from tongshi.protocols.gb28181.device_response import (
    CardState,
    ConfigDownloadResponse,
    CruisePoint,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    DeviceConfigResponse,
    HomePositionResponse,
    PresetResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.response import DeviceControlResponse
from tongshi.testing.answers import Device
from tongshi.testing.installation import CARD_MB, FORMAT_S
from tongshi.testing.pan_tilt import PRESET_TRAVEL_S, TILT_MAX
from tongshi.testing.shanghai import make_item

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CODE, PLATFORM = "31010100001320000001", "31010100002000000001"
A = TypeVar("A", bound=BaseMessage)
WINDOW = {"length": 640, "width": 360}


@pytest.fixture
def camera() -> Device:
    return Device.of(make_item(CODE, 0, civil_code="310101", parent_id=PLATFORM, rng=random.Random(1)), [])


def ask(camera: Device, query: BaseMessage, kind: type[A], now: float = 0.0) -> list[A]:
    """Answers as they come out of the wire."""
    answers = [decode(answer.render()) for answer in camera.answer(query, AT, is_tcp=False, now=now)]
    assert all(isinstance(answer, kind) for answer in answers)
    return answers  # type: ignore[return-value]  # checked above


def turn(camera: Device, instruction: front_end.Instruction, now: float = 0.0, name: str = "") -> None:
    camera.control(DeviceControl(1, CODE, ptz_cmd=instruction.encode(), preset_name=name), now)


def order(camera: Device, control: DeviceControl, now: float = 0.0) -> list[BaseMessage]:
    """As the camera does with what it hears: obey, then answer."""
    camera.control(control, now)
    return camera.answer(control, AT, is_tcp=False, now=now)


def position(camera: Device, now: float) -> PTZPositionResponse:
    return ask(camera, PTZPositionQuery(sn=1, device_id=CODE), PTZPositionResponse, now)[0]


def settings(camera: Device, *names: str) -> list[ConfigDownloadResponse]:
    query = ConfigDownloadQuery(sn=9, device_id=CODE, config_types=names)
    return ask(camera, query, ConfigDownloadResponse)


def test_presets_that_were_set_are_listed_and_called(camera: Device) -> None:
    query = PresetQuery(sn=3, device_id=CODE)
    assert ask(camera, query, PresetResponse)[0].sum_num == 0
    assert b'<PresetList Num="0">' in camera.answer(query, AT, is_tcp=False)[0].render()
    camera.head.go(camera.head.view(0.0).__class__(pan=90.0), 0.0)
    turn(camera, front_end.preset("set", 7), now=2.0, name="东门")
    (answer,) = ask(camera, query, PresetResponse)
    assert [(p.preset_id, p.name) for p in answer.presets] == [("7", "东门")]
    turn(camera, front_end.ptz(pan=-1, pan_speed=255), now=2.0)
    assert position(camera, 3.0).pan == pytest.approx(330.0)
    turn(camera, front_end.preset("call", 7), now=3.0)
    assert position(camera, 3.0 + PRESET_TRAVEL_S).pan == pytest.approx(90.0)


def test_a_head_goes_home_when_nobody_controls_it(camera: Device) -> None:
    turn(camera, front_end.preset("set", 5))
    home = HomePosition(enabled=True, reset_time=10, preset_index=5)
    (answer,) = order(camera, DeviceControl(4, CODE, home_position=home))
    assert isinstance(answer, DeviceControlResponse)
    assert answer.result_ok
    told = ask(camera, HomePositionQuery(sn=1, device_id=CODE), HomePositionResponse)[0]
    assert told.home_position == home
    order(camera, DeviceControl(1, CODE, precise_view=PreciseView(pan=100.0)), 20.0)
    assert position(camera, 25.0).pan == pytest.approx(100.0)
    assert position(camera, 31.0).pan == pytest.approx(0.0)


def test_a_home_without_its_preset_is_refused(camera: Device) -> None:
    home = HomePosition(enabled=True, reset_time=10, preset_index=200)
    (answer,) = order(camera, DeviceControl(4, CODE, home_position=home))
    assert isinstance(answer, DeviceControlResponse)
    assert not answer.result_ok


def test_a_cruise_is_built_told_run_and_stopped(camera: Device) -> None:
    for number, pan in ((1, 0.0), (2, 90.0)):
        camera.head.go(camera.head.view(0.0).__class__(pan=pan), 0.0)
        turn(camera, front_end.preset("set", number), now=5.0)
    build = (
        front_end.add_cruise_point(0, 1),
        front_end.add_cruise_point(0, 2),
        front_end.cruise_dwell(0, 300),
        front_end.cruise_speed(0, 9),
    )
    for instruction in build:
        turn(camera, instruction, now=5.0)
    (tracks,) = ask(camera, CruiseTrackListQuery(sn=1, device_id=CODE), CruiseTrackListResponse)
    assert [track.number for track in tracks.tracks] == [0]
    (track,) = ask(camera, CruiseTrackQuery(sn=1, device_id=CODE, number=0), CruiseTrackResponse)
    assert track.points == tuple(CruisePoint(preset_index=n, stay_time=300, speed=9) for n in (1, 2))
    turn(camera, front_end.start_cruise(0), now=10.0)
    assert position(camera, 12.0).pan == pytest.approx(0.0)
    assert position(camera, 10.0 + 2 * PRESET_TRAVEL_S + 301.0).pan == pytest.approx(90.0)
    turn(camera, front_end.stop(), now=400.0)
    assert position(camera, 2000.0).pan == pytest.approx(90.0)
    turn(camera, front_end.delete_cruise_point(0, 0))
    (tracks,) = ask(camera, CruiseTrackListQuery(sn=1, device_id=CODE), CruiseTrackListResponse)
    assert tracks.sum_num == 0


def test_a_scan_swings_between_its_limits_until_it_is_stopped(camera: Device) -> None:
    for step, pan in (("left", 20.0), ("right", 70.0)):
        camera.head.go(camera.head.view(0.0).__class__(pan=pan), 0.0)
        turn(camera, front_end.scan(1, step), now=5.0)  # type: ignore[arg-type]  # of the two words
    turn(camera, front_end.scan(1), now=10.0)
    seen = {round(position(camera, 10.0 + PRESET_TRAVEL_S * n).pan or 0.0) for n in range(1, 7)}
    assert seen == {20, 70}
    turn(camera, front_end.stop(), now=10.0 + PRESET_TRAVEL_S)
    assert position(camera, 50.0).pan == pytest.approx(70.0)


def test_precise_control_beyond_the_limit_goes_to_the_limit(camera: Device) -> None:
    wanted = PreciseView(pan=45.0, tilt=-90.0, zoom=99.0)  # up
    assert order(camera, DeviceControl(1, CODE, precise_view=wanted)) == []
    seen = position(camera, 5.0)
    assert (seen.pan, seen.tilt, seen.zoom) == (45.0, -TILT_MAX, 8.0)


def test_a_box_is_blown_up_to_the_window_and_back(camera: Device) -> None:
    box = DragBox(**WINDOW, mid_point_x=480, mid_point_y=180, length_x=160, length_y=90)
    assert order(camera, DeviceControl(1, CODE, drag_zoom_in=box)) == []
    seen = position(camera, 5.0)
    assert (seen.pan, seen.zoom) == (15.0, 4.0)
    centre = DragBox(**WINDOW, mid_point_x=320, mid_point_y=180, length_x=160, length_y=90)
    order(camera, DeviceControl(1, CODE, drag_zoom_out=centre), 5.0)
    assert position(camera, 10.0).zoom == 1.0


@pytest.mark.parametrize(("wanted", "formatted"), [(0, {1, 2}), (2, {2}), (9, set())])
def test_cards_are_formatted_one_or_all(camera: Device, wanted: int, formatted: set[int]) -> None:
    assert order(camera, DeviceControl(1, CODE, format_card=wanted), 100.0) == []

    def cards(now: float) -> dict[int, tuple[CardState, int | None]]:
        query = SDCardStatusQuery(sn=1, device_id=CODE)
        (answer,) = ask(camera, query, SDCardStatusResponse, now)
        return {card.number: (card.state, card.free_space) for card in answer.cards}

    assert {n for n, (state, _) in cards(101.0).items() if state is CardState.FORMATTING} == formatted
    after = cards(100.0 + FORMAT_S)
    assert {n for n, (_, free) in after.items() if free == CARD_MB} == formatted
    assert {state for state, _ in after.values()} == {CardState.OK}


def test_manual_tracking_looks_where_its_area_is_in_the_panorama(camera: Device) -> None:
    area = DragBox(length=1920, width=540, mid_point_x=960, mid_point_y=300, length_x=80, length_y=160)
    manual = DeviceControl(1, CODE, track=TrackCommand.MANUAL)
    order(camera, manual)
    assert position(camera, 5.0).pan == 0.0
    assert order(camera, DeviceControl(1, CODE, track=TrackCommand.MANUAL, target_area=area)) == []
    assert position(camera, 5.0).pan == pytest.approx(180.0)
    assert camera.installation.tracking is TrackCommand.MANUAL


def test_a_recording_without_a_stream_number_is_stream_0(camera: Device) -> None:
    control = decode(DeviceControl(1, CODE, record_cmd=RecordCommand.START).render())
    assert isinstance(control, DeviceControl)
    (answer,) = order(camera, control)
    assert isinstance(answer, DeviceControlResponse)
    assert camera.channels[CODE].recorded_streams == {0}


def test_a_configuration_is_applied_and_read_back(camera: Device) -> None:
    name = BasicParam(name="东门球机", heart_beat_interval=20)
    osd = OsdConfig(
        length=640, width=360, time_x=1, time_y=1, count=1, lines=(OsdText(text="东门", x=5, y=5),)
    )
    wanted = Configuration(basic_param=name, osd_config=osd)
    (answer,) = ask(camera, DeviceConfig(5, CODE, wanted), DeviceConfigResponse)
    assert answer.result_ok
    assert camera.item.name == "东门球机"
    told = settings(camera, "BasicParam", "OSDConfig")
    assert [types_of(part.settings) for part in told] == [("BasicParam",), ("OSDConfig",)]
    basic = told[0].settings.basic_param
    assert basic is not None
    assert (basic.name, basic.heart_beat_interval, basic.expiration) == ("东门球机", 20, 3600)
    assert told[1].settings.osd_config == osd


def test_what_can_only_be_read_is_not_taken(camera: Device) -> None:
    options = Configuration(video_param_opt=VideoParamOpt(resolutions=("6",)))
    (answer,) = ask(camera, DeviceConfig(5, CODE, options), DeviceConfigResponse)
    assert not answer.result_ok
    assert settings(camera, "VideoParamOpt")[0].settings.video_param_opt != options.video_param_opt


def test_a_configuration_that_is_not_there_is_an_error(camera: Device) -> None:
    (answer,) = settings(camera, "SVACEncodeConfig")
    assert not answer.result_ok
