"""Which devices a file has named already: exact, however long the file, in memory that does not grow.

SQLite keeps the ids in a file of its own that has no name and goes with the connection. A file in the order
of DeviceID, as exports are, is never searched: what is larger than everything before cannot be there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

# KiB of pages kept in memory.
_CACHE_KIB = 8_192


class Doubles:
    """Device ids seen so far."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for setting in (f"cache_size=-{_CACHE_KIB}", "journal_mode=OFF", "synchronous=OFF"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._last = ""

    def add(self, ids: Sequence[str]) -> set[str]:
        """Note ids, each once. Returns those that were noted before."""
        known: set[str] = set()
        if ids and min(ids) <= self._last:
            asked = msgspec.json.encode(ids).decode()
            found = self._db.execute(
                "SELECT id FROM seen WHERE id IN (SELECT value FROM json_each(?))", (asked,)
            )
            known = {row[0] for row in found}
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((one,) for one in ids))
        self._db.execute("COMMIT")
        self._last = max([self._last, *ids])
        return known

    def close(self) -> None:
        """Forget them."""
        self._db.close()
