"""The exchange as the REST face uses it: taking in what neighbours tell, telling those who ask."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import Forbidden, NotFound, Unavailable
from tongshi.exchange import control_store, inbox, outbox
from tongshi.exchange import store as memory
from tongshi.exchange.inbox import House
from tongshi.exchange.model import (
    VANISH_GUARD,
    DigestAnswer,
    Equality,
    FullBegin,
    FullComplete,
    FullOpened,
    FullPage,
    FullPageResult,
    FullResult,
    Peer,
    Push,
    PushResult,
    ShardRoot,
)
from tongshi.exchange.outbox import Audience
from tongshi.exchange.ranges import RangesAnswer, RangesQuery, ranges_of
from tongshi.exchange.reader import Reader
from tongshi.exchange.reading import Items
from tongshi.exchange.turns import Turns
from tongshi.resources.platforms.model import Relation, Standing
from tongshi.resources.platforms.service import Platforms
from tongshi.sharing.model import Scope, Subject
from tongshi.storage.engine import Database


class _DryRun(Exception):
    """Carries the result of a batch that is rolled back on purpose."""

    def __init__(self, result: PushResult) -> None:
        self.result = result


class Exchange:
    """What neighbours may do here. Sending and pulling are the worker's."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        platforms: Platforms,
        platform_id: str,
        vanish_guard: float = VANISH_GUARD,
    ) -> None:
        self._db = db
        self._clock = clock
        self._platforms = platforms
        self._platform_id = platform_id
        self._vanish_guard = vanish_guard
        self._turns = Turns()
        self._reader = Reader()

    async def close(self) -> None:
        """End what reads large pages."""
        await self._reader.close()

    async def push(self, sender: str, push: Push) -> PushResult:
        """Apply one batch; a dry run applies it and takes all of it back."""
        house = await self.house(sender)
        items = await self._reader.read(push.items, push.form)
        if not push.dry_run:
            return await self._db.write(inbox.apply_push, house, sender, push, items, self._clock.at())
        try:
            await self._db.write(self._dry_push, house, sender, push, items)
        except _DryRun as done:
            return done.result
        raise AssertionError("a dry run always ends in _DryRun")

    async def begin_full(self, sender: str, begin: FullBegin) -> FullOpened:
        """Open a full, or go on with one that broke off."""
        await self.house(sender)
        return await self._db.write(inbox.begin_full, sender, begin, secrets.token_hex(12), self._clock.at())

    async def page(self, sender: str, page: FullPage) -> FullPageResult:
        """Apply one page of a full; the next ones, if they are here already, are read meanwhile."""
        async with self._turns.of(sender) as row:
            house = await self.house(sender)
            items = await self._reader.read(page.items, page.form)
            at = self._clock.at()
            return await row.store(lambda: self._db.write(inbox.apply_page, house, sender, page, items, at))

    async def complete_full(self, sender: str, complete: FullComplete) -> FullResult:
        """Prove a full."""
        house = await self.house(sender)
        return await self._db.write(inbox.complete_full, house, sender, complete, self._clock.at())

    async def confirm_vanishing(self, sender: str) -> int:
        """A person allows what waits to turn missing. Returns how many devices that is."""
        return await self._db.write(inbox.confirm_vanishing, sender, self._clock.at())

    async def is_upper(self, subject: Subject) -> bool:
        """Whether a caller is a platform above us."""
        known = await self._platforms.find(subject.platform_id) if subject.platform_id else None
        return known is not None and known.platform.relation is Relation.UPPER

    async def audience(self, subject: Subject, scope: Scope) -> Audience:
        """What a caller may pull: an upper platform all we tell it, anybody else the owners granted.

        Raises:
            Forbidden: the caller's grants are not by owner, so that a count and digest would tell too much.
        """
        if scope.is_everything or await self.is_upper(subject):
            return Audience(subject.platform_id)
        if scope.civil_codes or scope.device_ids or not scope.owners:
            raise Forbidden("全量和增量接口须按平台授权，其他范围请用 E.1-7", code=40304)
        return Audience(subject.platform_id, scope.owners)

    async def feed(self) -> str:
        """The name of our change feed."""
        return await self._db.write(memory.feed, secrets.token_hex(8))

    async def digest(self, audience: Audience, shards_of: str) -> DigestAnswer:
        """Roots of what an audience is told, and the leaves of one owner when asked."""
        return await self._db.read(_digest, audience, shards_of)

    async def digest_of_told(self, subject: Subject, shards_of: str) -> DigestAnswer | None:
        """What a neighbour told us, as we hold it, for that neighbour to compare; None for other callers."""
        if not subject.platform_id:
            return None
        known = await self._platforms.find(subject.platform_id)
        if known is None or known.platform.relation not in _TELLERS:
            return None
        return await self._db.read(_digest_of_told, subject.platform_id, shards_of)

    async def ranges_of_told(self, subject: Subject, asked: RangesQuery) -> RangesAnswer:
        """What we hold in a range of what a neighbour told us, for that neighbour to compare.

        Raises:
            Forbidden: the caller is no neighbour that tells us anything.
            NotFound: it never told us of this owner.
        """
        await self.house(subject.platform_id)
        return await self._db.read(_ranges_of_told, subject.platform_id, asked)

    async def standings(self) -> Mapping[str, Standing]:
        """See ``resources.platforms.http.Exchanges``."""
        return await self._db.read(_standings)

    async def house(self, sender: str) -> House:
        """The rules for one sender. Raises Forbidden when it is no neighbour that may tell us anything."""
        known = await self._platforms.list_all()
        allowed = {k.platform.id for k in known if k.platform.relation in _TELLERS and k.platform.is_enabled}
        if sender not in allowed:
            raise Forbidden("该密钥不代表任何向本平台共享数据的平台")
        if await self._db.read(control_store.pause_of, sender) is not None:
            raise Unavailable("管理员已暂停与贵平台的交换", retry_after_s=_PAUSED_RETRY_S)
        others = frozenset(str(k.platform.id) for k in known)
        return House(self._platform_id, others, self._vanish_guard)

    def _dry_push(self, conn: Connection, house: House, sender: str, push: Push, items: Items) -> None:
        raise _DryRun(inbox.apply_push(conn, house, sender, push, items, self._clock.at()))


_TELLERS = frozenset({Relation.LOWER, Relation.LATERAL})
# A paused neighbour asks again after so long.
_PAUSED_RETRY_S = 5.0


def _digest(conn: Connection, audience: Audience, shards_of: str) -> DigestAnswer:
    roots = outbox.roots(conn, audience)
    shards: list[ShardRoot] = []
    if any(root.owner == shards_of for root in roots):
        shards = memory.shards(conn, shards_of)
    return DigestAnswer(roots, shards, memory.head(conn))


def _digest_of_told(conn: Connection, sender: str, shards_of: str) -> DigestAnswer:
    owners = memory.owners_via(conn, sender)
    shards = memory.shards(conn, shards_of) if shards_of in owners else []
    return DigestAnswer(outbox.roots_of(conn, owners), shards, memory.head(conn))


def _ranges_of_told(conn: Connection, sender: str, asked: RangesQuery) -> RangesAnswer:
    if asked.owner not in memory.owners_via(conn, sender):
        raise NotFound("贵平台没有代该平台交换过档案")
    return ranges_of(conn, asked)


def _standings(conn: Connection) -> dict[str, Standing]:
    counts = memory.device_counts(conn)
    standings = {owner: Standing(device_count=count) for owner, count in counts.items()}
    paused = control_store.pauses(conn)
    for peer in memory.list_peers(conn):
        if peer.direction == memory.IN or not _is_heard(standings.get(peer.platform_id)):
            standings[peer.platform_id] = _standing(peer, counts.get(peer.platform_id, 0))
    for platform_id in paused:
        standings[platform_id] = replace(standings.get(platform_id, Standing()), is_paused=True)
    return standings


def _is_heard(standing: Standing | None) -> bool:
    return standing is not None and bool(standing.state)


def _standing(peer: Peer, device_count: int) -> Standing:
    is_equal = None if peer.equality is Equality.UNKNOWN else peer.equality is Equality.EQUAL
    return Standing(
        device_count=device_count,
        last_exchange_at=peer.last_success_at,
        lag=peer.lag,
        is_equal=is_equal,
        state=peer.state.value,
        waiting=peer.waiting,
        last_error=peer.last_error,
    )
