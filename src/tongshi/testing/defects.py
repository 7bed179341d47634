"""What a simulated lower platform does wrong with its catalogue, and the bodies that come of it; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from msgspec.structs import replace

from tongshi.protocols.gb28181.catalogue import CatalogPart, Cutter
from tongshi.protocols.gb28181.items import render_item
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.gb28181.version import Edition

_UTF8 = b'encoding="UTF-8"'
_GB18030 = b'encoding="GB18030"'


@dataclass(frozen=True, slots=True)
class Defects:
    """Each is off unless it is named.

    Attributes:
        loss: share of datagrams lost each way, 0 to 1.
        lost_part: every so-manyth part is left out; only of the first ``bad_answers``.
        doubled_part: every so-manyth part is sent twice.
        sum_num: added to SumNum. sn: added to SN.
        stops_at: share of the parts after which it says nothing more; only of the first ``bad_answers``.
        surplus: items beyond those that SumNum counts.
        wrong_charset: GB 18030 bytes under a declaration of UTF-8.
        missing_fields: items with DeviceID and Name only.
        lists_itself: its own code is an item that SumNum does not count.
        broken_item: every so-manyth item has no end tag and a stray "<".
        bad_answers: how many answers have ``lost_part`` and ``stops_at``; 0 is all.
    """

    loss: float = 0.0
    lost_part: int = 0
    doubled_part: int = 0
    sum_num: int = 0
    sn: int = 0
    stops_at: float = 0.0
    surplus: int = 0
    wrong_charset: bool = False
    missing_fields: bool = False
    lists_itself: bool = False
    broken_item: int = 0
    bad_answers: int = 0


def parts(
    items: Iterable[CatalogItem],
    total: int,
    sn: int,
    device_id: str,
    *,
    own: CatalogItem,
    defects: Defects,
    answer: int,
    per_message: int,
    max_bytes: int,
    edition: Edition = Edition.GB2022,
) -> Iterator[bytes]:
    """The bodies of one answer, as the defects make them.

    Args:
        items: as many as ``total`` in an honest answer, and ``defects.surplus`` more to take from.
        answer: how many answers came before this one.
        own: the platform's own item.
        per_message, max_bytes: as ``Cutter`` says.
    """
    is_bad = not defects.bad_answers or answer < defects.bad_answers
    told: Iterable[CatalogItem] = islice(items, total + defects.surplus)
    if defects.lists_itself:
        told = (own, *told)
    stop_after = int(total * defects.stops_at) if is_bad and defects.stops_at else total + defects.surplus + 1
    number = sent_items = 0
    for texts in _pages(told, defects, Cutter(per_message, max_bytes, edition)):
        number += 1
        sent_items += len(texts)
        if sent_items > stop_after:
            return
        if is_bad and defects.lost_part and number % defects.lost_part == 0:
            continue
        body = CatalogPart(sn + defects.sn, device_id, max(0, total + defects.sum_num), texts).render()
        if defects.wrong_charset:
            body = body.replace(_GB18030, _UTF8, 1)
        yield body
        if defects.doubled_part and number % defects.doubled_part == 0:
            yield body
    if not number:
        yield CatalogPart(sn + defects.sn, device_id, max(0, defects.sum_num)).render()


def _pages(told: Iterable[CatalogItem], defects: Defects, cutter: Cutter) -> Iterator[tuple[str, ...]]:
    index = 0

    def texts(page: list[tuple[CatalogItem, str]]) -> tuple[str, ...]:
        nonlocal index
        made = []
        for item, text in page:
            index += 1
            is_broken = defects.broken_item and index % defects.broken_item == 0
            made.append(_broken(item) if is_broken else text)
        return tuple(made)

    for item in told:
        kept = CatalogItem(device_id=item.device_id, name=item.name) if defects.missing_fields else item
        if page := cutter.add(kept):
            yield texts(page)
    if page := cutter.rest():
        yield texts(page)


def _broken(item: CatalogItem) -> str:
    """An item that no repair makes readable: a tag that never ends inside its code."""
    text = render_item(replace(item, name="坏项"))
    return text.replace("<DeviceID>", "<DeviceID <").removesuffix("</Item>")
