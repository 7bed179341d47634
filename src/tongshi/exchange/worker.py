"""Keeps the exchange going: one task a neighbour, looked at when there is news and at an interval otherwise.

A neighbour that fails is tried again after a time that doubles up to five minutes, with jitter, and costs the
others nothing. There is no queue in memory: what waits is the change feed behind the remembered position.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.exchange import control_store, store
from tongshi.exchange.client import Link
from tongshi.exchange.model import MAX_BATCH_ITEMS, Peer, PeerState
from tongshi.exchange.puller import Puller
from tongshi.exchange.sender import Sender
from tongshi.exchange.service import Exchange
from tongshi.exchange.signing import Signer
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.platforms.service import Platforms
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
# How often a quiet feed is looked at; one small read.
LOOK_S = 1.0
# Neighbours are read anew this often, so that one that was added or disabled is noticed.
NEIGHBOURS_S = 5.0
MAX_NEIGHBOURS = 256


class _Turn(Protocol):
    """One neighbour in one direction."""

    async def step(self) -> Peer: ...


class Worker:
    """Runs until stopped.

    Args:
        interval_s: how often a neighbour is looked at although nothing changed.
        pulls: lower and lateral platforms that do not push and are to be asked.
        batch_items: the most devices in one batch or page.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        platforms: Platforms,
        exchange: Exchange,
        *,
        interval_s: float = 60.0,
        pulls: frozenset[str] = frozenset(),
        new_link: Callable[[Platform, Clock], Link] | None = None,
        rng: random.Random | None = None,
        batch_items: int = MAX_BATCH_ITEMS,
    ) -> None:
        self._db = db
        self._clock = clock
        self._platforms = platforms
        self._exchange = exchange
        self._interval_s = interval_s
        self._pulls = pulls
        self._new_link = new_link or link_to
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not a secret
        self._batch_items = batch_items
        self._tasks: dict[Platform, asyncio.Task[None]] = {}
        self._main: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._steering = asyncio.Lock()

    async def start(self) -> None:
        """Begin; returns at once."""
        assert self._main is None, "started twice"
        self._main = asyncio.create_task(self._supervise(), name="exchange")

    async def stop(self) -> None:
        """End every task and wait for it. What was not acknowledged is sent again after the next start."""
        tasks = [*self._tasks.values(), *([self._main] if self._main else [])]
        self._tasks.clear()
        self._main = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Something changed: look now instead of in a second."""
        self._news.set()

    async def take_up(self, platform_id: str, *, is_full: bool = False) -> bool:
        """Begin a neighbour's turn anew, whatever it waits for; ``is_full`` tells everything again.

        Returns whether it has a turn: it is one that we tell or ask, and nobody paused it.
        """
        async with self._steering:
            for platform in [p for p in self._tasks if p.id == platform_id]:
                task = self._tasks.pop(platform)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if is_full:
                    direction = store.OUT if platform.relation is Relation.UPPER else store.IN
                    await self._db.write(_forget, platform_id, direction, self._clock.at())
            await self._follow_neighbours()
        return any(platform.id == platform_id for platform in self._tasks)

    async def _supervise(self) -> None:
        while True:
            try:
                async with self._steering:
                    await self._follow_neighbours()
            except TongshiError as error:
                log.warning("exchange_neighbours_unknown", error=error.message)
            await asyncio.sleep(NEIGHBOURS_S)

    async def _follow_neighbours(self) -> None:
        """One task for each neighbour as it is configured now."""
        known = [k.platform for k in await self._platforms.list_all()]
        paused = await self._db.read(control_store.pauses)
        wanted = {
            p
            for p in known
            if p.is_enabled and p.rest_url and p.rest_key and self._is_ours(p) and p.id not in paused
        }
        for platform in [p for p in self._tasks if p not in wanted or self._tasks[p].done()]:
            self._tasks.pop(platform).cancel()
        for platform in sorted(wanted - set(self._tasks), key=lambda p: p.id):
            if len(self._tasks) >= MAX_NEIGHBOURS:
                log.error("exchange_neighbours_too_many", most=MAX_NEIGHBOURS)
                return
            name = f"exchange-{platform.id}"
            self._tasks[platform] = asyncio.create_task(self._follow(platform), name=name)

    def _is_ours(self, platform: Platform) -> bool:
        return platform.relation is Relation.UPPER or platform.id in self._pulls

    async def _follow(self, platform: Platform) -> None:
        link = self._new_link(platform, self._clock)
        try:
            if platform.relation is Relation.UPPER:
                sender = Sender(self._db, self._clock, link, platform.id, batch_items=self._batch_items)
                await self._send(sender, platform)
            else:
                puller = Puller(self._db, self._exchange, link, platform.id)
                while True:
                    await self._round(puller, platform, store.IN)
                    await asyncio.sleep(self._interval_s)
        finally:
            await link.close()

    async def _send(self, sender: Sender, platform: Platform) -> None:
        while True:
            await self._round(sender, platform, store.OUT)
            left_s = self._interval_s
            while left_s > 0 and not await self._is_news(sender):
                look_s = min(LOOK_S, left_s)
                left_s -= look_s
                try:
                    await asyncio.wait_for(self._news.wait(), look_s)
                    self._news.clear()
                except TimeoutError:
                    pass

    async def _is_news(self, sender: Sender) -> bool:
        try:
            return await sender.has_news()
        except TongshiError:
            return False

    async def _round(self, turn: _Turn, platform: Platform, direction: str) -> None:
        """One step; a failure is remembered and waited for."""
        try:
            await turn.step()
            return
        except TongshiError as error:
            message, hint_s = error.message, error.retry_after_s or 0.0
        except Exception as error:
            log.exception("exchange_step_crashed", peer=platform.id)
            message, hint_s = f"内部错误：{type(error).__name__}", 0.0
        wait_s = max(hint_s, await self._note_failure(platform.id, direction, message))
        log.warning("exchange_failed", peer=platform.id, error=message, wait_s=round(wait_s, 1))
        await asyncio.sleep(min(wait_s, LONGEST_WAIT_S))

    async def _note_failure(self, platform_id: str, direction: str, message: str) -> float:
        """Remember a failure. Returns the seconds to wait."""
        at = self._clock.at()
        try:
            peer = await self._db.read(store.get_peer, platform_id, direction)
            wait_s = backoff_s(peer.failures, self._rng)
            failed = replace(
                peer,
                failures=peer.failures + 1,
                last_error=message,
                next_try_at=at + timedelta(seconds=wait_s),
            )
            await self._db.write(store.put_peer, failed, at)
        except TongshiError as error:
            log.warning("exchange_failure_not_noted", peer=platform_id, error=error.message)
            return FIRST_WAIT_S
        return wait_s


def _forget(conn: Connection, platform_id: str, direction: str, at: datetime) -> None:
    peer = store.get_peer(conn, platform_id, direction)
    store.put_peer(conn, replace(peer, state=PeerState.NEW, failures=0, next_try_at=None), at)


def backoff_s(failures: int, rng: random.Random) -> float:
    """Seconds to wait after one more failure: doubling, bounded, spread so that peers do not march."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures, 16))
    return longest * rng.uniform(0.5, 1.0)


def link_to(platform: Platform, clock: Clock) -> Link:
    """The signed way to a neighbour."""
    signer = Signer(platform.rest_key, platform.rest_secret, platform.id, clock)
    return Link(platform.rest_url, signer)
