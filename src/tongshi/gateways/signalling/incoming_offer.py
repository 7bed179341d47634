"""What an INVITE of a platform above asks for, read from its SDP or, without one, from its Subject.

Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 Annex L
An INVITE without SDP asks for the main stream; a stream serial in its Subject that begins with 1 announces a
recording (Annex L), and which one comes with the ACK (``delayed_offer``).
"""

from __future__ import annotations

from dataclasses import dataclass

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
from tongshi.gateways.signalling.endpoint import IncomingInvite
from tongshi.gateways.signalling.incoming_history import history_of
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.gb28181.subject import parse_subject
from tongshi.resources.viewing.model import StreamKey, StreamType, Transport


@dataclass(frozen=True, slots=True)
class Wanted:
    """One INVITE, understood.

    Attributes:
        key: the source; None for a recording that the ACK will name.
        offer: None when the offer is ours.
        transport: as the engine names our sending side; without an offer it is ours to choose.
        stream_key: by which a stream that is being sent is found again (Annex K).
    """

    device_id: DeviceId
    key: StreamKey | None
    offer: Sdp | None
    transport: Transport
    stream_key: str


def understand(invite: IncomingInvite) -> Wanted:
    """What is asked for.

    Raises:
        RemoteViolation: SDP or Subject cannot be read. Unprocessable: we cannot do that (488).
    """
    device_id = DeviceId(invite.request.uri.user or invite.request.to.uri.user)
    header = invite.request.headers.get("Subject")
    subject = parse_subject(header) if header else None
    if not invite.offer:
        stream_key = subject.stream_key if subject else f"{device_id}:{invite.request.call_id}"
        live = None if subject is not None and subject.is_history else StreamKey(device_id, StreamType(0))
        return Wanted(device_id, live, None, Transport.UDP, stream_key)
    try:
        offer = parse_sdp(invite.offer)
    except RemoteViolation as violation:
        raise Unprocessable(violation.message) from violation
    stream_key = subject.stream_key if subject else f"{device_id}:{offer.ssrc_text}"
    transport = Transport.UDP
    if offer.is_tcp:
        # The offer says what the upper does; we do the other half. Without a=setup the sender connects.
        transport = Transport.TCP_PASSIVE if offer.setup == "active" else Transport.TCP_ACTIVE
    key = source_of(device_id, offer, invite.request.call_id)
    if transport is not Transport.TCP_PASSIVE and not offer.port:
        raise Unprocessable("SDP 端口为 0")
    return Wanted(device_id, key, offer, transport, stream_key)


def source_of(device_id: DeviceId, session: Sdp, owner: str) -> StreamKey:
    """The source that a receiver's session names; ``owner`` makes a recording this call's.

    Raises:
        Unprocessable: no session or stream that there is (488).
    """
    if session.session_name is SessionName.TALK or session.media != "video":
        raise Unprocessable("只支持视频的点播、回放与下载")
    number = session.stream_number or 0
    if number not in tuple(StreamType):
        raise Unprocessable(f"没有码流 {number}")
    return StreamKey(device_id, StreamType(number), history_of(session, owner))


def status_of(error: TongshiError) -> int:
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


def warning(error: TongshiError) -> tuple[tuple[str, str], ...]:
    """Our reason in a number that another platform of this kind can show."""
    return (("Warning", f'399 tongshi "{error.code}"'),)
