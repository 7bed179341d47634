"""The adapter over a double of the native engine: order of commands, events, and what is given back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tongshi.errors import LocalViolation, NotFound, Unavailable
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing.media_ports import Promise
from tongshi.resources.viewing.model import Transport


class Native:
    """Remembers the commands; events are given by the test."""

    def __init__(self) -> None:
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.events: list[dict[str, Any]] = []
        self.commands: list[tuple[Any, ...]] = []
        self.taken_ports: set[int] = set()
        self.error: Exception | None = None
        self.early: tuple[str, str] | None = None

    def tell(self, kind: str, stream: str, number: int = 0, detail: str = "") -> None:
        self.events.append({"kind": kind, "stream": stream, "id": number, "detail": detail})
        os.eventfd_write(self.event_fd, 1)

    def poll_events(self, limit: int = 1024) -> list[Any]:
        os.eventfd_read(self.event_fd)
        events, self.events = self.events, []
        return events

    def now_ms(self) -> float:
        return 5000.0

    def open_ingest(
        self,
        stream: str,
        transport: Any,
        host: str,
        port: int = 0,
        ssrc: int | None = None,
        *,
        shared: bool = False,
    ) -> int:
        if self.error is not None:
            raise self.error
        if port in self.taken_ports:
            raise OSError("taken")
        self.commands.append(("share" if shared else "open", stream, transport, port))
        return port or 40_000

    def set_ssrc(self, stream: str, ssrc: int | None, *, is_hint: bool = False) -> None:
        self.commands.append(("hint" if is_hint else "ssrc", stream, ssrc))

    def set_source(self, stream: str, host: str, port: int = 0) -> None:
        self.commands.append(("source", stream, host, port))

    def set_payload_types(self, stream: str, types: list[tuple[int, str, int]]) -> None:
        self.commands.append(("types", stream, types))

    def hold(self, stream: str) -> int | None:
        return None

    def step(self, stream: str) -> int | None:
        return None

    def let_go(self, stream: str, *, forget: bool) -> None:
        self.commands.append(("let go", stream, forget))

    def relay_numbers(self, relay: int) -> tuple[int, int] | None:
        return None

    def connect_ingest(self, stream: str, host: str, port: int) -> None:
        self.commands.append(("connect", stream, host, port))

    def close_stream(self, stream: str) -> Any:
        self.commands.append(("close", stream))

    def add_relay(
        self, stream: str, transport: Any, host: str, port: int, ssrc: int, local_host: str = ""
    ) -> tuple[int, int]:
        return 3, 41_000

    def remove_relay(self, relay: int) -> None:
        self.commands.append(("remove", relay))

    def snapshot_gop(self, stream: str) -> bytes:
        return b""

    def attach(
        self,
        stream: str,
        container: Any,
        fd: int,
        head: bytes,
        dialogue: Any = "",
        ports: Sequence[tuple[int, int, int]] = (),
        silence_ms: float = 0,
    ) -> int:
        os.close(fd)
        if self.early is not None:
            self.tell("viewer_closed", stream, 9, "eof")
        return 9

    def add_peer(self, stream: str, offer: str) -> tuple[int, str]:
        if offer != "offer":
            raise ValueError(offer)
        if self.early is not None:
            self.tell("viewer_closed", stream, 9, "eof")
        return 9, "answer"

    def detach(self, viewer: int) -> None:
        self.commands.append(("detach", viewer))

    def stats(self, stream: str) -> Any:
        names = ("packets", "malformed", "foreign_ssrc", "lost", "width", "height")
        known = ("window_ms", "bitrate_kbps", "frame_rate", "jitter_ms", "delay_ms", "kernel_drops")
        unknown = ("loss_rate", "report_delay_ms", "key_interval_ms")
        figures = {**dict.fromkeys((*names, *known), 1), **dict.fromkeys(unknown, -1)}
        return {
            **figures,
            "last_packet_ms": 2000.0,
            "video_codec": "h264",
            "audio_codec": "",
            "audio_rate_hz": 0,
        }

    def describe(self, stream: str) -> Any:
        raise KeyError(stream)

    def viewer_stats(self, viewer: int) -> Any:
        if viewer != 9:
            raise KeyError(viewer)
        return {"bytes": 77}

    def shutdown(self) -> None:
        self.commands.append(("shutdown",))
        os.close(self.event_fd)


@pytest.fixture
async def native() -> Native:
    return Native()


@pytest.fixture
async def engine(native: Native) -> AsyncIterator[AsyncEngine]:
    made = AsyncEngine(native, "127.0.0.1")
    made.start()
    yield made
    await made.stop()


def spare_fd() -> int:
    return os.eventfd(0)


async def test_events_become_the_ingests_own(engine: AsyncEngine, native: Native) -> None:
    ingest = await engine.open("s", Transport.UDP)
    assert ingest.port == 40_000
    native.tell("first_packet", "s")
    await asyncio.wait_for(ingest.first_packet.wait(), 1)
    native.tell("first_key_frame", "s")
    await asyncio.wait_for(ingest.first_key_frame.wait(), 1)
    native.tell("peer_closed", "s")
    native.tell("first_packet", "unknown")
    await asyncio.wait_for(ingest.ended.wait(), 1)
    assert (await ingest.figures()).silent_s == 3.0


async def test_a_port_of_the_range_that_is_taken_is_passed_over(native: Native) -> None:
    native.taken_ports = {30_000}
    engine = AsyncEngine(native, "127.0.0.1", 30_000, 30_003)
    engine.start()
    assert (await engine.open("a", Transport.UDP)).port == 30_002
    native.taken_ports = {30_000, 30_002}
    with pytest.raises(Unavailable) as caught:
        await engine.open("b", Transport.UDP)
    assert caught.value.code == 50302
    await engine.stop()


@pytest.mark.parametrize(
    ("error", "expected"),
    [(RuntimeError("limit"), Unavailable), (OSError("bind"), Unavailable), (ValueError("x"), LocalViolation)],
)
async def test_errors_of_the_engine_are_translated(
    engine: AsyncEngine, native: Native, error: Exception, expected: type[Exception]
) -> None:
    native.error = error
    with pytest.raises(expected):
        await engine.open("s", Transport.UDP)


async def test_an_opening_that_nobody_waits_for_is_closed_again(engine: AsyncEngine, native: Native) -> None:
    opening = asyncio.create_task(engine.open("s", Transport.UDP))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await engine.run(lambda: None)  # the worker has done everything before
    opened = [command[0] for command in native.commands if command[1:2] == ("s",)]
    assert opened in ([], ["open", "close"])


async def test_a_viewer_that_closes_is_told_even_before_its_number_came(
    engine: AsyncEngine, native: Native
) -> None:
    await engine.open("s", Transport.UDP)
    for early in (None, ("eof", "")):
        native.early = early
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        number = await engine.attach("s", "flv", spare_fd(), b"", told.set_result)
        if early is None:
            native.tell("viewer_closed", "s", number, "stalled")
        assert await asyncio.wait_for(told, 1) in ("stalled", "eof")


async def test_a_viewer_of_a_closed_stream_is_refused_and_its_socket_closed(engine: AsyncEngine) -> None:
    fd = spare_fd()
    with pytest.raises(NotFound):
        await engine.attach("gone", "flv", fd, b"", lambda _: None)
    with pytest.raises(OSError):
        os.fstat(fd)


async def test_bytes_are_told_at_the_detach_and_0_when_it_is_gone(engine: AsyncEngine) -> None:
    assert (await engine.detach(9), await engine.detach(10)) == (77, 0)


PICTURE = RtpMap(98, "H264", 90_000)


@pytest.mark.parametrize(
    ("transport", "promise", "expected"),
    [
        (
            Transport.UDP,
            Promise(7, "192.0.2.1", 5000, (PICTURE, RtpMap(97, "VENDOR", 90_000))),
            [("types", "s", [(98, "h264", 90_000)]), ("ssrc", "s", 7), ("source", "s", "192.0.2.1", 5000)],
        ),
        (
            Transport.TCP_PASSIVE,
            Promise(7, "192.0.2.1", 9),
            [("ssrc", "s", 7), ("source", "s", "192.0.2.1", 0)],
        ),
        (Transport.UDP, Promise(None, "192.0.2.1", 5000), [("source", "s", "192.0.2.1", 5000)]),
        (Transport.TCP_PASSIVE, Promise(None, "192.0.2.1", 9), []),
        (Transport.UDP, Promise(7, "camera.example", 5000), [("ssrc", "s", 7)]),
    ],
)
async def test_a_stream_of_a_shared_port_is_told_what_the_answer_promised(
    native: Native, transport: Transport, promise: Promise, expected: list[Any]
) -> None:
    engine = AsyncEngine(native, "127.0.0.1", shared_port=30_000)
    engine.start()
    ingest = await engine.open("s", transport)
    await ingest.announce(5)
    await ingest.expect(promise)
    assert native.commands == [("share", "s", transport.value, 30_000), ("hint", "s", 5), *expected]
    await engine.stop()


async def test_what_is_local_or_called_by_us_has_a_port_of_its_own(native: Native) -> None:
    engine = AsyncEngine(native, "127.0.0.1", shared_port=30_000)
    engine.start()
    for stream, transport, is_local in (
        ("a", Transport.TCP_ACTIVE, False),
        ("b", Transport.TCP_PASSIVE, True),
    ):
        ingest = await engine.open(stream, transport, is_local=is_local)
        await ingest.announce(5)
        await ingest.expect(Promise(None))
    assert [command[0] for command in native.commands] == ["open", "ssrc", "open", "ssrc"]
    await engine.stop()
