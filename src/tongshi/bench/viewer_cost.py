"""What one viewer costs the engine, by WebRTC and by HTTP-FLV: ``tongshi bench picture --cost N``.

One stream of H.264 reaches the engine by UDP; N viewers watch it, then as many by the other way, round after
round. CPU is that of the engine's own threads over a window, less what the stream costs without a viewer, and
is divided by N. The WebRTC viewers are connections of a real browser (Debian's Chromium by Playwright): DTLS,
SRTP, reports, resends and all; the engine takes their offers directly, without HTTP. FLV viewers are sockets
that a thread empties. What browser and reader use is not counted, and takes the engine's time only where the
machine has no core left for them: the load stands beside the figures.
"""

from __future__ import annotations

import io
import os
import selectors
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.stream import VideoStream

from tongshi._media import Engine, PsSender
from tongshi.errors import Unavailable

HOST: Final = "127.0.0.1"
STREAM: Final = "cost"
FPS, GROUP, SIZE, KBPS = 25, 50, (640, 360), 2_000
SETTLE_S: Final = 3.0  # longer than a group: what a viewer begins with has been sent
CONNECT_S: Final = 20.0
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
_OFFER = """async () => {
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' })
    window.peers = [...(window.peers ?? []), peer]
    peer.addTransceiver('video', { direction: 'recvonly' })
    await peer.setLocalDescription(await peer.createOffer())
    return peer.localDescription.sdp
}"""
_ANSWER = "async (sdp) => { await window.peers.at(-1).setRemoteDescription({ type: 'answer', sdp }) }"
_DECODED = """async () => {
    const counts = []
    for (const peer of window.peers ?? [])
        for (const one of (await peer.getStats()).values())
            if (one.type === 'inbound-rtp') counts.push(one.framesDecoded)
    return counts
}"""
_CLOSE = "() => { (window.peers ?? []).forEach((peer) => peer.close()); window.peers = [] }"


class Feed(threading.Thread):
    """One camera: the same group again and again, at its pace."""

    def __init__(self, port: int) -> None:
        super().__init__(name="feed", daemon=True)
        self._sender = PsSender("udp", HOST, 0, 7, "h264")
        self._sender.connect(HOST, port)
        self._units = group()
        self._is_over = threading.Event()

    def run(self) -> None:
        begun = time.monotonic()
        number = 0
        while not self._is_over.wait(max(0.0, begun + number / FPS - time.monotonic())):
            unit, is_key = self._units[number % len(self._units)]
            self._sender.send_video(unit, number * 90_000 // FPS, is_key)
            number += 1

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        self._sender.close()


class Readers(threading.Thread):
    """Viewers by FLV: their sockets are emptied and counted."""

    def __init__(self, engine: Engine, count: int) -> None:
        super().__init__(name="readers", daemon=True)
        self._selector = selectors.DefaultSelector()
        self._is_over = threading.Event()
        self.bytes = 0
        self._ours: list[socket.socket] = []
        with socket.create_server((HOST, 0)) as listener:
            for _ in range(count):
                ours = socket.create_connection(listener.getsockname())
                theirs, _ = listener.accept()
                engine.attach(STREAM, "flv", theirs.detach(), b"")
                self._ours.append(ours)
                self._selector.register(ours, selectors.EVENT_READ)

    def run(self) -> None:
        while not self._is_over.is_set():
            for key, _ in self._selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                self.bytes += len(key.fileobj.recv(1 << 18))

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        self._selector.close()
        for one in self._ours:
            one.close()


def group() -> list[tuple[bytes, bool]]:
    """A group of pictures at a camera's rate: something moves, and there is noise as at night."""
    width, height = SIZE
    container = av.open(io.BytesIO(), "w", format="h264")
    stream = container.add_stream("libx264", rate=FPS)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    rate = f"{KBPS}k"
    stream.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "g": str(GROUP),
        "b": rate,
        "maxrate": rate,
        "bufsize": rate,
        "x264-params": f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:repeat-headers=1",
    }
    chance = np.random.default_rng(1)
    units: list[tuple[bytes, bool]] = []
    for number in range(GROUP):
        picture = chance.integers(100, 140, (height, width, 3), np.uint8)
        picture[:, number * 8 : number * 8 + 60] = 230
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        units += [(bytes(one), one.is_keyframe) for one in stream.encode(frame)]
    return units + [(bytes(one), one.is_keyframe) for one in stream.encode()]


def engine_cpu_s() -> float:
    """What the engine's packet threads have used so far."""
    used_ns = 0
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().startswith("media-") and (task / "comm").read_text()[6:7].isdigit():
            used_ns += int((task / "schedstat").read_text().split()[0])
    return used_ns / 1e9


def _core_share(seconds: float) -> float:
    time.sleep(SETTLE_S)
    before, begun = engine_cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (engine_cpu_s() - before) / (time.monotonic() - begun)


def _by_webrtc(engine: Engine, page: Any, count: int, seconds: float) -> float:
    for _ in range(count):
        _, answer = engine.add_peer(STREAM, page.evaluate(_OFFER))
        page.evaluate(_ANSWER, answer)
    try:
        until = time.monotonic() + CONNECT_S
        while (decoded := page.evaluate(_DECODED)).count(0) or len(decoded) < count:
            if time.monotonic() > until:
                raise Unavailable(f"浏览器没有显示画面：{decoded}")
            time.sleep(0.1)
        share = _core_share(seconds)
        if sum(page.evaluate(_DECODED)) <= sum(decoded):
            raise Unavailable("浏览器中的画面停住了")
    finally:
        page.evaluate(_CLOSE)
    while engine.stats(STREAM)["viewers"]:
        time.sleep(0.05)
    return share


def _by_flv(engine: Engine, count: int, seconds: float) -> float:
    readers = Readers(engine, count)
    readers.start()
    try:
        share = _core_share(seconds)
    finally:
        readers.stop()
    if not readers.bytes:
        raise Unavailable("FLV 没有数据")
    while engine.stats(STREAM)["viewers"]:
        time.sleep(0.05)
    return share


def measure(viewers: int, rounds: int, seconds: float, report: Callable[[str], None]) -> dict[str, Any]:
    """Shares of a core that one viewer takes, for each way, by round.

    Raises:
        Unavailable: no browser here, or it shows nothing.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright  # of the development set alone
    except ImportError as error:
        raise Unavailable("没有安装 Playwright（开发环境 requirements/dev.txt）") from error
    if chromium is None:
        raise Unavailable("没有找到 Debian 的 chromium")
    found: dict[str, list[float]] = {"http-flv": [], "webrtc": []}
    alone: list[float] = []
    with ExitStack() as held:
        engine = Engine(webrtc_host=HOST)
        held.callback(engine.shutdown)
        feed = Feed(engine.open_ingest(STREAM, "udp", HOST, ssrc=7))
        feed.start()
        held.callback(feed.stop)
        driver = held.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=chromium, args=_FLAGS)
        held.callback(browser.close)
        page = browser.new_page()
        for number in range(rounds):
            base = _core_share(seconds)
            alone.append(base)
            found["http-flv"].append((_by_flv(engine, viewers, seconds) - base) / viewers)
            found["webrtc"].append((_by_webrtc(engine, page, viewers, seconds) - base) / viewers)
            report(f"round {number + 1} of {rounds}: {found['http-flv'][-1]:.5f}, {found['webrtc'][-1]:.5f}")
    return {"stream_alone": alone, **found}


def run(
    viewers: int, rounds: int, seconds: float = 5.0, report: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure; medians with least and most, in per cent of a core. There is no bound: it is shown."""
    found = measure(viewers, rounds, seconds, report)
    return {
        "viewers": viewers,
        "rounds": rounds,
        "kbps": KBPS,
        "load_average": os.getloadavg()[0],
        "ways": {
            name: {
                "median_percent": round(100 * statistics.median(shares), 3),
                "least_percent": round(100 * min(shares), 3),
                "most_percent": round(100 * max(shares), 3),
            }
            for name, shares in found.items()
        },
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [f"| {figures['viewers']} viewers, {figures['kbps']} kbit/s | % of a core |", "|---|---|"]
    for name, way in figures["ways"].items():
        each = "" if name == "stream_alone" else " a viewer"
        spread = f"({way['least_percent']:.2f}-{way['most_percent']:.2f})"
        lines.append(f"| {name}{each} | {way['median_percent']:.2f} {spread} |")
    return "\n".join(lines)
