"""Sound over REST: listen, talk, broadcast, and their end.

Implements: DB31DSJ/Z 001-2024 E.2-12
Implements: DB31DSJ/Z 001-2024 E.2-13
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, PeerFailed, PeerTimeout, Unprocessable
from tongshi.ids import device_id
from tongshi.protocols.media.g711 import RATE_HZ, Law
from tongshi.resources.viewing.model import SOUND_DELIVERIES, Delivery
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.voice import Mode, Voice, VoiceOpening, VoiceWish
from tongshi.sharing.gate import subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_LAWS: dict[str, Law] = {"g711a": "alaw", "g711u": "ulaw"}
_DELIVERIES = {"": Delivery.HTTP_FLV, "ws": Delivery.HTTP_FLV, **{one.value: one for one in SOUND_DELIVERIES}}
_CODECS: dict[Law, str] = {law: name for name, law in _LAWS.items()}


_NOT_HEARD = (
    "平台没有 G.722.1 的解码器，不能收听；请将 codec 设为 g711a、g711u 或 aac，或不指定而收听设备所发的编码；"
    "只发 G.722.1 的设备，请在设备上将音频编码改为 G.711 或 AAC"
)
_NOT_SPOKEN = "平台向设备只送 G.711 语音，请将 codec 设为 g711a 或 g711u，或不指定"


class AudioStartRequest(Request, frozen=True):
    """E.2-12. ``codec`` is that of the uplink, and of what is heard in the mode listen; without one G.711
    A-law, and what the device sends. ``expireSec`` is the time to open what is given."""

    device_id: Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")] = field(name="DeviceID")
    mode: Literal["listen", "talk", "broadcast"] = "listen"
    codec: Literal["", "g711a", "g711u", "aac", "g722.1"] = ""
    protocol: Annotated[str, Meta(max_length=32)] = ""
    expire_sec: Annotated[int, Meta(ge=10, le=3_600)] = 60
    max_session_sec: Annotated[int, Meta(ge=10, le=14_400)] = 1_800
    purpose: Annotated[str, Meta(max_length=256)] = ""

    def wish(self) -> VoiceWish:
        """What is asked, understood. Raises Unprocessable for an option we do not have (42203)."""
        mode = Mode(self.mode)
        heard = Delivery.HTTP_FLV.sounds
        codecs = (*heard,) if mode is Mode.LISTEN else (*_LAWS,)
        if self.codec and self.codec not in codecs:
            words = _NOT_HEARD if mode is Mode.LISTEN else _NOT_SPOKEN
            details: dict[str, object] = {"supported": list(codecs)}
            raise Unprocessable(words, code=42203, field="codec", details=details)
        if self.protocol not in _DELIVERIES:
            raise _unsupported("protocol", [name for name in _DELIVERIES if name])
        return VoiceWish(
            device_id(self.device_id),
            mode,
            _LAWS.get(self.codec, "alaw"),
            self.codec if mode is Mode.LISTEN else "",
            _DELIVERIES[self.protocol],
            self.expire_sec,
            self.max_session_sec,
            self.purpose,
        )


class AudioStopRequest(Request, frozen=True):
    """E.2-13."""

    session_id: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[str, Meta(max_length=256)] = ""


class HeardSound(Answer, frozen=True):
    """What comes by ``url``."""

    codec: str
    sample_rate: int


class AudioAnswer(Answer, frozen=True):
    """E.2-12. ``url`` is the sound of the live picture alone, ``uplinkUrl`` a WebSocket for G.711 at 8 kHz.

    ``codec`` and ``sampleRate`` are those of what is heard in the mode listen, else of the uplink; ``heard``
    says it in the mode talk.
    """

    session_id: str
    mode: str
    url: str | None
    uplink_url: str | None
    codec: str
    sample_rate: int
    half_duplex: bool
    expires_at: datetime
    heard: HeardSound | None = None


class AudioStopAnswer(Answer, frozen=True):
    """E.2-13."""

    closed: bool
    duration_sec: float


def operations(voice: Voice) -> list[AnyOperation]:
    """The operations of sound. Which right a mode needs besides is decided by ``Voice``."""

    async def start(call: Call[AudioStartRequest, Nothing]) -> AudioAnswer:
        viewer = Viewer(subject_of(call), call.client_host, call.request_id)
        return _answer(await voice.start(viewer, call.body.wish()))

    async def stop(call: Call[AudioStopRequest, Nothing]) -> AudioStopAnswer:
        viewer = Viewer(subject_of(call), call.client_host, call.request_id)
        done = await voice.stop(viewer, call.body.session_id)
        return AudioStopAnswer(done.closed, done.duration_s)

    return [
        Operation(
            name="startAudio",
            method="POST",
            path="/api/v1/video/audio/start",
            summary="获取音频流",
            permission=Permission.VIDEO_LIVE,
            quota=Quota.VIDEO,
            audit=AuditTag.AUDIO_OPEN,
            body=AudioStartRequest,
            query=Nothing,
            response=AudioAnswer,
            handler=start,
            refusals=(Conflict, Unprocessable, PeerFailed, PeerTimeout),
            row="E.2-12",
        ),
        Operation(
            name="stopAudio",
            method="POST",
            path="/api/v1/video/audio/stop",
            summary="关闭音频流",
            permission=Permission.VIDEO_CLOSE,
            quota=Quota.VIDEO,
            audit=AuditTag.AUDIO_CLOSE,
            body=AudioStopRequest,
            query=Nothing,
            response=AudioStopAnswer,
            handler=stop,
            row="E.2-13",
        ),
    ]


def _answer(opening: VoiceOpening) -> AudioAnswer:
    listening, heard = opening.listening, opening.heard
    told = heard if opening.mode is Mode.LISTEN else None
    return AudioAnswer(
        session_id=opening.session_id,
        mode=opening.mode.value,
        url=None if listening is None else listening.urls[0][1],
        uplink_url=opening.uplink_url or None,
        codec=told.audio if told is not None else _CODECS[opening.law],
        sample_rate=told.audio_rate_hz if told is not None else RATE_HZ,
        half_duplex=opening.mode is Mode.BROADCAST,
        expires_at=opening.expires_at,
        heard=None if heard is None else HeardSound(heard.audio, heard.audio_rate_hz),
    )


def _unsupported(name: str, supported: list[str]) -> Unprocessable:
    return Unprocessable(f"不支持所选的 {name}", code=42203, field=name, details={"supported": supported})
