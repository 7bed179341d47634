"""Streams as the field has them: elementary, sound alone, codecs nobody reads, clocks that jump, RTCP.

After: GB/T 28181-2022 C.2; quirks 38, 42, 44 to 46 of the interoperability list
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tongshi._media import Engine, ps_mux

if TYPE_CHECKING:
    from tongshi._media import StreamStats

Clip = list[tuple[bytes, bool]]
Make = Callable[[str, int], Clip]
Watch = Callable[[Engine, str, str], tuple[int, socket.socket]]
Eventually = Callable[[Callable[[], bool]], None]

HOST = "127.0.0.1"
SSRC = 5
MTU = 1200


class Device:
    """Sends RTP that the tests write by hand."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((HOST, port))
        self.sequence = 0

    def send(
        self, payload: bytes, at: int, payload_type: int = 96, *, is_last: bool = True, ssrc: int = SSRC
    ) -> None:
        mark = 0x80 if is_last else 0
        head = struct.pack("!BBHII", 0x80, mark | payload_type, self.sequence & 0xFFFF, at & 0xFFFFFFFF, ssrc)
        self.sequence += 1
        self.socket.send(head + payload)

    def send_nals(self, unit: bytes, at: int, payload_type: int, codec: str) -> None:
        """One access unit by RFC 6184 or RFC 7798: single NAL units, and fragments of large ones."""
        nals = [part.strip(b"\x00") for part in unit.split(b"\x00\x00\x01")]
        nals = [nal for nal in nals if nal]
        for number, nal in enumerate(nals):
            is_last = number == len(nals) - 1
            if len(nal) <= MTU:
                self.send(nal, at, payload_type, is_last=is_last)
                continue
            head = 1 if codec == "h264" else 2
            pieces = [nal[i : i + MTU] for i in range(head, len(nal), MTU)]
            for index, piece in enumerate(pieces):
                flags = (0x80 if index == 0 else 0) | (0x40 if index == len(pieces) - 1 else 0)
                if codec == "h264":
                    prefix = bytes([nal[0] & 0xE0 | 28, flags | nal[0] & 0x1F])
                else:
                    prefix = bytes([nal[0] & 0x81 | 49 << 1, nal[1], flags | nal[0] >> 1 & 0x3F])
                self.send(prefix + piece, at, payload_type, is_last=is_last and index == len(pieces) - 1)


@pytest.fixture
def device(engine: Engine) -> Iterator[Device]:
    """A device whose stream is ``camera``."""
    device = Device(engine.open_ingest("camera", "udp", HOST, ssrc=SSRC))
    yield device
    device.socket.close()


def frames(engine: Engine, count: int, eventually: Eventually) -> StreamStats:
    eventually(lambda: engine.stats("camera")["frames"] >= count)
    return engine.stats("camera")


@pytest.mark.parametrize(("codec", "number"), [("h264", 98), ("h265", 100), ("h264", 96), ("h265", 111)])
def test_elementary_video_is_known_under_any_payload_type(
    engine: Engine,
    device: Device,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    count_pictures: Callable[[bytes], int],
    codec: str,
    number: int,
) -> None:
    _, player = watch(engine, "camera", "fmp4")
    for at, (unit, _) in enumerate(clip(codec, 30)):
        device.send_nals(unit, 90_000 + at * 3600, number, codec)
    stats = frames(engine, 30, eventually)
    assert (stats["video_codec"], stats["width"], stats["lost"]) == (codec, 320, 0)
    engine.close_stream("camera")
    assert count_pictures(read_all(player)) == 30


@pytest.mark.parametrize(
    ("number", "codec"),
    [(8, "g711a"), (0, "g711u"), (9, "g722.1"), (4, "g723.1"), (18, "g729"), (20, "svac-audio")],
)
def test_sound_is_known_by_the_standards_number(
    engine: Engine, device: Device, eventually: Eventually, number: int, codec: str
) -> None:
    for at in range(5):
        device.send(b"\xd5" * 160, 8000 + at * 160, number)
    stats = frames(engine, 5, eventually)
    assert (stats["audio_codec"], stats["video_codec"], stats["first_key_frame_ms"]) == (codec, "", -1)


def test_sound_alone_can_be_joined_after_a_second(
    engine: Engine,
    device: Device,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
) -> None:
    _, player = watch(engine, "camera", "flv")
    for at in range(56):
        device.send(b"\xd5" * 160, 8000 + at * 160, 8)
    stats = frames(engine, 56, eventually)
    assert stats["first_key_frame_ms"] > 0
    assert stats["key_frames"] == 0
    kinds = [event["kind"] for event in engine.poll_events()]
    assert kinds == ["first_packet", "codec", "first_key_frame"]
    engine.close_stream("camera")
    data = read_all(player)
    assert data[:5] == b"FLV\x01\x04"  # sound alone
    assert data.count(b"\x72" + b"\xd5" * 160) == 6  # of 20 ms, from one second on


def test_payload_types_of_the_session_description_outweigh_the_usual_ones(
    engine: Engine, device: Device, eventually: Eventually
) -> None:
    engine.set_payload_types("camera", [(97, "g722.1", 16_000), (105, "aac", 16_000)])
    device.send(b"\x11" * 80, 320, 97)
    assert frames(engine, 1, eventually)["audio_codec"] == "g722.1"
    # Two AAC units: 32 bits of headers, sizes of three and two bytes (RFC 3640).
    device.send(bytes([0, 32, 0, 3 << 3, 0, 2 << 3, 1, 2, 3, 4, 5]), 640, 105)
    assert frames(engine, 3, eventually)["audio_codec"] == "aac"
    with pytest.raises(ValueError, match="vp9"):
        engine.set_payload_types("camera", [(97, "vp9", 90_000)])
    with pytest.raises(ValueError, match="types"):
        engine.set_payload_types("camera", [(97, "h264", 90_000)] * 129)


def test_picture_and_sound_of_one_sender_are_told_apart_by_payload_type(
    engine: Engine, device: Device, clip: Make, eventually: Eventually
) -> None:
    for at, (unit, _) in enumerate(clip("h264", 30)):
        device.send_nals(unit, 90_000 + at * 3600, 98, "h264")
        device.send(b"\xd5" * 320, 8000 + at * 320, 8)
    stats = frames(engine, 60, eventually)
    assert (stats["video_codec"], stats["audio_codec"], stats["malformed"]) == ("h264", "g711a", 0)


@pytest.mark.parametrize("form", ["program stream", "elementary"])
def test_svac_is_counted_and_relayed_untouched(
    engine: Engine, device: Device, eventually: Eventually, form: str
) -> None:
    sent = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upper:
        upper.bind((HOST, 0))
        upper.settimeout(5)
        engine.add_relay("camera", "udp", HOST, upper.getsockname()[1], 9)
        for at in range(6):
            if form == "elementary":
                payload, number = bytes([0x61 + at]) * 700, 99
            else:
                payload, number = ps_mux([("video", b"\x6b" * 700, at * 3600, at % 3 == 0)], "svac"), 96
            sent.append(payload)
            device.send(payload, 90_000 + at * 3600, number)
        received = [upper.recv(2048)[12:] for _ in sent]
    assert received == sent
    stats = frames(engine, 6, eventually)
    assert stats["video_codec"] == "svac"
    assert stats["key_frames"] == (2 if form == "program stream" else 0)


def test_what_nobody_knows_is_relayed_all_the_same(engine: Engine, device: Device) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upper:
        upper.bind((HOST, 0))
        upper.settimeout(5)
        engine.add_relay("camera", "udp", HOST, upper.getsockname()[1], 9)
        for at in range(3):
            device.send(b"\xe1vendor" + bytes([at]), at * 3600, 117)
        assert [upper.recv(2048)[12:] for _ in range(3)] == [b"\xe1vendor" + bytes([at]) for at in range(3)]
    stats = engine.stats("camera")
    assert (stats["packets"], stats["frames"], stats["video_codec"]) == (3, 0, "")


@pytest.mark.parametrize(
    ("begins", "step"),
    [(1_000_000, 3600 * 900), (1_000_000, -3600 * 100), (1_000_000, -3600 * 40), ((1 << 32) - 3600 * 25, 0)],
)
def test_a_clock_that_jumps_or_wraps_leaves_the_viewer_a_steady_time(
    engine: Engine,
    device: Device,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    begins: int,
    step: int,
) -> None:
    _, player = watch(engine, "camera", "flv")
    for number, (unit, is_key) in enumerate(clip("h264", 50)):
        at = (begins + number * 3600 + (step if number >= 25 else 0)) % (1 << 32)
        ps = ps_mux([("video", unit, at, is_key)], "h264")
        for start in range(0, len(ps), MTU):
            device.send(ps[start : start + MTU], at, is_last=start + MTU >= len(ps))
    frames(engine, 50, eventually)
    engine.close_stream("camera")
    times = video_times(read_all(player))
    assert len(times) == 50
    assert all(38 <= after - before <= 42 for before, after in pairwise(times))


def video_times(data: bytes) -> list[int]:
    at, times = 13, []
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] == 9 and data[at + 12] == 1:
            times.append(int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24)
        at += 11 + size + 4
    return times


def test_rtcp_on_the_media_port_is_tolerated_and_tells_the_delay(
    engine: Engine, device: Device, clip: Make, eventually: Eventually
) -> None:
    unit, _ = clip("h264", 30)[0]
    for at in range(3):
        ps = ps_mux([("video", unit, 90_000 + at * 3600, True)], "h264")
        device.send(ps, 90_000 + at * 3600)
        ntp = int((time.time() - 0.2 + 2_208_988_800) * (1 << 32))  # sampled 200 ms ago
        report = struct.pack("!BBHIQIII", 0x80, 200, 6, SSRC, ntp, 90_000 + at * 3600, 0, 0)
        device.socket.send(report)
        device.socket.send(struct.pack("!BBHI", 0x81, 203, 1, SSRC))  # BYE of RTCP
    stats = frames(engine, 3, eventually)
    assert (stats["malformed"], stats["foreign_ssrc"], stats["packets"]) == (0, 0, 3)
    eventually(lambda: 150 < engine.stats("camera")["report_delay_ms"] < 1200)


def test_rates_and_losses_of_the_last_seconds_are_told(
    engine: Engine, device: Device, clip: Make, eventually: Eventually
) -> None:
    assert engine.stats("camera")["bitrate_kbps"] == -1
    unit, _ = clip("h264", 30)[0]
    begun = time.monotonic()
    sent = 0
    for number in range(32):
        at = 90_000 + number * 3600
        ps = ps_mux([("video", unit, at, True)], "h264")
        device.send(ps, at)
        sent += len(ps) + 12
        if number % 8 == 7:
            device.sequence += 1  # one that never comes
        time.sleep(max(0.0, begun + (number + 1) * 0.04 - time.monotonic()))
    eventually(lambda: engine.stats("camera")["lost"] >= 3)
    stats = engine.stats("camera")
    seconds = stats["window_ms"] / 1000
    assert 1.2 < seconds < 4
    assert stats["bitrate_kbps"] == pytest.approx(sent * 8 / 1000 / seconds, rel=0.15)
    assert stats["frame_rate"] == pytest.approx(30 / seconds, rel=0.2)
    assert 0.05 < stats["loss_rate"] < 0.2
    assert 30 < stats["key_interval_ms"] <= 90
    assert 0 <= stats["delay_ms"] < 200
