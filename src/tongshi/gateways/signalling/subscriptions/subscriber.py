"""Our subscriptions at peers: made when a peer registers, refreshed in time, made anew when they are lost.

Implements: GB/T 28181-2022 9.11
Implements: GB/T 28181-2022 Annex N
One per peer, kind and device; each is one task that lives as long as the peer is registered. A refresh that
is refused or unanswered ends the dialog, and a new SUBSCRIBE follows (quirk 58), not sooner than ``retry_s``.
Only the second try of all comes after ``again_s``: a peer that has just registered may not have read our 200
yet, over UDP it may have lost it, and refuses whoever it is not registered with. Each refusal is told with
the time of the next try (``on_refused``).
A peer that says that it does not know an event is asked again only after ``unsupported_s``. After a restart
and after each registration from another address everything is subscribed anew; each other REGISTER is a
reason to refresh, which shows whether the peer still knows. The catalogue is asked for once in ``verify_s``
besides, because events lie (quirk 60), and whenever a lost subscription was made anew. What comes is
dispatched by its body like a MESSAGE; the name of the event decides nothing (quirk 59).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerFailed, PeerTimeout, TongshiError, Unavailable
from tongshi.gateways.signalling.dispatch import Dispatch, read_message
from tongshi.gateways.signalling.endpoint import IncomingRequest, SipEndpoint, Subscription
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.questions import CONTENT_TYPE
from tongshi.protocols.gb28181.alarm import AlarmQuery
from tongshi.protocols.gb28181.device_query import PTZPositionQuery
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.positions import MobilePositionQuery
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.version import Feature, supports

log = structlog.get_logger(__name__)

MAX_SUBSCRIPTIONS = 50_000
MAX_AT_ONCE = 64  # SUBSCRIBE requests that wait for an answer
_REFRESH_AT = 0.8  # of the time granted
_MIN_GRANTED_S = 1.0
# Not 403 and 404: a peer that has just registered may not have taken us up yet.
_UNSUPPORTED = frozenset((400, 405, 415, 489, 501))
_NOT_YET = frozenset((403, 404))


class Kind(Enum):
    """What can be subscribed at a peer; the value is the word of the configuration."""

    CATALOGUE = "catalogue"
    ALARM = "alarm"
    MOBILE_POSITION = "mobile-position"
    PTZ_POSITION = "ptz-position"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Times of our subscriptions."""

    expires_s: int = 600  # N.2.1.2.1
    again_s: float = 2.0
    retry_s: float = 30.0
    unsupported_s: float = 3_600.0
    verify_s: float = 6 * 3_600.0


@dataclass(frozen=True, slots=True)
class Wish:
    """One subscription at a peer; ``device_id`` is the peer itself or something below it."""

    peer_id: str
    kind: Kind
    device_id: str


@dataclass(slots=True)
class _Kept:
    task: asyncio.Task[None]
    # Who wants it besides the configuration: subscriptions of uppers.
    claims: int = 0
    is_configured: bool = False
    current: Subscription | None = field(default=None)


class Subscriber:
    """Keeps our subscriptions.

    Args:
        configured: kinds that the configuration names for a peer.
        verify: asks a peer for its whole catalogue.
        on_refused: told what was not taken (the code that was subscribed), why, and in how many seconds it is
            tried again.
    """

    def __init__(
        self,
        endpoint: SipEndpoint,
        peers: Peers,
        dispatch: Dispatch,
        clock: Clock,
        configured: Callable[[Peer], frozenset[Kind]],
        verify: Callable[[Peer], None],
        rhythm: Rhythm | None = None,
        on_refused: Callable[[str, str, float], None] = lambda device_id, reason, again_s: None,
    ) -> None:
        self._endpoint = endpoint
        self._peers = peers
        self._dispatch = dispatch
        self._clock = clock
        self._configured = configured
        self._verify = verify
        self._rhythm = rhythm or Rhythm()
        self._on_refused = on_refused
        self._kept: dict[Wish, _Kept] = {}
        self._by_peer: dict[str, set[Wish]] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._events = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def active(self) -> int:
        """How many are granted now."""
        return sum(kept.current is not None for kept in self._kept.values())

    def begin(self, peer: Peer) -> None:
        """A peer registered, anew or from another address, or was taken up after a restart."""
        claimed = {
            wish: kept.claims for wish in self._by_peer.get(peer.id, ()) if (kept := self._kept[wish]).claims
        }
        self.end(peer.id)
        for kind in self._configured(peer):
            self._keep(peer, Wish(peer.id, kind, peer.id), is_configured=True)
        for wish, claims in claimed.items():
            again = self._keep(peer, wish, is_configured=False)
            if again is not None:
                again.claims = claims

    def check(self, peer: Peer) -> None:
        """A peer registered again from where it was; it may have restarted in between and forgotten us."""
        for wish in self._by_peer.get(peer.id, ()):
            current = self._kept[wish].current
            if current is not None and not current.ended.is_set():
                try:
                    current.renew(self._rhythm.expires_s)
                except Unavailable:
                    continue  # it is ending, and its task makes a new one

    def end(self, peer_id: str) -> None:
        """A peer is gone: nothing is said to it any more."""
        for wish in tuple(self._by_peer.get(peer_id, ())):
            self._drop(wish)

    def claim(self, peer: Peer, kind: Kind, device_id: str) -> Callable[[], None]:
        """Somebody above wants this too. Returns what gives the claim back."""
        wish = Wish(peer.id, kind, device_id)
        kept = self._kept.get(wish) or self._keep(peer, wish, is_configured=False)
        if kept is not None:
            kept.claims += 1

        def release() -> None:
            held = self._kept.get(wish)
            if held is None:
                return
            held.claims = max(0, held.claims - 1)
            if not held.claims and not held.is_configured:
                if held.current is not None:
                    held.current.cancel()
                self._drop(wish)

        return release

    async def take(self, incoming: IncomingRequest) -> None:
        """A NOTIFY under one of our subscriptions."""
        subscription = incoming.subscription
        peer = self._peers.get(subscription.peer_id) if subscription is not None else None
        if peer is None:
            incoming.respond(481)
            return
        if not incoming.request.body:
            incoming.respond(200)
            return
        message = read_message(incoming, peer)
        if message is None:
            return
        await self._dispatch.message_of_peer(incoming, peer, message)

    async def stop(self) -> None:
        """End all tasks; peers are left to notice by their own timers."""
        tasks = [kept.task for kept in self._kept.values()]
        for wish in tuple(self._kept):
            self._drop(wish)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, peer: Peer, wish: Wish, *, is_configured: bool) -> _Kept | None:
        if len(self._kept) >= MAX_SUBSCRIPTIONS:
            log.warning("subscriptions_full", peer_id=wish.peer_id, kind=wish.kind.value)
            return None
        task = asyncio.get_running_loop().create_task(self._run(wish))
        kept = self._kept[wish] = _Kept(task, is_configured=is_configured)
        self._by_peer.setdefault(peer.id, set()).add(wish)
        return kept

    def _drop(self, wish: Wish) -> None:
        kept = self._kept.pop(wish, None)
        if kept is None:
            return
        kept.task.cancel()
        if kept.current is not None:
            kept.current.forget()
        wishes = self._by_peer.get(wish.peer_id, set())
        wishes.discard(wish)
        if not wishes:
            self._by_peer.pop(wish.peer_id, None)

    async def _run(self, wish: Wish) -> None:
        verified = self._clock.now()
        tries = 0
        was_held = False
        while True:
            tries += 1
            try:
                subscription = await self._subscribe(wish)
            except (PeerFailed, PeerTimeout, Unavailable) as error:
                delay_s = self._refused(wish, error, tries)
            except TongshiError as error:
                log.warning(
                    "subscription_impossible",
                    peer_id=wish.peer_id,
                    kind=wish.kind.value,
                    reason=error.message,
                )
                return
            else:
                delay_s = self._rhythm.retry_s
                kept = self._kept.get(wish)
                if kept is not None:
                    kept.current = subscription
                peer = self._peers.get(wish.peer_id)
                if was_held and wish.kind is Kind.CATALOGUE and peer is not None:
                    # Nobody told us meanwhile, and the first notification names only what is dead.
                    self._verify(peer)
                was_held = True
                verified = await self._hold(wish, subscription, verified)
                if kept is not None:
                    kept.current = None
            await asyncio.sleep(delay_s)

    def _refused(self, wish: Wish, error: PeerFailed | PeerTimeout | Unavailable, tries: int) -> float:
        """Tell why it was not taken. Returns seconds until the next try."""
        delay_s = min(self._rhythm.again_s, self._rhythm.retry_s) if tries == 1 else self._rhythm.retry_s
        status = error.details.get("sipStatus")
        if status in _UNSUPPORTED:
            delay_s = self._rhythm.unsupported_s
        reason = error.message
        if status in _NOT_YET:
            reason = f"对端尚未确认注册，或没有许可本平台订阅（{status}）"
        log.info(
            "subscription_refused",
            peer_id=wish.peer_id,
            kind=wish.kind.value,
            status=status,
            reason=error.message,
            again_s=delay_s,
        )
        self._on_refused(wish.device_id, reason, delay_s)
        return delay_s

    async def _subscribe(self, wish: Wish) -> Subscription:
        # Looked up each time: a registration that is refreshed makes a new entry.
        peer = self._peers.get(wish.peer_id)
        if peer is None:
            raise Unavailable("设备不在线", code=50301)
        query = _query(wish, peer)
        self._events = self._events % 99_999 + 1
        # Annex N names the catalogue's event; for the others the standard is silent and this is usual.
        event = f"Catalog;id={self._events}" if wish.kind is Kind.CATALOGUE else "presence"
        async with self._slots:
            return await self._endpoint.subscribe(
                to_id=wish.device_id,
                remote=peer.remote,
                event=event,
                body=query.render(peer.profile.charset, peer.profile.edition),
                content_type=CONTENT_TYPE,
                expires_s=self._rhythm.expires_s,
                peer_id=wish.peer_id,
            )

    async def _hold(self, wish: Wish, held: Subscription, verified: float) -> float:
        """Refresh until it ends. Returns when the catalogue was verified last."""
        log.info("subscribed", peer_id=wish.peer_id, kind=wish.kind.value, expires_s=held.expires_s)
        while not held.ended.is_set():
            try:
                async with asyncio.timeout(max(_MIN_GRANTED_S, held.expires_s) * _REFRESH_AT):
                    await held.ended.wait()
            except TimeoutError:
                try:
                    held.renew(self._rhythm.expires_s)
                except Unavailable:
                    continue
            peer = self._peers.get(wish.peer_id)
            is_due = self._clock.now() - verified >= self._rhythm.verify_s
            if wish.kind is Kind.CATALOGUE and is_due and peer is not None:
                verified = self._clock.now()
                self._verify(peer)
        end = held.end.value if held.end is not None else ""
        log.info(
            "subscription_ended", peer_id=wish.peer_id, kind=wish.kind.value, end=end, detail=held.detail
        )
        return verified


def _query(wish: Wish, peer: Peer) -> BaseMessage:
    sn = peer.next_sn()
    match wish.kind:
        case Kind.CATALOGUE:
            return CatalogQuery(sn, wish.device_id)
        case Kind.ALARM:
            return AlarmQuery(sn, wish.device_id)
        case Kind.MOBILE_POSITION:
            return MobilePositionQuery(sn, wish.device_id)
        case Kind.PTZ_POSITION:
            if not supports(peer.profile.edition, Feature.PTZ_POSITION):
                raise PeerFailed("对端版本不支持云台精准位置订阅", details={"sipStatus": 489})
            return cast(BaseMessage, PTZPositionQuery(sn=sn, device_id=wish.device_id))
