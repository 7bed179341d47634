"""Time in fragmented MP4 and in program streams as it passes by, however it is cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.gateways.media.spool import FragmentClock, PackClock


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


def program_stream(first: int, count: int, step: int = 3600) -> bytes:
    """Packs as our multiplexer writes them, made by it."""
    media = pytest.importorskip("tongshi._media", reason="the native engine is not built")
    key = bytes.fromhex("00000001 6742c01eda0280f640 00000001 68ce3c80 00000001 658801") + b"\xa5" * 70_000
    frames = [
        ("video", key if n % 5 == 0 else b"\x00\x00\x00\x01\x41\x9a\x02", first + n * step, n % 5 == 0)
        for n in range(count)
    ]
    data = media.ps_mux(frames, "h264", "g711a")
    assert isinstance(data, bytes)
    return data


@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=20), st.sampled_from([900_000, (1 << 33) - 9000])
)
@settings(max_examples=40, deadline=None)
def test_the_span_of_a_program_stream_is_that_of_its_packs_also_across_the_wrap(
    cuts: list[int], first: int
) -> None:
    data = program_stream(first, 20)
    clock, at = PackClock(), 0
    assert clock.seconds == 0.0
    for cut in cuts:
        clock.feed(data[at : at + cut])
        at += cut
    clock.feed(data[at:])
    assert clock.seconds == 19 * 3600 / 90_000


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_taken_for_a_program_stream(data: bytes) -> None:
    clock = PackClock()
    clock.feed(data)
    assert clock.seconds >= 0.0
