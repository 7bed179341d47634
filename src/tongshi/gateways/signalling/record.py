"""Signalling's port ``Record`` fulfilled: accounts, registrations, and what a restart must find again.

Each change is one unit of work: a registration, the status it implies and the neighbour's state commit
together.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.gateways.signalling.ports import Account, StoredRegistration
from tongshi.resources.admission import store as admission_store
from tongshi.resources.admission.model import Ban, Fingerprint
from tongshi.resources.devices import store as device_store
from tongshi.resources.peers import store as peer_store
from tongshi.resources.peers.model import PeerProfile
from tongshi.resources.platforms import store as platform_store
from tongshi.resources.platforms.model import PlatformState, Relation
from tongshi.resources.registrations import open_call_store, standing_store
from tongshi.resources.registrations import store as registration_store
from tongshi.resources.registrations.model import CatalogueStanding, OpenCall, Registration
from tongshi.storage.engine import Database

ACCOUNT_CACHE_S = 5.0
MAX_CACHED_ACCOUNTS = 100_000
PUTS_AT_ONCE = 200  # registrations in one unit

_BELOW = (Relation.LOWER, Relation.LATERAL)  # who may register with us


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
