"""Heartbeats of those registered with us: answer, remember, and notice silence.

Implements: GB/T 28181-2022 9.6
A heartbeat of somebody unknown gets 403, so that it registers again. Heartbeat and registration are
independent: a registration that has not expired does not keep a peer online when its heartbeats stop.
While this process did not run, because it was starved or its machine suspended, nobody was silent: heartbeats
may wait unread or have been dropped for want of room. Who lives is then given one interval to be heard again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import Registrations
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.sip.message import Remote

log = structlog.get_logger(__name__)

MAX_UNWRITTEN = 200_000


@dataclass(frozen=True, slots=True)
class Beat:
    """The agreed rhythm: interval and how many may be missed; one interval of grace is added."""

    interval_s: float = 60.0
    count: int = 3

    @property
    def silence_s(self) -> float:
        return self.interval_s * (self.count + 1)


class Keepalives:
    """Takes heartbeats and watches for their absence.

    Args:
        channels_of: channels that are reached by a peer; they go offline with it.
        on_offline: told once of each peer that fell silent or whose registration ran out.
        on_faulty: told of children that a peer reports as not working.
        on_moved: told of a peer whose port changed without a registration (quirk 23).
    """

    def __init__(
        self,
        beat: Beat,
        peers: Peers,
        record: Registrations,
        clock: Clock,
        *,
        channels_of: Callable[[str], Sequence[str]],
        on_offline: Callable[[Peer, str], None],
        on_faulty: Callable[[Peer, Iterable[str]], None],
        on_moved: Callable[[Peer, Remote], None] = lambda *_: None,
    ) -> None:
        self._on_moved = on_moved
        self._beat = beat
        self._peers = peers
        self._record = record
        self._clock = clock
        self._channels_of = channels_of
        self._on_offline = on_offline
        self._on_faulty = on_faulty
        self._unwritten: dict[str, datetime] = {}
        self._listening_since = -math.inf
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching and write what is not written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()

    def take(self, incoming: IncomingRequest, peer: Peer, keepalive: Keepalive) -> None:
        """One heartbeat of a registered peer."""
        if peer.remote.port != incoming.remote.port:
            self._on_moved(peer, incoming.remote)
        self._peers.heard(peer, incoming.remote, self._clock.now())
        if len(self._unwritten) < MAX_UNWRITTEN:
            self._unwritten[peer.id] = self._clock.at()
        incoming.respond(200)
        if keepalive.faulty:
            self._on_faulty(peer, keepalive.faulty)

    def overslept(self, late_s: float) -> None:
        """The watch came so much too late: for one interval nobody is called silent."""
        log.warning("keepalive_watch_late", late_s=round(late_s, 2))
        self._listening_since = self._clock.now()

    async def sweep(self) -> None:
        """Drop the silent and the expired; write the signs of life since the last time."""
        now = self._clock.now()
        if now - self._listening_since >= self._beat.interval_s:
            for peer in self._peers.silent(now - self._beat.silence_s):
                await self._drop(peer, "keepaliveTimeout")
        for peer in self._peers.expired(now):
            await self._drop(peer, "registrationExpired")
        await self._flush()

    async def _drop(self, peer: Peer, reason: str) -> None:
        self._peers.remove(peer.id)
        log.warning("peer_offline", peer_id=peer.id, reason=reason)
        self._on_offline(peer, reason)
        await self._record.remove(peer.id, self._channels_of(peer.id), self._clock.at(), reason)

    async def _flush(self) -> None:
        seen, self._unwritten = self._unwritten, {}
        if seen:
            try:
                await self._record.heard(seen)
            except TongshiError as error:
                log.warning("keepalives_not_written", count=len(seen), error=str(error))

    async def _watch(self) -> None:
        period_s = min(5.0, self._beat.interval_s / 2)
        while True:
            due = self._clock.now() + period_s
            await asyncio.sleep(period_s)
            late_s = self._clock.now() - due
            if late_s > period_s:
                self.overslept(late_s)
            try:
                await self.sweep()
            except Exception:
                log.exception("keepalive_sweep_failed")
