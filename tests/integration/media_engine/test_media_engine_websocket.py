"""Viewers on a WebSocket: whole messages, pings between them, and an end that both sides understand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Container, Event

Clip = list[tuple[bytes, bool]]
Make = Callable[[str, int], Clip]
SendClip = Callable[[PsSender, Clip], None]
Eventually = Callable[[Callable[[], bool]], None]
WaitEvent = Callable[[Engine, str], "Event"]
MASK = b"\x01\x02\x03\x04"


def masked(first: int, payload: bytes = b"") -> bytes:
    body = bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))
    return bytes((first, 0x80 | len(payload))) + MASK + body


def message(player: socket.socket) -> tuple[int, bytes]:
    """First byte and payload of the next frame."""
    first, length = player.recv(2, socket.MSG_WAITALL)
    if length == 126:
        (length,) = struct.unpack(">H", player.recv(2, socket.MSG_WAITALL))
    elif length == 127:
        (length,) = struct.unpack(">Q", player.recv(8, socket.MSG_WAITALL))
    return first, player.recv(length, socket.MSG_WAITALL) if length else b""


class Watching:
    """One viewer of one camera."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self.engine = engine
        self.sender = PsSender("udp", "127.0.0.1", 0, 7, "h264")
        self.sender.connect("127.0.0.1", engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7))
        served, self.player = socket.socketpair()
        self.player.settimeout(5)
        self.number = engine.attach("camera", container, served.detach(), b"HEAD", "websocket")
        assert self.player.recv(4, socket.MSG_WAITALL) == b"HEAD"

    def close(self) -> None:
        self.player.close()
        self.sender.close()


@pytest.mark.parametrize("container", ["flv", "fmp4", "ps"])
def test_each_tag_is_one_message_and_together_they_are_the_file(
    engine: Engine,
    clip: Make,
    send_clip: SendClip,
    eventually: Eventually,
    count_pictures: Callable[[bytes], int],
    container: Container,
) -> None:
    watching = Watching(engine, container)
    send_clip(watching.sender, clip("h264", 30))
    eventually(lambda: engine.viewer_stats(watching.number)["frames"] >= 29)
    sent = engine.viewer_stats(watching.number)["bytes"] - len(b"HEAD")
    parts = []
    while sent > 0:
        first, payload = message(watching.player)
        assert first == 0x82
        head = 2 if len(payload) < 126 else 4 if len(payload) < 65_536 else 10
        sent -= head + len(payload)
        parts.append(payload)
    assert sent == 0
    assert len(parts) == engine.viewer_stats(watching.number)["frames"] + (container != "ps")
    assert count_pictures(b"".join(parts)) >= 28
    watching.close()


def test_a_ping_is_answered_between_messages_and_a_close_by_a_close(
    engine: Engine, clip: Make, send_clip: SendClip, wait_event: WaitEvent
) -> None:
    watching = Watching(engine, "flv")
    watching.player.sendall(masked(0x81, b"hello") + masked(0x89, b"one") + masked(0x89, b"are you there"))
    send_clip(watching.sender, clip("h264", 5))
    seen = [message(watching.player) for _ in range(4)]
    assert (0x8A, b"are you there") in seen
    assert {first for first, _ in seen} == {0x82, 0x8A}
    watching.player.sendall(masked(0x88, struct.pack(">H", 1000)))
    while (last := message(watching.player))[0] == 0x82:
        pass
    assert last == (0x88, struct.pack(">H", 1000))
    assert watching.player.recv(1) == b""
    assert wait_event(engine, "viewer_closed")["detail"] == "eof"
    watching.close()


@pytest.mark.parametrize(
    ("said", "code"),
    [(b"\x82\x05hello", 1002), (masked(0x82)[:1] + b"\xfe\xff\xff", 1009), (b"GET / HTTP/1.1\r\n\r\n", 1002)],
)
def test_who_breaks_the_rules_is_told_and_closed(
    engine: Engine, wait_event: WaitEvent, said: bytes, code: int
) -> None:
    watching = Watching(engine, "flv")
    watching.player.sendall(said)
    assert message(watching.player) == (0x88, struct.pack(">H", code))
    assert wait_event(engine, "viewer_closed")["detail"] == "protocol"
    watching.close()


def test_who_talks_without_end_is_closed(engine: Engine, wait_event: WaitEvent) -> None:
    watching = Watching(engine, "flv")
    try:
        watching.player.sendall(masked(0x89, b"x" * 125) * 4000)
    except OSError:
        pass  # closed while we still talked
    assert wait_event(engine, "viewer_closed")["detail"] == "protocol"
    watching.close()


def test_the_end_of_the_stream_is_said(engine: Engine, clip: Make, send_clip: SendClip) -> None:
    watching = Watching(engine, "flv")
    send_clip(watching.sender, clip("h264", 5))
    engine.close_stream("camera")
    while (last := message(watching.player))[0] == 0x82:
        pass
    assert last == (0x88, struct.pack(">H", 1001))
    assert watching.player.recv(1) == b""
    watching.close()


@pytest.mark.parametrize("container", ["flv", "fmp4"])
def test_sound_without_any_picture_is_served_after_a_second(
    engine: Engine, container: Container, eventually: Eventually
) -> None:
    """A stream of sound has no key frame to wait for."""
    sender = PsSender("udp", "127.0.0.1", 0, 7, "h264", "aac")
    sender.connect("127.0.0.1", engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7))
    served, player = socket.socketpair()
    player.settimeout(5)
    viewer = engine.attach("camera", container, served.detach(), b"", "websocket")
    silence = bytes.fromhex("fff14c4001bffc") + bytes.fromhex("00c800802380")
    for number in range(60):
        sender.send_audio(silence, 90_000 + number * 1920)
    eventually(lambda: engine.viewer_stats(viewer)["frames"] >= 8)
    first, header = message(player)
    assert first == 0x82
    assert header[:4] == b"FLV\x01" if container == "flv" else b"mp4a" in header
    player.close()
    sender.close()
