"""A device as one row: the standards' identifiers as columns, and back.

Implements: DB31DSJ/Z 001-2024 Table A.1
Implements: GB/T 28181-2022 A.2.1.9

One flat row serves CSV, XLSX and the database views. An empty cell is an attribute that was never told.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import msgspec

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import ITEM_FIELDS
from tongshi.resources.devices import wire
from tongshi.resources.devices.model import DeviceArchive

Cell = str | int | float | None

_EXT = wire.ExtFields.__struct_fields__
_LOCAL = {"sourcePlatform": "source_platform", "version": "version", "updateTime": "update_time"}
COLUMNS: tuple[str, ...] = (*(f.wire for f in ITEM_FIELDS), *_EXT, *_LOCAL)
NUMERIC = frozenset({*(f.wire for f in ITEM_FIELDS if f.kind in ("int", "float")), "version"})
FLOATS = frozenset(f.wire for f in ITEM_FIELDS if f.kind == "float")
_INFO = frozenset(f.wire for f in ITEM_FIELDS if f.in_info)
_ATTRIBUTES = tuple((f.attribute, f.in_info) for f in ITEM_FIELDS)
assert len(set(COLUMNS)) == len(COLUMNS), "a column means one thing"


def cells(archive: DeviceArchive) -> list[Cell]:
    """The row of an archive, in the order of ``COLUMNS``."""
    full = wire.to_full(archive)
    info, ext = full.info, full.ext
    row = [getattr(info if in_info else full, name) for name, in_info in _ATTRIBUTES]
    row += [getattr(ext, name) for name in _EXT]
    row += [getattr(full, name) for name in _LOCAL.values()]
    return [_cell(value) for value in row]


def archive_of(row: Mapping[str, Cell]) -> DeviceArchive:
    """Read one row; an absent column counts as an empty cell.

    Raises:
        InvalidRequest: names the column and the rule it breaks.
    """
    nested: dict[str, object] = {}
    info: dict[str, object] = {}
    ext: dict[str, object] = {}
    for column, value in row.items():
        if value is None or value == "":
            continue
        place = info if column in _INFO else ext if column in _EXT else nested
        place[column] = value
    nested["Info"], nested["ext"] = info, ext
    return finite(wire.parse(nested))


def finite(archive: DeviceArchive) -> DeviceArchive:
    """The archive itself. Raises InvalidRequest for a number that is none (NaN, infinite)."""
    for field in ITEM_FIELDS:
        if field.kind == "float":
            value = getattr(archive.item, field.attribute)
            if value is not None and not isfinite(value):
                raise InvalidRequest(f"字段 {field.wire} 不是有效数值", field=field.wire)
    return archive


def _cell(value: Any) -> Cell:
    if value is None or value is msgspec.UNSET or value == "":
        return None
    if isinstance(value, str):
        # Of an enumeration the value, of text itself.
        return str(getattr(value, "value", value))
    if isinstance(value, int | float):
        return value
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value.value)
