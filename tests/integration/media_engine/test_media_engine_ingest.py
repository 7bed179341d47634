"""Streams into the engine: transports, codecs, hostile senders, and what is left behind."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
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

FRAMES = 60


def connect(engine: Engine, stream: str, transport: Transport, codec: str, audio: str = "") -> PsSender:
    """A sender joined to a stream of the transport, seen from the engine."""
    sender_transport: dict[Transport, Transport] = {
        "udp": "udp",
        "tcp-passive": "tcp-active",
        "tcp-active": "tcp-passive",
    }
    port = engine.open_ingest(stream, transport, "127.0.0.1", ssrc=1234)
    sender = PsSender(sender_transport[transport], "127.0.0.1", 0, 1234, codec, audio)
    if transport == "tcp-active":
        engine.connect_ingest(stream, "127.0.0.1", sender.local_port)
    else:
        sender.connect("127.0.0.1", port)
    return sender


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("transport", ["udp", "tcp-passive", "tcp-active"])
def test_every_frame_of_a_camera_reaches_flv_and_fmp4_viewers(
    engine: Engine,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    count_pictures: Callable[[bytes], int],
    send_clip: Callable[[PsSender, Clip], None],
    wait_event: WaitEvent,
    transport: Transport,
    codec: str,
) -> None:
    sender = connect(engine, "camera", transport, codec)
    if transport == "tcp-active":
        wait_event(engine, "connected")
    elif transport == "tcp-passive":
        eventually(lambda: sender.send_video(clip(codec, FRAMES)[0][0], 86_400, True) > 0)
    players = [watch(engine, "camera", container)[1] for container in ("flv", "fmp4")]
    send_clip(sender, clip(codec, FRAMES))
    eventually(lambda: engine.stats("camera")["frames"] >= FRAMES)
    stats = engine.close_stream("camera")
    assert (stats["video_codec"], stats["width"], stats["height"]) == (codec, 320, 240)
    assert (stats["lost"], stats["malformed"], stats["foreign_ssrc"]) == (0, 0, 0)
    for player in players:
        assert count_pictures(read_all(player)) >= FRAMES


def test_a_viewer_who_comes_late_starts_with_the_cached_group(
    engine: Engine,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    count_pictures: Callable[[bytes], int],
    send_clip: Callable[[PsSender, Clip], None],
) -> None:
    sender = connect(engine, "camera", "udp", "h264")
    send_clip(sender, clip("h264", 40))
    eventually(lambda: engine.stats("camera")["frames"] == 40)
    players = [watch(engine, "camera", container)[1] for container in ("flv", "fmp4", "flv")]
    engine.close_stream("camera")
    # Frames 25 to 39, the last group.
    assert [count_pictures(read_all(player)) for player in players] == [15, 15, 15]


def test_sound_travels_beside_the_picture(
    engine: Engine,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
) -> None:
    sender = connect(engine, "camera", "udp", "h264", "g711a")
    _, player = watch(engine, "camera", "flv")
    for number, (unit, is_key) in enumerate(clip("h264", 30)):
        sender.send_video(unit, 90_000 + number * 3600, is_key)
        sender.send_audio(b"\xd5" * 320, 90_000 + number * 3600)
        time.sleep(0.002)
    eventually(lambda: engine.stats("camera")["audio_codec"] == "g711a")
    eventually(lambda: engine.stats("camera")["frames"] >= 59)
    engine.close_stream("camera")
    data = read_all(player)
    audio_tags = data.count(b"\x08\x00\x01\x41")  # tag type 8, 1 + 320 bytes
    assert audio_tags >= 28


def test_the_cached_group_is_given_as_annex_b(
    engine: Engine,
    clip: Make,
    eventually: Eventually,
    count_pictures: Callable[[bytes], int],
    send_clip: Callable[[PsSender, Clip], None],
) -> None:
    sender = connect(engine, "camera", "udp", "h264")
    assert engine.snapshot_gop("camera") == b""
    send_clip(sender, clip("h264", 30))
    eventually(lambda: engine.stats("camera")["frames"] == 30)
    assert engine.snapshot_gop("camera") == b"".join(unit for unit, _ in clip("h264", 30)[25:])


def test_another_ssrc_is_counted_and_changes_nothing(
    engine: Engine, clip: Make, eventually: Eventually, send_clip: Callable[[PsSender, Clip], None]
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=1)
    sender = PsSender("udp", "127.0.0.1", 0, 2, "h264")
    sender.connect("127.0.0.1", port)
    send_clip(sender, clip("h264", 10))
    eventually(lambda: engine.stats("camera")["foreign_ssrc"] >= 10)
    stats = engine.stats("camera")
    assert (stats["packets"], stats["frames"], stats["first_packet_ms"]) == (0, 0, -1)
    assert engine.poll_events() == []
    engine.set_ssrc("camera", 2)
    send_clip(sender, clip("h264", 10))
    eventually(lambda: engine.stats("camera")["frames"] == 10)


def test_without_an_ssrc_the_first_one_is_kept(
    engine: Engine, clip: Make, eventually: Eventually, send_clip: Callable[[PsSender, Clip], None]
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1")
    for ssrc in (7, 8):
        sender = PsSender("udp", "127.0.0.1", 0, ssrc, "h264")
        sender.connect("127.0.0.1", port)
        send_clip(sender, clip("h264", 5))
    eventually(lambda: engine.stats("camera")["foreign_ssrc"] >= 5)
    assert (engine.stats("camera")["ssrc"], engine.stats("camera")["frames"]) == (7, 5)


def test_garbage_datagrams_are_counted_and_the_picture_goes_on(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=5)
    noise = [b"\x00", b"", os.urandom(7), b"\x80", b"\xff" * 1400, b"\xb0\x60" + os.urandom(12)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.connect(("127.0.0.1", port))
        for number, packet in enumerate(rtp_packets(clip("h264", 30), 5)):
            raw.send(noise[number % len(noise)])
            raw.send(packet)
    eventually(lambda: engine.stats("camera")["frames"] == 30)
    assert engine.stats("camera")["malformed"] > 20
    assert engine.stats("camera")["lost"] == 0


def test_packets_out_of_order_or_twice_cost_no_frame(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=5)
    packets = rtp_packets(clip("h264", 30), 5)
    for at in range(1, len(packets) - 1, 7):
        packets[at], packets[at + 1] = packets[at + 1], packets[at]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.connect(("127.0.0.1", port))
        for number, packet in enumerate(packets):
            for _ in range(2 if number % 5 == 0 else 1):
                raw.send(packet)
    eventually(lambda: engine.stats("camera")["frames"] == 30)
    stats = engine.stats("camera")
    assert stats["lost"] == 0
    assert stats["reordered"] > 0
    assert stats["duplicates"] > 0


def test_a_lost_packet_costs_frames_and_not_the_stream(
    engine: Engine,
    clip: Make,
    watch: Watch,
    eventually: Eventually,
    read_all: Callable[[socket.socket], bytes],
    count_pictures: Callable[[bytes], int],
    rtp_packets: Callable[[Clip, int], list[bytes]],
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=5)
    _, player = watch(engine, "camera", "flv")
    packets = rtp_packets(clip("h264", 75), 5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.connect(("127.0.0.1", port))
        for number, packet in enumerate(packets):
            if number % 40 != 20:
                raw.send(packet)
    missing = sum(1 for number in range(len(packets)) if number % 40 == 20)
    eventually(lambda: engine.stats("camera")["lost"] == missing)
    eventually(lambda: engine.stats("camera")["frames"] >= 75 - 2 * missing - 1)
    engine.close_stream("camera")
    assert count_pictures(read_all(player)) >= 50


def test_a_gap_at_the_end_of_what_arrives_is_given_up_in_time(
    engine: Engine, clip: Make, eventually: Eventually, rtp_packets: Callable[[Clip, int], list[bytes]]
) -> None:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=5)
    packets = rtp_packets(clip("h264", 10), 5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.connect(("127.0.0.1", port))
        for number, packet in enumerate(packets):
            if number != len(packets) - 3:
                raw.send(packet)
    eventually(lambda: engine.stats("camera")["lost"] == 1)


def test_a_tcp_sender_of_garbage_is_hung_up_and_the_next_one_is_taken(
    engine: Engine,
    clip: Make,
    eventually: Eventually,
    wait_event: WaitEvent,
    send_clip: Callable[[PsSender, Clip], None],
) -> None:
    port = engine.open_ingest("camera", "tcp-passive", "127.0.0.1", ssrc=1234)
    with socket.create_connection(("127.0.0.1", port)) as raw:
        with pytest.raises(OSError):
            for _ in range(200):
                raw.sendall(os.urandom(65_536))
        event = wait_event(engine, "peer_closed")
    assert event["detail"] == "framing lost"
    sender = PsSender("tcp-active", "127.0.0.1", 0, 1234, "h264")
    sender.connect("127.0.0.1", port)
    eventually(lambda: sender.send_video(clip("h264", 10)[0][0], 86_400, True) > 0)
    send_clip(sender, clip("h264", 10))
    eventually(lambda: engine.stats("camera")["frames"] >= 10)


def test_a_second_tcp_sender_is_refused_while_the_first_lives(
    engine: Engine, clip: Make, eventually: Eventually, wait_event: WaitEvent
) -> None:
    sender = connect(engine, "camera", "tcp-passive", "h264")
    eventually(lambda: sender.send_video(clip("h264", 10)[0][0], 90_000, True) > 0)
    wait_event(engine, "first_packet")
    with socket.create_connection(("127.0.0.1", intruder_port(engine))) as intruder:
        intruder.settimeout(5)
        assert intruder.recv(1) == b""
    assert sender.send_video(clip("h264", 10)[1][0], 93_600, False) > 0


def intruder_port(engine: Engine) -> int:
    """The listening port of the only stream, as the kernel lists it for this process."""
    inodes = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    listening = [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes]
    assert len(listening) == 1
    return listening[0]


def test_the_end_of_a_tcp_sender_is_told(
    engine: Engine, clip: Make, eventually: Eventually, wait_event: WaitEvent
) -> None:
    sender = connect(engine, "camera", "tcp-passive", "h264")
    eventually(lambda: sender.send_video(clip("h264", 10)[0][0], 90_000, True) > 0)
    sender.close()
    assert wait_event(engine, "peer_closed")["detail"] == "eof"
    with pytest.raises(BrokenPipeError):
        sender.send_video(b"", 0, False)


def test_connecting_to_nobody_is_given_up_after_three_retries(engine: Engine, wait_event: WaitEvent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    engine.open_ingest("camera", "tcp-active", "127.0.0.1")
    began = engine.now_ms()
    engine.connect_ingest("camera", "127.0.0.1", port)
    event = wait_event(engine, "peer_closed")
    assert event["detail"] == "refused"
    assert 2900 <= event["at_ms"] - began <= 4500


def test_a_camera_that_never_sends_leaves_nothing_behind() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = (descriptors(), threads())
    engine = Engine(threads=2)
    ports = [
        engine.open_ingest("udp", "udp", "127.0.0.1"),
        engine.open_ingest("passive", "tcp-passive", "127.0.0.1"),
        engine.open_ingest("active", "tcp-active", "127.0.0.1"),
    ]
    assert engine.streams() == ["active", "passive", "udp"]
    assert engine.poll_events() == []
    idle = descriptors()
    for stream in engine.streams():
        assert engine.close_stream(stream)["packets"] == 0
    assert descriptors() == idle - 3
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reuse:
        reuse.bind(("127.0.0.1", ports[0]))
    engine.shutdown()
    engine.shutdown()
    with pytest.raises(RuntimeError):
        engine.open_ingest("late", "udp", "127.0.0.1")
    assert threads() == before[1]
    del engine
    assert descriptors() == before[0]


def test_an_idle_engine_uses_no_cpu() -> None:
    engine = Engine(threads=2)
    for number in range(50):
        engine.open_ingest(f"camera-{number}", "udp", "127.0.0.1")
    names = {task: thread_ticks(task) for task in os.listdir("/proc/self/task")}
    time.sleep(0.5)
    used = sum(thread_ticks(task) - ticks for task, ticks in names.items() if is_media(task))
    engine.shutdown()
    # A tick is 10 ms, 2 % of the window: none must be used.
    assert used == 0


def is_media(task: str) -> bool:
    with open(f"/proc/self/task/{task}/comm", encoding="ascii") as comm:
        return comm.read().startswith("media-")


def thread_ticks(task: str) -> int:
    with open(f"/proc/self/task/{task}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_calls_from_many_threads_are_answered(engine: Engine) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                name = f"camera-{number}-{turn}"
                engine.open_ingest(name, "udp", "127.0.0.1")
                assert engine.stats(name)["stream"] == name
                engine.close_stream(name)
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=20)
    assert failures == []
    assert engine.streams() == []


def test_wrong_arguments_are_named(engine: Engine) -> None:
    engine.open_ingest("camera", "udp", "127.0.0.1")
    with pytest.raises(KeyError, match="camera"):
        engine.open_ingest("camera", "udp", "127.0.0.1")
    with pytest.raises(ValueError, match="numeric"):
        engine.open_ingest("other", "udp", "localhost")
    with pytest.raises(ValueError, match="transport"):
        engine.open_ingest("other", "carrier-pigeon", "127.0.0.1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tcp-active"):
        engine.connect_ingest("camera", "127.0.0.1", 9)
    with pytest.raises(OSError, match="Address already in use"):
        engine.open_ingest("other", "udp", "127.0.0.1", occupied_port())
    for call in (engine.stats, engine.close_stream, engine.snapshot_gop):
        with pytest.raises(KeyError):
            call("nobody")
    assert engine.streams() == ["camera"]


_occupied: list[socket.socket] = []


def occupied_port() -> int:
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("127.0.0.1", 0))
    _occupied.append(holder)
    port: int = holder.getsockname()[1]
    return port


def test_no_more_streams_than_allowed() -> None:
    engine = Engine(max_streams=1)
    engine.open_ingest("one", "udp", "127.0.0.1")
    with pytest.raises(RuntimeError, match="limit"):
        engine.open_ingest("two", "udp", "127.0.0.1")
    engine.close_stream("one")
    engine.open_ingest("two", "udp", "127.0.0.1")
    engine.shutdown()
