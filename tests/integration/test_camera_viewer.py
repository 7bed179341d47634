"""The viewer that judges what is served over HTTP: right answers, refusals, silence, rubbish, early ends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import pytest

from tongshi.errors import InvalidRequest, PeerFailed, PeerTimeout
from tongshi.testing.clips import load_clip, write_clip
from tongshi.testing.lettering import Lettering
from tongshi.testing.pan_tilt import View
from tongshi.testing.picture import Picture
from tongshi.testing.scenery import WORLDS
from tongshi.testing.viewer import watch_http

Serve = Callable[[socket.socket], None]
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n"


@pytest.fixture(scope="module")
def flv(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Thirty frames of a turning camera as FLV, multiplexed by FFmpeg."""
    path = tmp_path_factory.mktemp("clips") / "crossing-day.mp4"
    write_clip(path, WORLDS["crossing-day"](), frames=5)
    picture = Picture(load_clip(path), Lettering(), label="东门")
    frames = [picture.next(View(pan=3.0 * n), datetime(2026, 1, 1, tzinfo=UTC)) for n in range(30)]
    target = BytesIO()
    source = av.open(BytesIO(b"".join(frame.data for frame in frames)), "r", format="h264")
    with source, av.open(target, "w", format="flv") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.pts = packet.dts = number * 80
                packet.time_base = Fraction(1, 1000)
                packet.stream = stream
                container.mux(packet)
    return target.getvalue()


@contextmanager
def server(serve: Serve) -> Iterator[str]:
    """One connection, served by a function on a thread."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5.0)
            connection.recv(4096)
            try:
                serve(connection)
            except OSError:
                pass  # the viewer left, which several tests want

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/live/x.flv?ticket=1"
        thread.join(5.0)
        assert not thread.is_alive()


async def test_frames_and_their_codes_are_read(flv: bytes) -> None:
    with server(lambda to: to.sendall(OK + flv)) as url:
        seen = await watch_http(url, frames=25, timeout_s=10.0)
    assert (seen.frames, seen.codec, seen.width, seen.height) == (25, "h264", 640, 360)
    assert [code.counter for code in seen.codes] == list(range(25))
    assert seen.codes[24].pan == 72.0
    assert 0 < seen.answered_ms <= seen.first_frame_ms


async def test_a_refusal_carries_status_and_body() -> None:
    refusal = b'HTTP/1.1 403 Forbidden\r\n\r\n{"code":40301}'
    with server(lambda to: to.sendall(refusal)) as url, pytest.raises(PeerFailed) as caught:
        await watch_http(url, timeout_s=5.0)
    assert caught.value.details == {"httpStatus": 403, "body": '{"code":40301}'}


async def test_a_stream_that_ends_early_is_a_failure_with_its_count(flv: bytes) -> None:
    part = OK + flv[: len(flv) * 2 // 3]
    with server(lambda to: to.sendall(part)) as url, pytest.raises(PeerFailed) as caught:
        await watch_http(url, frames=30, timeout_s=5.0)
    frames = caught.value.details["frames"]
    assert isinstance(frames, int)
    assert 0 < frames < 30


async def test_silence_and_rubbish_are_different_time_outs() -> None:
    left = threading.Event()

    def silent(to: socket.socket) -> None:
        to.sendall(OK)
        left.wait(5.0)

    def rubbish(to: socket.socket) -> None:
        to.sendall(OK + b"FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00" + b"\x55" * 4000)
        left.wait(5.0)

    with server(silent) as url:
        with pytest.raises(PeerTimeout) as nothing:
            await watch_http(url, timeout_s=0.4)
        left.set()
    left.clear()
    with server(rubbish) as url:
        with pytest.raises(PeerTimeout) as undecodable:
            await watch_http(url, timeout_s=0.4)
        left.set()
    assert nothing.value.code == 50402
    assert undecodable.value.code == 50403


async def test_nobody_there_and_no_http_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PeerFailed):
        await watch_http(f"http://127.0.0.1:{port}/x.flv", timeout_s=2.0)
    with pytest.raises(InvalidRequest):
        await watch_http("rtsp://127.0.0.1/x")


async def test_cancelling_lets_go_at_once() -> None:
    gone = threading.Event()

    def serve(to: socket.socket) -> None:
        to.sendall(OK)
        assert to.recv(1) == b""
        gone.set()

    with server(serve) as url:
        watching = asyncio.create_task(watch_http(url, timeout_s=30.0))
        await asyncio.sleep(0.2)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert await asyncio.to_thread(gone.wait, 5.0)


@pytest.mark.parametrize(
    ("container", "scheme"), [("flv", "http"), ("mp4", "http"), ("ps", "http"), ("flv", "ws"), ("mp4", "ws")]
)
async def test_it_reads_what_the_engine_serves(container: str, scheme: str, tmp_path: Path) -> None:
    media = pytest.importorskip("tongshi._media", reason="the native engine is not built")
    write_clip(tmp_path / "crossing-day.mp4", WORLDS["crossing-day"](), frames=5)
    picture = Picture(load_clip(tmp_path / "crossing-day.mp4"), Lettering(), label="东门")
    engine = media.Engine()
    sender = media.PsSender("udp", "127.0.0.1", 0, 5, "h264", rate_kbps=100_000)
    ended = threading.Event()

    def send() -> None:
        number = 0
        while not ended.wait(0.02):
            frame = picture.next(View(), datetime.now(UTC))
            sender.send_video(frame.data, number * 7200, frame.is_key)
            number += 1

    def serve(to: socket.socket) -> None:
        kind = "fmp4" if container == "mp4" else container
        dialogue = "websocket" if scheme == "ws" else ""
        engine.attach("s", kind, to.detach(), UPGRADED if dialogue else OK, dialogue)

    try:
        sender.connect("127.0.0.1", engine.open_ingest("s", "udp", "127.0.0.1", 0, 5))
        thread = threading.Thread(target=send)
        thread.start()
        with server(serve) as url:
            url = url.replace(".flv", f".{container}").replace("http", scheme)
            seen = await watch_http(url, frames=40, timeout_s=15.0)
        assert seen.frames == len(seen.codes) == 40
    finally:
        ended.set()
        thread.join(5.0)
        sender.close()
        engine.shutdown()
