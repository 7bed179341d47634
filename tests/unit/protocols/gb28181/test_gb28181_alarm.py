"""Alarm, broadcast and upload messages as they come, and the tables of alarm types."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import alarm_types
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmQuery, AlarmResponse, split_methods
from tongshi.protocols.gb28181.broadcast import BroadcastNotify, BroadcastResponse
from tongshi.protocols.gb28181.codec import KnownMessage, decode
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.upload_notify import VideoUploadNotify
from tongshi.protocols.gb28181.version import Edition

DATA = Path(__file__).parents[3] / "data" / "gb28181"
CAMERA, INPUT, OUTPUT = "34020000001320000002", "34020000001340000001", "34020000001370000001"
INTRUSION = AlarmNotify(
    59,
    CAMERA,
    priority=1,
    method=5,
    time="2024-05-20T09:40:00",
    description="东门入侵",
    longitude=118.376451,
    latitude=31.326319,
    alarm_type=6,
    event_type=1,
    extra=("一号通道",),
)
EXPECTED: dict[str, KnownMessage] = {
    "alarm_notify.xml": INTRUSION,
    "alarm_response.xml": AlarmResponse(59, CAMERA),
    "alarm_query.xml": AlarmQuery(
        41,
        "34020000001180000001",
        1,
        2,
        (2, 5),
        start_time="2024-05-20T00:00:00",
        end_time="2024-06-20T00:00:00",
    ),
    "quirk_alarm_2016_plain_param.xml": AlarmNotify(
        7,
        "3402000000",  # an alarm centre has ten digits
        priority=4,
        method=2,
        time="2024-5-20 9:40:0",
        alarm_type=2,
        type_param="1号防区",
    ),
    "alarm_without_numbers.xml": AlarmNotify(8, INPUT, time="昨天"),
    "control_alarm_reset.xml": DeviceControl(206, INPUT, reset_alarm=True, alarm_methods=(2,), alarm_type=2),
    "broadcast_notify.xml": BroadcastNotify(61, OUTPUT, "34020000001360000001"),
    "broadcast_response.xml": BroadcastResponse(61, OUTPUT),
    "video_upload_notify.xml": VideoUploadNotify(
        62, "34020000001320000009", "2024-05-20T09:50:00", 118.380001, 31.330002
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_body_is_read_and_rendered_and_read_again(name: str) -> None:
    message = decode((DATA / name).read_bytes())
    assert message == EXPECTED[name]
    for edition, charset in ((Edition.GB2022, "gb18030"), (Edition.GB2016, "gb2312")):
        assert decode(EXPECTED[name].render(charset, edition)) == message


def test_a_broadcast_has_source_and_target_and_no_device() -> None:
    text = EXPECTED["broadcast_notify.xml"].render().decode()
    assert "<SourceID>34020000001360000001</SourceID><TargetID>34020000001370000001</TargetID>" in text
    assert "<DeviceID>" not in text
    with pytest.raises(RemoteViolation):
        decode((DATA / "bad_broadcast_no_target.xml").read_bytes())


def test_methods_are_joined_as_the_edition_writes_them() -> None:
    query = AlarmQuery(1, CAMERA, methods=(2, 5))
    assert b"<AlarmMethod>2/5</AlarmMethod>" in query.render(edition=Edition.GB2022)
    assert b"<AlarmMethod>25</AlarmMethod>" in query.render(edition=Edition.GB2016)
    assert b"<AlarmMethod>0</AlarmMethod>" in AlarmQuery(1, CAMERA).render()
    assert split_methods("2/5") == split_methods("25") == (2, 5)
    assert split_methods("0") == split_methods("") == ()


def test_a_reset_of_everything_needs_no_info_and_is_answered() -> None:
    everything = DeviceControl(1, INPUT, reset_alarm=True)
    assert everything.needs_response
    assert b"<Info>" not in everything.render()
    assert decode(everything.render()) == everything


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ((1, 5, 6, 1), []),
        ((4, 2, None, None), []),  # no type: the default alarm of a device
        ((1, 2, 6, None), ["type"]),  # intrusion is no alarm of a device
        ((1, 6, 3, None), ["type"]),
        ((1, 1, 1, None), ["type"]),  # a telephone has no types
        ((1, 5, 13, None), []),
        ((0, 5, 2, None), ["priority"]),
        ((None, None, None, None), ["priority", "method"]),
        ((1, 8, 2, None), ["method"]),
        ((1, 5, 5, 1), ["event"]),  # only an intrusion has an event
        ((1, 5, 6, 3), ["event"]),
    ],
)
def test_types_belong_to_their_method(values: tuple[int | None, ...], wrong: list[str]) -> None:
    assert alarm_types.faults(*values) == wrong
    assert all(key in alarm_types.FAULT_TEXTS for key in wrong)


def test_a_type_has_the_name_of_its_method() -> None:
    assert alarm_types.type_name(2, 2) == "设备防拆报警"
    assert alarm_types.type_name(5, 2) == "运动目标检测报警"
    assert alarm_types.type_name(1, 2) == alarm_types.type_name(None, 2) == ""


def test_a_subscriber_gets_what_it_asked_for() -> None:
    everything, serious = AlarmQuery(1, CAMERA), AlarmQuery(1, CAMERA, 1, 2, (5,), alarm_type=6)
    assert everything.wants(4, 7, None)
    assert serious.wants(2, 5, 6)
    assert not serious.wants(3, 5, 6)
    assert not serious.wants(1, 2, 6)
    assert not serious.wants(1, 5, 5)


TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"), max_size=40
).map(str.strip)
NUMBER = st.none() | st.integers(-(2**31), 2**31 - 1)
PLACE = st.none() | st.floats(0.1, 180)


@given(
    st.builds(
        AlarmNotify,
        sn=st.integers(1, 2**31 - 1),
        device_id=st.from_regex(r"[0-9]{20}", fullmatch=True),
        priority=NUMBER,
        method=NUMBER,
        time=TEXT,
        description=TEXT,
        longitude=PLACE,
        latitude=PLACE,
        alarm_type=st.integers(0, 99),
        event_type=st.integers(1, 2),
        extra=st.lists(TEXT.filter(bool), max_size=4).map(tuple),
    )
)
def test_what_is_rendered_is_read_back(notify: AlarmNotify) -> None:
    assert decode(notify.render()) == notify
