"""Who came and who went: what the flows are told of peers and of platforms above.

Implements: GB/T 28181-2022 9.1
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from tongshi.clock import Clock
from tongshi.gateways.signalling.abnormality import Abnormalities
from tongshi.gateways.signalling.admission.desk import AdmissionDesk
from tongshi.gateways.signalling.background import Background
from tongshi.gateways.signalling.broadcast import Broadcasts
from tongshi.gateways.signalling.catalogues import Catalogues
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.incoming_live import IncomingLive
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import Archive, Record
from tongshi.gateways.signalling.profiles import Profiles
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionFlows
from tongshi.gateways.signalling.trace.recorder import Recorder
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.control import DeviceControl, GuardCommand
from tongshi.protocols.gb28181.habits import Habit
from tongshi.protocols.gb28181.profile import Quirk
from tongshi.protocols.sip.address import transport_of
from tongshi.resources.viewing.service import Viewing

log = structlog.get_logger(__name__)

StateListener = Callable[[str, bool, str], Awaitable[None]]


class Presence:
    """Told by registrar, keepalives, endpoint and uppers; tells everybody else. ``background`` runs it."""

    def __init__(
        self,
        *,
        peers: Peers,
        uppers: dict[str, Upper],
        record: Record,
        archive: Archive,
        clock: Clock,
        endpoint: SipEndpoint,
        post: Post,
        routes: Routes,
        profiles: Profiles,
        catalogues: Catalogues,
        subscriptions: SubscriptionFlows,
        admission: AdmissionDesk,
        broadcasts: Broadcasts,
        abnormal: Abnormalities,
        timeline: Recorder,
        background: Background,
        on_upper_state: StateListener | None,
    ) -> None:
        self._peers = peers
        self._uppers = uppers
        self._record = record
        self._archive = archive
        self._clock = clock
        self._endpoint = endpoint
        self._post = post
        self._routes = routes
        self._profiles = profiles
        self._catalogues = catalogues
        self._subscriptions = subscriptions
        self._admission = admission
        self._broadcasts = broadcasts
        self._abnormal = abnormal
        self._timeline = timeline
        self._background = background
        self._on_upper_state = on_upper_state
        self._viewing: Viewing | None = None
        self._incoming: IncomingLive | None = None

    def attach(self, viewing: Viewing, incoming: IncomingLive) -> None:
        """Say whose pictures end with a peer, and whose with an upper."""
        self._viewing = viewing
        self._incoming = incoming

    async def restore(self) -> None:
        """Take up registrations from before a restart; the silent are dropped as usual (chapter 4, B)."""
        now, at = self._clock.now(), self._clock.at()
        for row in await self._record.stored(at):
            remote = Remote(row.host, row.port, transport_of(row.transport))
            profile = self._profiles.restored(row.peer_id, row.edition, row.user_agent, remote.transport)
            left_s = (row.expires_at - at).total_seconds()
            self._peers.put(Peer(row.peer_id, remote, profile, now + left_s, now, row.is_platform))

    def peer_online(self, peer: Peer) -> None:
        """It registered: asked what it has, and told to all who wait for it."""
        log.info("peer_online", peer_id=peer.id, remote=str(peer.remote), platform=peer.is_platform)
        self._catalogues.refresh(peer)
        self._admission.identify(peer)
        if peer.remote.is_reliable:
            self._watch_connection(peer)
        self._subscriptions.peer_online(peer)
        if peer.profile.has(Quirk.GUARD_BEFORE_ALARM):
            self._background.begin(self._set_guard(peer))
        self._abnormal.works((peer.id, *self._routes.channels_of(peer.id)))

    def peer_moved(self, peer: Peer, remote: Remote) -> None:
        """It is heard from another socket."""
        self._profiles.see(peer.id, Habit.PORT_CHANGED, f"{peer.remote} → {remote}", "MESSAGE Keepalive")

    def peer_offline(self, peer: Peer, reason: str) -> None:
        """It is gone: nothing waits for it any more."""
        self._catalogues.forget(peer.id)
        self._subscriptions.peer_offline(peer.id)
        if self._viewing is not None:
            self._viewing.peer_lost(peer.id)
        self._broadcasts.peer_lost(peer.id)
        if not peer.is_platform:  # what is below a silent platform is unknown, not faulty
            self._abnormal.faulty((peer.id, *self._routes.channels_of(peer.id)))

    def children_faulty(self, peer: Peer, children: Iterable[str]) -> None:
        """A keepalive names channels that do not work."""
        told: Sequence[str] = [child for child in children if child in self._routes.channels_of(peer.id)]
        if told:
            self._background.begin(
                self._archive.note_status(dict.fromkeys(told, False), peer.id, "keepaliveInfo")
            )
            self._abnormal.faulty(told)

    def end(self, peer_id: str, reason: str) -> None:
        """A peer may not stay: offline now, as if it had deregistered."""
        peer = self._peers.remove(peer_id)
        if peer is not None:
            log.warning("peer_offline", peer_id=peer_id, reason=reason)
            self.peer_offline(peer, reason)
            channels = self._routes.channels_of(peer_id)
            self._background.begin(self._record.remove(peer_id, channels, self._clock.at(), reason))

    def connection_broken(self, remote: Remote, reason: str) -> None:
        """No message tells why a platform above cannot be reached; its timeline shall."""
        for upper in self._uppers.values():
            if upper.remote == remote:
                log.warning("upper_unreachable", platform_id=upper.id, remote=str(remote), reason=reason)
                self._timeline.registration_failed(upper.id, reason)

    def upper_turned(self, upper: Upper, is_registered: bool, reason: str) -> None:
        """A platform above took us in or lost us."""
        self._profiles.upper_turned(upper, is_registered, reason)
        if not is_registered:
            self._subscriptions.upper_lost(upper.id)
            if self._incoming is not None:
                self._incoming.upper_lost(upper.id)
        if self._on_upper_state is not None:
            self._background.begin(self._tell(upper.id, is_registered, reason))

    def _watch_connection(self, peer: Peer) -> None:
        """A registration over TCP or TLS lives as long as its connection (9.1.1 f)."""

        def broken() -> None:
            stop()
            now = self._peers.get(peer.id)
            if now is not None and now.remote == remote:
                self.end(peer.id, "connectionLost")

        remote = peer.remote
        stop = self._endpoint.watch(remote, broken)

    async def _set_guard(self, peer: Peer) -> None:
        """Quirk 61: it tells of no alarm before."""
        guard = DeviceControl(peer.next_sn(), peer.id, guard_cmd=GuardCommand.SET)
        status = await self._post.send(peer, guard)
        log.info("guard_set", peer_id=peer.id, status=status)

    async def _tell(self, upper_id: str, is_registered: bool, reason: str) -> None:
        assert self._on_upper_state is not None  # checked by the caller
        await self._on_upper_state(upper_id, is_registered, reason)
