"""What a person's control of the exchange reads and writes: pauses, what waits, what is in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, delete, func, select

from tongshi.exchange.control_model import MAX_COUNTED, Missing, Pause
from tongshi.exchange.outbox import KINDS
from tongshi.resources.devices import reading_store
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import change, device_archive, exchange_peer
from tongshi.storage.times import from_ms, to_ms

# Beside the two directions; the row's cursor holds who paused, when and why.
_PAUSE = "pause"
_p = exchange_peer.c
_a = device_archive.c


def pauses(conn: Connection) -> dict[str, Pause]:
    """Neighbours whose exchange a person paused."""
    rows = conn.execute(select(_p.platform_id, _p.cursor).where(_p.direction == _PAUSE))
    return {row.platform_id: msgspec.json.decode(row.cursor, type=Pause) for row in rows}


def pause_of(conn: Connection, platform_id: str) -> Pause | None:
    """The pause of one neighbour."""
    statement = select(_p.cursor).where(_p.platform_id == platform_id, _p.direction == _PAUSE)
    cursor = conn.execute(statement).scalar_one_or_none()
    return None if cursor is None else msgspec.json.decode(cursor, type=Pause)


def put_pause(conn: Connection, platform_id: str, pause: Pause) -> None:
    """Pause."""
    body = msgspec.json.encode(pause).decode()
    columns = ("platform_id", "direction", "cursor", "updated_at")
    bulk_upsert(conn, exchange_peer, columns, [(platform_id, _PAUSE, body, to_ms(pause.at))])


def drop_pause(conn: Connection, platform_id: str) -> None:
    """Go on."""
    conn.execute(delete(exchange_peer).where(_p.platform_id == platform_id, _p.direction == _PAUSE))


def pending(conn: Connection, position: int) -> int:
    """How many changes stand behind a position, at most ``MAX_COUNTED``."""
    some = select(change.c.seq).where(change.c.seq > position, change.c.kind.in_(KINDS)).limit(MAX_COUNTED)
    return conn.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def missing(
    conn: Connection, owners: Sequence[str], scope: Scope, page_no: int, page_size: int
) -> tuple[list[Missing], int]:
    """One page of the quarantine, the latest first, and how many the caller may see in all."""
    wanted = (_a.owner_platform.in_(owners), _a.missing_since.is_not(None), reading_store.scope_clause(scope))
    total = conn.execute(select(func.count()).select_from(device_archive).where(*wanted)).scalar_one()
    # The mapping's own names hide a column called "name".
    columns = (_a.device_id, _a["name"], _a.owner_platform, _a.civil_code, _a.missing_since)
    rows = conn.execute(
        select(*columns)
        .where(*wanted)
        .order_by(_a.missing_since.desc(), _a.device_id)
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    )
    return [Missing(key, name, owner, civil, _time(since)) for key, name, owner, civil, since in rows], total


def _time(at_ms: int | None) -> datetime | None:
    return from_ms(at_ms)
