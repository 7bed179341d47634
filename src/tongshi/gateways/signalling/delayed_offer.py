"""A platform above calls without a session, and we offer one: the shape of third-party call control.

Implements: GB/T 28181-2022 9.2.2
The caller connects us with a receiver that it calls beside us: our 200 offers what we would send, its ACK
says where the receiver wants it (9.2.2.2), and of a recording which (s=, u= and t= stand in SDP alone). We
offer PS with an SSRC of our own domain; one that the ACK names takes its place.

| transport that we offer | our offer | the ACK may say |
|---|---|---|
| UDP | discard port, 9, as of one who only sends | UDP; TCP with the receiver listening |
| TCP, we connect | port 9, setup:active | the same |
| TCP, we listen | our port, setup:passive | TCP, setup:active |

Only a live picture is offered with us listening, for a recording is opened after its ACK.

What the ACK says and we cannot do ends the call with BYE and the status that an offer would have got.
"""

from __future__ import annotations

from dataclasses import dataclass

from tongshi.errors import RemoteViolation, Unprocessable
from tongshi.gateways.signalling.calls import HeaderPairs
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingInvite
from tongshi.protocols.gb28181.sdp import Sdp, SessionName, Setup, parse_sdp
from tongshi.protocols.media.codecs import PS
from tongshi.protocols.sip.building import reason
from tongshi.resources.viewing.model import Transport

DISCARD_PORT = 9
_SETUP: dict[Transport, Setup] = {Transport.TCP_ACTIVE: "active", Transport.TCP_PASSIVE: "passive"}


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send, as an ACK says, and how the engine names our side of it."""

    sdp: Sdp
    transport: Transport


def sending_offer(
    owner_id: str,
    address: str,
    ssrc: int,
    transport: Transport = Transport.UDP,
    port: int = DISCARD_PORT,
    *,
    is_history: bool = False,
) -> Sdp:
    """What a sender offers; of a recording no times, for the receiver says them.

    transport: our side. port: where we listen, when we do.
    """
    setup = _SETUP.get(transport)
    return Sdp(
        session_name=SessionName.PLAYBACK if is_history else SessionName.PLAY,
        owner_id=owner_id,
        address=address,
        port=port,
        protocol="RTP/AVP" if setup is None else "TCP/RTP/AVP",
        payload_types=(PS.payload_type,),
        rtpmap=(PS,),
        direction="sendonly",
        setup=setup,
        connection=None if setup is None else "new",
        ssrc=ssrc,
    )


async def exchange(
    invite: IncomingInvite, offer: Sdp, headers: HeaderPairs = ()
) -> tuple[IncomingCall, Receiver]:
    """Answer an INVITE without SDP with our offer, and read where to send from its ACK.

    Raises:
        Unprocessable: the ACK brings no session that we can send to; the call is ended with BYE.
        PeerTimeout, Unavailable: no ACK, cancelled before.
    """
    call = await invite.accept(offer.render(), headers)
    try:
        return call, read_answer(call.answer, offer)
    except (RemoteViolation, Unprocessable) as error:
        await call.bye(headers=reason(488, error.message if error.message.isascii() else "no session"))
        raise Unprocessable(error.message) from error


def read_answer(answer: bytes, offer: Sdp) -> Receiver:
    """Where to send.

    Raises:
        RemoteViolation: no session description. Unprocessable: one that we cannot send to.
    """
    if not answer:
        raise Unprocessable("ACK 没有携带 SDP")
    receiver = parse_sdp(answer)
    if receiver.media != "video":
        raise Unprocessable("只支持发送视频")
    if PS.payload_type not in receiver.payload_types or receiver.direction in ("sendonly", "inactive"):
        raise Unprocessable("接收方不接收 PS 视频流")
    transport = _transport(receiver, offer)
    if transport is not Transport.TCP_PASSIVE and not receiver.port:
        raise Unprocessable("SDP 端口为 0")
    return Receiver(receiver, transport)


def _transport(receiver: Sdp, offer: Sdp) -> Transport:
    we_listen = offer.setup == "passive"
    if we_listen:
        if not receiver.is_tcp or receiver.setup == "passive":
            raise Unprocessable("接收方没有同意由它建立 TCP 连接")
        return Transport.TCP_PASSIVE
    if not receiver.is_tcp:
        return Transport.UDP
    if receiver.setup == "active":
        raise Unprocessable("接收方要求由它建立 TCP 连接，而本平台没有提供监听端口")
    return Transport.TCP_ACTIVE
