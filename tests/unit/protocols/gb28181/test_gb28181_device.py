"""Queries, commands and configurations of a device: the golden bodies of four editions, and their bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest, RemoteViolation
from tongshi.protocols.gb28181.codec import KnownMessage, decode
from tongshi.protocols.gb28181.configuration import (
    AlarmReport,
    AudioRecognition,
    BasicParam,
    Configuration,
    DaySchedule,
    DecodeScalability,
    DecodeSurveillance,
    EncodeScalability,
    MaskRegion,
    OsdConfig,
    OsdText,
    PictureMask,
    Region,
    RegionParam,
    SnapShotConfig,
    SvacDecodeConfig,
    SvacEncodeConfig,
    TimeSegment,
    VideoAlarmRecord,
    VideoParamOpt,
    VideoRecordPlan,
    VideoStream,
    merged,
    only,
    types_of,
)
from tongshi.protocols.gb28181.control import (
    ControlKind,
    DeviceConfig,
    DeviceControl,
    GuardCommand,
    RecordCommand,
    TrackCommand,
)
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition, PreciseView, UpgradeOrder
from tongshi.protocols.gb28181.device_notify import DeviceUpgradeResult, UploadSnapShotFinished
from tongshi.protocols.gb28181.device_query import (
    ConfigDownloadQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    HomePositionQuery,
    PresetQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
    query_edition,
)
from tongshi.protocols.gb28181.device_response import (
    Card,
    CardState,
    ConfigDownloadResponse,
    CruisePoint,
    CruiseTrack,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    DeviceConfigResponse,
    HomePositionResponse,
    Preset,
    PresetResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.shape import check
from tongshi.protocols.gb28181.version import Edition

DATA = Path(__file__).parents[3] / "data" / "gb28181" / "annex_a"
CAMERA, NVR, ALARM = "34020000001320000002", "34020000001320000001", "34020000001340000001"
UPGRADE, SNAPSHOT = "3f1b0f6e-6c0d-4a55-9a2e-5f7c1e2d3a4b", "b2c1f0d4-91aa-4c53-8f6a-000000000311"


def box(mid_y: int, x: int = 640) -> DragBox:
    return DragBox(length=1280, width=720, mid_point_x=x, mid_point_y=mid_y, length_x=320, length_y=180)


def config(sn: int, device_id: str = CAMERA, **settings: Any) -> DeviceConfig:
    return DeviceConfig(sn, device_id, Configuration(**settings))


BASIC = BasicParam(name="一号岗", expiration=86400, heart_beat_interval=60, heart_beat_count=3)
HOME = HomePosition(enabled=True, reset_time=60, preset_index=5)
SEGMENTS = (
    TimeSegment(start_hour=0, start_min=0, start_sec=0, stop_hour=11, stop_min=59, stop_sec=59),
    TimeSegment(start_hour=13, start_min=0, start_sec=0, stop_hour=23, stop_min=59, stop_sec=59),
)
AREA = DragBox(length=1920, width=540, mid_point_x=900, mid_point_y=300, length_x=80, length_y=160)

GOLDEN_2022: dict[str, KnownMessage] = {
    "config_download_query": ConfigDownloadQuery(
        sn=110, device_id=CAMERA, config_types=("BasicParam", "VideoParamOpt")
    ),
    "preset_query": PresetQuery(sn=111, device_id=CAMERA),
    "home_position_query": HomePositionQuery(sn=112, device_id=CAMERA),
    "cruise_track_list_query": CruiseTrackListQuery(sn=113, device_id=CAMERA),
    "cruise_track_query": CruiseTrackQuery(sn=114, device_id=CAMERA, number=0),
    "ptz_position_query": PTZPositionQuery(sn=115, device_id=CAMERA),
    "sd_card_status_query": SDCardStatusQuery(sn=116, device_id=NVR),
    "config_download_basic_response": ConfigDownloadResponse(
        sn=110,
        device_id=CAMERA,
        settings=Configuration(
            basic_param=BasicParam(
                name="东门球机", expiration=86400, heart_beat_interval=60, heart_beat_count=3
            )
        ),
    ),
    "config_download_options_response": ConfigDownloadResponse(
        sn=110,
        device_id=CAMERA,
        settings=Configuration(
            video_param_opt=VideoParamOpt(download_speeds=("1", "2", "4"), resolutions=("5", "6"))
        ),
    ),
    "preset_response": PresetResponse(
        sn=111,
        device_id=CAMERA,
        sum_num=2,
        presets=(Preset(preset_id="1", name="大门"), Preset(preset_id="5", name="停车场")),
    ),
    "preset_none_response": PresetResponse(sn=111, device_id=CAMERA, sum_num=0),
    "home_position_response": HomePositionResponse(sn=112, device_id=CAMERA, home_position=HOME),
    "cruise_track_list_response": CruiseTrackListResponse(
        sn=113,
        device_id=CAMERA,
        sum_num=2,
        tracks=(CruiseTrack(number=0, name="白天巡航"), CruiseTrack(number=1, name="夜间巡航")),
    ),
    "cruise_track_response": CruiseTrackResponse(
        sn=114,
        device_id=CAMERA,
        number=0,
        name="白天巡航",
        sum_num=2,
        points=(
            CruisePoint(preset_index=1, stay_time=10, speed=7),
            CruisePoint(preset_index=5, stay_time=15, speed=7),
        ),
    ),
    "ptz_position_response": PTZPositionResponse(
        sn=115,
        device_id=CAMERA,
        pan=135.5,
        tilt=12.0,
        zoom=4.0,
        horizontal_field_angle=14.6,
        vertical_field_angle=8.3,
        max_view_distance=480.0,
    ),
    "sd_card_status_response": SDCardStatusResponse(
        sn=116,
        device_id=NVR,
        sum_num=1,
        cards=(
            Card(
                number=1,
                name="SD-1",
                state=CardState.FORMATTING,
                format_progress=35,
                capacity=122070,
                free_space=0,
            ),
        ),
    ),
    "device_config_response": DeviceConfigResponse(sn=301, device_id=NVR),
    "control_alarm_reset": DeviceControl(206, ALARM, reset_alarm=True, alarm_methods=(2, 5), alarm_type=2),
    "control_record_stream": DeviceControl(203, CAMERA, record_cmd=RecordCommand.STOP, stream_number=1),
    "control_key_frame": DeviceControl(207, CAMERA, iframe=True),
    "control_drag_zoom_in": DeviceControl(208, CAMERA, drag_zoom_in=box(300)),
    "control_drag_zoom_out": DeviceControl(214, CAMERA, drag_zoom_out=box(360)),
    "control_home_position": DeviceControl(209, CAMERA, home_position=HOME),
    "control_precise_view": DeviceControl(
        210, CAMERA, precise_view=PreciseView(pan=135.5, tilt=12.0, zoom=4.0)
    ),
    "control_upgrade": DeviceControl(
        211,
        NVR,
        upgrade=UpgradeOrder(
            firmware="V3.1.0",
            file_url="http://192.0.2.40/fw/simcam-3.1.0.bin",
            manufacturer="SimVendor",
            session_id=UPGRADE,
        ),
    ),
    "control_format_card": DeviceControl(212, NVR, format_card=0),
    "control_target_track": DeviceControl(
        213,
        CAMERA,
        track=TrackCommand.MANUAL,
        panorama_id="34020000001320000003",
        target_area=AREA,
    ),
    "control_cruise_name": DeviceControl(202, CAMERA, "A50F00840103003C", cruise_name="白天巡航"),
    "config_basic": config(301, NVR, basic_param=BASIC),
    "config_svac_encode": config(
        302,
        svac_encode_config=SvacEncodeConfig(
            roi_param=RegionParam(
                is_on=True,
                count=1,
                regions=(Region(number=1, top_left=130, bottom_right=400, quality=2),),
            ),
            svc_param=EncodeScalability(space_domain_mode=1, time_domain_mode=0, ratio="2:1"),
            audio_param=AudioRecognition(audio_recognition_flag=False),
        ),
    ),
    "config_svac_decode": config(
        303,
        "34020000001140000001",
        svac_decode_config=SvacDecodeConfig(
            svc_param=DecodeScalability(mode=1),
            surveillance_param=DecodeSurveillance(time_show_flag=True, osd_show_flag=True),
        ),
    ),
    "config_video_attribute": config(
        304,
        video_param_attribute=(
            VideoStream(
                stream_number=0,
                video_format="5",
                resolution="6",
                frame_rate="25",
                bit_rate_type="1",
                video_bit_rate="4096",
            ),
            VideoStream(
                stream_number=1, video_format="2", resolution="640x360", frame_rate="15", bit_rate_type="2"
            ),
        ),
    ),
    "config_record_plan": config(
        305,
        video_record_plan=VideoRecordPlan(
            is_on=True,
            day_count=1,
            days=(DaySchedule(week_day=1, segment_count=2, segments=SEGMENTS),),
            stream_number=0,
        ),
    ),
    "config_alarm_record": config(
        306,
        video_alarm_record=VideoAlarmRecord(is_on=True, record_time=30, pre_record_time=10, stream_number=0),
    ),
    "config_picture_mask": config(
        307,
        picture_mask=PictureMask(is_on=True, count=1, regions=(MaskRegion(number=1, point="20,30,250,160"),)),
    ),
    "config_frame_mirror": config(308, frame_mirror=3),
    "config_alarm_report": config(
        309, alarm_report=AlarmReport(motion_detection=True, field_detection=False)
    ),
    "config_osd": config(
        310,
        osd_config=OsdConfig(
            length=1920,
            width=1080,
            time_x=20,
            time_y=20,
            time_type=0,
            count=1,
            lines=(OsdText(text="东门球机", x=1400, y=1000),),
        ),
    ),
    "config_snapshot": config(
        311,
        snap_shot_config=SnapShotConfig(
            count=2, upload_url="http://192.0.2.40:8080/gb/snap/3402", session_id=SNAPSHOT
        ),
    ),
    "upgrade_result_failed": DeviceUpgradeResult(
        sn=57, device_id=NVR, session_id=UPGRADE, result="ERROR", firmware="V3.0.1", failed_reason="02"
    ),
    "snapshot_finished": UploadSnapShotFinished(
        sn=58,
        device_id=CAMERA,
        session_id=SNAPSHOT,
        files=("34020000001320000002022024052009350112301", "34020000001320000002022024052009350212302"),
    ),
}
GOLDEN: dict[tuple[str, Edition, str], KnownMessage] = {
    **{("2022", Edition.GB2022, name): message for name, message in GOLDEN_2022.items()},
    ("2011", Edition.GB2011, "control_tele_boot"): DeviceControl(10, CAMERA, tele_boot=True),
    ("2011", Edition.GB2011, "control_record"): DeviceControl(11, CAMERA, record_cmd=RecordCommand.START),
    ("2011", Edition.GB2011, "control_guard"): DeviceControl(12, ALARM, guard_cmd=GuardCommand.RESET),
    ("2011", Edition.GB2011, "control_alarm_reset"): DeviceControl(13, ALARM, reset_alarm=True),
    ("2014", Edition.GB2014, "control_key_frame"): DeviceControl(21, CAMERA, iframe=True),
    ("2014", Edition.GB2014, "control_drag_zoom_in"): DeviceControl(22, CAMERA, drag_zoom_in=box(300)),
    ("2014", Edition.GB2014, "config_basic"): config(
        23, basic_param=msgspec.structs.replace(BASIC, expiration=3600)
    ),
    ("2016", Edition.GB2016, "control_key_frame"): DeviceControl(30, CAMERA, iframe=True),
    ("2016", Edition.GB2016, "control_home_position"): DeviceControl(
        31, CAMERA, home_position=HomePosition(enabled=False)
    ),
    ("2016", Edition.GB2016, "control_alarm_reset_combined"): DeviceControl(
        32, ALARM, reset_alarm=True, alarm_methods=(2, 5)
    ),
}
READ_ONLY: dict[str, KnownMessage] = {
    "2014/preset_query_misspelt": PresetQuery(sn=20, device_id=CAMERA),
    "2014/preset_response_without_sum": PresetResponse(
        sn=20, device_id=CAMERA, presets=(Preset(preset_id="1", name="预置点1"),)
    ),
    "2016/preset_response_lower_num": PresetResponse(
        sn=33, device_id=CAMERA, presets=(Preset(preset_id="1", name="大门"),)
    ),
    "2016/control_ptz_priority": DeviceControl(34, CAMERA, "A50F010160000016"),
    "2022/quirk_snapshot_element": ConfigDownloadResponse(
        sn=40,
        device_id=CAMERA,
        settings=Configuration(
            snap_shot_config=SnapShotConfig(count=1, upload_url="http://192.0.2.40/s", session_id=SNAPSHOT)
        ),
    ),
    "2022/quirk_63_unknown_field": ConfigDownloadResponse(
        sn=41,
        device_id=CAMERA,
        settings=Configuration(basic_param=BasicParam(name="球机", heart_beat_count=3)),
    ),
    "2022/quirk_65_position_refused": PTZPositionResponse(
        sn=42, device_id=CAMERA, result_ok=False, reason="not supported"
    ),
    "2022/quirk_71_mangled_case": PTZPositionResponse(sn=43, device_id=CAMERA, pan=1.5, tilt=2.0),
    "2022/quirk_bad_mirror": ConfigDownloadResponse(
        sn=44,
        device_id=CAMERA,
        settings=Configuration(alarm_report=AlarmReport(motion_detection=True, field_detection=False)),
        bad=("FrameMirror",),
    ),
    "2022/quirk_bad_cruise_point": CruiseTrackResponse(
        sn=45,
        device_id=CAMERA,
        number=0,
        sum_num=2,
        points=(CruisePoint(preset_index=1, stay_time=10, speed=7),),
        bad=("CruisePoint[1]",),
    ),
}


@pytest.mark.parametrize(("folder", "edition", "name"), GOLDEN)
def test_a_body_is_read_and_written_as_its_edition_has_it(folder: str, edition: Edition, name: str) -> None:
    body = (DATA / folder / f"{name}.xml").read_bytes()
    message = GOLDEN[folder, edition, name]
    assert decode(body) == message
    charset = "gb18030" if edition is Edition.GB2022 else "gb2312"
    assert _packed(message.render(charset, edition)) == _packed(body)


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_other_editions_and_devices_send_is_understood(name: str) -> None:
    assert decode((DATA / f"{name}.xml").read_bytes()) == READ_ONLY[name]


@pytest.mark.parametrize("path", sorted(DATA.rglob("bad_*.xml")), ids=lambda path: path.stem)
def test_a_command_out_of_its_bounds_is_refused_whole(path: Path) -> None:
    with pytest.raises(RemoteViolation):
        decode(path.read_bytes())


def test_every_body_of_the_corpus_is_expected_by_a_test() -> None:
    named = {f"{folder}/{name}" for folder, _, name in GOLDEN} | set(READ_ONLY)
    found = {f"{p.parent.name}/{p.stem}" for p in DATA.rglob("*.xml") if not p.stem.startswith("bad_")}
    assert found == named


def test_five_commands_are_answered_and_eight_are_not() -> None:
    controls = [m for m in GOLDEN_2022.values() if isinstance(m, DeviceControl)]
    controls += [
        DeviceControl(1, CAMERA, guard_cmd=GuardCommand.SET),
        DeviceControl(1, CAMERA, tele_boot=True),
    ]
    answered = {kind for control in controls if control.needs_response for kind in control.kinds}
    silent = {kind for control in controls if not control.needs_response for kind in control.kinds}
    assert {kind.value for kind in answered} == {
        "RecordCmd",
        "GuardCmd",
        "AlarmCmd",
        "HomePosition",
        "DeviceUpgrade",
    }
    assert answered | silent == set(ControlKind)


def test_each_command_knows_the_edition_it_came_with() -> None:
    newest = {
        kind
        for message in GOLDEN_2022.values()
        if isinstance(message, DeviceControl) and message.edition is Edition.GB2022
        for kind in message.kinds
    }
    assert {kind.value for kind in newest} == {
        "PTZPreciseCtrl",
        "DeviceUpgrade",
        "FormatSDCard",
        "TargetTrack",
    }
    assert config(1, basic_param=BASIC).edition is Edition.GB2014
    assert config(1, basic_param=BASIC, frame_mirror=0).edition is Edition.GB2022
    assert query_edition(ConfigDownloadQuery(sn=1, device_id=CAMERA, config_types=("BasicParam",))) is (
        Edition.GB2014
    )
    assert query_edition(SDCardStatusQuery(sn=1, device_id=CAMERA)) is Edition.GB2022
    assert query_edition(PresetQuery(sn=1, device_id=CAMERA)) is Edition.GB2014


def test_what_came_with_3_0_is_not_sent_below_it() -> None:
    named = DeviceControl(1, CAMERA, "A50F00840103003C", preset_name="门", cruise_name="夜")
    assert b"PTZCmdParams" not in named.render("gb2312", Edition.GB2016)
    recording = DeviceControl(1, CAMERA, record_cmd=RecordCommand.START, stream_number=0)
    assert b"StreamNumber" not in recording.render("gb2312", Edition.GB2016)


def test_config_types_are_asked_for_in_any_spelling() -> None:
    asked = ConfigDownloadQuery(sn=1, device_id=CAMERA, config_types=("snapshot", "basicparam", "Nonsense"))
    assert asked.known_types == ("BasicParam", "SnapShotConfig")


def test_configurations_are_named_split_and_joined() -> None:
    both = merged(Configuration(basic_param=BASIC), Configuration(frame_mirror=0))
    assert types_of(both) == ("BasicParam", "FrameMirror")
    assert only(both, "FrameMirror") == Configuration(frame_mirror=0)


def test_what_a_person_asks_for_is_checked_before_it_is_sent() -> None:
    assert check(HOME) == HOME
    with pytest.raises(InvalidRequest) as refusal:
        check(HomePosition(enabled=True, preset_index=256))
    assert refusal.value.field == "presetIndex"


_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn", "Zs")), min_size=1, max_size=30
)
_PIXEL = st.integers(0, 65535)
_SETTINGS = st.builds(
    Configuration,
    basic_param=st.none()
    | st.builds(
        BasicParam,
        name=st.none() | _TEXT,
        expiration=st.none() | st.integers(1, 31_536_000),
        heart_beat_interval=st.none() | st.integers(1, 86_400),
        heart_beat_count=st.none() | st.integers(1, 1_000),
    ),
    frame_mirror=st.none() | st.integers(0, 3),
    osd_config=st.none()
    | st.builds(
        OsdConfig,
        length=st.integers(1, 65535),
        width=st.integers(1, 65535),
        time_x=_PIXEL,
        time_y=_PIXEL,
        time_enable=st.booleans(),
        time_type=st.none() | st.sampled_from((0, 1)),
        text_enable=st.booleans(),
        count=st.integers(0, 8),
        lines=st.lists(st.builds(OsdText, text=_TEXT, x=_PIXEL, y=_PIXEL), max_size=8).map(tuple),
    ),
    alarm_report=st.none()
    | st.builds(AlarmReport, motion_detection=st.booleans(), field_detection=st.booleans()),
    picture_mask=st.none()
    | st.builds(
        PictureMask,
        is_on=st.booleans(),
        count=st.integers(0, 4),
        regions=st.lists(
            st.builds(MaskRegion, number=st.integers(1, 4), point=st.just("0,1,20,300")), max_size=4
        ).map(tuple),
    ),
)


@given(_SETTINGS, st.integers(1, 2**31 - 1))
def test_configurations_come_back_as_they_went(settings: Configuration, sn: int) -> None:
    order = DeviceConfig(sn, CAMERA, settings)
    assert decode(order.render()) == order
    answer = ConfigDownloadResponse(sn=sn, device_id=CAMERA, settings=settings)
    assert decode(answer.render()) == answer


@given(
    st.builds(
        PTZPositionResponse,
        sn=st.integers(1, 2**31 - 1),
        device_id=st.just(CAMERA),
        pan=st.none() | st.floats(0, 360),
        tilt=st.none() | st.floats(-90, 90),
        zoom=st.none() | st.floats(0, 100),
    )
    | st.builds(
        PresetResponse,
        sn=st.integers(1, 2**31 - 1),
        device_id=st.just(CAMERA),
        sum_num=st.none() | st.integers(0, 1000),
        presets=st.lists(st.builds(Preset, preset_id=_TEXT, name=_TEXT), max_size=5).map(tuple),
    )
)
def test_answers_come_back_as_they_went(answer: PTZPositionResponse | PresetResponse) -> None:
    assert decode(answer.render()) == answer


@given(st.sampled_from(sorted(DATA.rglob("*.xml"))), st.data())
def test_a_damaged_body_gives_a_message_or_a_violation(path: Path, data: st.DataObject) -> None:
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(body))
    except RemoteViolation:
        pass


def _packed(body: bytes) -> str:
    return "".join(body.decode("gb18030").split())
