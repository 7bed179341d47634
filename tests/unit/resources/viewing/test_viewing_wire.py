"""What the REST face accepts and answers for viewing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tongshi.errors import Unprocessable
from tongshi.resources.viewing import wire
from tongshi.resources.viewing.model import SILENT, Delivery, Transcoding, Transport
from tongshi.resources.viewing.ptz import Command

CODE = "31010100001320000001"


def live(**changes: Any) -> wire.LiveUrlRequest:
    return msgspec.convert({"DeviceID": CODE, **changes}, wire.LiveUrlRequest)


def test_the_defaults_are_main_stream_and_flv_for_five_minutes() -> None:
    wish = live().wish()
    assert (wish.deliveries, wish.expire_s, wish.transport) == ((Delivery.HTTP_FLV,), 300, Transport.AUTO)


def test_the_first_protocols_that_we_have_are_taken_in_their_order() -> None:
    wish = live(protocol=["rtmp", "webrtc", "http-fmp4", "http-flv", "fmp4"]).wish()
    assert wish.deliveries == (Delivery.WEBRTC, Delivery.HTTP_FMP4, Delivery.HTTP_FLV)


def test_each_way_to_be_served_has_its_address() -> None:
    urls = {d.value: d.url("https://media:8081", "s", "t") for d in Delivery}
    assert urls["http-flv"] == "https://media:8081/live/s.flv?ticket=t"
    assert urls["ws-flv"] == "wss://media:8081/live/s.flv?ticket=t"
    assert urls["webrtc"] == "https://media:8081/whep/s?ticket=t"
    assert urls["fmp4-ws"] == "wss://media:8081/live/s.mp4?ticket=t"


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": ["rtmp", "sip-cascade"]},
        {"transcode": {"video": "mjpeg"}},
        {"transcode": {"width": 640}},
        {"transcode": {"audio": "aac", "bitrateKbps": 500}},
        {"watermark": "visible"},
        {"audio": False, "transcode": {"audio": "aac"}},
    ],
)
def test_an_option_we_lack_is_refused_with_what_we_have(changes: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable) as caught:
        live(**changes).wish()
    assert caught.value.code == 42203
    assert caught.value.details["supported"]


def test_what_is_said_of_a_picture_s_size_and_rate_is_kept_and_the_rest_left_open() -> None:
    wish = live(transcode={"video": "h264", "width": 1920, "fps": 10}).wish()
    assert wish.transcoding == Transcoding("h264", "", 1920, 0, 10, 0)
    assert live(transcode={"audio": "aac"}).wish().transcoding == Transcoding("", "aac")
    assert live().wish().transcoding is None


def test_sound_is_left_out_for_who_asks_so() -> None:
    assert live(audio=True).wish().transcoding is None
    assert live(audio=False).wish().transcoding == Transcoding("", SILENT)
    both = live(audio=False, transcode={"video": "h264"}).wish()
    assert both.transcoding == Transcoding("h264", SILENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"DeviceID": "1"},
        {"expireSec": 9},
        {"streamType": 3},
        {"protocol": []},
        {"password": "x"},
        {"maxSessionSec": 1},
    ],
)
def test_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        live(**changes)


def test_every_command_of_the_table_is_understood_and_others_named() -> None:
    for command in Command:
        body = {"DeviceID": CODE, "command": command.value}
        assert msgspec.convert(body, wire.PtzRequest).turn().command is command
    unknown = msgspec.convert({"DeviceID": CODE, "command": "moonwalk"}, wire.PtzRequest)
    with pytest.raises(Unprocessable) as caught:
        unknown.turn()
    assert caught.value.field == "command"
