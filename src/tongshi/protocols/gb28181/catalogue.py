"""Collecting a catalogue that comes in parts, and cutting one into parts.

Implements: GB/T 28181-2022 Annex J
Implements: GB/T 28181-2022 Annex M

A catalogue is complete only when it is proved: as many distinct items as the largest SumNum that was seen,
or an answer that says 0. Silence proves nothing: the state is then "incomplete", what came is good, and
nothing may be deleted on its strength.

| state | event | next |
|---|---|---|
| collecting | part; distinct items == largest SumNum | complete |
| collecting | idle or total time over, `finish`, too many items | incomplete |
| complete, incomplete | anything | same; late parts are ignored |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from tongshi.protocols.gb28181.items import BadItem, render_item
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.gb28181.version import Edition

State = Literal["collecting", "complete", "incomplete"]

UDP_BODY_BYTES: Final = 800  # RFC 3261 18.1.1 allows 1,300 for the message; its headers take up to 500
TCP_BODY_BYTES: Final = 256 * 1024
MAX_ITEMS_PER_MESSAGE: Final = 10_000  # Annex M
MAX_BAD_ITEMS: Final = 1_000  # kept for the report; all are counted

_ENVELOPE_BYTES: Final = 250  # declaration, head and list element of an answer
_TRUNCATIONS: Final = (0xFFFF, 0xFF)


class CatalogueCollector:
    """The parts of one answer, under the SN and DeviceID of the query.

    ``received`` counts usable items with repetitions; ``items`` is distinct by DeviceID, the last one wins.
    """

    def __init__(
        self,
        sn: int,
        device_id: str,
        now: float,
        idle_timeout_s: float = 15,
        total_timeout_s: float = 300,
        max_items: int = 200_000,
    ) -> None:
        self.sn = sn
        self.device_id = device_id
        self.state: State = "collecting"
        self.sum_num = -1
        self.received = 0
        self.bad_count = 0
        self.bad_items: list[BadItem] = []
        self.finished_at: float | None = None
        self._items: dict[str, CatalogItem] = {}
        self._idle_timeout_s = idle_timeout_s
        self._max_items = max_items
        self._idle_at = now + idle_timeout_s
        self._total_at = now + total_timeout_s

    @property
    def items(self) -> tuple[CatalogItem, ...]:
        """The distinct items so far, in order of first appearance."""
        return tuple(self._items.values())

    @property
    def distinct(self) -> int:
        """How many distinct items came so far."""
        return len(self._items)

    def add(self, response: CatalogResponse, now: float) -> bool:
        """Take a part. False when it belongs to another query or comes too late."""
        if self.state != "collecting" or not self._belongs(response):
            return False
        self._idle_at = now + self._idle_timeout_s
        self.sum_num = max(self.sum_num, response.sum_num)
        self.received += len(response.items)
        self.bad_count += len(response.bad_items)
        self.bad_items.extend(response.bad_items[: MAX_BAD_ITEMS - len(self.bad_items)])
        for item in response.items:
            self._items[item.device_id] = item
            if len(self._items) > self._max_items:
                del self._items[item.device_id]
                self._end("incomplete", now)
                return True
        if self.sum_num >= 0 and self.distinct == self.sum_num and not self.bad_count:
            self._end("complete", now)
        return True

    def next_timer(self) -> float | None:
        """When to call `handle_timer`; None once the collection has ended."""
        return min(self._idle_at, self._total_at) if self.state == "collecting" else None

    def handle_timer(self, now: float) -> None:
        """End an answer that stays silent or takes too long."""
        due = self.next_timer()
        if due is not None and now >= due:
            self._end("incomplete", now)

    def finish(self, now: float) -> None:
        """End the collection from outside, as when the peer goes offline."""
        if self.state == "collecting":
            self._end("incomplete", now)

    def _end(self, state: State, now: float) -> None:
        self.state = state
        self.finished_at = now

    def _belongs(self, response: CatalogResponse) -> bool:
        """By DeviceID and SN; an SN that was zeroed or truncated is forgiven (quirk 7)."""
        if response.device_id != self.device_id:
            return False
        return response.sn in (self.sn, 0) or any(
            self.sn > mask and response.sn == self.sn & mask for mask in _TRUNCATIONS
        )


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
        per_message: items at most, 1 to MAX_ITEMS_PER_MESSAGE.
        max_bytes: bound of one body, ``UDP_BODY_BYTES`` or ``TCP_BODY_BYTES``; an item that alone is larger
            travels alone.
        edition: of the peer.
    """
    limit = max(1, min(per_message, MAX_ITEMS_PER_MESSAGE))
    page: list[CatalogItem] = []
    size_bytes = _ENVELOPE_BYTES
    for item in items:
        text = render_item(item, edition)
        item_bytes = len(text.encode("gb18030", "xmlcharrefreplace")) + 2
        if page and (len(page) >= limit or size_bytes + item_bytes > max_bytes):
            yield CatalogResponse(sn, device_id, len(items), tuple(page))
            page, size_bytes = [], _ENVELOPE_BYTES
        page.append(item)
        size_bytes += item_bytes
    if page or not items:
        yield CatalogResponse(sn, device_id, len(items), tuple(page))
