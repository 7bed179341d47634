"""Tags of devices in the database, and what undoes an annotation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from tongshi.resources.devices.reading_store import scope_clause
from tongshi.resources.tags.model import DeviceTag, TagSource
from tongshi.sharing.model import Scope
from tongshi.storage import changes
from tongshi.storage.bulk import among, bulk_insert, bulk_upsert, chunks
from tongshi.storage.schema import device_archive, device_tag, device_tag_state, tag_undo, tag_undo_device
from tongshi.storage.times import from_ms, to_ms

KIND = "device_tag"
_t, _s, _u, _r, _a = device_tag.c, device_tag_state.c, tag_undo.c, tag_undo_device.c, device_archive.c
_COLUMNS = ("device_id", "define_code", "enum_code", "source", "annotator", "annotated_at", "revision")


def tags(conn: Connection, device_ids: Sequence[str]) -> dict[str, list[DeviceTag]]:
    """The tags of devices, in order of definition and value; a device without any is absent."""
    found: defaultdict[str, list[DeviceTag]] = defaultdict(list)
    for chunk in chunks(device_ids):
        statement = select(*(_t[name] for name in _COLUMNS)).where(among(conn, _t.device_id, chunk))
        for row in conn.execute(statement.order_by(_t.define_code, _t.enum_code)):
            found[row.device_id].append(_tag(row))
    return dict(found)


def codes(conn: Connection, device_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The codes of the values that devices bear, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for chunk in chunks(device_ids):
        statement = select(_t.device_id, _t.enum_code).where(among(conn, _t.device_id, chunk))
        for device_id, code in conn.execute(statement.order_by(_t.enum_code)):
            found[device_id].append(code)
    return {key: tuple(value) for key, value in found.items()}


def revisions(conn: Connection, device_ids: Sequence[str]) -> dict[str, int]:
    """How often the tags of devices were changed; one that never had any is absent."""
    found: dict[str, int] = {}
    for chunk in chunks(device_ids):
        statement = select(_s.device_id, _s.revision).where(among(conn, _s.device_id, chunk))
        found.update((row[0], row[1]) for row in conn.execute(statement))
    return found


def bearers(conn: Connection, value_code: str, scope: Scope, most: int) -> list[str]:
    """Devices of the scope that bear a value, missing ones too; at most ``most``."""
    joined = device_tag.join(device_archive, _t.device_id == _a.device_id)
    statement = select(_t.device_id).select_from(joined)
    statement = statement.where(_t.enum_code == value_code, scope_clause(scope)).order_by(_t.device_id)
    return list(conn.execute(statement.limit(most)).scalars())


def counts(conn: Connection, scope: Scope) -> dict[str, int]:
    """How many present devices of the scope bear a value of each definition."""
    joined = device_tag.join(device_archive, _t.device_id == _a.device_id)
    statement = select(_t.define_code, func.count(_t.device_id.distinct())).select_from(joined)
    statement = statement.where(scope_clause(scope), _a.missing_since.is_(None)).group_by(_t.define_code)
    return {row[0]: int(row[1]) for row in conn.execute(statement)}


def write(
    conn: Connection,
    gone: Mapping[str, Collection[str]],
    new: Sequence[DeviceTag],
    revised: Mapping[str, int],
    at: datetime,
) -> None:
    """Take values off devices (``gone``: devices by value), put others on; the feed tells.

    Args:
        revised: the new revision of every device concerned.
    """
    for value_code, device_ids in gone.items():
        for chunk in chunks(sorted(device_ids)):
            conn.execute(
                delete(device_tag).where(_t.enum_code == value_code, among(conn, _t.device_id, chunk))
            )
    bulk_insert(conn, device_tag, _COLUMNS, [_row(tag) for tag in new])
    bulk_upsert(conn, device_tag_state, ("device_id", "revision"), sorted(revised.items()))
    noted: list[tuple[str, changes.Op, int]] = [(key, "put", count) for key, count in sorted(revised.items())]
    changes.record_many(conn, KIND, noted, "", at)


def keep_undo(
    conn: Connection,
    token: str,
    subject: str,
    before: Mapping[str, Sequence[DeviceTag]],
    revised: Mapping[str, int],
    expires_at: datetime,
) -> None:
    """Remember how the tags of devices were before a change."""
    conn.execute(insert(tag_undo), {"token": token, "subject": subject, "expires_at": to_ms(expires_at)})
    rows = [
        (token, key, msgspec.json.encode([_row(tag) for tag in before[key]]).decode(), revised[key])
        for key in sorted(revised)
    ]
    bulk_insert(conn, tag_undo_device, ("token", "device_id", "before", "revision_after"), rows)


def take_undo(
    conn: Connection, token: str, subject: str, at: datetime
) -> dict[str, tuple[list[DeviceTag], int]] | None:
    """Tags before a change and the revision after it, by device. The token is spent; None: not valid."""
    is_valid = (_u.token == token) & (_u.subject == subject) & (_u.expires_at > to_ms(at))
    if conn.execute(delete(tag_undo).where(is_valid)).rowcount == 0:
        return None
    statement = select(_r.device_id, _r.before, _r.revision_after).where(_r.token == token)
    found = {
        row.device_id: ([_of_row(values) for values in msgspec.json.decode(row.before)], row.revision_after)
        for row in conn.execute(statement)
    }
    conn.execute(delete(tag_undo_device).where(_r.token == token))
    return found


def purge_undo(conn: Connection, at: datetime) -> None:
    """Forget what can no longer be undone."""
    gone = select(_u.token).where(_u.expires_at <= to_ms(at))
    conn.execute(delete(tag_undo_device).where(_r.token.in_(gone)))
    conn.execute(delete(tag_undo).where(_u.expires_at <= to_ms(at)))


def _row(tag: DeviceTag) -> tuple[Any, ...]:
    return (
        tag.device_id,
        tag.define_code,
        tag.value_code,
        tag.source.value,
        tag.annotator,
        to_ms(tag.at),
        tag.revision,
    )


def _tag(row: Any) -> DeviceTag:
    return _of_row([getattr(row, name) for name in _COLUMNS])


def _of_row(values: Sequence[Any]) -> DeviceTag:
    device_id, define_code, value_code, source, annotator, at_ms, revision = values
    at = from_ms(at_ms)
    assert at is not None, "the column is not nullable"
    return DeviceTag(device_id, define_code, value_code, TagSource(source), annotator, at, revision)
