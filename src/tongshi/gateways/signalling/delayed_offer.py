"""A platform above calls without a session, and we offer one: the shape of third-party call control.

Implements: GB/T 28181-2022 9.2.2
The caller connects us with a receiver that it calls beside us: our 200 offers what we would send, its ACK
says where the receiver wants it (9.2.2.2). We offer PS over UDP with the SSRC of our own domain; where to is
not known yet, so that the port is the discard port, 9, as of one who only sends.
"""

from __future__ import annotations

from tongshi.errors import RemoteViolation, Unprocessable
from tongshi.gateways.signalling.calls import HeaderPairs
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingInvite
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, parse_sdp
from tongshi.protocols.media.codecs import PS

DISCARD_PORT = 9


def sending_offer(owner_id: str, address: str, ssrc: int) -> Sdp:
    """What a sender offers for live media."""
    return Sdp(
        session_name=SessionName.PLAY,
        owner_id=owner_id,
        address=address,
        port=DISCARD_PORT,
        payload_types=(PS.payload_type,),
        rtpmap=(PS,),
        direction="sendonly",
        ssrc=ssrc,
    )


async def exchange(
    invite: IncomingInvite, *, owner_id: str, address: str, ssrc: int, headers: HeaderPairs = ()
) -> tuple[IncomingCall, Sdp]:
    """Answer an INVITE without SDP with our offer, and read where to send from its ACK.

    Raises:
        Unprocessable: the ACK brings no session that we can send to; the call is ended with BYE.
        PeerTimeout, Unavailable: no ACK, cancelled before.
    """
    call = await invite.accept(sending_offer(owner_id, address, ssrc).render(), headers)
    try:
        return call, _receiver(call.answer)
    except (RemoteViolation, Unprocessable) as error:
        await call.bye()
        raise Unprocessable(error.message) from error


def _receiver(answer: bytes) -> Sdp:
    if not answer:
        raise Unprocessable("ACK 没有携带 SDP")
    receiver = parse_sdp(answer)
    if receiver.media != "video" or receiver.is_tcp or not receiver.port:
        raise Unprocessable("只支持以 UDP 发送视频")
    if PS.payload_type not in receiver.payload_types or receiver.direction in ("sendonly", "inactive"):
        raise Unprocessable("接收方不接收 PS 视频流")
    return receiver
