"""A platform above asks for a picture, live or recorded: its source is opened and relayed to it.

Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 Annex H
Implements: GB/T 28181-2022 Annex K
Implements: GB/T 28181-2022 Annex L
Two dialogs, one on each side (B2BUA). The upper is answered once the device answered, a moment later at most:
from then on both sides wait for media with their own limits, and a silent device, one without media and one
without a picture remain three different errors at every level. The upper's SSRC is used when its offer names
one, else one of ours (G.1). An INVITE whose "sender id:serial" is being sent already to the same upper
replaces the first (Annex K). A live source is opened once whoever watches; a recording is opened for each
call, and what happens inside that call is ``incoming_history``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import msgspec
import structlog

from tongshi.clock import Clock
from tongshi.errors import (
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PeerTimeout,
    RemoteViolation,
    TongshiError,
    Unavailable,
    Unprocessable,
)
from tongshi.gateways.signalling import journey
from tongshi.gateways.signalling.delayed_offer import exchange, sending_offer
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingInvite
from tongshi.gateways.signalling.history import DownwardHistory
from tongshi.gateways.signalling.incoming_history import HistoryLeg, file_size_of, history_of
from tongshi.gateways.signalling.live import DownwardCall
from tongshi.gateways.signalling.record import platform_subject
from tongshi.gateways.signalling.running_calls import RunningCalls
from tongshi.gateways.signalling.upward import Upper
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181 import routing
from tongshi.protocols.gb28181.offer import answer_live
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.ssrc import SsrcPool
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.resources.viewing.model import EndReason, StreamKey, StreamType, Transport
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.streams import Lease

log = structlog.get_logger(__name__)

MAX_RELAYS = 2_000
MAX_RELAYS_OF_UPPER = 1_000
PICTURE_GRACE_S = 1.0  # well within the ten seconds that an upper waits for the answer


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One INVITE, understood."""

    key: StreamKey
    offer: Sdp
    transport: Transport  # as the engine names our sending side
    stream_key: str


class _Relayed:
    """One picture on its way to an upper, with everything it holds."""

    def __init__(self, upper: Upper, wanted: _Wanted) -> None:
        self.upper = upper
        self.wanted = wanted
        self.lease: Lease | None = None
        self.relay: int | None = None
        self.own_ssrc: int | None = None
        self.call: IncomingCall | None = None
        self.task: asyncio.Task[None] | None = None
        self.leg: HistoryLeg | None = None
        self.forget: Callable[[], None] = lambda: None
        self.is_finishing = False
        self.is_over = False


class IncomingLive:
    """Calls from uppers."""

    def __init__(
        self,
        own_id: str,
        viewing: Viewing,
        ssrcs: SsrcPool,
        clock: Clock,
        running: RunningCalls | None = None,
    ) -> None:
        self._own_id = own_id
        self._running = running
        self._viewing = viewing
        self._ssrcs = ssrcs
        self._clock = clock
        self._relayed: set[_Relayed] = set()
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._relayed)

    async def handle(self, invite: IncomingInvite, upper: Upper) -> None:
        """Answer one INVITE of a registered upper and keep the relay until somebody ends it."""
        invite.trying()
        try:
            wanted = _understand(invite)
            circles = journey.refusal(self._own_id, invite.request)
            if circles:
                log.warning("call_in_circles", platform_id=upper.id, device_id=wanted.key.device_id)
                invite.reject(circles, headers=self._route(""))
                return
            journey.current.set(journey.of(invite.request))
            self._check_room(upper)
        except TongshiError as error:
            invite.reject(_status_of(error), headers=_warning(error))
            return
        self._replace(upper, wanted)
        relayed = _Relayed(upper, wanted)
        relayed.task = asyncio.current_task()
        self._relayed.add(relayed)
        invite.on_cancel = lambda: self._end(relayed, bye=False)
        try:
            await self._relay(invite, relayed)
        except TongshiError as error:
            log.info("relay_refused", platform_id=upper.id, device_id=wanted.key.device_id, code=error.code)
            if not invite.is_answered:
                path = self._route(str(error.details.get("routePath", "")))
                invite.reject(_status_of(error), headers=(*_warning(error), *path))
            self._end(relayed, bye=relayed.call is not None)
        except BaseException:
            if not invite.is_answered:
                invite.reject(480)
            self._end(relayed, bye=False)
            raise
        finally:
            relayed.task = None

    def upper_lost(self, upper_id: str) -> int:
        """An upper is gone: what it watches is released; how many."""
        gone = [relayed for relayed in self._relayed if relayed.upper.id == upper_id]
        for relayed in gone:
            self._end(relayed, bye=True)
        return len(gone)

    async def stop(self) -> None:
        """End all relays with BYE and wait for it."""
        for relayed in tuple(self._relayed):
            self._end(relayed, bye=True)
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _relay(self, invite: IncomingInvite, relayed: _Relayed) -> None:
        upper, wanted = relayed.upper, relayed.wanted
        viewer = Viewer(platform_subject(upper.id), invite.remote.host, invite.request.call_id[:64])
        relayed.lease = await self._viewing.hold(
            viewer,
            wanted.key,
            Transport.AUTO,
            lambda reason, _: self._source_lost(relayed, reason),
        )
        await _first_picture(relayed.lease)
        ingest = relayed.lease.stream.ingest
        if ingest is None or relayed.is_over:
            raise Unavailable("视频已被关闭")
        offer = wanted.offer
        ssrc = offer.ssrc
        if ssrc is None:
            ssrc = relayed.own_ssrc = self._ssrcs.allocate(self._clock.now())
        shown_id = upper.names.shown(wanted.key.device_id)
        if not invite.offer:
            path = self._route(_path_of(relayed.lease))
            relayed.call, offer = await exchange(
                invite, owner_id=shown_id, address=ingest.host, ssrc=ssrc, headers=path
            )
        host = offer.address or invite.remote.host
        relayed.relay, port = await ingest.relay(
            wanted.transport, host, offer.port, ssrc, lambda _: self._relay_closed(relayed)
        )
        if relayed.call is None:
            answer = answer_live(
                offer,
                owner_id=shown_id,
                address=ingest.host,
                port=port,
                ssrc=ssrc,
                file_size=file_size_of(relayed.lease.stream),
            )
            relayed.call = await invite.accept(answer.render(), headers=self._route(_path_of(relayed.lease)))
        if wanted.key.history is not None:
            relayed.leg = HistoryLeg(upper, relayed.call, relayed.lease.stream, shown_id, self._clock)
        relayed.call.on_bye = lambda: self._end(relayed, bye=False)
        if self._running is not None:
            relayed.forget = self._running.begin(relayed.call, "up", upper.id, shown_id)
        if relayed.is_over:
            await relayed.call.bye()

    def _route(self, path: str) -> tuple[tuple[str, str], ...]:
        """X-RoutePath of an answer: as far as the call came, we first (H.2.2)."""
        return ((routing.ROUTE_PATH, path or self._own_id),)

    def _source_lost(self, relayed: _Relayed, reason: EndReason) -> None:
        log.info("relay_source_lost", device_id=relayed.wanted.key.device_id, reason=reason)
        if reason is EndReason.FINISHED and relayed.leg is not None:
            self._later(self._finish(relayed, relayed.leg))
        else:
            self._end(relayed, bye=True)

    async def _finish(self, relayed: _Relayed, leg: HistoryLeg) -> None:
        """The recording was sent: the upper is told before the call is ended."""
        relayed.is_finishing = True
        await leg.tell_end()
        self._end(relayed, bye=True)

    def _relay_closed(self, relayed: _Relayed) -> None:
        if not relayed.is_finishing:
            self._end(relayed, bye=True)

    def _replace(self, upper: Upper, wanted: _Wanted) -> None:
        for old in tuple(self._relayed):
            if old.upper.id == upper.id and old.wanted.stream_key == wanted.stream_key:
                log.info("relay_replaced", platform_id=upper.id, device_id=wanted.key.device_id)
                self._end(old, bye=True)

    def _check_room(self, upper: Upper) -> None:
        of_upper = sum(1 for relayed in self._relayed if relayed.upper.id == upper.id)
        if len(self._relayed) >= MAX_RELAYS or of_upper >= MAX_RELAYS_OF_UPPER:
            raise LimitExceeded("转发路数已满", code=42904)

    def _end(self, relayed: _Relayed, *, bye: bool) -> None:
        """Give back everything, once; in the background, because hanging up takes a while."""
        if relayed.is_over:
            return
        relayed.is_over = True
        self._relayed.discard(relayed)
        self._later(self._give_back(relayed, bye=bye))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _give_back(self, relayed: _Relayed, *, bye: bool) -> None:
        opening = relayed.task
        if opening is not None and relayed.call is None:
            opening.cancel()
            await asyncio.wait((opening,))
        try:
            if relayed.relay is not None and relayed.lease is not None:
                ingest = relayed.lease.stream.ingest
                if ingest is not None:
                    await ingest.drop_relay(relayed.relay)
        except TongshiError as error:
            log.warning("relay_release_failed", error=error.message)
        finally:
            if relayed.lease is not None:
                self._viewing.release(relayed.lease)
            if relayed.own_ssrc is not None:
                self._ssrcs.release(relayed.own_ssrc, self._clock.now())
        if bye and relayed.call is not None:
            await relayed.call.bye()
        relayed.forget()


async def _first_picture(lease: Lease) -> None:
    """Wait a moment for the first key frame: a relay that begins inside it waits for the next."""
    try:
        async with asyncio.timeout(PICTURE_GRACE_S):
            await lease.stream.playing.wait()
    except TimeoutError:
        pass  # the upper has its own limits for media


def _path_of(lease: Lease) -> str:
    """X-RoutePath of the call below, "" for none."""
    call = lease.stream.call
    return call.route_path if isinstance(call, DownwardCall | DownwardHistory) else ""


def _without_offer(invite: IncomingInvite) -> _Wanted:
    """What is asked for by an INVITE without SDP: live, the main stream, over UDP (9.2.2.2)."""
    device_id = invite.request.uri.user or invite.request.to.uri.user
    subject = invite.request.headers.get("Subject")
    stream_key = parse_subject(subject).stream_key if subject else f"{device_id}:{invite.request.call_id}"
    nowhere = sending_offer(device_id, "", 0)
    wanted = StreamKey(DeviceId(device_id), StreamType(0))
    return _Wanted(wanted, msgspec.structs.replace(nowhere, ssrc=None), Transport.UDP, stream_key)


def _understand(invite: IncomingInvite) -> _Wanted:
    """What is asked for.

    Raises:
        RemoteViolation: SDP or Subject cannot be read. Unprocessable: we cannot do that (488).
    """
    if not invite.offer:
        return _without_offer(invite)
    try:
        offer = parse_sdp(invite.offer)
    except RemoteViolation as violation:
        raise Unprocessable(violation.message) from violation
    if offer.session_name is SessionName.TALK or offer.media != "video":
        raise Unprocessable("只支持视频的点播、回放与下载")
    device_id = invite.request.uri.user or invite.request.to.uri.user
    subject = invite.request.headers.get("Subject")
    stream_key = parse_subject(subject).stream_key if subject else f"{device_id}:{offer.ssrc_text}"
    number = offer.stream_number or 0
    if number not in tuple(StreamType):
        raise Unprocessable(f"没有码流 {number}")
    transport = Transport.UDP
    if offer.is_tcp:
        # The offer says what the upper does; we do the other half. Without a=setup the sender connects.
        transport = Transport.TCP_PASSIVE if offer.setup == "active" else Transport.TCP_ACTIVE
    if transport is not Transport.TCP_PASSIVE and not offer.port:
        raise Unprocessable("SDP 端口为 0")
    history = history_of(offer, invite.request.call_id)
    return _Wanted(StreamKey(DeviceId(device_id), StreamType(number), history), offer, transport, stream_key)


def _status_of(error: TongshiError) -> int:
    """The SIP answer to an upper (13.11); a peer's own status is never passed on."""
    if isinstance(error, Forbidden | NotFound):
        return 404  # not permitted looks like unknown
    if isinstance(error, LimitExceeded):
        return 486
    if isinstance(error, PeerTimeout):
        return 408
    if isinstance(error, Unavailable):
        return 503 if error.code == 50302 else 480
    if isinstance(error, RemoteViolation | InvalidRequest):
        return 400
    if isinstance(error, Unprocessable):
        return 488
    return 480


def _warning(error: TongshiError) -> tuple[tuple[str, str], ...]:
    """Our reason in a number that another platform of this kind can show."""
    return (("Warning", f'399 tongshi "{error.code}"'),)
