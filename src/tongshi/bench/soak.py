"""Streams come and go, viewers churn, and nothing may grow: ``tongshi bench soak``.

One media engine carries cameras on loopback while everything that can end ends, a day's worth of it in
minutes: viewers join and leave, stop reading, read too slowly, die by a reset; relays are added and
removed; streams are closed and opened again. Once in a while all of it rests: viewers and relays are gone,
the same cameras send on, and then memory and descriptors are counted. Over these counts a line is laid
(least squares); the first quarter is warm-up. Its slope over the whole judged time must stay within what is
said beside it, and the descriptors must be the same to the last one.

The engine's own events are checked too: each viewer that ended was told, and nobody else was.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tongshi._media import Engine, PsSender

if TYPE_CHECKING:
    from tongshi._media import Container

HOST = "127.0.0.1"
STREAMS = 16
MAX_VIEWERS = 120
FRAMES_PER_S = 12.5
GROUP = 25
FRAME_BYTES = 4000
STEP_S = 0.02
REST_EVERY_S = 10.0
WARM_UP_SHARE = 0.25
MEMORY_TOLERANCE_BYTES = 2 << 20
"""Over the whole judged time: what the allocator's own unrest comes to."""

# 640 x 480 baseline; the parameter sets are true, so that parsers have something to read.
SETS = bytes.fromhex("00000001 6742c01eda0280f640 00000001 68ce3c80")
CONTAINERS: tuple[Container, ...] = ("flv", "fmp4", "ps")


@dataclass(frozen=True, slots=True)
class Rest:
    """What was counted while everything rested."""

    at_s: float
    memory_bytes: int
    descriptors: int
    threads: int


@dataclass(slots=True)
class Tally:
    """What happened."""

    viewers: int = 0
    readers: int = 0
    slow: int = 0
    stuck: int = 0
    died: int = 0
    closed: dict[str, int] = field(default_factory=dict)
    relays: int = 0
    streams: int = 0
    frames: int = 0
    viewer_bytes: int = 0


class Cameras:
    """Senders on a thread of their own; ``replace`` gives a stream a new one."""

    def __init__(self) -> None:
        self._senders: dict[str, PsSender] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self.frames = 0
        padding = b"\xa5" * FRAME_BYTES
        self._key = SETS + b"\x00\x00\x00\x01\x65\x88" + padding * 3
        self._inter = b"\x00\x00\x00\x01\x41\x9a" + padding
        self._thread = threading.Thread(target=self._run, name="soak-cameras", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        for name in list(self._senders):
            self.remove(name)

    def replace(self, name: str, port: int, ssrc: int) -> None:
        sender = PsSender("udp", HOST, 0, ssrc, "h264", "g711a")
        sender.connect(HOST, port)
        self.remove(name)
        with self._lock:
            self._senders[name] = sender

    def remove(self, name: str) -> None:
        with self._lock:
            sender = self._senders.pop(name, None)
        if sender is not None:
            sender.close()

    def _run(self) -> None:
        begun, number = time.monotonic(), 0
        while not self._is_over.is_set():
            pts = 90_000 + number * int(90_000 / FRAMES_PER_S)
            with self._lock:
                for offset, sender in enumerate(self._senders.values()):
                    is_key = (number + offset) % GROUP == 0
                    sender.send_video(self._key if is_key else self._inter, pts, is_key)
                    sender.send_audio(b"\xd5" * 320, pts)
                    self.frames += 1
            number += 1
            time.sleep(max(0.0, begun + number / FRAMES_PER_S - time.monotonic()))


class Soak:
    """One run."""

    def __init__(self, minutes: float, seed: int, report: Callable[[str], None]) -> None:
        self._duration_s = minutes * 60
        self._random = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._report = report
        self._engine = Engine(viewer_queue_bytes=256 << 10, viewer_stall_ms=2000, gop_bytes=2 << 20)
        self._cameras = Cameras()
        self._players: dict[int, tuple[socket.socket, str]] = {}
        self._relays: dict[int, socket.socket] = {}
        self._next_ssrc = 1
        self.tally = Tally()
        self.rests: list[Rest] = []

    def run(self) -> None:
        for number in range(STREAMS):
            self._open(f"camera-{number}")
        self._cameras.start()
        begun = time.monotonic()
        next_rest = begun + REST_EVERY_S
        try:
            while (now := time.monotonic()) < begun + self._duration_s:
                self._act()
                self._serve()
                if now >= next_rest:
                    self._rest(now - begun)
                    next_rest = time.monotonic() + REST_EVERY_S
                time.sleep(max(0.0, now + STEP_S - time.monotonic()))
        finally:
            self._cameras.stop()
            self._engine.shutdown()
        self.tally.frames = self._cameras.frames

    def _open(self, name: str) -> None:
        ssrc, self._next_ssrc = self._next_ssrc, self._next_ssrc + 1
        port = self._engine.open_ingest(name, "udp", HOST, ssrc=ssrc)
        self._cameras.replace(name, port, ssrc)
        self.tally.streams += 1

    def _act(self) -> None:
        chance = self._random.random()
        name = f"camera-{self._random.randrange(STREAMS)}"
        if chance < 0.5 and len(self._players) < MAX_VIEWERS:
            self._join(name)
        elif chance < 0.75 and self._players:
            self._leave(self._random.choice(tuple(self._players)))
        elif chance < 0.80:
            self._relay(name)
        elif chance < 0.82:
            self._cameras.remove(name)
            self._engine.close_stream(name)
            self._open(name)

    def _join(self, name: str) -> None:
        player, served = socket.socketpair()
        player.setblocking(False)
        kind = self._random.choices(("reader", "slow", "stuck", "died"), (6, 2, 1, 2))[0]
        viewer = self._engine.attach(
            name, self._random.choice(CONTAINERS), served.detach(), b"HTTP/1.1 200 OK\r\n\r\n"
        )
        self.tally.viewers += 1
        tallied = "readers" if kind == "reader" else kind
        setattr(self.tally, tallied, getattr(self.tally, tallied) + 1)
        self._players[viewer] = (player, kind)

    def _leave(self, viewer: int) -> None:
        player, kind = self._players.pop(viewer)
        if kind == "died":
            player.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "stuck":
            self._detach(viewer)
        player.close()

    def _detach(self, viewer: int) -> None:
        try:
            self._engine.detach(viewer)
        except KeyError:
            pass  # it ended by itself

    def _relay(self, name: str) -> None:
        if len(self._relays) >= STREAMS:
            relay, receiver = next(iter(self._relays.items()))
            del self._relays[relay]
            self._drop_relay(relay, receiver)
            return
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((HOST, 0))
        relay, _ = self._engine.add_relay(name, "udp", HOST, receiver.getsockname()[1], self._next_ssrc)
        self._relays[relay] = receiver
        self.tally.relays += 1

    def _drop_relay(self, relay: int, receiver: socket.socket) -> None:
        try:
            self._engine.remove_relay(relay)
        except KeyError:
            pass  # gone with its stream
        receiver.close()

    def _serve(self) -> None:
        """Players read as their kind does; the engine's events are taken."""
        for player, kind in self._players.values():
            if kind != "stuck":
                self.tally.viewer_bytes += _read(player, 2048 if kind == "slow" else 1 << 20)
        for event in self._engine.poll_events():
            if event["kind"] == "viewer_closed":
                self.tally.closed[event["detail"]] = self.tally.closed.get(event["detail"], 0) + 1
                gone = self._players.pop(event["id"], None)
                if gone is not None:
                    gone[0].close()

    def _rest(self, at_s: float) -> None:
        for viewer in tuple(self._players):
            player, _ = self._players.pop(viewer)
            self._detach(viewer)
            player.close()
        while self._relays:
            self._drop_relay(*self._relays.popitem())
        # Two groups of pictures, so that every cache holds what it always holds.
        time.sleep(2.2 * GROUP / FRAMES_PER_S)
        self._serve()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        rest = Rest(
            round(at_s, 1), _memory_bytes(), len(os.listdir("/proc/self/fd")), threading.active_count()
        )
        self.rests.append(rest)
        self._report(
            f"{at_s:6.0f} s: {rest.memory_bytes / 1e6:.2f} MB, {rest.descriptors} descriptors, "
            f"{self.tally.viewers} viewers so far"
        )


def _read(player: socket.socket, most: int) -> int:
    try:
        return len(player.recv(most))
    except BlockingIOError:
        return 0
    except OSError:
        return 0


def _memory_bytes() -> int:
    """Anonymous memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon in /proc/self/status")


def slope(rests: Sequence[Rest], what: Callable[[Rest], float]) -> float:
    """How much the line through the counts rises over their whole time."""
    times = [rest.at_s for rest in rests]
    rise, _ = statistics.linear_regression(times, [what(rest) for rest in rests])
    return rise * (times[-1] - times[0])


def run(
    *, minutes: float = 20.0, seed: int = 1, report: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Churn and judge.

    Raises:
        ValueError: too short for four counts, which a line needs.
    """
    soak = Soak(minutes, seed, report)
    soak.run()
    judged = soak.rests[int(len(soak.rests) * WARM_UP_SHARE) :]
    if len(judged) < 4:
        raise ValueError("too short: at least four counts are needed after the warm-up")
    growth = slope(judged, lambda rest: rest.memory_bytes)
    descriptors = {rest.descriptors for rest in judged}
    tally = soak.tally
    return {
        "minutes": minutes,
        "seed": seed,
        "viewers": tally.viewers,
        "by_kind": {"readers": tally.readers, "slow": tally.slow, "stuck": tally.stuck, "died": tally.died},
        "closed_by_the_engine": tally.closed,
        "relays": tally.relays,
        "streams_opened": tally.streams,
        "frames_sent": tally.frames,
        "viewer_gbytes": round(tally.viewer_bytes / 1e9, 3),
        "counts": len(judged),
        "memory_first_bytes": judged[0].memory_bytes,
        "memory_last_bytes": judged[-1].memory_bytes,
        "memory_growth_bytes": round(growth),
        "memory_tolerance_bytes": MEMORY_TOLERANCE_BYTES,
        "descriptors": sorted(descriptors),
        "threads": sorted({rest.threads for rest in judged}),
        "is_accepted": growth <= MEMORY_TOLERANCE_BYTES and len(descriptors) == 1,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the churn (default 1)")


def run_cli(args: argparse.Namespace) -> int:
    """Churn as asked; 1 when something grew."""
    figures = run(
        minutes=args.minutes, seed=args.seed, report=lambda line: print(line, file=sys.stderr, flush=True)
    )
    print(json.dumps(figures, indent=2))
    return 0 if figures["is_accepted"] else 1
