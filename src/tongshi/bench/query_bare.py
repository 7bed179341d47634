"""The bare statements that ``tongshi bench query`` stands beside: a driver's connection, nothing of ours.

They fetch the same columns of the same rows by the same indexes, in one statement, and count the archives
without a position as an answer does; the words' question is put to the index as we put it.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Protocol

import asyncpg
from sqlalchemy.engine import make_url

from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.query_store import _as_fts5, _as_tsquery
from tongshi.resources.devices.search_terms import Match, needle
from tongshi.storage.schema import PLACELESS
from tongshi.storage.sqlite import MAP_BYTES

_COLUMNS = (
    "a.device_id, a.name, a.civil_code, a.owner_platform, a.revision, a.longitude, a.latitude, a.ptz_type, "
    "a.point_type, a.is_controllable, a.is_networked, a.industries, t.is_online"
)
_GRANTED = "a.civil_code >= '3101' AND a.civil_code < '3102' AND a.missing_since IS NULL"
_STATUS = "LEFT JOIN device_status t ON t.device_id = a.device_id"
_UNPLACED = f"SELECT count(*) FROM device_archive a WHERE {_GRANTED} AND ({PLACELESS})"  # noqa: S608


class Bare(Protocol):
    """One connection of a driver."""

    async def box(self, box: Box, limit: int) -> list[Any]:
        """Rows in a box in order of their number."""
        ...

    async def search(self, keyword: str, limit: int) -> list[Any]:
        """The first rows of a keyword in order of id."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


async def connect(url: str) -> Bare:
    """A connection to ``sqlite:///file`` or ``postgresql://...``."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _BareSqlite(parsed.database or "")
    return _BarePostgresql(await asyncpg.connect(url))


class _BareSqlite:
    _BOX = f"""
        SELECT a.device_id, a.shown, t.is_online, a.number FROM device_box b
        CROSS JOIN device_search a ON a.number = b.number {_STATUS}
        WHERE b.east >= ?1 AND b.west <= ?2 AND b.north >= ?3 AND b.south <= ?4
        AND a.longitude BETWEEN ?1 AND ?2 AND a.latitude BETWEEN ?3 AND ?4 AND {_GRANTED}
        ORDER BY a.number LIMIT ?5
    """  # noqa: S608
    _SEARCH = f"""
        SELECT {_COLUMNS} FROM device_search s
        CROSS JOIN device_archive a ON a.device_id = s.device_id {_STATUS}
        WHERE s.number IN (SELECT rowid FROM device_terms WHERE device_terms MATCH ?1)
        AND (instr(s.text, ?2) > 0 OR instr(s.initials, ?2) > 0) AND {_GRANTED}
        ORDER BY a.device_id LIMIT ?3
    """  # noqa: S608

    def __init__(self, path: str) -> None:
        self._conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._conn.execute(f"PRAGMA mmap_size={MAP_BYTES}")

    async def box(self, box: Box, limit: int) -> list[Any]:
        values = (box.west, box.east, box.south, box.north, limit + 1)
        rows = self._conn.execute(self._BOX, values).fetchall()
        self._conn.execute(_UNPLACED).fetchall()
        return rows

    async def search(self, keyword: str, limit: int) -> list[Any]:
        asked = needle(keyword, Match.CONTAINS)
        assert asked is not None
        values = (_as_fts5(asked.asked), asked.whole, limit + 1)
        return self._conn.execute(self._SEARCH, values).fetchall()

    async def close(self) -> None:
        self._conn.close()


class _BarePostgresql:
    _BOX = f"""
        SELECT a.device_id, a.shown, t.is_online, a.number FROM device_search a {_STATUS}
        WHERE a.longitude IS NOT NULL
        AND point(a.longitude, a.latitude) <@ box(point($1, $3), point($2, $4))
        AND a.longitude BETWEEN $1 AND $2 AND a.latitude BETWEEN $3 AND $4 AND {_GRANTED}
        ORDER BY a.number LIMIT $5
    """  # noqa: S608
    _SEARCH = f"""
        SELECT {_COLUMNS} FROM device_search s
        JOIN device_archive a ON a.device_id = s.device_id {_STATUS}
        WHERE s.number IN (SELECT number FROM device_terms WHERE terms @@ CAST($1 AS tsquery))
        AND (strpos(s.text, $2) > 0 OR strpos(s.initials, $2) > 0) AND {_GRANTED}
        ORDER BY a.device_id LIMIT $3
    """  # noqa: S608

    def __init__(self, conn: asyncpg.Connection[asyncpg.Record]) -> None:
        self._conn = conn

    async def box(self, box: Box, limit: int) -> list[Any]:
        values = (box.west, box.east, box.south, box.north, limit + 1)
        rows = await self._conn.fetch(self._BOX, *values)
        await self._conn.fetch(_UNPLACED)
        return rows

    async def search(self, keyword: str, limit: int) -> list[Any]:
        asked = needle(keyword, Match.CONTAINS)
        assert asked is not None
        return await self._conn.fetch(self._SEARCH, _as_tsquery(asked.asked), asked.whole, limit + 1)

    async def close(self) -> None:
        await self._conn.close()
