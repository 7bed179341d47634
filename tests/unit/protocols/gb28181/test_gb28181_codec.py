"""Bodies as they come: conforming ones, quirks, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pytest

from tongshi.errors import LocalViolation, RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.codec import KnownMessage, Message, decode
from tongshi.protocols.gb28181.control import DeviceControl, GuardCommand, RecordCommand
from tongshi.protocols.gb28181.message import MAX_SN, UnknownMessage, next_sn, refusal
from tongshi.protocols.gb28181.notify import CatalogEvent, CatalogNotify, Keepalive, MediaStatus
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import (
    CatalogResponse,
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.protocols.gb28181.version import Edition

DATA = Path(__file__).parents[3] / "data" / "gb28181"
CAMERA = "34020000001320000002"
NVR = "34020000001180000001"
_M = TypeVar("_M", bound=Message)


def read(name: str, kind: type[_M]) -> _M:
    message = decode((DATA / name).read_bytes())
    assert isinstance(message, kind)
    return message


EXPECTED: dict[str, KnownMessage] = {
    "catalog_query.xml": CatalogQuery(17, NVR),
    "device_info_query.xml": DeviceInfoQuery(101, NVR),
    "device_status_query.xml": DeviceStatusQuery(102, CAMERA),
    "keepalive.xml": Keepalive(43, NVR, True, ("34020000001320000007",)),
    "media_status.xml": MediaStatus(60, CAMERA, "121"),
    "device_info_response.xml": DeviceInfoResponse(
        101, NVR, "示例NVR", True, "SimVendor", "NVR-16", "V3.0.1 build 240520", 16
    ),
    "device_status_response.xml": DeviceStatusResponse(
        102,
        CAMERA,
        online=True,
        status_ok=True,
        encode="ON",
        record="OFF",
        device_time="2024-05-20T09:31:00",
        alarms=(("34020000001340000001", "ONDUTY"),),
    ),
    "device_control_response.xml": DeviceControlResponse(203, CAMERA),
    "control_ptz.xml": DeviceControl(201, CAMERA, "A50F010160000016"),
    "control_preset_name.xml": DeviceControl(202, CAMERA, "A50F01810005003B", "停车场"),
    "control_tele_boot.xml": DeviceControl(204, "34020000001320000001", tele_boot=True),
    "control_record.xml": DeviceControl(203, CAMERA, record_cmd=RecordCommand.START, stream_number=0),
    "control_guard.xml": DeviceControl(205, "34020000001340000001", guard_cmd=GuardCommand.SET),
    "control_iframe.xml": DeviceControl(207, CAMERA, iframe=True),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_conforming_message_is_read(name: str) -> None:
    assert decode((DATA / name).read_bytes()) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_we_render_is_the_conforming_message(name: str) -> None:
    def packed(data: bytes) -> str:
        return "".join(data.decode("gb18030").split())

    assert packed(EXPECTED[name].render()) == packed((DATA / name).read_bytes())


def test_a_catalogue_item_is_read_in_full() -> None:
    message = read("catalog_response.xml", CatalogResponse)
    camera, speaker = message.items
    assert (message.sn, message.device_id, message.sum_num, message.bad_items) == (17, NVR, 3, ())
    assert camera.parent_ids == (NVR, "34020000002160000001")
    assert (camera.name, camera.status, camera.parental) == ("东门球机", DeviceStatus.ON, 1)
    assert (camera.longitude, camera.latitude, camera.port) == (118.376451, 31.326319, 5060)
    assert camera.function_types == ("01", "03")
    assert camera.stream_numbers == ("0", "1")
    assert (camera.record_save_days, camera.mac) == (90, "02-00-5E-10-00-01")
    assert (camera.install_time, camera.industrial_classification) == ("2023-06-01T00:00:00", "S92")
    assert speaker == CatalogItem(
        device_id="34020000001370000001",
        name="东门喇叭",
        manufacturer="SimVendor",
        model="SPK",
        civil_code="340200",
        address="东门岗亭",
        parental=0,
        parent_ids=(CAMERA,),
        status=DeviceStatus.ON,
    )


@pytest.mark.parametrize(
    "name", ["catalog_response.xml", "catalog_response_platform.xml", "catalog_notify.xml"]
)
def test_a_catalogue_is_rendered_in_the_order_of_the_schema(name: str) -> None:
    original = (DATA / name).read_bytes()
    message = decode(original)
    assert isinstance(message, CatalogResponse | CatalogNotify)
    rendered = message.render().decode("gb18030")
    assert "".join(rendered.split()) == "".join(original.decode("gb18030").split())


def test_up_to_2016_the_business_group_stands_inside_info() -> None:
    item = CatalogItem(
        device_id="34020000002160000001", name="东区", business_group_id="34020000002150000001"
    )
    answer = CatalogResponse(1, NVR, 1, (item,))
    body = answer.render("gb2312", Edition.GB2016)
    assert b'encoding="GB2312"' in body
    assert b"<Info><BusinessGroupID>" in body
    assert decode(body) == answer


def test_a_missing_sum_num_is_told_from_zero() -> None:
    body = b"<Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>3402</DeviceID>%s</Response>"
    missing, zero = decode(body % b""), decode(body % b"<SumNum>0</SumNum>")
    assert isinstance(missing, CatalogResponse)
    assert isinstance(zero, CatalogResponse)
    assert (missing.sum_num, zero.sum_num) == (-1, 0)


def test_an_empty_catalogue_has_no_list_element() -> None:
    body = CatalogResponse(1, NVR, 0).render()
    assert b"<SumNum>0</SumNum>" in body
    assert b"DeviceList" not in body


@pytest.mark.parametrize("name", ["catalog_notify.xml", "catalog_notify_2011_response_root.xml"])
def test_catalogue_events_are_read_under_either_root(name: str) -> None:
    message = read(name, CatalogNotify)
    assert [(c.event, c.item.device_id[-1]) for c in message.changes] == [
        (CatalogEvent.OFF, "7"),
        (CatalogEvent.ADDED, "8"),
    ]
    assert message.changes[1].item.name == "西门枪机"


def test_an_unknown_event_is_a_bad_item() -> None:
    body = b"<Notify><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>3402</DeviceID><DeviceList><Item>"
    body += b"<DeviceID>1</DeviceID><Event>FLY</Event></Item></DeviceList></Notify>"
    message = decode(body)
    assert isinstance(message, CatalogNotify)
    assert (message.changes, message.bad_items[0].reason) == ((), "unknown event 'FLY'")


def test_an_unknown_command_keeps_what_an_answer_needs() -> None:
    message = read("unknown_query.xml", UnknownMessage)
    assert message == UnknownMessage("Query", "VendorQuery", 51, "34020000001320000009")


def test_an_unknown_command_is_refused_by_its_own_name() -> None:
    body = refusal(read("unknown_query.xml", UnknownMessage))
    answer = decode(body)
    assert answer == UnknownMessage("Response", "VendorQuery", 51, "34020000001320000009")
    assert b"<Result>ERROR</Result>" in body


def test_an_unknown_control_has_no_command_set() -> None:
    message = read("control_unknown_command.xml", DeviceControl)
    assert message == DeviceControl(212, "34020000001320000001")
    assert not message.needs_response


def test_recording_and_arming_want_an_answer_and_movement_does_not() -> None:
    assert read("control_record.xml", DeviceControl).needs_response
    assert read("control_guard.xml", DeviceControl).needs_response
    assert not read("control_ptz.xml", DeviceControl).needs_response


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quirk_01_utf8_declared_gb2312.xml", "东门球机"),
        ("quirk_01_gbk_declared_utf8.xml", "东门球机"),
        ("quirk_02_rare_declared_gb2312.xml", "喆㐂𠮷"),
        ("quirk_03_control_characters.xml", "东门球机"),
        ("quirk_04_ampersand_and_less_than.xml", "A&B <东> &nbsp;&门"),
        ("quirk_71_mangled_case.xml", "东门"),
    ],
)
def test_a_name_survives_the_quirk(name: str, expected: str) -> None:
    assert [item.name for item in read(name, CatalogResponse).items] == [expected]


def test_a_broken_item_does_not_spoil_its_neighbours() -> None:
    message = read("quirk_03_unbalanced_item.xml", CatalogResponse)
    assert [item.name for item in message.items] == ["好一", "好三"]
    assert [bad.device_id for bad in message.bad_items] == [CAMERA]


def test_a_forgotten_closing_tag_is_supplied() -> None:
    message = read("quirk_03_item_not_closed.xml", CatalogResponse)
    assert [item.name for item in message.items] == ["好一", "忘关", "好三"]
    assert message.bad_items == ()


def test_odd_fields_become_not_given_or_their_meaning() -> None:
    first, second, third = read("quirk_09_to_14_odd_fields.xml", CatalogResponse).items
    assert (first.parental, first.status, first.ptz_type) == (0, DeviceStatus.ON, 1)
    assert (first.longitude, first.latitude, first.port) == (None, None, None)
    assert (second.parental, second.status, second.longitude, second.latitude) == (
        0,
        DeviceStatus.OFF,
        None,
        None,
    )
    assert (third.parental, third.status, third.longitude, third.latitude) == (0, None, 118.37, 31.32)


def test_a_password_is_dropped() -> None:
    message = read("quirk_09_to_14_odd_fields.xml", CatalogResponse)
    assert "secret" not in repr(message)
    assert b"assword" not in message.render()


def test_mangled_case_is_read_inside_info_too() -> None:
    item = read("quirk_71_mangled_case.xml", CatalogResponse).items[0]
    assert (item.ptz_type, item.download_speeds) == (3, ("1", "2"))


def test_the_misspelt_key_frame_command_is_read_and_sent_to_old_peers() -> None:
    message = read("quirk_72_iframe_2016.xml", DeviceControl)
    assert message.iframe
    assert b"<IFameCmd>Send" in message.render("gb2312", Edition.GB2016)
    assert b"<IFrameCmd>Send" in message.render()


def test_the_alarm_list_is_read_under_its_other_spelling() -> None:
    message = read("quirk_72_alarm_status.xml", DeviceStatusResponse)
    assert message.alarms == (("34020000001340000001", "ONDUTY"),)


def test_an_opaque_id_is_kept_and_an_unusable_one_named() -> None:
    message = read("quirk_77_letters_in_id.xml", CatalogResponse)
    assert [item.device_id for item in message.items] == ["CAM-东-01"]
    assert [bad.index for bad in message.bad_items] == [1, 2]


@pytest.mark.parametrize("path", sorted(DATA.glob("bad_*.xml")), ids=lambda path: path.stem)
def test_a_bad_body_is_refused(path: Path) -> None:
    with pytest.raises(RemoteViolation):
        decode(path.read_bytes())


def test_a_body_beyond_its_limit_is_refused_before_it_is_read() -> None:
    body = b"<Notify>" + b" " * xml.MAX_UDP_BYTES
    with pytest.raises(RemoteViolation, match="exceeds"):
        decode(body, limit_bytes=xml.MAX_UDP_BYTES)


def test_too_many_tags_are_refused() -> None:
    body = b"<Notify>" + b"<a/>" * xml.MAX_TAGS + b"</Notify>"
    with pytest.raises(RemoteViolation, match="tags"):
        decode(body)


def test_too_deep_a_body_is_refused() -> None:
    with pytest.raises(RemoteViolation):
        decode(b"<Notify>" + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</Notify>")


TEXTS = {
    "东门球机": ("b6abc3c5c7f2bbfa", "e4b89ce997a8e79083e69cba"),
    "喆": ("86b4", "e59686"),
    "㐂": ("8139ef31", "e39082"),
    "𠮷": ("9534b235", "f0a0aeb7"),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("column", "declared"), [(0, "GB2312"), (0, "GB18030"), (1, "GB2312"), (1, "UTF-8"), (1, "")]
)
def test_a_text_is_the_same_under_every_declaration(text: str, column: int, declared: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    head = "<Response><CmdType>DeviceInfo</CmdType><SN>1</SN><DeviceID>3402</DeviceID><DeviceName>"
    body = (declaration + head).encode() + bytes.fromhex(TEXTS[text][column]) + b"</DeviceName></Response>"
    message = decode(body)
    assert isinstance(message, DeviceInfoResponse)
    assert message.device_name == text


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_decides(codec: str) -> None:
    body = "<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>东</DeviceID></Notify>".encode(codec)
    assert decode(body) == Keepalive(1, "东")


def test_a_forced_charset_overrules_what_the_bytes_look_like() -> None:
    body = b"<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>\xe4\xb8\x9c\xe9</DeviceID></Notify>"
    message = decode(body, charset="gb2312")
    assert isinstance(message, Keepalive)
    assert message.device_id == b"\xe4\xb8\x9c\xe9".decode("gb18030")


def test_a_charset_we_do_not_know_is_our_own_fault() -> None:
    with pytest.raises(LocalViolation):
        Keepalive(1, NVR).render("big5")


def test_what_gb2312_cannot_hold_travels_as_a_reference() -> None:
    message = DeviceInfoResponse(1, NVR, "𠮷东")
    body = message.render("gb2312")
    assert b"&#134071;" in body
    assert decode(body) == message


def test_sn_wraps_at_31_bits() -> None:
    assert (next_sn(1), next_sn(MAX_SN), next_sn(0)) == (2, 1, 1)
