"""Many streams on one port: told apart by SSRC or by source, over UDP and TCP; strangers reach nobody."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Event, Transport

Clip = list[tuple[bytes, bool]]
Make = Callable[[str, int], Clip]
Eventually = Callable[[Callable[[], bool]], None]
WaitEvent = Callable[[Engine, str], "Event"]
SendClip = Callable[[PsSender, Clip], None]

HOST = "127.0.0.1"


def open_two(engine: Engine, transport: Transport) -> int:
    """Streams ``one`` (SSRC 1) and ``two`` (SSRC 2) on one port."""
    port = engine.open_ingest("one", transport, HOST, ssrc=1, shared=True)
    assert engine.open_ingest("two", transport, HOST, port, 2, shared=True) == port
    return port


def sender_to(port: int, ssrc: int, transport: Transport = "udp") -> PsSender:
    sender = PsSender("udp" if transport == "udp" else "tcp-active", HOST, 0, ssrc, "h264")
    sender.connect(HOST, port)
    return sender


def wait_for_connection(sender: PsSender, clip: Clip) -> None:
    deadline = time.monotonic() + 5
    while sender.send_video(clip[0][0], 86_400, True) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("transport", ["udp", "tcp-passive"])
def test_streams_of_one_port_are_told_apart_by_their_ssrc(
    engine: Engine, clip: Make, eventually: Eventually, send_clip: SendClip, transport: Transport
) -> None:
    port = open_two(engine, transport)
    for ssrc, count in ((1, 10), (2, 15)):
        sender = sender_to(port, ssrc, transport)
        if transport != "udp":
            wait_for_connection(sender, clip("h264", 30))
        send_clip(sender, clip("h264", 30)[:count])
    eventually(lambda: engine.stats("one")["frames"] >= 10)
    eventually(lambda: engine.stats("two")["frames"] >= 15)
    one, two = engine.close_stream("one"), engine.stats("two")
    assert (one["ssrc"], two["ssrc"], one["transport"]) == (1, 2, transport)
    assert (one["foreign_ssrc"], two["foreign_ssrc"], one["lost"], two["lost"]) == (0, 0, 0, 0)
    figures = engine.port_stats(transport, HOST, port)
    assert (figures["streams"], figures["unknown"], figures["arrived"]) == (1, 0, 0)
    engine.close_stream("two")
    with pytest.raises(KeyError):
        engine.port_stats(transport, HOST, port)


def test_packets_of_an_unknown_ssrc_are_counted_and_reach_nobody(
    engine: Engine, clip: Make, eventually: Eventually, send_clip: SendClip
) -> None:
    port = open_two(engine, "udp")
    send_clip(sender_to(port, 99), clip("h264", 30)[:5])
    eventually(lambda: engine.port_stats("udp", HOST, port)["unknown"] >= 5)
    assert engine.stats("one")["packets"] == engine.stats("two")["packets"] == 0
    engine.set_ssrc("two", 99)
    send_clip(sender_to(port, 99), clip("h264", 30)[:5])
    eventually(lambda: engine.stats("two")["frames"] == 5)


def test_a_tcp_sender_of_an_unknown_ssrc_is_hung_up(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = open_two(engine, "tcp-passive")
    packet = rtp_packets(clip("h264", 30)[:1], 99)[0]
    with socket.create_connection((HOST, port)) as stranger:
        stranger.settimeout(5)
        stranger.sendall(len(packet).to_bytes(2, "big") + packet)
        assert stranger.recv(1) == b""
    assert engine.port_stats("tcp-passive", HOST, port)["unknown"] == 1
    with socket.create_connection((HOST, port)):
        eventually(lambda: engine.port_stats("tcp-passive", HOST, port)["arrived"] == 1)
    eventually(lambda: engine.port_stats("tcp-passive", HOST, port)["arrived"] == 0)


def test_a_device_that_names_no_ssrc_is_known_by_its_source(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = engine.open_ingest("nameless", "udp", HOST, shared=True)
    engine.open_ingest("other", "udp", HOST, port, 2, shared=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.bind((HOST, 0))
        engine.set_source("nameless", HOST, device.getsockname()[1])
        for ssrc in (77, 2):  # its own, and then one that is another stream's: that one has it
            for packet in rtp_packets(clip("h264", 30)[:4], ssrc):
                device.sendto(packet, (HOST, port))
    eventually(lambda: engine.stats("nameless")["frames"] == 4)
    eventually(lambda: engine.stats("other")["frames"] == 4)
    assert engine.stats("nameless")["ssrc"] == 77
    assert engine.port_stats("udp", HOST, port)["unknown"] == 0


def test_two_of_one_ssrc_are_told_apart_by_their_source_and_others_are_nobodys(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = engine.open_ingest("one", "udp", HOST, ssrc=7, shared=True)
    engine.open_ingest("two", "udp", HOST, port, 7, shared=True)
    packets = rtp_packets(clip("h264", 30)[:4], 7)
    devices = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for device in devices:
        device.bind((HOST, 0))
    for stream, device in zip(("one", "two"), devices, strict=False):
        engine.set_source(stream, HOST, device.getsockname()[1])
    for number, device in enumerate(devices):
        for packet in packets[number:]:
            device.sendto(packet, (HOST, port))
        device.close()
    eventually(lambda: engine.port_stats("udp", HOST, port)["unknown"] == len(packets) - 2)
    assert engine.stats("one")["packets"] == len(packets)
    assert engine.stats("two")["packets"] == len(packets) - 1


def test_a_hinted_ssrc_brings_packets_to_a_stream_that_takes_any(
    engine: Engine, clip: Make, eventually: Eventually, send_clip: SendClip
) -> None:
    port = engine.open_ingest("one", "udp", HOST, shared=True)
    engine.set_ssrc("one", 7, is_hint=True)
    send_clip(sender_to(port, 7), clip("h264", 30)[:4])
    eventually(lambda: engine.stats("one")["frames"] == 4)


def test_what_cannot_be_shared_is_refused(engine: Engine) -> None:
    port = open_two(engine, "udp")
    with pytest.raises(ValueError, match="share"):
        engine.open_ingest("three", "tcp-active", HOST, shared=True)
    with pytest.raises(OSError, match="in use"):
        engine.open_ingest("three", "udp", HOST, port, 3)
    engine.open_ingest("alone", "udp", HOST)
    with pytest.raises(ValueError, match="shared"):
        engine.set_source("alone", HOST, 1)
    assert engine.port_stats("udp", HOST, port)["streams"] == 2
    assert engine.streams() == ["alone", "one", "two"]


def test_streams_of_one_port_stay_together_when_there_are_several_threads(
    clip: Make, eventually: Eventually, send_clip: SendClip
) -> None:
    engine = Engine(threads=4)
    port = engine.open_ingest("0", "udp", HOST, ssrc=100, shared=True)
    for number in range(1, 8):
        engine.open_ingest(str(number), "udp", HOST, port, 100 + number, shared=True)
    for number in range(8):
        send_clip(sender_to(port, 100 + number), clip("h264", 30)[:2])
    eventually(lambda: all(engine.stats(str(number))["frames"] == 2 for number in range(8)))
    engine.shutdown()


def test_a_new_connection_takes_over_only_from_a_dead_one(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = open_two(engine, "tcp-passive")
    packet = rtp_packets(clip("h264", 30)[:1], 1)[0]
    framed = len(packet).to_bytes(2, "big") + packet
    with socket.create_connection((HOST, port)) as first, socket.create_connection((HOST, port)) as second:
        first.sendall(framed)
        eventually(lambda: engine.stats("one")["packets"] == 1)
        second.settimeout(5)
        second.sendall(framed)
        assert second.recv(1) == b""
    with socket.create_connection((HOST, port)) as third:
        third.sendall(framed + framed)
        eventually(lambda: engine.stats("one")["packets"] >= 2)
