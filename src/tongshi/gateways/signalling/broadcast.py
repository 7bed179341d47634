"""Voice broadcast: a loudspeaker is notified, calls us, and hears what is spoken.

Implements: GB/T 28181-2022 9.12
The target answers the notification with its own code and then calls the voice source: its INVITE finds the
broadcast by whatever names it (To, request URI, From, either half of Subject), and when it names nothing that
we know, by being the only one that its peer owes us (quirk 62). A main device may call once for each of its
outputs; all of them hear the same. Some never send the Response and call at once; some answer and never
call: both are told apart from silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerFailed, PeerTimeout, RemoteViolation, TongshiError, Unavailable, Unprocessable
from tongshi.gateways.signalling.answers import Answers
from tongshi.gateways.signalling.background import Background
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.endpoint import (
    IncomingCall,
    IncomingInvite,
    IncomingRequest,
    SipEndpoint,
)
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import SoundOut, SoundSockets
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.running_calls import RunningCalls
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.audio_offer import answer_audio, choose_payload_type
from tongshi.protocols.gb28181.broadcast import BroadcastNotify, BroadcastResponse
from tongshi.protocols.gb28181.sdp import Sdp, parse_sdp
from tongshi.protocols.gb28181.ssrc import SsrcPool
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.protocols.media.g711 import PAYLOAD_TYPES, Law
from tongshi.resources.viewing.model import Transport

log = structlog.get_logger(__name__)

MAX_BROADCASTS = 500
MAX_LEGS = 64  # loudspeakers of one broadcast
VOICE_INPUT_TYPE = "136"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the target may take to answer and to call."""

    response_s: float = 10.0
    invite_s: float = 10.0


@dataclass(slots=True, eq=False)
class _Leg:
    """One loudspeaker that called."""

    call: IncomingCall
    outlet: SoundOut
    ssrc: int
    forget: Callable[[], None]
    is_over: bool = False


class Broadcast:
    """One voice toward one target; see ``viewing.voice.VoiceLine``."""

    def __init__(self, peer: Peer, source_id: str, target_id: str) -> None:
        self.peer = peer
        self.source_id = source_id
        self.target_id = target_id
        self.legs: list[_Leg] = []
        self.called = asyncio.Event()
        self.ended = asyncio.Event()
        self.error: TongshiError | None = None  # why its call was refused
        self.close: Callable[[], Awaitable[None]] = _nothing

    def feed(self, samples: bytes, law: Law) -> None:
        for leg in self.legs:
            leg.outlet.feed(samples, law)

    async def end(self) -> None:
        await self.close()

    def names(self) -> set[str]:
        return {self.source_id, self.target_id}


class Broadcasts:
    """Fulfils ``viewing.voice.VoiceSignalling``."""

    def __init__(
        self,
        endpoint: SipEndpoint,
        post: Post,
        answers: Answers,
        routes: Routes,
        ssrcs: SsrcPool,
        running: RunningCalls,
        sockets: SoundSockets,
        clock: Clock,
        waits: Waits | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._post = post
        self._answers = answers
        self._routes = routes
        self._ssrcs = ssrcs
        self._running = running
        self._sockets = sockets
        self._clock = clock
        self._waits = waits or Waits()
        self._active: dict[str, Broadcast] = {}
        self._serial = 0
        self._background = Background("broadcast")

    def __len__(self) -> int:
        return len(self._active)

    def register(self, dispatch: Dispatch) -> None:
        """Take what is this flow's."""
        dispatch.from_peer(BroadcastResponse, self._response)
        dispatch.peer_calls(self.handle)

    async def stop(self) -> None:
        """End every broadcast and wait for it."""
        await asyncio.gather(*(one.end() for one in tuple(self._active.values())), return_exceptions=True)
        await self._background.stop()

    async def open(self, device_id: DeviceId, on_accepted: Callable[[], None] | None = None) -> Broadcast:
        """Notify a target and wait until it called.

        Args:
            device_id: a voice output, or a main device for all its outputs.
            on_accepted: called once the target said that it will call.

        Raises:
            NotFound, Unavailable: no way to the device. PeerFailed: it refused (50201).
            PeerTimeout: it was silent (50401), or said yes and did not call (50402).
        """
        peer = await self._routes.peer_of(device_id)
        if len(self._active) >= MAX_BROADCASTS:
            raise Unavailable("语音路数已满", code=50302, retry_after_s=10)
        made = Broadcast(peer, self._next_source(), device_id)
        made.close = lambda: self._close(made)
        self._active[made.source_id] = made
        try:
            await self._notify(made, on_accepted or (lambda: None))
        except BaseException:
            await self._close(made)
            raise
        return made

    def peer_lost(self, peer_id: str) -> None:
        """A peer is gone: nobody listens there any more."""
        for one in [one for one in self._active.values() if one.peer.id == peer_id]:
            self._background.begin(self._close(one))

    def caller(self, invite: IncomingInvite) -> Peer | None:
        """The peer an INVITE of an unknown code comes from, when a broadcast waits for one from there."""
        for one in self._active.values():
            if one.peer.is_at(invite.remote) and one.names() & _named(invite):
                return one.peer
        return None

    async def handle(self, invite: IncomingInvite, peer: Peer) -> None:
        """The call of a loudspeaker."""
        found = self._match(invite, peer)
        if found is None:
            log.info("broadcast_unasked", peer_id=peer.id, remote=str(invite.remote))
            invite.reject(404)
            return
        if len(found.legs) >= MAX_LEGS:
            invite.reject(486)
            return
        invite.trying()
        try:
            await self._answer(found, invite)
        except TongshiError as error:
            log.info("broadcast_call_refused", peer_id=peer.id, error=error.message)
            if not invite.is_answered:
                invite.reject(488 if isinstance(error, Unprocessable | RemoteViolation) else 486)
            if not found.legs:
                found.error = error
                found.called.set()

    def _next_source(self) -> str:
        """A voice input of ours, another for each broadcast, so that the target's call names it."""
        own_id = self._routes.own_id
        while True:
            self._serial = self._serial % 999_999 + 1
            code = f"{own_id[:10]}{VOICE_INPUT_TYPE}{own_id[13]}{self._serial:06d}"
            if code not in self._active:
                return code

    async def _notify(self, made: Broadcast, on_accepted: Callable[[], None]) -> None:
        """Send the notification; its Response, or the call without one, says that the target will speak."""
        asking = asyncio.ensure_future(self._ask(made))
        calling = asyncio.ensure_future(made.called.wait())
        try:
            await asyncio.wait((asking, calling), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()
            on_accepted()
            async with asyncio.timeout(self._waits.invite_s):
                await calling
        except TimeoutError as error:
            message = "设备已应答，但没有呼叫语音源"
            raise PeerTimeout(message, code=50402) from error
        finally:
            for waiting in (asking, calling):
                waiting.cancel()
            await asyncio.gather(asking, calling, return_exceptions=True)
        if made.error is not None:
            raise PeerFailed(f"设备的语音呼叫无法接受：{made.error.message}", code=50201) from made.error

    async def _ask(self, made: Broadcast) -> None:
        notify = BroadcastNotify(made.peer.next_sn(), made.target_id, made.source_id)
        try:
            response = await self._post.ask(
                made.peer, notify, BroadcastResponse, self._waits.response_s, to_id=made.target_id
            )
        except PeerTimeout as error:
            raise PeerTimeout("设备没有应答语音广播通知", code=50401) from error
        except PeerFailed as error:
            raise PeerFailed("设备拒绝了语音广播", code=50201, details=error.details) from error
        if not response.result_ok:
            details: dict[str, object] = {"reason": response.reason}
            raise PeerFailed("设备拒绝了语音广播，可能正被占用", code=50201, details=details)

    def _match(self, invite: IncomingInvite, peer: Peer) -> Broadcast | None:
        mine = [one for one in self._active.values() if one.peer is peer]
        named = _named(invite)
        found = next((one for one in mine if one.source_id in named), None)
        found = found or next((one for one in mine if one.target_id in named), None)
        if found is not None:
            return found
        waiting = [one for one in mine if not one.legs]
        return waiting[0] if len(waiting) == 1 else None

    async def _answer(self, made: Broadcast, invite: IncomingInvite) -> None:
        """Take the call and begin to speak into it."""
        offer = parse_sdp(invite.offer)
        payload_type = choose_payload_type(offer)
        outlet = await self._sockets.outlet(_transport(offer))
        ssrc = self._ssrcs.allocate(self._clock.now())
        try:
            answer = answer_audio(
                offer,
                owner_id=made.source_id,
                address=self._sockets.host,
                port=outlet.port,
                ssrc=ssrc,
                payload_type=payload_type,
            )
            call = await invite.accept(answer.render())
        except BaseException:
            self._ssrcs.release(ssrc, self._clock.now())
            await outlet.close()
            raise
        forget = self._running.begin(call, "up", made.peer.id, made.source_id)
        leg = _Leg(call, outlet, ssrc, forget)
        if made.ended.is_set():
            await self._end_leg(made, leg, bye=True)
            return
        made.legs.append(leg)
        host = offer.address or invite.remote.host
        outlet.begin(host, offer.port, payload_type=payload_type, law=PAYLOAD_TYPES[payload_type], ssrc=ssrc)
        self._background.begin(self._watch(made, leg))
        made.called.set()
        log.info("broadcast_began", device_id=made.target_id, peer_id=made.peer.id, legs=len(made.legs))

    async def _watch(self, made: Broadcast, leg: _Leg) -> None:
        """Wait for the end of one loudspeaker; the broadcast ends with the last."""
        await either(leg.call.ended, leg.outlet.ended)
        await self._end_leg(made, leg, bye=True)
        if not made.legs:
            await self._close(made)

    async def _end_leg(self, made: Broadcast, leg: _Leg, *, bye: bool) -> None:
        if leg.is_over:
            return
        leg.is_over = True
        if leg in made.legs:
            made.legs.remove(leg)
        await leg.outlet.close()
        self._ssrcs.release(leg.ssrc, self._clock.now())
        if bye:
            await leg.call.bye()
        leg.forget()

    async def _close(self, made: Broadcast) -> None:
        self._active.pop(made.source_id, None)
        made.ended.set()
        for leg in tuple(made.legs):
            await self._end_leg(made, leg, bye=True)

    async def _response(self, incoming: IncomingRequest, peer: Peer, response: BroadcastResponse) -> None:
        incoming.respond(200)
        self._answers.give(peer.id, response)


def _named(invite: IncomingInvite) -> set[str]:
    """Every code by which an INVITE may name its broadcast."""
    request = invite.request
    names = {request.uri.user, request.to.uri.user, request.from_.uri.user}
    try:
        subject = parse_subject(request.headers.get("Subject") or "")
    except RemoteViolation:
        return names
    return names | {subject.sender_id, subject.receiver_id}


def _transport(offer: Sdp) -> Transport:
    """Our half of what a loudspeaker offers."""
    if not offer.is_tcp:
        return Transport.UDP
    return Transport.TCP_PASSIVE if offer.setup == "active" else Transport.TCP_ACTIVE


async def either(*events: asyncio.Event) -> None:
    """Wait for the first of them."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _nothing() -> None:
    return None
