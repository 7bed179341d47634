"""Answering a platform above with the catalogue that it may see.

Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 Annex J
Implements: GB/T 28181-2022 Annex M
The codes are chosen once, so that SumNum holds for all parts; the items are read in slices as the receiver's
answers make room, so that of a hundred thousand only the codes stand in memory. What is no longer permitted
when its turn comes is not sent: the answer then ends short of its SumNum, and its receiver knows it. A large
answer takes TCP when the upper can be reached by it; one that cannot gets datagrams.

StartTime and EndTime limit the devices: the archive keeps when a device was last changed and not when it was
first told, so that one changed since StartTime counts as added, and only one that is known to be newer than
EndTime is left out. Nodes of the trees have no such time and are always told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from tongshi.errors import PeerFailed, PeerTimeout, TongshiError
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.ports import Archive, Wanted
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.sending_window import WIDEST, WIDEST_TCP, SendingWindow
from tongshi.gateways.signalling.upward import Upper
from tongshi.gateways.signalling.upward_names import NO_NAMES, Names
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES, CatalogPart, Cutter
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.dates import parse_time
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.types import CatalogItem

log = structlog.get_logger(__name__)

ITEMS_PER_MESSAGE = 500
SLICE = 500
TCP_FROM = 50  # items: below, datagrams do
PART_TRIES = 3
PAUSE_S = 1.0  # before a part that was refused for overload goes again


@dataclass(frozen=True, slots=True)
class Chosen:
    """What answers one query: nodes as they are, devices by their codes."""

    nodes: tuple[CatalogItem, ...] = ()
    codes: tuple[str, ...] = ()
    is_known: bool = field(default=False)

    @property
    def total(self) -> int:
        return len(self.nodes) + len(self.codes)


class UpwardCatalogue:
    """Chooses and sends.

    Args:
        own: our own item, the first of every catalogue.
    """

    def __init__(self, own: CatalogItem, post: Post, archive: Archive) -> None:
        self._own = own
        self._post = post
        self._archive = archive

    async def choose(self, upper: Upper, query: CatalogQuery) -> Chosen:
        """Annex J: by our code all, by a division what lies in it, by any other what hangs below it.

        Raises:
            RemoteViolation: a time that cannot be read.
        """
        names = _names(upper)
        nodes = await self._archive.shared_nodes(upper.id)
        asked = query.device_id
        since = parse_time(query.start_time) if query.start_time else None
        until = parse_time(query.end_time) if query.end_time else None
        if asked == self._own.device_id:
            picked: Sequence[CatalogItem] = (self._own, *nodes)
            wanted = Wanted(since=since, until=until)
        elif kind_of(asked) is ItemKind.DIVISION:
            inside = [node for node in nodes if kind_of(node.device_id) is ItemKind.DIVISION]
            picked = [node for node in inside if node.device_id.startswith(asked)]
            wanted = Wanted(division=asked, since=since, until=until)
        else:
            below = _below(asked, nodes)
            picked = [node for node in nodes if node.device_id in below]
            wanted = Wanted(below=frozenset(below), since=since, until=until)
        codes, is_matched = await self._archive.shared_codes(upper.id, wanted)
        shown = tuple(code for code in codes if not names.hides(code))
        return Chosen(tuple(picked), shown, bool(picked) or is_matched)

    async def send(self, upper: Upper, query: CatalogQuery, chosen: Chosen) -> None:
        """Send all of it.

        Raises:
            PeerTimeout, PeerFailed, Unavailable: a part could not be delivered.
        """
        remote = upper.remote
        if remote.transport == "udp" and chosen.total >= TCP_FROM:
            remote = await self._post.reach_tcp(upper.remote) or upper.remote
        try:
            sent = await self._send_over(remote, upper, query, chosen)
        except TongshiError:
            if remote == upper.remote:
                raise
            log.info("catalogue_falls_back_to_udp", platform_id=upper.id)
            sent = await self._send_over(upper.remote, upper, query, chosen)
        event = "catalogue_answered" if sent == chosen.total else "catalogue_answered_short"
        log.info(event, platform_id=upper.id, items=sent, announced=chosen.total, transport=remote.transport)

    async def _send_over(self, remote: Remote, upper: Upper, query: CatalogQuery, chosen: Chosen) -> int:
        names, edition = _names(upper), upper.profile.edition
        limit_bytes = UDP_BODY_BYTES if remote.transport == "udp" else TCP_BODY_BYTES
        cutter = Cutter(ITEMS_PER_MESSAGE, limit_bytes, edition)
        window = SendingWindow(widest=WIDEST if remote.transport == "udp" else WIDEST_TCP)
        sent = 0

        async def put(page: Sequence[tuple[CatalogItem, str]]) -> None:
            texts = tuple(text for _, text in page)
            part = CatalogPart(query.sn, query.device_id, chosen.total, texts)
            await window.put(self._send_part(remote, upper, part, window))

        try:
            for start in range(0, max(1, len(chosen.codes)), SLICE):
                items = await self._slice(upper, chosen, start)
                for item in items:
                    if page := cutter.add(names.item(item)):
                        await put(page)
                sent += len(items)
            if (page := cutter.rest()) or not sent:
                await put(page)
            await window.drain()
        finally:
            await window.close()
        return sent

    async def _slice(self, upper: Upper, chosen: Chosen, start: int) -> Sequence[CatalogItem]:
        """The next items; the nodes stand before the first device."""
        codes = chosen.codes[start : start + SLICE]
        items = await self._archive.shared_items(upper.id, codes) if codes else ()
        return items if start else (*chosen.nodes, *items)

    async def _send_part(
        self, remote: Remote, upper: Upper, part: CatalogPart, window: SendingWindow
    ) -> None:
        for turn in range(PART_TRIES):
            is_last = turn + 1 == PART_TRIES
            try:
                status = await self._post.send(upper, part, remote=remote)
            except PeerTimeout:
                if is_last:
                    raise
                window.narrow()
                continue
            if 200 <= status < 300:
                return
            if status != 503 or is_last:
                raise PeerFailed("上级平台拒绝了目录应答", details={"sipStatus": status})
            window.narrow()
            await asyncio.sleep(PAUSE_S)


def check_times(query: CatalogQuery) -> None:
    """Raise RemoteViolation when a time of the query cannot be read."""
    for text in (query.start_time, query.end_time):
        if text:
            parse_time(text)


def _names(upper: Upper) -> Names:
    return getattr(upper, "names", NO_NAMES)


def _below(top: str, nodes: Sequence[CatalogItem]) -> set[str]:
    """A node and those that hang below it; parents stand before their children."""
    below = {top}
    for node in nodes:
        if node.business_group_id in below or not below.isdisjoint(node.parent_ids):
            below.add(node.device_id)
    return below
