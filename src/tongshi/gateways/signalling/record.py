"""Signalling's ports fulfilled by the record: accounts, registrations, archives.

Each change is one unit of work: a registration, the status it implies and the neighbour's state commit
together.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.gateways.signalling.ports import Account, DeviceSummary, StoredRegistration, Wanted
from tongshi.protocols.gb28181.codes import ItemKind, kind_of, normalise_civil_code
from tongshi.protocols.gb28181.items import conforming
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.admission import store as admission_store
from tongshi.resources.admission.model import Ban, Fingerprint
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.model import DeviceArchive, Placed, Word
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.peers import store as peer_store
from tongshi.resources.peers.model import PeerProfile
from tongshi.resources.platforms import store as platform_store
from tongshi.resources.platforms.model import PlatformState, Relation
from tongshi.resources.registrations import open_call_store, standing_store
from tongshi.resources.registrations import store as registration_store
from tongshi.resources.registrations.model import CatalogueStanding, OpenCall, Registration
from tongshi.resources.trees.service import Trees
from tongshi.resources.viewing.ports import DeviceFact
from tongshi.sharing.decision import Access
from tongshi.sharing.model import Context, Scope, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

ACCOUNT_CACHE_S = 5.0
MAX_CACHED_ACCOUNTS = 100_000
PUTS_AT_ONCE = 200  # registrations in one unit
SHARED_PAGE = 20_000

_BELOW = (Relation.LOWER, Relation.LATERAL)  # who may register with us
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


@dataclass(frozen=True, slots=True)
class _Put:
    """A registration on its way into the record, and who waits for it."""

    registration: StoredRegistration
    is_refresh: bool
    done: asyncio.Future[None]


class RecordedRegistrations:
    """Fulfils ``ports.Record``.

    Accounts are cached for a few seconds: devices that come back together after an outage ask for the same
    domain. Registrations that come while one is written go into the next unit together: a first one has
    a status, the change feed and the audit chain to write, and many cost hardly more than one.
    """

    def __init__(self, db: Database, clock: Clock, self_id: str) -> None:
        self._db = db
        self._clock = clock
        self._self_id = self_id
        self._accounts: OrderedDict[str, tuple[float, Account | None]] = OrderedDict()
        self._puts: list[_Put] = []
        self._putting: asyncio.Task[None] | None = None

    async def account(self, peer_id: str, username: str) -> Account | None:
        now = self._clock.now()
        until, account = self._accounts.get(peer_id, (0.0, None))
        if until <= now:
            account = await self._db.read(_find_account, peer_id)
            self._accounts[peer_id] = (now + ACCOUNT_CACHE_S, account)
            self._accounts.move_to_end(peer_id)
            while len(self._accounts) > MAX_CACHED_ACCOUNTS:
                self._accounts.popitem(last=False)
        if account is None or account.username not in ("", username):
            return None
        return account

    async def put(self, registration: StoredRegistration, *, is_refresh: bool) -> None:
        put = _Put(registration, is_refresh, asyncio.get_running_loop().create_future())
        self._puts.append(put)
        if self._putting is None:
            self._putting = asyncio.get_running_loop().create_task(self._put_waiting())
        await put.done

    async def remove(self, peer_id: str, channel_ids: Sequence[str], at: datetime, reason: str) -> None:
        before = [put.done for put in self._puts if put.registration.peer_id == peer_id]
        if before:
            await asyncio.wait(before)
        await self._db.write(_remove, peer_id, channel_ids, at, reason, self._self_id)

    async def heard(self, seen: Mapping[str, datetime]) -> None:
        await self._db.write(registration_store.touch, list(seen.items()))

    async def stored(self, at: datetime) -> Sequence[StoredRegistration]:
        return await self._db.read(_stored, at)

    async def admissions(self, at: datetime) -> tuple[Sequence[Ban], Sequence[Fingerprint]]:
        return await self._db.read(_admissions, at)

    async def note_admissions(self, bans: Sequence[Ban], fingerprints: Sequence[Fingerprint]) -> None:
        await self._db.write(_note_admissions, bans, fingerprints)

    async def note_calls(self, opened: Sequence[OpenCall], ended: Sequence[str]) -> None:
        await self._db.write(open_call_store.note, opened, ended)

    async def left_open(self, since: datetime) -> Sequence[OpenCall]:
        return await self._db.write(open_call_store.take_left, since)

    async def put_standings(self, standings: Sequence[CatalogueStanding]) -> None:
        await self._db.write(standing_store.put, standings)

    async def standings(self, since: datetime, limit: int) -> Sequence[CatalogueStanding]:
        return await self._db.write(standing_store.take, since, limit)

    async def put_profiles(self, profiles: Sequence[PeerProfile]) -> None:
        await self._db.write(peer_store.put_facts, profiles, self._clock.at())

    async def profiles_after(self, peer_id: str) -> Sequence[PeerProfile]:
        return await self._db.read(peer_store.after, peer_id)

    async def _put_waiting(self) -> None:
        try:
            while self._puts:
                batch, self._puts = self._puts[:PUTS_AT_ONCE], self._puts[PUTS_AT_ONCE:]
                await self._put_batch(batch)
        finally:
            self._putting = None

    async def _put_batch(self, batch: Sequence[_Put]) -> None:
        """One unit for all; when it fails each alone, so that nobody pays for another's."""
        try:
            await self._db.write(_put, batch, self._self_id)
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
            if len(batch) > 1:
                for put in batch:
                    await self._put_batch((put,))
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        for put in batch:
            if not put.done.done():
                put.done.set_result(None)


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


def _find_account(conn: Connection, peer_id: str) -> Account | None:
    """A neighbour's own account goes before any device account with the same digits."""
    known = platform_store.get(conn, peer_id)
    if known is not None:
        platform = known.platform
        if not platform.is_enabled or platform.relation not in _BELOW or not platform.secret:
            return None
        return Account(platform.username, platform.secret, is_platform=True)
    found = registration_store.find_account(conn, peer_id)
    return None if found is None or not found.secret else Account(found.username, found.secret)


def _put(conn: Connection, puts: Sequence[_Put], self_id: str) -> None:
    online: dict[str, bool] = {}
    entries: list[audit.AuditEntry] = []
    for put in puts:
        new, at = put.registration, put.registration.last_seen_at
        registration_store.put(
            conn,
            Registration(
                id=new.peer_id,
                host=new.host,
                port=new.port,
                transport=new.transport,
                registered_at=new.registered_at,
                expires_at=new.expires_at,
                last_seen_at=at,
                contact=new.contact,
                call_id=new.call_id,
                user_agent=new.user_agent,
                edition=new.edition,
            ),
        )
        if new.is_platform:
            state = PlatformState(True, registered_at=at, last_seen_at=at, expires_at=new.expires_at)
            platform_store.set_state(conn, new.peer_id, state, at)
        elif not put.is_refresh:
            online[new.peer_id] = True
        if not put.is_refresh:
            entries.append(
                audit.AuditEntry(
                    at,
                    AuditTag.PEER_REGISTER,
                    Outcome.DONE,
                    subject_kind="platform" if new.is_platform else "device",
                    subject_id=new.peer_id,
                    address=new.host,
                )
            )
    if online:
        at = max(put.registration.last_seen_at for put in puts)
        device_store.set_statuses(conn, online, "register", at, "", self_id)
    if entries:
        audit.append_many(conn, entries)


def _remove(
    conn: Connection, peer_id: str, channel_ids: Sequence[str], at: datetime, reason: str, self_id: str
) -> None:
    registration_store.remove(conn, peer_id)
    known = platform_store.get(conn, peer_id)
    if known is not None:
        # What is below a silent platform is unknown, not off: its devices keep the status they had.
        seen = known.state.last_seen_at
        platform_store.set_state(
            conn, peer_id, PlatformState(False, last_seen_at=seen, last_error=reason), at
        )
    else:
        offline = dict.fromkeys((peer_id, *channel_ids), False)
        device_store.set_statuses(conn, offline, "keepalive", at, reason, self_id)


def _admissions(conn: Connection, at: datetime) -> tuple[list[Ban], list[Fingerprint]]:
    bans = admission_store.list_bans(conn, at - admission_store.KEPT_AFTER_END)
    fingerprints: list[Fingerprint] = []
    after = ""
    while page := admission_store.list_fingerprints(conn, after):
        after = page[-1].code
        fingerprints += page
    return bans, fingerprints


def _note_admissions(conn: Connection, bans: Sequence[Ban], fingerprints: Sequence[Fingerprint]) -> None:
    admission_store.put_bans(conn, bans)
    admission_store.put_fingerprints(conn, fingerprints)


def _stored(conn: Connection, at: datetime) -> list[StoredRegistration]:
    found: list[StoredRegistration] = []
    below = {p.platform.id for p in platform_store.list_all(conn) if p.platform.relation in _BELOW}
    after = ""
    while page := registration_store.list_alive(conn, at, after):
        after = page[-1].id
        found += [
            StoredRegistration(
                peer_id=row.id,
                host=row.host,
                port=row.port,
                transport=row.transport,
                contact=row.contact,
                call_id=row.call_id,
                user_agent=row.user_agent,
                edition=row.edition,
                registered_at=row.registered_at,
                expires_at=row.expires_at,
                last_seen_at=row.last_seen_at,
                is_platform=row.id in below,
            )
            for row in page
        ]
    return found
