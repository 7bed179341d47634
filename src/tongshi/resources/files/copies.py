"""A SQLite file with one grantee's rows: whole or not there at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.files.table import COLUMNS, FLOATS, NUMERIC, cells


class CopyWriter:
    """Writes beside the place and moves there at the end; a reader sees the old file or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._part.unlink(missing_ok=True)
        self._part.touch(mode=0o600)
        self._db = sqlite3.connect(self._part, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=OFF")
        kinds = ", ".join(f'"{name}" {_kind(name)}' for name in COLUMNS)
        self._db.execute(f"CREATE TABLE device ({kinds}, PRIMARY KEY (DeviceID)) WITHOUT ROWID")
        self._db.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self.count = 0

    def add(self, archives: Sequence[DeviceArchive]) -> None:
        """Write rows."""
        marks = ", ".join("?" * len(COLUMNS))
        self._db.executemany(f"INSERT INTO device VALUES ({marks})", map(cells, archives))  # noqa: S608
        self.count += len(archives)

    def close(self, about: Mapping[str, str]) -> None:
        """Say what the file is and put it in its place."""
        self._db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        self._db.commit()
        self._db.close()
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._db.close()
        self._part.unlink(missing_ok=True)


def _kind(name: str) -> str:
    return "REAL" if name in FLOATS else "INTEGER" if name in NUMERIC else "TEXT"
