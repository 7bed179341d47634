"""Several media nodes behind the one port that viewing knows: chosen by place and load, drained, failed over.

Implements: DB31DSJ/Z 001-2024 5.2
A node nearest to the device is taken first (the longest of its places that begins the device's code), among
equals the least loaded. A node that refuses is passed over for the next one, with its reason. A node that
does not answer two looks is lost: what it carried ends with that reason, and the next viewer is served by
another. Draining cuts nobody: only new streams go elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from tongshi.clock import Clock
from tongshi.errors import NotFound, TongshiError, Unavailable
from tongshi.resources.viewing.media_ports import Ingest
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.nodes import NodeState, NodeView

log = structlog.get_logger(__name__)

LOOK_S = 2.0
LOOK_LIMIT_S = 3.0
LOOKS_TO_LOSE = 2  # unanswered in a row
DEFAULT_CAPACITY = 500  # streams; one core carries 200 of 4 Mbit/s with a tenth of itself


class MediaNode(Protocol):
    """One place where streams can be opened."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def open_streams(self) -> int:
        """Those opened here and not yet closed."""
        ...

    @property
    def complaint(self) -> str:
        """What its operator should mend although it works, by its last look; "" when nothing."""
        ...

    async def open(self, stream: str, transport: Transport, *, is_local: bool = False) -> Ingest:
        """As ``MediaEngine.open``."""
        ...

    async def look(self) -> float:
        """Its load, 0 to 1. Raises TongshiError: it does not answer."""
        ...

    def lose(self) -> None:
        """It is gone: everything it carried has ended."""
        ...


@dataclass(slots=True)
class Seat:
    """A node with what the configuration and the last looks say of it."""

    node: MediaNode
    places: tuple[str, ...] = ()
    capacity: int = DEFAULT_CAPACITY
    is_local: bool = True
    is_draining: bool = False
    is_lost: bool = False
    missed: int = 0
    reported: float = 0.0
    trouble: str = ""
    since: datetime | None = None
    opening: set[str] = field(default_factory=set)  # streams being opened right now

    @property
    def streams(self) -> int:
        return self.node.open_streams

    @property
    def load(self) -> float:
        return max(self.reported, (self.streams + len(self.opening)) / self.capacity)

    @property
    def state(self) -> NodeState:
        if self.is_lost:
            return NodeState.LOST
        if not self.is_draining:
            return NodeState.ACTIVE
        return NodeState.DRAINING if self.streams or self.opening else NodeState.DRAINED

    def nearness(self, device_id: str) -> int:
        """Digits of its place that the device's code begins with; 0 for anywhere, -1 for elsewhere."""
        if not self.places:
            return 0
        return max((len(place) for place in self.places if device_id.startswith(place)), default=-1)

    def refusal(self) -> str:
        """Why nothing is opened here now; "" when something may be."""
        if self.is_lost:
            return f"失联（{self.trouble}）"
        if self.is_draining:
            return "已停止分配"
        if self.streams + len(self.opening) >= self.capacity:
            return "已满"
        return ""


class MediaNodes:
    """The media nodes of this platform; the engine port of viewing.

    Args:
        seats: at least one; names are unique.
    """

    def __init__(self, seats: Sequence[Seat], clock: Clock) -> None:
        self._seats = {seat.node.name: seat for seat in seats}
        self._clock = clock
        self._started_at = clock.at()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at the nodes."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Stop looking; streams are their holders' to close."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def open(
        self, stream: str, transport: Transport, device_id: str = "", *, is_local: bool = False
    ) -> Ingest:
        """Open a stream at the best node that takes it.

        Raises:
            Unavailable: none does; names each with its reason (50302).
        """
        refusals: list[str] = []
        for seat in self._in_order(device_id, is_local):
            refusal = seat.refusal()
            if not refusal:
                seat.opening.add(stream)
                try:
                    return await seat.node.open(stream, transport, is_local=is_local)
                except TongshiError as error:
                    refusal = error.message
                    self._note(seat, error.message)
                    log.warning("media_node_refused", node=seat.node.name, error=error.message)
                finally:
                    seat.opening.discard(stream)
            refusals.append(f"{seat.node.name} {refusal}")
        words = "；".join(refusals) if refusals else "没有可以写文件的媒体节点"
        raise Unavailable(f"媒体资源不足：{words}", code=50302, retry_after_s=5)

    def views(self) -> list[NodeView]:
        """All nodes, in the order of the configuration."""
        return [self._view(seat) for seat in self._seats.values()]

    def drain(self, name: str, at: datetime) -> NodeView:
        """Open nothing more there."""
        return self._set_draining(name, at, is_draining=True)

    def resume(self, name: str, at: datetime) -> NodeView:
        """Open streams there again."""
        return self._set_draining(name, at, is_draining=False)

    async def look_at_all(self) -> None:
        """One look at every node, all at once."""
        await asyncio.gather(*(self._look(seat) for seat in self._seats.values()))

    def _in_order(self, device_id: str, is_local: bool) -> list[Seat]:
        able = [seat for seat in self._seats.values() if seat.is_local or not is_local]
        return sorted(able, key=lambda seat: (-seat.nearness(device_id), seat.load))

    def _set_draining(self, name: str, at: datetime, *, is_draining: bool) -> NodeView:
        seat = self._seats.get(name)
        if seat is None:
            raise NotFound("没有这个媒体节点", code=40404)
        if seat.is_draining is not is_draining:
            seat.is_draining = is_draining
            seat.since = at
        return self._view(seat)

    def _view(self, seat: Seat) -> NodeView:
        return NodeView(
            name=seat.node.name,
            kind=seat.node.kind,
            state=seat.state,
            streams=seat.streams,
            capacity=seat.capacity,
            load=min(1.0, seat.load),
            places=seat.places,
            trouble="；".join(filter(None, (seat.trouble, seat.node.complaint))),
            since=seat.since or self._started_at,
        )

    async def _watch(self) -> None:
        while True:
            await self.look_at_all()
            await asyncio.sleep(LOOK_S)

    async def _look(self, seat: Seat) -> None:
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                seat.reported = await seat.node.look()
        except (TongshiError, TimeoutError) as error:
            words = error.message if isinstance(error, TongshiError) else "在规定时间内没有应答"
            self._miss(seat, words)
        except Exception:
            log.exception("media_node_look_failed", node=seat.node.name)
            self._miss(seat, "平台内部错误")
        else:
            self._found(seat)

    def _miss(self, seat: Seat, words: str) -> None:
        seat.missed += 1
        self._note(seat, words)
        if seat.missed < LOOKS_TO_LOSE or seat.is_lost:
            return
        seat.is_lost, seat.since = True, self._clock.at()
        log.error("media_node_lost", node=seat.node.name, streams=seat.streams, error=words)
        seat.node.lose()

    def _found(self, seat: Seat) -> None:
        if seat.missed:
            seat.missed, seat.trouble = 0, ""  # it was that it did not answer
        if seat.is_lost:
            seat.is_lost, seat.since = False, self._clock.at()
            log.info("media_node_back", node=seat.node.name)

    def _note(self, seat: Seat, words: str) -> None:
        seat.trouble = words
