"""A platform's signalling side as small as it can be, for tests of cameras: registers, listens, asks, calls.

Not here: anything a real platform decides. It believes everybody who knows the one secret.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from tongshi.clock import Clock, SystemClock
from tongshi.errors import PeerTimeout, RemoteViolation
from tongshi.gateways.signalling.endpoint import (
    IncomingInvite,
    IncomingRequest,
    OutgoingCall,
    Remote,
    SipEndpoint,
)
from tongshi.gateways.signalling.transport import SipSockets
from tongshi.ids import sip_domain
from tongshi.protocols.gb28181.codec import Message, decode
from tongshi.protocols.gb28181.dates import render_date
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.offer import MediaTransport, offer_live
from tongshi.protocols.gb28181.subject import Subject
from tongshi.protocols.sip.digest import Authorization, Challenge, NonceStore, secret_hash, verify

M = TypeVar("M", bound=BaseMessage)


class PlatformDouble:
    """A platform double on a real SIP endpoint.

    Attributes:
        registered: source of each registered device by its code.
        registrations, keepalives: how many of each came, by code.
        messages: everything else that was decoded, in order.
        keepalive_status: what Keepalive is answered; a test may change it.
    """

    def __init__(
        self,
        platform_id: str,
        secret: str,
        clock: Clock | None = None,
        *,
        port: int = 0,
        allow_tcp: bool = True,
        sockets: Callable[..., SipSockets] = SipSockets,
    ) -> None:
        self.id, self._secret = platform_id, secret
        self._clock = clock or SystemClock()
        self._nonces = NonceStore(os.urandom(16))
        self._changed = asyncio.Condition()
        self.registered: dict[str, Remote] = {}
        self.registrations: Counter[str] = Counter()
        self.keepalives: Counter[str] = Counter()
        self.messages: list[Message] = []
        self.keepalive_status = 200
        self.expires_s = 3600
        self.endpoint = SipEndpoint(
            local_id=platform_id,
            host="127.0.0.1",
            port=port,
            on_request=self._on_request,
            on_invite=self._on_invite,
            clock=self._clock,
            allow_tcp=allow_tcp,
            sockets=sockets,
        )

    async def start(self) -> None:
        """Listen on a free port."""
        await self.endpoint.start()

    async def stop(self) -> None:
        """Release everything."""
        await self.endpoint.stop()

    @property
    def port(self) -> int:
        """The SIP port, UDP and TCP."""
        return self.endpoint.port

    async def until(self, holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait until a condition over the attributes holds. Raises PeerTimeout."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            raise PeerTimeout("the awaited did not happen") from None

    async def send(self, code: str, message: BaseMessage, to_id: str = "") -> int:
        """Send a MESSAGE to a registered device, or by it to whom ``to_id`` names; the SIP status."""
        response = await self.endpoint.request(
            "MESSAGE",
            to_id=to_id or code,
            remote=self.registered[code],
            body=message.render(),
            content_type="Application/MANSCDP+xml",
            timeout_s=5.0,
        )
        return response.status

    async def ask(self, code: str, query: BaseMessage, kind: type[M], count: int = 1) -> list[M]:
        """Send a query and wait for so many answers with its SN."""
        assert await self.send(code, query) == 200

        def answers() -> list[M]:
            return [one for one in self.messages if isinstance(one, kind) and one.sn == query.sn]

        await self.until(lambda: len(answers()) >= count)
        return answers()

    async def call(
        self,
        code: str,
        *,
        port: int,
        ssrc: int,
        transport: MediaTransport = "udp",
        channel: str = "",
        timeout_s: float = 10.0,
    ) -> OutgoingCall:
        """Ask for a live picture at a local port. Raises PeerFailed, PeerTimeout."""
        offer = offer_live(owner_id=self.id, address="127.0.0.1", port=port, ssrc=ssrc, transport=transport)
        channel = channel or code
        return await self.endpoint.invite(
            to_id=channel,
            remote=self.registered[code],
            sdp=offer.render(),
            subject=Subject(channel, f"{ssrc:010d}", self.id, "0").render(),
            answer_timeout_s=timeout_s,
        )

    async def _on_invite(self, invite: IncomingInvite) -> None:
        invite.reject(404)

    async def _on_request(self, incoming: IncomingRequest) -> None:
        if incoming.request.method == "REGISTER":
            self._register(incoming)
        elif incoming.request.method == "MESSAGE":
            self.take(incoming)
        else:
            incoming.respond(405)
        async with self._changed:
            self._changed.notify_all()

    def _register(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        code, realm = request.from_.uri.user, sip_domain(self.id)
        text = request.headers.get("Authorization")
        if not text:
            nonce = self._nonces.issue(self._clock.at().timestamp(), os.urandom(4))
            challenge = Challenge(realm, nonce).render()
            incoming.respond(401, headers=(("WWW-Authenticate", challenge), ("X-GB-Ver", "3.0")))
            return
        given = Authorization.parse(text)
        ha1 = secret_hash(given.algorithm, given.username, realm, self._secret)
        if not verify(given, method="REGISTER", ha1=ha1):
            incoming.respond(403)
            return
        if request.expires == 0:
            self.registered.pop(code, None)
        else:
            self.registered[code] = incoming.remote
            self.registrations[code] += 1
        headers = [("Date", render_date(self._clock.at())), ("X-GB-Ver", "3.0")]
        if request.expires != 0:
            headers.append(("Expires", str(self.expires_s)))
        incoming.respond(200, headers=headers)

    def take(self, incoming: IncomingRequest) -> None:
        """Answer a MESSAGE and keep it."""
        try:
            message = decode(incoming.request.body)
        except RemoteViolation:
            incoming.respond(400)
            return
        if isinstance(message, Keepalive):
            self.keepalives[message.device_id] += 1
            incoming.respond(self.keepalive_status)
            return
        self.messages.append(message)
        incoming.respond(200)
