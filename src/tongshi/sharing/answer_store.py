"""Kept answers in the database: by id, until they expire, the newest of each caller."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, delete, select, update

from tongshi.storage.schema import kept_answer
from tongshi.storage.times import from_ms, to_ms
from tongshi.web.ports import Claim, Claimed, Kept

# A caller's oldest answers go first; each is at most web.idempotency.MAX_ANSWER_BYTES.
MAX_OF_A_CALLER = 2_000
RUNNING = 0


def claim(conn: Connection, wanted: Claim) -> Claimed | None:
    """Take an id. Returns what holds it, None when it is taken now: of two at once only one is told None."""
    k = kept_answer.c
    conn.execute(delete(kept_answer).where(k.id == wanted.id, k.expires_at <= to_ms(wanted.at)))
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert
    else:
        from sqlalchemy.dialects.sqlite import insert as upsert  # type: ignore[assignment]
    row = upsert(kept_answer).values(
        id=wanted.id,
        caller=wanted.caller,
        asked=wanted.asked,
        status=RUNNING,
        started_at=to_ms(wanted.at),
        expires_at=to_ms(wanted.until),
    )
    if conn.execute(row.on_conflict_do_nothing()).rowcount == 1:
        _cut(conn, wanted.caller)
        return None
    held = conn.execute(select(kept_answer).where(k.id == wanted.id)).one_or_none()
    if held is None:
        # Let go of between the two statements: as good as still running, the caller asks again at once.
        return Claimed(wanted.asked, wanted.at, None)
    return Claimed(
        held.asked,
        from_ms(held.started_at),
        None
        if held.status == RUNNING
        else Kept(held.status, held.code, msgspec.json.decode(held.headers), held.body, held.rows),
    )


def keep(conn: Connection, claimed: Claim, kept: Kept, until: datetime) -> None:
    """Note the answer of the call that holds the id since ``claimed.at``."""
    conn.execute(
        update(kept_answer)
        .where(kept_answer.c.id == claimed.id, kept_answer.c.started_at == to_ms(claimed.at))
        .values(
            status=kept.status,
            code=kept.code,
            headers=msgspec.json.encode(kept.headers).decode(),
            body=kept.body,
            rows=kept.rows,
            expires_at=to_ms(until),
        )
    )


def drop(conn: Connection, claimed: Claim) -> None:
    """Let the id go."""
    k = kept_answer.c
    conn.execute(delete(kept_answer).where(k.id == claimed.id, k.started_at == to_ms(claimed.at)))


def forget(conn: Connection, before: datetime, most: int) -> int:
    """Delete what expired before a time, ``most`` at once. Returns how many went."""
    k = kept_answer.c
    old = select(k.id).where(k.expires_at <= to_ms(before)).order_by(k.expires_at).limit(most)
    return conn.execute(delete(kept_answer).where(k.id.in_(old))).rowcount


def _cut(conn: Connection, caller: str) -> None:
    k = kept_answer.c
    newest = select(k.id).where(k.caller == caller, k.status != RUNNING).order_by(k.started_at.desc(), k.id)
    surplus = conn.execute(newest.offset(MAX_OF_A_CALLER).limit(100)).scalars().all()
    if surplus:
        conn.execute(delete(kept_answer).where(k.id.in_(surplus)))
