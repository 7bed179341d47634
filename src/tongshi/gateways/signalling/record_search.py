"""Asking devices and lower platforms what they have recorded, day by day, and collecting what comes in parts.

Implements: GB/T 28181-2022 9.7
Implements: GB/T 28181-2022 Annex M
A device is asked for its own storage, and not at all when the centre is meant, which is ourselves; a lower
platform for centre and front end together, or for one of them by the To header (A.2.4.5). Days follow each
other, because small recorders answer one at a time. Who says nothing at all is an error; who falls silent in
the midst leaves an answer that is marked incomplete. A file whose storage was not named is filled in: it lies
where it was asked for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, PeerFailed, PeerTimeout
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.records import (
    RecordCollector,
    RecordFile,
    RecordInfoQuery,
    RecordInfoResponse,
)
from tongshi.resources.viewing.recordings import Found, RecordLocation, Search, Window, days_of

log = structlog.get_logger(__name__)

MAX_SEARCHES = 1_000  # running at once, toward all peers


@dataclass(frozen=True, slots=True)
class SearchPatience:
    """Waits of one day's question, in seconds: for the first part and between parts, and for all of it."""

    idle_s: float = 8.0
    total_s: float = 60.0


class _Running:
    """One question and a bell that rings at each part."""

    def __init__(self, peer_id: str, collector: RecordCollector) -> None:
        self.peer_id = peer_id
        self.collector = collector
        self.bell = asyncio.Event()


class RecordSearches:
    """Fulfils ``viewing.ports.Recordings``."""

    def __init__(
        self, post: Post, routes: Routes, clock: Clock, patience: SearchPatience | None = None
    ) -> None:
        self._post = post
        self._routes = routes
        self._clock = clock
        self._patience = patience or SearchPatience()
        self._running: set[_Running] = set()

    async def search(self, search: Search) -> Found:
        """All of a window.

        Raises:
            NotFound, Unavailable: as ``Routes.way_to``. PeerTimeout: no answer (50401).
            PeerFailed: refused (50201, details ``sipStatus``). LimitExceeded: too many searches at once.
        """
        peer = await self._routes.way_to(search.device_id)
        if search.location is RecordLocation.CENTER and not peer.is_platform:
            return Found(())  # the centre of a device of ours is ourselves
        files: list[RecordFile] = []
        is_complete, announced = True, 0
        for day in days_of(search.window):
            found = await self._day(peer, search, day)
            files += found.files
            is_complete = is_complete and found.is_complete
            announced += found.announced
        return Found(tuple(files), is_complete, announced)

    async def take(self, incoming: IncomingRequest, peer: Peer, part: RecordInfoResponse) -> None:
        """One part from a peer; dropped when nobody asked."""
        incoming.respond(200)
        waiting = [running for running in self._running if running.peer_id == peer.id]
        for running in waiting:
            if running.collector.add(part, self._clock.now(), is_only_query=len(waiting) == 1):
                running.bell.set()
                return
        log.info("record_part_unasked", peer_id=peer.id, device_id=part.device_id)

    async def _day(self, peer: Peer, search: Search, day: Window) -> Found:
        if len(self._running) >= MAX_SEARCHES:
            raise LimitExceeded("同时进行的录像检索过多", retry_after_s=5)
        to_id, is_indistinct = _whose(peer, search.device_id, search.location)
        query = RecordInfoQuery(
            peer.next_sn(), search.device_id, day.start, day.end, day.kind, indistinct=is_indistinct
        )
        now, patience = self._clock.now(), self._patience
        collector = RecordCollector(query.sn, query.device_id, now, patience.idle_s, patience.total_s)
        running = _Running(peer.id, collector)
        self._running.add(running)
        try:
            status = await self._post.send(peer, query, to_id=to_id)
            if not 200 <= status < 300:
                message = f"设备拒绝了录像检索（SIP {status}）"
                raise PeerFailed(message, code=50201, details={"sipStatus": status})
            await self._collect(running)
        finally:
            self._running.discard(running)
        if not collector.is_answered:
            raise PeerTimeout("设备没有应答录像检索", code=50401)
        location = peer.id if to_id == peer.id else search.device_id
        return Found(
            tuple(
                file if file.location else msgspec.structs.replace(file, location=location)
                for file in collector.files
            ),
            collector.state == "complete",
            max(collector.sum_num, len(collector.files)),
        )

    async def _collect(self, running: _Running) -> None:
        collector = running.collector
        while (due := collector.next_timer()) is not None:
            running.bell.clear()
            try:
                async with asyncio.timeout(max(0.0, due - self._clock.now())):
                    await running.bell.wait()
            except TimeoutError:
                collector.handle_timer(self._clock.now())


def _whose(peer: Peer, device_id: DeviceId, location: RecordLocation) -> tuple[str, bool]:
    """To whom the question goes and whether it is fuzzy (A.2.4.5)."""
    if not peer.is_platform:
        return device_id, False
    if location is RecordLocation.CENTER:
        return peer.id, False
    return device_id, location is RecordLocation.AUTO
