"""Upgrades that people ordered, and how each ended by the word of its device.

Implements: GB/T 28181-2022 9.13
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.protocols.gb28181.device_notify import FAILURES, DeviceUpgradeResult
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Scope, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

MAX_UPGRADES: Final = 100_000  # past this the oldest go


@dataclass(frozen=True, slots=True)
class Upgrade:
    """One upgrade; ``has_succeeded`` is None until the device has said. ``running``: its own word."""

    id: str
    device_id: str
    subject_kind: str
    subject_id: str
    subject_name: str
    firmware: str
    manufacturer: str
    ordered_at: datetime
    name: str = ""
    ended_at: datetime | None = None
    has_succeeded: bool | None = None
    running: str = ""
    reason: str = ""


class Store(Protocol):
    """Where upgrades are kept (``upgrade_store.py``)."""

    def add(self, conn: Connection, new: Upgrade, /) -> None: ...
    def end(
        self,
        conn: Connection,
        upgrade_id: str,
        device_id: str,
        has_succeeded: bool,
        running: str,
        reason: str,
        at: datetime,
        /,
    ) -> bool: ...
    def page(
        self, conn: Connection, scope: Scope, device_id: str, page_no: int, page_size: int, /
    ) -> tuple[list[Upgrade], int]: ...


class Upgrades:
    """Upgrades of this platform."""

    def __init__(self, db: Database, store: Store, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._clock = clock

    async def begin(
        self, subject: Subject, device_id: str, session_id: str, firmware: str, manufacturer: str
    ) -> None:
        """Note an upgrade before it is ordered: its end may come before the answer to the order."""
        new = Upgrade(
            session_id,
            device_id,
            subject.kind.value,
            subject.id,
            subject.name,
            firmware,
            manufacturer,
            self._clock.at(),
        )
        await self._db.write(self._store.add, new)

    async def failed(self, device_id: str, session_id: str, reason: str) -> None:
        """The device was not reached, or refused."""
        await self._db.write(self._store.end, session_id, device_id, False, "", reason, self._clock.at())

    async def ended(self, told: DeviceUpgradeResult) -> None:
        """The device's word; nothing happens when the upgrade is none of ours."""
        reason = "" if told.has_succeeded else FAILURES.get(told.failed_reason or "", "设备未说明原因")
        await self._db.write(
            self._store.end,
            told.session_id,
            told.device_id,
            told.has_succeeded,
            told.firmware,
            reason,
            self._clock.at(),
        )

    async def page(
        self, subject: Subject, device_id: str, page_no: int, page_size: int, context: Context
    ) -> tuple[list[Upgrade], int]:
        """One page of what the subject may see, the latest first."""

        def read(conn: Connection) -> tuple[list[Upgrade], int]:
            scope = scope_of(conn, subject, Permission.STATUS_READ, context)
            return self._store.page(conn, scope, device_id, page_no, page_size)

        return await self._db.read(read)
