"""All of subscriptions behind one door: built once, wired to the gateway's events in one place.

Implements: GB/T 28181-2022 9.11
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tongshi.clock import Clock
from tongshi.gateways.signalling.admission.strangers import Strangers
from tongshi.gateways.signalling.catalogues import Catalogues
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.endpoint import IncomingRequest, IncomingSubscription, Remote, SipEndpoint
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.subscriptions.catalogue_events import CatalogueEvents
from tongshi.gateways.signalling.subscriptions.catalogue_news import Batching, CatalogueNews
from tongshi.gateways.signalling.subscriptions.notifier import Notifier
from tongshi.gateways.signalling.subscriptions.ports import Newsroom
from tongshi.gateways.signalling.subscriptions.relay import Relay
from tongshi.gateways.signalling.subscriptions.subscriber import Kind, Rhythm, Subscriber
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmQuery
from tongshi.protocols.gb28181.device_query import PTZPositionQuery
from tongshi.protocols.gb28181.notify import CatalogNotify
from tongshi.protocols.gb28181.positions import (
    MobilePositionNotify,
    MobilePositionQuery,
    PTZPositionNotify,
)
from tongshi.protocols.gb28181.query import CatalogQuery

NO_KINDS: frozenset[Kind] = frozenset()


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """What the configuration says of subscriptions.

    Attributes:
        at: kinds to subscribe at peers, by the leading digits of their code; the longest fit counts.
    """

    at: tuple[tuple[str, frozenset[Kind]], ...] = ()
    rhythm: Rhythm = field(default_factory=Rhythm)
    batching: Batching = field(default_factory=Batching)

    def kinds(self, peer_id: str) -> frozenset[Kind]:
        """What to subscribe at this peer."""
        fitting = [row for row in self.at if peer_id.startswith(row[0])]
        return max(fitting, key=lambda row: len(row[0]), default=("", NO_KINDS))[1]


class SubscriptionFlows:
    """Our subscriptions at peers, and those of uppers at us.

    Args:
        sender: who speaks, if it is registered and where it should be.
        on_refused: see ``Subscriber``.
    """

    def __init__(
        self,
        own_id: str,
        settings: SubscriptionSettings,
        endpoint: SipEndpoint,
        peers: Peers,
        routes: Routes,
        dispatch: Dispatch,
        catalogues: Catalogues,
        archive: Archive,
        newsroom: Newsroom,
        strangers: Strangers,
        clock: Clock,
        sender: Callable[[str, Remote], Peer | Upper | None],
        on_refused: Callable[[str, str, float], None],
    ) -> None:
        self._sender = sender
        self._strangers = strangers
        self.subscriber = Subscriber(
            endpoint,
            peers,
            dispatch,
            clock,
            lambda peer: settings.kinds(peer.id),
            catalogues.refresh,
            settings.rhythm,
            on_refused,
        )
        self._news = CatalogueNews(newsroom, clock, settings.batching)
        self._relay = Relay(newsroom, self.subscriber, routes.peer_of, clock)
        self.notifier = Notifier(
            own_id,
            newsroom,
            {
                CatalogQuery: self._news,
                AlarmQuery: self._relay,
                MobilePositionQuery: self._relay,
                PTZPositionQuery: self._relay,
            },
        )
        events = CatalogueEvents(archive, newsroom, routes, clock, catalogues.refresh)
        dispatch.from_peer(CatalogNotify, events.take)
        for told in (MobilePositionNotify, PTZPositionNotify):
            dispatch.listen(told, self._relay.hear)

    def alarm_told(self, peer: Peer, alarm: AlarmNotify, passed_on: Collection[str]) -> None:
        """A peer told of an alarm; those to whom it is passed on anyhow are not notified of it."""
        self._relay.hear(peer, alarm, passed_on)

    async def subscribe(self, incoming: IncomingSubscription) -> None:
        """A SUBSCRIBE; only platforms above may."""
        sender = self._sender(incoming.request.from_.uri.user, incoming.remote)
        if isinstance(sender, Upper):
            await self.notifier.take(incoming, sender)
            return
        if sender is None:
            self._strangers.note("SUBSCRIBE", incoming.remote)
        incoming.reject(403)

    async def notify(self, incoming: IncomingRequest) -> None:
        """A NOTIFY under one of our subscriptions."""
        await self.subscriber.take(incoming)

    def peer_online(self, peer: Peer) -> None:
        """Registered, or taken up after a restart."""
        self.subscriber.begin(peer)

    def peer_again(self, peer: Peer) -> None:
        """Registered again from where it was."""
        self.subscriber.check(peer)

    def peer_offline(self, peer_id: str) -> None:
        self.subscriber.end(peer_id)

    def upper_lost(self, upper_id: str) -> None:
        self.notifier.end(upper_id)

    async def stop(self) -> None:
        """End all, and say so to those above."""
        self.notifier.stop()
        await self._news.stop()
        await self._relay.stop()
        await self.subscriber.stop()
