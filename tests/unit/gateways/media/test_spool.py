"""Time in fragmented MP4 as it passes by, however it is cut."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.gateways.media.spool import FragmentClock


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def fragment(track: int, time: int, is_long: bool = True) -> bytes:
    tfhd = box(b"tfhd", struct.pack(">II", 0, track))
    tfdt = box(b"tfdt", struct.pack(">IQ", 1 << 24, time) if is_long else struct.pack(">II", 0, time))
    return box(b"moof", box(b"mfhd", bytes(8)) + box(b"traf", tfhd + tfdt)) + box(b"mdat", b"picture" * 40)


START = box(b"ftyp", b"isom") + box(b"moov", bytes(500))


def test_the_span_runs_from_the_first_picture_to_the_last_and_sound_does_not_count() -> None:
    clock = FragmentClock()
    assert clock.seconds == 0.0
    clock.feed(START + fragment(1, 900_000) + fragment(2, 1) + fragment(1, 1_080_000, is_long=False))
    assert clock.seconds == 2.0


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    data = START + b"".join(fragment(1, 7200 * number) for number in range(20))
    clock, at = FragmentClock(), 0
    for cut in cuts:
        clock.feed(data[at : at + cut])
        at += cut
    clock.feed(data[at:])
    assert clock.seconds == 19 * 7200 / 90_000


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_taken(data: bytes) -> None:
    clock = FragmentClock()
    clock.feed(data)
    assert clock.seconds >= 0.0
