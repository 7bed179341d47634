"""FLV as our engine writes it, read again however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.media.adts import HEAD_BYTES, adts
from tongshi.protocols.media.flv import (
    MAX_TAG_BYTES,
    SOUND,
    VIDEO,
    FlvReader,
    SoundTag,
    VideoTag,
    sound_of,
    video_of,
)

HEAD = b"FLV\x01\x05\0\0\0\x09\0\0\0\0"


def tag(kind: int, time_ms: int, content: bytes) -> bytes:
    time = (time_ms & 0xFFFFFF).to_bytes(3, "big") + bytes([time_ms >> 24])
    whole = bytes([kind]) + len(content).to_bytes(3, "big") + time + b"\0\0\0" + content
    return whole + len(whole).to_bytes(4, "big")


@given(st.lists(st.integers(1, 20), max_size=20))
def test_tags_come_whole_however_they_are_cut(cuts: list[int]) -> None:
    data = HEAD + tag(VIDEO, 1, b"abc") + tag(SOUND, 0x01000002, b"") + tag(VIDEO, 3, bytes(30))
    reader, got, at = FlvReader(), [], 0
    for size in [*cuts, len(data)]:
        got += list(reader.feed(data[at : at + size]))
        at += size
    assert got == [(VIDEO, 1, b"abc"), (SOUND, 0x01000002, b""), (VIDEO, 3, bytes(30))]


def test_pictures_and_sound_are_told_apart() -> None:
    assert video_of(b"\x17\0\0\0\0rec") == VideoTag("h264", True, True, 0, b"rec")
    assert video_of(b"\x27\1\xff\xff\xf6nal") == VideoTag("h264", False, False, -10, b"nal")
    assert video_of(b"\x90hvc1rec") == VideoTag("h265", True, True, 0, b"rec")
    assert video_of(b"\xa3hvc1nal") == VideoTag("h265", False, False, 0, b"nal")
    assert video_of(b"\x91hvc1\0\0\x28nal") == VideoTag("h265", True, False, 40, b"nal")
    for useless in (b"", b"\x17\2\0\0\0", b"\x92hvc1", b"\x90av01rec", b"\x14\0\0\0\0"):
        assert video_of(useless) is None
    assert sound_of(b"\x72\xd5") == SoundTag("g711a", False, b"\xd5")
    assert sound_of(b"\x82\xd5") == SoundTag("g711u", False, b"\xd5")
    assert sound_of(b"\xaf\0\x14\x08") == SoundTag("aac", True, b"\x14\x08")
    assert sound_of(b"\xaf\1raw") == SoundTag("aac", False, b"raw")
    assert sound_of(b"\x2f") is None
    assert sound_of(b"") is None


def test_what_is_no_flv_or_too_large_is_refused() -> None:
    with pytest.raises(RemoteViolation):
        list(FlvReader().feed(b"<html>" + bytes(20)))
    huge = bytes([VIDEO]) + (MAX_TAG_BYTES + 1).to_bytes(3, "big") + bytes(7)
    with pytest.raises(RemoteViolation):
        list(FlvReader().feed(HEAD + huge))


@given(st.binary(max_size=200))
def test_any_bytes_are_tags_or_refused(data: bytes) -> None:
    for one in (data, HEAD + data):
        try:
            for kind, _, content in FlvReader().feed(one):
                assert kind < 32
                video_of(content)
                sound_of(content)
        except RemoteViolation:
            pass


def test_an_adts_head_tells_rate_channels_and_length() -> None:
    framed = adts(bytes(100), 16_000, 1)
    assert framed[:2] == b"\xff\xf1"
    assert (framed[2] >> 2 & 15, framed[2] & 1, framed[3] >> 6) == (8, 0, 1)
    length = (framed[3] & 3) << 11 | framed[4] << 3 | framed[5] >> 5
    assert length == len(framed) == 100 + HEAD_BYTES
