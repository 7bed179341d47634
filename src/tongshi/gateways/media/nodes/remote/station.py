"""The node's end: its engine under the command of one platform, and what it has to tell it.

A station lives in lives (``boot``). A life ends, with every stream, viewer and relay in it, when another
process of the platform takes over, when the platform has not called for ``gone_s``, or when it does not read
what it is told. The platform sees the new name of the life and knows that what it had here has ended; so
neither end ever believes in a stream that the other has dropped.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from tongshi.clock import Clock
from tongshi.errors import Conflict, NotFound
from tongshi.gateways.media.engine import AsyncEngine, EngineIngest
from tongshi.gateways.media.nodes.remote.wire import (
    MAX_NEWS,
    MAX_NEWS_AN_ANSWER,
    Looked,
    News,
    NewsKind,
    OpenCall,
    RelayCall,
)

log = structlog.get_logger(__name__)

GONE_S = 30.0
WATCH_S = 1.0
SETTLE_S = 1.0
KEPT_S = 90.0  # a closed stream that somebody asked for again and again; the platform lets him for a minute
MAX_KEPT = 1_000


@dataclass(slots=True)
class Guest:
    """A viewer at the door or behind it; ``viewer`` is the engine's number once it has him."""

    session_id: str
    ticket: str
    client: str
    viewer: int | None = None
    is_serving: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # the engine has him, or he is gone


@dataclass(slots=True)
class Carried:
    """One stream with who takes it."""

    name: str
    ingest: EngineIngest
    watching: asyncio.Task[None] | None = None
    guests: dict[int, Guest] = field(default_factory=dict)
    relays: dict[int, int] = field(default_factory=dict)
    is_lasting: bool = False  # somebody asks again and again (HLS), and may fetch what is left at the end


class Station:
    """Streams of one platform on this machine.

    Args:
        gone_s: silence of the platform after which everything is dropped.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, gone_s: float = GONE_S) -> None:
        self.boot = ""
        self._engine = engine
        self._clock = clock
        self._gone_s = gone_s
        self._owner = ""
        self._heard_at = clock.now()
        self._streams: dict[str, Carried] = {}
        self._opening: set[str] = set()
        self._kept: dict[str, tuple[float, Carried]] = {}
        self._news: deque[News] = deque()
        self._number = 0
        self._has_news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin_life()

    def start(self) -> None:
        """Begin to look whether the platform still calls."""
        self.spawn(self._watch())

    async def stop(self) -> None:
        """Drop everything and wait until nothing is left."""
        await self.drop_all("media_node_stopped")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run beside; ended with the station."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def hear(self, owner: str) -> None:
        """A call of the platform came. Raises Conflict: of a process that is not the owner."""
        if not self._owner or owner != self._owner:
            raise Conflict("媒体节点已由平台的另一个进程接管")
        self._heard_at = self._clock.now()

    async def look(self, owner: str) -> Looked:
        """Take over for this owner when there was another, and say how we are."""
        if owner != self._owner:
            await self.drop_all("media_node_taken_over")
            self._owner = owner
        self.hear(owner)
        load = min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        return Looked(boot=self.boot, load=load, streams=list(self._streams))

    async def news(self, boot: str, after: int, wait_s: float) -> list[News]:
        """What happened behind ``after``; waits for something to happen.

        Raises:
            Conflict: in another life.
        """
        self._read(boot, after)
        if not self._news:
            try:
                async with asyncio.timeout(wait_s):
                    await self._has_news.wait()
            except TimeoutError:
                return []
            self._read(boot, after)
        return list(self._news)[:MAX_NEWS_AN_ANSWER]

    def tell(
        self,
        kind: NewsKind,
        stream: str,
        number: int = 0,
        text: str = "",
        *,
        size: int = 0,
        ticket: str = "",
        client: str = "",
        is_lasting: bool = False,
        container: str = "",
    ) -> None:
        """Note something for the platform."""
        if len(self._news) >= MAX_NEWS:
            self.spawn(self.drop_all("media_node_news_unread"))
            return
        self._number += 1
        self._news.append(
            News(
                number=self._number,
                kind=kind,
                stream=stream,
                id=number,
                text=text,
                size=size,
                ticket=ticket,
                client=client,
                is_lasting=is_lasting,
                container=container,
            )
        )
        self._has_news.set()

    def find(self, stream: str) -> Carried:
        """A stream that is open here. Raises NotFound: none (40404)."""
        carried = self._streams.get(stream)
        if carried is None:
            raise NotFound("视频流不存在", code=40404)
        return carried

    def find_kept(self, stream: str) -> Carried:
        """A stream that is open here, or was until a moment ago. Raises NotFound: none (40404)."""
        kept = self._kept.get(stream)
        if stream in self._streams or kept is None or self._clock.now() - kept[0] >= KEPT_S:
            return self.find(stream)
        return kept[1]

    def is_open(self, carried: Carried) -> bool:
        """Whether the platform has not closed it yet."""
        return self._streams.get(carried.name) is carried

    async def open(self, call: OpenCall) -> int:
        """Bind and listen; the port. Raises Conflict: it is open. Unavailable: no room."""
        stream = call.stream
        if stream in self._streams or stream in self._opening:
            raise Conflict("视频流已存在")
        boot = self.boot
        self._opening.add(stream)
        try:
            ingest = await self._engine.open(stream, call.transport, is_local=call.is_local)
        finally:
            self._opening.discard(stream)
        if boot != self.boot:
            await ingest.close()
            raise Conflict("媒体节点已由平台的另一个进程接管")
        carried = self._streams[stream] = Carried(stream, ingest)
        ingest.on_key_frame_wanted(lambda why: self.tell(NewsKind.KEY_FRAME, stream, text=why))
        carried.watching = self.spawn(self._follow(carried))
        return ingest.port

    async def close(self, stream: str) -> None:
        """Close it with its viewers and relays; nothing happens when it is gone."""
        carried = self._streams.pop(stream, None)
        if carried is None:
            return
        if carried.is_lasting:
            self._keep(carried)
        if carried.watching is not None:
            carried.watching.cancel()
        carried.guests.clear()
        carried.relays.clear()
        await carried.ingest.close()

    async def relay(self, call: RelayCall) -> int:
        """Send to another platform; the local port."""
        carried = self.find(call.stream)

        def closed(_: str) -> None:
            if carried.relays.pop(call.relay, None) is not None:
                self.tell(NewsKind.RELAY_CLOSED, call.stream, call.relay)

        number, port = await carried.ingest.relay(call.transport, call.host, call.port, call.ssrc, closed)
        carried.relays[call.relay] = number
        return port

    async def drop_relay(self, stream: str, relay: int) -> None:
        """End a relay; nothing happens when it is gone."""
        carried = self._streams.get(stream)
        number = None if carried is None else carried.relays.pop(relay, None)
        if carried is not None and number is not None:
            await carried.ingest.drop_relay(number)

    async def detach(self, stream: str, viewer: int) -> int:
        """End a viewer, by the number of his question; bytes that he got."""
        carried = self._streams.get(stream)
        guest = None if carried is None else carried.guests.get(viewer)
        if carried is None or guest is None:
            return 0
        if guest.is_serving:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await guest.settled.wait()
        carried.guests.pop(viewer, None)
        # Not the engine's, he is gone, or at the door, which sees that he is no guest any more.
        return 0 if guest.viewer is None else await carried.ingest.detach(guest.viewer)

    async def end_if_deserted(self) -> None:
        """Drop everything when the platform has not called for long."""
        if self._owner and self._clock.now() - self._heard_at > self._gone_s:
            await self.drop_all("media_node_platform_gone")

    async def drop_all(self, why: str) -> None:
        """End this life with everything in it."""
        streams, self._owner = tuple(self._streams), ""
        self._begin_life()
        if streams:
            log.warning(why, streams=len(streams))
        for stream in streams:
            await self.close(stream)
        self._kept.clear()

    def _begin_life(self) -> None:
        self.boot = secrets.token_hex(8)
        self._news.clear()
        self._number = 0
        self._has_news.set()  # who waits for news of the old one sees that it has ended
        self._has_news = asyncio.Event()

    def _keep(self, carried: Carried) -> None:
        now = self._clock.now()
        self._kept = {name: one for name, one in self._kept.items() if now - one[0] < KEPT_S}
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[carried.name] = (now, carried)

    def _read(self, boot: str, after: int) -> None:
        if boot != self.boot:
            raise Conflict("媒体节点已重新开始")
        while self._news and self._news[0].number <= after:
            self._news.popleft()
        if not self._news:
            self._has_news.clear()

    async def _follow(self, carried: Carried) -> None:
        """Tell of a stream what viewing waits for."""
        ingest = carried.ingest
        ending = asyncio.ensure_future(ingest.ended.wait())
        try:
            for event, kind in (
                (ingest.first_packet, NewsKind.FIRST_PACKET),
                (ingest.first_key_frame, NewsKind.FIRST_KEY_FRAME),
            ):
                waiting = asyncio.ensure_future(event.wait())
                try:
                    await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                if event.is_set():
                    self.tell(kind, carried.name)
            await ending
            self.tell(NewsKind.ENDED, carried.name)
        finally:
            ending.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            await self.end_if_deserted()
