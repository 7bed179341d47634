"""Pictures and sound in the order of their times, whatever comes late, too much or not at all."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.gateways.media import interleaving
from tongshi.gateways.media.interleaving import HOLD_S, Interleaver
from tongshi.protocols.media.fmp4 import TICKS_S, BoxReader, boxes

RATE_HZ = 16_000
FRAME_TICKS = 7_200


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def picture(number: int) -> bytes:
    """A fragment as the engine writes it."""
    tfhd = box(b"tfhd", struct.pack(">II", 0, 1))
    tfdt = box(b"tfdt", struct.pack(">IQ", 1 << 24, number * FRAME_TICKS))
    moof = box(b"moof", box(b"mfhd", struct.pack(">II", 0, number)) + box(b"traf", tfhd + tfdt))
    return moof + box(b"mdat", b"picture %d" % number)


HEAD = box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", bytes(100)) + box(b"mvex", b""))


def told(data: bytes) -> list[str]:
    """What a file holds: heads with their tracks, pictures with their numbers, sound."""
    found, number = [], 0
    for kind, whole in BoxReader().feed(data):
        if kind == b"moov":
            found.append("sounding" if b"mp4a" in whole else "silent")
        elif kind == b"moof":
            inside = dict(boxes(whole[8:]))
            number += 1
            assert struct.unpack(">II", inside[b"mfhd"]) == (0, number), "fragments count up"
        elif kind == b"mdat":
            found.append(whole[8:].decode())
    return found


def test_nothing_is_written_before_it_is_decided_and_a_silent_file_is_as_it_came() -> None:
    mixer = Interleaver()
    file = HEAD + picture(1) + picture(2)
    mixer.pictures(file[:100], 0.0)
    assert mixer.take(100.0) == b""
    mixer.pictures(file[100:], 0.0)
    assert mixer.held_bytes == len(file)
    mixer.silent()
    assert mixer.take(0.0) == file
    mixer.pictures(b"more", 0.0)
    assert mixer.take(0.0) == b"more"
    assert mixer.held_bytes == 0


def test_pictures_wait_for_the_sound_before_them() -> None:
    mixer = Interleaver()
    mixer.pictures(HEAD + picture(0) + picture(1), 0.0)
    mixer.sounding(RATE_HZ, 0.0)
    mixer.pictures(picture(2), 0.0)
    assert mixer.take(0.0) == b""
    mixer.sound(0, b"a")
    mixer.sound(1_024, b"b")
    written = mixer.take(0.0)
    mixer.sound(2_048, b"c")
    mixer.sound(3_072, b"d")
    written += mixer.take(0.0)
    assert told(written) == ["sounding", "a", "picture 0", "b", "picture 1", "c", "picture 2"]
    mixer.sound_over()
    assert [whole[8:] for kind, whole in BoxReader().feed(mixer.take(0.0)) if kind == b"mdat"] == [b"d"]


def test_they_do_not_wait_long_and_late_sound_keeps_its_time() -> None:
    mixer = Interleaver()
    mixer.sounding(RATE_HZ, 0.0)
    mixer.pictures(HEAD + picture(0), 10.0)
    assert mixer.take(10.0 + HOLD_S - 0.01) == b""
    written = mixer.take(10.0 + HOLD_S)
    mixer.pictures(picture(1), 20.0)
    mixer.sound(0, b"a")
    written += mixer.take(20.0)
    mixer.sound_over()
    written += mixer.take(20.0)
    assert told(written) == ["sounding", "picture 0", "a", "picture 1"]


def test_no_more_than_a_bound_of_them_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaving, "MAX_HELD_BYTES", 400)
    mixer = Interleaver()
    mixer.sounding(RATE_HZ, 0.0)
    for number in range(20):
        mixer.pictures((HEAD if number == 0 else b"") + picture(number), 0.0)
    written = told(mixer.take(0.0))
    assert written[0] == "sounding"
    assert 0 < mixer.held_bytes <= 400
    assert len(written) > 10


def test_sound_that_never_began_leaves_a_file_of_pictures() -> None:
    mixer = Interleaver()
    mixer.pictures(HEAD + picture(0), 0.0)
    mixer.sounding(RATE_HZ, 0.0)
    mixer.sound_over()
    assert told(mixer.take(0.0)) == ["silent", "picture 0"]


def test_new_parameter_sets_on_the_way_keep_the_sound() -> None:
    mixer = Interleaver()
    mixer.sounding(RATE_HZ, 0.0)
    mixer.pictures(HEAD + picture(0) + HEAD + picture(1), 0.0)
    mixer.sound(0, b"a")
    mixer.sound_over()
    assert told(mixer.take(0.0)) == ["sounding", "a", "picture 0", "sounding", "picture 1"]


def sound_times(stamps: list[int]) -> list[int]:
    mixer = Interleaver()
    mixer.sounding(RATE_HZ, 0.0)
    mixer.pictures(HEAD, 0.0)
    for stamp in stamps:
        mixer.sound(stamp, b"frame")
    mixer.sound_over()
    found = []
    for kind, whole in BoxReader().feed(mixer.take(0.0)):
        if kind == b"moof":
            found.append(struct.unpack(">IQ", dict(boxes(dict(boxes(whole[8:]))[b"traf"]))[b"tfdt"])[1])
    return found


def test_jitter_makes_no_gaps_a_pause_makes_one_and_too_much_sound_loses_a_frame() -> None:
    assert sound_times([0, 1_030, 2_000, 3_072]) == [0, 1_024, 2_048, 3_072]
    assert sound_times([0, 1_024, 50_000, 51_024]) == [0, 1_024, 50_000, 51_024]
    assert sound_times([0, 600, 1_000, 2_048]) == [0, 1_024, 2_048]


@given(st.lists(st.integers(-2_000, 20_000), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_whatever_the_stamps_sound_never_overlaps_nor_parts_by_a_frame(steps: list[int]) -> None:
    stamps = [max(0, sum(steps[: n + 1])) for n in range(len(steps))]
    times = sound_times(stamps)
    assert all(later - earlier >= 1_024 for earlier, later in pairwise(times))
    assert all(min(abs(time - stamp) for stamp in stamps) < 1_024 for time in times)


def test_where_the_sound_ends_is_told_in_seconds() -> None:
    mixer = Interleaver()
    assert mixer.sound_s is None
    mixer.sounding(RATE_HZ, 0.0)
    mixer.sound(RATE_HZ * 3, b"a")
    assert mixer.sound_s == 3 + 1_024 / RATE_HZ
    assert TICKS_S == 90_000
