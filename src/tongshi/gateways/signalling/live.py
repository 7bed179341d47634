"""Calling a device or a lower platform for its picture, live or recorded.

Implements: GB/T 28181-2022 9.2.2.1
Implements: GB/T 28181-2022 Annex H
Implements: GB/T 28181-2022 Annex L
The media server is inside this platform, so that the two legs of the standard's flow collapse into one INVITE
toward the sender. What the call holds (dialog, SSRC) is given back exactly once, whoever ends it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerFailed, PeerTimeout, RemoteViolation, Unavailable
from tongshi.gateways.signalling import journey
from tongshi.gateways.signalling.endpoint import OutgoingCall, SipEndpoint
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.running_calls import RunningCalls
from tongshi.protocols.gb28181 import routing
from tongshi.protocols.gb28181.habits import Habit
from tongshi.protocols.gb28181.offer import MediaTransport, offer_history, offer_live
from tongshi.protocols.gb28181.profile import Profile, Quirk
from tongshi.protocols.gb28181.sdp import Sdp, parse_sdp
from tongshi.protocols.gb28181.ssrc import SsrcPool, text10
from tongshi.protocols.gb28181.subject import Subject
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.ports import HistoryRequest, LiveRequest

log = structlog.get_logger(__name__)

SLOW_FROM_S = 5.0
SLOW_ANSWER_S = 20.0  # quirk 79: fifteen at least

_TRANSPORTS: dict[Transport, MediaTransport] = {
    Transport.UDP: "udp",
    Transport.TCP_PASSIVE: "tcp-passive",
    Transport.TCP_ACTIVE: "tcp-active",
}


class DownwardCall:
    """One answered call; see ``viewing.ports.LiveCall``."""

    def __init__(
        self,
        call: OutgoingCall,
        answer: Sdp,
        release: Callable[[], None],
        forget: Callable[[], None] = lambda: None,
        route_path: str = "",
    ) -> None:
        self.route_path = route_path
        self.sip = self._call = call
        self.answer = answer
        self._release = release
        self._forget = forget
        self.ssrc = answer.ssrc
        # Some name no address, or that of a network we cannot reach (quirk 80): signalling came from a true
        # one.
        self.media_host = answer.address or call.remote.host
        self.media_port = answer.port
        self.payload_types = answer.rtpmap
        self.ended = call.ended
        self._is_over = False

    async def end(self) -> None:
        """Say BYE and give the SSRC back."""
        if self._is_over:
            return
        self._is_over = True
        self._release()  # it rests for a while before it is used again; a peer that is gone holds nothing up
        try:
            await self._call.bye()
        finally:
            self._forget()


class LiveCaller:
    """Sends the INVITEs of live viewing."""

    def __init__(
        self,
        endpoint: SipEndpoint,
        routes: Routes,
        ssrcs: SsrcPool,
        clock: Clock,
        running: RunningCalls | None = None,
        see: Callable[[str, Habit | Quirk, str, str], None] = lambda *_: None,
    ) -> None:
        self._see = see
        self._endpoint = endpoint
        self._running = running
        self._routes = routes
        self._ssrcs = ssrcs
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    async def open(self, request: LiveRequest, timeout_s: float) -> DownwardCall:
        """Call the sender of a device's picture.

        Raises:
            PeerTimeout: no final answer (50401). PeerFailed: refused or answered with nonsense (50201).
            Unavailable: offline (50301). LimitExceeded: no SSRC left.
        """
        ways = await self._routes.peers_of(request.device_id, journey.current.get().preferred)
        for way in ways[:-1]:
            try:
                return await self._open_at(way, request, timeout_s)
            except (PeerTimeout, PeerFailed, Unavailable) as error:
                log.info("way_failed", device_id=request.device_id, peer_id=way.id, error=error.message)
        return await self._open_at(ways[-1], request, timeout_s)

    async def _open_at(self, peer: Peer, request: LiveRequest, timeout_s: float) -> DownwardCall:
        if peer.profile.has(Quirk.SLOW_ANSWER):
            timeout_s = max(timeout_s, SLOW_ANSWER_S)
        begun = self._clock.now()
        is_live = not isinstance(request, HistoryRequest)
        ssrc = self._ssrcs.allocate(self._clock.now(), live=is_live)

        def release() -> None:
            self._ssrcs.release(ssrc, self._clock.now())

        inviting = asyncio.ensure_future(self._invite(peer, request, ssrc, timeout_s))
        try:
            call = await asyncio.shield(inviting)
        except asyncio.CancelledError:
            # Whoever asked is gone. The call may be answered at this very moment: see it to its end.
            inviting.cancel()
            self._finish_later(self._abandon(inviting, release))
            raise
        except BaseException:
            release()
            raise
        try:
            answer = parse_sdp(call.answer)
        except RemoteViolation as violation:
            self._finish_later(_hang_up(call, release))
            details: dict[str, object] = {"sipStatus": call.response.status, "reason": violation.message}
            raise PeerFailed("设备应答的会话描述无法识别", details=details) from violation
        self._note_habits(peer, answer, ssrc, self._clock.now() - begun)
        path = self._path(peer, call.response.headers.get(routing.ROUTE_PATH))
        if self._running is None:
            return DownwardCall(call, answer, release, route_path=path)
        try:
            forget = await self._running.note(call, "down", request.device_id)
        except asyncio.CancelledError:
            self._finish_later(DownwardCall(call, answer, release).end())
            raise
        call.on_bye = forget
        return DownwardCall(call, answer, release, forget, route_path=path)

    def _path(self, peer: Peer, answered: str) -> str:
        lower_id = peer.id if peer.is_platform else ""
        return routing.render_path(routing.route_of(self._routes.own_id, lower_id, answered))

    def _note_habits(self, peer: Peer, answer: Sdp, ssrc: int, took_s: float) -> None:
        """What the answer shows of its sender."""
        if answer.ssrc != ssrc:
            said = "缺失" if answer.ssrc is None else text10(answer.ssrc)
            self._see(peer.id, Habit.OWN_SSRC, f"y={said}，请求为 {text10(ssrc)}", "INVITE 200")
        if answer.address and answer.address != peer.remote.host:
            detail = f"c={answer.address[:64]}，信令来自 {peer.remote.host}"
            self._see(peer.id, Habit.PRIVATE_MEDIA_ADDRESS, detail, "INVITE 200")
        if took_s >= SLOW_FROM_S:
            self._see(peer.id, Quirk.SLOW_ANSWER, f"{took_s:.1f} 秒", "INVITE 200")

    async def stop(self) -> None:
        """Wait for what is still being hung up."""
        while self._late:
            await asyncio.gather(*self._late, return_exceptions=True)

    async def _invite(self, peer: Peer, request: LiveRequest, ssrc: int, timeout_s: float) -> OutgoingCall:
        own_id = self._routes.own_id
        await request.announce(ssrc)
        offer = offer_live(
            owner_id=own_id,
            address=request.host,
            port=request.port,
            ssrc=ssrc,
            transport=_TRANSPORTS[request.transport],
            stream_number=int(request.stream_type) or None,
            profile=peer.profile,
        )
        if isinstance(request, HistoryRequest):
            offer = _of_recording(offer, request, peer.profile)
        subject = Subject(request.device_id, text10(ssrc), own_id, request.stream_id[:20])
        try:
            return await self._endpoint.invite(
                to_id=request.device_id,
                remote=peer.remote,
                sdp=offer.render(),
                subject=subject.render(),
                headers=journey.current.get().headers(own_id) if peer.is_platform else (),
                answer_timeout_s=timeout_s,
            )
        except PeerFailed as error:
            status = error.details.get("sipStatus")
            message = f"设备拒绝了点播请求（SIP {status}）"
            path = self._path(peer, str(error.details.get("routePath", "")))
            raise PeerFailed(message, code=50201, details={**error.details, "routePath": path}) from error

    async def _abandon(self, inviting: asyncio.Future[OutgoingCall], release: Callable[[], None]) -> None:
        await asyncio.wait((inviting,))
        try:
            if not inviting.cancelled() and inviting.exception() is None:
                await inviting.result().bye()
        finally:
            release()

    def _finish_later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)


def _of_recording(offer: Sdp, request: HistoryRequest, profile: Profile) -> Sdp:
    window = request.window
    return offer_history(
        offer,
        channel_id=request.device_id,
        start_s=int(window.start.timestamp()),
        end_s=math.ceil(window.end.timestamp()),
        kind=window.kind,
        download_speed=request.download_speed,
        profile=profile,
    )


async def _hang_up(call: OutgoingCall, release: Callable[[], None]) -> None:
    release()
    await call.bye()
