"""Drained media nodes in the database."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from tongshi.storage.schema import media_node_drain
from tongshi.storage.times import from_ms, to_ms

_c = media_node_drain.c


def drained(conn: Connection) -> dict[str, datetime]:
    """Names and since when."""
    return {row.name: from_ms(row.since_at) for row in conn.execute(select(media_node_drain))}


def keep(conn: Connection, name: str, since: datetime) -> None:
    """Note that a node is drained; it must not be noted yet."""
    conn.execute(insert(media_node_drain).values(name=name, since_at=to_ms(since)))


def forget(conn: Connection, names: Collection[str]) -> None:
    """They are drained no more."""
    conn.execute(delete(media_node_drain).where(_c.name.in_(names)))
