"""Every container that the engine serves, with picture, with sound, with both, decoded by FFmpeg."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Container

Clip = list[tuple[bytes, bool]]
Make = Callable[[str, int], Clip]

RATE_HZ = 16_000
AAC_TICKS = 1024 * 90_000 // RATE_HZ
FORMATS = {
    "flv": "flv",
    "fmp4": "mp4",
    "ps": "mpeg",
    "parts": "mp4",
    "flv-audio": "flv",
    "fmp4-audio": "mp4",
}
PICTURES = 50


@cache
def aac(count: int) -> list[bytes]:
    """Frames of a tone behind their ADTS headers."""
    target = io.BytesIO()
    with av.open(target, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=RATE_HZ)
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        for number in range(count):
            moments = np.arange(number * 1024, (number + 1) * 1024) / RATE_HZ
            samples = np.sin(moments * 2765).astype(np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            container.mux(stream.encode(frame))
    data, frames = target.getvalue(), []
    while data:
        size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        frames.append(data[:size])
        data = data[size:]
    return frames[:count]


class Player:
    """Reads everything that a viewer gets."""

    def __init__(self, engine: Engine, container: Container) -> None:
        served, self._ours = socket.socketpair()
        self._data = b""
        self._container = container
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        dialogue = "websocket" if container == "parts" else ""
        engine.attach("camera", container, served.detach(), b"", dialogue)  # type: ignore[arg-type]

    def _read(self) -> None:
        parts = []
        self._ours.settimeout(10)
        while part := self._ours.recv(1 << 16):
            parts.append(part)
        self._data = b"".join(parts)
        self._ours.close()

    def file(self) -> bytes:
        """All of it, once the stream was closed; parts without what stands before each."""
        self._thread.join(10)
        return self._data if self._container != "parts" else joined(self._data)


def joined(data: bytes) -> bytes:
    messages = []
    while data and data[0] == 0x82:
        size, at = data[1], 2
        if size == 126:
            (size,), at = struct.unpack_from(">H", data, 2), 4
        elif size == 127:
            (size,), at = struct.unpack_from(">Q", data, 2), 10
        messages.append(data[at : at + size])
        data = data[at + size :]
    return messages[0] + b"".join(message[8:] for message in messages[1:])


def counted(data: bytes, container: str) -> tuple[int, int, str]:
    """Pictures, pieces of sound, and the sound's codec."""
    with av.open(io.BytesIO(data), "r", format=FORMATS[container]) as opened:
        sounds = opened.streams.audio
        name = sounds[0].codec_context.name if sounds else ""
        frames = list(opened.decode())
    pictures = sum(isinstance(frame, av.VideoFrame) for frame in frames)
    return pictures, len(frames) - pictures, name


@pytest.mark.parametrize("container", ["flv", "fmp4", "ps", "parts"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("sound", ["", "aac", "g711a"])
def test_pictures_with_and_without_sound(
    engine: Engine, clip: Make, container: Container, codec: str, sound: str
) -> None:
    sender = PsSender("udp", "127.0.0.1", 0, 7, codec, sound)
    sender.connect("127.0.0.1", engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7))
    player = Player(engine, container)
    heard = aac(40)
    for number, (unit, is_key) in enumerate(clip(codec, PICTURES)):
        sender.send_video(unit, 90_000 + number * 3600, is_key)
        if sound == "g711a":
            sender.send_audio(b"\xd5" * 320, 90_000 + number * 3600)
        elif sound and number < len(heard):
            sender.send_audio(heard[number], 90_000 + number * AAC_TICKS)
        time.sleep(0.002)
    while engine.stats("camera")["frames"] < PICTURES - 1:
        time.sleep(0.01)
    engine.close_stream("camera")
    pictures, sounds, name = counted(player.file(), container)
    # The last picture ends with the next, which never came.
    assert PICTURES - 2 <= pictures <= PICTURES
    has_sound = sound == "aac" or (sound == "g711a" and container in ("flv", "ps"))
    assert name == ({"aac": "aac", "g711a": "pcm_alaw"}[sound] if has_sound else "")
    assert (sounds > 20) is has_sound
    sender.close()


@pytest.mark.parametrize("container", ["flv", "fmp4", "ps", "parts"])
def test_sound_alone(engine: Engine, container: Container) -> None:
    sender = PsSender("udp", "127.0.0.1", 0, 7, "h264", "aac")
    sender.connect("127.0.0.1", engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7))
    player = Player(engine, container)
    heard = aac(80)
    for number, frame in enumerate(heard):
        sender.send_audio(frame, 90_000 + number * AAC_TICKS)
        time.sleep(0.001)
    while engine.stats("camera")["frames"] < len(heard) - 1:
        time.sleep(0.01)
    engine.close_stream("camera")
    pictures, sounds, name = counted(player.file(), container)
    assert (pictures, name) == (0, "aac")
    assert sounds >= len(heard) - 90_000 // AAC_TICKS - 15
    sender.close()


@pytest.mark.parametrize(
    ("container", "sound"), [("flv-audio", "aac"), ("flv-audio", "g711a"), ("fmp4-audio", "aac")]
)
def test_the_sound_of_a_picture_comes_without_it(
    engine: Engine, clip: Make, container: Container, sound: str
) -> None:
    sender = PsSender("udp", "127.0.0.1", 0, 7, "h264", sound)
    sender.connect("127.0.0.1", engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7))
    players = [Player(engine, container)]
    heard = aac(PICTURES + 2) if sound == "aac" else [b"\xd5" * 320] * PICTURES
    for number, (unit, is_key) in enumerate(clip("h264", PICTURES)):
        sender.send_video(unit, 90_000 + number * 3600, is_key)
        step = AAC_TICKS if sound == "aac" else 3600
        sender.send_audio(heard[number], 90_000 + number * step)
        time.sleep(0.002)
        if number == PICTURES // 2 + 1:  # between two key frames
            players.append(Player(engine, container))
    while engine.stats("camera")["frames"] < 2 * PICTURES - 2:
        time.sleep(0.01)
    assert engine.stats("camera")["audio_rate_hz"] == (RATE_HZ if sound == "aac" else 8000)
    engine.close_stream("camera")
    for player, least in zip(players, (PICTURES - 4, PICTURES // 3), strict=True):
        pictures, sounds, name = counted(player.file(), container)
        assert (pictures, name) == (0, {"aac": "aac", "g711a": "pcm_alaw"}[sound])
        assert sounds >= least
    sender.close()
