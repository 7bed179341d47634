"""A neighbour's package over a one-way link: no wire, and yet the same full, with the same rules.

Implements: DB31DSJ/Z 001-2024 6.2.2

The package is signed with a key that both platforms hold, so the signer is the neighbour. What the owner
rules of ``inbox`` refuse to a push they refuse to a file; the roots of the manifest prove the full; and a
package older than what is already known of the same feed is refused, for it would take back what came since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tongshi.errors import Conflict, InvalidRequest
from tongshi.exchange import store, wire
from tongshi.exchange.model import FullBegin, FullComplete, FullPage, OwnerRoot
from tongshi.exchange.service import Exchange
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.files.model import ImportReport, Manifest
from tongshi.resources.files.package import Key
from tongshi.resources.platforms.service import Platforms
from tongshi.sharing.grants import Grants
from tongshi.storage.engine import Database

Pages = Callable[[], Awaitable[list[DeviceArchive]]]


class PackageInbox:
    """``resources.files.importing.Neighbours``."""

    def __init__(self, db: Database, exchange: Exchange, platforms: Platforms, grants: Grants) -> None:
        self._db = db
        self._exchange = exchange
        self._platforms = platforms
        self._grants = grants

    async def key_of(self, platform_id: str, key_id: str) -> Key | None:
        """The key the neighbour gave us, or one that we gave the neighbour."""
        known = await self._platforms.find(platform_id)
        if known is None:
            return None
        if known.platform.rest_secret and known.platform.rest_key == key_id:
            return Key(key_id, known.platform.rest_secret)
        key = await self._grants.find_key(key_id)
        is_theirs = key is not None and key.secret and key.platform_id == platform_id
        return Key(key_id, key.secret) if key is not None and is_theirs else None

    async def check_age(self, manifest: Manifest) -> None:
        """Raises Conflict: 40902, the package is older than what is known of its feed already."""
        peer = await self._db.read(store.get_peer, manifest.platform, store.IN)
        if peer.feed == manifest.feed and manifest.position < peer.position:
            places = f"包中位置 {manifest.position}，已收到 {peer.position}"
            raise Conflict(f"文件包早于已收到的数据（{places}），可能是重放的旧包", code=40902)

    async def take(self, manifest: Manifest, pages: Pages) -> tuple[ImportReport, list[tuple[str, int, str]]]:
        """Apply a package as a full.

        Raises:
            Conflict: 40902, it is older than what is known already.
            Forbidden: its platform may not tell us anything.
        """
        await self.check_age(manifest)
        sender = manifest.platform
        begin = FullBegin(manifest.feed, manifest.position, is_restart=True)
        opened = await self._exchange.begin_full(sender, begin)
        refused: list[tuple[str, int, str]] = []
        after, current = "", await pages()
        while True:
            following = await pages() if current else []
            last = current[-1].device_id if current else after
            page = FullPage(
                opened.snapshot_id, after, last, _encoded(current), is_last=not following, form="record"
            )
            result = await self._exchange.page(sender, page)
            refused += [(item.device_id, item.code, item.message) for item in result.rejected]
            after, current = last, following
            if page.is_last:
                break
        roots = [OwnerRoot(one.owner, one.count, one.digest) for one in manifest.owners]
        proof = FullComplete(opened.snapshot_id, manifest.position, roots)
        done = await self._exchange.complete_full(sender, proof)
        return ImportReport(dry_run=False, equal=done.equal, missing=done.missing, held=done.held), refused


def _encoded(archives: Sequence[DeviceArchive]) -> list[msgspec.Raw]:
    for archive in archives:
        if archive.revision < 1 or archive.updated_at is None:
            raise InvalidRequest(f"{archive.device_id} 缺少 version 或 updateTime", field="version")
    return [wire.encode(archive) for archive in archives]
