"""How catalogues stood when they last ended, in the database: a restart forgets none that is incomplete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from tongshi.resources.registrations.model import CatalogueStanding, CatalogueState
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import catalogue_standing
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

_c = catalogue_standing.c
_NUMBERS = ("announced", "received", "broken", "asked", "doubled")
_COLUMNS = ("peer_id", "state", "reason", *_NUMBERS, "began_at", "at")


def put(conn: Connection, standings: Sequence[CatalogueStanding]) -> None:
    """Keep these, each in place of the peer's last one."""
    rows = {
        storable(one.peer_id): (
            storable(one.peer_id),
            one.state.value,
            storable(one.reason),
            *(getattr(one, name) for name in _NUMBERS),
            to_ms(one.began_at),
            to_ms(one.at),
        )
        for one in standings
    }
    bulk_upsert(conn, catalogue_standing, _COLUMNS, list(rows.values()))


def take(conn: Connection, since: datetime, limit: int) -> list[CatalogueStanding]:
    """The last changed since then, the oldest first; older ones are forgotten."""
    conn.execute(delete(catalogue_standing).where(_c["at"] < to_ms(since)))
    latest = select(catalogue_standing).order_by(_c["at"].desc(), _c.peer_id).limit(limit)
    found = [
        CatalogueStanding(
            peer_id=row.peer_id,
            state=CatalogueState(row.state),
            reason=row.reason,
            began_at=from_ms(row.began_at),
            at=from_ms(row.at),
            **{name: getattr(row, name) for name in _NUMBERS},
        )
        for row in conn.execute(latest)
    ]
    return found[::-1]
