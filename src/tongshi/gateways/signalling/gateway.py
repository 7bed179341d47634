"""The signalling gateway: one SIP address, the flows behind it, and who may start which.

Implements: GB/T 28181-2022 9.1
Implements: GB/T 28181-2022 9.3
Implements: GB/T 28181-2022 9.6
Here the flows are built, begun and ended; what comes in is ``reception``'s, who came and went
``presence``'s.
"""

from __future__ import annotations

import asyncio

import structlog

from tongshi.clock import Clock
from tongshi.gateways.media.voice import VoiceSockets
from tongshi.gateways.signalling.abnormality import Abnormalities
from tongshi.gateways.signalling.admission.desk import AdmissionDesk
from tongshi.gateways.signalling.alarms import AlarmFlow, Persistence
from tongshi.gateways.signalling.answers import Answers
from tongshi.gateways.signalling.background import Background
from tongshi.gateways.signalling.broadcast import Broadcasts
from tongshi.gateways.signalling.catalogues import Catalogues
from tongshi.gateways.signalling.config import GatewayConfig
from tongshi.gateways.signalling.device_orders import DeviceOrders
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.downward import Downward
from tongshi.gateways.signalling.endpoint import (
    SipEndpoint,
)
from tongshi.gateways.signalling.history import HistoryCalls
from tongshi.gateways.signalling.incoming_live import IncomingLive
from tongshi.gateways.signalling.keepalive import Keepalives
from tongshi.gateways.signalling.live import LiveCaller
from tongshi.gateways.signalling.peers import Peers
from tongshi.gateways.signalling.ports import Archive, Record
from tongshi.gateways.signalling.presence import Presence, StateListener
from tongshi.gateways.signalling.profiles import Profiles
from tongshi.gateways.signalling.ptz import DeviceControls
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.reception import Reception
from tongshi.gateways.signalling.record_search import RecordSearches
from tongshi.gateways.signalling.registrar import Domain, Registrar
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.running_calls import RunningCalls
from tongshi.gateways.signalling.senders import Senders
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionFlows
from tongshi.gateways.signalling.subscriptions.ports import Newsroom
from tongshi.gateways.signalling.tls import Tls
from tongshi.gateways.signalling.trace.book import TraceBook
from tongshi.gateways.signalling.trace.recorder import Recorder
from tongshi.gateways.signalling.upward import Upper, UpperAccount
from tongshi.gateways.signalling.upward_answers import UpwardAnswers, own_item
from tongshi.gateways.signalling.upward_broadcast import UpwardBroadcasts
from tongshi.gateways.signalling.upward_control import UpwardControl
from tongshi.gateways.signalling.upward_records import UpwardRecords
from tongshi.ids import sip_domain
from tongshi.protocols import pcap
from tongshi.protocols.gb28181.notify import MediaStatus
from tongshi.protocols.gb28181.records import RecordInfoQuery, RecordInfoResponse
from tongshi.protocols.gb28181.response import (
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.gb28181.sdp import SessionName
from tongshi.protocols.gb28181.ssrc import SsrcPool
from tongshi.resources.alarms.service import Alarms
from tongshi.resources.control.filters import ControlFilters
from tongshi.resources.control.undertakings import Undertakings
from tongshi.resources.viewing.history import HistoryViewing
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.ports import Guard
from tongshi.resources.viewing.ptz import PtzControl
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.voice import Voice

log = structlog.get_logger(__name__)


class SignallingGateway:
    """Owns the endpoint and the flows.

    Built in two steps, because viewing needs ``downward`` and the flows toward uppers need viewing:
    construct, give ``downward`` to viewing, ``attach`` the viewing service, ``start``.
    """

    def __init__(
        self,
        config: GatewayConfig,
        record: Record,
        archive: Archive,
        newsroom: Newsroom,
        clock: Clock,
        on_upper_state: StateListener | None = None,
    ) -> None:
        self._config = config
        self._record = record
        self._archive = archive
        self._clock = clock
        self._viewing: Viewing | None = None
        self.upward_control: UpwardControl | None = None
        self._incoming: IncomingLive | None = None
        self.alarms: AlarmFlow | None = None
        self._upward_records: UpwardRecords | None = None
        self._upward_broadcasts: UpwardBroadcasts | None = None
        self._background = Background("gateway")
        own_id = config.platform_id
        self.timeline = Recorder(own_id, clock, config.trace_bytes)
        self.traces = TraceBook(self.timeline, clock, self._own_end, self.reached_by)
        self.endpoint = SipEndpoint(
            local_id=own_id,
            host=config.host,
            port=config.port,
            clock=clock,
            on_request=lambda incoming: self._reception.request(incoming),
            on_invite=lambda invite: self._reception.invite(invite),
            on_subscribe=lambda incoming: self._reception.subscribe(incoming),
            trace=self.timeline if config.trace_bytes else None,
            tls=Tls(config.tls) if config.tls is not None else None,
        )
        self.dispatch = Dispatch()
        self.peers = Peers()
        self.uppers: dict[str, Upper] = {}
        self.profiles = Profiles(
            record, self.peers, lambda: tuple(self.uppers.values()), clock, self.timeline.current
        )
        self._answers = Answers()
        self._post = Post(self.endpoint, self._answers, own_id)
        self._routes = Routes(own_id, self.peers, archive)
        senders = Senders(self.uppers, self.peers, self._routes)
        self._ssrcs = SsrcPool(own_id)
        self._running = RunningCalls(self.endpoint, record, clock)
        self._calls = LiveCaller(
            self.endpoint, self._routes, self._ssrcs, clock, self._running, self.profiles.see
        )
        self._voice_sockets = VoiceSockets(config.media_host or config.host)
        self.broadcasts = Broadcasts(
            self.endpoint,
            self._post,
            self._answers,
            self._routes,
            self._ssrcs,
            self._running,
            self._voice_sockets,
            clock,
            config.voice_waits,
        )
        self._controls = DeviceControls(self._post, self._routes, clock)
        self.orders = DeviceOrders(self._post, self._routes, clock, self.dispatch)
        self.history = HistoryCalls(self._calls)
        self.records = RecordSearches(self._post, self._routes, clock, config.search_patience)
        self.downward = Downward(
            self._routes, self._calls, self._controls, self.orders, self.history, self._media_transport
        )
        self.catalogues = Catalogues(self._post, archive, self._routes, clock, config.patience, own_id)
        self.admission = AdmissionDesk(
            config.admission,
            record,
            clock,
            is_home=senders.is_home,
            lives_at=senders.lives_at,
            challenge=lambda request, source: self.registrar.challenge(request, source),
            ask=lambda peer: self._post.device_info(peer, peer.id),
            end=lambda peer_id, reason: self._presence.end(peer_id, reason),
            shut_out=self.endpoint.shut_out,
        )
        self.endpoint.guard(self.admission.door)
        self.endpoint.on_broken(lambda remote, reason: self._presence.connection_broken(remote, reason))
        self.registrar = Registrar(
            Domain(own_id, sip_domain(own_id), config.min_expires_s, config.redirects),
            self.peers,
            record,
            clock,
            channels_of=self._routes.channels_of,
            on_online=lambda peer: self._presence.peer_online(peer),
            on_offline=lambda peer, reason: self._presence.peer_offline(peer, reason),
            profiles=self.profiles,
            judge=self.admission.judge,
            on_again=lambda peer: self.subscriptions.peer_again(peer),
        )
        self._keepalives = Keepalives(
            config.beat,
            self.peers,
            record,
            clock,
            channels_of=self._routes.channels_of,
            on_offline=lambda peer, reason: self._presence.peer_offline(peer, reason),
            on_faulty=lambda peer, children: self._presence.children_faulty(peer, children),
            on_moved=lambda peer, remote: self._presence.peer_moved(peer, remote),
        )
        self._upward = UpwardAnswers(
            own_item(own_id, config.name, config.civil_code), self._post, archive, clock
        )
        for account in config.uppers:
            self.uppers[account.id] = self._upper(account)
        self._abnormal = Abnormalities(self.uppers, archive)
        self.subscriptions = SubscriptionFlows(
            own_id,
            config.subscriptions,
            self.endpoint,
            self.peers,
            self._routes,
            self.dispatch,
            self.catalogues,
            archive,
            newsroom,
            self.admission.stranger_table,
            clock,
            senders.find,
            self.timeline.subscription_refused,
        )
        self._presence = Presence(
            peers=self.peers,
            uppers=self.uppers,
            record=record,
            archive=archive,
            clock=clock,
            endpoint=self.endpoint,
            post=self._post,
            routes=self._routes,
            profiles=self.profiles,
            catalogues=self.catalogues,
            subscriptions=self.subscriptions,
            admission=self.admission,
            broadcasts=self.broadcasts,
            abnormal=self._abnormal,
            timeline=self.timeline,
            background=self._background,
            on_upper_state=on_upper_state,
        )
        self._reception = Reception(
            senders=senders,
            dispatch=self.dispatch,
            registrar=self.registrar,
            subscriptions=self.subscriptions,
            admission=self.admission,
            profiles=self.profiles,
            broadcasts=self.broadcasts,
            keepalives=self._keepalives,
            abnormal=self._abnormal,
            routes=self._routes,
            catalogues=self.catalogues,
            answers=self._answers,
            upward=self._upward,
        )
        self._reception.take_messages()
        self.dispatch.from_peer(RecordInfoResponse, self.records.take)
        self.dispatch.from_peer(MediaStatus, self.history.take)

    @property
    def port(self) -> int:
        """The bound SIP port."""
        return self.endpoint.port

    @property
    def ssrcs_in_use(self) -> int:
        return self._ssrcs.in_use

    @property
    def relays(self) -> int:
        """Pictures on their way to uppers."""
        return 0 if self._incoming is None else len(self._incoming)

    def attach(self, viewing: Viewing) -> None:
        """Say who serves calls of uppers, and who is told of lost peers."""
        self._viewing = viewing
        own_id = self._config.platform_id
        self._incoming = IncomingLive(
            own_id,
            viewing,
            self._ssrcs,
            self._clock,
            self._running,
            self._config.media_host or self._config.host,
            self._media_transport,
        )
        self._presence.attach(viewing, self._incoming)
        for session in (SessionName.PLAY, SessionName.PLAYBACK, SessionName.DOWNLOAD):
            self.dispatch.upper_calls(session, self._incoming.handle)

    def attach_control(
        self, ptz: PtzControl, guard: Guard, filters: ControlFilters, undertakings: Undertakings
    ) -> None:
        """Say who decides what uppers may ask and command of devices; after ``attach``."""
        assert self._viewing is not None
        self.upward_control = UpwardControl(
            self._post,
            self.orders,
            self.dispatch,
            guard,
            filters,
            ptz,
            self.uppers,
            undertakings,
            self._viewing.streams.ask_for_platform,
        )

    def attach_voice(self, voice: Voice) -> None:
        """Say who decides about broadcasts of uppers."""
        self.broadcasts.register(self.dispatch)
        self._upward_broadcasts = UpwardBroadcasts(
            voice, self.dispatch, self.endpoint, self._post, self._running, self._voice_sockets
        )

    def attach_alarms(self, alarms: Alarms, persistence: Persistence | None = None) -> None:
        """Say who keeps alarms."""
        self.alarms = AlarmFlow(
            alarms,
            self._post,
            self._answers,
            self._routes,
            self._archive,
            self.uppers,
            self._clock,
            persistence,
        )
        self.alarms.register(self.dispatch)
        self.alarms.on_told = self.subscriptions.alarm_told

    def attach_history(self, history: HistoryViewing) -> None:
        """Say who finds recordings for uppers."""
        own_id = self._config.platform_id
        self._upward_records = UpwardRecords(own_id, self._post, self._archive, self._routes, history)
        self.dispatch.from_upper(RecordInfoQuery, self._upward_records.take)

    async def start(self) -> None:
        """Bind, take up what was stored, register above. Raises OSError when the port is taken."""
        await self.admission.restore()
        await self.endpoint.start()
        await self.profiles.load()
        await self.catalogues.standings.load(self._record)
        self.admission.start()
        await self._presence.restore()
        # Read before anybody can call, so that no call of ours is among them.
        self._background.begin(self._running.end_left(await self._running.left()))
        self._keepalives.start()
        for peer_id in self.peers.ids():
            if (peer := self.peers.get(peer_id)) is not None:
                self.subscriptions.peer_online(peer)
        for upper in self.uppers.values():
            await upper.start()
        if self.alarms is not None:
            await self.alarms.start()

    async def stop(self) -> None:
        """End in the order of need: relays, registrations above, queries, sockets."""
        if self._incoming is not None:
            await self._incoming.stop()
        if self.upward_control is not None:
            await self.upward_control.stop()
        if self.alarms is not None:
            await self.alarms.stop()
        if self._upward_records is not None:
            await self._upward_records.stop()
        await self.broadcasts.stop()
        if self._upward_broadcasts is not None:
            await self._upward_broadcasts.stop()
        await self._abnormal.stop()
        await self.subscriptions.stop()
        await asyncio.gather(*(upper.stop() for upper in self.uppers.values()), return_exceptions=True)
        await self._upward.stop()
        await self.admission.stop()
        await self.catalogues.stop()
        await self._keepalives.stop()
        await self._background.stop()
        await self._calls.stop()
        self._answers.close()
        await self.endpoint.stop()
        await self._running.stop()
        await self.profiles.stop()
        await self.catalogues.standings.stop()

    def refresh_catalogue(self, peer_id: str) -> bool:
        """Ask a registered peer for its catalogue again; False when it is not registered."""
        peer = self.peers.get(peer_id)
        if peer is not None:
            self.catalogues.refresh(peer)
        return peer is not None

    def reached_by(self, code: str) -> str:
        """The peer that leads to a device, as far as we remember; anybody else is its own."""
        if code in self.peers or code in self.uppers:
            return code
        peer = self._routes.learned_peer(code)
        return code if peer is None else peer.id

    async def device_info(self, device_id: str) -> DeviceInfoResponse:
        """Ask a device who made it. Raises NotFound, Unavailable, PeerTimeout, PeerFailed."""
        return await self._post.device_info(await self._routes.peer_of(device_id), device_id)

    async def device_status(self, device_id: str) -> DeviceStatusResponse:
        """Ask a device whether it works. Raises NotFound, Unavailable, PeerTimeout, PeerFailed."""
        return await self._post.device_status(await self._routes.peer_of(device_id), device_id)

    def _upper(self, account: UpperAccount) -> Upper:
        return Upper(
            account,
            self._config.platform_id,
            self.endpoint,
            self._post,
            self._config.beat,
            lambda upper, is_registered, reason: self._presence.upper_turned(upper, is_registered, reason),
            self.profiles.upper_heard,
        )

    def _own_end(self) -> pcap.End:
        return pcap.End(self._config.host, self.port)

    def _media_transport(self, peer_id: str) -> Transport:
        wanted = self.profiles.media_transport(peer_id)
        return (
            Transport(wanted) if wanted else dict(self._config.media_transports).get(peer_id, Transport.UDP)
        )
