"""Asking peers for their catalogues and collecting what comes in parts.

Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 Annex M
One query runs for a peer at a time, a few at once for all. What came is merged as it comes, in batches,
whether the catalogue will be proved complete or not; nothing is ever deleted by it. The 200 of a part waits
while too much waits for the database: a peer that sends one part after another is so paced by us. What is
missing is asked for again, a bounded number of times: of a large catalogue first system by system, then the
whole; what earlier answers told counts as long as the peer announces the same number. Asking by StartTime
would not narrow it: nothing says when an item that did not come was added. While peers come back in a storm
nobody is asked: storing a catalogue costs more than a registration, and who waits for his would give up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerTimeout, TongshiError
from tongshi.gateways.signalling.catalogue_standings import Standings
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.protocols.gb28181.catalogue import CatalogueCollector, Gap
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.types import CatalogItem

log = structlog.get_logger(__name__)

MAX_AT_ONCE = 16
MAX_PEERS_WAITING = 20_000
BATCH = 2_000  # items merged in one transaction
MAX_UNMERGED = 6_000  # beyond, the answer to a part waits
MAX_HOLD_S = 4.0  # and not longer: over UDP it is repeated meanwhile
NARROW_FROM = 1_000  # smaller catalogues are asked for as a whole again
MAX_NARROW = 64  # systems asked one by one
STORM = 50  # peers that came within ``CALM_S``: they register first and are asked afterwards
CALM_S = 1.0
MAX_STORM_S = 120.0
LINGER_S = 5.0  # parts that come after the last one announced are still taken

_AGAIN = frozenset({Gap.MISSING, Gap.TOO_LONG, Gap.NOT_ANNOUNCED, Gap.BROKEN})


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
    reason: str = ""


def _is_device(code: str) -> bool:
    """Divisions, systems, groups and organisations are nodes of the tree and no devices of the archive."""
    return kind_of(code) is ItemKind.DEVICE


@dataclass(eq=False, slots=True)
class _Collection:
    """One running query: the collector, a bell that rings at each part, another when room was made."""

    peer: Peer
    collector: CatalogueCollector
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    is_awaited: bool = True
    systems: dict[str, None] = field(default_factory=dict)


class Catalogues:
    """Catalogue queries toward registered peers."""

    def __init__(
        self,
        post: Post,
        archive: Archive,
        routes: Routes,
        clock: Clock,
        patience: Patience | None = None,
        own_id: str = "",
    ) -> None:
        self._post = post
        self._archive = archive
        self._routes = routes
        self._clock = clock
        self._patience = patience or Patience()
        self._own_ids = frozenset({own_id} if own_id else ())
        self._running: dict[tuple[str, str], _Collection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._asked_at: dict[str, Remote] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._recent: deque[float] = deque(maxlen=STORM)
        self._calm = asyncio.Event()
        self._calm.set()
        self._held_since = 0.0
        self.standings = Standings(clock)

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
        self._recent.append(self._clock.now())
        if self._is_storm() and self._calm.is_set():
            self._calm.clear()
            self._held_since = self._clock.now()
            asyncio.get_running_loop().call_later(CALM_S, self._look_out)
        task = asyncio.get_running_loop().create_task(self._refresh(peer))
        self._tasks[peer.id], self._asked_at[peer.id] = task, peer.remote
        task.add_done_callback(lambda done: self._over(peer.id, done))

    async def take(self, peer: Peer, part: CatalogResponse) -> None:
        """One part from a peer; dropped when nobody asked. Returns when there is room for the next."""
        running = self._running.get((peer.id, part.device_id))
        if running is None:
            return
        collector, due = running.collector, running.collector.next_timer()
        if not collector.add(part, self._clock.now()):
            return
        now_due = collector.next_timer()
        if now_due is None or (due is not None and now_due < due) or collector.waiting >= BATCH:
            running.bell.set()
        if not running.is_awaited:
            self._begin_late(running)
        if collector.waiting > MAX_UNMERGED:
            running.room.clear()
            try:
                async with asyncio.timeout(MAX_HOLD_S):
                    await running.room.wait()
            except TimeoutError:
                pass  # the items are kept; only the pace is lost

    def forget(self, peer_id: str) -> None:
        """The peer is gone: its query ends, and what came is still merged."""
        task = self._tasks.get(peer_id)
        if task is None:
            return
        task.cancel()
        self.standings.lost(peer_id)
        for running in [one for one in self._running.values() if one.peer.id == peer_id]:
            running.collector.close()
            self._begin_late(running)

    async def stop(self) -> None:
        """End all queries."""
        tasks = (*self._tasks.values(), *self._late)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def query(self, peer: Peer) -> Outcome:
        """Ask for the whole, collect and merge.

        Raises:
            PeerTimeout, Unavailable: the query itself could not be delivered.
        """
        return (await self._ask_whole(peer, None))[0]

    async def _ask_whole(
        self, peer: Peer, before: CatalogueCollector | None
    ) -> tuple[Outcome, CatalogueCollector | None]:
        running = await self._ask(peer, peer.id, before)
        if running is None:
            self.standings.failed(peer.id, "refused")
            return Outcome("failed", 0, 0, "refused"), before
        if running.collector.gap in (Gap.MISSING, Gap.TOO_LONG) and len(running.systems) > 1:
            await self._ask_systems(peer, running)
        return self._conclude(running), running.collector

    async def _ask_systems(self, peer: Peer, whole: _Collection) -> None:
        """Ask system by system for what the whole answer lacks, until it is there."""
        collector = whole.collector
        if collector.sum_num < NARROW_FROM:
            return
        for node in tuple(whole.systems)[:MAX_NARROW]:
            try:
                below = await self._ask(peer, node, None)
            except TongshiError as error:
                log.info("catalogue_system_unanswered", peer_id=peer.id, node=node, error=error.message)
                return
            if below is not None and collector.supplement(below.collector.codes, self._clock.now()):
                return

    async def _ask(self, peer: Peer, node: str, before: CatalogueCollector | None) -> _Collection | None:
        """One query and all of its answer, merged; None when it was refused."""
        now, patience = self._clock.now(), self._patience
        collector = CatalogueCollector(
            peer.next_sn(),
            node,
            now,
            patience.idle_s,
            patience.total_s,
            extras=self._own_ids,
            before=before.codes if before is not None else (),
            before_sum=before.sum_num if before is not None else -1,
        )
        running = self._running[peer.id, node] = _Collection(peer, collector)
        try:
            self.standings.asked(peer.id)
            status = await self._post.send(peer, CatalogQuery(collector.sn, node))
            if not 200 <= status < 300:
                return None
            await self._collect(running)
        finally:
            running.is_awaited = False
            asyncio.get_running_loop().call_later(LINGER_S, self._leave, running)
        return running

    async def _collect(self, running: _Collection) -> None:
        collector = running.collector
        while (due := collector.next_timer()) is not None:
            running.bell.clear()
            try:
                async with asyncio.timeout(max(0.0, due - self._clock.now())):
                    await running.bell.wait()
            except TimeoutError:
                collector.handle_timer(self._clock.now())
            if collector.waiting >= BATCH:
                await self._merge(running)
        await self._merge(running)

    async def _merge(self, running: _Collection) -> None:
        """Store what waits, in batches; how it stands is shown after each."""
        peer, collector = running.peer, running.collector
        while collector.waiting:
            told = [item for item in collector.take(BATCH) if item.device_id not in self._own_ids]
            running.room.set()
            items = tuple(item for item in told if _is_device(item.device_id))
            if items:
                await self._archive.merge_catalogue(peer.id, items, is_platform=peer.is_platform)
                self._note_doubled(peer, items)
                self._routes.learn(peer.id, (item.device_id for item in items))
            nodes = tuple(item for item in told if not _is_device(item.device_id))
            if nodes:
                await self._archive.merge_nodes(peer.id, nodes, is_platform=peer.is_platform)
                running.systems |= dict.fromkeys(_systems(nodes, peer.id))
            if collector.device_id == peer.id:
                self.standings.counted(peer.id, collector.sum_num, collector.distinct, collector.bad_count)

    def _note_doubled(self, peer: Peer, items: Sequence[CatalogItem]) -> None:
        """Two recorders with the same channel codes share one archive, and the last to tell is called."""
        codes = [item.device_id for item in items if item.device_id != peer.id]
        doubled = [] if peer.is_platform else self._routes.doubled(peer.id, codes)
        if doubled:
            log.warning("catalogue_codes_doubled", peer_id=peer.id, codes=len(doubled), first=doubled[0])
            self.standings.doubled(peer.id, len(doubled))

    def _conclude(self, running: _Collection) -> Outcome:
        """Say and keep how the whole answer ended."""
        peer, collector = running.peer, running.collector
        state: Literal["complete", "incomplete"] = (
            "complete" if collector.state == "complete" else "incomplete"
        )
        reason = collector.gap.value if collector.gap is not None else ""
        self.standings.counted(peer.id, collector.sum_num, collector.distinct, collector.bad_count)
        self.standings.ended(peer.id, state, reason)
        log.info(
            "catalogue_received",
            peer_id=peer.id,
            state=state,
            reason=reason,
            items=collector.distinct,
            announced=collector.sum_num,
            bad=collector.bad_count,
        )
        return Outcome(state, collector.distinct, max(collector.sum_num, 0), reason)

    # Parts that come after the end.

    def _begin_late(self, running: _Collection) -> None:
        task = asyncio.get_running_loop().create_task(self._take_late(running))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _take_late(self, running: _Collection) -> None:
        try:
            await self._merge(running)
        except TongshiError as error:
            log.warning("catalogue_not_stored", peer_id=running.peer.id, error=error.message)
        of, peer_id = running.collector, running.peer.id
        if of.device_id == peer_id and of.state != "collecting" and peer_id not in self._tasks:
            self._conclude(running)

    def _leave(self, running: _Collection) -> None:
        running.collector.close()
        key = (running.peer.id, running.collector.device_id)
        if self._running.get(key) is running:
            del self._running[key]

    # In a storm of registrations.

    def _is_storm(self) -> bool:
        return len(self._recent) == STORM and self._clock.now() - self._recent[0] < CALM_S

    def _look_out(self) -> None:
        """Let the questions go once it is calm, or when they have waited long enough."""
        if self._is_storm() and self._clock.now() - self._held_since < MAX_STORM_S:
            asyncio.get_running_loop().call_later(CALM_S, self._look_out)
        else:
            self._calm.set()

    def _over(self, peer_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(peer_id) is task:
            del self._tasks[peer_id], self._asked_at[peer_id]

    async def _refresh(self, peer: Peer) -> None:
        self.standings.begun(peer.id)
        before: CatalogueCollector | None = None
        for turn in range(self._patience.retries + 1):
            if turn:
                await asyncio.sleep(self._patience.retry_s * turn)
            await self._calm.wait()
            try:
                async with self._slots:
                    outcome, before = await self._ask_whole(peer, before)
            except TongshiError as error:
                log.warning("catalogue_query_failed", peer_id=peer.id, error=error.message)
                self.standings.failed(peer.id, "silent" if isinstance(error, PeerTimeout) else "notStored")
                continue
            except Exception:
                log.exception("catalogue_query_crashed", peer_id=peer.id)
                self.standings.failed(peer.id, "notStored")
                return
            if outcome.state == "complete" or (
                outcome.state == "incomplete" and outcome.reason not in _AGAIN
            ):
                return


def _systems(nodes: Sequence[CatalogItem], peer_id: str) -> list[str]:
    """Systems right below the peer: each can be asked for its part."""
    return [
        node.device_id
        for node in nodes
        if kind_of(node.device_id) is ItemKind.SYSTEM
        and node.device_id != peer_id
        and (not node.parent_ids or peer_id in node.parent_ids)
    ]
