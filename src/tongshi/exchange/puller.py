"""Asking one neighbour by the standard's own operations, for one that does not push.

Implements: DB31DSJ/Z 001-2024 6.2.2
The answers of rows E.1-3 and E.1-4 go through the same inbox as a push, with the same rules and the same
proof.
"""

from __future__ import annotations

import msgspec

from tongshi.errors import Gone, RemoteViolation
from tongshi.exchange import store
from tongshi.exchange.client import Link
from tongshi.exchange.model import (
    FullBegin,
    FullComplete,
    FullPage,
    FullResult,
    GoneItem,
    Peer,
    PeerState,
    Push,
)
from tongshi.exchange.pull_model import ChangesAnswer, FullAnswer, PullChanges, PullFull
from tongshi.exchange.service import Exchange
from tongshi.storage.engine import Database

FULL_PATH = "/api/v1/archive/devices/full"
CHANGES_PATH = "/api/v1/archive/devices/changes"
PAGE_ROWS = 2_000
# A neighbour that pages without end is broken, or means harm.
MAX_PAGES = 10_000


class Puller:
    """One neighbour's turn, towards us."""

    def __init__(self, db: Database, exchange: Exchange, link: Link, platform_id: str) -> None:
        self._db = db
        self._exchange = exchange
        self._link = link
        self._id = platform_id

    async def step(self, *, is_full: bool = False) -> Peer:
        """One round: changes since we last asked, or a full. Returns what is remembered after it."""
        peer = await self._db.read(store.get_peer, self._id, store.IN)
        try:
            if is_full or peer.state is PeerState.NEW or not peer.feed:
                await self._full()
            else:
                await self._changes(peer.feed, peer.position)
        except Gone:
            await self._full()
        return await self._db.read(store.get_peer, self._id, store.IN)

    async def _full(self) -> FullResult:
        first = await self._link.post(FULL_PATH, PullFull(page_size=PAGE_ROWS), FullAnswer)
        begin = FullBegin(first.feed, first.as_of_version, is_restart=True)
        opened = await self._exchange.begin_full(self._id, begin)
        after_key, answer = "", first
        for _ in range(MAX_PAGES):
            last_key = answer.last_key or after_key
            page = FullPage(opened.snapshot_id, after_key, last_key, answer.rows, answer.complete, "full")
            await self._exchange.page(self._id, page)
            if answer.complete:
                break
            if not answer.next_cursor or last_key == after_key:
                raise RemoteViolation("对端的全量未标明结束，也没有下一页")
            after_key = last_key
            answer = await self._link.post(
                FULL_PATH, PullFull(page_size=PAGE_ROWS, cursor=answer.next_cursor), FullAnswer
            )
        last = await self._changes(first.feed, first.as_of_version)
        complete = FullComplete(opened.snapshot_id, last.to_version, last.roots or [])
        return await self._exchange.complete_full(self._id, complete)

    async def _changes(self, feed: str, since: int) -> ChangesAnswer:
        for _ in range(MAX_PAGES):
            body = PullChanges(since_version=since, limit=PAGE_ROWS)
            answer = await self._link.post(CHANGES_PATH, body, ChangesAnswer)
            if answer.feed != feed:
                raise Gone("对端的变更序列已更换")
            await self._exchange.push(self._id, _as_push(answer, since))
            since = answer.to_version
            if not answer.has_more:
                return answer
        raise RemoteViolation("对端的增量没有尽头")


def _as_push(answer: ChangesAnswer, since: int) -> Push:
    items: list[msgspec.Raw] = []
    gone: list[GoneItem] = []
    for change in answer.changes:
        if change.op == "delete":
            gone.append(GoneItem(change.source_platform, change.device_id))
        elif change.after is not msgspec.UNSET:
            items.append(change.after)
    return Push(
        batch_id=f"{since}-{answer.to_version}",
        feed=answer.feed,
        from_position=since,
        to_position=answer.to_version,
        items=items,
        gone=tuple(gone),
        remaining=answer.remaining,
        roots=answer.roots,
        form="full",
    )
