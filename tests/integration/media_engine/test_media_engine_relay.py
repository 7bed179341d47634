"""Streams from one engine to the next: UDP, TCP in both roles, joining in the middle, receivers that go."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Event, Transport

Clip = list[tuple[bytes, bool]]
Make = Callable[[str, int], Clip]
Watch = Callable[[Engine, str, str], tuple[int, socket.socket]]
Eventually = Callable[[Callable[[], bool]], None]
WaitEvent = Callable[[Engine, str], "Event"]
SendClip = Callable[[PsSender, Clip], None]

FRAMES = 60
RELAYED_SSRC = 200_000_001


@pytest.fixture
def upper() -> Iterator[Engine]:
    """The engine of the platform above."""
    engine = Engine()
    yield engine
    engine.shutdown()


def camera_of(engine: Engine) -> PsSender:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7)
    sender = PsSender("udp", "127.0.0.1", 0, 7, "h264")
    sender.connect("127.0.0.1", port)
    return sender


def join(lower: Engine, upper: Engine, transport: Transport) -> int:
    """Relay the camera upwards; the transport is the relay's. Returns the relay's id."""
    ingest: dict[Transport, Transport] = {
        "udp": "udp",
        "tcp-active": "tcp-passive",
        "tcp-passive": "tcp-active",
    }
    port = upper.open_ingest("relayed", ingest[transport], "127.0.0.1", ssrc=RELAYED_SSRC)
    relay, relay_port = lower.add_relay(
        "camera", transport, "127.0.0.1", port, RELAYED_SSRC, local_host="127.0.0.1"
    )
    if transport == "tcp-passive":
        upper.connect_ingest("relayed", "127.0.0.1", relay_port)
    return relay


@pytest.mark.parametrize("transport", ["udp", "tcp-active", "tcp-passive"])
def test_a_stream_reaches_the_platform_above_whole(
    engine: Engine,
    upper: Engine,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    count_pictures: Callable[[bytes], int],
    send_clip: SendClip,
    wait_event: WaitEvent,
    transport: Transport,
) -> None:
    sender = camera_of(engine)
    join(engine, upper, transport)
    if transport != "udp":
        assert wait_event(engine, "connected")["id"] != 0
    _, player = watch(upper, "relayed", "flv")
    send_clip(sender, clip("h264", FRAMES))
    eventually(lambda: upper.stats("relayed")["frames"] == FRAMES)
    assert engine.stats("camera")["relays"] == 1
    stats = upper.close_stream("relayed")
    assert (stats["ssrc"], stats["lost"], stats["malformed"]) == (RELAYED_SSRC, 0, 0)
    assert stats["packets"] == engine.stats("camera")["packets"]
    assert count_pictures(read_all(player)) == FRAMES


@pytest.mark.parametrize("transport", ["udp", "tcp-active"])
def test_a_relay_of_a_running_stream_starts_with_a_picture(
    engine: Engine,
    upper: Engine,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    count_pictures: Callable[[bytes], int],
    send_clip: SendClip,
    transport: Transport,
) -> None:
    sender = camera_of(engine)
    units = clip("h264", 75)
    send_clip(sender, units[:40])
    eventually(lambda: engine.stats("camera")["frames"] == 40)
    join(engine, upper, transport)
    # The cached group, frames 25 to 39, comes without a new one from the camera.
    eventually(lambda: upper.stats("relayed")["frames"] >= 14)
    _, player = watch(upper, "relayed", "flv")
    for number in range(40, 75):
        sender.send_video(units[number][0], 90_000 + number * 3600, units[number][1])
        time.sleep(0.002)
    # From frame 50, a key frame, on packets are forwarded as they are; nothing is missing in between.
    eventually(lambda: upper.stats("relayed")["frames"] == 50)
    stats = upper.close_stream("relayed")
    assert stats["lost"] == 0
    assert count_pictures(read_all(player)) == 50


def test_loss_before_the_relay_is_seen_behind_it(
    engine: Engine,
    upper: Engine,
    clip: Make,
    eventually: Eventually,
    rtp_packets: Callable[[Clip, int], list[bytes]],
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7)
    join(engine, upper, "udp")
    packets = rtp_packets(clip("h264", 30), 7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.connect(("127.0.0.1", port))
        for number, packet in enumerate(packets):
            if number not in (10, 11, 20):
                raw.send(packet)
    eventually(lambda: upper.stats("relayed")["packets"] == len(packets) - 3)
    eventually(lambda: upper.stats("relayed")["lost"] == 3)


def test_relayed_packets_carry_the_identity_that_was_agreed(engine: Engine, clip: Make) -> None:
    sender = camera_of(engine)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        _, port = engine.add_relay(
            "camera",
            "udp",
            "127.0.0.1",
            receiver.getsockname()[1],
            RELAYED_SSRC,
            local_host="127.0.0.1",
            payload_type=98,
        )
        sender.send_video(clip("h264", 10)[0][0], 90_000, True)
        packet, source = receiver.recvfrom(2048)
    _, kind, sequence, timestamp, ssrc = struct.unpack("!BBHII", packet[:12])
    assert (kind & 0x7F, sequence, timestamp, ssrc) == (98, 0, 90_000, RELAYED_SSRC)
    assert source == ("127.0.0.1", port)


def test_a_receiver_that_opens_late_is_found_by_the_retry(
    engine: Engine, clip: Make, eventually: Eventually, wait_event: WaitEvent, send_clip: SendClip
) -> None:
    sender = camera_of(engine)
    send_clip(sender, clip("h264", 10))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        port = receiver.getsockname()[1]
        relay, _ = engine.add_relay("camera", "tcp-active", "127.0.0.1", port, 9, local_host="127.0.0.1")
        time.sleep(0.05)
        receiver.listen()
        connection, _ = receiver.accept()
        assert wait_event(engine, "connected")["id"] == relay
        connection.settimeout(5)
        length = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))[0]
        packet = connection.recv(length, socket.MSG_WAITALL)
        assert struct.unpack("!I", packet[8:12])[0] == 9
        connection.close()
    assert wait_event(engine, "relay_closed")["id"] == relay
    eventually(lambda: engine.stats("camera")["relays"] == 0)


def test_a_receiver_that_does_not_read_delays_nobody_and_is_bounded(
    engine: Engine, upper: Engine, eventually: Eventually
) -> None:
    sender = camera_of(engine)
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        port = receiver.getsockname()[1]
        engine.add_relay("camera", "tcp-active", "127.0.0.1", port, 9, local_host="127.0.0.1")
        connection, _ = receiver.accept()
        join(engine, upper, "udp")
        unit = b"\x00\x00\x00\x01\x41" + b"\xa5" * 60_000
        key = b"\x00\x00\x00\x01\x65" + b"\xa5" * 60_000
        for number in range(400):
            sender.send_video(key if number % 50 == 0 else unit, 90_000 + number * 3600, number % 50 == 0)
            if number % 4 == 0:
                time.sleep(0.004)
        eventually(lambda: upper.stats("relayed")["frames"] >= 399)
        assert upper.stats("relayed")["lost"] == 0
        connection.close()
    eventually(lambda: engine.stats("camera")["relays"] == 1)


def test_removing_a_relay_stops_it_and_frees_its_port(engine: Engine, upper: Engine) -> None:
    camera_of(engine)
    relay = join(engine, upper, "udp")
    engine.remove_relay(relay)
    assert engine.stats("camera")["relays"] == 0
    with pytest.raises(KeyError):
        engine.remove_relay(relay)
    with pytest.raises(KeyError):
        engine.add_relay("nobody", "udp", "127.0.0.1", 9, 1)
