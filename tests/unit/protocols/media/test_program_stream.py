"""Program stream files are cut, given another clock and sent without a byte being lost or invented."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi import _media
from tongshi.errors import RemoteViolation
from tongshi.protocols.media.program_stream import (
    RTP_PAYLOAD_BYTES,
    Pack,
    Packetizer,
    PackReader,
    restamp,
)

KEY = b"\0\0\0\1\x65" + bytes(200)
OTHER = b"\0\0\0\1\x41" + bytes(50)
SOUND = b"\xd5\0\0\1\xba" * 64  # G.711 may contain what looks like a start code


def file_of(*frames: tuple[str, bytes, int, bool]) -> bytes:
    return _media.ps_mux(list(frames), "h264", "g711a")


FRAMES = (
    ("video", KEY, 90_000, True),
    ("audio", SOUND, 90_000, False),
    ("video", OTHER, 93_600, False),
    ("video", KEY + bytes(70_000), 97_200, True),
    ("audio", SOUND, 97_200, False),
)


def packs_of(data: bytes, size: int = 1 << 20) -> list[Pack]:
    reader = PackReader()
    packs = [pack for at in range(0, len(data), size) for pack in reader.feed(data[at : at + size])]
    return packs + reader.finish()


@settings(deadline=None, max_examples=25)
@given(st.integers(20, 5_000))
def test_packs_are_the_same_however_the_bytes_come(size: int) -> None:
    data = file_of(*FRAMES)
    packs = packs_of(data, size)
    assert b"".join(pack.data for pack in packs) == data
    assert [(p.pts, p.is_video, p.is_key) for p in packs] == [
        (pts, kind == "video", key) for kind, _, pts, key in FRAMES
    ]
    assert packs[0].codecs == ("h264", "g711a")
    assert packs[2].codecs == ("", "")


def test_the_last_pack_of_a_file_that_was_cut_off_is_not_given_out() -> None:
    data = file_of(*FRAMES)
    reader = PackReader()
    assert len(reader.feed(data[:-1])) == 4
    assert reader.finish() == []


@given(st.binary(max_size=400))
def test_any_bytes_give_packs_or_a_violation(data: bytes) -> None:
    reader = PackReader()
    try:
        reader.feed(data)
    except RemoteViolation:
        pass


def test_what_is_whole_before_damage_is_given_out_first() -> None:
    reader = PackReader()
    data = file_of(*FRAMES[:3])
    assert len(reader.feed(data + b"garbage, no start code")) == 2
    with pytest.raises(RemoteViolation):
        reader.feed(b"more")


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**33 - 1))
def test_another_time_changes_nothing_else(pts: int) -> None:
    for pack in packs_of(file_of(*FRAMES)):
        moved = restamp(pack, pts)
        assert packs_of(moved)[0].pts == pts
        kept = [(codec, payload, key) for codec, payload, _, key in _media.ps_demux(pack.data)]
        assert [(codec, payload, key) for codec, payload, _, key in _media.ps_demux(moved)] == kept
        assert restamp(packs_of(moved)[0], pack.pts) == pack.data


def test_packets_carry_the_pack_and_the_marker_is_on_the_last() -> None:
    packetizer = Packetizer(ssrc=7)
    data = bytes(range(256)) * 20
    out = packetizer.frame(data, 2**32 + 5)
    payload, markers, at = b"", [], 0
    while at < len(out):
        size, first, second, _, timestamp, ssrc = struct.unpack_from(">HBBHII", out, at)
        assert (first, second & 0x7F, timestamp, ssrc) == (0x80, 96, 5, 7)
        markers.append(second >> 7)
        payload += out[at + 14 : at + 2 + size]
        at += 2 + size
    assert payload == data
    assert markers == [0] * (len(markers) - 1) + [1]
    assert packetizer.sequence == len(markers) == -(-len(data) // RTP_PAYLOAD_BYTES)
