"""Offer and answer of a media call: what we say in SDP to whom.

Implements: GB/T 28181-2022 9.2.3
Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 9.9
Implements: GB/T 28181-2022 Annex D
Not here: lines and their reading (sdp.py); who may see the picture (sharing/).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from tongshi.errors import Unprocessable
from tongshi.protocols.gb28181.media_format import MediaFormat
from tongshi.protocols.gb28181.profile import Profile, Quirk
from tongshi.protocols.gb28181.records import RecordType
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, Setup
from tongshi.protocols.gb28181.version import Feature, supports
from tongshi.protocols.media.codecs import LIVE_PAYLOAD_TYPES, PS, RTP_MAPS, RtpMap

MediaTransport = Literal["udp", "tcp-passive", "tcp-active"]

_SETUP: Final[dict[MediaTransport, Setup | None]] = {
    "udp": None,
    "tcp-passive": "passive",
    "tcp-active": "active",
}
_VENDOR_MAPS: Final = (  # quirk 37
    RtpMap(126, "H264", 90_000),
    RtpMap(125, "H264S", 90_000),
    RtpMap(99, "MP4V-ES", 90_000),
    RtpMap(34, "H263", 90_000),
)


def offer_live(
    *,
    owner_id: str,
    address: str,
    port: int,
    ssrc: int | None,
    transport: MediaTransport = "udp",
    stream_number: int | None = None,
    f: MediaFormat | None = None,
    profile: Profile = Profile(),  # noqa: B008  # frozen
) -> Sdp:
    """What a receiver offers for live media.

    Args:
        owner_id: 20-digit code of the platform that sends the offer.
        address, port: where the media is to arrive, or, for tcp-active, whence we connect.
        ssrc: None when the called domain is to choose it.
        transport: ``tcp-passive`` listens, ``tcp-active`` connects.
        stream_number: 0 main, 1 first sub stream; None leaves it to the device.
        profile: decides how the stream number is said and whether vendor payload types are added.
    """
    vendor_maps = _VENDOR_MAPS if profile.has(Quirk.VENDOR_RTPMAPS) else ()
    numbers = [pt for pt in LIVE_PAYLOAD_TYPES if all(pt != rtpmap.payload_type for rtpmap in vendor_maps)]
    maps = (*(RTP_MAPS[pt] for pt in numbers), *vendor_maps)
    says_number = stream_number is not None and supports(profile.edition, Feature.STREAM_NUMBER)
    return Sdp(
        owner_id=owner_id,
        address=address,
        port=port,
        protocol="RTP/AVP" if transport == "udp" else "TCP/RTP/AVP",
        payload_types=tuple(rtpmap.payload_type for rtpmap in maps),
        rtpmap=maps,
        direction="recvonly",
        setup=_SETUP[transport],
        connection=None if transport == "udp" else "new",
        stream_number=stream_number if says_number else None,
        ssrc=ssrc,
        f=f,
        extra=_stream_attributes(stream_number, profile),
    )


def offer_history(
    live: Sdp,
    *,
    channel_id: str,
    start_s: int,
    end_s: int,
    kind: RecordType = RecordType.ALL,
    download_speed: int | None = None,
    profile: Profile = Profile(),  # noqa: B008  # frozen
) -> Sdp:
    """The offer of a live picture made into one of a recording: s=, u= and t= say what is wanted.

    Args:
        live: as ``offer_live`` makes it, with an SSRC of history.
        channel_id: whose recording. start_s, end_s: UNIX seconds.
        download_speed: asks for a download at this factor; None asks for playback.
    """
    says_speed = download_speed is not None and supports(profile.edition, Feature.DOWNLOAD_SPEED)
    return msgspec.structs.replace(
        live,
        session_name=SessionName.PLAYBACK if download_speed is None else SessionName.DOWNLOAD,
        uri=f"{channel_id}:{kind.uri_code}",
        start_s=start_s,
        end_s=end_s,
        download_speed=download_speed if says_speed else None,
    )


def answer_live(
    offer: Sdp,
    *,
    owner_id: str,
    address: str,
    port: int,
    ssrc: int | None = None,
    payload_type: int = PS.payload_type,
    file_size: int | None = None,
    f: MediaFormat | None = None,
) -> Sdp:
    """What a sender answers: one payload type, the other half of the TCP roles, the offer's SSRC or its own.

    Serves playback and download as well, as session name and times are those of the offer.

    Raises:
        Unprocessable: the payload type was not offered (488).
    """
    if payload_type not in offer.payload_types:
        raise Unprocessable(f"对方未提供负载类型 {payload_type}", field="m")
    offered = (rtpmap for rtpmap in offer.rtpmap if rtpmap.payload_type == payload_type)
    rtpmap = next(offered, None) or RTP_MAPS.get(payload_type)
    return Sdp(
        session_name=offer.session_name,
        owner_id=owner_id,
        address=address,
        start_s=offer.start_s,
        end_s=offer.end_s,
        media=offer.media,
        port=port,
        protocol=offer.protocol,
        payload_types=(payload_type,),
        rtpmap=(rtpmap,) if rtpmap else (),
        direction="sendonly",
        setup=("passive" if offer.setup == "active" else "active") if offer.is_tcp else None,
        connection="new" if offer.is_tcp else None,
        download_speed=offer.download_speed,
        file_size=file_size,
        ssrc=offer.ssrc if ssrc is None else ssrc,
        f=f,
    )


def _stream_attributes(stream_number: int | None, profile: Profile) -> tuple[str, ...]:
    """The vendor's way to select a sub stream, where its profile names one (quirk 67)."""
    if stream_number is None:
        return ()
    ways = (
        (Quirk.STREAM_PROFILE_ATTRIBUTE, f"streamprofile:{stream_number}"),
        (Quirk.STREAM_ATTRIBUTE, f"stream:{stream_number}"),
        (Quirk.STREAM_MODE_ATTRIBUTE, f"streamMode:{'sub' if stream_number else 'main'}"),
    )
    return tuple(text for quirk, text in ways if profile.has(quirk))
