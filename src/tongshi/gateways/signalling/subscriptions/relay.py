"""What devices tell, told on to those above who subscribed it: alarms, positions of things and of heads.

Implements: GB/T 28181-2022 9.11
Implements: GB/T 28181-2022 9.4
A subscription to one device is passed on: we subscribe at the peer it is reached by, for as long as somebody
above wants it. Each subscriber has a queue of its own and a task that tells it one after the other; what
comes while the queue is full pushes out the oldest and is counted. Of positions only the last of each device
counts, and it is told once an interval. What the upper may not see is left out when it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import structlog
from msgspec.structs import replace

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.subscriptions.notifier import Held
from tongshi.gateways.signalling.subscriptions.ports import Newsroom
from tongshi.gateways.signalling.subscriptions.subscriber import Kind, Subscriber
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmQuery
from tongshi.protocols.gb28181.device_query import PTZPositionQuery
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.positions import (
    MobilePositionNotify,
    MobilePositionQuery,
    Position,
    PTZPositionNotify,
)

log = structlog.get_logger(__name__)

MAX_QUEUED = 1_000
MAX_POSITIONS = 10_000
POSITIONS_A_MESSAGE = 100

KINDS: dict[type[BaseMessage], Kind] = {
    AlarmQuery: Kind.ALARM,
    MobilePositionQuery: Kind.MOBILE_POSITION,
    PTZPositionQuery: Kind.PTZ_POSITION,
}
Told = AlarmNotify | PTZPositionNotify | MobilePositionNotify
PeerOf = Callable[[str], Awaitable[Peer]]


@dataclass(slots=True, eq=False)
class _Listener:
    held: Held
    queue: deque[AlarmNotify | PTZPositionNotify] = field(default_factory=deque)
    positions: dict[str, Position] = field(default_factory=dict)
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: int = 0


class Relay:
    """The topics of alarms and positions.

    Args:
        subscriber: our own subscriptions, made for a device while somebody above wants it.
        peer_of: by which peer a device is reached; raises NotFound, Unavailable.
    """

    def __init__(self, newsroom: Newsroom, subscriber: Subscriber, peer_of: PeerOf, clock: Clock) -> None:
        self._newsroom = newsroom
        self._subscriber = subscriber
        self._peer_of = peer_of
        self._clock = clock
        self._listeners: dict[_Listener, asyncio.Task[None]] = {}

    def begin(self, held: Held) -> None:
        listener = _Listener(held)
        task = asyncio.get_running_loop().create_task(self._serve(listener))
        self._listeners[listener] = task
        task.add_done_callback(lambda _: self._listeners.pop(listener, None))

    def hear(self, peer: Peer, message: Told, except_for: Collection[str] = ()) -> None:
        """A peer told something, under a subscription or not; some uppers get it in another way."""
        for listener in self._listeners:
            if listener.held.upper.id in except_for:
                continue
            query = listener.held.query
            if isinstance(message, MobilePositionNotify):
                if isinstance(query, MobilePositionQuery):
                    _keep_positions(listener, message)
            elif isinstance(message, AlarmNotify):
                if isinstance(query, AlarmQuery) and query.wants(
                    message.priority, message.method, message.alarm_type
                ):
                    _enqueue(listener, message)
            elif isinstance(query, PTZPositionQuery):
                _enqueue(listener, message)

    async def stop(self) -> None:
        """End all tasks."""
        tasks = tuple(self._listeners.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, listener: _Listener) -> None:
        held = listener.held
        ended = asyncio.ensure_future(held.incoming.ended.wait())
        release = await self._claim(held)
        try:
            while not ended.done():
                await _first(ended, listener.bell)
                listener.bell.clear()
                if not ended.done():
                    await self._tell(listener)
        except TongshiError as error:
            log.info("relay_ended", platform_id=held.upper.id, what=held.query.cmd_type, reason=error.message)
            held.incoming.terminate("deactivated")
        except Exception:
            log.exception("relay_crashed", platform_id=held.upper.id)
            held.incoming.terminate("deactivated")
        finally:
            ended.cancel()
            release()

    async def _claim(self, held: Held) -> Callable[[], None]:
        """Subscribe below what was subscribed above; a whole platform follows the configuration alone."""
        if held.place.is_everything:
            return lambda: None
        try:
            peer = await self._peer_of(held.query.device_id)
        except TongshiError as error:
            log.info("relay_has_no_source", device_id=held.query.device_id, reason=error.message)
            return lambda: None
        return self._subscriber.claim(peer, KINDS[type(held.query)], held.query.device_id)

    async def _tell(self, listener: _Listener) -> None:
        held = listener.held
        while listener.queue:
            message = listener.queue.popleft()
            found = await self._newsroom.told_items(held.upper.id, [message.device_id])
            item = found.get(message.device_id)
            if item is not None and held.shows(item):
                await held.tell(replace(message, sn=held.query.sn))
        if listener.positions and isinstance(held.query, MobilePositionQuery):
            waiting, listener.positions = listener.positions, {}
            await self._tell_positions(held, held.query, waiting)
            await held.ended_within(held.query.interval_s)
        if listener.dropped:
            log.warning("relay_overflowed", platform_id=held.upper.id, dropped=listener.dropped)
            listener.dropped = 0

    async def _tell_positions(
        self, held: Held, query: MobilePositionQuery, waiting: dict[str, Position]
    ) -> None:
        found = await self._newsroom.told_items(held.upper.id, list(waiting))
        seen = [waiting[code] for code, item in sorted(found.items()) if held.shows(item)]
        for start in range(0, len(seen), POSITIONS_A_MESSAGE):
            page = tuple(seen[start : start + POSITIONS_A_MESSAGE])
            at = max(position.at for position in page)
            whole = MobilePositionNotify(query.sn, query.device_id, at, page)
            for message in whole.for_edition(held.upper.profile.edition):
                await held.tell(message)


async def _first(ended: asyncio.Future[Any], bell: asyncio.Event) -> None:
    """Wait until it ended or the bell rings."""
    rung = asyncio.ensure_future(bell.wait())
    try:
        await asyncio.wait((ended, rung), return_when=asyncio.FIRST_COMPLETED)
    finally:
        rung.cancel()


def _enqueue(listener: _Listener, message: AlarmNotify | PTZPositionNotify) -> None:
    if len(listener.queue) >= MAX_QUEUED:
        listener.queue.popleft()
        listener.dropped += 1
    listener.queue.append(message)
    listener.bell.set()


def _keep_positions(listener: _Listener, message: MobilePositionNotify) -> None:
    for position in message.positions:
        if position.device_id not in listener.positions and len(listener.positions) >= MAX_POSITIONS:
            listener.dropped += 1
            continue
        listener.positions[position.device_id] = position
    if listener.positions:
        listener.bell.set()
