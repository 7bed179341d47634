"""The archive as signalling asks it: what peers tell goes in, what an upper may see goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from tongshi.clock import Clock
from tongshi.gateways.signalling.ports import DeviceSummary, Wanted
from tongshi.protocols.gb28181.codes import ItemKind, kind_of, normalise_civil_code
from tongshi.protocols.gb28181.items import conforming
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.devices.model import DeviceArchive, Placed, Word
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.trees.service import Trees
from tongshi.resources.viewing.ports import DeviceFact
from tongshi.sharing.decision import Access
from tongshi.sharing.model import Context, Scope, Subject, SubjectKind
from tongshi.sharing.permissions import Permission

SHARED_PAGE = 20_000

_UPPER_MAY = frozenset(
    {
        Permission.ARCHIVE_READ,
        Permission.VIDEO_LIVE,
        Permission.PTZ_CONTROL,
        Permission.BROADCAST,
        Permission.ALARM_READ,
        Permission.VIDEO_PLAYBACK,
        Permission.VIDEO_DOWNLOAD,
        Permission.STATUS_READ,
        Permission.DEVICE_COMMAND,
        Permission.DEVICE_CONFIG,
        Permission.DEVICE_MAINTAIN,
    }
)


def platform_subject(platform_id: str, name: str = "") -> Subject:
    """A neighbour that asks by signalling; grants say which devices."""
    return Subject(SubjectKind.PLATFORM, platform_id, name or platform_id, permissions=_UPPER_MAY)


class RecordedArchive:
    """Fulfils ``ports.Archive`` and ``viewing.ports.DeviceFacts``. Without ``trees`` nodes are not kept."""

    def __init__(
        self,
        devices: DeviceArchives,
        access: Access,
        clock: Clock,
        self_id: str,
        trees: Trees | None = None,
    ) -> None:
        self._devices = devices
        self._trees = trees
        self._access = access
        self._clock = clock
        self._self_id = self_id

    async def merge_catalogue(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None:
        await self._devices.merge_catalogue(peer_id, items, is_platform=is_platform)

    async def merge_nodes(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None:
        if self._trees is not None:
            await self._trees.merge_nodes(peer_id if is_platform else self._self_id, peer_id, items)

    async def note_status(self, online: dict[str, bool], source: str, reason: str) -> None:
        await self._devices.note_status(online, source, reason)

    async def find(self, device_id: str) -> DeviceSummary | None:
        archive = await self._devices.find(device_id)
        return None if archive is None else self._summary(archive)

    async def find_shared(self, upper_id: str, device_id: str) -> DeviceSummary | None:
        scope = await self.scope_of(upper_id)
        found = (await self._devices.get_many([device_id], scope)).get(device_id)
        return None if found is None else self._summary(found)

    async def shared_codes(self, upper_id: str, wanted: Wanted) -> tuple[tuple[str, ...], bool]:
        scope = await self.scope_of(upper_id)
        named = next(iter(wanted.below)) if len(wanted.below) == 1 else ""
        codes: list[str] = []
        after, is_matched = "", False
        while page := await self._devices.placed(scope, after, SHARED_PAGE, named):
            after = page[-1].device_id
            matching = [row for row in page if row.owner != upper_id and _is_placed(row, wanted)]
            is_matched = is_matched or bool(matching)
            codes += [row.device_id for row in matching if _is_timely(row, wanted)]
            if len(page) < SHARED_PAGE:
                break
        return tuple(codes), is_matched

    async def shared_items(self, upper_id: str, codes: Sequence[str]) -> list[CatalogItem]:
        found = await self._devices.get_many(codes, await self.scope_of(upper_id))
        words = await self._devices.words(list(found))
        return [
            upper_item(found[code], self._self_id, words.get(code))
            for code in codes
            if code in found and found[code].owner != upper_id
        ]

    async def shared_nodes(self, upper_id: str) -> list[CatalogItem]:
        if self._trees is None:
            return []
        nodes = await self._trees.shared(await self.scope_of(upper_id), self._self_id)
        return [node for node in nodes if node.device_id != upper_id]

    async def fact(self, device_id: str) -> DeviceFact | None:
        """What an access decision and a control command must know."""
        archive = await self._devices.find(device_id)
        if archive is None:
            return None
        return DeviceFact(archive.item.civil_code, archive.owner, archive.ext.is_controllable)

    async def scope_of(self, upper_id: str) -> Scope:
        """What an upper platform may see."""
        context = Context(self._clock.at())
        return await self._access.scope(platform_subject(upper_id), Permission.ARCHIVE_READ, context)

    def _summary(self, archive: DeviceArchive) -> DeviceSummary:
        item = archive.item
        via = item.parent_ids if archive.owner == self._self_id else (*item.parent_ids, archive.owner)
        return DeviceSummary(item.device_id, item.name, item.manufacturer, item.model, archive.online, via)


def upper_item(archive: DeviceArchive, self_id: str, words: Mapping[str, Word] | None = None) -> CatalogItem:
    """What goes up has every mandatory field and a valid division, whatever the device told of itself.

    A device that several lower platforms tell of is one item, its parents those of all (H.2.1): first those
    that its owner names.
    """
    parents = _parents(item := archive.item, archive.owner or self_id)
    for teller, word in (words or {}).items():
        if teller != archive.owner:
            parents += _parents(replace(item, parent_ids=word.parent_ids), teller)
    status = DeviceStatus.ON if archive.online else DeviceStatus.OFF
    return conforming(
        replace(
            item,
            status=status,
            parent_ids=tuple(dict.fromkeys(parents)),
            civil_code=normalise_civil_code(item.civil_code) or normalise_civil_code(item.device_id[:10]),
        )
    )


def _parents(item: CatalogItem, owner: str) -> tuple[str, ...]:
    """A device names its parent device or its system, and the organisation beside it (Annex J h)."""
    organisations = (ItemKind.BUSINESS_GROUP, ItemKind.VIRTUAL_ORGANISATION)
    if any(kind_of(parent) not in organisations for parent in item.parent_ids):
        return item.parent_ids
    return (owner, *item.parent_ids)


def _is_placed(row: Placed, wanted: Wanted) -> bool:
    """Whether a device lies where the query asks."""
    if wanted.division:
        code = normalise_civil_code(row.civil_code) or normalise_civil_code(row.device_id[:10])
        return code.startswith(wanted.division)
    if wanted.below:
        return row.device_id in wanted.below or not wanted.below.isdisjoint(row.parent_ids)
    return True


def _is_timely(row: Placed, wanted: Wanted) -> bool:
    """Changed since; and not known to be newer: of a later revision nobody knows when the first was told."""
    if wanted.since is not None and row.updated_at < wanted.since:
        return False
    return wanted.until is None or row.revision > 1 or row.updated_at <= wanted.until
