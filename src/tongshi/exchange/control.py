"""A person's hand on the exchange: look at one neighbour, compare, pause, go on, synchronise, confirm.

Implements: DB31DSJ/Z 001-2024 6.2
Implements: DB31DSJ/Z 001-2024 7.3
Every change is audited with the person's own words in the transaction that makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import Conflict, NotFound, TongshiError
from tongshi.exchange import control_store, inbox, outbox, store
from tongshi.exchange.client import Link
from tongshi.exchange.control_model import (
    MAX_OWNERS_IN_DETAIL,
    Comparison,
    Direction,
    LinkDetail,
    Missing,
    OwnerCount,
    OwnerPair,
    Pause,
    ShardPair,
    SyncKind,
    SyncRun,
)
from tongshi.exchange.model import DigestAnswer, Equality, OwnerRoot, Peer, ShardRoot
from tongshi.exchange.outbox import Audience
from tongshi.exchange.puller import Puller
from tongshi.exchange.repair import DIGEST_PATH
from tongshi.exchange.service import Exchange
from tongshi.exchange.worker import link_to
from tongshi.resources.platforms.model import KnownPlatform, Platform, Relation
from tongshi.resources.platforms.service import Platforms
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)


class Turns(Protocol):
    """The worker, as far as a person may reach into it."""

    async def take_up(self, platform_id: str, *, is_full: bool = False) -> bool:
        """Begin a neighbour's turn anew; False when we have none with it."""
        ...


class Control:
    """Looks at and steers the exchange with each neighbour. ``stop`` ends what still runs.

    ``turns`` is None where no worker runs; then nothing can be told to an upper platform.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        platforms: Platforms,
        exchange: Exchange,
        turns: Turns | None = None,
        new_link: Callable[[Platform, Clock], Link] = link_to,
    ) -> None:
        self._db = db
        self._clock = clock
        self._platforms = platforms
        self._exchange = exchange
        self._turns = turns
        self._new_link = new_link
        self._runs: dict[str, SyncRun] = {}  # one a neighbour
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def detail(self, platform_id: str) -> LinkDetail:
        """Everything remembered of one neighbour. Raises NotFound."""
        known = await self._neighbour(platform_id)
        names = await self._names()
        return await self._db.read(self._detail, known, names)

    async def compare(self, platform_id: str) -> Comparison:
        """Ask the neighbour for its digests and lay them beside ours.

        Raises:
            Conflict: we do not know how to ask it.
            PeerFailed, PeerTimeout: it did not answer, or refused.
        """
        known = await self._neighbour(platform_id)
        names = await self._names()
        link = self._link(known.platform)
        try:
            ours, position = await self._db.read(_our_roots, known.platform)
            theirs = await link.get(DIGEST_PATH, "", DigestAnswer)
            pairs = _paired(ours, theirs.roots, names)
            differing = [pair for pair in pairs if not pair.equal][:MAX_OWNERS_IN_DETAIL]
            shards = {pair.owner: await self._shards(link, pair.owner) for pair in differing}
        finally:
            await link.close()
        pairs = [_with_shards(pair, shards.get(pair.owner, [])) for pair in pairs]
        head = await self._db.read(control_store.pending, position) if _is_upper(known) else None
        lag = max(0, theirs.position - position) if head is None else head
        return Comparison(self._clock.at(), all(pair.equal for pair in pairs), lag, pairs)

    async def missing(
        self, platform_id: str, scope: Scope, page_no: int, page_size: int
    ) -> tuple[list[Missing], int]:
        """One page of what the neighbour's owners lack and we keep, within the caller's scope."""
        known = await self._neighbour(platform_id)
        return await self._db.read(_missing, known.platform, scope, page_no, page_size)

    async def pause(self, subject: Subject, platform_id: str, reason: str, context: Context) -> None:
        """Stop telling it and refuse to be told, until somebody says go on."""
        known = await self._neighbour(platform_id)
        pause = Pause(subject.name or subject.id, reason, context.at)
        entry = _entry(subject, known, "pause", reason, context)
        await self._db.write(self._pause, known.platform.id, pause, entry)
        task = self._tasks.pop(platform_id, None)
        if task is not None:
            task.cancel()
        if self._turns is not None:
            await self._turns.take_up(platform_id)

    async def resume(self, subject: Subject, platform_id: str, context: Context) -> None:
        """Go on, and catch up at once where we can ask."""
        known = await self._neighbour(platform_id)
        await self._db.write(self._resume, known.platform.id, _entry(subject, known, "resume", "", context))
        if not await self._take_up(platform_id, SyncKind.INCREMENTAL) and _can_ask(known.platform):
            self._run(known.platform, SyncKind.INCREMENTAL)

    async def synchronise(self, subject: Subject, platform_id: str, kind: SyncKind, context: Context) -> None:
        """Tell or ask now. Returns when it has begun.

        Raises:
            Conflict: paused, already running, or we do not know how to ask.
        """
        known = await self._neighbour(platform_id)
        if await self._db.read(control_store.pause_of, platform_id) is not None:
            raise Conflict("与该平台的交换已暂停，请先恢复")
        if platform_id in self._tasks:
            raise Conflict("与该平台的同步正在进行")
        if not _can_ask(known.platform):
            raise Conflict("没有配置该平台的 REST 地址和密钥，只能等它推送")
        entry = _entry(subject, known, f"synchronise {kind}", "", context)
        await self._db.write(audit.append, entry)
        if not await self._take_up(platform_id, kind):
            self._run(known.platform, kind)

    async def confirm(self, subject: Subject, platform_id: str, reason: str, context: Context) -> int:
        """Let the devices that wait turn missing at the next proof. Returns how many."""
        known = await self._neighbour(platform_id)
        entry = _entry(subject, known, "confirm vanishing", reason, context)
        return await self._db.write(self._confirm, platform_id, entry)

    async def stop(self) -> None:
        """End what still runs; what was not acknowledged is asked again later."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_up(self, platform_id: str, kind: SyncKind) -> bool:
        if self._turns is None:
            return False
        return await self._turns.take_up(platform_id, is_full=kind is SyncKind.FULL)

    def _run(self, platform: Platform, kind: SyncKind) -> None:
        if platform.id not in self._tasks:
            name = f"synchronise-{platform.id}"
            self._runs[platform.id] = SyncRun(kind, self._clock.at())
            self._tasks[platform.id] = asyncio.create_task(self._fetch(platform, kind), name=name)

    async def _fetch(self, platform: Platform, kind: SyncKind) -> None:
        """Ask a lower or lateral platform by the standard's own operations."""
        link = self._new_link(platform, self._clock)
        error = "已中断"
        try:
            puller = Puller(self._db, self._exchange, link, platform.id)
            await puller.step(is_full=kind is SyncKind.FULL)
            error = ""
        except TongshiError as failure:
            error = failure.message
            log.warning("synchronise_failed", peer=platform.id, error=error)
        finally:
            run = self._runs[platform.id]
            self._runs[platform.id] = SyncRun(run.kind, run.started_at, self._clock.at(), error)
            self._tasks.pop(platform.id, None)
            await link.close()

    async def _neighbour(self, platform_id: str) -> KnownPlatform:
        known = await self._platforms.get(platform_id)
        if known.platform.relation is Relation.SELF:
            raise NotFound("本平台没有与自己的交换")
        return known

    async def _names(self) -> dict[str, str]:
        return {str(k.platform.id): k.platform.name for k in await self._platforms.list_all()}

    def _link(self, platform: Platform) -> Link:
        if not _can_ask(platform):
            raise Conflict("没有配置该平台的 REST 地址和密钥，无法核对")
        return self._new_link(platform, self._clock)

    async def _shards(self, link: Link, owner: str) -> list[ShardPair]:
        """Divisions of one owner that differ."""
        told = await link.get(DIGEST_PATH, f"shardsOf={owner}", DigestAnswer)
        theirs = {s.civil_code: s for s in told.shards}
        ours = {s.civil_code: s for s in await self._db.read(store.shards, owner)}
        return [
            ShardPair(code, _count(ours.get(code)), _count(theirs.get(code)))
            for code in sorted(ours.keys() | theirs.keys())
            if _digest(ours.get(code)) != _digest(theirs.get(code))
        ]

    def _detail(self, conn: Connection, known: KnownPlatform, names: dict[str, str]) -> LinkDetail:
        platform = known.platform
        peers = [peer for peer in store.list_peers(conn) if peer.platform_id == platform.id]
        roots = _our_roots(conn, platform)[0]
        return LinkDetail(
            platform_id=platform.id,
            name=platform.name,
            relation=platform.relation,
            online=known.state.is_online,
            signalling_error=known.state.last_error,
            can_ask=_can_ask(platform),
            paused=control_store.pause_of(conn, platform.id),
            directions=[_direction(conn, peer) for peer in peers],
            owners=[OwnerCount(r.owner, names.get(r.owner, ""), r.count, r.digest) for r in roots],
            sync=self._runs.get(platform.id),
        )

    def _pause(self, conn: Connection, platform_id: str, pause: Pause, entry: audit.AuditEntry) -> None:
        if control_store.pause_of(conn, platform_id) is not None:
            raise Conflict("与该平台的交换已经暂停")
        control_store.put_pause(conn, platform_id, pause)
        audit.append(conn, entry)

    def _resume(self, conn: Connection, platform_id: str, entry: audit.AuditEntry) -> None:
        if control_store.pause_of(conn, platform_id) is None:
            raise Conflict("与该平台的交换没有暂停")
        control_store.drop_pause(conn, platform_id)
        audit.append(conn, entry)

    def _confirm(self, conn: Connection, platform_id: str, entry: audit.AuditEntry) -> int:
        count = inbox.confirm_vanishing(conn, platform_id, entry.at)
        audit.append(conn, replace(entry, details={**entry.details, "count": count}))
        return count


def _entry(
    subject: Subject, known: KnownPlatform, action: str, reason: str, context: Context
) -> audit.AuditEntry:
    return audit.AuditEntry(
        at=context.at,
        event=AuditTag.PLATFORM_CHANGE,
        outcome=Outcome.DONE,
        subject_kind=subject.kind,
        subject_id=subject.id,
        subject_name=subject.name,
        object_kind="platform",
        object_id=known.platform.id,
        address=context.address,
        request_id=context.request_id,
        reason=reason,
        details={"action": action},
    )


def _is_upper(known: KnownPlatform) -> bool:
    return known.platform.relation is Relation.UPPER


def _can_ask(platform: Platform) -> bool:
    return bool(platform.rest_url and platform.rest_key) and platform.is_enabled


def _our_roots(conn: Connection, platform: Platform) -> tuple[list[OwnerRoot], int]:
    """What we tell an upper platform, or were told through another; and the position acknowledged."""
    if platform.relation is Relation.UPPER:
        peer = store.get_peer(conn, platform.id, store.OUT)
        return outbox.roots(conn, Audience(platform.id)), peer.position
    owners = store.owners_via(conn, platform.id)
    return outbox.roots_of(conn, owners), store.get_peer(conn, platform.id, store.IN).position


def _missing(
    conn: Connection, platform: Platform, scope: Scope, page_no: int, page_size: int
) -> tuple[list[Missing], int]:
    owners = [root.owner for root in _our_roots(conn, platform)[0]]
    return control_store.missing(conn, owners, scope, page_no, page_size)


def _direction(conn: Connection, peer: Peer) -> Direction:
    is_out = peer.direction == store.OUT
    return Direction(
        direction=peer.direction,
        state=peer.state,
        position=peer.position,
        head=store.head(conn) if is_out else None,
        pending=control_store.pending(conn, peer.position) if is_out else None,
        equal=None if peer.equality is Equality.UNKNOWN else peer.equality is Equality.EQUAL,
        failures=peer.failures,
        last_error=peer.last_error,
        last_success_at=peer.last_success_at,
        next_try_at=peer.next_try_at,
        full_done_at=peer.full_done_at,
        waiting=peer.waiting,
        confirmed=peer.confirmed,
    )


def _paired(ours: list[OwnerRoot], theirs: list[OwnerRoot], names: dict[str, str]) -> list[OwnerPair]:
    """Owner beside owner; one that a side does not hold counts zero, and zero equals zero."""
    mine = {root.owner: root for root in ours}
    other = {root.owner: root for root in theirs}
    pairs = []
    for owner in sorted(mine.keys() | other.keys()):
        a, b = mine.get(owner), other.get(owner)
        counts = (a.count if a else 0, b.count if b else 0)
        digests = (a.digest if a else "", b.digest if b else "")
        is_equal = counts == (0, 0) or (counts[0] == counts[1] and digests[0] == digests[1])
        pairs.append(OwnerPair(owner, names.get(owner, ""), *counts, is_equal, *digests, []))
    return pairs


def _with_shards(pair: OwnerPair, shards: list[ShardPair]) -> OwnerPair:
    return OwnerPair(
        pair.owner,
        pair.name,
        pair.ours,
        pair.theirs,
        pair.equal,
        pair.our_digest,
        pair.their_digest,
        shards,
    )


def _count(shard: ShardRoot | None) -> int:
    return 0 if shard is None else shard.count


def _digest(shard: ShardRoot | None) -> str:
    return "" if shard is None else shard.digest
