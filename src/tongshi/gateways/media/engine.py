"""The native engine behind the port that viewing names: commands off the loop, events on it.

A command to the engine takes up to a tick of its threads. Commands therefore run on one worker thread, in
order, so that a close that follows a cancelled open always finds what the open left. Events come over an
eventfd that the loop reads; no thread of the engine ever calls Python.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import structlog

from tongshi.errors import LocalViolation, NotFound, Unavailable
from tongshi.gateways.media.payload_types import is_numeric, payload_types
from tongshi.gateways.media.whep import refusal
from tongshi.protocols.media.rtsp import Description
from tongshi.resources.viewing.media_ports import Datagrams, IngestFigures, Promise, ReadingFigures
from tongshi.resources.viewing.model import Codec, Delivery, Quality, Transport

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Closed = Callable[[str], None]

MAX_EVENTS_A_READ = 1024


class NativeEngine(Protocol):
    """What is used of ``tongshi._media.Engine``; see its stub for the contract."""

    @property
    def event_fd(self) -> int: ...
    def poll_events(self, limit: int = ...) -> list[Any]: ...
    def now_ms(self) -> float: ...
    def open_ingest(
        self,
        stream: str,
        transport: Any,
        host: str,
        port: int = ...,
        ssrc: int | None = ...,
        *,
        shared: bool = ...,
    ) -> int: ...
    def set_ssrc(self, stream: str, ssrc: int | None, *, is_hint: bool = ...) -> None: ...
    def set_source(self, stream: str, host: str, port: int = ...) -> None: ...
    def set_payload_types(self, stream: str, types: list[tuple[int, str, int]]) -> None: ...
    def hold(self, stream: str) -> int | None: ...
    def step(self, stream: str) -> int | None: ...
    def let_go(self, stream: str, *, forget: bool) -> None: ...
    def relay_numbers(self, relay: int) -> tuple[int, int] | None: ...
    def connect_ingest(self, stream: str, host: str, port: int) -> None: ...
    def close_stream(self, stream: str) -> Any: ...
    def add_relay(
        self, stream: str, transport: Any, host: str, port: int, ssrc: int, local_host: str = ...
    ) -> tuple[int, int]: ...
    def remove_relay(self, relay: int) -> None: ...
    def attach(
        self,
        stream: str,
        container: Any,
        fd: int,
        head: bytes,
        dialogue: Any = ...,
        ports: Sequence[tuple[int, int, int]] = ...,
        silence_ms: float = ...,
    ) -> int: ...
    def add_peer(self, stream: str, offer: str) -> tuple[int, str]: ...
    def detach(self, viewer: int) -> None: ...
    def stats(self, stream: str) -> Any: ...
    def snapshot_gop(self, stream: str) -> bytes: ...
    def viewer_stats(self, viewer: int) -> Any: ...
    def describe(self, stream: str) -> Any: ...
    def shutdown(self) -> None: ...


class EngineIngest:
    """One receiving end."""

    lost_with_node = ""  # the process that asks would be gone with it

    def viewer_url(self, delivery: Delivery, ticket: str, *, is_sound_alone: bool = False) -> str | None:
        """None: viewers come to the platform's own listener."""
        return None

    def __init__(
        self, engine: AsyncEngine, stream: str, host: str, transport: Transport, *, is_shared: bool
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._transport = transport
        self._is_shared = is_shared
        self.host = host
        self.port = 0
        self.first_packet = asyncio.Event()
        self.first_key_frame = asyncio.Event()
        self.ended = asyncio.Event()
        self._tell_wish: Closed | None = None
        self._is_open = True

    async def announce(self, ssrc: int) -> None:
        if self._is_shared:
            await self._engine.run(self._engine.native.set_ssrc, self._stream, ssrc, is_hint=True)

    async def expect(self, promise: Promise) -> None:
        native, stream = self._engine.native, self._stream
        types = payload_types(promise.payload_types)
        if types:
            await self._engine.run(native.set_payload_types, stream, types)
        if promise.ssrc is not None or not self._is_shared:
            await self._engine.run(native.set_ssrc, stream, promise.ssrc)
        source = self._source(promise) if self._is_shared else None
        if source is not None:
            await self._engine.run(native.set_source, stream, *source)

    def _source(self, promise: Promise) -> tuple[str, int] | None:
        """Where the packets of a shared port that are this stream's come from, as far as it is sure.

        A sender that names no SSRC is known by its exact address, and by the SSRC that was offered.
        """
        port = promise.port if self._transport is Transport.UDP else 0
        if not is_numeric(promise.host) or (promise.ssrc is None and not port):
            return None
        return promise.host, port

    async def connect(self, host: str, port: int) -> None:
        await self._engine.run(self._engine.native.connect_ingest, self._stream, host, port)

    async def hold(self) -> int | None:
        return await self._engine.run(self._engine.native.hold, self._stream)

    async def step(self) -> int | None:
        return await self._engine.run(self._engine.native.step, self._stream)

    async def let_go(self, *, forget: bool) -> None:
        await self._engine.run(self._engine.native.let_go, self._stream, forget=forget)

    async def figures(self) -> IngestFigures:
        """What arrived so far; zeros when the stream is already closed."""
        native = self._engine.native
        try:
            stats = await self._engine.run(native.stats, self._stream)
        except NotFound:
            return IngestFigures(0, 0, 0, 0, None, Codec())
        last_ms = stats["last_packet_ms"]
        silent_s = None if last_ms < 0 else max(0.0, (native.now_ms() - last_ms) / 1000)
        codec = Codec(
            stats["video_codec"],
            stats["audio_codec"],
            stats["width"],
            stats["height"],
            stats["audio_rate_hz"],
        )
        return IngestFigures(
            stats["packets"],
            stats["malformed"],
            stats["foreign_ssrc"],
            stats["lost"],
            silent_s,
            codec,
            _quality(stats),
        )

    async def group_of_pictures(self) -> bytes:
        return await self._engine.run(self._engine.native.snapshot_gop, self._stream)

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Closed,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        return await self._engine.attach(self._stream, container, fd, head, on_closed, dialogue, datagrams)

    async def answer(self, offer: str, on_closed: Closed) -> tuple[int, str]:
        return await self._engine.answer(self._stream, offer, on_closed)

    async def detach(self, viewer: int) -> int:
        return await self._engine.detach(viewer)

    async def reading(self, viewer: int) -> ReadingFigures | None:
        try:
            stats = await self._engine.run(self._engine.native.viewer_stats, viewer)
        except NotFound:
            return None
        return ReadingFigures(stats["skipped"], stats["queued_bytes"])

    async def relay(
        self, transport: Transport, host: str, port: int, ssrc: int, on_closed: Closed
    ) -> tuple[int, int]:
        return await self._engine.relay(self._stream, self.host, transport, host, port, ssrc, on_closed)

    async def drop_relay(self, relay: int) -> None:
        await self._engine.drop_relay(relay)

    async def numbers(self, relay: int) -> tuple[int, int] | None:
        return await self._engine.run(self._engine.native.relay_numbers, relay)

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._engine.close_stream(self._stream)

    def on_key_frame_wanted(self, tell: Callable[[str], None]) -> None:
        self._tell_wish = tell

    def take_event(self, kind: str, detail: str = "") -> None:
        """One event of the stream itself, or a wish of its viewers."""
        if kind == "first_packet":
            self.first_packet.set()
        elif kind == "first_key_frame":
            self.first_packet.set()
            self.first_key_frame.set()
        elif kind in ("peer_closed", "error"):
            self.ended.set()
        elif kind == "key_frame_wanted" and self._tell_wish is not None:
            self._tell_wish(detail)


class AsyncEngine:
    """Owns the native engine, its worker thread and the dispatch of its events.

    Args:
        native: a ``tongshi._media.Engine``.
        host: numeric address to bind to, which is also what SDP says.
        first_port, last_port: range of local media ports, even ones are taken; 0 lets the system choose.
        shared_port: takes the media of all devices that send to us, UDP and TCP; 0 opens a port a stream.
    """

    def __init__(
        self,
        native: NativeEngine,
        host: str,
        first_port: int = 0,
        last_port: int = 0,
        *,
        shared_port: int = 0,
    ) -> None:
        self.native = native
        self._host = host
        self._shared_port = shared_port
        self._ports = list(range(first_port + first_port % 2, last_port + 1, 2)) if first_port else []
        self._next_port = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="media-commands")
        self._ingests: dict[str, EngineIngest] = {}
        self._closed: dict[tuple[str, int], Closed] = {}
        self._early: dict[tuple[str, int], str] = {}  # closed before its opener heard the number
        self._pending = 0
        self._is_started = False

    def start(self) -> None:
        """Begin to read events on the running loop."""
        asyncio.get_running_loop().add_reader(self.native.event_fd, self._read_events)
        self._is_started = True

    async def stop(self) -> None:
        """Close everything and join the engine's threads; idempotent."""
        if not self._is_started:
            return
        self._is_started = False
        asyncio.get_running_loop().remove_reader(self.native.event_fd)
        await asyncio.get_running_loop().run_in_executor(self._worker, self.native.shutdown)
        self._worker.shutdown()

    async def run(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one command of the engine in order with the others.

        Raises:
            NotFound: no such stream, viewer or relay.
            Unavailable: a socket could not be had, or the engine is full (50302).
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, lambda: command(*args, **kwargs))
        except KeyError as error:
            raise NotFound("视频流不存在", code=40404) from error
        except (OSError, RuntimeError) as error:
            log.warning("media_command_failed", command=getattr(command, "__name__", "?"), error=str(error))
            raise Unavailable("媒体资源不足", code=50302, retry_after_s=5) from error
        except ValueError as error:
            raise LocalViolation(f"engine refused its arguments: {error}") from error

    @property
    def open_streams(self) -> int:
        """Those open or opening now."""
        return len(self._ingests)

    async def open(
        self, stream: str, transport: Transport, device_id: str = "", *, is_local: bool = False
    ) -> EngineIngest:
        """Bind and listen; where the device is makes no difference to one engine."""
        # We connect to a tcp-active sender, and what is local comes through no firewall.
        is_shared = bool(self._shared_port) and transport is not Transport.TCP_ACTIVE and not is_local
        ingest = EngineIngest(self, stream, self._host, transport, is_shared=is_shared)
        self._ingests[stream] = ingest
        opening = asyncio.ensure_future(self._bind(stream, transport, is_shared=is_shared))
        try:
            ingest.port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._abandon(opening, stream)))
            raise
        except BaseException:
            self._ingests.pop(stream, None)
            raise
        return ingest

    async def _abandon(self, opening: asyncio.Future[int], stream: str) -> None:
        await asyncio.wait((opening,))
        if opening.exception() is None:
            await self.close_stream(stream)
        self._ingests.pop(stream, None)

    async def _bind(self, stream: str, transport: Transport, *, is_shared: bool) -> int:
        wanted = (stream, transport.value, self._host)
        if is_shared:
            return await self.run(self.native.open_ingest, *wanted, self._shared_port, shared=True)
        if not self._ports:
            return await self.run(self.native.open_ingest, *wanted)
        for _ in self._ports:
            port = self._ports[self._next_port % len(self._ports)]
            self._next_port += 1
            try:
                return await self.run(self.native.open_ingest, *wanted, port)
            except Unavailable as error:
                if not isinstance(error.__cause__, OSError):
                    raise
        raise Unavailable("媒体端口已用完", code=50302, retry_after_s=5)

    async def close_stream(self, stream: str) -> None:
        """Close a stream with its relays and viewers; nothing happens when it is gone."""
        ingest = self._ingests.pop(stream, None)
        if ingest is not None:
            ingest.ended.set()
        try:
            await self.run(self.native.close_stream, stream)
        except NotFound:
            pass

    async def attach(
        self,
        stream: str,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Closed,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        """Hand a viewer's sockets to the engine, which owns them from here on."""
        given = datagrams or Datagrams()
        if stream not in self._ingests:
            for one in (fd, *given.descriptors):
                os.close(one)
            raise NotFound("视频流不存在", code=40404)
        sockets = (list(given.pairs), given.silence_s * 1000)
        opening = self.run(self.native.attach, stream, container, fd, head, dialogue, *sockets)
        return await asyncio.shield(asyncio.ensure_future(self._watched("viewer", opening, on_closed)))

    async def answer(self, stream: str, offer: str, on_closed: Closed) -> tuple[int, str]:
        """Serve a browser by WebRTC; see ``Answering``."""
        if stream not in self._ingests:
            raise NotFound("视频流不存在", code=40404)
        answer = ""

        def add_peer() -> tuple[int, str]:
            try:
                return self.native.add_peer(stream, offer)
            except ValueError as error:  # OfferRefused
                raise refusal(str(error)) from error

        async def add() -> int:
            nonlocal answer
            number, answer = await self.run(add_peer)
            return number

        number = await asyncio.shield(asyncio.ensure_future(self._watched("viewer", add(), on_closed)))
        return number, answer

    async def describe(self, stream: str) -> Description:
        """What an RTSP client must be told. Raises NotFound: no stream of this engine (40404)."""
        found = await self.run(self.native.describe, stream)
        return Description(
            found["video_codec"],
            found["parameter_sets"],
            found["audio_codec"],
            found["aac_rate_hz"],
            found["aac_channels"],
            found["aac_config"],
        )

    async def detach(self, viewer: int) -> int:
        """End a viewer; how many bytes it got."""
        self._closed.pop(("viewer", viewer), None)
        try:
            sent = cast(int, (await self.run(self.native.viewer_stats, viewer))["bytes"])
            await self.run(self.native.detach, viewer)
        except NotFound:
            return 0
        return sent

    async def relay(
        self,
        stream: str,
        local_host: str,
        transport: Transport,
        host: str,
        port: int,
        ssrc: int,
        on_closed: Closed,
    ) -> tuple[int, int]:
        """Relay a stream; (relay id, local port)."""
        local_port = 0

        async def add() -> int:
            nonlocal local_port
            number, local_port = await self.run(
                self.native.add_relay, stream, transport.value, host, port, ssrc, local_host
            )
            return number

        number = await self._watched("relay", add(), on_closed)
        return number, local_port

    async def drop_relay(self, relay: int) -> None:
        """End a relay; nothing happens when it is gone."""
        self._closed.pop(("relay", relay), None)
        try:
            await self.run(self.native.remove_relay, relay)
        except NotFound:
            pass

    async def _watched(self, kind: str, opening: Any, on_closed: Closed) -> int:
        """Note whom to tell when the thing closes, also when it closed before its number reached us."""
        self._pending += 1
        try:
            number = cast(int, await opening)
        finally:
            self._pending -= 1
        reason = self._early.pop((kind, number), None)
        if not self._pending:
            self._early.clear()
        if reason is None:
            self._closed[(kind, number)] = on_closed
        else:
            asyncio.get_running_loop().call_soon(on_closed, reason)
        return number

    def _read_events(self) -> None:
        for event in self.native.poll_events(MAX_EVENTS_A_READ):
            kind, stream = event["kind"], event["stream"]
            if kind in ("viewer_closed", "relay_closed"):
                self._take_closed(kind.removesuffix("_closed"), event["id"], event["detail"])
            elif stream in self._ingests:
                if kind == "error":
                    log.warning("media_stream_error", stream=stream, detail=event["detail"])
                self._ingests[stream].take_event(kind, event["detail"])

    def _take_closed(self, kind: str, number: int, reason: str) -> None:
        on_closed = self._closed.pop((kind, number), None)
        if on_closed is not None:
            on_closed(reason)
        elif self._pending:
            self._early[(kind, number)] = reason


def _quality(stats: Any) -> Quality:
    """The engine's figures, whose -1 stands for "not known"."""

    def known(name: str, digits: int) -> float | None:
        value = stats[name]
        return None if value == -1 else round(value, digits)

    return Quality(
        window_s=round(stats["window_ms"] / 1000, 1),
        bitrate_kbps=known("bitrate_kbps", 1),
        frame_rate=known("frame_rate", 2),
        loss_rate=known("loss_rate", 5),
        jitter_ms=round(stats["jitter_ms"], 2),
        delay_ms=known("delay_ms", 1),
        report_delay_ms=known("report_delay_ms", 1),
        key_interval_ms=known("key_interval_ms", 0),
        lost_packets=stats["lost"],
        kernel_drops=stats["kernel_drops"],
    )
