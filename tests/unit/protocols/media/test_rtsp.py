"""RTSP requests and the SDP of a stream: read whatever comes, say what a client needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import Forbidden, RemoteViolation
from tongshi.protocols.media.rtsp import (
    Carriage,
    Description,
    Request,
    Target,
    choose_carriage,
    parse_request,
    parse_url,
    render_response,
    sdp,
    track_url,
    tracks_of,
)

URL = "rtsp://media:8554/live/abc?ticket=t-_1"
SPS, PPS = bytes.fromhex("6742c01eda0280f640"), bytes.fromhex("68ce3c80")
H265 = [bytes.fromhex("40010c01"), bytes.fromhex("42010101"), bytes.fromhex("4401c172")]


def test_a_request_is_read_with_its_fields() -> None:
    request = parse_request(f"SETUP {URL} RTSP/1.0\r\nCSeq: 3\r\ntransport: RTP/AVP/TCP\r\nCSEQ: 4".encode())
    assert request == Request("SETUP", URL, {"cseq": "3", "transport": "RTP/AVP/TCP"})
    assert request.sequence == "3"
    assert parse_request(b"GET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nX").fields == {"cseq": "1"}
    assert parse_request(b"PLAY * RTSP/1.0\r\nCSeq: 1\x85\xb2").sequence == ""


@pytest.mark.parametrize(
    "head", [b"", b"GET / HTTP/1.1", b"PLAY *", b"PL4Y * RTSP/1.0", b"PLAY * RTSP/1.0" + b"\r\na: b" * 70]
)
def test_what_is_no_request_is_refused(head: bytes) -> None:
    with pytest.raises(RemoteViolation):
        parse_request(head)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    try:
        assert isinstance(parse_request(head).sequence, str)
    except RemoteViolation:
        pass


def test_an_address_names_stream_track_and_ticket() -> None:
    assert parse_url(URL) == Target("abc", "", "t-_1")
    assert parse_url("rtsp://[::1]:554/live/abc/") == Target("abc", "", "")
    assert parse_url(track_url(URL, "video")) == Target("abc", "video", "t-_1")
    assert parse_url(f"{URL}/audio") == Target("abc", "audio", "t-_1")  # some put it behind
    for wrong in (
        "*",
        "rtsp://h/live/",
        "rtsp://h/live/a b",
        "http://h/live/a",
        f"{URL}&x=1",
        "rtsp:///live/a",
    ):
        with pytest.raises(RemoteViolation):
            parse_url(wrong)


@given(st.text(max_size=80))
def test_any_address_is_read_or_refused(text: str) -> None:
    try:
        assert parse_url(f"rtsp://h/live/{text}").stream_id.isalnum()
    except RemoteViolation:
        pass


HOST = "192.0.2.7"


@pytest.mark.parametrize(
    ("transport", "with_udp", "without"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=0-1", Carriage(), Carriage()),
        ("RTP/AVP;unicast;client_port=4588-4589", Carriage(4588), None),
        ('RTP/AVP/UDP;unicast;client_port=4588-4589;mode="PLAY"', Carriage(4588), None),
        ("rtp/avp; Unicast; Client_Port=4588", Carriage(4588), None),
        ("RTP/AVP;unicast;destination=192.0.2.7;client_port=4588-4589", Carriage(4588), None),
        ("RTP/AVP;unicast;client_port=1-2, rtp/avp/tcp;unicast", Carriage(), Carriage()),
        ("RTP/AVP;unicast;client_port=4588-4589, RTP/AVP/TCP", Carriage(4588), Carriage()),
        ("RTP/AVP;client_port=4588-4589", None, None),  # multicast, as RFC 2326 12.39 has it
        ("RTP/AVP;multicast;client_port=4588-4589", None, None),
        ("RTP/AVP;unicast;client_port=53-54", None, None),
        ("RTP/AVP;unicast;client_port=4588-4590", None, None),
        ("RTP/AVP;unicast;client_port=4589-4588", None, None),
        ("RTP/AVP;unicast;client_port=65535", None, None),
        ("RTP/AVP;unicast;client_port=70000-70001", None, None),
        ("RTP/AVP;unicast;client_port=x", None, None),
        ("RTP/AVP;unicast", None, None),
        ("RTP/AVP/TCP;unicast;mode=record", None, None),
        ("RTP/SAVP;unicast;client_port=4588-4589", None, None),
        (",".join(["x"] * 100) + ",RTP/AVP/TCP", None, None),
        ("", None, None),
    ],
)
def test_the_first_transport_that_can_be_had_is_taken(
    transport: str, with_udp: Carriage | None, without: Carriage | None
) -> None:
    assert choose_carriage(transport, HOST, has_udp=True) == with_udp
    assert choose_carriage(transport, HOST, has_udp=False) == without


@pytest.mark.parametrize("host", ["192.0.2.8", "::1", "example.org", "192.0.2.7.", "0"])
def test_no_stream_is_sent_to_another_host(host: str) -> None:
    with pytest.raises(Forbidden):
        choose_carriage(f"RTP/AVP;unicast;destination={host};client_port=4588-4589", HOST, has_udp=True)


def test_h264_and_g711_are_described() -> None:
    text = sdp(Description("h264", [SPS, PPS], "g711a"), URL).decode()
    assert "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" in text
    assert (
        "packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets=Z0LAHtoCgPZA,aM48gA==\r\n" in text
    )
    assert "a=control:rtsp://media:8554/live/abc/video?ticket=t-_1\r\n" in text
    assert "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000/1\r\n" in text


def test_h265_and_aac_are_described() -> None:
    text = sdp(Description("h265", H265, "aac", 16_000, 1, b"\x14\x08"), URL).decode()
    assert "a=fmtp:96 sprop-vps=QAEMAQ==;sprop-sps=QgEBAQ==;sprop-pps=RAHBcg==\r\n" in text
    assert "a=rtpmap:97 mpeg4-generic/16000/1\r\n" in text
    assert ";config=1408\r\n" in text


def test_what_cannot_be_sent_is_left_out() -> None:
    assert tracks_of(Description("svac", [], "g722.1")) == ()
    assert tracks_of(Description("h264", [], "aac")) == ("video",)  # its configuration was not heard yet
    assert tracks_of(Description("", [], "g711u")) == ("audio",)
    assert "a=fmtp" not in sdp(Description("h265", [], ""), URL).decode()


def test_a_response_has_the_sequence_and_the_length_of_its_body() -> None:
    assert render_response(461, "7", {}) == b"RTSP/1.0 461 Unsupported Transport\r\nCSeq: 7\r\n\r\n"
    assert render_response(200, "", {"A": "b"}, b"xy").endswith(b"A: b\r\nContent-Length: 2\r\n\r\nxy")
