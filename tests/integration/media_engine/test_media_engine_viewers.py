"""Viewers that are slow, stop, leave or are sent away; the others never notice."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Event

Clip = list[tuple[bytes, bool]]
Make = Callable[[str, int], Clip]
Watch = Callable[[Engine, str, str], tuple[int, socket.socket]]
Eventually = Callable[[Callable[[], bool]], None]
WaitEvent = Callable[[Engine, str], "Event"]

GROUP = 10


def camera_of(engine: Engine) -> PsSender:
    port = engine.open_ingest("camera", "udp", "127.0.0.1", ssrc=7)
    sender = PsSender("udp", "127.0.0.1", 0, 7, "h264")
    sender.connect("127.0.0.1", port)
    return sender


def send_large(sender: PsSender, clip: Make, numbers: range) -> None:
    """Frames of 40 KB with a key frame every ten; the key frames carry true parameter sets."""
    key = clip("h264", 10)[0][0]
    padding = b"\xa5" * 40_000
    for number in numbers:
        is_key = number % GROUP == 0
        unit = key + padding if is_key else b"\x00\x00\x00\x01\x41\x9a" + padding
        sender.send_video(unit, 90_000 + number * 3600, is_key)


def read_some(player: socket.socket) -> int:
    player.setblocking(False)
    taken = 0
    try:
        while part := player.recv(1 << 20):
            taken += len(part)
    except BlockingIOError:
        pass
    return taken


def test_a_viewer_who_stops_reading_skips_and_is_closed_while_another_gets_every_frame(
    engine: Engine, clip: Make, watch: Watch, eventually: Eventually, wait_event: WaitEvent
) -> None:
    sender = camera_of(engine)
    stopped, _ = watch(engine, "camera", "flv")
    reader, player = watch(engine, "camera", "flv")
    sent = 0
    skipped = 0
    deadline = time.monotonic() + 5
    while stopped_exists(engine, stopped):
        assert time.monotonic() < deadline
        send_large(sender, clip, range(sent, sent + 2))
        sent += 2
        eventually(lambda count=sent: engine.stats("camera")["frames"] >= count - 1)  # type: ignore[misc]
        read_some(player)
        try:
            figures = engine.viewer_stats(stopped)
        except KeyError:  # closed since the loop looked
            break
        skipped = max(skipped, figures["skipped"])
        assert figures["queued_bytes"] <= (256 << 10) + 50_000
    assert skipped > GROUP
    closed = wait_event(engine, "viewer_closed")
    assert (closed["id"], closed["detail"]) == (stopped, "stalled")
    figures = engine.viewer_stats(reader)
    assert figures["skipped"] == 0
    assert figures["frames"] == engine.stats("camera")["frames"]


def stopped_exists(engine: Engine, viewer: int) -> bool:
    try:
        engine.viewer_stats(viewer)
    except KeyError:
        return False
    return True


def test_a_viewer_who_was_slow_goes_on_at_a_key_frame_with_a_valid_file(
    clip: Make, watch: Watch, eventually: Eventually
) -> None:
    engine = Engine(viewer_queue_bytes=256 << 10)
    sender = camera_of(engine)
    viewer, player = watch(engine, "camera", "flv")
    sent = 0
    while sent < 20 or engine.viewer_stats(viewer)["skipped"] == 0:
        assert sent < 2000
        send_large(sender, clip, range(sent, sent + GROUP))
        sent += GROUP
        eventually(lambda count=sent: engine.stats("camera")["frames"] >= count - 1)  # type: ignore[misc]
    received = bytearray()

    def drain() -> bool:
        player.setblocking(False)
        try:
            while part := player.recv(1 << 20):
                received.extend(part)
        except BlockingIOError:
            pass
        return engine.viewer_stats(viewer)["queued_bytes"] == 0

    eventually(drain)
    send_large(sender, clip, range(sent, sent + GROUP))
    eventually(lambda: drain() and engine.viewer_stats(viewer)["frames"] > 0)
    eventually(lambda: drain() and len(received) == engine.viewer_stats(viewer)["bytes"])
    keys = video_tags(bytes(received))
    engine.shutdown()
    # Every break in the sequence of times is followed by a key frame.
    for (before, _), (after, is_key) in pairwise(keys):
        assert after - before <= 41 or is_key
    assert sum(1 for (a, _), (b, _) in pairwise(keys) if b - a > 41) >= 1


def video_tags(data: bytes) -> list[tuple[int, bool]]:
    """Time in milliseconds and key flag of each video frame; the whole must be made of whole tags."""
    assert data[:3] == b"FLV"
    at = 9 + 4
    tags = []
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        at_ms = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        body = data[at + 11 : at + 11 + size]
        end = at + 11 + size + 4
        if end > len(data):
            break
        assert int.from_bytes(data[end - 4 : end], "big") == size + 11
        if data[at] == 9 and body[1] == 1:
            tags.append((at_ms, body[0] >> 4 == 1))
        at = end
    return tags


def test_a_viewer_who_leaves_is_noticed(
    engine: Engine, clip: Make, watch: Watch, wait_event: WaitEvent
) -> None:
    sender = camera_of(engine)
    viewer, player = watch(engine, "camera", "fmp4")
    send_large(sender, clip, range(5))
    player.close()
    closed = wait_event(engine, "viewer_closed")
    assert closed["id"] == viewer
    assert closed["detail"] in ("eof", "reset")
    assert engine.stats("camera")["viewers"] == 0


def test_a_viewer_who_is_sent_away_reads_the_end(engine: Engine, watch: Watch, wait_event: WaitEvent) -> None:
    camera_of(engine)
    viewer, player = watch(engine, "camera", "flv")
    engine.detach(viewer)
    assert player.recv(1) == b""
    assert wait_event(engine, "viewer_closed")["detail"] == "detached"
    with pytest.raises(KeyError):
        engine.detach(viewer)


def test_the_head_of_the_answer_goes_first_even_before_any_frame(
    engine: Engine, clip: Make, eventually: Eventually
) -> None:
    sender = camera_of(engine)
    served, player = socket.socketpair()
    player.settimeout(5)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n"
    engine.attach("camera", "flv", served.detach(), head)
    assert player.recv(len(head), socket.MSG_WAITALL) == head
    send_large(sender, clip, range(2))
    assert player.recv(3, socket.MSG_WAITALL) == b"FLV"
    player.close()


def test_a_socket_given_to_the_engine_is_closed_also_when_it_is_refused(engine: Engine) -> None:
    camera_of(engine)
    for stream, container in (("nobody", "flv"), ("camera", "matroska")):
        served, player = socket.socketpair()
        player.settimeout(5)
        with pytest.raises((KeyError, ValueError)):
            engine.attach(stream, container, served.detach(), b"")  # type: ignore[arg-type]
        assert player.recv(1) == b""
        player.close()
    read_end, write_end = os.pipe()
    os.close(write_end)
    for number in (-1, 1 << 20, read_end):
        with pytest.raises(ValueError, match="fd"):
            engine.attach("camera", "flv", number, b"")
    with pytest.raises(OSError, match="descriptor"):
        os.close(read_end)


def test_no_more_viewers_than_allowed(eventually: Eventually) -> None:
    engine = Engine(max_viewers=1)
    camera_of(engine)
    first, player = socket.socketpair()
    engine.attach("camera", "flv", first.detach(), b"")
    second, refused = socket.socketpair()
    with pytest.raises(RuntimeError, match="limit"):
        engine.attach("camera", "flv", second.detach(), b"")
    player.close()
    eventually(lambda: engine.stats("camera")["viewers"] == 0)
    third, kept = socket.socketpair()
    engine.attach("camera", "flv", third.detach(), b"")
    engine.shutdown()
    kept.close()
    refused.close()


def test_who_joins_where_no_key_frame_is_kept_has_one_wanted_after_a_second(
    engine: Engine, clip: Make, watch: Watch, eventually: Eventually, wait_event: WaitEvent
) -> None:
    sender = camera_of(engine)
    _, (other, _) = clip("h264", 2)
    sender.send_video(other, 0, False)
    eventually(lambda: engine.stats("camera")["frames"] == 1 or bool(sender.send_video(other, 3_600, False)))
    began_ms = engine.now_ms()
    watch(engine, "camera", "flv")
    wanted = wait_event(engine, "key_frame_wanted")
    assert (wanted["stream"], wanted["id"], wanted["detail"]) == ("camera", 0, "dark")
    assert wanted["at_ms"] - began_ms >= 999
