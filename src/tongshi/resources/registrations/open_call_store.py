"""Open calls in the database: what a restart must end at the peers, because nobody else will."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from tongshi.resources.registrations.model import OpenCall
from tongshi.storage.bulk import among, bulk_upsert
from tongshi.storage.schema import open_call
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

_c = open_call.c
_TEXTS = ("call_id", "direction", "from_id", "to_id", "host", "transport", "target", "from_tag", "to_tag")
_COLUMNS = (*_TEXTS, "port", "cseq", "opened_at")


def note(conn: Connection, opened: Sequence[OpenCall], ended: Sequence[str]) -> None:
    """Take calls that were opened, and forget those that ended, by Call-ID."""
    rows = {
        storable(call.call_id): (
            *(storable(getattr(call, name)) for name in _TEXTS),
            call.port,
            call.cseq,
            to_ms(call.opened_at),
        )
        for call in opened
    }
    bulk_upsert(conn, open_call, _COLUMNS, list(rows.values()))
    if ended:
        gone = [storable(call_id) for call_id in ended]
        conn.execute(delete(open_call).where(among(conn, _c.call_id, gone)))


def take_left(conn: Connection, since: datetime) -> list[OpenCall]:
    """Calls opened since then; older ones are forgotten."""
    conn.execute(delete(open_call).where(_c.opened_at < to_ms(since)))
    return [
        OpenCall(
            **{name: getattr(row, name) for name in _TEXTS},
            port=row.port,
            cseq=row.cseq,
            opened_at=from_ms(row.opened_at),
        )
        for row in conn.execute(select(open_call).order_by(_c.opened_at, _c.call_id))
    ]
