"""What records were before the changes that row E.1-4 tells, from the history of records.

Implements: DB31DSJ/Z 001-2024 E.1-4

The feed notes that a device changed; the history, written in the same transaction with the same time and
version, says how. A former state is given only if every change of the device on a page is found there: of a
device that came in between, or whose history does not reach that far, nothing is said instead of a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from tongshi.resources.devices import history_store, reading_store, store
from tongshi.resources.devices.history_store import OWNER, Entry
from tongshi.resources.devices.provenance import FIELDS
from tongshi.resources.devices.wire import PATHS
from tongshi.storage.changes import Change
from tongshi.storage.times import to_ms

_ROW = ("device_id", *FIELDS, *reading_store.WIRE_COLUMNS)
_INDEX: Final = {name: place for place, name in enumerate(_ROW)}
_NAMES: Final = {**PATHS, OWNER: "sourcePlatform"}
_TOLD: Final = (*FIELDS, OWNER)
# Of a former state it is not known whether the device was online, nor when it was written.
_UNKNOWN: Final = dict.fromkeys(("is_online", "updated_at", "missing_since"))
STATUS: Final = "Status"


@dataclass(frozen=True, slots=True)
class Former:
    """A record before the changes of a page: a row as ``devices.reading_store.WIRE_COLUMNS`` says, None
    when it was missing; and the names on the wire of what differs now."""

    row: tuple[Any, ...] | None
    changed: list[str]


def formers(
    conn: Connection, noted: Iterable[Change], rows: Mapping[str, Sequence[Any]]
) -> dict[str, Former]:
    """The former states of rows that changed, as far as they are known.

    Args:
        noted: the changes of a page.
        rows: by id, what stands now.
    """
    of_device: defaultdict[str, list[Change]] = defaultdict(list)
    turned: set[str] = set()
    for change in noted:
        if change.kind == store.KIND_STATUS:
            turned.add(change.key)
        else:
            of_device[change.key].append(change)
    keys = [key for key in of_device if key in rows]
    kept = history_store.of_devices(conn, keys)
    found = {}
    for key in keys:
        former = _former(of_device[key], kept.get(key, []), rows[key])
        if former is not None:
            found[key] = former
    for key in turned & set(rows):
        is_present = rows[key][_INDEX["missing_since"]] is None
        if key not in of_device and is_present:
            found[key] = Former(_unknown(rows[key]), [STATUS])
        elif key in found and found[key].row is not None:
            found[key] = Former(found[key].row, [*found[key].changed, STATUS])
    return found


def _former(noted: Sequence[Change], kept: Sequence[Entry], row: Sequence[Any]) -> Former | None:
    """``kept`` newest first."""
    places = {(to_ms(entry.at), entry.revision): entry.number for entry in kept}
    numbers = [places.get((change.at, change.revision)) for change in noted]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return None
    first = min(known)
    if first > 1:
        earlier = [entry for entry in kept if entry.number == first - 1]
        if not earlier:
            return None
        if _is_absence(earlier[0]):
            return Former(None, [])
    values = list(row)
    for entry in kept:
        if entry.number < first:
            break
        values[_INDEX["revision"]] = entry.revision_before
        for change in entry.changes:
            values[_INDEX[change.field]] = change.before
    changed = [_NAMES[name] for name in _TOLD if values[_INDEX[name]] != row[_INDEX[name]]]
    return Former(_unknown(values), changed)


def _is_absence(entry: Entry) -> bool:
    """Whether the device was missing after this."""
    return not entry.changes and entry.revision == entry.revision_before and entry.kind != "return"


def _unknown(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_UNKNOWN.get(name, value) for name, value in zip(_ROW, row, strict=True))
