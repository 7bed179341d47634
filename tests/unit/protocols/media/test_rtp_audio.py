"""Packets of sound: written, read, and what is none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tongshi.protocols.media.rtp_audio import AudioPacket, framed, parse_packet


def test_a_packet_is_the_bytes_of_the_standard() -> None:
    packet = AudioPacket(8, 2, 900_000, 200_000_001, b"\xd5\xd5", marker=True)
    assert packet.render() == bytes.fromhex("80880002000dbba00bebc201d5d5")
    assert framed(b"abc") == b"\x00\x03abc"


def test_padding_extension_and_contributors_are_left_out() -> None:
    head = bytes.fromhex("b1080002000dbba00bebc201")  # padding, extension, one contributor
    contributor, extension, padding = bytes(4), bytes.fromhex("bede0001") + bytes(4), b"\x00\x00\x03"
    packet = parse_packet(head + contributor + extension + b"\x11\x22" + padding)
    assert packet is not None
    assert packet.payload == b"\x11\x22"


@given(
    st.builds(
        AudioPacket,
        st.integers(0, 127),
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(min_size=1, max_size=400),
        st.booleans(),
    )
)
def test_what_is_written_is_read_back(packet: AudioPacket) -> None:
    assert parse_packet(packet.render()) == packet


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_nothing(data: bytes) -> None:
    packet = parse_packet(data)
    assert packet is None or 0 < len(packet.payload) <= len(data)
