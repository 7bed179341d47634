"""Session descriptions, the Subject header and stream numbers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tongshi.errors import InvalidRequest, LimitExceeded, RemoteViolation, Unprocessable
from tongshi.ids import PlatformId
from tongshi.protocols.gb28181.media_format import MediaFormat, parse_format
from tongshi.protocols.gb28181.offer import answer_live, offer_history, offer_live
from tongshi.protocols.gb28181.profile import Profile, Quirk
from tongshi.protocols.gb28181.records import RecordType
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.ssrc import SERIALS, SsrcPool, format_ssrc, text10
from tongshi.protocols.gb28181.subject import Subject, parse_subject
from tongshi.protocols.gb28181.version import Edition
from tongshi.protocols.media.codecs import PS, RtpMap

DATA = Path(__file__).parents[3] / "data" / "gb28181"
PLATFORM = PlatformId("34020000002000000001")
F = MediaFormat("5", "6", "25", "1", "4096", "1", "8", "1")


def read(name: str) -> Sdp:
    return parse_sdp((DATA / name).read_bytes())


def test_the_live_offer_is_written_line_by_line_as_known_devices_want_it() -> None:
    offer = offer_live(
        owner_id=PLATFORM,
        address="192.0.2.20",
        port=30000,
        ssrc=200000001,
        transport="tcp-passive",
        stream_number=0,
        f=F,
    )
    assert offer.render() == (DATA / "live_offer_tcp_passive.sdp").read_bytes()
    assert read("live_offer_tcp_passive.sdp") == offer


def test_the_answer_takes_the_other_tcp_role_and_the_offered_ssrc() -> None:
    answer = answer_live(
        read("live_offer_tcp_passive.sdp"),
        owner_id="34020000001320000002",
        address="198.51.100.18",
        port=62000,
        f=F,
    )
    assert answer.render() == (DATA / "live_answer_tcp_active.sdp").read_bytes()
    assert read("live_answer_tcp_active.sdp") == answer


def test_the_offer_of_a_recording_names_channel_times_and_session() -> None:
    live = offer_live(owner_id=PLATFORM, address="192.0.2.20", port=30002, ssrc=1200000001, stream_number=0)
    times = {"channel_id": "34020000001320000002", "start_s": 1716076800, "end_s": 1716080399}
    playback = offer_history(live, **times)  # type: ignore[arg-type]
    assert playback.render() == (DATA / "playback_offer.sdp").read_bytes()
    assert read("playback_offer.sdp") == playback
    download = offer_history(live, **times, kind=RecordType.ALARM, download_speed=4)  # type: ignore[arg-type]
    lines = download.render().split(b"\r\n")
    assert b"s=Download" in lines
    assert b"u=34020000001320000002:2" in lines
    assert b"a=downloadspeed:4" in lines
    old = offer_history(live, **times, download_speed=4, profile=Profile(edition=Edition.GB2011))  # type: ignore[arg-type]
    assert old.download_speed is None
    assert old.session_name is SessionName.DOWNLOAD


def test_the_answer_of_a_download_tells_the_size() -> None:
    answer = read("download_answer_tcp_active.sdp")
    assert (answer.session_name, answer.file_size, answer.setup) == (
        SessionName.DOWNLOAD,
        901775360,
        "active",
    )
    assert answer.render() == (DATA / "download_answer_tcp_active.sdp").read_bytes()


def test_a_called_domain_answers_with_its_own_ssrc() -> None:
    offer = offer_live(owner_id=PLATFORM, address="192.0.2.20", port=30000, ssrc=None)
    assert b"y=" not in offer.render()
    answer = answer_live(offer, owner_id=PLATFORM, address="192.0.2.21", port=4, ssrc=100000001)
    assert (answer.ssrc_text, answer.setup, answer.protocol) == ("0100000001", None, "RTP/AVP")


def test_an_active_offer_is_answered_passive() -> None:
    offer = offer_live(owner_id=PLATFORM, address="192.0.2.20", port=9, ssrc=1, transport="tcp-active")
    assert answer_live(offer, owner_id=PLATFORM, address="192.0.2.21", port=4).setup == "passive"


def test_a_payload_type_that_was_not_offered_cannot_be_answered() -> None:
    with pytest.raises(Unprocessable) as caught:
        answer_live(read("live_answer_tcp_active.sdp"), owner_id="a", address="::1", port=1, payload_type=98)
    assert caught.value.sip_status == 488


def test_the_stream_number_is_said_as_the_profile_wants_it() -> None:
    def attributes(profile: Profile) -> bytes:
        return offer_live(
            owner_id=PLATFORM, address="::1", port=1, ssrc=1, stream_number=1, profile=profile
        ).render()

    old = Profile(edition=Edition.GB2016, quirks=frozenset({Quirk.STREAM_MODE_ATTRIBUTE}))
    assert b"a=streamnumber:1\r\n" in attributes(Profile())
    assert b"streamnumber" not in attributes(old)
    assert b"a=streamMode:sub\r\n" in attributes(old)
    assert b"c=IN IP6 ::1\r\n" in attributes(old)


def test_vendor_payload_types_come_after_ps() -> None:
    profile = Profile(quirks=frozenset({Quirk.VENDOR_RTPMAPS}))
    offer = offer_live(owner_id=PLATFORM, address="192.0.2.1", port=1, ssrc=1, profile=profile)
    assert offer.payload_types == (96, 98, 97, 100, 126, 125, 99, 34)
    assert offer.rtpmap[0] == PS
    assert len({rtpmap.payload_type for rtpmap in offer.rtpmap}) == len(offer.rtpmap)


def test_lf_alone_ends_a_line() -> None:
    sdp = read("quirk_33_lf_only.sdp")
    assert (sdp.port, sdp.direction, sdp.ssrc, sdp.rtpmap) == (62000, "sendonly", 200000001, (PS,))


def test_a_nine_digit_y_and_a_product_name_are_read() -> None:
    sdp = read("quirk_38_short_y_and_product_name.sdp")
    assert (sdp.ssrc, sdp.ssrc_text, sdp.session_name) == (200000001, "0200000001", SessionName.PLAY)
    assert sdp.f is None
    assert sdp.extra == ("username:34020000001320000002", "password:12345678")


def test_odd_history_lines_are_read() -> None:
    sdp = read("quirk_68_to_70_odd_history.sdp")
    assert (sdp.session_name, sdp.start_s, sdp.end_s) == (SessionName.PLAYBACK, 1716163200, 1716166800)
    assert (sdp.file_size, sdp.stream_number) == (None, 1)
    assert sdp.uri == "34020000001320000002:0"
    assert sdp.f == MediaFormat("2", "6", "25", "1", "2048")


def test_video_is_chosen_and_the_owner_gives_the_address() -> None:
    sdp = read("two_media_without_c.sdp")
    assert (sdp.media, sdp.port, sdp.address) == ("video", 62000, "198.51.100.18")


@pytest.mark.parametrize("name", ["bad_no_media.sdp", "bad_address.sdp"])
def test_a_bad_description_is_refused(name: str) -> None:
    with pytest.raises(RemoteViolation):
        read(name)


def test_a_history_description_is_written_and_read_back() -> None:
    sdp = Sdp(
        session_name=SessionName.DOWNLOAD,
        owner_id=PLATFORM,
        address="192.0.2.20",
        start_s=1716163200,
        end_s=1716166800,
        port=30000,
        payload_types=(96, 8),
        rtpmap=(PS, RtpMap(102, "AAC", 8000, 1)),
        direction="recvonly",
        download_speed=4,
        file_size=123,
        uri="34020000001320000002:0",
        ssrc=1200000001,
        extra=("fmtp:102 streamtype=5",),
    )
    assert parse_sdp(sdp.render()) == sdp


def test_y_and_f_are_the_last_lines_and_end_with_crlf() -> None:
    lines = offer_live(owner_id=PLATFORM, address="192.0.2.1", port=1, ssrc=1, f=F).render().split(b"\r\n")
    assert [line[:2] for line in lines[-3:]] == [b"y=", b"f=", b""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v/2/6/25/1/2048a///", MediaFormat("2", "6", "25", "1", "2048")),
        ("v/////a/1/8/1", MediaFormat(audio_codec="1", audio_rate="8", sampling="1")),
        ("v/5/2560x1440/25/2/a///", MediaFormat("5", "2560x1440", "25", "2")),
        ("v/2/4", MediaFormat("2", "4")),
    ],
)
def test_a_format_is_read_with_what_is_missing(text: str, expected: MediaFormat) -> None:
    assert parse_format(text) == expected
    assert parse_format(expected.render()) == expected


def test_a_format_that_says_nothing_is_known_as_empty() -> None:
    assert parse_format("v/////a///").is_empty
    assert parse_format("v/0/0/0/0/0a/0/0/0").is_empty
    assert not F.is_empty


def test_subject_is_written_and_read() -> None:
    text = "34020000001320000002:0200000001,34020000002000000001:0"
    subject = Subject("34020000001320000002", "0200000001", PLATFORM, "0")
    assert subject.render() == text
    assert parse_subject(" 34020000001320000002:0200000001 , 34020000002000000001:0 ") == subject
    assert not subject.is_history
    assert parse_subject("a:1200000001").is_history


@pytest.mark.parametrize("text", ["", ":1,a:0", "a" * 65 + ":0,b:0", "a:" + "0" * 65, "a:\x00,b:0"])
def test_a_subject_without_sender_or_beyond_bounds_is_refused(text: str) -> None:
    with pytest.raises(RemoteViolation):
        parse_subject(text)


@pytest.mark.parametrize(
    ("domain", "live", "text", "rtp"),
    [
        ("34020000002000000001", True, "0200000001", 0x0BEBC201),
        ("34020000002000000001", False, "1200000001", 0x47868C01),
        ("13010000002000000001", True, "0100000001", 0x05F5E101),
    ],
)
def test_ssrc_vectors(domain: str, live: bool, text: str, rtp: int) -> None:
    ssrc = format_ssrc("live" if live else "history", domain, 1)
    assert (ssrc, text10(ssrc)) == (rtp, text)


def test_live_and_history_never_share_a_serial() -> None:
    pool = SsrcPool(PLATFORM)
    live, history = pool.allocate(0.0), pool.allocate(0.0, live=False)
    assert (text10(live), text10(history)) == ("0200000001", "1200000002")


def test_a_released_serial_rests_before_it_is_used_again() -> None:
    pool = SsrcPool(PLATFORM, hold_s=60.0)
    taken = [pool.allocate(0.0) for _ in range(SERIALS)]
    assert len(set(taken)) == SERIALS
    with pytest.raises(LimitExceeded):
        pool.allocate(0.0)
    pool.release(taken[5], 10.0)
    pool.release(taken[5], 11.0)
    with pytest.raises(LimitExceeded) as caught:
        pool.allocate(69.0)
    assert caught.value.retry_after_s == 1.0
    assert pool.allocate(70.0) == taken[5]
    assert pool.in_use == SERIALS


def test_a_foreign_ssrc_is_not_released() -> None:
    pool = SsrcPool(PLATFORM)
    pool.allocate(0.0)
    pool.release(format_ssrc("live", "13010000002000000001", 1), 1.0)
    assert pool.in_use == 1


def test_a_pool_refuses_a_wrong_platform_code() -> None:
    with pytest.raises(InvalidRequest):
        SsrcPool(PlatformId("abc"))


def test_a_description_is_immutable() -> None:
    sdp = read("quirk_33_lf_only.sdp")
    moved = msgspec.structs.replace(sdp, port=4)
    assert (sdp.port, moved.port) == (62000, 4)
