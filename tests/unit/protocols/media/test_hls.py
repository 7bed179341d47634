"""Segments and playlists of HLS: when a segment begins, what is told of it, and what is forgotten."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.protocols.media.hls import (
    FLAG_INIT,
    FLAG_KEY,
    KEPT_SEGMENTS,
    PART_HEAD,
    TARGET_S,
    PartRing,
)

INIT = b"\x00\x00\x00\x0cftypiso5\x00\x00\x00\x08moov"


def part(length_s: float = 0.48, *, key: bool = False, data: bytes = b"m", init: bytes = b"") -> bytes:
    flags = FLAG_KEY * key + FLAG_INIT * bool(init)
    return PART_HEAD.pack(round(length_s * 90_000), flags) + init + data


def ring_of(*messages: bytes) -> PartRing:
    ring = PartRing()
    ring.begin(INIT)
    for message in messages:
        ring.add(message)
    return ring


def group(count: int = 5) -> list[bytes]:
    """A group of pictures of about two seconds."""
    return [part(0.4, key=n == 0, data=bytes((65 + n,))) for n in range(count)]


def test_the_first_playlist_tells_the_parts_of_a_segment_that_still_grows() -> None:
    playlist = ring_of(*group()[:2]).playlist("?ticket=t").splitlines()
    assert playlist == [
        "#EXTM3U",
        "#EXT-X-VERSION:9",
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.500",
        "#EXT-X-PART-INF:PART-TARGET=0.500",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-DISCONTINUITY-SEQUENCE:0",
        '#EXT-X-MAP:URI="init-0.mp4?ticket=t"',
        '#EXT-X-PART:DURATION=0.40000,URI="0.0.m4s?ticket=t",INDEPENDENT=YES',
        '#EXT-X-PART:DURATION=0.40000,URI="0.1.m4s?ticket=t"',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="0.2.m4s?ticket=t"',
    ]


def test_a_segment_ends_with_its_group_and_is_the_sum_of_its_parts() -> None:
    ring = ring_of(*group(), *group())
    assert ring.newest == (1, 4)
    assert ring.segment(0) == b"ABCDE"
    assert ring.segment(1) is None  # it grows
    assert (ring.part(1, 4), ring.part(1, 5), ring.part(2, 0)) == (b"E", None, None)
    assert "#EXTINF:2.00000,\n0.m4s\n" in ring.playlist("")
    ring.is_over = True
    assert ring.segment(1) == b"ABCDE"
    assert ring.playlist("").endswith("#EXTINF:2.00000,\n1.m4s\n#EXT-X-ENDLIST\n")


def test_many_key_frames_make_no_crumbs_and_few_no_long_segments() -> None:
    often = ring_of(*[part(0.5, key=True) for _ in range(13)])
    assert often.newest == (4, 0)  # three parts of half a second each
    seldom = ring_of(*[part(0.5, key=n % 20 == 0) for n in range(21)])
    lengths = re.findall(r"#EXTINF:([0-9.]+)", seldom.playlist(""))
    assert [float(one) for one in lengths] == [4.0, 4.0, 2.0]
    assert seldom.playlist("").count("INDEPENDENT=YES") == 1


def test_another_decoder_configuration_is_a_break_with_its_own_init_segment() -> None:
    ring = ring_of(*group(), part(key=True, init=INIT[:-4] + b"moov", data=b"n"))
    assert ring.newest == (1, 0)
    assert (ring.init(0), ring.init(1), ring.init(2)) == (INIT, INIT, None)
    assert ring.part(1, 0) == b"n"
    assert '#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="init-1.mp4"' in ring.playlist("")
    for _ in range(7):
        for message in group():
            ring.add(message)
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in ring.playlist("")
    assert "#EXT-X-DISCONTINUITY\n" not in ring.playlist("")
    for _ in range(7):
        for message in group():
            ring.add(message)
    assert ring.init(0) is None  # nobody needs it any more
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in ring.playlist("")


def test_a_reload_waits_for_what_is_next_and_not_for_what_is_far() -> None:
    ring = ring_of(*group(), *group()[:2])
    assert ring.has(0, None)
    assert ring.has(0, 9)  # past the end of a segment is the next one's first part
    assert ring.has(1, 1)
    assert not ring.has(1, 2)
    assert not ring.has(1, None)
    assert not ring.has(2, 0)
    assert not ring.is_too_far(3)
    assert ring.is_too_far(4)


def test_a_camera_of_one_picture_a_second_is_told_longer_parts() -> None:
    ring = ring_of(*[part(1.0, key=n % 2 == 0) for n in range(5)])
    assert "PART-TARGET=1.000" in ring.playlist("")
    assert "PART-HOLD-BACK=3.000" in ring.playlist("")


@pytest.mark.parametrize("message", [b"", b"1234567", part(data=b""), part(init=b"x", data=b"")])
def test_what_is_no_part_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"part|init segment"):
        ring_of(message)


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.booleans(), st.booleans()), min_size=1, max_size=120))
def test_any_parts_stay_within_bounds_and_in_order(made: list[tuple[float, bool, bool]]) -> None:
    ring, numbers = ring_of(), []
    for length_s, is_key, is_new in made:
        ring.add(part(length_s, key=is_key, init=INIT if is_new else b""))
        playlist = ring.playlist("")
        listed = [int(one) for one in re.findall(r"^([0-9]+)\.m4s", playlist, re.M)]
        assert listed == list(range(ring.newest[0] - len(listed), ring.newest[0]))
        assert all(ring.segment(one) for one in listed)
        lengths = [float(one) for one in re.findall(r"#EXTINF:([0-9.]+)", playlist)]
        assert all(round(one) <= TARGET_S for one in lengths)
        numbers.append(ring.newest)
    assert numbers == sorted(numbers)
    kept = [n for n in range(ring.newest[0]) if ring.segment(n) is not None]
    assert len(kept) <= KEPT_SEGMENTS
