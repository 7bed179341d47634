"""Offer and answer of a call for sound alone: the call that a loudspeaker makes after a broadcast.

Implements: GB/T 28181-2022 9.12
Implements: GB/T 28181-2022 G.1
Not here: pictures (offer.py); who may speak (sharing/).
"""

from __future__ import annotations

from typing import Final

from tongshi.errors import Unprocessable
from tongshi.protocols.gb28181.media_format import MediaFormat
from tongshi.protocols.gb28181.offer import answer_live
from tongshi.protocols.gb28181.sdp import Sdp, SessionName
from tongshi.protocols.media.codecs import RtpMap
from tongshi.protocols.media.g711 import PAYLOAD_TYPES

G711_FORMAT: Final = MediaFormat(audio_codec="1", audio_rate="8", sampling="1")
_MAPS: Final = {8: RtpMap(8, "PCMA", 8_000), 0: RtpMap(0, "PCMU", 8_000)}


def offer_audio(*, owner_id: str, address: str, port: int) -> Sdp:
    """What a receiver of sound offers: G.711 over UDP, A-law first."""
    return Sdp(
        owner_id=owner_id,
        address=address,
        media="audio",
        port=port,
        payload_types=tuple(_MAPS),
        rtpmap=tuple(_MAPS.values()),
        direction="recvonly",
        f=G711_FORMAT,
    )


def choose_payload_type(offer: Sdp) -> int:
    """A-law when it is offered, else mu-law, whatever else is (quirk 62).

    Raises:
        Unprocessable: no sound, or none that we have (488).
    """
    if offer.session_name not in (SessionName.PLAY, SessionName.TALK) or offer.media != "audio":
        raise Unprocessable("不是语音呼叫", field="m")
    chosen = next((pt for pt in PAYLOAD_TYPES if pt in offer.payload_types), None)
    if chosen is None:
        raise Unprocessable("对方未提供 G.711", field="m")
    return chosen


def answer_audio(offer: Sdp, *, owner_id: str, address: str, port: int, ssrc: int, payload_type: int) -> Sdp:
    """What the sender of sound answers: one law, the other half of the TCP roles, our SSRC."""
    return answer_live(
        offer,
        owner_id=owner_id,
        address=address,
        port=port,
        ssrc=ssrc,
        payload_type=payload_type,
        f=G711_FORMAT,
    )
