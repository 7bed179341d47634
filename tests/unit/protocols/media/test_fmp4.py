"""Boxes as they pass by, and a track of sound put beside the engine's pictures."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.media.fmp4 import (
    MAX_BOX_BYTES,
    BoxReader,
    boxes,
    numbered,
    picture_time,
    sound_fragment,
    with_sound,
)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def fragment(track: int, time: int, is_long: bool = True) -> bytes:
    tfhd = box(b"tfhd", struct.pack(">II", 0, track))
    tfdt = box(b"tfdt", struct.pack(">IQ", 1 << 24, time) if is_long else struct.pack(">II", 0, time))
    return box(b"mfhd", bytes(8)) + box(b"traf", tfhd + tfdt)


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 50), max_size=30))
@settings(max_examples=60, deadline=None)
def test_boxes_are_whole_however_the_bytes_are_cut(contents: list[bytes], cuts: list[int]) -> None:
    whole = [box(b"mdat", content) for content in contents]
    found: list[tuple[bytes, bytes]] = []
    data, reader, at = b"".join(whole), BoxReader(), 0
    for cut in cuts:
        found += reader.feed(data[at : at + cut])
        at += cut
    found += reader.feed(data[at:])
    assert found == [(b"mdat", one) for one in whole]


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_boxes_or_refused(data: bytes) -> None:
    try:
        for kind, whole in BoxReader().feed(data):
            assert whole[4:8] == kind
    except RemoteViolation:
        pass
    boxes(data)
    picture_time(data)


@pytest.mark.parametrize("size", [0, 7, MAX_BOX_BYTES + 1])
def test_a_size_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(RemoteViolation, match="box"):
        list(BoxReader().feed(struct.pack(">I4s", size, b"moof")))


def test_only_a_fragment_of_pictures_has_their_time() -> None:
    assert picture_time(fragment(1, 1 << 33)) == 1 << 33
    assert picture_time(fragment(1, 7, is_long=False)) == 7
    assert picture_time(fragment(2, 7)) is None
    assert picture_time(b"") is None


def test_a_fragment_of_sound_says_where_its_bytes_are_and_gets_its_number() -> None:
    made = numbered(sound_fragment(1 << 33, b"frame"), 77)
    (_, moof), (kind, media) = boxes(made)
    assert (kind, media) == (b"mdat", b"frame")
    inside = dict(boxes(moof))
    assert struct.unpack(">II", inside[b"mfhd"]) == (0, 77)
    run = dict(boxes(inside[b"traf"]))
    assert struct.unpack(">IQ", run[b"tfdt"]) == (1 << 24, 1 << 33)
    _, count, at, duration, size, _, shift = struct.unpack(">7I", run[b"trun"])
    assert made[at : at + size] == b"frame"
    assert (count, duration, shift) == (1, 1024, 0)


def test_a_track_of_sound_stands_behind_that_of_pictures() -> None:
    moov = box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", b"") + box(b"mvex", box(b"trex", bytes(24))))
    inside = boxes(with_sound(moov, 16_000)[8:])
    assert [kind for kind, _ in inside] == [b"mvhd", b"trak", b"trak", b"mvex"]
    assert inside[2][1].count(b"mp4a\0") == 1
    assert b"\x05\x02\x14\x08" in inside[2][1], "AAC-LC, 16 kHz, one channel"
    assert struct.unpack(">6I", boxes(inside[3][1])[1][1]) == (0, 2, 1, 0, 0, 0)
