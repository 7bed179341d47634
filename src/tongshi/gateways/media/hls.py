"""HLS with low delay: playlists and parts for viewers who ask again and again, made while somebody asks.

Of one stream the engine cuts parts, once for all; they pass through Python here, one message a part (two a
second), and are kept in a bounded ring. So HLS costs the loop a request for each part and viewer, which the
other ways out do not: it is for players that know nothing else. A feed ends when nobody asked for
``FEED_IDLE_S``; ``WAIT_S`` is less, and less than a viewer may be silent. Each viewer has a session of his
own, whose ticket is good until he stops asking (``Tickets.admit``). G.711 sound has no place in MP4 and is
left out. A stream that ended in order, as a recording does at its end, leaves a playlist that says so
(``EXT-X-ENDLIST``) and what it lists, for as long as its players ask; a session that ended gets nothing more.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Generic
from urllib.parse import parse_qs, urlsplit

import structlog

from tongshi.errors import Gone, InvalidRequest, LimitExceeded, NotFound, TongshiError, Unavailable
from tongshi.gateways.media.door import A, Door
from tongshi.protocols.media.hls import PartRing
from tongshi.resources.viewing.media_ports import Ingest

log = structlog.get_logger(__name__)

HLS_PATH = re.compile(r"/live/([0-9A-Za-z]{1,64})/([a-z0-9.-]{1,32})\Z", re.ASCII)
FEED_IDLE_S = 15.0
WAIT_S = 8.0  # a reload or a hinted part waits at most so long
MAX_FEEDS = 100
MAX_MESSAGE_BYTES = 16 << 20
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
MEDIA_TYPE = "video/mp4"

_INIT = re.compile(r"init-([0-9]{1,6})\.mp4\Z")
_SEGMENT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,4}))?\.m4s\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")


class HlsFeed:
    """The parts of one stream, as they come from the engine."""

    def __init__(self, ingest: Ingest, on_end: Callable[[], None]) -> None:
        self.ring = PartRing()
        self.failure: TongshiError | None = None
        self.is_kept = False  # the engine closed it, and there is something to fetch
        self._changed = asyncio.Event()
        self._on_end = on_end
        self._idle: asyncio.TimerHandle | None = None
        self._task = asyncio.get_running_loop().create_task(self._run(ingest))

    def asked(self) -> None:
        """Somebody asked: live on."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(FEED_IDLE_S, self._nobody_asks)

    def _nobody_asks(self) -> None:
        if not self._task.cancel():
            self._on_end()  # it was over already, and kept for those who asked

    async def until(self, is_so: Callable[[], bool]) -> bool:
        """Wait until something is so of the ring; False when it did not come about in time."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not is_so():
                    if self.failure is not None:
                        raise self.failure
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._idle is not None:
            self._idle.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._on_end()

    async def _run(self, ingest: Ingest) -> None:
        ours, theirs = socket.socketpair()
        writer: asyncio.StreamWriter | None = None
        try:
            await ingest.attach("parts", theirs.detach(), b"", lambda reason: None, "websocket")
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_MESSAGE_BYTES)
            await self._receive(reader)
            self.is_kept = self.ring.newest >= (0, 0)
        except TongshiError as error:
            self.failure = error
        except (asyncio.IncompleteReadError, OSError, ValueError) as error:
            log.warning("hls_feed_broken", error=str(error))
            self.failure = Unavailable("视频切片中断", code=50302, retry_after_s=1)
        finally:
            (writer or ours).close()
            self.ring.is_over = True
            self._tell()
            if not self.is_kept:
                if self._idle is not None:
                    self._idle.cancel()
                self._on_end()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        """Until the engine closes: an init segment first, then parts."""
        is_first = True
        while (message := await _message(reader)) is not None:
            if is_first:
                self.ring.begin(message)
                is_first = False
            else:
                self.ring.add(message)
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class HlsDesk(Generic[A]):
    """Answers what HLS players ask for."""

    def __init__(self, tickets: Door[A]) -> None:
        self._tickets = tickets
        self._feeds: dict[str, HlsFeed] = {}

    async def answer(
        self, stream_id: str, name: str, target: str, ticket: str, client_host: str
    ) -> tuple[str, bytes]:
        """Content type and body.

        Raises:
            Unauthenticated, Forbidden, Gone, NotFound: the ticket, see ``Tickets.admit``.
            NotFound: no longer kept (40404). InvalidRequest: a reload of what is far ahead.
            Unavailable: nothing came. LimitExceeded: too many feeds.
        """
        admission = await self._tickets.enter(stream_id, ticket, client_host, is_lasting=True)
        feed = await self._feed(stream_id, admission)
        feed.asked()
        if name == "index.m3u8":
            kind, body = PLAYLIST_TYPE, await self._playlist(feed, target, ticket)
        else:
            kind, body = MEDIA_TYPE, await self._media(feed, name)
        # It may have waited, and the session or the stream have ended meanwhile.
        if not await self._tickets.is_over(admission) and feed.ring.is_over:
            raise Unavailable("视频切片中断", code=50302, retry_after_s=1)
        self._tickets.add_bytes(admission, len(body))
        return kind, body

    async def stop(self) -> None:
        """End every feed."""
        await asyncio.gather(*(feed.stop() for feed in tuple(self._feeds.values())))

    async def _feed(self, stream_id: str, admission: A) -> HlsFeed:
        """The stream's feed. Raises Gone: the stream is over, and nothing of it is kept (41002)."""
        is_over = await self._tickets.is_over(admission)
        feed = self._feeds.get(stream_id)
        if feed is not None and (is_over or not feed.ring.is_over):
            return feed
        if is_over:
            raise Gone("视频已播放完毕", code=41002)
        return self._open(stream_id, self._tickets.ingest_of(admission))

    def _open(self, stream_id: str, ingest: Ingest) -> HlsFeed:
        if len(self._feeds) >= MAX_FEEDS:
            raise LimitExceeded("HLS 路数已满", code=42904, retry_after_s=10)
        feed = self._feeds[stream_id] = HlsFeed(ingest, lambda: self._forget(stream_id, feed))
        return feed

    def _forget(self, stream_id: str, feed: HlsFeed) -> None:
        if self._feeds.get(stream_id) is feed:
            del self._feeds[stream_id]

    async def _playlist(self, feed: HlsFeed, target: str, ticket: str) -> bytes:
        ring = feed.ring
        wanted = reload_of(target)
        await feed.until(lambda: ring.newest >= (0, 0) or ring.is_over)
        if ring.newest < (0, 0):
            raise Unavailable("还没有可播放的切片", code=50302, retry_after_s=1)
        if wanted is not None:
            if ring.is_too_far(wanted[0]):
                raise InvalidRequest("请求的切片尚远", field="_HLS_msn")
            # A recording that is paused gives nothing new: then the playlist is told as it is.
            await feed.until(lambda: ring.has(*wanted))
        return ring.playlist(f"?ticket={ticket}").encode()

    async def _media(self, feed: HlsFeed, name: str) -> bytes:
        ring, data = feed.ring, None
        if match := _INIT.match(name):
            data = ring.init(int(match[1]))
        elif match := _SEGMENT.match(name):
            number, part = int(match[1]), None if match[2] is None else int(match[2])
            if not ring.is_too_far(number):
                await feed.until(lambda: ring.has(number, part))
            data = ring.segment(number) if part is None else ring.part(number, part)
        if data is None:
            raise NotFound("没有这个切片", code=40404)
        return data


def reload_of(target: str) -> tuple[int, int | None] | None:
    """Segment and part that a playlist request wants to wait for.

    Raises:
        InvalidRequest: no numbers, or a part without a segment.
    """
    fields = parse_qs(urlsplit(target).query, max_num_fields=10)
    number, part = (fields.get(name, [""])[0] for name in ("_HLS_msn", "_HLS_part"))
    if not number and not part:
        return None
    if not _NUMBER.match(number) or (part and not _NUMBER.match(part)):
        raise InvalidRequest("切片序号无法识别", field="_HLS_msn")
    return int(number), int(part) if part else None


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """The next message of the engine; None when it closed."""
    first, length = await reader.readexactly(2)
    if first != 0x82:
        return None
    if length >= 126:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    if length > MAX_MESSAGE_BYTES:
        raise ValueError("part too large")
    return await reader.readexactly(length)
