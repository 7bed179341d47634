"""Asking a device for its settings and commanding it, whichever level it is at.

Implements: GB/T 28181-2022 9.3
Implements: GB/T 28181-2022 9.5
Five commands and every configuration wait for the application's answer; the others end with the SIP answer
(9.3.1). An answer may come in parts with one SN: it is complete when the parts hold what was announced, or
every configuration that was asked for; silence after a part ends it as incomplete. A peer of an older edition
is not sent what it cannot know (Annex I), and what nobody waits for any more is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, PeerFailed, PeerTimeout, Unprocessable
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.protocols.gb28181.configuration import Configuration, merged, types_of
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl
from tongshi.protocols.gb28181.control_parts import HomePosition
from tongshi.protocols.gb28181.device_query import (
    ConfigDownloadQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    DeviceQuery,
    HomePositionQuery,
    PresetQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
    query_edition,
)
from tongshi.protocols.gb28181.device_response import (
    Card,
    ConfigDownloadResponse,
    CruisePoint,
    CruiseTrack,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    DeviceConfigResponse,
    HomePositionResponse,
    Preset,
    PresetResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.response import DeviceControlResponse, DeviceStatusResponse
from tongshi.protocols.gb28181.version import Edition
from tongshi.resources.control.ports import CommandReply, Configured, Heard

log = structlog.get_logger(__name__)

MAX_COLLECTING: Final = 1_000
MAX_PARTS: Final = 400

DeviceResponse = (
    PresetResponse
    | HomePositionResponse
    | CruiseTrackListResponse
    | CruiseTrackResponse
    | PTZPositionResponse
    | SDCardStatusResponse
    | ConfigDownloadResponse
)
RESPONSES: Final[tuple[type[Any], ...]] = (
    PresetResponse,
    HomePositionResponse,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
    ConfigDownloadResponse,
)
# The attribute that lists what a response counts.
_LISTED: Final[dict[type[Any], str]] = {
    PresetResponse: "presets",
    CruiseTrackListResponse: "tracks",
    CruiseTrackResponse: "points",
    SDCardStatusResponse: "cards",
}

R = TypeVar("R", bound=BaseMessage)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long to wait: for the SIP answer, for the first part, after a part, and for all."""

    sip_s: float = 4.0
    first_s: float = 8.0
    idle_s: float = 3.0
    total_s: float = 30.0


@dataclass(slots=True)
class _Collection:
    """The parts of one answer, and a bell that rings at each."""

    query: DeviceQuery
    parts: list[Any] = field(default_factory=list)
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_complete(self) -> bool:
        return bool(self.parts) and _is_complete(self.query, self.parts)


class DeviceOrders:
    """Fulfils ``control.ports.DeviceTalk``."""

    def __init__(
        self, post: Post, routes: Routes, clock: Clock, dispatch: Dispatch, waits: Waits | None = None
    ) -> None:
        self._post = post
        self._routes = routes
        self._clock = clock
        self._waits = waits or Waits()
        self._collecting: dict[tuple[str, str], dict[int, _Collection]] = {}
        self._count = 0
        for kind in RESPONSES:
            dispatch.from_peer(kind, self._take)

    @property
    def collecting(self) -> int:
        """Questions under way."""
        return self._count

    # --- Questions --------------------------------------------------------------------------------

    async def ask(
        self, device_id: str, make: Callable[[int], DeviceQuery]
    ) -> tuple[Sequence[DeviceResponse], bool]:
        """Ask a device; every part of its answer, and whether that is the whole.

        Raises:
            NotFound, Unavailable: no way to the device. Unprocessable: its edition has no such query.
            PeerTimeout: silence (50401). PeerFailed: refused by SIP (50201). LimitExceeded: too many wait.
        """
        peer = await self._routes.way_to(device_id)
        query = make(peer.next_sn())
        _gate(peer, query_edition(query), query.cmd_type)
        if self._count >= MAX_COLLECTING:
            raise LimitExceeded("等待应答的查询过多", retry_after_s=5)
        same = self._collecting.setdefault((peer.id, query.cmd_type), {})
        collection = same[query.sn] = _Collection(query)
        self._count += 1
        try:
            status = await self._post.send(peer, query, timeout_s=self._waits.sip_s)
            if not 200 <= status < 300:
                message = f"设备拒绝了查询（SIP {status}）"
                raise PeerFailed(message, code=50201, details={"sipStatus": status})
            await self._collect(collection)
        finally:
            self._count -= 1
            del same[query.sn]
            if not same:
                self._collecting.pop((peer.id, query.cmd_type), None)
        return collection.parts, collection.is_complete

    async def _collect(self, collection: _Collection) -> None:
        ends = self._clock.now() + self._waits.total_s
        while not collection.is_complete:
            patience_s = self._waits.idle_s if collection.parts else self._waits.first_s
            collection.bell.clear()
            try:
                async with asyncio.timeout(min(patience_s, max(0.0, ends - self._clock.now()))):
                    await collection.bell.wait()
            except TimeoutError as error:
                if not collection.parts:
                    raise PeerTimeout("设备没有应答查询", code=50401) from error
                return

    async def _take(self, incoming: IncomingRequest, peer: Peer, message: DeviceResponse) -> None:
        """A part; dropped when nobody waits. An SN that was lost matches the only question (quirk 7)."""
        incoming.respond(200)
        same = self._collecting.get((peer.id, message.cmd_type), {})
        collection = same.get(message.sn)
        if collection is None and len(same) == 1 and message.sn == 0:
            collection = next(iter(same.values()))
        if collection is None or len(collection.parts) >= MAX_PARTS:
            log.info("answer_unasked", peer_id=peer.id, cmd_type=message.cmd_type, sn=message.sn)
            return
        collection.parts.append(message)
        collection.bell.set()

    async def presets(self, device_id: str) -> Heard[Preset]:
        parts, whole = await self.ask(device_id, lambda sn: PresetQuery(sn=sn, device_id=device_id))
        return _heard(parts, whole, PresetResponse, lambda part: part.presets)

    async def home_position(self, device_id: str) -> HomePosition | None:
        parts, _ = await self.ask(device_id, lambda sn: HomePositionQuery(sn=sn, device_id=device_id))
        return _only(parts, HomePositionResponse).home_position

    async def cruise_tracks(self, device_id: str) -> Heard[CruiseTrack]:
        parts, whole = await self.ask(device_id, lambda sn: CruiseTrackListQuery(sn=sn, device_id=device_id))
        return _heard(parts, whole, CruiseTrackListResponse, lambda part: part.tracks)

    async def cruise_track(self, device_id: str, number: int) -> tuple[str, Heard[CruisePoint]]:
        parts, whole = await self.ask(
            device_id, lambda sn: CruiseTrackQuery(sn=sn, device_id=device_id, number=number)
        )
        heard = _heard(parts, whole, CruiseTrackResponse, lambda part: part.points)
        return _only(parts, CruiseTrackResponse).name, heard

    async def position(self, device_id: str) -> PTZPositionResponse:
        parts, _ = await self.ask(device_id, lambda sn: PTZPositionQuery(sn=sn, device_id=device_id))
        return _only(parts, PTZPositionResponse)

    async def cards(self, device_id: str) -> Heard[Card]:
        parts, whole = await self.ask(device_id, lambda sn: SDCardStatusQuery(sn=sn, device_id=device_id))
        return _heard(parts, whole, SDCardStatusResponse, lambda part: part.cards)

    async def configuration(self, device_id: str, config_types: tuple[str, ...]) -> Configured:
        parts, whole = await self.ask(
            device_id,
            lambda sn: ConfigDownloadQuery(sn=sn, device_id=device_id, config_types=config_types),
        )
        settings, bad = Configuration(), list[str]()
        for part in parts:
            if isinstance(part, ConfigDownloadResponse):
                settings = merged(settings, part.settings)
                bad += part.bad
        missing = tuple(name for name in config_types if name not in types_of(settings))
        if len(missing) == len(config_types) and any(not part.result_ok for part in parts):
            raise PeerFailed("设备拒绝了配置查询", code=50201)
        return Configured(settings, missing, tuple(bad), whole)

    async def status(self, device_id: str, timeout_s: float) -> DeviceStatusResponse:
        peer = await self._routes.way_to(device_id)
        return await self._post.device_status(peer, device_id, timeout_s)

    # --- Commands ---------------------------------------------------------------------------------

    async def command(self, device_id: str, make: Callable[[int], DeviceControl]) -> CommandReply:
        """Send one command; with an application answer where the standard has one.

        Raises:
            As ``ask``. An answer of ERROR is no exception: ``CommandReply.is_done`` is False then.
        """
        peer = await self._routes.way_to(device_id)
        control = make(peer.next_sn())
        _gate(peer, control.edition, "、".join(kind.value for kind in control.kinds))
        if control.stream_number and peer.profile.edition < Edition.GB2022:
            raise _too_old(peer, "RecordCmd StreamNumber")
        kind = DeviceControlResponse if control.needs_response else None
        return await self._send(peer, device_id, control, kind)

    async def configure(self, device_id: str, settings: Configuration) -> CommandReply:
        """Set configurations. A device that does not answer has ``is_done`` None: read back (quirk 63)."""
        peer = await self._routes.way_to(device_id)
        order = DeviceConfig(peer.next_sn(), device_id, settings)
        _gate(peer, order.edition, "、".join(types_of(settings)))
        try:
            return await self._send(peer, device_id, order, DeviceConfigResponse)
        except PeerTimeout as error:
            if error.details.get("isTaken"):
                return CommandReply(self._waits.first_s * 1000, 200, None)
            raise

    async def _send(
        self,
        peer: Peer,
        device_id: str,
        order: DeviceControl | DeviceConfig,
        kind: type[DeviceControlResponse] | type[DeviceConfigResponse] | None,
    ) -> CommandReply:
        begun = self._clock.now()
        with self._post.expecting(peer, order) as key:
            try:
                status = await self._post.send(peer, order, to_id=device_id, timeout_s=self._waits.sip_s)
            except PeerTimeout as error:
                raise PeerTimeout("设备没有应答控制命令", code=50401) from error
            delay_ms = round((self._clock.now() - begun) * 1000, 1)
            if not 200 <= status < 300:
                message = f"设备拒绝了控制命令（SIP {status}）"
                raise PeerFailed(message, code=50201, details={"sipStatus": status})
            if kind is None:
                return CommandReply(delay_ms, status, None)
            try:
                answer = await self._post.answer(key, self._waits.first_s)
            except PeerTimeout as error:
                message = "设备收到了命令，但没有返回执行结果"
                raise PeerTimeout(message, code=50401, details={"isTaken": True}) from error
        if not isinstance(answer, kind):
            raise PeerFailed("设备的应答与命令不符", code=50201)
        return CommandReply(delay_ms, status, answer.result_ok)


def _gate(peer: Peer, needed: Edition, what: str) -> None:
    if peer.profile.edition < needed:
        raise _too_old(peer, what)


def _too_old(peer: Peer, what: str) -> Unprocessable:
    version = peer.profile.edition.wire
    return Unprocessable(
        f"设备按 GB/T 28181 协议版本 {version} 接入，不支持 {what}",
        code=42203,
        details={"protocolVersion": version, "needs": what},
    )


def _is_complete(query: DeviceQuery, parts: Sequence[Any]) -> bool:
    if any(not part.result_ok for part in parts):
        return True
    if isinstance(query, ConfigDownloadQuery):
        seen = {name for part in parts for name in types_of(part.settings)}
        unread = {name for part in parts for name in part.bad}
        return set(query.known_types) <= seen | unread
    listed = _LISTED.get(type(parts[0]))
    if listed is None:
        return True
    announced = [part.sum_num for part in parts if part.sum_num is not None]
    if not announced:  # 2014 and 2016 have no SumNum
        return True
    return bool(sum(len(getattr(part, listed)) + len(part.bad) for part in parts) >= max(announced))


E = TypeVar("E")


def _only(parts: Sequence[DeviceResponse], kind: type[R]) -> R:
    part = parts[0]
    if not isinstance(part, kind):
        raise PeerFailed("设备的应答与查询不符", code=50201)
    if not part.result_ok:
        reason = getattr(part, "reason", "")
        raise PeerFailed("设备不支持该查询" + (f"：{reason}" if reason else ""), code=50201)
    return part


def _heard(
    parts: Sequence[DeviceResponse], whole: bool, kind: type[R], entries: Callable[[R], tuple[E, ...]]
) -> Heard[E]:
    _only(parts, kind)
    same = [part for part in parts if isinstance(part, kind)]
    found = tuple(dict.fromkeys(entry for part in same for entry in entries(part)))
    bad = tuple(name for part in parts for name in part.bad)
    return Heard(found, whole, bad)
