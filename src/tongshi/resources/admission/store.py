"""Bans and fingerprints in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, select

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.resources.admission.model import Ban, BanReason, Fingerprint, Standing
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import peer_fingerprint, sip_ban
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

KEPT_AFTER_END = timedelta(days=1)  # a ban that ended makes the next one longer for so long
_b, _f = sip_ban.c, peer_fingerprint.c
_BAN = ("subject", "reason", "level", "since_at", "until_at")
_FINGERPRINT = ("code", "traits", "changed", "standing", "first_at", "changed_at")


def put_bans(conn: Connection, bans: Sequence[Ban]) -> None:
    """Note bans, each with its audit record; forget those that ended long ago."""
    if not bans:
        return
    rows = {
        storable(ban.subject): (
            storable(ban.subject), ban.reason.value, ban.level, to_ms(ban.since), to_ms(ban.until),
        )
        for ban in bans
    }  # fmt: skip
    conn.execute(delete(sip_ban).where(_b.until_at < to_ms(bans[0].since - KEPT_AFTER_END)))
    bulk_upsert(conn, sip_ban, _BAN, list(rows.values()))
    for ban in bans:
        audit.append(
            conn,
            audit.AuditEntry(
                ban.since,
                AuditTag.PEER_BAN,
                Outcome.DONE,
                subject_kind="system",
                subject_name="signalling",
                object_kind="address",
                object_id=ban.subject,
                reason=ban.reason.value,
                details={"level": ban.level, "until": ban.until.isoformat()},
            ),
        )


def list_bans(conn: Connection, after: datetime) -> list[Ban]:
    """Bans that end, or ended, after that time."""
    rows = conn.execute(select(sip_ban).where(_b.until_at > to_ms(after)).order_by(_b.since_at))
    return [
        Ban(row.subject, BanReason(row.reason), row.level, from_ms(row.since_at), from_ms(row.until_at))
        for row in rows
    ]


def remove_ban(conn: Connection, subject: str) -> bool:
    """Forget a ban. Returns whether there was one."""
    return conn.execute(delete(sip_ban).where(_b.subject == subject)).rowcount == 1


def put_fingerprints(conn: Connection, fingerprints: Sequence[Fingerprint]) -> None:
    """Note what devices say of themselves."""
    rows = {
        storable(one.code): (
            storable(one.code), _json(one.traits), _json(one.changed), one.standing.value,
            to_ms(one.first_at), to_ms(one.changed_at),
        )
        for one in fingerprints
    }  # fmt: skip
    bulk_upsert(conn, peer_fingerprint, _FINGERPRINT, list(rows.values()))


def get_fingerprint(conn: Connection, code: str) -> Fingerprint | None:
    """What we remember of a code."""
    row = conn.execute(select(peer_fingerprint).where(_f.code == code)).one_or_none()
    return None if row is None else _fingerprint(row)


def list_fingerprints(conn: Connection, after: str = "", limit: int = 10_000) -> list[Fingerprint]:
    """In order of code: what a node takes up again after a restart."""
    statement = select(peer_fingerprint).where(_f.code > after).order_by(_f.code).limit(limit)
    return [_fingerprint(row) for row in conn.execute(statement)]


def page_fingerprints(
    conn: Connection, standing: Standing | None, page_no: int, page_size: int
) -> tuple[list[Fingerprint], int]:
    """One page, the latest change first, and how many there are."""
    where = [] if standing is None else [_f.standing == standing.value]
    total = conn.execute(select(func.count()).select_from(peer_fingerprint).where(*where)).scalar_one()
    rows = conn.execute(
        select(peer_fingerprint)
        .where(*where)
        .order_by(_f.changed_at.desc(), _f.code)
        .limit(page_size)
        .offset((page_no - 1) * page_size)
    )
    return [_fingerprint(row) for row in rows], total


def _fingerprint(row: Any) -> Fingerprint:
    return Fingerprint(
        row.code,
        msgspec.json.decode(row.traits, type=dict[str, str]),
        from_ms(row.first_at),
        from_ms(row.changed_at),
        msgspec.json.decode(row.changed, type=dict[str, str]),
        Standing(row.standing),
    )


def _json(values: Any) -> str:
    return storable(msgspec.json.encode(dict(values)).decode())
