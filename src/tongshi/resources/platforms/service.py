"""Neighbours: who they are, and whether they are there."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import NotFound
from tongshi.resources.platforms.model import KnownPlatform, Platform, PlatformState, Relation
from tongshi.storage.engine import Database


class PlatformStore(Protocol):
    """The rows this service works on; ``store`` is one."""

    def put(self, conn: Connection, new: Platform, at: datetime, /) -> bool: ...

    def get(self, conn: Connection, platform_id: str, /) -> KnownPlatform | None: ...

    def list_all(self, conn: Connection, relation: Relation | None = None, /) -> list[KnownPlatform]: ...

    def set_state(
        self, conn: Connection, platform_id: str, state: PlatformState, at: datetime, /
    ) -> bool: ...


class Platforms:
    """This platform and its neighbours."""

    def __init__(self, db: Database, store: PlatformStore, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._clock = clock

    async def put(self, platform: Platform, by: str = "configuration") -> None:
        """Create or change a platform, for example as the configuration names it; audited when it changes."""
        await self._db.write(self._put, platform, by, self._clock.at())

    async def get(self, platform_id: str) -> KnownPlatform:
        """A platform. Raises NotFound."""
        found = await self._db.read(self._store.get, platform_id)
        if found is None:
            raise NotFound("平台不存在")
        return found

    async def find(self, platform_id: str) -> KnownPlatform | None:
        """A platform, None when nobody told us of it."""
        return await self._db.read(self._store.get, platform_id)

    async def list_all(self, relation: Relation | None = None) -> list[KnownPlatform]:
        """All platforms, or those of one relation."""
        return await self._db.read(self._store.list_all, relation)

    async def note_online(self, platform_id: str, expires_at: datetime | None = None) -> bool:
        """It registered with us, or we with it. Returns whether it was offline before."""
        at = self._clock.at()
        state = PlatformState(True, registered_at=at, last_seen_at=at, expires_at=expires_at)
        return await self._db.write(self._store.set_state, platform_id, state, at)

    async def note_offline(self, platform_id: str, error: str = "") -> bool:
        """It went away, or cannot be reached. Returns whether it was online before."""
        at = self._clock.at()
        return await self._db.write(self._offline, platform_id, error, at)

    def _offline(self, conn: Connection, platform_id: str, error: str, at: datetime) -> bool:
        known = self._store.get(conn, platform_id)
        if known is None:
            return False
        seen = known.state.last_seen_at
        return self._store.set_state(
            conn, platform_id, PlatformState(False, last_seen_at=seen, last_error=error), at
        )

    def _put(self, conn: Connection, platform: Platform, by: str, at: datetime) -> None:
        if self._store.put(conn, platform, at):
            audit.append(
                conn,
                audit.AuditEntry(
                    at,
                    AuditTag.PLATFORM_CHANGE,
                    Outcome.DONE,
                    subject_kind="system",
                    subject_name=by,
                    object_kind="platform",
                    object_id=platform.id,
                ),
            )
