"""Listings in the database."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from tongshi.errors import LimitExceeded
from tongshi.resources.services.model import MAX_LISTINGS, Listing
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import published_service
from tongshi.storage.text import storable
from tongshi.storage.times import from_ms, to_ms

_NAMES = tuple(f.name for f in fields(Listing) if f.name != "updated_at")
_s = published_service.c


def put(conn: Connection, listing: Listing, at: datetime) -> None:
    """Create or replace a listing. Raises LimitExceeded beyond ``MAX_LISTINGS``."""
    if get(conn, listing.code) is None:
        count = conn.execute(select(func.count()).select_from(published_service)).scalar_one()
        if count >= MAX_LISTINGS:
            raise LimitExceeded(f"服务目录最多登记 {MAX_LISTINGS} 项", code=42903)
    values = (getattr(listing, name) for name in _NAMES)
    row = tuple(storable(value) if isinstance(value, str) else value for value in values)
    bulk_upsert(conn, published_service, (*_NAMES, "updated_at"), [(*row, to_ms(at))])


def get(conn: Connection, code: str) -> Listing | None:
    """One listing."""
    row = conn.execute(select(published_service).where(_s.code == code)).one_or_none()
    return None if row is None else _listing(row)


def list_all(conn: Connection) -> list[Listing]:
    """Every listing in order of code; at most ``MAX_LISTINGS``."""
    return [_listing(row) for row in conn.execute(select(published_service).order_by(_s.code))]


def _listing(row: Any) -> Listing:
    return Listing(**{name: getattr(row, name) for name in _NAMES}, updated_at=from_ms(row.updated_at))
