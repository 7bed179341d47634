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

import structlog

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, TongshiError, Unavailable, Unprocessable
from tongshi.gateways.signalling import journey
from tongshi.gateways.signalling.calls import HeaderPairs
from tongshi.gateways.signalling.delayed_offer import DISCARD_PORT, exchange, sending_offer
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingInvite
from tongshi.gateways.signalling.history import DownwardHistory
from tongshi.gateways.signalling.incoming_history import HistoryLeg, file_size_of
from tongshi.gateways.signalling.incoming_offer import Wanted, source_of, status_of, understand, warning
from tongshi.gateways.signalling.live import DownwardCall
from tongshi.gateways.signalling.recorded_archive import platform_subject
from tongshi.gateways.signalling.running_calls import RunningCalls
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181 import routing
from tongshi.protocols.gb28181.offer import answer_live
from tongshi.protocols.gb28181.sdp import Sdp
from tongshi.protocols.gb28181.ssrc import SsrcPool
from tongshi.protocols.sip.building import reason
from tongshi.resources.viewing.media_ports import Ingest
from tongshi.resources.viewing.model import EndReason, StreamKey, Transport
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.streams import Lease, SharedStream

log = structlog.get_logger(__name__)

MAX_RELAYS = 2_000
MAX_RELAYS_OF_UPPER = 1_000
PICTURE_GRACE_S = 1.0  # well within the ten seconds that an upper waits for the answer


class _Relayed:
    """One picture on its way to an upper, with everything it holds."""

    def __init__(self, upper: Upper, wanted: Wanted) -> None:
        self.upper = upper
        self.wanted = wanted
        self.shown_id = upper.names.shown(wanted.device_id)
        self.lease: Lease | None = None
        self.relay: int | None = None
        self.own_ssrc: int | None = None
        self.call: IncomingCall | None = None
        self.task: asyncio.Task[None] | None = None
        self.leg: HistoryLeg | None = None
        self.forget: Callable[[], None] = lambda: None
        self.is_finishing = False
        self.is_over = False


@dataclass(frozen=True, slots=True)
class _Source:
    """An open source and what receives it."""

    stream: SharedStream
    ingest: Ingest


class IncomingLive:
    """Calls from uppers.

    Args:
        address: where our media comes from, said in an offer before the source is open.
        offers_by: how we offer to send to an upper that leaves it to us, as the engine names our side.
    """

    def __init__(
        self,
        own_id: str,
        viewing: Viewing,
        ssrcs: SsrcPool,
        clock: Clock,
        running: RunningCalls | None = None,
        address: str = "",
        offers_by: Callable[[str], Transport] = lambda upper_id: Transport.UDP,
    ) -> None:
        self._address = address
        self._offers_by = offers_by
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
            wanted = understand(invite)
            circles = journey.refusal(self._own_id, invite.request)
            if circles:
                log.warning("call_in_circles", platform_id=upper.id, device_id=wanted.device_id)
                invite.reject(circles, headers=self._route(""))
                return
            journey.current.set(journey.of(invite.request))
            self._check_room(upper)
        except TongshiError as error:
            invite.reject(status_of(error), headers=warning(error))
            return
        self._replace(upper, wanted)
        relayed = _Relayed(upper, wanted)
        relayed.task = asyncio.current_task()
        self._relayed.add(relayed)
        invite.on_cancel = lambda: self._end(relayed, bye=False)
        try:
            await self._relay(invite, relayed)
        except TongshiError as error:
            log.info("relay_refused", platform_id=upper.id, device_id=wanted.device_id, code=error.code)
            if not invite.is_answered:
                path = self._route(str(error.details.get("routePath", "")))
                invite.reject(status_of(error), headers=(*warning(error), *path))
            self._end(relayed, bye=relayed.call is not None, why=reason(status_of(error), str(error.code)))
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
        if relayed.wanted.offer is None:
            await self._relay_as_we_offer(invite, relayed)
        else:
            await self._relay_as_offered(invite, relayed, relayed.wanted.offer)
        call = relayed.call
        assert call is not None  # both have answered
        call.on_bye = lambda: self._end(relayed, bye=False)
        if self._running is not None:
            relayed.forget = self._running.begin(call, "up", relayed.upper.id, relayed.shown_id)
        if relayed.is_over:
            await call.bye()

    async def _relay_as_offered(self, invite: IncomingInvite, relayed: _Relayed, offer: Sdp) -> None:
        """The INVITE says all: the source is opened, then the call is answered."""
        wanted = relayed.wanted
        assert wanted.key is not None  # an offer names its source
        source = await self._open(invite, relayed, wanted.key)
        ssrc = offer.ssrc
        if ssrc is None:
            ssrc = relayed.own_ssrc = self._ssrcs.allocate(self._clock.now())
        port = await self._send(
            relayed, source, wanted.transport, offer.address or invite.remote.host, offer.port, ssrc
        )
        answer = answer_live(
            offer,
            owner_id=relayed.shown_id,
            address=source.ingest.host,
            port=port,
            ssrc=ssrc,
            file_size=file_size_of(source.stream),
        )
        relayed.call = await invite.accept(answer.render(), headers=self._route(_path_of(source.stream)))
        self._begin_leg(relayed, wanted.key, source)

    async def _relay_as_we_offer(self, invite: IncomingInvite, relayed: _Relayed) -> None:
        """The INVITE says nothing: a live source is opened before we offer, a recording once it is named."""
        wanted, transport = relayed.wanted, self._offers_by(relayed.upper.id)
        source, port, address, path = None, DISCARD_PORT, self._address, ""
        ssrc = relayed.own_ssrc = self._ssrcs.allocate(self._clock.now(), live=wanted.key is not None)
        if wanted.key is None:
            # Nothing listens before the recording is open.
            transport = Transport.UDP if transport is Transport.UDP else Transport.TCP_ACTIVE
        else:
            source = await self._open(invite, relayed, wanted.key)
            address, path = source.ingest.host, _path_of(source.stream)
            if transport is Transport.TCP_PASSIVE:
                port = await self._send(relayed, source, transport, invite.remote.host, 0, ssrc)
        is_history = wanted.key is None
        offer = sending_offer(relayed.shown_id, address, ssrc, transport, port, is_history=is_history)
        relayed.call, receiver = await exchange(invite, offer, self._route(path))
        relayed.call.on_bye = lambda: self._end(relayed, bye=False)
        key = source_of(wanted.device_id, receiver.sdp, invite.request.call_id)
        if source is None or key != wanted.key:
            source = await self._open_other(invite, relayed, key)
        if relayed.relay is None:
            host = receiver.sdp.address or invite.remote.host
            wanted_ssrc = ssrc if receiver.sdp.ssrc is None else receiver.sdp.ssrc
            await self._send(relayed, source, receiver.transport, host, receiver.sdp.port, wanted_ssrc)
        self._begin_leg(relayed, key, source)

    async def _open_other(self, invite: IncomingInvite, relayed: _Relayed, key: StreamKey) -> _Source:
        """The source that the ACK named, in place of the one that was opened before, if any."""
        if relayed.relay is not None:
            raise Unprocessable("以 TCP 监听时只能发送已提供的实时码流")
        before, relayed.lease = relayed.lease, None
        if before is not None:
            self._viewing.release(before)
        return await self._open(invite, relayed, key)

    async def _open(self, invite: IncomingInvite, relayed: _Relayed, key: StreamKey) -> _Source:
        """Hold the source, decided and recorded as this upper's.

        Raises:
            As ``Viewing.hold``.
        """
        viewer = Viewer(platform_subject(relayed.upper.id), invite.remote.host, invite.request.call_id[:64])
        lease = relayed.lease = await self._viewing.hold(
            viewer, key, Transport.AUTO, lambda end, _: self._source_lost(relayed, end)
        )
        await _first_picture(lease)
        ingest = lease.stream.ingest
        if ingest is None or relayed.is_over:
            raise Unavailable("视频已被关闭")
        return _Source(lease.stream, ingest)

    async def _send(
        self, relayed: _Relayed, source: _Source, transport: Transport, host: str, port: int, ssrc: int
    ) -> int:
        """Begin to send. Returns our own port."""
        relayed.relay, own_port = await source.ingest.relay(
            transport, host, port, ssrc, lambda _: self._relay_closed(relayed)
        )
        return own_port

    def _begin_leg(self, relayed: _Relayed, key: StreamKey, source: _Source) -> None:
        call, relay = relayed.call, relayed.relay
        if key.history is not None and call is not None and relay is not None:
            relayed.leg = HistoryLeg(relayed.upper, call, source.stream, relayed.shown_id, self._clock, relay)

    def _route(self, path: str) -> tuple[tuple[str, str], ...]:
        """X-RoutePath of an answer: as far as the call came, we first (H.2.2)."""
        return ((routing.ROUTE_PATH, path or self._own_id),)

    def _source_lost(self, relayed: _Relayed, end: EndReason) -> None:
        log.info("relay_source_lost", device_id=relayed.wanted.device_id, reason=end)
        if end is EndReason.FINISHED and relayed.leg is not None:
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

    def _replace(self, upper: Upper, wanted: Wanted) -> None:
        for old in tuple(self._relayed):
            if old.upper.id == upper.id and old.wanted.stream_key == wanted.stream_key:
                log.info("relay_replaced", platform_id=upper.id, device_id=wanted.device_id)
                self._end(old, bye=True)

    def _check_room(self, upper: Upper) -> None:
        of_upper = sum(1 for relayed in self._relayed if relayed.upper.id == upper.id)
        if len(self._relayed) >= MAX_RELAYS or of_upper >= MAX_RELAYS_OF_UPPER:
            raise LimitExceeded("转发路数已满", code=42904)

    def _end(self, relayed: _Relayed, *, bye: bool, why: HeaderPairs = ()) -> None:
        """Give back everything, once; in the background, because hanging up takes a while.

        why: what the BYE says of its reason.
        """
        if relayed.is_over:
            return
        relayed.is_over = True
        self._relayed.discard(relayed)
        self._later(self._give_back(relayed, bye=bye, why=why))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _give_back(self, relayed: _Relayed, *, bye: bool, why: HeaderPairs) -> None:
        opening = relayed.task
        if opening is not None:
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
            await relayed.call.bye(headers=why)
        relayed.forget()


async def _first_picture(lease: Lease) -> None:
    """Wait a moment for the first key frame: a relay that begins inside it waits for the next."""
    try:
        async with asyncio.timeout(PICTURE_GRACE_S):
            await lease.stream.playing.wait()
    except TimeoutError:
        pass  # the upper has its own limits for media


def _path_of(stream: SharedStream) -> str:
    """X-RoutePath of the call below, "" for none."""
    call = stream.call
    return call.route_path if isinstance(call, DownwardCall | DownwardHistory) else ""
