"""The platform's end: a media node of ours in another process, as one place where streams can be opened.

Every look asks how it is. A node that names another life than before has dropped what it carried: it was
started anew, or had not heard us for long. A stream that it has and we do not (a close that was lost on the
way) is closed again. What it tells and asks comes by ``_follow``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

from tongshi.errors import NotFound, TongshiError, Unavailable
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.remote import wire
from tongshi.gateways.media.nodes.remote.client import Client
from tongshi.gateways.media.nodes.remote.ingest import RemoteIngest
from tongshi.gateways.media.nodes.remote.wire import NewsKind
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.tickets import Tickets

log = structlog.get_logger(__name__)

NEWS_LIMIT_S = wire.NEWS_WAIT_S + 5.0
RETRY_S = 0.5

_T = TypeVar("_T")


class RemoteNode:
    """One node.

    Args:
        engine: this process's own, for what must be read here.
        media_host: the address devices send to, which is what SDP says.
        viewer_url: where viewers reach it, without a final slash.
        rtsp_url: where RTSP clients reach it, likewise; "" when it has no port for them.
    """

    kind = "tongshi"

    def __init__(
        self,
        name: str,
        client: Client,
        engine: AsyncEngine,
        tickets: Callable[[], Tickets],
        *,
        media_host: str,
        viewer_url: str,
        rtsp_url: str = "",
    ) -> None:
        self.name = name
        self.client = client
        self.viewer_url = viewer_url.rstrip("/")
        self.rtsp_url = rtsp_url.rstrip("/")
        self._engine = engine
        self._tickets = tickets
        self._media_host = media_host
        self._streams: dict[str, RemoteIngest] = {}
        self._opening: set[str] = set()
        self._boot = ""
        self._after = 0
        self._is_ready = asyncio.Event()
        self._owed: set[tuple[str, int]] = set()  # viewers to be ended, of whom the node has not heard
        self._is_stopped = False
        self._said = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def complaint(self) -> str:
        """What it says of itself, and why the file that it is believed by cannot be used."""
        return "；".join(filter(None, (self._said, self.client.trouble)))

    def start(self) -> None:
        """Begin to listen to what it tells, as soon as it was seen."""
        self._spawn(self._follow())

    async def stop(self) -> None:
        """Listen no more; streams were their holders' to close."""
        self._is_stopped = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()

    def owe(self, stream: str, viewer: int) -> None:
        """The node did not answer that it ended a viewer: it is told with each look until it does."""
        self._owed.add((stream, viewer))

    def forget(self, stream: str) -> None:
        """The stream is closed."""
        self._streams.pop(stream, None)

    async def open(self, stream: str, transport: Transport, *, is_local: bool = False) -> RemoteIngest:
        """As ``MediaEngine.open``; also PeerTimeout and PeerFailed, which send the stream to another node."""
        if not self._is_ready.is_set():
            raise Unavailable("尚未连接", code=50302, retry_after_s=2)
        self._opening.add(stream)
        call = wire.OpenCall(stream=stream, transport=transport, is_local=is_local)
        opening = self._spawn(self.client.call("open", call, wire.Opened))
        try:
            port = (await asyncio.shield(opening)).port
        except asyncio.CancelledError:
            opening.add_done_callback(lambda _: self._abandon(stream))
            raise
        except TongshiError:
            self._abandon(stream)  # the answer may be what was lost
            raise
        ingest = self._streams[stream] = RemoteIngest(self, self._engine, stream, self._media_host, port)
        self._opening.discard(stream)
        return ingest

    async def look(self) -> float:
        """How busy its processors are; ends our streams that went with an earlier life of it."""
        looked = await self.client.call("look", wire.Empty(), wire.Looked)
        self._said = looked.trouble
        if looked.boot != self._boot:
            self._lose_all(f"媒体节点 {self.name} 已重新启动或与平台失联过久，这路视频已结束")
            self._boot, self._after = looked.boot, 0
            self._owed.clear()
            self._is_ready.set()
            log.info("media_node_seen", node=self.name)
        for stream in looked.streams:
            if stream not in self._streams and stream not in self._opening:
                self._spawn(self._close_there(stream))
        for stream, viewer in tuple(self._owed):
            call = wire.DetachCall(stream=stream, viewer=viewer)
            await self.client.call("detach", call, wire.Detached)
            self._owed.discard((stream, viewer))
        return looked.load

    def lose(self) -> None:
        """It is gone: everything it carried has ended."""
        self._boot = self._said = ""
        self._lose_all(f"媒体节点 {self.name} 失联")

    def _lose_all(self, reason: str) -> None:
        self._is_ready.clear()
        for ingest in tuple(self._streams.values()):
            ingest.lose(reason)

    def _abandon(self, stream: str) -> None:
        """Nobody waits any more for what the node may have opened."""
        self._opening.discard(stream)
        if not self._is_stopped:
            self._spawn(self._close_there(stream))

    async def _close_there(self, stream: str) -> None:
        try:
            await self.client.call("close", wire.StreamCall(stream=stream), wire.Empty)
        except TongshiError as error:
            log.info("media_node_not_told_of_close", node=self.name, error=error.message)

    async def _follow(self) -> None:
        """Take what it tells; a life of it that has ended is the next look's to find."""
        while True:
            await self._is_ready.wait()
            boot = self._boot
            try:
                call = wire.NewsCall(boot=boot, after=self._after)
                listed = await self.client.call("news", call, wire.NewsList, NEWS_LIMIT_S)
            except TongshiError as error:
                log.info("media_node_tells_nothing", node=self.name, error=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            if boot != self._boot:
                continue
            for news in listed.news:
                self._after = news.number
                try:
                    self._take(news)
                except Exception:
                    log.exception("media_node_news_failed", node=self.name, kind=news.kind)

    def _take(self, news: wire.News) -> None:
        ingest = self._streams.get(news.stream)
        if news.kind in (NewsKind.ASK, NewsKind.CHECK):
            self._spawn(self._answer(news, ingest))
        elif news.kind is NewsKind.SENT:
            self._tickets().add_bytes_at_node(news.stream, news.ticket, news.size)
        elif ingest is None:
            return  # closed meanwhile
        elif news.kind is NewsKind.FIRST_PACKET:
            ingest.first_packet.set()
        elif news.kind is NewsKind.FIRST_KEY_FRAME:
            ingest.first_packet.set()
            ingest.first_key_frame.set()
        elif news.kind is NewsKind.ENDED:
            ingest.ended.set()
        elif news.kind is NewsKind.LEFT:
            ingest.guest_left(news.id, news.text, news.size)
        elif news.kind is NewsKind.RELAY_CLOSED:
            ingest.relay_closed(news.id)
        elif news.kind is NewsKind.KEY_FRAME:
            ingest.key_frame_wanted(news.text)
        elif (admission := ingest.returned(news.id)) is not None:
            self._tickets().give_back(admission, news.text)

    async def _answer(self, news: wire.News, ingest: RemoteIngest | None) -> None:
        """Whether a viewer at the node's door may see: the ticket, from the address it was given to."""
        reply = self._decide(news, ingest)
        try:
            await self.client.call("reply", reply, wire.Empty)
        except TongshiError as error:
            # Nobody waits for it there any more, or it is not known whether it arrived.
            log.warning("media_node_not_answered", node=self.name, error=error.message)
            if ingest is not None:
                await ingest.throw_out(news.id)

    def _decide(self, news: wire.News, ingest: RemoteIngest | None) -> wire.Reply:
        try:
            return self._admit(news, ingest)
        except TongshiError as error:
            log.info("viewer_refused_at_node", node=self.name, error=error.message)
            return wire.Reply(id=news.id, status=error.http_status, code=error.code, message=error.message)

    def _admit(self, news: wire.News, ingest: RemoteIngest | None) -> wire.Reply:
        """Raises what ``Tickets.admit`` does; NotFound: a stream that is closed, and left nothing (40404)."""
        tickets = self._tickets()
        if news.kind is NewsKind.CHECK and ingest is not None:
            tickets.check(news.stream, news.ticket, news.client)
            return wire.Reply(id=news.id)
        if ingest is None and not news.is_lasting:
            raise NotFound("视频流不存在", code=40404)
        admission = tickets.admit(
            news.stream, news.ticket, news.client, is_lasting=news.is_lasting, container=news.container
        )
        if news.is_lasting:
            is_over = tickets.has_ended(admission)
            if ingest is None and not is_over:
                raise NotFound("视频流不存在", code=40404)
            return wire.Reply(id=news.id, is_over=is_over)
        assert ingest is not None  # or refused above
        ingest.admitted(news.id, admission, tickets.serve_at_node(admission, news.id))
        return wire.Reply(id=news.id, is_sound_alone=admission.session.wish.is_sound_alone)

    def _spawn(self, work: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
