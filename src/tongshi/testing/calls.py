"""A camera's calls: INVITE in, live or recorded picture out, every end of it released.

Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 9.9
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
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from tongshi.clock import Clock
from tongshi.errors import PeerTimeout, RemoteViolation, Unavailable, Unprocessable
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingInvite, IncomingRequest
from tongshi.protocols.gb28181 import mansrtsp
from tongshi.protocols.gb28181.mansrtsp import Command, Method, Reply, Span
from tongshi.protocols.gb28181.media_format import MediaFormat
from tongshi.protocols.gb28181.notify import MediaStatus
from tongshi.protocols.gb28181.offer import answer_live
from tongshi.protocols.gb28181.records import RecordType
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.protocols.media.codecs import RTP_MAPS, RtpMap
from tongshi.protocols.media.g711 import convert
from tongshi.testing.answers import Channel, Device
from tongshi.testing.elementary import ElementarySender
from tongshi.testing.lossy import LossyLink, Weather
from tongshi.testing.picture import HEIGHT, WIDTH, Picture
from tongshi.testing.plan import CameraConfig, Faults
from tongshi.testing.playback import RecordedStream
from tongshi.testing.recordings import Recorded, size_bytes, within
from tongshi.testing.senders import GarbageSender, MediaTransport, open_sender
from tongshi.testing.stream import FrameSender, LiveStream
from tongshi.testing.studio import Studio

log = structlog.get_logger(__name__)

_RELEASE_TIMEOUT_S = 3.0
_SUB_RATE = 4  # the sub-stream has a quarter of the rate
_G711 = ("1", "8", "1")  # codec, rate and sampling of the f= line


@dataclass(slots=True, eq=False)
class ActiveCall:
    """One call and what it holds. ``released`` is set once sender and link are closed.

    ``is_sub``: the live picture is the sub-stream (a=streamnumber, Annex G).
    """

    channel: Channel
    stream_key: str
    sender: FrameSender
    is_sub: bool = False
    sip: IncomingCall | None = None
    stream: LiveStream | RecordedStream | None = None
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
        self._sn = 0

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
            if offer.session_name is SessionName.TALK or offer.ssrc is None:
                raise Unprocessable("只支持带 y= 的点播、回放与下载")
            if offer.session_name is not SessionName.PLAY and not self._recorded(offer):
                invite.reject(404)
                return
            call = await self._open(invite, channel, offer, faults)
            answer = self._sdp(call, offer, faults)
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
            ssrc = ssrc ^ 1 if faults.wrong_ssrc else faults.own_ssrc or ssrc
            sender = self._sender(transport, ssrc, faults)
        is_sub = offer.session_name is SessionName.PLAY and (offer.stream_number or 0) > 0
        call = ActiveCall(channel, key, sender, is_sub)
        self._active.add(call)
        return call

    def _sender(self, transport: MediaTransport, ssrc: int, faults: Faults) -> FrameSender:
        host, codec = self._config.host, self._config.codec
        if faults.elementary and transport != "tcp-passive":
            is_tcp = transport != "udp"
            return ElementarySender(
                is_tcp=is_tcp, host=host, ssrc=ssrc, codec=codec, payload_type=faults.elementary
            )
        sound = {"alaw": "g711a", "ulaw": "g711u"}[self._config.law] if self._config.audio else ""
        return open_sender(transport, host, ssrc, codec, sound)

    def _sdp(self, call: ActiveCall, offer: Sdp, faults: Faults) -> Sdp:
        video = "5" if self._config.codec == "h265" else "2"
        sound = _G711 if self._config.audio else ("", "", "")
        half, rate = 2 if call.is_sub else 1, self._rate_kbps(call)
        said = MediaFormat(video, f"{WIDTH // half}x{HEIGHT // half}", "12", "2", str(rate), *sound)
        code, address, port = call.channel.item.device_id, self._config.host, call.sender.local_port
        size = self._size(offer) if offer.session_name is SessionName.DOWNLOAD else None
        answer = answer_live(offer, owner_id=code, address=address, port=port, file_size=size, f=said)
        if faults.own_ssrc or faults.names_no_ssrc:
            answer = msgspec.structs.replace(answer, ssrc=faults.own_ssrc or None)
        if not faults.elementary:
            return answer
        picture = RtpMap(faults.elementary, self._config.codec.upper(), 90_000)
        maps = (picture, RTP_MAPS[8]) if self._config.audio else (picture,)
        return msgspec.structs.replace(
            answer, payload_types=tuple(one.payload_type for one in maps), rtpmap=maps
        )

    def _recorded(self, offer: Sdp) -> list[Recorded]:
        """What was recorded of what the offer asks for."""
        kind = RecordType.of_uri(offer.uri)
        start, end = _window(offer)
        return [
            one
            for one in self._device.recorded
            if one.start < end and one.end > start and (kind is RecordType.ALL or one.kind == kind.value)
        ]

    def _size(self, offer: Sdp) -> int:
        """About the size of what will be sent."""
        spans = within(self._recorded(offer), *_window(offer))
        length = timedelta(seconds=sum(end - begin for begin, end in spans))
        return size_bytes(length, self._config.rate_kbps)

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
            is_live = offer.session_name is SessionName.PLAY
            call.stream = self._stream(call) if is_live else self._recording(call, offer, faults)
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
        return LiveStream(
            open_picture=lambda: self._picture(call),
            head=call.channel.head,
            sender=call.sender,
            clock=self._clock,
            on_end=lambda reason: _on_loop(loop, self._stream_ended, call, reason),
            audio=self._sound(),
        )

    def _recording(self, call: ActiveCall, offer: Sdp, faults: Faults) -> RecordedStream:
        loop = asyncio.get_running_loop()
        start, end = _window(offer)
        is_download = offer.session_name is SessionName.DOWNLOAD
        return RecordedStream(
            open_picture=lambda: self._picture(call),
            sender=call.sender,
            clock=self._clock,
            start=start,
            spans=within(self._recorded(offer), start, end),
            speed=float(offer.download_speed or 1) if is_download else 1.0,
            audio=self._sound() if is_download else b"",
            keeps_stamps=is_download or faults.keeps_stamps,
            on_finished=lambda: _on_loop(loop, self._finished, call),
            on_end=lambda reason: _on_loop(loop, self._stream_ended, call, reason),
        )

    def _sound(self) -> bytes:
        """What it hears, coded; nothing when it has no microphone."""
        return convert(self._studio.sound, "alaw", self._config.law) if self._config.audio else b""

    def _picture(self, call: ActiveCall) -> Picture:
        return self._studio.open_picture(
            self._config.scene,
            label=call.channel.item.name,
            device_id=call.channel.item.device_id,
            codec=self._config.codec,
            rate_kbps=self._rate_kbps(call),
            is_small=call.is_sub,
        )

    def _rate_kbps(self, call: ActiveCall) -> int:
        return max(64, self._config.rate_kbps // _SUB_RATE) if call.is_sub else self._config.rate_kbps

    def steer(self, incoming: IncomingRequest) -> None:
        """Obey one INFO inside a call of a recording."""
        faults = self._faults()
        call = next((one for one in self._active if one.sip is incoming.call), None)
        try:
            command = mansrtsp.parse_command(incoming.request.body)
        except RemoteViolation:
            incoming.respond(400)
            return
        if faults.speaks_2011 and command.version == "RTSP/1.0":
            incoming.respond(400)
            return
        if call is None or not isinstance(call.stream, RecordedStream):
            incoming.respond(481)
            return
        reply = self._obey(call, call.stream, command, faults)
        incoming.respond(200, body=reply.render(), content_type=mansrtsp.CONTENT_TYPE)

    def _obey(self, call: ActiveCall, stream: RecordedStream, command: Command, faults: Faults) -> Reply:
        if command.method is Method.PAUSE:
            stream.pause()
        elif command.method is Method.TEARDOWN:
            self._end(call, "teardown")
        elif faults.refuse_scale and command.scale not in (None, 1.0):
            return Reply(status=551, cseq=command.cseq, version=command.version)
        else:
            position_s = None if command.span is None else command.span.start
            if position_s is not None and position_s > stream.length_s:
                return Reply(status=457, cseq=command.cseq, version=command.version)
            place = stream.play(position_s, command.scale)
            return Reply(
                cseq=command.cseq,
                span=Span(place.position_s),
                scale=command.scale,
                seq=place.seq,
                rtptime=place.rtptime,
                version=command.version,
            )
        return Reply(cseq=command.cseq, version=command.version)

    def _finished(self, call: ActiveCall) -> None:
        """The end of a recording: tell it inside the call and wait for BYE (9.8.2)."""
        if call.sip is not None and not self._faults().no_media_status:
            self._spawn(self._tell_end(call, call.sip))

    async def _tell_end(self, call: ActiveCall, sip: IncomingCall) -> None:
        self._sn += 1
        status = MediaStatus(self._sn, call.channel.item.device_id)
        try:
            await sip.message(status.render(), "Application/MANSCDP+xml")
        except (PeerTimeout, Unavailable) as error:
            log.info("camera_end_untold", device_id=self._config.id, error=error.message)

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


def _window(offer: Sdp) -> tuple[datetime, datetime]:
    """The times asked for."""
    return datetime.fromtimestamp(offer.start_s, UTC), datetime.fromtimestamp(offer.end_s, UTC)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    """Go on on the loop; nothing happens when it is gone."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *args)


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
