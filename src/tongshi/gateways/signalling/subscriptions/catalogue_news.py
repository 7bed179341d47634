"""The catalogue told to those above who subscribed it: first what does not work, then what changes.

Implements: GB/T 28181-2022 Annex N
After its SUBSCRIBE the subscriber takes everything for working: the first NOTIFY names what does not (N.3 c).
Changes come from the archive's change feed, gather until there are ``items`` of them or the first is
``wait_s`` old (N.1), and are judged only then, by what the archive says at that moment: a device that went
and came back in between is no news. Notifications go one after the other; what was not taken stays news.
Each is bounded by what the upper may see now; a look at everything once in ``rescan_s`` finds what a grant
that was given or taken has changed, which no feed tells.

What the subscriber was told is kept as one set of codes and one of those it takes for dead:

| archive now | subscriber knows | told |
|---|---|---|
| seen | no | ADD, whole |
| seen, its row changed | yes | UPDATE, whole |
| seen, only its state turned | yes | ON or OFF |
| not seen, gone, or not granted | yes | DEL |
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import structlog

from tongshi.clock import Clock
from tongshi.errors import Gone, TongshiError
from tongshi.gateways.signalling.subscriptions.notifier import Held
from tongshi.gateways.signalling.subscriptions.ports import Newsroom
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES
from tongshi.protocols.gb28181.items import render_item
from tongshi.protocols.gb28181.notify import CatalogChange, CatalogEvent, CatalogNotify
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus

log = structlog.get_logger(__name__)

MAX_PENDING = 200_000
JUDGED_AT_ONCE = 1_000
_ENVELOPE_BYTES = 250
_SHORT_BYTES = 90  # an item of id and event


@dataclass(frozen=True, slots=True)
class Batching:
    """When changes are sent, and how often is looked."""

    items: int = 100
    wait_s: float = 60.0
    poll_s: float = 2.0
    rescan_s: float = 600.0


@dataclass(slots=True)
class _Told:
    """What one subscriber knows, which of it it takes for dead, and what may be news to it.

    ``pending`` says of each code whether its row changed or only its state.
    """

    known: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    pending: dict[str, bool] = field(default_factory=dict)
    pending_since: float = 0.0


class CatalogueNews:
    """A topic: the catalogue. One task a subscription."""

    def __init__(self, newsroom: Newsroom, clock: Clock, batching: Batching | None = None) -> None:
        self._newsroom = newsroom
        self._clock = clock
        self._batching = batching or Batching()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, held: Held) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, held: Held) -> None:
        try:
            await self._tell(held)
        except Gone:
            # Changes were lost to it: it must ask for everything and subscribe again.
            held.incoming.terminate("deactivated")
        except TongshiError as error:
            # A notification got no answer, which ended the dialog, or the record cannot be read.
            log.warning("catalogue_news_ended", platform_id=held.upper.id, reason=error.message)
            held.incoming.terminate("deactivated")
        except Exception:
            log.exception("catalogue_news_crashed", platform_id=held.upper.id)
            held.incoming.terminate("deactivated")

    async def _tell(self, held: Held) -> None:
        position = await self._newsroom.news_position()
        told = _Told()
        await self._tell_the_dead(held, told)
        scanned = self._clock.now()
        while not await held.ended_within(self._batching.poll_s):
            position = await self._gather(told, position)
            if self._clock.now() - scanned >= self._batching.rescan_s:
                await self._rescan(held, told)
                scanned = self._clock.now()
            if self._is_ripe(told):
                await self._flush(held, told)

    def _is_ripe(self, told: _Told) -> bool:
        if not told.pending:
            return False
        is_old = self._clock.now() - told.pending_since >= self._batching.wait_s
        return is_old or len(told.pending) >= self._batching.items

    async def _tell_the_dead(self, held: Held, told: _Told) -> None:
        """The first notification. It is sent even when there is nothing to say, as RFC 6665 wants."""
        async for code, is_alive in self._seen(held):
            told.known.add(code)
            if not is_alive:
                told.dead.add(code)
        changes = [CatalogChange(CatalogEvent.OFF, CatalogItem(device_id=code)) for code in sorted(told.dead)]
        if not changes:
            await held.tell(CatalogNotify(held.query.sn, held.query.device_id))
        for message in self._messages(held, changes):
            while not await held.tell(message):
                if await held.ended_within(self._batching.poll_s):
                    return

    async def _gather(self, told: _Told, position: int) -> int:
        """Note what changed."""
        while True:
            news = await self._newsroom.news_after(position)
            self._note(told, news.rows, is_row=True)
            self._note(told, news.states, is_row=False)
            position = news.position
            if news.is_last:
                return position

    async def _rescan(self, held: Held, told: _Told) -> None:
        """Find what may be seen now and was not, and the other way round."""
        seen = {code async for code, _ in self._seen(held)}
        self._note(told, sorted(seen ^ told.known), is_row=True)

    def _note(self, told: _Told, codes: Iterable[str], *, is_row: bool) -> None:
        for code in codes:
            if len(told.pending) >= MAX_PENDING:
                raise Gone("变更过多，请重新订阅")
            if not told.pending:
                told.pending_since = self._clock.now()
            told.pending[code] = told.pending.get(code, False) or is_row

    async def _flush(self, held: Held, told: _Told) -> None:
        """Judge and send what is pending; what was not taken stays."""
        codes = list(told.pending)
        for start in range(0, len(codes), JUDGED_AT_ONCE):
            batch = codes[start : start + JUDGED_AT_ONCE]
            found = await self._newsroom.told_items(held.upper.id, batch)
            changes = [change for code in batch if (change := self._judge(held, told, code, found.get(code)))]
            for message in self._messages(held, changes):
                if not await held.tell(message):
                    told.pending_since = self._clock.now()
                    return
                for change in message.changes:
                    _apply(told, change)
            for code in batch:
                told.pending.pop(code, None)

    def _judge(self, held: Held, told: _Told, code: str, item: CatalogItem | None) -> CatalogChange | None:
        """What to say of one device, by the table above."""
        is_known = code in told.known
        if item is None or not held.shows(item):
            gone = CatalogChange(CatalogEvent.DELETED, CatalogItem(device_id=code))
            return gone if is_known else None
        if not is_known:
            return CatalogChange(CatalogEvent.ADDED, item)
        if told.pending[code]:
            return CatalogChange(CatalogEvent.UPDATED, item)
        is_dead = item.status is not DeviceStatus.ON
        if is_dead == (code in told.dead):
            return None
        event = CatalogEvent.OFF if is_dead else CatalogEvent.ON
        return CatalogChange(event, CatalogItem(device_id=code))

    def _messages(self, held: Held, changes: list[CatalogChange]) -> list[CatalogNotify]:
        """Notifications of bounded size."""
        edition = held.upper.profile.edition
        is_udp = held.incoming.remote.transport == "udp"
        limit_bytes = UDP_BODY_BYTES if is_udp else TCP_BODY_BYTES
        pages: list[list[CatalogChange]] = []
        size_bytes = 0
        for change in changes:
            is_whole = change.event in (CatalogEvent.ADDED, CatalogEvent.UPDATED)
            text = render_item(change.item, edition, change.event.value) if is_whole else ""
            item_bytes = len(text.encode("gb18030", "xmlcharrefreplace")) + 2 if is_whole else _SHORT_BYTES
            is_full = pages and len(pages[-1]) >= self._batching.items
            if not pages or is_full or size_bytes + item_bytes > limit_bytes:
                pages.append([])
                size_bytes = _ENVELOPE_BYTES
            pages[-1].append(change)
            size_bytes += item_bytes
        return [CatalogNotify(held.query.sn, held.query.device_id, tuple(page)) for page in pages]

    async def _seen(self, held: Held) -> AsyncIterator[tuple[str, bool]]:
        """Every device of the subscribed place that the upper may see, with whether it works."""
        upper_id, after = held.upper.id, ""
        while page := await self._newsroom.told_codes(upper_id, after):
            after = page[-1][0]
            if held.place.is_everything:
                for code, is_alive in page:
                    if not held.upper.names.hides(code):
                        yield code, is_alive
                continue
            states = dict(page)
            for start in range(0, len(page), JUDGED_AT_ONCE):
                codes = [code for code, _ in page[start : start + JUDGED_AT_ONCE]]
                for code, item in (await self._newsroom.told_items(upper_id, codes)).items():
                    if held.shows(item):
                        yield code, states[code]


def _apply(told: _Told, change: CatalogChange) -> None:
    """The subscriber took this: now it knows."""
    code, event, status = change.item.device_id, change.event, change.item.status
    if event is CatalogEvent.DELETED:
        told.known.discard(code)
        told.dead.discard(code)
        return
    told.known.add(code)
    is_dead = event is CatalogEvent.OFF or (event is not CatalogEvent.ON and status is not DeviceStatus.ON)
    (told.dead.add if is_dead else told.dead.discard)(code)
