"""Speaking to a device: who may, one at a time, and the two ends of what is spoken.

Implements: DB31DSJ/Z 001-2024 Table E.2
Implements: GB/T 28181-2022 9.12
*listen* is the sound of the live picture without the picture, as the device codes it or as AAC. *broadcast*
is a voice toward the device, its uplink a WebSocket that one ticket opens once, from the address it was given
to. *talk* is both (9.12.2). The decision is taken and recorded before the device hears of it; each of the two
has a right of its own. To one device one may speak at a time, whether a person here or a platform above.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from tongshi.clock import Clock
from tongshi.errors import (
    Conflict,
    Forbidden,
    Gone,
    LimitExceeded,
    NotFound,
    TongshiError,
    Unauthenticated,
    Unprocessable,
)
from tongshi.ids import DeviceId
from tongshi.protocols.media.g711 import Law
from tongshi.resources.viewing.model import Codec, Delivery, Opening, Transcoding
from tongshi.resources.viewing.ports import Guard, Viewer
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.sessions import Wish
from tongshi.sharing.permissions import Permission

log = structlog.get_logger(__name__)

MAX_TALKS = 500
SOUND_WAIT_S = 1.0  # sound may follow the first picture
SOUND_LOOK_S = 0.1
SWEEP_S = 1.0
MAX_ENDED = 200  # remembered, so that a second close is told from an unknown number


class Mode(StrEnum):
    """What is asked for; the value is the REST face's."""

    LISTEN = "listen"
    TALK = "talk"
    BROADCAST = "broadcast"


_RIGHTS = {Mode.TALK: Permission.TALK, Mode.BROADCAST: Permission.BROADCAST}


class VoiceLine(Protocol):
    """A device that listens."""

    ended: asyncio.Event

    def feed(self, samples: bytes, law: Law) -> None:
        """Say this; never waits, what is too much is dropped."""
        ...

    async def end(self) -> None:
        """Hang up. Idempotent, bounded."""
        ...


class VoiceSignalling(Protocol):
    """Toward the device, whichever level it is at."""

    async def open(self, device_id: DeviceId, on_accepted: Callable[[], None] | None = None) -> VoiceLine:
        """Make a device listen; ``on_accepted`` is called once it said that it will.

        Raises:
            NotFound, Unavailable: no way to it. PeerFailed: refused (50201). PeerTimeout: silent (50401), or
            said yes and did not call (50402).
        """
        ...


@dataclass(frozen=True, slots=True)
class VoiceWish:
    """What somebody asks for; ``expire_s`` is the time to open what is given.

    ``law`` is that of the uplink. ``sound`` is the codec that is listened to; "" takes what the device sends.
    """

    device_id: DeviceId
    mode: Mode
    law: Law = "alaw"
    sound: str = ""
    delivery: Delivery = Delivery.HTTP_FLV
    expire_s: int = 60
    max_session_s: int = 1_800
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class VoiceOpening:
    """What the person who asked gets: where to listen and to what, and where to speak."""

    session_id: str
    mode: Mode
    law: Law
    expires_at: datetime
    listening: Opening | None = None
    uplink_url: str = ""
    heard: Codec | None = None  # what is listened to


@dataclass(frozen=True, slots=True)
class VoiceClosing:
    """The answer to a close; a second one says ``closed`` False."""

    closed: bool
    duration_s: float


@dataclass(slots=True, eq=False)
class Talk:
    """One running session with everything it holds."""

    session_id: str
    viewer: Viewer
    wish: VoiceWish
    began: float
    opens_until: datetime
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    grant: str = ""
    line: VoiceLine | None = None
    listening: Opening | None = None
    heard: Codec | None = None
    is_taken: bool = False
    spoken_bytes: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def feed(self, samples: bytes) -> None:
        """What the browser's microphone sent."""
        self.spoken_bytes += len(samples)
        if self.line is not None:
            self.line.feed(samples, self.wish.law)


class _Held:
    """A line with the device's only voice; given back when it ends."""

    def __init__(self, line: VoiceLine, release: Callable[[], None]) -> None:
        self._line = line
        self._release = release
        self.ended = line.ended
        self.feed = line.feed

    async def end(self) -> None:
        release, self._release = self._release, _nothing
        release()
        await self._line.end()


def _nothing() -> None:
    return None


class Voice:
    """Sessions of sound.

    Args:
        base_url: how browsers reach the media listener, ``http://...`` without a final slash.
    """

    def __init__(
        self,
        *,
        signalling: VoiceSignalling,
        viewing: Viewing,
        guard: Guard,
        clock: Clock,
        base_url: Callable[[], str],
    ) -> None:
        self._signalling = signalling
        self._viewing = viewing
        self._guard = guard
        self._clock = clock
        self._base_url = base_url
        self._talks: dict[str, Talk] = {}
        self._ended: dict[str, tuple[str, float]] = {}  # whose it was, and how long
        self._talkers: dict[DeviceId, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._talks)

    @property
    def talkers(self) -> dict[DeviceId, str]:
        """Who speaks to which device now."""
        return dict(self._talkers)

    async def start_up(self) -> None:
        """Begin to look for rights that were taken back."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def stop_all(self) -> None:
        """End every session and wait for it."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for talk in tuple(self._talks.values()):
            self._end(talk, "shutdown")
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(self, viewer: Viewer, wish: VoiceWish) -> VoiceOpening:
        """Open sound with a device.

        Raises:
            NotFound, Forbidden: the access decision. Conflict: somebody speaks to it (40903).
            Unprocessable: the picture has no sound, or not so (42203). LimitExceeded: no room (42904).
            PeerTimeout, PeerFailed, Unavailable: see ``VoiceSignalling`` and ``Viewing.watch``.
        """
        if len(self._talks) >= MAX_TALKS:
            raise LimitExceeded("语音会话已满", code=42904, retry_after_s=10)
        opens_until = self._clock.at() + timedelta(seconds=wish.expire_s)
        talk = Talk(secrets.token_hex(16), viewer, wish, self._clock.now(), opens_until)
        right = _RIGHTS.get(wish.mode)
        if right is not None:
            talk.grant = await self._guard.admit(viewer, right, wish.device_id, wish.purpose)
            self._hold(wish.device_id, viewer)
        self._talks[talk.session_id] = talk
        try:
            await self._open(talk)
        except BaseException:
            self._end(talk, "failed")
            raise
        return self._opened(talk)

    async def stop(self, viewer: Viewer, session_id: str, *, may_close_any: bool = False) -> VoiceClosing:
        """Close a session; a second close says so. Raises NotFound."""
        talk = self._talks.get(session_id)
        if talk is not None and (may_close_any or talk.viewer.key == viewer.key):
            self._end(talk, "closed")
            return VoiceClosing(True, round(self._clock.now() - talk.began, 3))
        owner, duration_s = self._ended.get(session_id, ("", 0.0))
        if not owner or not (may_close_any or owner == viewer.key):
            raise NotFound("没有这个会话", code=40404)
        return VoiceClosing(False, duration_s)

    def admit(self, session_id: str, ticket: str, client_host: str) -> Talk:
        """Take a ticket: the one connection it is good for may speak now.

        Raises:
            Unauthenticated: no or a wrong ticket. Forbidden: given to another address (40302).
            Gone: used before, expired or ended (41002).
        """
        talk = self._talks.get(session_id)
        if talk is None or not secrets.compare_digest(talk.ticket.encode(), ticket.encode()):
            raise Unauthenticated("语音凭据无效")
        if talk.viewer.client_host != client_host:
            raise Forbidden("语音凭据不属于此地址", code=40302)
        if talk.is_taken or talk.line is None or self._clock.at() > talk.opens_until:
            raise Gone("语音凭据已使用或已过期", code=41002)
        talk.is_taken = True
        return talk

    def left(self, talk: Talk) -> None:
        """The browser's connection closed."""
        self._end(talk, "viewerLeft")

    async def admit_upper(self, viewer: Viewer, device_id: DeviceId) -> str:
        """Decide and record that a platform above may speak. Raises NotFound, Forbidden."""
        return await self._guard.admit(viewer, Permission.BROADCAST, device_id, "cascade")

    async def relay(self, viewer: Viewer, device_id: DeviceId, on_accepted: Callable[[], None]) -> VoiceLine:
        """Make a device listen to a platform above. Raises Conflict (40903), and as ``VoiceSignalling``."""
        self._hold(device_id, viewer)
        try:
            line = await self._signalling.open(device_id, on_accepted)
        except BaseException:
            self._talkers.pop(device_id, None)
            raise
        return _Held(line, lambda: self._let_go(device_id))

    def _let_go(self, device_id: DeviceId) -> None:
        self._talkers.pop(device_id, None)

    def _hold(self, device_id: DeviceId, viewer: Viewer) -> None:
        holder = self._talkers.get(device_id)
        if holder is not None:
            raise Conflict("该设备正在被喊话", code=40903, details={"holder": holder})
        self._talkers[device_id] = viewer.subject.name or viewer.subject.id

    async def _open(self, talk: Talk) -> None:
        wish = talk.wish
        if wish.mode is not Mode.LISTEN:
            talk.line = await self._signalling.open(wish.device_id)
            self._begin(self._follow(talk, talk.line))
        if wish.mode is not Mode.BROADCAST:
            asked = Wish(
                wish.device_id,
                deliveries=(wish.delivery,),
                expire_s=wish.expire_s,
                purpose=wish.purpose,
                transcoding=self._coding(wish),
                is_sound_alone=True,
            )
            try:
                talk.listening = await self._viewing.watch(talk.viewer, asked)
            except Unprocessable as error:
                if not (error.field or "").startswith("transcode"):
                    raise
                # Of this request it is the codec that would have needed a coder.
                details = {**error.details, "supported": []}
                raise Unprocessable(error.message, code=error.code, field="codec", details=details) from error
            talk.heard = await self._find_sound(talk.listening)
            self._check_sound(wish, talk.heard)

    def _coding(self, wish: VoiceWish) -> Transcoding | None:
        """How sound is coded anew for who wants AAC, or what carries nothing else."""
        is_aac = wish.sound == "aac" or (not wish.sound and wish.delivery.sounds == ("aac",))
        return Transcoding(audio="aac") if is_aac and self._viewing.may_transcode else None

    def _check_sound(self, wish: VoiceWish, heard: Codec) -> None:
        """What was found is what was asked for, and comes this way; else what there is is named."""
        found = heard.audio
        if found in wish.delivery.sounds and wish.sound in ("", found) and heard.audio_rate_hz:
            return
        is_playable = found in Delivery.HTTP_FLV.sounds
        others = ["aac"] if self._viewing.may_transcode and found != "aac" else []
        supported = [found, *others] if is_playable else []
        way_out = f"可选 {'、'.join(supported)}" if supported else "请在设备上将音频编码改为 G.711 或 AAC"
        message = f"设备的声音编码为 {found}，不能按所选方式收听；{way_out}"
        raise Unprocessable(message, code=42203, field="codec", details={"supported": supported})

    async def _find_sound(self, listening: Opening) -> Codec:
        """A picture without sound is no sound: said so instead of a silent address."""
        stream, codec = self._viewing.streams.find(listening.view.stream_id), Codec()
        for _ in range(round(SOUND_WAIT_S / SOUND_LOOK_S)):
            if stream is None or stream.ingest is None:
                break
            codec = (await stream.ingest.figures()).codec
            if codec.audio and codec.audio_rate_hz:
                return codec
            await asyncio.sleep(SOUND_LOOK_S)
        if not codec.audio:
            raise Unprocessable("该设备的实时流中没有音频", code=42203, field="mode")
        return codec

    def _opened(self, talk: Talk) -> VoiceOpening:
        loop, wish = asyncio.get_running_loop(), talk.wish
        talk.timers.append(loop.call_later(wish.max_session_s, self._end, talk, "expired"))
        uplink = ""
        if talk.line is not None:
            talk.timers.append(loop.call_later(wish.expire_s, self._expire, talk))
            base = self._base_url().replace("http", "ws", 1)
            uplink = f"{base}/talk/{talk.session_id}?ticket={talk.ticket}"
        return VoiceOpening(
            talk.session_id, wish.mode, wish.law, talk.opens_until, talk.listening, uplink, talk.heard
        )

    def _expire(self, talk: Talk) -> None:
        if not talk.is_taken:
            self._end(talk, "expired")

    async def _follow(self, talk: Talk, line: VoiceLine) -> None:
        """The device's end is the session's."""
        ends = [asyncio.ensure_future(event.wait()) for event in (line.ended, talk.ended)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in ends:
                waiting.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        self._end(talk, "deviceEnded")

    def _end(self, talk: Talk, reason: str) -> None:
        if talk.ended.is_set():
            return
        talk.ended.set()
        for timer in talk.timers:
            timer.cancel()
        self._talks.pop(talk.session_id, None)
        if talk.wish.mode is not Mode.LISTEN:
            self._talkers.pop(talk.wish.device_id, None)
        duration_s = round(self._clock.now() - talk.began, 3)
        self._ended[talk.session_id] = (talk.viewer.key, duration_s)
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        log.info(
            "voice_ended",
            session_id=talk.session_id,
            device_id=talk.wish.device_id,
            mode=talk.wish.mode,
            reason=reason,
            spoken_bytes=talk.spoken_bytes,
        )
        self._begin(self._give_back(talk))

    async def _give_back(self, talk: Talk) -> None:
        try:
            if talk.line is not None:
                await talk.line.end()
            if talk.listening is not None:
                await self._viewing.stop(talk.viewer, talk.listening.view.session_id)
        except TongshiError as error:
            log.warning("voice_release_failed", session_id=talk.session_id, error=error.message)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep(self) -> None:
        """Cut what runs on a grant that is no longer in force."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                for grant in {talk.grant for talk in self._talks.values() if talk.grant}:
                    if not await self._guard.is_valid(grant):
                        for talk in [one for one in self._talks.values() if one.grant == grant]:
                            self._end(talk, "revoked")
            except Exception:
                log.exception("voice_sweep_failed")
