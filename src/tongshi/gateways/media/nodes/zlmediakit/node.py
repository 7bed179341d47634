"""A ZLMediaKit server as one media node.

Every look asks for its open receiving ends: a stream of ours that is not among them has ended, because the
server was started anew or gave it up. It also sees that the hooks by which the server asks us about viewers
are those we set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError, Unavailable
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.zlmediakit.client import (
    Client,
    Done,
    RtpPort,
    RtpServers,
    ServerConfig,
    ThreadLoads,
    hooks,
)
from tongshi.gateways.media.nodes.zlmediakit.ingest import ZlmIngest
from tongshi.resources.viewing.model import Transport

log = structlog.get_logger(__name__)

_MODES = {Transport.UDP: 0, Transport.TCP_PASSIVE: 1, Transport.TCP_ACTIVE: 2}


class ZlmNode:
    """One server.

    Args:
        engine: this process's own, for what must be read here.
        media_host: the address devices send to, which is what SDP says.
        viewer_url: where viewers reach its HTTP port, without a final slash.
        hook_base: where it reaches our hooks, with its own secret; read at each use, because the port may be
            chosen by the system. Ends with a slash.
    """

    kind = "zlmediakit"
    complaint = ""

    def __init__(
        self,
        name: str,
        client: Client,
        clock: Clock,
        engine: AsyncEngine,
        *,
        media_host: str,
        viewer_url: str,
        hook_base: Callable[[], str],
    ) -> None:
        self.name = name
        self.client = client
        self.viewer_url = viewer_url.rstrip("/")
        self._clock = clock
        self._engine = engine
        self._media_host = media_host
        self._hook_base = hook_base
        self._streams: dict[str, ZlmIngest] = {}
        self._is_ready = False

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.now()

    def find(self, stream: str) -> ZlmIngest | None:
        """A stream that is open here."""
        return self._streams.get(stream)

    def forget(self, stream: str) -> None:
        """The stream is closed."""
        self._streams.pop(stream, None)

    async def open(self, stream: str, transport: Transport, *, is_local: bool = False) -> ZlmIngest:
        """As ``MediaEngine.open``; also PeerTimeout and PeerFailed, which send the stream to another node."""
        if not self._is_ready:
            raise Unavailable("尚未连接", code=50302, retry_after_s=2)
        opening = asyncio.ensure_future(
            self.client.call("openRtpServer", RtpPort, port=0, tcp_mode=_MODES[transport], stream_id=stream)
        )
        try:
            port = (await asyncio.shield(opening)).port
        except asyncio.CancelledError:
            opening.add_done_callback(lambda _: self._abandon(stream))
            raise
        except TongshiError:
            self._abandon(stream)  # the answer may be what was lost
            raise
        ingest = self._streams[stream] = ZlmIngest(
            self, self._engine, self.name, stream, self._media_host, port
        )
        return ingest

    def _abandon(self, stream: str) -> None:
        """Nobody waits any more for what the server may have opened."""
        closing = asyncio.ensure_future(self.client.call("closeRtpServer", Done, stream_id=stream))
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def look(self) -> float:
        """Its busiest thread; ends our streams that it no longer has."""
        await self._set_hooks()
        before = tuple(self._streams.items())
        servers = await self.client.call("listRtpServer", RtpServers)
        there = {server.stream_id for server in servers.data}
        for stream, ingest in before:
            if stream not in there and not ingest.ended.is_set():
                ingest.lose(f"媒体节点 {self.name} 不再有这路视频，可能已重新启动")
        loads = await self.client.call("getThreadsLoad", ThreadLoads)
        return min(1.0, max((thread.load for thread in loads.data), default=0.0) / 100)

    async def _set_hooks(self) -> None:
        """See that the server asks us, also after it was started anew with a configuration of its own."""
        wanted = hooks(self._hook_base())
        there = await self.client.call("getServerConfig", ServerConfig)
        now = there.data[0] if there.data else {}
        if any(now.get(name) != str(value) for name, value in wanted.items()):
            await self.client.call("setServerConfig", Done, **wanted)
            log.info("media_node_hooks_set", node=self.name)
        self._is_ready = True

    def lose(self) -> None:
        """It is gone: everything it carried has ended."""
        self._is_ready = False
        for ingest in tuple(self._streams.values()):
            ingest.lose(f"媒体节点 {self.name} 失联")

    def restarted(self) -> None:
        """It says itself that it was started anew: hooks are set again, and what it carried has ended."""
        if self._streams:
            log.warning("media_node_restarted", node=self.name, streams=len(self._streams))
        self.lose()
