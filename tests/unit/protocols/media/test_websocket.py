"""The microphone's WebSocket: frames in any pieces, and what ends a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.protocols.media.websocket import (
    MAX_MESSAGE_BYTES,
    CloseCode,
    Frame,
    FrameReader,
    Opcode,
    Violation,
    accept_key,
    close_frame,
    upgrade_head,
)


def masked(first: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((first,)) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def test_the_key_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_frames_are_read_from_any_pieces(payloads: list[bytes], step: int) -> None:
    stream = b"".join(masked(0x82, payload) for payload in payloads)
    reader = FrameReader()
    found = [f for begin in range(0, len(stream), step) for f in reader.feed(stream[begin : begin + step])]
    assert found == [Frame(Opcode.BINARY, payload) for payload in payloads]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x01a", CloseCode.PROTOCOL),  # not masked
        (masked(0x81, b"text"), CloseCode.UNSUPPORTED),
        (masked(0x02, b"part"), CloseCode.UNSUPPORTED),  # a fragment
        (masked(0xC2, b"packed"), CloseCode.PROTOCOL),
        (masked(0x83, b"?"), CloseCode.PROTOCOL),
        (masked(0x88, bytes(126)), CloseCode.PROTOCOL),  # a control frame is short
        (b"\x82\xff" + bytes(8), CloseCode.TOO_BIG),
        (b"\x82\xfe" + (MAX_MESSAGE_BYTES + 1).to_bytes(2, "big"), CloseCode.TOO_BIG),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(data: bytes, code: CloseCode) -> None:
    with pytest.raises(Violation) as caught:
        FrameReader().feed(data)
    assert caught.value.code is code
    assert close_frame(code) == b"\x88\x02" + code.to_bytes(2, "big")


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_a_violation(data: bytes) -> None:
    try:
        frames = FrameReader().feed(data)
    except Violation:
        return
    assert all(frame.opcode in Opcode for frame in frames)


def test_only_a_key_is_answered() -> None:
    head = upgrade_head("dGhlIHNhbXBsZSBub25jZQ==")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert head.endswith(b"\r\n\r\n")
    for wrong in ("", "x", "dGhlIHNhbXBsZSBub25jZQ==\r\nX: y", "=" * 24):
        with pytest.raises(Violation):
            upgrade_head(wrong)
