"""Events of a peer's catalogue taken into the archive.

Implements: GB/T 28181-2022 N.2
ADD and UPDATE are merged like a catalogue's items. ON, OFF, VLOST and DEFECT are the state of a device. DEL
marks it as told gone and deletes nothing: the row, its history and its grants stay. A peer may speak only of
what is its own or is reached through it. What it says of a device that we do not know, and what could not be
read, is a reason to ask for the whole catalogue again, not oftener than once in ``REASK_S``; so is nothing
believed for good that a wrong event told (quirk 60: the subscriber asks again from time to time).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import structlog

from tongshi.clock import Clock
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.subscriptions.ports import Newsroom
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.notify import CatalogChange, CatalogEvent, CatalogNotify

log = structlog.get_logger(__name__)

REASK_S = 60.0
MAX_REMEMBERED = 10_000

_WHOLE = (CatalogEvent.ADDED, CatalogEvent.UPDATED)
_STATES = {
    CatalogEvent.ON: (True, "catalogueOn"),
    CatalogEvent.OFF: (False, "catalogueOff"),
    CatalogEvent.VIDEO_LOST: (False, "videoLost"),
    CatalogEvent.DEFECT: (False, "defect"),
}


class CatalogueEvents:
    """Takes notifications of catalogue changes, under a subscription or as a message of their own.

    Args:
        ask_again: begins a query of the peer's whole catalogue.
    """

    def __init__(
        self,
        archive: Archive,
        newsroom: Newsroom,
        routes: Routes,
        clock: Clock,
        ask_again: Callable[[Peer], None],
    ) -> None:
        self._archive = archive
        self._newsroom = newsroom
        self._routes = routes
        self._clock = clock
        self._ask_again = ask_again
        self._asked: OrderedDict[str, float] = OrderedDict()

    async def take(self, incoming: IncomingRequest, peer: Peer, message: CatalogNotify) -> None:
        """One notification; answered at once, so that the peer is not held up by our record."""
        incoming.respond(200)
        unknown = await self.apply(peer, message.changes)
        log.info(
            "catalogue_events",
            peer_id=peer.id,
            changes=len(message.changes),
            bad=len(message.bad_items),
            unknown=unknown,
        )
        if unknown or message.bad_items:
            self._reask(peer)

    async def apply(self, peer: Peer, changes: tuple[CatalogChange, ...]) -> int:
        """Take events in order, each kind together. Returns how many spoke of devices unknown to us."""
        # The last word on a device counts: a notification is a list of what happened, in order.
        last = {change.item.device_id: change for change in changes}
        await self._merge(peer, [change for change in last.values() if change.event in _WHOLE])
        others = {code: change.event for code, change in last.items() if change.event in _STATES}
        gone = [code for code, change in last.items() if change.event is CatalogEvent.DELETED]
        spoken_of = {*others, *gone}
        own: set[str] = set()
        if spoken_of:
            own = set(await self._newsroom.told_by(peer.id, spoken_of, is_platform=peer.is_platform))
        by_reason: dict[str, dict[str, bool]] = {}
        for code, event in others.items():
            if code in own:
                is_online, reason = _STATES[event]
                by_reason.setdefault(reason, {})[code] = is_online
        for reason, online in by_reason.items():
            await self._archive.note_status(online, peer.id, reason)
        marked = [code for code in gone if code in own]
        if marked:
            await self._newsroom.mark_gone(peer.id, marked, is_platform=peer.is_platform)
        return sum(code not in own and _is_device(code) for code in others)

    async def _merge(self, peer: Peer, changes: list[CatalogChange]) -> None:
        items = [change.item for change in changes if _is_device(change.item.device_id)]
        if items:
            await self._archive.merge_catalogue(peer.id, items, is_platform=peer.is_platform)
            self._routes.learn(peer.id, (item.device_id for item in items))
        nodes = [change.item for change in changes if not _is_device(change.item.device_id)]
        if nodes:
            await self._archive.merge_nodes(peer.id, nodes, is_platform=peer.is_platform)

    def _reask(self, peer: Peer) -> None:
        now = self._clock.now()
        if now - self._asked.get(peer.id, -REASK_S) < REASK_S:
            return
        self._asked[peer.id] = now
        self._asked.move_to_end(peer.id)
        if len(self._asked) > MAX_REMEMBERED:
            self._asked.popitem(last=False)
        self._ask_again(peer)


def _is_device(code: str) -> bool:
    return kind_of(code) is ItemKind.DEVICE
