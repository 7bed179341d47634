"""A platform of a history: its database, its clock, and what its process forgets when it dies."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from tongshi.clock import ManualClock
from tongshi.exchange.service import Exchange
from tongshi.ids import PlatformId
from tongshi.resources.platforms import store as platform_store
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.platforms.service import Platforms
from tongshi.storage.engine import Database
from tongshi.storage.runner import Limits
from tongshi.testing.chaos.storm import Storm, forget, watch

_LIMITS = Limits(readers=2, patience_s=2.0)
_ROOMY_PAGES = 1 << 30


@dataclass(slots=True)
class Node:
    """One platform; ``open`` it, and ``revive`` it after its death."""

    id: str
    url: str
    clock: ManualClock = field(default_factory=ManualClock)
    db: Database = field(init=False)
    exchange: Exchange = field(init=False)
    storm: Storm = field(init=False)
    lives: int = 1

    async def open(self) -> None:
        """Start its process."""
        self.db = await Database.open(self.url, migrate=False, limits=_LIMITS)
        platforms = Platforms(self.db, platform_store, self.clock)
        self.exchange = Exchange(self.db, self.clock, platforms, self.id)
        path = self.url.rpartition("/")[2] if self.url.startswith("postgresql") else self.url[10:]
        self.storm = Storm(path, "" if self.url.startswith("postgresql") else self._next_path())
        watch(self.storm)

    async def introduce(self, neighbours: dict[str, Relation]) -> None:
        """Know who is who."""
        platforms = Platforms(self.db, platform_store, self.clock)
        for neighbour, relation in {self.id: Relation.SELF, **neighbours}.items():
            await platforms.put(Platform(PlatformId(neighbour), neighbour[:6], relation))

    async def revive(self) -> None:
        """Start again on what the death left."""
        died = self.storm
        await self.close()
        if died.image:
            self.url = f"sqlite:///{died.image}"
            _remove(died.path)
        self.lives += 1
        await self.open()

    async def close(self) -> None:
        """End its process in order."""
        await self.db.close()
        forget(self.storm)

    async def limit_disk(self, spare_pages: int | None) -> None:
        """Leave so many pages on the disk, or as many as it likes. SQLite only."""
        if self.db.dialect == "sqlite":
            await self.db.write(_limit, spare_pages)

    def step_clock(self, hours: int) -> None:
        """The wall clock jumps; the monotonic one does not."""
        self.clock.start += timedelta(hours=hours)

    def _next_path(self) -> str:
        stem = self.url[10:].partition(".life")[0]
        return f"{stem}.life{self.lives + 1}"


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)


def _limit(conn: Connection, spare_pages: int | None) -> None:
    pages: int = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
    most = _ROOMY_PAGES if spare_pages is None else pages + spare_pages
    conn.exec_driver_sql(f"PRAGMA max_page_count={most}")
