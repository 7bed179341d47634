"""Devices to a ledger, and what of them the ledger cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from tongshi.clock import BEIJING
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem
from tongshi.resources.devices.ledger import cells, options
from tongshi.resources.devices.ledger.columns import COLUMNS, Column
from tongshi.resources.devices.ledger.model import Findings, Flags, Kind
from tongshi.resources.devices.model import DeviceArchive

NAMES = tuple(column.name for column in COLUMNS)
_HELD = {column.attribute for column in COLUMNS if column.home and not column.is_ext}
_DEFAULTS = CatalogItem(device_id="")
_HOMELESS = tuple(f for f in ITEM_FIELDS if f.attribute not in _HELD and f.attribute != "status")


def write(archives: Sequence[DeviceArchive], findings: Findings, flags: Flags = "01") -> list[dict[str, str]]:
    """Rows with every column of the ledger; columns without a source in our record are empty.

    Args:
        archives: devices, in the order wanted.
        findings: values and fields that the ledger cannot hold are noted here.
        flags: how yes/no is written; ``auto`` is Table A.1's 0/1.
    """
    lost: Counter[str] = Counter()
    rows = []
    for number, archive in enumerate(archives, start=1):
        rows.append({column.name: _cell(number, column, archive, flags, findings) for column in COLUMNS})
        lost.update(
            f.wire
            for f in _HOMELESS
            if getattr(archive.item, f.attribute) not in (None, getattr(_DEFAULTS, f.attribute))
        )
    for name, count in sorted(lost.items()):
        findings.add(0, name, "L-27", Kind.LOST, f"{count} 个值")
    return rows


def _cell(number: int, column: Column, archive: DeviceArchive, flags: Flags, findings: Findings) -> str:
    if not column.home:
        return ""
    value = getattr(archive.ext if column.is_ext else archive.item, column.attribute)
    if value is None or value in ("", ()):
        return ""
    if column.convert is cells.flag:
        return _flag(column.name, value, flags)
    if column.name in options.CODES:
        return _coded(number, column.name, value, findings)
    if column.convert is cells.moment:
        return _epoch_ms(value)
    return "/".join(value) if isinstance(value, tuple) else str(value)


def _flag(name: str, value: bool, flags: Flags) -> str:
    if flags == "12":
        return "1" if value else "2"
    return "1" if value is not (name == "LWSX") else "0"


def _coded(number: int, name: str, value: object, findings: Findings) -> str:
    """The ledger's codes; of a list those that have one, and the others are told."""
    parts = value if isinstance(value, tuple) else (str(value),)
    found = {part: options.back(name, part) for part in parts}
    without = [part for part, code in found.items() if not code]
    if without:
        findings.add(number, name, "L-26", Kind.LOST, "/".join(without))
    return "/".join(code for code in found.values() if code)


def _epoch_ms(text: str) -> str:
    """Milliseconds, as the ledgers in the field have them; what is no time stays as it is written."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    at = at if at.tzinfo else at.replace(tzinfo=BEIJING)
    return str(int(at.timestamp() * 1000))
