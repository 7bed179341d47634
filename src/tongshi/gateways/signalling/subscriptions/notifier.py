"""Subscriptions of platforms above us: who may subscribe what, and which topic serves it.

Implements: GB/T 28181-2022 9.11
An upper subscribes by the body, whatever the event is called (quirk 59); a name that no edition uses gets
489, a body that asks for nothing we tell likewise. What it may not see does not exist for it: 404. A second
subscription to the same thing takes the place of the first. ``MAX_OF_AN_UPPER`` bounds each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from tongshi.errors import RemoteViolation
from tongshi.gateways.signalling.endpoint import IncomingSubscription
from tongshi.gateways.signalling.questions import CONTENT_TYPE
from tongshi.gateways.signalling.subscriptions.placing import Place
from tongshi.gateways.signalling.subscriptions.ports import Newsroom
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.types import CatalogItem

log = structlog.get_logger(__name__)

DEFAULT_EXPIRES_S = 600  # N.2.1.2.1
MAX_EXPIRES_S = 86_400
MAX_OF_AN_UPPER = 2_000
_EVENTS = frozenset(("", "catalog", "alarm", "presence", "mobileposition", "ptzposition"))


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One accepted subscription: who, what exactly, where, and the dialog to tell it through."""

    upper: Upper
    query: BaseMessage
    place: Place
    incoming: IncomingSubscription

    async def tell(self, message: BaseMessage) -> bool:
        """Send one notification, its codes as the upper knows them. False when it was not taken.

        Raises:
            PeerTimeout, Unavailable: no answer, the dialog is over.
        """
        profile = self.upper.profile
        body = self.upper.names.outward(message).render(profile.charset, profile.edition)
        response = await self.incoming.notify(body, CONTENT_TYPE)
        return response.is_success

    def shows(self, item: CatalogItem) -> bool:
        """Whether this device is among what was subscribed, and can be shown to this upper."""
        return self.place.has(item) and not self.upper.names.hides(item.device_id)

    async def ended_within(self, wait_s: float) -> bool:
        """Wait a while. True as soon as the subscription is over."""
        try:
            async with asyncio.timeout(wait_s):
                await self.incoming.ended.wait()
        except TimeoutError:
            return False
        return True


class Topic(Protocol):
    """What can be subscribed."""

    def begin(self, held: Held) -> None:
        """Tell this subscriber until its dialog ends."""
        ...


class Notifier:
    """Takes SUBSCRIBE of uppers.

    Args:
        topics: by the type of the query in the body.
    """

    def __init__(self, own_id: str, newsroom: Newsroom, topics: Mapping[type[BaseMessage], Topic]) -> None:
        self._own_id = own_id
        self._newsroom = newsroom
        self._topics = topics
        self._held: dict[str, dict[tuple[str, str], Held]] = {}

    def __len__(self) -> int:
        return sum(len(of_one) for of_one in self._held.values())

    def held(self, upper_id: str) -> tuple[Held, ...]:
        """What an upper has subscribed now."""
        return tuple(self._held.get(upper_id, {}).values())

    async def take(self, incoming: IncomingSubscription, upper: Upper) -> None:
        """One SUBSCRIBE, answered exactly once."""
        request = incoming.request
        if incoming.event not in _EVENTS:
            incoming.reject(489)
            return
        if request.content_type not in ("", CONTENT_TYPE.lower()):
            incoming.reject(415)
            return
        try:
            query = decode(request.body, charset=upper.profile.forced_charset)
        except RemoteViolation as violation:
            log.info("subscription_malformed", platform_id=upper.id, reason=violation.message)
            incoming.reject(400)
            return
        topic = self._topics.get(type(query))  # type: ignore[arg-type]  # an unknown message has no topic
        if topic is None or not isinstance(query, BaseMessage):
            incoming.reject(489)
            return
        named = upper.names.inward(query)
        place = None if named is None else await self._place(upper, named.device_id)
        if place is None or named is None:
            incoming.reject(404)
            return
        of_one = self._held.setdefault(upper.id, {})
        key = (named.cmd_type, named.device_id)
        if key not in of_one and len(of_one) >= MAX_OF_AN_UPPER:
            incoming.reject(503)
            return
        self._begin(Held(upper, named, place, incoming), key, topic)

    def end(self, upper_id: str) -> None:
        """Our registration there is over: nothing more is told."""
        for held in tuple(self._held.pop(upper_id, {}).values()):
            held.incoming.forget()

    def stop(self) -> None:
        """Tell all that it ends, so that they subscribe again where we come back."""
        for of_one in tuple(self._held.values()):
            for held in tuple(of_one.values()):
                held.incoming.terminate("deactivated")
        self._held.clear()

    def _begin(self, held: Held, key: tuple[str, str], topic: Topic) -> None:
        upper_id, incoming = held.upper.id, held.incoming
        before = self._held[upper_id].pop(key, None)
        if before is not None:
            before.incoming.forget()
        asked = DEFAULT_EXPIRES_S if incoming.expires_s is None else incoming.expires_s
        self._held[upper_id][key] = held
        incoming.on_end = lambda end: self._over(upper_id, key, held)
        incoming.accept(min(asked, MAX_EXPIRES_S))
        log.info("subscription_accepted", platform_id=upper_id, what=key[0], device_id=key[1])
        if asked:
            topic.begin(held)

    def _over(self, upper_id: str, key: tuple[str, str], held: Held) -> None:
        of_one = self._held.get(upper_id, {})
        if of_one.get(key) is held:
            del of_one[key]
        end = held.incoming.end.value if held.incoming.end is not None else ""
        log.info("subscription_over", platform_id=upper_id, what=key[0], device_id=key[1], end=end)

    async def _place(self, upper: Upper, code: str) -> Place | None:
        """What the code means to this upper; None when it may not know of it."""
        if code == self._own_id:
            return Place(code, self._own_id)
        nodes = await self._newsroom.shared_nodes(upper.id)
        if any(node.device_id == code for node in nodes) or await self._newsroom.told_items(upper.id, [code]):
            return Place(code, self._own_id, nodes)
        return None
