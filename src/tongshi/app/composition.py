"""One platform: every object built once, passed by constructor, started and stopped in order.

The order of starting is that of need: the record, what the configuration says, the media engine, viewing,
signalling, the viewers' listener, the exchange; then the REST face. Stopping goes the other way; each part
ends its own tasks and sockets before the one it stands on goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from starlette.applications import Starlette

from tongshi import _media
from tongshi.app.housekeeping import Housekeeping
from tongshi.app.seed import seed
from tongshi.app.settings import farm_plan, gateway_config, media_origins, object_store, timeouts
from tongshi.audit import http as audit_http
from tongshi.audit.recorder import AuditRecorder
from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock, SystemClock
from tongshi.config.sections import Config
from tongshi.exchange import control_http, proofs, pull_http
from tongshi.exchange import http as exchange_http
from tongshi.exchange.control import Control
from tongshi.exchange.packages import PackageInbox
from tongshi.exchange.pull import Pulls
from tongshi.exchange.service import Exchange
from tongshi.exchange.worker import Worker
from tongshi.gateways.media.digest import check_build
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.farm import Farm
from tongshi.gateways.media.player import OwnCentre
from tongshi.gateways.media.recorder import Recorder, Rhythm
from tongshi.gateways.media.recording_files import Shelves
from tongshi.gateways.media.rtsp_ports import PortRange
from tongshi.gateways.media.rtsp_server import RtspServer
from tongshi.gateways.media.spool import FileSpools
from tongshi.gateways.media.transcoder.pool import Transcoders
from tongshi.gateways.media.uplink import Uplinks
from tongshi.gateways.media.viewer_server import ViewerServer
from tongshi.gateways.signalling.admission.desk import AdmissionDesk as Doorway
from tongshi.gateways.signalling.gateway import SignallingGateway
from tongshi.gateways.signalling.record import RecordedRegistrations
from tongshi.gateways.signalling.recorded_archive import RecordedArchive
from tongshi.gateways.signalling.subscriptions.record import RecordedNewsroom
from tongshi.gateways.snapshots.receiver import SnapshotReceiver
from tongshi.ids import PlatformId
from tongshi.observe.metrics import Metrics
from tongshi.resources.admission import http as admission_http
from tongshi.resources.admission import store as admission_store
from tongshi.resources.admission.service import AdmissionDesk
from tongshi.resources.alarms import http as alarms_http
from tongshi.resources.alarms.service import Alarms
from tongshi.resources.control import filter_http, filter_store, upgrade_http, upgrade_store
from tongshi.resources.control import http as control_desk_http
from tongshi.resources.control.filters import ControlFilters
from tongshi.resources.control.service import DeviceControlDesk
from tongshi.resources.control.undertakings import Undertakings
from tongshi.resources.control.upgrades import Upgrades
from tongshi.resources.devices import edit_http, issues_http, plan_lists_http, presence_store, query_http
from tongshi.resources.devices import http as devices_http
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.asking import Asking
from tongshi.resources.devices.editing import Editing
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.inspection import Inspection
from tongshi.resources.devices.ledger import http as ledger_http
from tongshi.resources.devices.ledger.service import Ledger
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
from tongshi.resources.platforms.service import Platforms
from tongshi.resources.recordings import http as recordings_http
from tongshi.resources.recordings.record import RecordingRecord
from tongshi.resources.recordings.service import RecordingDesk
from tongshi.resources.registrations import catalogue_http
from tongshi.resources.services import http as services_http
from tongshi.resources.services import store as listing_store
from tongshi.resources.services.service import ServiceDirectory
from tongshi.resources.services.watch import ServiceWatch
from tongshi.resources.snapshots import http as snapshots_http
from tongshi.resources.snapshots.files import PictureFiles
from tongshi.resources.snapshots.service import Bounds as SnapshotBounds
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
from tongshi.resources.trees import http as trees_http
from tongshi.resources.trees.service import Trees, division_names
from tongshi.resources.viewing import (
    history_http,
    lock_http,
    lock_store,
    node_drain_store,
    nodes_http,
    quality_http,
    voice_http,
)
from tongshi.resources.viewing import http as viewing_http
from tongshi.resources.viewing.access import SharingGuard
from tongshi.resources.viewing.history import HistoryViewing
from tongshi.resources.viewing.locks import PtzLocks
from tongshi.resources.viewing.node_drains import NodeDrains
from tongshi.resources.viewing.ptz import PtzControl
from tongshi.resources.viewing.quality import QualityMonitor
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.tickets import Admission
from tongshi.resources.viewing.voice import Voice
from tongshi.sharing import http as sharing_http
from tongshi.sharing import quota_http
from tongshi.sharing.accounts import Accounts
from tongshi.sharing.answers import KeptAnswers
from tongshi.sharing.decision import Access
from tongshi.sharing.file_keys import FileKeys
from tongshi.sharing.gate import SharingGate
from tongshi.sharing.grants import Grants
from tongshi.sharing.permissions import Permission
from tongshi.sharing.quotas import Quotas
from tongshi.sharing.refusals import Refusals
from tongshi.storage.engine import Database
from tongshi.web import app as web
from tongshi.web import system
from tongshi.web.annex_e import complete
from tongshi.web.operations import AnyOperation
from tongshi.web.ports import Attempt

STATIC = Path(web.__file__).parent / "static"


@dataclass(slots=True)
class Platform:
    """The parts of one platform, built and not yet started."""

    config: Config
    clock: Clock
    database: Database
    accounts: Accounts
    platforms: Platforms
    grants: Grants
    engine: AsyncEngine
    farm: Farm
    drains: NodeDrains
    viewing: Viewing
    ptz: PtzControl
    signalling: SignallingGateway
    alarms: Alarms
    voice: Voice
    recorder: Recorder
    viewers: ViewerServer[Admission]
    rtsp: RtspServer[Admission] | None
    snapshots: Snapshots
    receiver: SnapshotReceiver
    neighbours: Exchange
    exchange: Worker
    pulls: Pulls
    files: Files
    control: Control
    inspection: Inspection
    index: SearchIndex
    plans: Plans
    tags: TagDictionary
    quotas: Quotas
    operations: Sequence[AnyOperation]
    asgi: Starlette

    async def start(self, stack: AsyncExitStack) -> str | None:
        """Start every part; ``stack`` ends them in reverse. Returns a one-time set-up code if one is due."""
        stack.push_async_callback(self.database.close)
        stack.push_async_callback(self.quotas.stop)
        await self.accounts.prepare()
        await self.plans.prepare()
        await self.tags.prepare()
        await seed(self.config, self.database, self.platforms, self.grants, self.clock)
        self.engine.start()
        stack.push_async_callback(self.engine.stop)
        stack.push_async_callback(self.farm.stop)
        await self.drains.prepare()
        await self.farm.start()
        await self.viewing.start()
        stack.push_async_callback(self.viewing.stop_all)
        stack.push_async_callback(self.ptz.stop)
        stack.push_async_callback(self.alarms.stop)
        await self.alarms.start()
        stack.push_async_callback(self.signalling.stop)
        await self.signalling.start()
        stack.push_async_callback(self.voice.stop_all)
        await self.voice.start_up()
        stack.push_async_callback(self.recorder.stop)
        await self.recorder.start()
        stack.push_async_callback(self.viewers.stop)
        await self.viewers.start()
        if self.rtsp is not None:
            stack.push_async_callback(self.rtsp.stop)
            await self.rtsp.start()
        stack.push_async_callback(self.snapshots.stop)
        await self.snapshots.start()
        stack.push_async_callback(self.receiver.stop)
        await self.receiver.start()
        stack.push_async_callback(self.neighbours.close)
        stack.push_async_callback(self.exchange.stop)
        await self.exchange.start()
        stack.push_async_callback(self.files.stop)
        await self.files.start()
        stack.push_async_callback(self.control.stop)
        stack.push_async_callback(self.inspection.stop)
        await self.inspection.start()
        stack.push_async_callback(self.index.stop)
        await self.index.start()
        housekeeping = Housekeeping(self.database, self.clock)
        stack.push_async_callback(housekeeping.stop)
        await housekeeping.start()
        return await self.accounts.create_setup_code()

    async def discard(self) -> None:
        """Let go of a platform that was built and never started."""
        self.engine.native.shutdown()
        await self.recorder.stop()
        await self.database.close()


async def build(config: Config, clock: Clock | None = None) -> Platform:
    """Build one platform from its configuration; the database is opened and migrated, nothing else runs yet.

    Raises:
        Unavailable: the database cannot be reached, or the media engine was built from other sources.
    """
    check_build(_media.SOURCE_DIGEST)
    clock = clock or SystemClock()
    own_id = PlatformId(config.platform.id)
    database = await Database.open(config.storage.url)
    accounts = Accounts(database, clock)
    grants = Grants(database, clock)
    access = Access(database)
    platforms = Platforms(database, platform_store, clock)
    devices = DeviceArchives(database, device_store, clock, own_id)
    trees = Trees(database, clock, devices.get_many, _names_of(platforms))
    archive = RecordedArchive(devices, access, clock, own_id, trees)
    guard = SharingGuard(access, archive, clock)
    alarms = Alarms(database, platform_store, clock, own_id)
    native = _media.Engine(
        threads=config.media.threads,
        webrtc_host=config.media.host,
        webrtc_port=config.media.webrtc_port,
        webrtc_public=config.media.webrtc_host,
    )
    engine = AsyncEngine(native, config.media.host, shared_port=config.media.rtp_shared_port)
    signalling = SignallingGateway(
        gateway_config(config),
        RecordedRegistrations(database, clock, own_id),
        archive,
        RecordedNewsroom(database, devices, archive, clock, own_id),
        clock,
        on_upper_state=_noting(platforms),
    )
    transcoders = Transcoders(config.media.transcoders)
    farm = Farm(engine, farm_plan(config), lambda: viewing.tickets, clock)
    drains = NodeDrains(database, node_drain_store, farm.nodes)
    record = RecordingRecord(database, clock, own_id)
    shelves = Shelves(
        Path(config.recording.folder), object_store(config, clock), config.recording.min_free_mb << 20
    )
    centre = OwnCentre(record, shelves, clock, own_id)
    viewing = Viewing(
        signalling=signalling.downward,
        engine=farm.nodes,
        guard=guard,
        clock=clock,
        base_url=lambda: f"http://{config.media.host}:{viewers.port}",
        rtsp_url=(lambda: f"rtsp://{config.media.host}:{config.media.rtsp_port}")
        if config.media.rtsp_port
        else None,
        has_rtsp_nodes=any(node.rtsp_url for node in config.media.nodes),
        timeouts=timeouts(config),
        spools=FileSpools(Path(config.files.folder) / "recordings"),
        timeline=signalling.timeline,
        transcoder=transcoders,
        centre=centre,
    )
    recorder = Recorder(viewing, record, shelves, clock, Rhythm(segment_s=config.recording.segment_s))
    locks = PtzLocks(database, lock_store, guard, clock)
    accounts.on_sign_out = locks.signed_out
    ptz = PtzControl(signalling.downward, guard, locks, signalling.orders)
    signalling.attach(viewing)
    filters = ControlFilters(database, filter_store, clock)
    upgrades = Upgrades(database, upgrade_store, clock)
    snapshots = Snapshots(
        database,
        clock,
        guard,
        signalling.orders,
        PictureFiles(Path(config.files.folder) / "snapshots"),
        lambda: receiver.url,
        viewing,
        SnapshotBounds(timedelta(days=config.snapshots.keep_days), config.snapshots.quota_mb << 20),
    )
    receiver = _receiver(config, snapshots)
    undertakings = Undertakings(database, clock, snapshots.finished, upgrades.ended)
    signalling.attach_control(ptz, guard, filters, undertakings)
    signalling.attach_alarms(alarms)
    history = HistoryViewing(viewing, signalling.records, guard, clock, centre)
    signalling.attach_history(history)
    voice = Voice(
        signalling=signalling.broadcasts,
        viewing=viewing,
        guard=guard,
        clock=clock,
        base_url=lambda: f"http://{config.media.host}:{viewers.port}",
    )
    signalling.attach_voice(voice)
    rtsp_port = config.media.rtsp_port
    rtsp_ports = PortRange(config.media.rtsp_udp_first_port, config.media.rtsp_udp_last_port)
    rtsp = (
        RtspServer(viewing.tickets, engine, config.media.host, rtsp_port, rtsp_ports) if rtsp_port else None
    )
    viewers = ViewerServer(
        viewing.tickets, config.media.host, config.media.http_port, clock, uplinks=Uplinks(voice)
    )
    exchange = Exchange(database, clock, platforms, own_id, config.exchange.vanish_guard)
    pulls = Pulls(database, clock, exchange)
    worker = Worker(database, clock, platforms, exchange, interval_s=config.exchange.interval_s)
    files = Files(
        database,
        clock,
        access,
        FileKeys(database, grants),
        PackageInbox(database, exchange, platforms, grants),
        folder=Path(config.files.folder),
        platform_id=own_id,
        feed=exchange.feed,
    )
    control = Control(database, clock, platforms, exchange, worker)
    quotas = Quotas(database, clock)
    metrics, refusals, watch = Metrics(), Refusals(), ServiceWatch(clock.now)
    directory = ServiceDirectory(database, listing_store, own_id, lambda: table, watch.trouble)
    inspection = Inspection(database, clock)
    index = SearchIndex(database, clock, metrics.note_index_lag)
    plans = Plans(database, clock, presence_store)
    editing = Editing(database, clock, own_id)
    members = Members()
    queries, lists = DeviceQueries(database, index), PlanLists(database, index, members)
    tags, annotations = TagDictionary(database, clock), Annotations(database, presence_store, index.refresh)
    lent = LentTags(tags, annotations)
    asking = Asking(access, lists, lent)
    statuses = DeviceStatuses(database, status_store, clock, own_id, members, signalling.orders)
    peers = SignallingPeers(database, peer_store, signalling.profiles)
    table: list[AnyOperation] = [
        *history_http.operations(history),
        *recordings_http.operations(
            RecordingDesk(database, shelves.free_bytes, recorder.changed), recorder.states
        ),
        *sharing_http.operations(accounts, clock, own_id, is_cookie_secure=config.http.secure_cookie),
        *quota_http.operations(quotas),
        *audit_http.operations(database),
        *platforms_http.operations(
            platforms,
            exchange,
            platform_id=own_id,
            platform_name=config.platform.name,
            refusals=refusals,
        ),
        *issues_http.operations(inspection, access),
        *trees_http.operations(trees, access),
        *devices_http.operations(devices, queries, editing, access, lent),
        *edit_http.operations(devices, editing, access),
        *query_http.operations(queries, asking, partial(division_names, database)),
        *plan_lists_http.operations(lists, queries, asking),
        *exchange_http.operations(exchange, access),
        *pull_http.operations(pulls, access),
        *proofs.operations(),
        *control_http.operations(control, access),
        *files_http.operations(files),
        *viewing_http.operations(viewing, ptz),
        *peers_http.operations(peers, access),
        *line_http.operations(peers, signalling, devices, access),
        *lock_http.operations(locks),
        *filter_http.operations(filters),
        *traces_http.operations(Traces(signalling.traces, devices, database), access),
        *catalogue_http.operations(
            signalling.catalogues.standings, signalling, devices.get_many, _names_of(platforms), access
        ),
        *control_desk_http.operations(DeviceControlDesk(signalling.orders, guard, upgrades)),
        *upgrade_http.operations(upgrades),
        *snapshots_http.operations(snapshots),
        *status_http.operations(statuses, access, clock),
        *quality_http.operations(
            QualityMonitor(viewing.streams.streams, statuses.visible, clock), access, clock
        ),
        *alarms_http.operations(alarms),
        *voice_http.operations(voice),
        *nodes_http.operations(drains),
        *services_http.operations(directory),
        *admission_http.operations(AdmissionDesk(database, admission_store, signalling.admission)),
        *ledger_http.operations(Ledger(devices, own_id, clock)),
        *plans_http.operations(plans, lent),
        *tags_http.operations(tags, annotations, queries, asking),
    ]
    table = complete(table, Permission, AuditTag.SERVICE_QUERY)
    _follow_admission(metrics, signalling.admission)
    _follow_transcoders(metrics, transcoders)
    table += system.operations(table, metrics=metrics.render)
    asgi = web.build(
        table,
        gate=SharingGate(accounts, grants, clock, own_id, refusals),
        recorder=AuditRecorder(database, clock, _both(metrics.observe, watch.observe)),
        clock=clock,
        answers=KeptAnswers(database),
        quotas=quotas,
        static=STATIC if STATIC.is_dir() else None,
        connect_sources=media_origins(config),
    )
    return Platform(
        config,
        clock,
        database,
        accounts,
        platforms,
        grants,
        engine,
        farm,
        drains,
        viewing,
        ptz,
        signalling,
        alarms,
        voice,
        recorder,
        viewers,
        rtsp,
        snapshots,
        receiver,
        exchange,
        worker,
        pulls,
        files,
        control,
        inspection,
        index,
        plans,
        tags,
        quotas,
        table,
        asgi,
    )


def _receiver(config: Config, snapshots: Snapshots) -> SnapshotReceiver:
    section = config.snapshots
    return SnapshotReceiver(
        snapshots,
        section.host or config.media.host,
        section.port,
        section.max_picture_mb << 20,
        section.url,
        section.certificate,
        section.key,
    )


def _names_of(platforms: Platforms) -> Callable[[], Awaitable[dict[str, str]]]:
    """Names of the platforms in the record, our own among them."""

    async def names() -> dict[str, str]:
        return {known.platform.id: known.platform.name for known in await platforms.list_all()}

    return names


def _follow_admission(metrics: Metrics, admission: Doorway) -> None:
    """Show what signalling refuses."""
    strangers, bans = admission.stranger_table, admission.ban_table
    prefix = "tongshi_signalling"
    metrics.follow(f"{prefix}_refused_messages", "Requests of strangers refused", lambda: strangers.total)
    metrics.follow(f"{prefix}_dropped_messages", "Messages dropped unread", lambda: strangers.dropped)
    metrics.follow(f"{prefix}_failed_registrations", "Registrations refused", lambda: bans.total)
    metrics.follow(f"{prefix}_bans", "Sources banned now", lambda: len(admission.bans()))


def _follow_transcoders(metrics: Metrics, transcoders: Transcoders) -> None:
    prefix = "tongshi_media"
    metrics.follow(f"{prefix}_transcodings", "Streams coded anew now", lambda: transcoders.running)
    metrics.follow(f"{prefix}_transcodings_most", "Streams coded anew at most", lambda: transcoders.limit)
    metrics.follow(f"{prefix}_transcodings_refused", "Refused for want of room", lambda: transcoders.refused)
    metrics.follow(f"{prefix}_transcodings_failed", "Processes that died", lambda: transcoders.failed)
    prefix = f"{prefix}_transcoding"
    metrics.follow(
        f"{prefix}_pictures_taken", "Pictures that went into coders", lambda: transcoders.sums.taken
    )
    metrics.follow(f"{prefix}_pictures_made", "Pictures that came out", lambda: transcoders.sums.made)
    metrics.follow(f"{prefix}_frames_skipped", "Left out by late coders", lambda: transcoders.sums.skipped)
    metrics.follow(f"{prefix}_pictures_undecoded", "Broken ones", lambda: transcoders.sums.undecoded)
    metrics.follow(f"{prefix}_speed_least", "Of the slowest; 1 is enough", lambda: transcoders.least_speed)


def _both(first: Callable[[Attempt], None], second: Callable[[Attempt], None]) -> Callable[[Attempt], None]:
    def observe(attempt: Attempt) -> None:
        first(attempt)
        second(attempt)

    return observe


def _noting(platforms: Platforms) -> Callable[[str, bool, str], Awaitable[None]]:
    """Keep what we see of an upper platform in the record."""

    async def note(platform_id: str, is_registered: bool, reason: str) -> None:
        if is_registered:
            await platforms.note_online(platform_id)
        else:
            await platforms.note_offline(platform_id, reason)

    return note
