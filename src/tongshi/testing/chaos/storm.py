"""What strikes a database: the process dies at a statement, the disk is full, the database is away.

One hook on every statement looks up what is due for the database concerned. A death takes the files as they
are at that moment, in the middle of a transaction, as a machine finds them after ``kill -9``; the survivor is
opened on that copy. PostgreSQL loses the connection and with it the transaction.
"""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError


class Died(Exception):
    """The process of this database is gone."""


class _ShuttingDown(Exception):
    """As asyncpg tells that the server goes down."""

    sqlstate = "57P01"


@dataclass(slots=True)
class Storm:
    """What is due for one database. Numbers count statements; None is nothing.

    Attributes:
        dies_in: statements until the process dies.
        image: where a death leaves the files; empty for a database that keeps itself.
        away_for: statements that are answered "locked".
    """

    path: str
    image: str = ""
    dies_in: int | None = None
    away_for: int = 0
    is_dead: bool = False


_storms: dict[str, Storm] = {}


def watch(storm: Storm) -> None:
    """Let a storm strike the database of its path."""
    if not _storms:
        event.listen(Engine, "before_cursor_execute", _strike)
        event.listen(Engine, "commit", _strike_commit)
    _storms[storm.path] = storm


def forget(storm: Storm) -> None:
    """The database is no more."""
    if _storms.pop(storm.path, None) is not None and not _storms:
        event.remove(Engine, "before_cursor_execute", _strike)
        event.remove(Engine, "commit", _strike_commit)


def _strike(conn: Connection, _cursor: Any, statement: str, *_: Any) -> None:
    storm = _storms.get(conn.engine.url.database or "")
    if storm is None:
        return
    if storm.dies_in is not None and not storm.is_dead:
        storm.dies_in -= 1
        if storm.dies_in <= 0:
            _die(storm)
    if storm.is_dead:
        raise Died(storm.path)
    if storm.away_for > 0 and not statement.startswith(("ROLLBACK", "PRAGMA")):
        storm.away_for -= 1
        is_sqlite = conn.dialect.name == "sqlite"
        reason = sqlite3.OperationalError("database is locked") if is_sqlite else _ShuttingDown()
        raise OperationalError(statement, None, reason)


def _strike_commit(conn: Connection) -> None:
    _strike(conn, None, "COMMIT")


def _die(storm: Storm) -> None:
    storm.is_dead = True
    if storm.image:
        # The shared-memory index is not copied: a machine builds it anew from the log.
        for suffix in ("", "-wal"):
            if Path(storm.path + suffix).exists():
                shutil.copy(storm.path + suffix, storm.image + suffix)
