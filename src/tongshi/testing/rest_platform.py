"""A platform without cameras: record, access, REST and exchange, for tests and measurements.

Two of them exchange archives in one process, over ASGI or over real HTTP.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
from argon2 import PasswordHasher
from starlette.applications import Starlette

from tongshi.audit import http as audit_http
from tongshi.audit.recorder import AuditRecorder
from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import Unavailable
from tongshi.exchange import control_http, proofs, pull_http
from tongshi.exchange import http as exchange_http
from tongshi.exchange.client import Link
from tongshi.exchange.control import Control
from tongshi.exchange.packages import PackageInbox
from tongshi.exchange.pull import Pulls
from tongshi.exchange.sender import Sender
from tongshi.exchange.service import Exchange
from tongshi.exchange.signing import Signer
from tongshi.gateways.signalling.admission import desk as admission_gates
from tongshi.gateways.signalling.catalogue_standings import Standings
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.profiles import Profiles
from tongshi.gateways.signalling.record import RecordedRegistrations
from tongshi.gateways.signalling.recorded_archive import RecordedArchive
from tongshi.gateways.signalling.trace.book import TraceBook
from tongshi.gateways.signalling.trace.recorder import Recorder
from tongshi.ids import PlatformId
from tongshi.observe.metrics import Metrics
from tongshi.protocols import pcap
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.admission import http as admission_http
from tongshi.resources.admission import store as admission_store
from tongshi.resources.admission.service import AdmissionDesk
from tongshi.resources.alarms import http as alarms_http
from tongshi.resources.alarms.service import Alarms
from tongshi.resources.control import filter_http, filter_store, upgrade_http, upgrade_store
from tongshi.resources.control import http as control_desk_http
from tongshi.resources.control.filters import ControlFilters
from tongshi.resources.control.service import DeviceControlDesk
from tongshi.resources.control.upgrades import Upgrades
from tongshi.resources.devices import edit_http, plan_lists_http, presence_store, query_http
from tongshi.resources.devices import http as devices_http
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.asking import Asking
from tongshi.resources.devices.editing import Editing
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.ledger import http as ledger_http
from tongshi.resources.devices.ledger.service import Ledger
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.plan_lists import PlanLists
from tongshi.resources.devices.query import DeviceQueries
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.files import http as files_http
from tongshi.resources.files.service import Files
from tongshi.resources.peers import http as peers_http
from tongshi.resources.peers import line_http
from tongshi.resources.peers import store as peer_store
from tongshi.resources.peers.service import SignallingPeers
from tongshi.resources.plans import http as plans_http
from tongshi.resources.plans.members import Members
from tongshi.resources.plans.service import Plans
from tongshi.resources.platforms import http as platforms_http
from tongshi.resources.platforms import store as platform_store
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.platforms.service import Platforms
from tongshi.resources.registrations import catalogue_http
from tongshi.resources.services import http as services_http
from tongshi.resources.services import store as listing_store
from tongshi.resources.services.service import ServiceDirectory
from tongshi.resources.snapshots import http as snapshots_http
from tongshi.resources.snapshots.files import PictureFiles
from tongshi.resources.snapshots.service import Snapshots
from tongshi.resources.status import http as status_http
from tongshi.resources.status import store as status_store
from tongshi.resources.status.service import DeviceStatuses
from tongshi.resources.tags import http as tags_http
from tongshi.resources.tags.annotation import Annotations
from tongshi.resources.tags.lending import LentTags
from tongshi.resources.tags.service import TagDictionary
from tongshi.resources.traces import http as traces_http
from tongshi.resources.traces.service import Traces
from tongshi.resources.trees.service import division_names
from tongshi.resources.viewing import lock_http, lock_store
from tongshi.resources.viewing.access import SharingGuard
from tongshi.resources.viewing.locks import PtzLocks
from tongshi.sharing import http as sharing_http
from tongshi.sharing import quota_http
from tongshi.sharing.accounts import Accounts
from tongshi.sharing.answers import KeptAnswers
from tongshi.sharing.decision import Access
from tongshi.sharing.file_keys import FileKeys
from tongshi.sharing.gate import SharingGate
from tongshi.sharing.grants import Grants
from tongshi.sharing.passwords import Passwords
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.sharing.quotas import Quotas
from tongshi.storage.engine import Database
from tongshi.testing.silent_devices import SilentDevices, SilentLine
from tongshi.web import annex_e, app, system
from tongshi.web.operations import AnyOperation

PASSWORD = "Tongshi-2024"  # noqa: S105  # of accounts that live in a test


class _NobodyRegistered:
    """Signalling without a socket: there is nobody to ask for a catalogue."""

    def refresh_catalogue(self, peer_id: str) -> bool:
        return False


def _named(platforms: Platforms) -> Callable[[], Awaitable[dict[str, str]]]:
    async def names() -> dict[str, str]:
        return {known.platform.id: known.platform.name for known in await platforms.list_all()}

    return names


# A hash that protects nothing and costs nothing.
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(slots=True)
class RestPlatform:
    """One platform and its parts; ``close`` ends it."""

    id: PlatformId
    db: Database
    clock: Clock
    accounts: Accounts
    grants: Grants
    access: Access
    platforms: Platforms
    devices: DeviceArchives
    exchange: Exchange
    files: Files
    plans: Plans
    tags: TagDictionary
    pulls: Pulls
    timeline: Recorder
    standings: Standings
    snapshots: Snapshots
    upgrades: Upgrades
    alarms: Alarms
    profiles: Profiles
    admission: admission_gates.AdmissionDesk
    operations: list[AnyOperation]
    asgi: Starlette
    links: list[Link] = field(default_factory=list)

    @classmethod
    async def open(
        cls,
        platform_id: str,
        db: Database,
        clock: Clock,
        more: Callable[[Access], Sequence[AnyOperation]] = lambda access: (),
    ) -> RestPlatform:
        """Build every part over an open database; ``more`` are operations whose parts a test brings."""
        own_id = PlatformId(platform_id)
        accounts, grants, access = Accounts(db, clock, Passwords(QUICK_HASHER)), Grants(db, clock), Access(db)
        platforms = Platforms(db, platform_store, clock)
        devices = DeviceArchives(db, device_store, clock, own_id)
        exchange = Exchange(db, clock, platforms, own_id)
        # Made at the start of ``files``, which only tests of files do.
        folder = Path(tempfile.gettempdir()) / f"tongshi-files-{secrets.token_hex(8)}"
        files = Files(
            db,
            clock,
            access,
            FileKeys(db, grants),
            PackageInbox(db, exchange, platforms, grants),
            folder=folder,
            platform_id=own_id,
            feed=exchange.feed,
        )
        plans = Plans(db, clock, presence_store)
        editing = Editing(db, clock, own_id)
        metrics = Metrics()
        index = SearchIndex(db, clock, metrics.note_index_lag)
        queries, lists = DeviceQueries(db, index), PlanLists(db, index, Members())
        tags, annotations = TagDictionary(db, clock), Annotations(db, presence_store, index.refresh)
        lent = LentTags(tags, annotations)
        asking = Asking(access, lists, lent)
        pulls = Pulls(db, clock, exchange)
        timeline = Recorder(own_id, clock)
        profiles = Profiles(
            RecordedRegistrations(db, clock, own_id), Peers(), lambda: (), clock, timeline.current
        )
        book = TraceBook(timeline, clock, lambda: pcap.End("127.0.0.1", 5060), str)
        standings = Standings(clock)
        guard = SharingGuard(access, RecordedArchive(devices, access, clock, own_id), clock)
        alarms = Alarms(db, platform_store, clock, own_id)
        admission = _admission(db, clock, own_id)
        upgrades = Upgrades(db, upgrade_store, clock)
        snapshots = Snapshots(
            db,
            clock,
            guard,
            SilentDevices(),
            PictureFiles(folder / "snapshots"),
            lambda: "http://127.0.0.1",
            None,
        )
        locks = PtzLocks(db, lock_store, guard, clock)
        accounts.on_sign_out = locks.signed_out
        quotas = Quotas(db, clock)
        directory = ServiceDirectory(db, listing_store, own_id, lambda: table)
        peers = SignallingPeers(db, peer_store, profiles)
        table: list[AnyOperation] = [
            *sharing_http.operations(accounts, clock, own_id, is_cookie_secure=False),
            *quota_http.operations(quotas),
            *audit_http.operations(db),
            *platforms_http.operations(platforms, exchange, platform_id=own_id, platform_name="测试平台"),
            *devices_http.operations(devices, queries, editing, access, lent),
            *edit_http.operations(devices, editing, access),
            *query_http.operations(queries, asking, partial(division_names, db)),
            *plan_lists_http.operations(lists, queries, asking),
            *exchange_http.operations(exchange, access),
            *pull_http.operations(pulls, access),
            *files_http.operations(files),
            *proofs.operations(),
            *control_http.operations(Control(db, clock, platforms, exchange), access),
            *services_http.operations(directory),
            *ledger_http.operations(Ledger(devices, own_id, clock)),
            *plans_http.operations(plans, lent),
            *tags_http.operations(tags, annotations, queries, asking),
            *peers_http.operations(peers, access),
            *line_http.operations(peers, SilentLine(), devices, access),
            *traces_http.operations(Traces(book, devices, db), access),
            *catalogue_http.operations(
                standings, _NobodyRegistered(), devices.get_many, _named(platforms), access
            ),
            *status_http.operations(
                DeviceStatuses(db, status_store, clock, own_id, Members(), SilentDevices()), access, clock
            ),
            *lock_http.operations(locks),
            *filter_http.operations(ControlFilters(db, filter_store, clock)),
            *control_desk_http.operations(DeviceControlDesk(SilentDevices(), guard, upgrades)),
            *upgrade_http.operations(upgrades),
            *snapshots_http.operations(snapshots),
            *alarms_http.operations(alarms),
            *admission_http.operations(AdmissionDesk(db, admission_store, admission)),
            *more(access),
        ]
        table = annex_e.complete(table, Permission, AuditTag.UNBUILT_OPERATION)
        table += system.operations(table, metrics=metrics.render)
        asgi = app.build(
            table,
            gate=SharingGate(accounts, grants, clock, own_id),
            recorder=AuditRecorder(db, clock, metrics.observe),
            clock=clock,
            answers=KeptAnswers(db),
            quotas=quotas,
        )
        await accounts.prepare()
        await plans.prepare()
        await tags.prepare()
        await platforms.put(Platform(own_id, "测试平台", Relation.SELF))
        parts = (accounts, grants, access, platforms, devices, exchange, files, plans, tags, pulls, timeline)
        return cls(
            own_id,
            db,
            clock,
            *parts,
            standings,
            snapshots,
            upgrades,
            alarms,
            profiles,
            admission,
            table,
            asgi,
        )

    async def close(self) -> None:
        """Close links and the database."""
        for link in self.links:
            await link.close()
        await self.exchange.close()
        await self.db.close()

    def http(self) -> httpx2.AsyncClient:
        """A client that reaches this platform without a socket."""
        transport = httpx2.ASGITransport(app=self.asgi, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://platform")

    async def admit(
        self,
        neighbour: str,
        relation: Relation,
        secret: str,
        permissions: Iterable[Permission] = ROLES["exchange"][1],
    ) -> str:
        """Know a neighbour and give it a key. Returns the key's id."""
        await self.platforms.put(Platform(PlatformId(neighbour), f"平台{neighbour[:6]}", relation))
        key_id = f"key-{neighbour}"
        await self.grants.put_key(key_id, neighbour, secret, permissions, neighbour)
        return key_id

    def link_to(
        self, other: RestPlatform, key_id: str, secret: str, http: httpx2.AsyncClient | None = None
    ) -> Link:
        """The signed way to another platform, without a socket unless ``http`` brings one."""
        link = Link("http://platform", Signer(key_id, secret, other.id, self.clock), http or other.http())
        self.links.append(link)
        return link

    async def sender_to(self, upper: RestPlatform, secret: str = "s" * 32) -> Sender:
        """A sender to a platform above, both sides introduced to each other."""
        key_id = await upper.admit(self.id, Relation.LOWER, secret)
        await self.platforms.put(Platform(upper.id, "上级", Relation.UPPER))
        return Sender(self.db, self.clock, self.link_to(upper, key_id, secret), upper.id)


def _admission(db: Database, clock: Clock, own_id: PlatformId) -> admission_gates.AdmissionDesk:
    """Admission of a gateway with nobody registered and no sockets."""
    return admission_gates.AdmissionDesk(
        admission_gates.AdmissionConfig(),
        RecordedRegistrations(db, clock, own_id),
        clock,
        is_home=lambda host: False,
        lives_at=lambda code, remote: False,
        challenge=lambda request, source: None,
        ask=_nobody,
        end=lambda code, reason: None,
        shut_out=lambda hosts: None,
    )


async def _nobody(peer: Peer) -> DeviceInfoResponse:
    raise Unavailable("没有设备")


def sample_archives(owner: str, count: int, first: int = 1, name: str = "路口") -> list[DeviceArchive]:
    """Believable archives of one owner; equal arguments give equal archives."""
    prefix = owner[:8]
    return [
        DeviceArchive(
            item=CatalogItem(
                device_id=f"{prefix}00131{number:07d}",
                name=f"{name}{number}号摄像机",
                manufacturer="Tongshi",
                model="T1",
                civil_code=f"{prefix[:6]}{number % 20:02d}",
                address=f"人民路{number}号",
                parental=0,
                parent_ids=(owner,),
                ip_address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                port=5060,
                longitude=121.4 + number % 1000 / 10_000,
                latitude=31.2 + number % 997 / 10_000,
                ptz_type=number % 4 + 1,
                resolutions=("6", "4"),
                management_unit="某某派出所",
                contact_info="021-00000000",
                record_save_days=30,
            ),
            owner=owner,
            source=Source.MANUAL,
        )
        for number in range(first, first + count)
    ]
