"""A stream that another node carries, relayed to our own engine while something here reads it.

What must pass through this process (own recording, transcoding, a still of a server that gives none) is read
from an engine of this process. So the node is asked to send the stream as it would to a platform above: PS
over RTP by TCP, which loses nothing. One copy serves all who read, and ends with the last.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import Protocol

import structlog

from tongshi.errors import PeerTimeout, TongshiError
from tongshi.gateways.media.engine import AsyncEngine, EngineIngest
from tongshi.resources.viewing.media_ports import Datagrams, Promise, ReadingFigures
from tongshi.resources.viewing.model import Transport

log = structlog.get_logger(__name__)

PICTURE_LIMIT_S = 5.0
Closed = Callable[[str], None]


class Source(Protocol):
    """The stream at its node."""

    async def relay(
        self, transport: Transport, host: str, port: int, ssrc: int, on_closed: Closed
    ) -> tuple[int, int]: ...

    async def drop_relay(self, relay: int) -> None: ...


class LocalCopy:
    """Made with the stream, opened by the first who reads."""

    def __init__(self, engine: AsyncEngine, source: Source, stream: str) -> None:
        self._engine = engine
        self._source = source
        self._name = f"{stream}copy"
        self._ingest: EngineIngest | None = None
        self._relay: int | None = None
        self._watching: asyncio.Task[None] | None = None
        self._readers: set[int] = set()
        self._waiting = 0  # who is about to read
        self._lock = asyncio.Lock()
        self._endings: set[asyncio.Task[None]] = set()

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Closed,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        """Serve a reader on connected sockets, which belong to the engine from here on, also on error.

        Raises:
            PeerTimeout: the node sends nothing that can be read (50403).
            Unavailable, PeerFailed: it refuses to.
        """
        number, is_closed = 0, False

        def closed(reason: str) -> None:
            nonlocal is_closed
            is_closed = True
            self._readers.discard(number)
            self._end_soon()
            on_closed(reason)

        self._waiting += 1
        try:
            ingest = await self._opened()
        except BaseException:
            for one in (fd, *(datagrams.descriptors if datagrams is not None else ())):
                os.close(one)
            raise
        else:
            number = await ingest.attach(container, fd, head, closed, dialogue, datagrams)
            if not is_closed:
                self._readers.add(number)
            return number
        finally:
            self._waiting -= 1
            await self._end_unread()

    async def detach(self, viewer: int) -> int:
        """End one reader; bytes sent to it."""
        if viewer not in self._readers or self._ingest is None:
            return 0
        sent = await self._ingest.detach(viewer)
        self._readers.discard(viewer)
        await self._end_unread()
        return sent

    async def reading(self, viewer: int) -> ReadingFigures | None:
        """How one reader keeps up."""
        return None if self._ingest is None else await self._ingest.reading(viewer)

    async def group_of_pictures(self) -> bytes:
        """The last pictures from a key frame on, Annex B. Raises as ``attach``."""
        self._waiting += 1
        try:
            return await (await self._opened()).group_of_pictures()
        finally:
            self._waiting -= 1
            await self._end_unread()

    async def close(self) -> None:
        """End the copy with all who read; idempotent."""
        async with self._lock:
            await self._end()
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _opened(self) -> EngineIngest:
        async with self._lock:
            if self._ingest is None:
                try:
                    await self._open()
                except BaseException:
                    await self._end()
                    raise
            assert self._ingest is not None  # _open sets it or raises
            return self._ingest

    async def _open(self) -> None:
        ingest = self._ingest = await self._engine.open(self._name, Transport.TCP_PASSIVE)
        ssrc = secrets.randbelow(1 << 31)
        await ingest.announce(ssrc)
        await ingest.expect(Promise(ssrc))
        self._relay, _ = await self._source.relay(
            Transport.TCP_ACTIVE, ingest.host, ingest.port, ssrc, lambda _: ingest.ended.set()
        )
        try:
            async with asyncio.timeout(PICTURE_LIMIT_S):
                await ingest.first_key_frame.wait()
        except TimeoutError as error:
            raise PeerTimeout("媒体节点没有转来可用的视频", code=50403) from error
        self._watching = asyncio.get_running_loop().create_task(self._watch(ingest))

    async def _watch(self, ingest: EngineIngest) -> None:
        """The node stopped sending: who reads sees the end, and may come again."""
        await ingest.ended.wait()
        async with self._lock:
            if self._ingest is ingest:
                self._watching = None
                await self._end()

    def _end_soon(self) -> None:
        ending = asyncio.get_running_loop().create_task(self._end_unread())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end_unread(self) -> None:
        async with self._lock:
            if not self._readers and not self._waiting:
                await self._end()

    async def _end(self) -> None:
        ingest, relay, watching = self._ingest, self._relay, self._watching
        self._ingest = self._relay = self._watching = None
        self._readers.clear()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if ingest is not None:
            await ingest.close()
        if relay is not None:
            try:
                await self._source.drop_relay(relay)
            except TongshiError as error:
                log.warning("local_copy_relay_not_dropped", error=error.message)
