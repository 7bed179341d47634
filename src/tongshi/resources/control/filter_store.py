"""Filters of neighbours in the record."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, delete, select

from tongshi.resources.control.filters import ControlFilter, FilterRule
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import control_filter
from tongshi.storage.times import from_ms, to_ms

_f = control_filter.c
_COLUMNS = ("platform_id", "rules", "is_dry_run", "updated_at", "updated_by")


def get(conn: Connection, platform_id: str) -> ControlFilter | None:
    """The filter of a neighbour."""
    row = conn.execute(select(control_filter).where(_f.platform_id == platform_id)).one_or_none()
    if row is None:
        return None
    rules = msgspec.json.decode(row.rules, type=tuple[FilterRule, ...])
    return ControlFilter(rules, row.is_dry_run, from_ms(row.updated_at), row.updated_by)


def put(conn: Connection, platform_id: str, new: ControlFilter, at: datetime) -> None:
    """Write a filter in the place of the one before."""
    rules = msgspec.json.encode(new.rules).decode()
    row = (platform_id, rules, new.is_dry_run, to_ms(at), new.updated_by)
    bulk_upsert(conn, control_filter, _COLUMNS, [row])


def drop(conn: Connection, platform_id: str) -> bool:
    """Take a filter away; False when there was none."""
    return conn.execute(delete(control_filter).where(_f.platform_id == platform_id)).rowcount == 1
