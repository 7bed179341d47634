"""What loss, jitter and reordering cost in pictures, and for how long: ``tongshi bench link``.

Each camera sends H.264 as PS over RTP through a link of its own that loses, delays and reorders by a seed
(``testing/lossy.py``; the kernel's netem is missing on many machines), all into one engine at the same
time. A viewer of each reads FLV and knows every picture by its number, so that it is counted which came
whole and when. A picture is *shown right* when it came and every picture before it in its group did; a
viewer's decoder shows broken pictures from the first missing one to the next key frame. *Recovery* is that
time, by the viewer's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from tongshi._media import Engine, PsSender
from tongshi.testing.lossy import LossyLink, Weather

HOST = "127.0.0.1"
FRAMES_PER_S = 25
GROUP = 50
FRAME_BYTES = 6_000
KEY_WEIGHT = 6
SETS = bytes.fromhex("00000001 6742c01eda0280f640 00000001 68ce3c80")
MARK = b"\xfenumber"

WEATHERS: dict[str, Weather] = {
    "clear": Weather(),
    "1 % loss": Weather(loss=0.01),
    "5 % loss": Weather(loss=0.05),
    "0.1 % loss": Weather(loss=0.001),
    "50 ms jitter": Weather(jitter_ms=50),
    "5 % reordered by 20 ms": Weather(reorder=0.05, reorder_ms=20),
    "1 % loss, 1 % doubled, 5 % reordered by 20 ms": Weather(
        loss=0.01, duplicate=0.01, reorder=0.05, reorder_ms=20
    ),
}


def picture(number: int) -> bytes:
    """An access unit that carries its number; key frames begin a group."""
    is_key = number % GROUP == 0
    size = FRAME_BYTES * (KEY_WEIGHT if is_key else 1)
    head = SETS + b"\x00\x00\x00\x01\x65\x88" if is_key else b"\x00\x00\x00\x01\x41\x9a"
    return head + MARK + b"%08d" % number + b"\xa5" * size


@dataclass(slots=True)
class Seen:
    """One picture as it came to the viewer."""

    number: int
    at: float


class Player:
    """Reads FLV on a thread and notes the pictures by their numbers."""

    def __init__(self, player: socket.socket) -> None:
        self._socket = player
        self._data = bytearray()
        self.seen: list[Seen] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        while part := self._socket.recv(1 << 18):
            self._data += part
            self._cut(time.monotonic())

    def _cut(self, now: float) -> None:
        at = 13 if self._data[:3] == b"FLV" and not self.seen and len(self._data) >= 13 else 0
        while at + 15 <= len(self._data):
            size = int.from_bytes(self._data[at + 1 : at + 4], "big")
            if at + 15 + size > len(self._data):
                break
            place = self._data.find(MARK, at, at + 11 + size)
            if place >= 0:
                number = int(self._data[place + len(MARK) : place + len(MARK) + 8])
                self.seen.append(Seen(number, now))
            at += 15 + size
        del self._data[:at]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one link cost."""

    sent: int
    came: int
    shown_right: int
    packets_lost: int
    packets_reordered: int
    breaks: int
    recovery_p50_s: float
    recovery_max_s: float
    delay_p50_ms: float
    delay_p99_ms: float


def judge(sent_at: dict[int, float], seen: list[Seen], lost: int, reordered: int) -> Outcome:
    """Count pictures, breaks and how long each lasted."""
    came = {one.number: one.at for one in seen}
    is_right, broken_since = False, None
    shown, recoveries = 0, []
    last_at = None
    for number in sorted(sent_at):
        if number not in came:
            if is_right:
                is_right, broken_since = False, last_at
            continue
        last_at = came[number]
        if number % GROUP == 0:
            if broken_since is not None:
                recoveries.append(last_at - broken_since)
                broken_since = None
            is_right = True
        shown += is_right
    delays = sorted((at - sent_at[number]) * 1000 for number, at in came.items() if number in sent_at)
    return Outcome(
        sent=len(sent_at),
        came=len(came),
        shown_right=shown,
        packets_lost=lost,
        packets_reordered=reordered,
        breaks=len(recoveries),
        recovery_p50_s=round(statistics.median(recoveries), 2) if recoveries else 0.0,
        recovery_max_s=round(max(recoveries), 2) if recoveries else 0.0,
        delay_p50_ms=round(delays[len(delays) // 2], 1) if delays else 0.0,
        delay_p99_ms=round(delays[len(delays) * 99 // 100], 1) if delays else 0.0,
    )


async def measure(seconds: float, seed: int) -> dict[str, Outcome]:
    """All links at once."""
    engine = Engine()
    links, senders, players = {}, {}, {}
    for index, (name, weather) in enumerate(WEATHERS.items()):
        port = engine.open_ingest(name, "udp", HOST, ssrc=index + 1)
        link = links[name] = LossyLink((HOST, port), weather, random.Random(seed + index))  # noqa: S311
        await link.start()
        sender = senders[name] = PsSender("udp", HOST, 0, index + 1, "h264")
        sender.connect(HOST, link.port)
        served, player = socket.socketpair()
        engine.attach(name, "flv", served.detach(), b"")
        players[name] = Player(player)
    sent_at: dict[str, dict[int, float]] = {name: {} for name in WEATHERS}
    begun = time.monotonic()
    for number in range(int(seconds * FRAMES_PER_S)):
        unit = picture(number)
        for name, sender in senders.items():
            sent_at[name][number] = time.monotonic()
            sender.send_video(unit, 90_000 + number * 3600, number % GROUP == 0)
            await asyncio.sleep(0)
        await asyncio.sleep(max(0.0, begun + (number + 1) / FRAMES_PER_S - time.monotonic()))
    await asyncio.sleep(0.5)
    outcomes = {}
    for name, sender in senders.items():
        stats = engine.close_stream(name)
        players[name].join()
        outcomes[name] = judge(sent_at[name], players[name].seen, stats["lost"], stats["reordered"])
        sender.close()
        await links[name].stop()
    engine.shutdown()
    return outcomes


def run(*, seconds: float = 60.0, seed: int = 1) -> dict[str, Any]:
    """Measure; with the clear link every picture must be shown right."""
    outcomes = asyncio.run(measure(seconds, seed))
    clear = outcomes["clear"]
    fields = Outcome.__dataclass_fields__
    return {
        "seconds": seconds,
        "links": {name: {key: getattr(one, key) for key in fields} for name, one in outcomes.items()},
        "is_accepted": clear.shown_right == clear.sent,
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| link | packets lost | pictures lost | right | breaks | recovery p50 / max | delay p50 / p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in figures["links"].items():
        lines.append(
            f"| {name} | {one['packets_lost']} | {one['sent'] - one['came']} of {one['sent']} "
            f"| {one['shown_right'] / one['sent']:.1%} | {one['breaks']} "
            f"| {one['recovery_p50_s']:.2f} / {one['recovery_max_s']:.2f} s "
            f"| {one['delay_p50_ms']:.0f} / {one['delay_p99_ms']:.0f} ms |"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the weather (default 1)")


def run_cli(args: argparse.Namespace) -> int:
    """Measure as asked; 1 when a clear link lost a picture."""
    figures = run(seconds=args.seconds, seed=args.seed)
    sys.stdout.write((json.dumps(figures, indent=2) if args.json else table(figures)) + "\n")
    return 0 if figures["is_accepted"] else 1
