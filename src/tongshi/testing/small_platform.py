"""A small platform for tests: SQLite, signalling, viewing and the native engine; no REST, no exchange.

Not here: the real composition (``app.py``).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tongshi._media import Engine
from tongshi.clock import SystemClock
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.farm import Farm, FarmPlan
from tongshi.gateways.media.player import OwnCentre
from tongshi.gateways.media.recorder import Recorder, Rhythm
from tongshi.gateways.media.recording_files import Shelves
from tongshi.gateways.media.rtsp_ports import PortRange
from tongshi.gateways.media.rtsp_server import RtspServer
from tongshi.gateways.media.spool import FileSpools
from tongshi.gateways.media.transcoder.pool import Transcoders
from tongshi.gateways.media.uplink import Uplinks
from tongshi.gateways.media.viewer_server import ViewerServer
from tongshi.gateways.signalling.admission.desk import AdmissionConfig
from tongshi.gateways.signalling.alarms import Persistence
from tongshi.gateways.signalling.broadcast import Waits
from tongshi.gateways.signalling.catalogues import Patience
from tongshi.gateways.signalling.config import GatewayConfig
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.gateway import SignallingGateway
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.gateways.signalling.record import RecordedRegistrations
from tongshi.gateways.signalling.record_search import SearchPatience
from tongshi.gateways.signalling.recorded_archive import RecordedArchive
from tongshi.gateways.signalling.registrar import Redirect
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionSettings
from tongshi.gateways.signalling.subscriptions.record import RecordedNewsroom
from tongshi.gateways.signalling.tls import TlsPlan
from tongshi.gateways.signalling.upward import UpperAccount
from tongshi.gateways.snapshots.receiver import SnapshotReceiver
from tongshi.ids import PlatformId
from tongshi.resources.alarms.service import Alarms
from tongshi.resources.control import filter_store, upgrade_store
from tongshi.resources.control.filters import ControlFilters
from tongshi.resources.control.service import DeviceControlDesk
from tongshi.resources.control.undertakings import Undertakings
from tongshi.resources.control.upgrades import Upgrades
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.platforms import store as platform_store
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.recordings.ports import RemoteFiles
from tongshi.resources.recordings.record import RecordingRecord
from tongshi.resources.registrations import store as registration_store
from tongshi.resources.registrations.model import SipAccount
from tongshi.resources.snapshots.files import PictureFiles
from tongshi.resources.snapshots.service import Snapshots
from tongshi.resources.viewing import lock_store
from tongshi.resources.viewing.access import SharingGuard
from tongshi.resources.viewing.history import HistoryViewing
from tongshi.resources.viewing.locks import PtzLocks
from tongshi.resources.viewing.model import Timeouts, Transport
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.ptz import PtzControl
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.voice import Voice
from tongshi.sharing import store as sharing_store
from tongshi.sharing.decision import Access
from tongshi.sharing.model import Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import DEVICE_ACTIONS, Permission
from tongshi.storage.engine import Database

HOST = "127.0.0.1"
RTSP_UDP_PORTS = (21_000, 21_399)  # below what the system gives away by itself; several platforms share them
ACTIONS = frozenset(
    {
        Permission.ARCHIVE_READ,
        Permission.VIDEO_LIVE,
        Permission.PTZ_CONTROL,
        Permission.BROADCAST,
        Permission.ALARM_READ,
        Permission.VIDEO_PLAYBACK,
        Permission.VIDEO_DOWNLOAD,
    }
)
ALL_ACTIONS = frozenset(DEVICE_ACTIONS)
QUICK = Timeouts(
    answer_s=2.5, first_packet_s=2.0, first_key_frame_s=4.0, media_lost_s=2.0, linger_s=0.2, sweep_s=0.2
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A platform beside, with the secret that it or we register with."""

    id: str
    relation: Relation
    secret: str
    port: int = 0
    media_transport: Transport = Transport.UDP
    sip_transport: Literal["udp", "tcp", "tls"] = "udp"


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """What a small platform is; rhythms are those of a hurried test."""

    id: str
    name: str = "测试平台"
    civil_code: str = "310101"
    device_secret: str = "gb-2022"  # noqa: S105  # of a test
    neighbours: Sequence[Neighbour] = ()
    timeouts: Timeouts = field(default_factory=lambda: QUICK)
    beat: Beat = field(default_factory=lambda: Beat(0.3, 6))
    port: int = 0
    tls: TlsPlan | None = None
    voice_waits: Waits = field(default_factory=Waits)
    persistence: Persistence = field(default_factory=lambda: Persistence(2.0, (0.05, 0.05)))
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    redirects: tuple[Redirect, ...] = ()
    subscriptions: SubscriptionSettings = field(default_factory=SubscriptionSettings)
    farm: FarmPlan = field(default_factory=FarmPlan)
    recording: Rhythm = field(default_factory=lambda: Rhythm(2.0, look_s=0.2, retry_s=0.3, sweep_s=0.5))
    min_free_bytes: int = 0
    remote_files: RemoteFiles | None = None
    rtp_shared_port: int = 0


class SmallPlatform:
    """One platform; ``viewer`` may watch and turn everything."""

    def __init__(self, plan: PlatformPlan, db: Database, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.db = db
        self.clock = SystemClock()
        access = Access(db)
        self.devices = DeviceArchives(db, device_store, self.clock, plan.id)
        archive = RecordedArchive(self.devices, access, self.clock, plan.id)
        self.gateway = SignallingGateway(
            GatewayConfig(
                platform_id=PlatformId(plan.id),
                name=plan.name,
                civil_code=plan.civil_code,
                host=HOST,
                port=plan.port,
                beat=plan.beat,
                admission=plan.admission,
                redirects=plan.redirects,
                uppers=tuple(self._uppers()),
                media_transports=tuple((n.id, n.media_transport) for n in plan.neighbours),
                voice_waits=plan.voice_waits,
                patience=Patience(idle_s=2.0, total_s=10.0, retries=1, retry_s=0.2),
                search_patience=SearchPatience(idle_s=0.6, total_s=5.0),
                subscriptions=plan.subscriptions,
                tls=plan.tls,
            ),
            RecordedRegistrations(db, self.clock, plan.id),
            archive,
            RecordedNewsroom(db, self.devices, archive, self.clock, plan.id),
            self.clock,
        )
        guard = SharingGuard(access, archive, self.clock)
        self._native = Engine(webrtc_host=HOST)
        self.engine = AsyncEngine(self._native, HOST, shared_port=plan.rtp_shared_port)
        self.transcoders = Transcoders(1)
        self.farm = Farm(self.engine, plan.farm, lambda: self.viewing.tickets, self.clock)
        self.record = RecordingRecord(db, self.clock, plan.id)
        self.shelves = Shelves(folder / "recordings", plan.remote_files, plan.min_free_bytes)
        self.centre = OwnCentre(self.record, self.shelves, self.clock, plan.id)
        self.viewing = Viewing(
            signalling=self.gateway.downward,
            engine=self.farm.nodes,
            guard=guard,
            clock=self.clock,
            base_url=lambda: f"http://{HOST}:{self.server.port}",
            rtsp_url=lambda: f"rtsp://{HOST}:{self.rtsp.port}",
            timeouts=plan.timeouts,
            spools=FileSpools(folder / "downloads"),
            timeline=self.gateway.timeline,
            transcoder=self.transcoders,
            centre=self.centre,
        )
        self.upgrades = Upgrades(db, upgrade_store, self.clock)
        self.desk = DeviceControlDesk(self.gateway.orders, guard, self.upgrades)
        self.snapshots = Snapshots(
            db,
            self.clock,
            guard,
            self.gateway.orders,
            PictureFiles(folder / "snapshots"),
            lambda: self.receiver.url,
            self.viewing,
        )
        self.receiver = SnapshotReceiver(self.snapshots, HOST, 0, 10 << 20)
        self.recorder = Recorder(self.viewing, self.record, self.shelves, self.clock, plan.recording)
        self.locks = PtzLocks(db, lock_store, guard, self.clock)
        self.ptz = PtzControl(self.gateway.downward, guard, self.locks, self.gateway.orders)
        self.voice = Voice(
            signalling=self.gateway.broadcasts,
            viewing=self.viewing,
            guard=guard,
            clock=self.clock,
            base_url=lambda: f"http://{HOST}:{self.server.port}",
        )
        self.server = ViewerServer(self.viewing.tickets, HOST, 0, self.clock, uplinks=Uplinks(self.voice))
        self.rtsp = RtspServer(self.viewing.tickets, self.engine, HOST, 0, PortRange(*RTSP_UDP_PORTS))
        self.gateway.attach_voice(self.voice)
        self.gateway.attach(self.viewing)
        self.filters = ControlFilters(db, filter_store, self.clock)
        undertakings = Undertakings(db, self.clock, self.snapshots.finished, self.upgrades.ended)
        self.gateway.attach_control(self.ptz, guard, self.filters, undertakings)
        self.alarms = Alarms(db, platform_store, self.clock, plan.id)
        self.gateway.attach_alarms(self.alarms, plan.persistence)
        self.history = HistoryViewing(self.viewing, self.gateway.records, guard, self.clock, self.centre)
        self.gateway.attach_history(self.history)
        subject = Subject(SubjectKind.USER, "1", "tester", permissions=frozenset(Permission))
        self.viewer = Viewer(subject, HOST)

    @classmethod
    async def start(cls, plan: PlatformPlan, folder: Path, template: Path | None = None) -> SmallPlatform:
        """Make the record in ``folder``, or take up what is there, and start.

        Args:
            template: a migrated, empty record; a new one begins as its copy instead of by every migration.
        """
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        record = folder / f"{plan.id}.db"
        is_new = not await asyncio.to_thread(record.exists)
        if is_new and template is not None:
            await asyncio.to_thread(shutil.copy, template, record)
        platform = cls(plan, await Database.open(f"sqlite:///{record}"), folder)
        if is_new:
            await platform._enter()
        platform.engine.start()
        await platform.farm.start()
        await platform.viewing.start()
        await platform.voice.start_up()
        await platform.server.start()
        await platform.rtsp.start()
        await platform.snapshots.start()
        await platform.receiver.start()
        await platform.alarms.start()
        await platform.gateway.start()
        await platform.recorder.start()
        return platform

    @property
    def carried(self) -> dict[str, int]:
        """What it holds for viewers, talkers and platforms above, by kind."""
        return {
            "streams": len(self.viewing.streams),
            "engine streams": len(self._native.streams()),
            "SSRCs": self.gateway.ssrcs_in_use,
            "recordings": len(self.gateway.history),
            "relays": self.gateway.relays,
            "broadcasts": len(self.gateway.broadcasts),
            "voices": len(self.voice),
            "talkers": len(self.voice.talkers),
            "transcoders": self.transcoders.running,
            "downloads": len(list(self.folder.glob("downloads/*"))),
        }

    async def stop(self) -> None:
        """Stop; nothing is left."""
        await self.receiver.stop()
        await self.snapshots.stop()
        await self.recorder.stop()
        await self.server.stop()
        await self.rtsp.stop()
        await self.voice.stop_all()
        await self.ptz.stop()
        await self.viewing.stop_all()
        await self.gateway.stop()
        await self.alarms.stop()
        await self.farm.stop()
        await self.engine.stop()
        await self.db.close()

    async def restart(self) -> SmallPlatform:
        """Fail as with the power, nothing said and nothing written, and start anew at the same place."""
        port = self.gateway.port
        await self.db.close()
        await self.gateway.endpoint.stop(silently=True)
        await self.stop()
        return await self.start(replace(self.plan, port=port), self.folder)

    async def grant(
        self,
        kind: SubjectKind,
        subject_id: str,
        number: str,
        actions: frozenset[Permission] = ACTIONS,
    ) -> None:
        """Let somebody see and control everything."""
        grant = Grant(number, kind, subject_id, actions, ScopeKind.ALL)
        await self.db.write(sharing_store.add_grant, grant, self.clock.at())

    async def _enter(self) -> None:
        at = self.clock.at()
        account = SipAccount("domain", self.plan.id[:10], "", self.plan.device_secret)
        await self.db.write(registration_store.put_account, account, at)
        for neighbour in self.plan.neighbours:
            platform = Platform(
                PlatformId(neighbour.id), neighbour.id, neighbour.relation, secret=neighbour.secret
            )
            await self.db.write(platform_store.put, platform, at)
            if neighbour.relation is Relation.UPPER:
                await self.grant(SubjectKind.PLATFORM, neighbour.id, f"upper-{neighbour.id}")
        await self.grant(SubjectKind.USER, "1", "tester", ALL_ACTIONS)

    def _uppers(self) -> list[UpperAccount]:
        return [
            UpperAccount(n.id, Remote(HOST, n.port, n.sip_transport), self.plan.id, n.secret, retry_s=0.5)
            for n in self.plan.neighbours
            if n.relation is Relation.UPPER
        ]
