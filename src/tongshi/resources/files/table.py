"""A device as one row: the standards' identifiers as columns, and back.

Implements: DB31DSJ/Z 001-2024 Table A.1
Implements: GB/T 28181-2022 A.2.1.9

One flat row serves CSV, XLSX and the database views. An empty cell is an attribute that was never told.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from msgspec.structs import astuple

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
_LISTS = tuple(i for i, f in enumerate(ITEM_FIELDS) if f.kind == "list")
_STATUS = next(i for i, f in enumerate(ITEM_FIELDS) if f.attribute == "status")
assert len(set(COLUMNS)) == len(COLUMNS), "a column means one thing"


def cells(archive: DeviceArchive) -> list[Cell]:
    """The row of an archive, in the order of ``COLUMNS``: what ``wire.to_full`` tells, on one level."""
    row: list[Any] = list(astuple(archive.item))
    for index in _LISTS:
        row[index] = "/".join(row[index])
    if archive.online is not None:
        row[_STATUS] = "ON" if archive.online else "OFF"
    elif row[_STATUS] is not None:
        row[_STATUS] = row[_STATUS].value
    ext = archive.ext
    row += (
        _flag(ext.is_controllable, "1", "0"),
        ext.keyboard_number,
        ext.storage_device_ip,
        ext.storage_channel,
        ext.scene_photo_url,
        _flag(ext.has_positioning_module, "1", "0"),
        _flag(ext.is_networked, "0", "1"),
        ext.police_jurisdiction,
        "/".join(ext.industries),
        archive.owner,
        archive.revision,
        None if archive.updated_at is None else archive.updated_at.isoformat(),
    )
    return [None if value == "" else value for value in row]


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


def _flag(value: bool | None, true: str, false: str) -> str | None:
    return None if value is None else true if value else false
