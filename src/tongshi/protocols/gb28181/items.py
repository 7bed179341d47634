"""Catalogue items between XML and `CatalogItem`, driven by `ITEM_FIELDS`.

Implements: GB/T 28181-2022 A.2.1.9
Implements: GB/T 28181-2022 Annex J

This is the hot path of a large catalogue: one pass over the children of an item, one dictionary look-up
each. A field that cannot be read is "not given"; only an item without a usable DeviceID is refused, as a
`BadItem`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from lxml import etree

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.types import (
    ITEM_FIELDS,
    MAX_ID_CHARS,
    MAX_TEXT_CHARS,
    CatalogItem,
    DeviceStatus,
    ItemField,
)
from tongshi.protocols.gb28181.version import Edition


class BadItem(msgspec.Struct, frozen=True):
    """An unusable item: its place in the message, its id as far as it can be seen, the reason."""

    index: int
    device_id: str
    reason: str


_STATUS_WORDS: Final = {
    "on": DeviceStatus.ON,
    "online": DeviceStatus.ON,
    "ok": DeviceStatus.ON,
    "off": DeviceStatus.OFF,
    "offline": DeviceStatus.OFF,
    "error": DeviceStatus.OFF,
}
_SEEN_ID = re.compile(r"<DeviceID>\s{0,8}([^<\s]{1,64})", re.IGNORECASE)


def _status(text: str) -> DeviceStatus | None:
    """ON or OFF by any word met in the field (quirk 11); unknown is None."""
    return _STATUS_WORDS.get(text.lower())


def _parental(text: str) -> int:
    """1 has children; everything else that is said, even 65535 or -1, is 0 (quirk 10)."""
    return 1 if text == "1" else 0


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "int": xml.to_int,
    "float": xml.to_float,
    "list": xml.to_list,
    "enum": _status,
}


def _reader_of(field: ItemField) -> Callable[[str], Any] | None:
    return _parental if field.attribute == "parental" else _READERS.get(field.kind)


_BY_TAG: Final = {
    tag: (field.attribute, _reader_of(field))
    for field in ITEM_FIELDS
    for tag in (field.wire, field.wire.lower())
}


def read_item(element: etree._Element) -> CatalogItem:
    """Read one Item.

    Raises:
        RemoteViolation: no DeviceID, or one longer than MAX_ID_CHARS.
    """
    values: dict[str, Any] = {}
    _collect(element, values, True)
    device_id = values.get("device_id", "")
    if not device_id or len(device_id) > MAX_ID_CHARS:
        raise RemoteViolation("DeviceID missing or too long", field="DeviceID")
    if "latitude" in values or "longitude" in values:
        _settle_position(values)
    return CatalogItem(**values)


def read_list(
    document: xml.Document, list_element: etree._Element | None
) -> tuple[tuple[CatalogItem, ...], tuple[BadItem, ...]]:
    """Read the items of a list element; what cannot be used is named, never raised."""
    items: list[CatalogItem] = []
    bad: list[BadItem] = []
    index = 0
    for child in list_element if list_element is not None else ():
        if xml.local_name(child).lower() != "item":
            continue
        try:
            items.append(read_item(child))
        except RemoteViolation as violation:
            bad.append(BadItem(index, "", violation.message))
        index += 1
    for offset, raw in enumerate(document.broken_items):
        seen = _SEEN_ID.search(raw)
        bad.append(BadItem(index + offset, seen.group(1) if seen else "", "not well-formed XML"))
    return tuple(items), tuple(bad)


def render_item(item: CatalogItem, edition: Edition = Edition.GB2022, event: str = "") -> str:
    """One Item element in the order of the schema.

    A device shows the mandatory text even when it is empty; a division, system or group shows only what it
    has (Annex J). Up to 2.0 BusinessGroupID belongs inside Info.
    """
    kind = kind_of(item.device_id)
    outer: list[str] = []
    inner: list[str] = []
    for field, default in _RENDERED:
        value = getattr(item, field.attribute)
        if (value == default and not _shown_anyway(field, kind)) or value is None:
            continue
        in_info = field.in_info or (field.attribute == "business_group_id" and edition < Edition.GB2022)
        (inner if in_info else outer).append(xml.element(field.wire, _wire_value(value)))
    if event:
        outer.insert(1, xml.element("Event", event))
    info = f"<Info>{''.join(inner)}</Info>" if inner else ""
    return f"<Item>{''.join(outer)}{info}</Item>"


def conforming(item: CatalogItem) -> CatalogItem:
    """The item with the defaults that a conforming sender gives a device (Annex J; 24 no. 11).

    Unknown status is reported OFF: the element is mandatory and claiming ON would be worse.
    """
    if kind_of(item.device_id) is not ItemKind.DEVICE:
        return item
    return msgspec.structs.replace(
        item,
        parental=item.parental or 0,
        status=item.status or DeviceStatus.OFF,
        grassroots_code=item.grassroots_code or "000000",
        point_type=9 if item.point_type is None else item.point_type,
    )


_RENDERED: Final = tuple(
    (field, default)
    for field, default in zip(ITEM_FIELDS, msgspec.structs.fields(CatalogItem), strict=True)
    for default in (default.default,)
)


def _shown_anyway(field: ItemField, kind: ItemKind) -> bool:
    if not field.mandatory:
        return False
    if kind is ItemKind.DEVICE:
        return True
    return kind is ItemKind.SYSTEM and field.device_only


def _wire_value(value: Any) -> str | int | float:
    if isinstance(value, tuple):
        return "/".join(value)
    if isinstance(value, float):
        return _decimal(value)
    return value.value if isinstance(value, DeviceStatus) else value


def _decimal(value: float) -> str:
    """A double without exponent, which devices do not read, and without a needless ".0"."""
    text = repr(value)
    if "e" in text:
        text = f"{value:.10f}".rstrip("0")
    return text.removesuffix(".0").rstrip(".")


def _collect(element: etree._Element, values: dict[str, Any], descend: bool) -> None:
    look_up = _BY_TAG.get
    for child in element:
        entry = look_up(child.tag) or look_up(xml.local_name(child).lower())
        if entry is None:
            if descend and xml.local_name(child).lower() == "info":
                _collect(child, values, False)
            continue
        text = child.text
        if text is None or not (text := text.strip()):
            continue
        if len(text) > MAX_TEXT_CHARS:
            text = text[:MAX_TEXT_CHARS].rstrip()
        attribute, reader = entry
        value = text if reader is None else reader(text)
        if value is not None:
            values[attribute] = value


def _settle_position(values: dict[str, Any]) -> None:
    """Quirk 14: 0/0 is "not set"; a latitude beyond the pole beside a possible longitude was swapped."""
    longitude, latitude = values.get("longitude"), values.get("latitude")
    if longitude is not None and latitude is not None and 90 < abs(latitude) <= 180 and abs(longitude) <= 90:
        longitude, latitude = latitude, longitude
    unset = not longitude and not latitude
    values["longitude"] = None if unset or longitude is None or abs(longitude) > 180 else longitude
    values["latitude"] = None if unset or latitude is None or abs(latitude) > 90 else latitude
