"""Platforms in the database."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from tongshi.ids import PlatformId
from tongshi.resources.platforms.model import KnownPlatform, Platform, PlatformState, Relation
from tongshi.storage import changes
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import platform
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

KIND = "platform"
_NAMES = tuple(f.name for f in fields(Platform))
_p = platform.c


def put(conn: Connection, new: Platform, at: datetime) -> bool:
    """Create or change a platform; its state stays. Returns whether anything was written."""
    old = get(conn, new.id)
    if old is not None and old.platform == new:
        return False
    values = tuple(str(v) if isinstance(v, Relation) else v for v in (getattr(new, n) for n in _NAMES))
    bulk_upsert(conn, platform, (*_NAMES, "updated_at"), [(*values, to_ms(at))])
    changes.record(conn, KIND, new.id, "put", "", 0, at)
    return True


def get(conn: Connection, platform_id: str) -> KnownPlatform | None:
    """A platform by its 20 digits."""
    row = conn.execute(select(platform).where(_p.id == platform_id)).one_or_none()
    return None if row is None else _known(row)


def list_all(conn: Connection, relation: Relation | None = None) -> list[KnownPlatform]:
    """All platforms in order of id, or those of one relation."""
    statement = select(platform).order_by(_p.id)
    if relation is not None:
        statement = statement.where(_p.relation == relation.value)
    return [_known(row) for row in conn.execute(statement)]


def set_state(conn: Connection, platform_id: str, state: PlatformState, at: datetime) -> bool:
    """Replace what we see of a platform. Returns whether it went online or offline."""
    before = conn.execute(select(_p.is_online).where(_p.id == platform_id).with_for_update()).scalar()
    if before is None:
        return False
    conn.execute(
        update(platform)
        .where(_p.id == platform_id)
        .values(
            is_online=state.is_online,
            registered_at=_ms(state.registered_at),
            last_seen_at=_ms(state.last_seen_at),
            expires_at=_ms(state.expires_at),
            last_error=storable(state.last_error),
            updated_at=to_ms(at),
        )
    )
    if before != state.is_online:
        changes.record(conn, KIND, platform_id, "put", "", 0, at)
    return bool(before) != state.is_online


def _known(row: Any) -> KnownPlatform:
    values = {name: getattr(row, name) for name in _NAMES}
    values["id"] = PlatformId(row.id)
    values["relation"] = Relation(row.relation)
    state = PlatformState(
        is_online=row.is_online,
        registered_at=from_ms(row.registered_at),
        last_seen_at=from_ms(row.last_seen_at),
        expires_at=from_ms(row.expires_at),
        last_error=row.last_error,
    )
    return KnownPlatform(Platform(**values), state)


def _ms(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)
