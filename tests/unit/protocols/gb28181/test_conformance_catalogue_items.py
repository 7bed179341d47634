"""Items of an older edition, lines in any place, and the bound of one message."""

from __future__ import annotations

from pathlib import Path

from tongshi.protocols.gb28181.catalogue import MAX_ITEMS_PER_MESSAGE, paginate
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.media_format import MediaFormat
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus

NVR, CAMERA = "34020000001180000001", "34020000001320000002"

DATA = Path(__file__).parents[3] / "data" / "gb28181"

ITEM_2016 = f"""<?xml version="1.0" encoding="GB2312"?>
<Response><CmdType>Catalog</CmdType><SN>17</SN><DeviceID>{NVR}</DeviceID><SumNum>1</SumNum>
<DeviceList Num="1"><Item><DeviceID>{CAMERA}</DeviceID><Name>东门球机</Name>
<Manufacturer>SimVendor</Manufacturer><Model>X</Model>
<Owner>0</Owner><CivilCode>340200</CivilCode><Address>东门</Address><Parental>0</Parental>
<ParentID>{NVR}</ParentID><SafetyWay>0</SafetyWay><RegisterWay>1</RegisterWay>
<CertNum>1</CertNum><Certifiable>0</Certifiable>
<ErrCode>400</ErrCode><EndTime>2026-01-01T00:00:00</EndTime><Secrecy>0</Secrecy><Status>ON</Status>
<Info><PTZType>3</PTZType><PositionType>2</PositionType><UseType>1</UseType><NeverHeardOf><A>1</A></NeverHeardOf></Info>
</Item></DeviceList><NeverHeardOf/></Response>"""


def test_an_item_of_2016_is_read_and_its_withdrawn_fields_are_passed_over() -> None:
    message = decode(ITEM_2016.encode("gbk"))
    assert isinstance(message, CatalogResponse)
    assert message.items == (
        CatalogItem(
            device_id=CAMERA,
            name="东门球机",
            manufacturer="SimVendor",
            model="X",
            civil_code="340200",
            address="东门",
            parental=0,
            parent_ids=(NVR,),
            status=DeviceStatus.ON,
            ptz_type=3,
        ),
    )
    assert b"Owner" not in message.render()


def test_no_message_holds_more_than_ten_thousand_items() -> None:
    items = [
        CatalogItem(device_id=f"3402000000132{number:07d}") for number in range(MAX_ITEMS_PER_MESSAGE + 5)
    ]
    pages = list(paginate(items, 1, NVR, per_message=10**9, max_bytes=10**9))
    assert [len(page.items) for page in pages] == [10_000, 5]
    assert {page.sum_num for page in pages} == {10_005}


def test_y_f_and_u_are_found_before_the_media_line_too() -> None:
    body = (
        f"v=0\r\ny=0200000001\r\no={CAMERA} 0 0 IN IP4 192.0.2.1\r\nf=v/2/6/25/1/2048a///\r\ns=Playback\r\n"
        f"u={CAMERA}:0\r\nc=IN IP4 192.0.2.1\r\nt=1 2\r\nm=video 9 RTP/AVP 96\r\n"
    )
    sdp = parse_sdp(body.encode())
    assert (sdp.ssrc_text, sdp.uri) == ("0200000001", f"{CAMERA}:0")
    assert sdp.f is not None
    assert sdp.f.video_codec == "2"


def test_f_is_always_written_whole() -> None:
    assert MediaFormat("2", "4").render() == "v/2/4///a///"
    assert MediaFormat(audio_codec="1").render() == "v/////a/1//"


def test_an_answer_whose_number_was_lost_is_read_with_number_0() -> None:
    message = decode((DATA / "quirk_07_sn_zero.xml").read_bytes())
    assert isinstance(message, CatalogResponse)
    assert (message.sn, len(message.items)) == (0, 1)
