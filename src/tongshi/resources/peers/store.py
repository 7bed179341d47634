"""Profiles in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, true

from tongshi.protocols.sip.address import transport_of
from tongshi.resources.devices.reading_store import scope_clause
from tongshi.resources.peers.model import Evidence, PeerProfile, PeerRow, Words
from tongshi.resources.platforms.model import Relation
from tongshi.sharing.model import Scope
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import device_archive, peer_profile, platform, registration
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

_p, _r, _a, _f = peer_profile.c, registration.c, device_archive.c, platform.c
_TEXTS = ("peer_id", "user_agent", "manufacturer", "model", "firmware", "said_edition", "edition", "charset")
_FACTS = (*_TEXTS, "transport", "seen", "updated_at")
_WORDS = (
    "peer_id", "set_edition", "set_charset", "set_transport", "set_quirks", "set_by", "set_reason", "before",
    "set_at", "updated_at",
)  # fmt: skip
_FROM = (
    peer_profile.outerjoin(registration, _r.id == _p.peer_id)
    .outerjoin(device_archive, _a.device_id == _p.peer_id)
    .outerjoin(platform, _f.id == _p.peer_id)
)
_SELECT = select(
    *peer_profile.c,
    _a["name"].label("device_name"),
    _f["name"].label("platform_name"),
    _r.host,
    _r.port,
    _r.registered_at,
    _r.expires_at,
    _r.last_seen_at,
).select_from(_FROM)


def put_facts(conn: Connection, profiles: Sequence[PeerProfile], at: datetime) -> None:
    """Create profiles, or replace what was seen; an administrator's words stay."""
    rows = [
        (
            *(storable(getattr(one, name), 256) for name in _TEXTS),
            one.transport,
            storable(msgspec.json.encode(one.seen).decode(), 65_536),
            to_ms(at),
        )
        for one in profiles
    ]
    bulk_upsert(conn, peer_profile, _FACTS, rows)


def put_words(conn: Connection, one: PeerProfile, at: datetime) -> None:
    """Replace an administrator's words; what was seen stays."""
    row = (
        one.peer_id,
        one.words.edition,
        one.words.charset,
        one.words.media_transport,
        msgspec.json.encode(one.words.quirks).decode(),
        storable(one.set_by, 256),
        storable(one.set_reason, 256),
        "" if one.before is None else msgspec.json.encode(one.before).decode(),
        None if one.set_at is None else to_ms(one.set_at),
        to_ms(at),
    )
    bulk_upsert(conn, peer_profile, _WORDS, [row])


def get(conn: Connection, peer_id: str) -> PeerProfile | None:
    """One profile."""
    row = conn.execute(select(peer_profile).where(_p.peer_id == peer_id)).one_or_none()
    return None if row is None else _profile(row)


def after(conn: Connection, peer_id: str, limit: int = 5_000) -> list[PeerProfile]:
    """The next profiles in order of peer."""
    statement = select(peer_profile).where(_p.peer_id > peer_id).order_by(_p.peer_id).limit(limit)
    return [_profile(row) for row in conn.execute(statement)]


def page(
    conn: Connection, scope: Scope, keyword: str, online: bool | None, page_no: int, page_size: int
) -> tuple[list[PeerRow], int]:
    """One page of the peers in a scope, and how many there are; the scope narrows before the count."""
    wanted = [_within(scope), or_(_f.relation.is_(None), _f.relation != Relation.UPPER.value)]
    if keyword:
        text = keyword.lower()
        wanted.append(
            or_(
                _p.peer_id.contains(text, autoescape=True),
                *(
                    func.lower(column).contains(text, autoescape=True)
                    for column in (_a["name"], _f["name"], _p.user_agent, _p.manufacturer)
                ),
            )
        )
    if online is not None:
        wanted.append(_r.id.is_not(None) if online else _r.id.is_(None))
    total = conn.execute(select(func.count()).select_from(_FROM).where(and_(*wanted))).scalar_one()
    rows = conn.execute(
        _SELECT.where(and_(*wanted)).order_by(_p.peer_id).limit(page_size).offset((page_no - 1) * page_size)
    )
    return [_row(row) for row in rows], total


def find(conn: Connection, scope: Scope, peer_id: str) -> PeerRow | None:
    """One peer of the scope."""
    row = conn.execute(_SELECT.where(_within(scope), _p.peer_id == peer_id)).one_or_none()
    return None if row is None else _row(row)


def _within(scope: Scope) -> ColumnElement[bool]:
    """Peers that are no device in the archive (platforms, strangers to it) are for who may see everything."""
    return true() if scope.is_everything else and_(_a.device_id.is_not(None), scope_clause(scope))


def _row(row: Any) -> PeerRow:
    return PeerRow(
        _profile(row),
        name=row.device_name or row.platform_name or "",
        is_platform=row.platform_name is not None,
        is_online=row.host is not None,
        host=row.host or "",
        port=row.port or 0,
        registered_at=from_ms(row.registered_at),
        expires_at=from_ms(row.expires_at),
        last_seen_at=from_ms(row.last_seen_at),
    )


def _profile(row: Any) -> PeerProfile:
    return PeerProfile(
        **{name: getattr(row, name) for name in _TEXTS},
        transport=transport_of(row.transport),
        seen=msgspec.json.decode(row.seen, type=dict[str, Evidence]),
        words=Words(
            row.set_edition,
            row.set_charset,
            row.set_transport,
            msgspec.json.decode(row.set_quirks, type=dict[str, bool]),
        ),
        set_by=row.set_by,
        set_reason=row.set_reason,
        set_at=from_ms(row.set_at),
        before=msgspec.json.decode(row.before, type=Words) if row.before else None,
    )
