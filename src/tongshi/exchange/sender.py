"""Telling one neighbour: fulls, then batches, each step remembered before the next.

Implements: DB31DSJ/Z 001-2024 6.2.2
``step`` does one round and may be cut off anywhere: what the neighbour acknowledged is remembered on both
sides, what was not is sent again and recognised.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import Conflict, Gone, NotFound, PeerFailed
from tongshi.exchange import outbox, store
from tongshi.exchange.client import Link, Packed
from tongshi.exchange.model import (
    MAX_BATCH_ITEMS,
    Equality,
    FullBegin,
    FullComplete,
    FullOpened,
    FullPage,
    FullPageResult,
    FullResult,
    Peer,
    PeerState,
    Push,
    PushResult,
)
from tongshi.exchange.outbox import Audience, Batch, Page
from tongshi.exchange.repair import Repair, TooDifferent
from tongshi.storage import changes
from tongshi.storage.bulk import chunks
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

# Two looks that differ may be one change on its way; from the second on it is a difference.
DIFFERENCES_BEFORE_MENDING = 2
# A difference that a full did not mend is not mended by the next one at once.
FULL_AGAIN_AFTER = timedelta(minutes=10)
# The neighbour forgot, or stands elsewhere: so often in one round we take its word and go on.
MAX_CORRECTIONS = 3
# Pages of a full that are sent before the first of them is answered. The neighbour stores them in order.
PAGES_ON_THE_WAY = 3
_PAGE_PATH = "/exchange/v1/devices/full:page"


class Sender:
    """One neighbour's turn. Not to be run twice at once for one neighbour."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        link: Link,
        platform_id: str,
        *,
        batch_items: int = MAX_BATCH_ITEMS,
    ) -> None:
        self._batch_items = batch_items
        self._db = db
        self._clock = clock
        self._link = link
        self._id = platform_id
        self._audience = Audience(platform_id)

    async def has_news(self) -> bool:
        """Whether something waits to be told."""
        return await self._db.read(_has_news, self._id)

    async def step(self) -> Peer:
        """One round: what is due, up to the head of our feed. Returns what is remembered after it."""
        feed = await self._db.write(store.feed, secrets.token_hex(8))
        peer = await self._db.read(store.get_peer, self._id, store.OUT)
        for _ in range(MAX_CORRECTIONS):
            try:
                if feed != peer.feed or peer.state in (PeerState.NEW, PeerState.FULL):
                    peer = await self._full(replace(peer, feed=feed))
                elif _wants_mending(peer, self._clock):
                    peer = await self._mend(peer)
                else:
                    peer = await self._incremental(peer)
                return await self._remember(_well(peer, self._clock))
            except Gone:
                peer = await self._remember(replace(peer, feed=feed, state=PeerState.NEW))
            except NotFound:
                peer = await self._remember(replace(peer, feed=feed, state=PeerState.NEW, snapshot_id=""))
        raise PeerFailed("对端反复要求重新开始")

    async def _incremental(self, peer: Peer) -> Peer:
        peer, batch = await self._catch_up(peer)
        if peer.state is not PeerState.HELD:
            return peer
        if not peer.snapshot_id:
            return await self._full(peer)
        return await self._prove(peer, batch)

    async def _mend(self, peer: Peer) -> Peer:
        """Tell again what the neighbour holds wrongly; everything, when that does not help."""
        try:
            places = await Repair(self._db, self._link, self._audience).find()
            for some in chunks(places, self._batch_items):
                batch = await self._db.read(outbox.state_of, self._audience, some)
                standing = replace(batch, from_position=peer.position, to_position=peer.position)
                peer = await self._remember(_after(peer, standing, await self._push(peer, standing)))
            log.info("exchange_mended", peer=self._id, devices=len(places))
        except (TooDifferent, NotFound, PeerFailed, Conflict) as error:
            log.warning("exchange_not_mended", peer=self._id, reason=str(error) or type(error).__name__)
        if peer.state is not PeerState.HELD:
            peer, _ = await self._catch_up(peer)
        if (
            peer.equality is Equality.EQUAL
            or peer.state is PeerState.HELD
            or not _may_full(peer, self._clock)
        ):
            return peer
        return await self._full(peer)

    async def _catch_up(self, peer: Peer) -> tuple[Peer, Batch]:
        """Push batches until nothing is left; the last one carries the roots, even when it is empty."""
        corrections = 0
        while True:
            batch = await self._db.read(outbox.next_batch, self._audience, peer.position, self._batch_items)
            try:
                result = await self._push(peer, batch)
            except Conflict as error:
                position = error.details.get("position")
                corrections += 1
                if not isinstance(position, int) or corrections > MAX_CORRECTIONS:
                    raise
                peer = await self._remember(replace(peer, position=position))
                continue
            peer = await self._remember(_after(peer, batch, result))
            if batch.roots is not None:
                return peer, batch

    async def _push(self, peer: Peer, batch: Batch) -> PushResult:
        push = Push(
            batch_id=f"{batch.from_position}-{batch.to_position}",
            feed=peer.feed,
            from_position=batch.from_position,
            to_position=batch.to_position,
            items=batch.items,
            gone=tuple(batch.gone),
            remaining=batch.remaining,
            roots=batch.roots,
            form="row",
        )
        return await self._link.post("/exchange/v1/devices:push", push, PushResult)

    async def _full(self, peer: Peer) -> Peer:
        """Send everything, then what changed meanwhile, then the proof."""
        head = await self._db.read(changes.head)
        begin = FullBegin(peer.feed, head, is_restart=peer.state is not PeerState.FULL)
        opened = await self._link.post("/exchange/v1/devices/full:begin", begin, FullOpened)
        log.info("full_exchange_begun", peer=self._id, position=opened.position, after_key=opened.after_key)
        peer = await self._remember(
            replace(
                peer,
                state=PeerState.FULL,
                snapshot_id=opened.snapshot_id,
                full_from=opened.position,
                full_key=opened.after_key,
            )
        )
        await self._pages(opened)
        peer = await self._remember(replace(peer, position=opened.position, full_key=None))
        peer, batch = await self._catch_up(peer)
        return await self._prove(peer, batch)

    async def _pages(self, opened: FullOpened) -> None:
        """Send page after page. What the neighbour did not take goes on from the key it names."""
        after_key, corrections = opened.after_key, 0
        while True:
            try:
                return await self._pages_after(opened.snapshot_id, after_key)
            except Conflict as error:
                last_key = error.details.get("lastKey")
                corrections = 0 if isinstance(last_key, str) and last_key > after_key else corrections + 1
                if not isinstance(last_key, str) or corrections > MAX_CORRECTIONS:
                    raise
                after_key = last_key

    async def _pages_after(self, snapshot_id: str, after_key: str) -> None:
        """Pages in order: one travels and one is made ready while one is stored over there."""
        travelling: deque[asyncio.Task[FullPageResult]] = deque()
        ahead: asyncio.Task[tuple[Page, Packed]] | None = None
        try:
            page, packed = await self._page(snapshot_id, after_key)
            while True:
                ahead = None
                if not page.is_last:
                    ahead = asyncio.create_task(self._page(snapshot_id, page.last_key))
                travelling.append(asyncio.create_task(self._link.send(_PAGE_PATH, packed, FullPageResult)))
                while len(travelling) >= PAGES_ON_THE_WAY or (travelling and ahead is None):
                    await travelling[0]
                    travelling.popleft()
                if ahead is None:
                    return
                page, packed = await ahead
        finally:
            left = [task for task in (ahead, *travelling) if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _page(self, snapshot_id: str, after_key: str) -> tuple[Page, Packed]:
        page = await self._db.read(outbox.page, self._audience, after_key, self._batch_items)
        told = FullPage(snapshot_id, page.after_key, page.last_key, page.items, page.is_last, "row")
        return page, await self._link.pack(told)

    async def _prove(self, peer: Peer, batch: Batch) -> Peer:
        complete = FullComplete(peer.snapshot_id, peer.position, batch.roots or [])
        result = await self._link.post("/exchange/v1/devices/full:complete", complete, FullResult)
        log.info("full_exchange_proved", peer=self._id, equal=result.equal, held=result.held)
        if result.held:
            return replace(peer, state=PeerState.HELD, waiting=result.held, equality=Equality.DIFFERENT)
        return replace(
            peer,
            state=PeerState.LIVE,
            equality=Equality.EQUAL if result.equal else Equality.DIFFERENT,
            waiting=0,
            differences=0,
            snapshot_id="",
            full_done_at=self._clock.at(),
        )

    async def _remember(self, peer: Peer) -> Peer:
        await self._db.write(store.put_peer, peer, self._clock.at())
        return peer


def _has_news(conn: Connection, platform_id: str) -> bool:
    return changes.head(conn) > store.get_peer(conn, platform_id, store.OUT).position


def _wants_mending(peer: Peer, clock: Clock) -> bool:
    """Whether a difference stood long enough to look for it: at once, and again before a full is due."""
    if peer.differences < DIFFERENCES_BEFORE_MENDING or peer.state is PeerState.HELD:
        return False
    return peer.differences == DIFFERENCES_BEFORE_MENDING or _may_full(peer, clock)


def _may_full(peer: Peer, clock: Clock) -> bool:
    return peer.full_done_at is None or clock.at() - peer.full_done_at >= FULL_AGAIN_AFTER


def _after(peer: Peer, batch: Batch, result: PushResult) -> Peer:
    """What is remembered once a batch was answered."""
    peer = replace(peer, position=result.position, lag=batch.remaining)
    if result.rejected_count:
        first = result.rejected[0] if result.rejected else None
        told = f"：{first.device_id} {first.message}" if first else ""
        log.warning("items_rejected_by_peer", peer=peer.platform_id, count=result.rejected_count)
        peer = replace(peer, last_error=f"对端未接受 {result.rejected_count} 条{told}")
    if result.held and peer.state is PeerState.LIVE:
        return replace(peer, state=PeerState.HELD, waiting=result.held, equality=Equality.DIFFERENT)
    if result.equal is None:
        return peer
    if result.equal:
        state = PeerState.LIVE if peer.state is PeerState.HELD else peer.state
        return replace(peer, equality=Equality.EQUAL, differences=0, state=state, waiting=0, last_error="")
    return replace(peer, equality=Equality.DIFFERENT, differences=peer.differences + 1)


def _well(peer: Peer, clock: Clock) -> Peer:
    return replace(peer, failures=0, last_success_at=clock.at(), next_try_at=None)
