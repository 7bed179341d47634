"""Subscriptions' port fulfilled by the record: the change feed, and what each upper may see of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.gateways.signalling.recorded_archive import RecordedArchive, upper_item
from tongshi.gateways.signalling.subscriptions.ports import News
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import presence_store
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.service import DeviceArchives
from tongshi.storage import changes
from tongshi.storage.engine import Database

NEWS_AT_ONCE = 5_000
CODES_AT_ONCE = 10_000
_KINDS = (device_store.KIND, device_store.KIND_STATUS)


class RecordedNewsroom:
    """Fulfils ``subscriptions.ports.Newsroom``."""

    def __init__(
        self, db: Database, devices: DeviceArchives, archive: RecordedArchive, clock: Clock, self_id: str
    ) -> None:
        self._db = db
        self._devices = devices
        self._archive = archive
        self._clock = clock
        self._self_id = self_id

    async def news_position(self) -> int:
        return await self._db.read(changes.head)

    async def news_after(self, position: int) -> News:
        return await self._db.read(_news, position)

    async def told_codes(self, upper_id: str, after: str) -> Sequence[tuple[str, bool]]:
        scope = await self._archive.scope_of(upper_id)
        return await self._db.read(presence_store.after, scope, upper_id, after, CODES_AT_ONCE)

    async def told_items(self, upper_id: str, codes: Collection[str]) -> Mapping[str, CatalogItem]:
        scope = await self._archive.scope_of(upper_id)
        found = await self._devices.get_many(list(codes), scope)
        words = await self._devices.words(list(found))
        return {
            code: upper_item(archive, self._self_id, words.get(code))
            for code, archive in found.items()
            if archive.owner != upper_id and archive.missing_since is None
        }

    async def shared_nodes(self, upper_id: str) -> Sequence[CatalogItem]:
        return await self._archive.shared_nodes(upper_id)

    async def told_by(self, peer_id: str, codes: Collection[str], *, is_platform: bool) -> Collection[str]:
        found = await self._db.read(device_store.get_many, list(codes))
        if is_platform:
            words = await self._devices.words(list(found))
            owned = {code for code, archive in found.items() if archive.owner == peer_id}
            return owned | {code for code, by_teller in words.items() if peer_id in by_teller}
        return {
            code
            for code, archive in found.items()
            if archive.owner == self._self_id and (code == peer_id or peer_id in archive.item.parent_ids)
        }

    async def mark_gone(self, peer_id: str, codes: Sequence[str], *, is_platform: bool) -> int:
        if is_platform:
            return await self._devices.take_away(peer_id, codes, "GB/T 28181 DEL")
        owner = self._self_id
        return await self._db.write(_mark_gone, owner, peer_id, codes, self._clock)


def _news(conn: Connection, position: int) -> News:
    noted = changes.read_after(conn, position, NEWS_AT_ONCE, _KINDS)
    is_last = len(noted) < NEWS_AT_ONCE
    reached = max(position, changes.head(conn)) if is_last else noted[-1].seq
    rows, states = (
        tuple(dict.fromkeys(change.key for change in noted if change.kind == kind)) for kind in _KINDS
    )
    return News(reached, rows, states, is_last)


def _mark_gone(conn: Connection, owner: str, peer_id: str, codes: Sequence[str], clock: Clock) -> int:
    at = clock.at()
    marked = device_store.mark_missing(conn, owner, codes, at, peer_id)
    if marked:
        audit.append(
            conn,
            audit.AuditEntry(
                at,
                AuditTag.ARCHIVE_MISSING,
                Outcome.DONE,
                subject_kind="platform",
                subject_id=peer_id,
                object_kind="platform",
                object_id=owner,
                details={"count": marked, "proof": "GB/T 28181 DEL"},
            ),
        )
    return marked
