"""What the worker makes of sizes, NAL units and configuration records."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("av")

from tongshi._media import PsSender
from tongshi.errors import Unprocessable
from tongshi.gateways.media.transcoder.pipe import SOUND_HEAD
from tongshi.gateways.media.transcoder.pool import LINE, Transcoders
from tongshi.gateways.media.transcoder.worker import (
    FiledSound,
    Meter,
    Sink,
    fitted,
    parameter_sets,
    units_of,
    usual_kbps,
)
from tongshi.protocols.media import flv
from tongshi.protocols.media.g711 import SILENCE
from tongshi.resources.viewing.model import SILENT, Codec, Coding, Transcoding


def test_a_picture_is_made_smaller_in_its_shape_and_never_larger() -> None:
    assert fitted(3840, 2160, 1280, 720) == (1280, 720)
    assert fitted(640, 360, 1280, 720) == (640, 360)
    assert fitted(1080, 1920, 1280, 720) == (404, 720)
    assert fitted(1921, 1081, 1920, 1080) == (1920, 1080)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_any_size_is_fitted_and_even(width: int, height: int) -> None:
    made = fitted(width, height, 1280, 720)
    assert 2 <= made[0] <= 1280
    assert 2 <= made[1] <= 720
    assert not made[0] % 2
    assert not made[1] % 2


def test_units_are_read_as_long_as_they_are_whole() -> None:
    assert list(units_of(b"\0\0\0\1a\0\0\0\2bc\0\0\0\5d")) == [b"a", b"bc"]


def test_parameter_sets_come_out_of_both_records() -> None:
    avcc = b"\1\x42\0\x1e\xff\xe1\0\3sps\1\0\3pps"
    assert parameter_sets("h264", avcc) == b"\0\0\0\1sps\0\0\0\1pps"
    hvcc = bytes(22) + b"\2" + b"\x20\0\1\0\3vps" + b"\x21\0\1\0\3sps"
    assert parameter_sets("h265", hvcc) == b"\0\0\0\1vps\0\0\0\1sps"


def test_only_what_a_stream_lacks_is_made() -> None:
    both = Transcoding("h264", "aac")
    assert both.needed_for(Codec("h264", "aac")) is None
    assert both.needed_for(Codec("h264", "")) is None
    assert both.needed_for(Codec("h265", "g711a")) == both
    assert both.needed_for(Codec("h265", "")) == both  # sound may still come
    assert both.needed_for(Codec("h264", "g711a")) == Transcoding("", "aac")
    assert Transcoding("h264").needed_for(Codec("h265", "g711a")) == Transcoding("h264")


def test_who_wants_no_sound_never_gets_the_stream_that_it_may_come_in() -> None:
    silent = Transcoding("", SILENT)
    for source in (Codec("h264", "g711a"), Codec("h265", ""), Codec("h264", "g722.1")):
        assert silent.needed_for(source) == silent
        assert not silent.must_know_sound_of(source)
    with pytest.raises(Unprocessable) as refusal:
        Transcoders(0).check(Codec("h264", "aac"), silent)
    assert (refusal.value.code, refusal.value.field) == (42203, "audio")
    assert "静音" in refusal.value.message


def test_sound_that_no_coder_gets_is_refused_and_not_lost() -> None:
    source = Codec("h265", "g722.1", 640, 360)
    with pytest.raises(Unprocessable) as refusal:
        Transcoders(1).check(source, Transcoding("h264", "aac"))
    assert (refusal.value.code, refusal.value.field) == (42203, "transcode.audio")
    assert "音频编码改为 G.711" in refusal.value.message
    Transcoders(1).check(source, Transcoding("h264"))


def test_sound_is_waited_for_where_it_decides_something() -> None:
    unheard = Codec("h264")
    assert Transcoding("h264", "aac").must_know_sound_of(unheard)
    assert Transcoding("h264", "").must_know_sound_of(Codec("h265"))
    assert not Transcoding("h264", "").must_know_sound_of(unheard)
    assert not Transcoding("h264", "aac").must_know_sound_of(Codec("h265"))
    assert not Transcoding("h264", "").must_know_sound_of(Codec("h265", "g711a"))


def test_a_most_that_was_said_is_kept_by_coding_and_one_that_holds_already_is_not() -> None:
    large, small = Codec("h264", "", 1920, 1080), Codec("h264", "", 640, 360)
    for wish in (Transcoding("h264", width=1280), Transcoding("h264", height=720)):
        assert wish.needed_for(large) == wish
        assert wish.needed_for(small) is None
    for wish in (Transcoding("h264", fps=10), Transcoding("h264", bitrate_kbps=500)):
        assert wish.needed_for(small) == wish


class Hand:
    """A clock moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_meter_tells_the_speed_of_the_work_and_not_of_the_waiting() -> None:
    clock, pictures = Hand(), Sink(PsSender("udp", "127.0.0.1", 0, 1, "h264"))
    meter = Meter(pictures, clock)

    def late() -> bytes:
        clock.now += 3.0
        return b"x"

    assert meter.idle(late) == b"x"
    assert meter.line() == "", "nothing went in"
    for time_ms in range(0, 2_001, 40):
        meter.took(time_ms)
    pictures.taken, pictures.made, pictures.thinned = 51, 50, 1
    clock.now += 1.0
    assert meter.line() == "51 50 1 0 200", "two seconds of pictures in one of work"
    assert meter.line() == "", "told just now"
    meter.took(2_500)
    clock.now += 1.0
    assert meter.line() == "51 50 1 0 50"


@pytest.mark.parametrize(
    ("coding", "said"),
    [
        (Coding(100, 100, speed=3.0, queued_bytes=9), ""),
        (Coding(100, 100, speed=0.8), ""),
        (Coding(100, 100, speed=0.8, queued_bytes=9), "转码慢于实时（0.80 倍速）"),
        (Coding(100, 80, skipped=12, speed=0.8), "转码跟不上（0.80 倍速），已跳过 12 帧"),
        (Coding(skipped=12), "转码跟不上，已跳过 12 帧"),
    ],
)
def test_a_viewer_is_told_of_a_coder_that_is_behind(coding: Coding, said: str) -> None:
    assert coding.trouble.startswith(said)
    assert bool(coding.trouble) == bool(said)


def test_what_is_no_line_of_figures_counts_nothing() -> None:
    assert not LINE.findall(b"1 2 3 4\n9 9 9 9 x\n1 2 3 4 5")
    assert LINE.findall(b"7\n1 2 3 4 5\n6 7 8 9 10\n1")[-1] == (b"6", b"7", b"8", b"9", b"10")


def test_a_rate_that_was_not_said_goes_by_the_size() -> None:
    assert usual_kbps(640, 360) == usual_kbps(1280, 720) == 1_500
    assert usual_kbps(1920, 1080) == 3_375


def test_what_is_too_large_to_be_decoded_is_refused_and_may_be_passed_on() -> None:
    transcoders = Transcoders(1)
    too_large, largest = Codec("h265", "g711a", 4096, 2304), Codec("h265", "g711a", 3840, 2160)
    transcoders.check(largest, Transcoding("h264", "aac"))
    transcoders.check(too_large, Transcoding("", "aac"))
    with pytest.raises(Unprocessable) as refusal:
        transcoders.check(too_large, Transcoding("h264"))
    assert (refusal.value.code, refusal.value.field) == (42203, "transcode.video")
    assert "4096×2304" in refusal.value.message


def filed(tags: list[tuple[int, str, int]]) -> list[int]:
    """Times in samples of what is made of silence: (milliseconds, codec, bytes)."""
    pipe = io.BytesIO()
    sound = FiledSound(pipe, 16_000)
    for time_ms, codec, size in tags:
        law = SILENCE["alaw" if codec == "g711a" else "ulaw"]
        sound.take(time_ms, flv.SoundTag(codec, False, law[:1] * size))
    sound.finish()
    pipe.seek(0)
    times = []
    while head := pipe.read(SOUND_HEAD.size):
        time, size = SOUND_HEAD.unpack(head)
        assert len(pipe.read(size)) == size > 0
        times.append(time)
    return times


@pytest.mark.parametrize("codec", ["g711a", "g711u"])
def test_sound_of_a_file_is_coded_from_its_first_time_to_its_last(codec: str) -> None:
    times = filed([(10_000 + 20 * n, codec, 160) for n in range(100)])
    assert times[0] == 160_000 - 1_024, "the coder fills with what was before"
    assert all(later - earlier == 1_024 for earlier, later in pairwise(times))
    assert 160_000 + 32_000 <= times[-1] + 1_024 < 160_000 + 32_000 + 1_024


def test_what_is_before_the_file_is_left_out() -> None:
    assert filed([(20 * n, "g711a", 160) for n in range(10)])[0] == 0


def test_after_a_pause_or_another_law_the_sound_begins_anew_at_its_time() -> None:
    tags = [(1_000 + 20 * n, "g711a", 160) for n in range(10)]
    times = filed([*tags, *[(5_000 + 20 * n, "g711a", 160) for n in range(10)]])
    assert 80_000 - 1_024 in times
    assert [time for time in times if 19_200 + 1_024 <= time < 80_000 - 1_024] == []
    other = filed([*tags, *[(1_200 + 20 * n, "g711u", 160) for n in range(10)]])
    assert other[-1] + 1_024 >= 1_400 * 16


def test_sound_of_another_kind_is_no_sound_of_a_file() -> None:
    assert filed([]) == []
    pipe = io.BytesIO()
    sound = FiledSound(pipe, 16_000)
    sound.take(0, flv.SoundTag("aac", False, b"frame"))
    sound.finish()
    assert pipe.getvalue() == b""
