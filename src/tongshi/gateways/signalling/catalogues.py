"""Asking peers for their catalogues and collecting what comes in parts.

Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 Annex M
One query runs for a peer at a time, a few at once for all. What came is merged whether the catalogue was
proved complete or not; nothing is ever deleted by it. An incomplete one is asked for again, a bounded number
of times.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.protocols.gb28181.catalogue import CatalogueCollector
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.response import CatalogResponse

log = structlog.get_logger(__name__)

MAX_AT_ONCE = 16
MAX_PEERS_WAITING = 20_000


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits of a catalogue query."""

    idle_s: float = 15.0
    total_s: float = 300.0
    retries: int = 2
    retry_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a query ended; ``received`` counts distinct items."""

    state: Literal["complete", "incomplete", "failed"]
    received: int
    announced: int


def _is_device(code: str) -> bool:
    """Divisions, systems, groups and organisations are nodes of the tree and no devices of the archive."""
    return kind_of(code) is ItemKind.DEVICE


class _Collection:
    """One running query: the collector and a bell that rings at each part."""

    def __init__(self, collector: CatalogueCollector) -> None:
        self.collector = collector
        self.bell = asyncio.Event()


class Catalogues:
    """Catalogue queries toward registered peers."""

    def __init__(
        self, post: Post, archive: Archive, routes: Routes, clock: Clock, patience: Patience | None = None
    ) -> None:
        self._post = post
        self._archive = archive
        self._routes = routes
        self._clock = clock
        self._patience = patience or Patience()
        self._running: dict[str, _Collection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, Remote] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    def refresh(self, peer: Peer) -> None:
        """Query in the background.

        Nothing happens when a query of that peer runs already; one sent to an address that the peer has left
        since is given up for the new one.
        """
        running = self._tasks.get(peer.id)
        if running is not None:
            if self._asked_at[peer.id] == peer.remote:
                return
            running.cancel()
        elif len(self._tasks) >= MAX_PEERS_WAITING:
            return
        task = asyncio.get_running_loop().create_task(self._refresh(peer))
        self._tasks[peer.id], self._asked_at[peer.id] = task, peer.remote
        task.add_done_callback(lambda done: self._over(peer.id, done))

    def take(self, peer: Peer, part: CatalogResponse) -> None:
        """One part from a peer; dropped when nobody asked."""
        running = self._running.get(peer.id)
        if running is not None and running.collector.add(part, self._clock.now()):
            running.bell.set()

    def forget(self, peer_id: str) -> None:
        """The peer is gone: its query ends."""
        task = self._tasks.get(peer_id)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """End all queries."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def query(self, peer: Peer) -> Outcome:
        """Ask once, collect, and merge what came.

        Raises:
            PeerTimeout, Unavailable: the query itself could not be delivered.
        """
        collector = CatalogueCollector(
            peer.next_sn(), peer.id, self._clock.now(), self._patience.idle_s, self._patience.total_s
        )
        running = self._running[peer.id] = _Collection(collector)
        try:
            status = await self._post.send(peer, CatalogQuery(collector.sn, peer.id))
            if not 200 <= status < 300:
                return Outcome("failed", 0, 0)
            await self._collect(running)
        finally:
            if self._running.get(peer.id) is running:
                del self._running[peer.id]
        items = tuple(item for item in collector.items if _is_device(item.device_id))
        if items:
            await self._archive.merge_catalogue(peer.id, items, is_platform=peer.is_platform)
            self._routes.learn(peer.id, (item.device_id for item in items))
        nodes = tuple(item for item in collector.items if not _is_device(item.device_id))
        if nodes:
            await self._archive.merge_nodes(peer.id, nodes, is_platform=peer.is_platform)
        state: Literal["complete", "incomplete"] = (
            "complete" if collector.state == "complete" else "incomplete"
        )
        log.info(
            "catalogue_received",
            peer_id=peer.id,
            state=state,
            items=collector.distinct,
            announced=collector.sum_num,
            bad=collector.bad_count,
        )
        return Outcome(state, collector.distinct, max(collector.sum_num, 0))

    async def _collect(self, running: _Collection) -> None:
        collector = running.collector
        while (due := collector.next_timer()) is not None:
            running.bell.clear()
            try:
                async with asyncio.timeout(max(0.0, due - self._clock.now())):
                    await running.bell.wait()
            except TimeoutError:
                collector.handle_timer(self._clock.now())

    def _over(self, peer_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(peer_id) is task:
            del self._tasks[peer_id], self._asked_at[peer_id]

    async def _refresh(self, peer: Peer) -> None:
        for turn in range(self._patience.retries + 1):
            if turn:
                await asyncio.sleep(self._patience.retry_s * turn)
            try:
                async with self._slots:
                    outcome = await self.query(peer)
            except TongshiError as error:
                log.warning("catalogue_query_failed", peer_id=peer.id, error=error.message)
                continue
            except Exception:
                log.exception("catalogue_query_crashed", peer_id=peer.id)
                return
            if outcome.state == "complete":
                return
