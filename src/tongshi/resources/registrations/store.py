"""SIP accounts and registrations in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, or_, select, update

from tongshi.resources.registrations.model import Registration, SipAccount
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import registration, sip_account
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

MIN_DOMAIN_DIGITS = 8
MAX_DOMAIN_DIGITS = 19
_r = registration.c
_TIMES = ("registered_at", "expires_at", "last_seen_at")
_TOUCH = update(registration).where(_r.id == bindparam("peer")).values(last_seen_at=bindparam("seen"))
_TEXTS = ("id", "host", "port", "transport", "contact", "call_id", "user_agent", "edition")


def put_account(conn: Connection, account: SipAccount, at: datetime) -> None:
    """Create or replace an account."""
    columns = ("scope", "code", "username", "secret", "is_enabled", "updated_at")
    row = (
        account.scope,
        account.code,
        account.username,
        account.secret,
        account.is_enabled,
        to_ms(at),
    )
    bulk_upsert(conn, sip_account, columns, [row])


def close_others(conn: Connection, kept: Sequence[SipAccount], at: datetime) -> int:
    """Close every account that is not among those kept; how many were open."""
    c = sip_account.c
    named = {(account.scope, account.code) for account in kept}
    held = conn.execute(select(c.scope, c.code).where(c.is_enabled)).all()
    gone = [(scope, code) for scope, code in held if (scope, code) not in named]
    for scope, code in gone:
        this = and_(c.scope == scope, c.code == code)
        conn.execute(update(sip_account).where(this).values(is_enabled=False, updated_at=to_ms(at)))
    return len(gone)


def find_account(conn: Connection, code: str) -> SipAccount | None:
    """A code's own account, else that of its longest domain. A closed own account hides the domain's."""
    c = sip_account.c
    prefixes = [code[:length] for length in range(MIN_DOMAIN_DIGITS, MAX_DOMAIN_DIGITS + 1)]
    wanted = or_(and_(c.scope == "device", c.code == code), and_(c.scope == "domain", c.code.in_(prefixes)))
    # "device" sorts before "domain"; the longest code first among domains.
    rows = sorted(conn.execute(select(sip_account).where(wanted)), key=lambda r: (r.scope, -len(r.code)))
    if not rows or not rows[0].is_enabled:
        return None
    row = rows[0]
    return SipAccount(row.scope, row.code, row.username, row.secret, row.is_enabled)


def put(conn: Connection, new: Registration) -> None:
    """Note a registration, over the one before."""
    texts = (getattr(new, name) for name in _TEXTS)
    kept = (storable(value) if isinstance(value, str) else value for value in texts)
    row = (*kept, *(to_ms(getattr(new, name)) for name in _TIMES))
    bulk_upsert(conn, registration, (*_TEXTS, *_TIMES), [row])


def touch(conn: Connection, peers: Sequence[tuple[str, datetime]]) -> None:
    """Note when peers were last heard; gather keep-alives and call this once for many."""
    rows = [{"peer": peer, "seen": to_ms(at)} for peer, at in peers]
    if rows:
        conn.execute(_TOUCH, rows)


def get(conn: Connection, peer_id: str) -> Registration | None:
    """A registration, expired or not."""
    row = conn.execute(select(registration).where(_r.id == peer_id)).one_or_none()
    return None if row is None else _registration(row)


def list_alive(conn: Connection, at: datetime, after: str = "", limit: int = 10_000) -> list[Registration]:
    """Registrations not expired, in order of id: what a node takes up again after a restart."""
    statement = select(registration).where(_r.expires_at > to_ms(at), _r.id > after)
    return [_registration(row) for row in conn.execute(statement.order_by(_r.id).limit(limit))]


def remove(conn: Connection, peer_id: str) -> bool:
    """Forget a registration. Returns whether there was one."""
    return conn.execute(delete(registration).where(_r.id == peer_id)).rowcount == 1


def _registration(row: Any) -> Registration:
    values = {name: getattr(row, name) for name in _TEXTS}
    times = {name: from_ms(getattr(row, name)) for name in _TIMES}
    return Registration(**values, **times)
