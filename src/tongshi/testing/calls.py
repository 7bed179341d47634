"""A camera's calls: INVITE in, live picture out, every end of it released.

Implements: GB/T 28181-2022 9.2
Not here: registration and queries (``camera``); pacing and coding (``stream``).

A call ends by the peer's BYE, by our ``stop``, when the receiver's TCP connection breaks, when the platform
is lost, or when the same stream is called again (Annex K): in each case the sender is closed first, and only
then the call is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerTimeout, RemoteViolation, Unavailable, Unprocessable
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingInvite
from tongshi.protocols.gb28181.media_format import MediaFormat
from tongshi.protocols.gb28181.offer import answer_live
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.testing.answers import Channel, Device
from tongshi.testing.lossy import LossyLink, Weather
from tongshi.testing.picture import HEIGHT, WIDTH
from tongshi.testing.plan import CameraConfig, Faults
from tongshi.testing.senders import GarbageSender, MediaTransport, open_sender
from tongshi.testing.stream import FrameSender, LiveStream
from tongshi.testing.studio import Studio

log = structlog.get_logger(__name__)

_RELEASE_TIMEOUT_S = 3.0
_G711 = ("1", "8", "1")  # codec, rate and sampling of the f= line


@dataclass(slots=True, eq=False)
class ActiveCall:
    """One call and what it holds. ``released`` is set once sender and link are closed."""

    channel: Channel
    stream_key: str
    sender: FrameSender
    sip: IncomingCall | None = None
    stream: LiveStream | None = None
    link: LossyLink | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Calls:
    """All calls of one camera.

    Args:
        faults: asked at each INVITE, because tests change them while the camera runs.
        on_drop: called when the fault ``drop_after_s`` strikes.
    """

    def __init__(
        self,
        config: CameraConfig,
        device: Device,
        studio: Studio,
        clock: Clock,
        rng: random.Random,
        *,
        faults: Callable[[], Faults],
        on_drop: Callable[[], None],
    ) -> None:
        self._config, self._device, self._studio = config, device, studio
        self._clock, self._rng, self._faults, self._on_drop = clock, rng, faults, on_drop
        self._active: set[ActiveCall] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def count(self) -> int:
        """Calls not yet released."""
        return len(self._active)

    @property
    def ids(self) -> set[str]:
        """Call-IDs of established calls not yet released."""
        return {call.sip.call_id for call in self._active if call.sip is not None}

    async def handle(self, invite: IncomingInvite) -> None:
        """Answer one INVITE and start the picture."""
        faults = self._faults()
        if faults.never_answer_invite:
            await invite.cancelled.wait()
        elif faults.refuse_invite:
            invite.reject(faults.refuse_invite)
        else:
            await self._answer(invite, faults)

    def ask_key_frame(self, code: str) -> None:
        """Make the next frame of a channel's pictures a key frame."""
        for call in self._active:
            if call.channel.item.device_id == code and call.stream is not None:
                call.stream.ask_key_frame()

    def server_lost(self) -> None:
        """The platform is gone by registration or heartbeat: stop sending (Annex K 2)."""
        for call in tuple(self._active):
            self._end(call, "server lost")
            self._spawn(self._hang_up(call))

    async def stop(self, *, politely: bool = True) -> None:
        """End every call, with BYE unless the camera is to die without a word, and wait for the release."""
        for timer in self._timers:
            timer.cancel()
        calls = list(self._active)
        if politely:
            await asyncio.gather(*(call.sip.bye() for call in calls if call.sip is not None))
        for call in calls:
            self._end(call, "stopped")
        async with asyncio.timeout(_RELEASE_TIMEOUT_S * (1 + len(calls))):
            await asyncio.gather(*(call.released.wait() for call in calls))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, invite: IncomingInvite, faults: Faults) -> None:
        channel = self._device.channels.get(invite.request.uri.user)
        if channel is None:
            invite.reject(404)
            return
        if len(self._active) >= self._config.max_calls:
            invite.reject(486)
            return
        try:
            offer = parse_sdp(invite.offer)
            if offer.session_name is not SessionName.PLAY or offer.ssrc is None:
                raise Unprocessable("只支持带 y= 的实时点播")
            call = await self._open(invite, channel, offer, faults)
            answer = self._sdp(channel, offer, call.sender.local_port)
        except (RemoteViolation, Unprocessable):
            invite.reject(488)
            return
        except OSError:
            invite.reject(500)
            return
        try:
            call.sip = await invite.accept(answer.render())
        except (PeerTimeout, Unavailable):
            self._end(call, "not acknowledged")
            return
        call.sip.on_bye = lambda: self._end(call, "bye")
        await self._start(call, offer, faults)

    async def _open(self, invite: IncomingInvite, channel: Channel, offer: Sdp, faults: Faults) -> ActiveCall:
        """Take the sender; the same stream called again replaces the first (Annex K)."""
        key = _stream_key(invite, channel)
        for other in [call for call in self._active if call.stream_key == key]:
            self._end(other, "called again")
        transport, ssrc, host = media_transport(offer), offer.ssrc or 0, self._config.host
        sender: FrameSender
        if faults.garbage_media:
            sender = GarbageSender(transport, host, ssrc, self._rng)
        else:
            ssrc = ssrc ^ 1 if faults.wrong_ssrc else ssrc
            sender = open_sender(transport, host, ssrc, self._config.codec, self._config.audio)
        call = ActiveCall(channel, key, sender)
        self._active.add(call)
        return call

    def _sdp(self, channel: Channel, offer: Sdp, port: int) -> Sdp:
        video = "5" if self._config.codec == "h265" else "2"
        sound = _G711 if self._config.audio else ("", "", "")
        said = MediaFormat(video, f"{WIDTH}x{HEIGHT}", "12", "2", str(self._config.rate_kbps), *sound)
        code, address = channel.item.device_id, self._config.host
        return answer_live(offer, owner_id=code, address=address, port=port, f=said)

    async def _start(self, call: ActiveCall, offer: Sdp, faults: Faults) -> None:
        try:
            host, port = await self._target(call, offer, faults)
            if media_transport(offer) != "tcp-passive":
                await asyncio.to_thread(call.sender.connect, host, port)
        except OSError as error:
            log.info("camera_media_failed", device_id=self._config.id, error=str(error))
            self._end(call, "no connection")
            await self._hang_up(call)
            return
        if call.released.is_set() or call not in self._active:
            return
        if faults.drop_after_s:
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(faults.drop_after_s, self._on_drop))
        if not faults.no_media:
            call.stream = self._stream(call)
            self._studio.pacer.add(call.stream)

    async def _target(self, call: ActiveCall, offer: Sdp, faults: Faults) -> tuple[str, int]:
        """Where the media goes: the offer's address, behind a lossy link when that fault is on."""
        host = offer.address or self._config.server.host
        if not faults.loss or offer.is_tcp:
            return host, offer.port
        call.link = LossyLink((host, offer.port), Weather(loss=faults.loss), self._rng, self._config.host)
        await call.link.start()
        return self._config.host, call.link.port

    def _stream(self, call: ActiveCall) -> LiveStream:
        loop = asyncio.get_running_loop()
        item, config = call.channel.item, self._config

        def ended(reason: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._stream_ended, call, reason)

        return LiveStream(
            open_picture=lambda: self._studio.open_picture(
                config.scene,
                label=item.name,
                device_id=item.device_id,
                codec=config.codec,
                rate_kbps=config.rate_kbps,
            ),
            head=call.channel.head,
            sender=call.sender,
            clock=self._clock,
            on_end=ended,
            audio=self._studio.sound if config.audio else b"",
        )

    def _end(self, call: ActiveCall, reason: str) -> None:
        """Begin the end; the stream, when there is one, closes the sender on its own thread."""
        if call.stream is not None:
            call.stream.stop(reason)
        elif call in self._active:
            call.sender.close()
            self._release(call)

    def _stream_ended(self, call: ActiveCall, reason: str) -> None:
        self._release(call)
        if reason.startswith(("receiver", "failed")):
            log.info("camera_stream_ended", device_id=call.channel.item.device_id, reason=reason)
            self._spawn(self._hang_up(call))

    def _release(self, call: ActiveCall) -> None:
        self._active.discard(call)
        call.released.set()
        if call.link is not None:
            self._spawn(call.link.stop())

    @staticmethod
    async def _hang_up(call: ActiveCall) -> None:
        if call.sip is not None:
            await call.sip.bye()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def media_transport(offer: Sdp) -> MediaTransport:
    """Our side of the offer's transport: without a=setup a device connects (14.5)."""
    if not offer.is_tcp:
        return "udp"
    return "tcp-passive" if offer.setup == "active" else "tcp-active"


def _stream_key(invite: IncomingInvite, channel: Channel) -> str:
    try:
        return parse_subject(invite.request.headers.get("subject")).stream_key
    except RemoteViolation:
        return f"{channel.item.device_id}:{invite.request.call_id}"
