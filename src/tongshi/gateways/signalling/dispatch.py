"""Which flow takes which message, request or call: one table a side, filled when the gateway is built.

Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 9.2
A flow names the message type it takes and from which side: ``peer`` is a device or lower platform registered
with us, ``upper`` a platform with which we are registered. What no flow takes is answered here: an answer or
a notification of a peer 200 (it is only logged), a question or a command of an upper 501.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from tongshi.errors import LocalViolation, RemoteViolation
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.questions import CONTENT_TYPE
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.codec import Message, decode
from tongshi.protocols.gb28181.message import UnknownMessage
from tongshi.protocols.gb28181.sdp import SessionName, parse_sdp

log = structlog.get_logger(__name__)

M = TypeVar("M")
Key = TypeVar("Key")

# A handler answers its request itself; one that forgets answers 500.
FromPeer = Callable[[IncomingRequest, Peer, M], Awaitable[None]]
FromUpper = Callable[[IncomingRequest, Upper, M], Awaitable[None]]
UpperInvite = Callable[[IncomingInvite, Upper], Awaitable[None]]
PeerInvite = Callable[[IncomingInvite, Peer], Awaitable[None]]
# Hears what a peer told, answers nothing and does not wait.
Listener = Callable[[Peer, Any], None]


class Dispatch:
    """Messages by type, calls by session; each has one taker."""

    def __init__(self) -> None:
        self._peer: dict[type[Any], FromPeer[Any]] = {}
        self._upper: dict[type[Any], FromUpper[Any]] = {}
        self._upper_invites: dict[SessionName, UpperInvite] = {}
        self._peer_invite: PeerInvite | None = None
        self._listeners: dict[type[Any], list[Listener]] = {}

    def from_peer(self, kind: type[M], handler: FromPeer[M]) -> None:
        """This flow takes these messages of peers."""
        _put(self._peer, kind, handler)

    def from_upper(self, kind: type[M], handler: FromUpper[M]) -> None:
        """This flow takes these messages of uppers."""
        _put(self._upper, kind, handler)

    def listen(self, kind: type[Any], listener: Listener) -> None:
        """This flow hears of these messages of peers besides the one that takes them."""
        self._listeners.setdefault(kind, []).append(listener)

    def upper_calls(self, session: SessionName, handler: UpperInvite) -> None:
        """This flow takes the calls of uppers for such a session."""
        _put(self._upper_invites, session, handler)

    def peer_calls(self, handler: PeerInvite) -> None:
        """This flow takes the calls of peers (a device that was invited to a broadcast calls us)."""
        if self._peer_invite is not None:
            raise LocalViolation("calls of peers have a taker already")
        self._peer_invite = handler

    async def message_of_peer(self, incoming: IncomingRequest, peer: Peer, message: Message) -> None:
        """Give a peer's message to its flow, and let those hear it who listen."""
        for listener in self._listeners.get(type(message), ()):
            listener(peer, message)
        handler = self._peer.get(type(message))
        if handler is not None:
            await handler(incoming, peer, message)
            return
        incoming.respond(200)
        if isinstance(message, UnknownMessage):
            log.info("message_unknown", peer_id=peer.id, cmd_type=message.cmd_type, root=message.root)

    async def message_of_upper(self, incoming: IncomingRequest, upper: Upper, message: Message) -> None:
        """Give an upper's message to its flow."""
        handler = self._upper.get(type(message))
        if handler is not None:
            await handler(incoming, upper, message)
            return
        is_question = isinstance(message, UnknownMessage) and message.root != "Response"
        incoming.respond(501 if is_question else 200)

    async def call_of_upper(self, invite: IncomingInvite, upper: Upper) -> None:
        """Give an upper's call to the flow of its session; 488 when there is none."""
        handler = self._upper_invites.get(session_of(invite.offer))
        if handler is None:
            invite.reject(488)
            return
        await handler(invite, upper)

    async def call_of_peer(self, invite: IncomingInvite, peer: Peer) -> None:
        """Give a peer's call to its flow; 403 when there is none."""
        if self._peer_invite is None:
            invite.reject(403)
            return
        await self._peer_invite(invite, peer)


def read_message(incoming: IncomingRequest, sender: Peer | Upper) -> Message | None:
    """The MANSCDP message of a request; None when there is none to read, and 415 or 400 was answered."""
    if incoming.request.content_type not in ("", CONTENT_TYPE.lower()):
        incoming.respond(415)
        return None
    try:
        return decode(incoming.request.body, charset=sender.profile.forced_charset)
    except RemoteViolation as violation:
        log.info("message_malformed", sender=sender.id, reason=violation.message)
        incoming.respond(400)
        return None


def session_of(offer: bytes) -> SessionName:
    """The session an INVITE asks for; live when it does not say or cannot be read, for its flow to refuse."""
    if not offer:
        return SessionName.PLAY
    try:
        return parse_sdp(offer).session_name
    except RemoteViolation:
        return SessionName.PLAY


def _put(table: dict[Key, Any], key: Key, handler: object) -> None:
    if key in table:
        raise LocalViolation(f"{key} has a taker already")
    table[key] = handler
