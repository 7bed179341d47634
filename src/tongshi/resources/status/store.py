"""The record's statuses, within a caller's scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select
from sqlalchemy.sql import ColumnElement, Join, Select

from tongshi.resources.devices.reading_store import scope_clause
from tongshi.resources.status.model import Counts, Known
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import among
from tongshi.storage.schema import device_archive, device_status, platform
from tongshi.storage.times import from_ms

_a, _s, _p = device_archive.c, device_status.c, platform.c


def known(conn: Connection, device_ids: Sequence[str], scope: Scope, self_id: str) -> dict[str, Known]:
    """What is known of devices in the scope, by id; the others are left out."""
    statement = _statement(self_id).where(among(conn, _a.device_id, device_ids), scope_clause(scope))
    return {row.device_id: _known(row) for row in conn.execute(statement)}


def known_in(
    conn: Connection, civil_codes: Sequence[str], scope: Scope, self_id: str, limit: int
) -> list[Known]:
    """What is known of devices of divisions in the scope, by id, at most ``limit``."""
    statement = _statement(self_id).where(_within(civil_codes), scope_clause(scope))
    return [_known(row) for row in conn.execute(statement.order_by(_a.device_id).limit(limit))]


def count_in(conn: Connection, civil_codes: Sequence[str], scope: Scope, self_id: str) -> Counts:
    """How many of divisions are online, offline, unknown; only what is in the scope counts."""
    is_known = and_(_s.is_online.is_not(None), or_(_a.owner_platform == self_id, _p.is_online.is_(True)))
    statement = (
        select(
            func.count(),
            func.sum(case((and_(is_known, _s.is_online.is_(True)), 1), else_=0)),
            func.sum(case((and_(is_known, _s.is_online.is_(False)), 1), else_=0)),
        )
        .select_from(_joined())
        .where(_a.missing_since.is_(None), _within(civil_codes), scope_clause(scope))
    )
    total, online, offline = conn.execute(statement).one()
    online, offline = int(online or 0), int(offline or 0)
    return Counts(total, online, offline, total - online - offline)


def _joined() -> Join:
    return device_archive.outerjoin(device_status, _a.device_id == _s.device_id).outerjoin(
        platform, _a.owner_platform == _p.id
    )


def _statement(self_id: str) -> Select[Any]:
    return (
        select(
            _a.device_id,
            _s.is_online,
            _s.since_at,
            _s.last_seen_at,
            _s.source,
            _s.reason,
            (_a.owner_platform == self_id).label("is_own"),
            _p.is_online.label("is_owner_online"),
        )
        .select_from(_joined())
        .where(_a.missing_since.is_(None))
    )


def _within(civil_codes: Sequence[str]) -> ColumnElement[bool]:
    return scope_clause(Scope(civil_codes=frozenset(civil_codes)))


def _known(row: Any) -> Known:
    return Known(
        device_id=row.device_id,
        is_online=row.is_online,
        since=from_ms(row.since_at),
        last_seen=from_ms(row.last_seen_at),
        source=row.source or "",
        reason=row.reason or "",
        is_own=bool(row.is_own),
        is_owner_reachable=bool(row.is_owner_online),
    )
