"""Collecting a catalogue that comes in parts, and cutting one into parts.

Implements: GB/T 28181-2022 Annex J
Implements: GB/T 28181-2022 Annex M

A catalogue is complete only when it is proved: as many distinct items as the peer announced. Silence proves
nothing: the state is then "incomplete" with the reason, what came is good, and nothing may be deleted on its
strength. What is counted are items that can be read; ``Num`` is not asked, and SumNum is only the claim that
they are held against (24 no. 14). Devices that list themselves, or us, beside what they counted are forgiven
(quirk 8).

| state | event | next |
|---|---|---|
| collecting | part; distinct items == largest SumNum | complete |
| collecting | idle or total time over, `finish`, too many items | incomplete, closed |
| complete | part with an item beyond those announced | incomplete |
| any | `close` | same, closed: later parts are ignored |

Items are handed on as they come (`take`), so that of a large catalogue only the codes stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import ClassVar, Final, Literal

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.items import BadItem, render_item
from tongshi.protocols.gb28181.message import BaseMessage, Root
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.gb28181.version import Edition

State = Literal["collecting", "complete", "incomplete"]

UDP_BODY_BYTES: Final = 800  # RFC 3261 18.1.1 allows 1,300 for the message; its headers take up to 500
TCP_BODY_BYTES: Final = 256 * 1024
MAX_ITEMS_PER_MESSAGE: Final = 10_000  # Annex M
MAX_BAD_ITEMS: Final = 1_000  # kept for the report; all are counted
MAX_ITEMS: Final = 200_000  # of one catalogue

_ENVELOPE_BYTES: Final = 250  # declaration, head and list element of an answer
_TRUNCATIONS: Final = (0xFFFF, 0xFF)


class Gap(StrEnum):
    """Why a catalogue is not proved complete."""

    MISSING = "missing"
    NOT_ANNOUNCED = "notAnnounced"
    BEYOND = "moreThanAnnounced"
    BROKEN = "brokenItems"
    TOO_MANY = "tooMany"
    TOO_LONG = "tooLong"


class CatalogueCollector:
    """The parts of one answer, under the SN and DeviceID of the query.

    Args:
        sn, device_id: of the query.
        extras: codes that a peer may list without counting them: its own and ours.
        before: codes that earlier answers to the same question gave; they count as long as this answer
            announces the same number, ``before_sum``.

    ``received`` counts usable items with repetitions, ``distinct`` codes.
    """

    def __init__(
        self,
        sn: int,
        device_id: str,
        now: float,
        idle_timeout_s: float = 15,
        total_timeout_s: float = 300,
        max_items: int = MAX_ITEMS,
        *,
        extras: frozenset[str] = frozenset(),
        before: Iterable[str] = (),
        before_sum: int = -1,
    ) -> None:
        self.sn = sn
        self.device_id = device_id
        self.state: State = "collecting"
        self.gap: Gap | None = None
        self.sum_num = -1
        self.received = 0
        self.bad_count = 0
        self.bad_items: list[BadItem] = []
        self.finished_at: float | None = None
        self.is_closed = False
        self._extras = extras | {device_id}
        self._codes: set[str] = set()
        self._before = set(before)
        self._before_sum = before_sum
        self._fresh: list[CatalogItem] = []
        self._adopted_sn: int | None = None
        self._idle_timeout_s = idle_timeout_s
        self._max_items = max_items
        self._idle_at = now + idle_timeout_s
        self._total_at = now + total_timeout_s

    @property
    def distinct(self) -> int:
        """How many distinct items are known, from earlier answers too if they still count."""
        return len(self._codes) + (len(self._before) if self._before_counts else 0)

    @property
    def codes(self) -> frozenset[str]:
        """Their codes."""
        return frozenset(self._codes | self._before if self._before_counts else self._codes)

    @property
    def waiting(self) -> int:
        """Items that nobody has taken yet."""
        return len(self._fresh)

    def take(self, limit: int | None = None) -> tuple[CatalogItem, ...]:
        """The items since the last call, in the order they came; a repeated one comes again."""
        fresh, self._fresh = self._fresh[:limit], self._fresh[limit:] if limit is not None else []
        return tuple(fresh)

    def add(self, response: CatalogResponse, now: float) -> bool:
        """Take a part. False when it belongs to another query or comes after the end."""
        if self.is_closed or not self._belongs(response):
            return False
        self._idle_at = now + self._idle_timeout_s
        self.sum_num = max(self.sum_num, response.sum_num)
        self.received += len(response.items)
        self.bad_count += len(response.bad_items)
        self.bad_items.extend(response.bad_items[: MAX_BAD_ITEMS - len(self.bad_items)])
        for item in response.items:
            if item.device_id not in self._codes and self.distinct >= self._max_items:
                self._end("incomplete", now, Gap.TOO_MANY)
                self.close()
                return True
            self._codes.add(item.device_id)
            self._before.discard(item.device_id)
            self._fresh.append(item)
        self._judge(now)
        return True

    def next_timer(self) -> float | None:
        """When to call `handle_timer`; None once the collection has ended."""
        return min(self._idle_at, self._total_at) if self.state == "collecting" else None

    def handle_timer(self, now: float) -> None:
        """End an answer that stays silent or takes too long."""
        due = self.next_timer()
        if due is not None and now >= due:
            self._settle(now, Gap.TOO_LONG if self._total_at <= self._idle_at else Gap.MISSING)

    def finish(self, now: float) -> None:
        """End the collection from outside, as when the peer goes offline."""
        if self.state == "collecting":
            self._settle(now, Gap.MISSING)

    def supplement(self, codes: Iterable[str], now: float) -> bool:
        """Count what an answer to a narrower question told. Whether that proves the whole."""
        if not self._before_counts:
            self._before.clear()
        self._before_sum = self.sum_num
        self._before.update(code for code in codes if code not in self._codes)
        if self.distinct == self.sum_num and not self.bad_count:
            self._end("complete", now, None)
        return self.state == "complete"

    def close(self) -> None:
        """Take no more parts."""
        self.is_closed = True

    @property
    def _before_counts(self) -> bool:
        return self.sum_num in (-1, self._before_sum)

    @property
    def _uncounted(self) -> int:
        before = self._before if self._before_counts else ()
        return sum(code in self._codes or code in before for code in self._extras)

    def _judge(self, now: float) -> None:
        """What the items so far prove; more than were announced disprove what was thought complete."""
        is_whole = self.distinct == self.sum_num and not self.bad_count
        if self.state == "collecting" and is_whole:
            self._end("complete", now, None)
        elif self.state == "complete" and not is_whole and self.distinct - self._uncounted > self.sum_num:
            self._end("incomplete", now, Gap.BEYOND)
        elif self.state == "complete" and self.bad_count:
            self._end("incomplete", now, Gap.BROKEN)
        elif self.state == "collecting" and 0 < self.sum_num <= self.distinct + self.bad_count:
            # Everything came, some of it unreadable or beyond the number: no use waiting for more.
            self._idle_at = min(self._idle_at, now + min(1.0, self._idle_timeout_s))

    def _settle(self, now: float, otherwise: Gap) -> None:
        """The end of waiting: proved with what is not counted set aside, or the reason why not."""
        counted = self.distinct - self._uncounted
        self.close()
        if self.bad_count:
            self._end("incomplete", now, Gap.BROKEN)
        elif self.sum_num < 0:
            self._end("incomplete", now, Gap.NOT_ANNOUNCED if self._codes else Gap.MISSING)
        elif counted == self.sum_num:
            self._end("complete", now, None)
        else:
            self._end("incomplete", now, Gap.BEYOND if counted > self.sum_num else otherwise)

    def _end(self, state: State, now: float, gap: Gap | None) -> None:
        self.state, self.gap, self.finished_at = state, gap, now

    def _belongs(self, response: CatalogResponse) -> bool:
        """By DeviceID and SN. An SN that was zeroed or truncated is forgiven, and one foreign SN when the
        right one never came: a peer that alters it alters it alike in every part (quirk 7)."""
        if response.device_id != self.device_id:
            return False
        if response.sn in (self.sn, 0) or any(
            self.sn > mask and response.sn == self.sn & mask for mask in _TRUNCATIONS
        ):
            return True
        if self._adopted_sn is None and not self.received:
            self._adopted_sn = response.sn
        return response.sn == self._adopted_sn


class CatalogPart(BaseMessage, frozen=True):
    """A part with its items rendered already; it goes out only and is read as CatalogResponse."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Catalog"

    sum_num: int
    texts: tuple[str, ...] = ()

    def content(self, edition: Edition) -> str:
        items = "\r\n".join(self.texts)
        listed = f'\r\n<DeviceList Num="{len(self.texts)}">\r\n{items}\r\n</DeviceList>' if items else ""
        return xml.element("SumNum", self.sum_num) + listed


class Cutter:
    """Cuts a stream of items into pages that hold both bounds.

    Args:
        per_message: items at most, 1 to MAX_ITEMS_PER_MESSAGE.
        max_bytes: bound of one body, ``UDP_BODY_BYTES`` or ``TCP_BODY_BYTES``; an item that alone is larger
            travels alone.
        edition: of the peer.
    """

    def __init__(self, per_message: int, max_bytes: int, edition: Edition) -> None:
        self._limit = max(1, min(per_message, MAX_ITEMS_PER_MESSAGE))
        self._max_bytes = max_bytes
        self._edition = edition
        self._page: list[tuple[CatalogItem, str]] = []
        self._size_bytes = _ENVELOPE_BYTES

    def add(self, item: CatalogItem) -> list[tuple[CatalogItem, str]]:
        """One more item; the page that it no longer fits into, or nothing."""
        text = render_item(item, self._edition)
        item_bytes = len(text.encode("gb18030", "xmlcharrefreplace")) + 2
        full: list[tuple[CatalogItem, str]] = []
        if self._page and (len(self._page) >= self._limit or self._size_bytes + item_bytes > self._max_bytes):
            full = self.rest()
        self._page.append((item, text))
        self._size_bytes += item_bytes
        return full

    def rest(self) -> list[tuple[CatalogItem, str]]:
        """The last page, or nothing."""
        page, self._page, self._size_bytes = self._page, [], _ENVELOPE_BYTES
        return page


def paginate(
    items: Sequence[CatalogItem],
    sn: int,
    device_id: str,
    per_message: int = MAX_ITEMS_PER_MESSAGE,
    max_bytes: int = TCP_BODY_BYTES,
    edition: Edition = Edition.GB2022,
) -> Iterator[CatalogResponse]:
    """Cut a catalogue into answers with the same SN and the whole SumNum; an empty one is one answer with 0.

    Args:
        items: what to answer, in the order of Annex J.
        sn, device_id: as in the query.
        per_message, max_bytes, edition: as ``Cutter`` says.
    """
    cutter = Cutter(per_message, max_bytes, edition)
    total = len(items)
    for item in items:
        if page := cutter.add(item):
            yield CatalogResponse(sn, device_id, total, tuple(one for one, _ in page))
    if (page := cutter.rest()) or not items:
        yield CatalogResponse(sn, device_id, total, tuple(one for one, _ in page))
