"""Engines, clips and players for the media engine's tests. Loopback only."""

from __future__ import annotations

import io
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Container, Event

Clip = list[tuple[bytes, bool]]
"""Access units in Annex B, and whether each is a key frame."""

FRAME_TICKS = 3600  # 25 frames a second on the 90 kHz clock


@cache
def encode(codec: str, count: int) -> Clip:
    """A moving bar, a key frame every 25 pictures."""
    name, format_name = {"h264": ("libx264", "h264"), "h265": ("libx265", "hevc")}[codec]
    container = av.open(io.BytesIO(), "w", format=format_name)
    stream = container.add_stream(name, rate=25)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    stream.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "g": "25",
        "x265-params": "keyint=25:min-keyint=25:bframes=0:log-level=error",
    }
    units: Clip = []
    for number in range(count):
        picture = np.zeros((240, 320, 3), np.uint8)
        left = number * 4 % 300
        picture[:, left : left + 20] = 255
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        units += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(frame)]
    units += [(bytes(packet), packet.is_keyframe) for packet in stream.encode()]
    return units


@pytest.fixture
def clip() -> Callable[[str, int], Clip]:
    return encode


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with short patience: viewers stall after 0.4 s and queue 256 KiB."""
    engine = Engine(viewer_queue_bytes=256 << 10, viewer_stall_ms=400)
    yield engine
    engine.shutdown()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait, at most five seconds, until something is so."""

    def wait(is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not is_so():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.003)

    return wait


@pytest.fixture
def wait_event() -> Callable[[Engine, str], Event]:
    """Wait, at most six seconds, for an event of a kind; others before it are dropped."""

    def wait(engine: Engine, kind: str) -> Event:
        deadline = time.monotonic() + 6
        while (left := deadline - time.monotonic()) > 0:
            select.select([engine.event_fd], [], [], left)
            for event in engine.poll_events(1):
                if event["kind"] == kind:
                    return event
        raise AssertionError(f"no event {kind}")

    return wait


@pytest.fixture
def watch() -> Iterator[Callable[[Engine, str, str], tuple[int, socket.socket]]]:
    """Attach a viewer; returns its id and the player's end of the connection."""
    players: list[socket.socket] = []

    def attach(engine: Engine, stream: str, container: str) -> tuple[int, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            player = socket.create_connection(listener.getsockname())
            served, _ = listener.accept()
        player.settimeout(5)
        players.append(player)
        kind: Container = "flv" if container == "flv" else "fmp4"
        return engine.attach(stream, kind, served.detach(), b""), player

    yield attach
    for player in players:
        player.close()


@pytest.fixture
def read_all() -> Callable[[socket.socket], bytes]:
    """Everything a player gets until its connection is closed."""

    def read(player: socket.socket) -> bytes:
        parts = []
        while part := player.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)

    return read


@pytest.fixture
def count_pictures() -> Callable[[bytes], int]:
    """Decode with an independent demultiplexer and decoder."""

    def count(data: bytes) -> int:
        with av.open(io.BytesIO(data), "r") as container:
            return len(list(container.decode(video=0)))

    return count


@pytest.fixture
def send_clip() -> Callable[[PsSender, Clip], None]:
    """Send access units about twenty times as fast as they were taken."""

    def send(sender: PsSender, units: Clip) -> None:
        for number, (unit, is_key) in enumerate(units):
            assert sender.send_video(unit, 90_000 + number * FRAME_TICKS, is_key) > 0
            time.sleep(0.002)

    return send


@pytest.fixture
def rtp_packets() -> Callable[[Clip, int], list[bytes]]:
    """The packets a sender makes of a clip, caught on a socket."""

    def catch(units: Clip, ssrc: int) -> list[bytes]:
        packets: list[bytes] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as catcher:
            catcher.bind(("127.0.0.1", 0))
            sender = PsSender("udp", "127.0.0.1", 0, ssrc, "h264", mtu=400)
            sender.connect("127.0.0.1", catcher.getsockname()[1])
            for number, (unit, is_key) in enumerate(units):
                count = sender.send_video(unit, 90_000 + number * FRAME_TICKS, is_key)
                packets += [catcher.recv(2048) for _ in range(count)]
            sender.close()
        return packets

    return catch
