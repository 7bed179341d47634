"""What records were before: one row a change, written in the transaction of the change.

Called from ``store`` for archives that are updated or turn missing; the first insert of a device writes none.
An update that changes neither a field nor the owner (a newer revision of the same words) writes none either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, select

from tongshi.resources.devices.model import (
    WHOLE,
    Act,
    Origin,
    Source,
    decode_origins,
)
from tongshi.resources.devices.provenance import FIELDS, implied
from tongshi.storage.bulk import among, bulk_insert, chunks
from tongshi.storage.schema import device_archive, device_history
from tongshi.storage.times import from_ms, to_ms

MAX_VERSIONS: Final = 100
KEPT: Final = timedelta(days=730)
OWNER: Final = "owner_platform"

_COLUMNS = (
    *("device_id", "number", "at", "kind", "revision_before", "revision"),
    *("platform", "actor", "method", "changes"),
)
_a, _h = device_archive.c, device_history.c
_OLD = select(
    _a.device_id, *(_a[name] for name in FIELDS), _a.owner_platform, _a.revision, _a.source, _a.updated_at,
    _a.missing_since, _a.origins,
)  # fmt: skip
_END = 1 + len(FIELDS)


class Difference(msgspec.Struct, frozen=True, array_like=True):
    """One field before and after, as it is stored (lists joined by "/"), and where the former came from."""

    field: str
    before: Any
    after: Any
    origin: Origin | None = None


class Entry(msgspec.Struct, frozen=True):
    """One change of a record. ``number`` counts from 1; ``platform`` and ``actor`` did it."""

    number: int
    at: datetime
    kind: str
    revision_before: int
    revision: int
    platform: str
    actor: str
    method: str
    changes: list[Difference]


def note_updates(
    conn: Connection,
    device_ids: Sequence[str],
    new_rows: Mapping[str, Sequence[Any]],
    platform: str,
    at: datetime,
    act: Act,
) -> None:
    """Note what replaces the rows that still stand.

    Args:
        conn: the transaction of the change.
        device_ids: rows about to be replaced.
        new_rows: by id: ``device_id``, every field, owner, revision, source and what follows.
        platform: whose write it is.
        at: now.
        act: on whose behalf.
    """
    found: list[tuple[str, str, int, int, str, list[Difference]]] = []
    for chunk in chunks(device_ids):
        for old in conn.execute(_OLD.where(among(conn, _a.device_id, chunk))):
            new = new_rows[old.device_id]
            changes = _differences(old, new)
            is_return = old.missing_since is not None
            if not changes and not is_return:
                continue
            kind = act.kind or ("return" if is_return else "update")
            method = act.method.value if act.method else new[_END + 2]
            found.append((old.device_id, kind, old.revision, new[_END + 1], method, changes))
    _put(conn, found, platform, at, act.actor)


def note_missing(
    conn: Connection, revisions: Mapping[str, int], platform: str, at: datetime, act: Act
) -> None:
    """Note devices that turn missing, by id with their revision."""
    method = act.method.value if act.method else ""
    kind = act.kind or "missing"
    found = [(key, kind, number, number, method, list[Difference]()) for key, number in revisions.items()]
    _put(conn, found, platform, at, act.actor)


def of_device(conn: Connection, device_id: str) -> list[Entry]:
    """What is kept of one device, newest first; at most ``MAX_VERSIONS``."""
    statement = select(device_history).where(_h.device_id == device_id).order_by(_h.number.desc())
    return [_entry(row) for row in conn.execute(statement.limit(MAX_VERSIONS))]


def of_devices(conn: Connection, device_ids: Sequence[str]) -> dict[str, list[Entry]]:
    """What is kept of several, each newest first."""
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for chunk in chunks(device_ids):
        statement = select(device_history).where(among(conn, _h.device_id, chunk))
        for row in conn.execute(statement.order_by(_h.device_id, _h.number.desc())):
            found[row.device_id].append(_entry(row))
    return found


def sweep(conn: Connection, before: datetime, limit: int) -> int:
    """Forget at most ``limit`` rows older than ``before``. Returns how many went."""
    old = conn.execute(
        select(_h.device_id, _h.number).where(_h.at < to_ms(before)).order_by(_h.at).limit(limit)
    )
    keys = [{"key": row.device_id, "place": row.number} for row in old]
    if keys:
        gone = delete(device_history).where(_h.device_id == bindparam("key"), _h.number == bindparam("place"))
        conn.execute(gone, keys)
    return len(keys)


_changes = msgspec.json.Decoder(list[Difference])


def _entry(row: Any) -> Entry:
    return Entry(
        row.number,
        from_ms(row.at),
        row.kind,
        row.revision_before,
        row.revision,
        row.platform,
        row.actor,
        row.method,
        _changes.decode(row.changes),
    )


def _put(
    conn: Connection,
    found: Sequence[tuple[str, str, int, int, str, list[Difference]]],
    platform: str,
    at: datetime,
    actor: str,
) -> None:
    if not found:
        return
    last: dict[str, int] = {}
    for chunk in chunks([entry[0] for entry in found]):
        counted = select(_h.device_id, func.max(_h.number)).where(among(conn, _h.device_id, chunk))
        last.update((key, number) for key, number in conn.execute(counted.group_by(_h.device_id)))
    at_ms = to_ms(at)
    rows = [
        (key, last.get(key, 0) + 1, at_ms, kind, before, after, platform, actor, method, _text(changes))
        for key, kind, before, after, method, changes in found
    ]
    bulk_insert(conn, device_history, _COLUMNS, rows)
    full = [{"key": row[0], "most": row[1] - MAX_VERSIONS} for row in rows if row[1] > MAX_VERSIONS]
    if full:
        beyond = delete(device_history).where(
            _h.device_id == bindparam("key"), _h.number <= bindparam("most")
        )
        conn.execute(beyond, full)


def _text(changes: list[Difference]) -> str:
    return msgspec.json.encode(changes).decode()


def _differences(old: Any, new: Sequence[Any]) -> list[Difference]:
    before, after = old[1:_END], new[1:_END]
    changes: list[Difference] = []
    if tuple(before) != tuple(after):
        origins = decode_origins(old.origins)
        whole = origins.get(WHOLE) or Origin(old[_END], old.revision, old.updated_at, Source(old.source))
        changes = [
            Difference(name, was, now, origins.get(name) or implied(whole, name, was))
            for name, was, now in zip(FIELDS, before, after, strict=True)
            if was != now
        ]
    if old[_END] != new[_END]:
        changes.append(Difference(OWNER, old[_END], new[_END]))
    return changes
