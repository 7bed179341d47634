"""A simulated lower platform: registers, stays alive, answers for as many channels as asked, well or badly.

Implements: GB/T 28181-2022 Annex J
Implements: GB/T 28181-2022 Annex M
Not here: pictures (``camera``); what it does wrong (``defects``); its channels (``many_channels``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field

import structlog

from tongshi.errors import PeerTimeout, RemoteViolation, TongshiError, Unavailable
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, Remote, SipEndpoint
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.gateways.signalling.sending_window import SERIAL_PARTS, WIDEST_TCP, SendingWindow
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.message import next_sn
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.sip.address import Transport
from tongshi.protocols.sip.timers import TimerValues
from tongshi.testing.defects import Defects, parts
from tongshi.testing.lossy_sockets import lossy
from tongshi.testing.many_channels import ManyChannels

log = structlog.get_logger(__name__)

MANSCDP = "Application/MANSCDP+xml"
PART_TIMEOUT_S = 16.0
MAX_ANSWERS = 64  # queries being answered at once; further ones get 503


@dataclass(frozen=True, slots=True)
class LowerPlan:
    """Who it is, where it registers, how it answers.

    Attributes:
        per_message: items in one message at most. window: parts on their way at once, 1 to be serial.
        t1_s: after which an unanswered datagram is sent again.
    """

    channels: ManyChannels
    server_id: str
    server: Remote
    secret: str = field(repr=False)
    host: str = "127.0.0.1"
    username: str = ""
    per_message: int = 500
    window: int = 1
    keepalive_s: float = 60.0
    expires_s: int = 86_400
    retry_s: float = 60.0
    t1_s: float = 0.5
    defects: Defects = field(default_factory=Defects)
    seed: int = 1


class LowerPlatform:
    """One platform on its own SIP address.

    Attributes:
        channels, defects: may be replaced while it runs.
        answers: codes asked for by the catalogue queries that were answered, the last thousand.
        controls: device controls that came, the last thousand.
        parts: bodies of catalogues that were sent and acknowledged.
    """

    def __init__(self, plan: LowerPlan) -> None:
        self.plan, self.channels, self.defects = plan, plan.channels, plan.defects
        self.answers: list[str] = []
        self.controls: list[DeviceControl] = []
        self.parts = 0
        self._rng = random.Random(plan.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sn = 0
        transport: Transport = plan.server.transport
        self.endpoint = SipEndpoint(
            local_id=plan.channels.platform_id,
            host=plan.host,
            port=0,
            user_agent="Tongshi-Sim/1.0",
            on_request=self._on_request,
            on_invite=self._on_invite,
            allow_udp=transport == "udp",
            allow_tcp=transport == "tcp",
            timers=TimerValues(t1_s=plan.t1_s),
            sockets=lossy(plan.defects.loss, self._rng),
        )
        self._registrant = Registrant(
            self.endpoint,
            server_id=plan.server_id,
            remote=plan.server,
            username=plan.username or plan.channels.platform_id,
            password=plan.secret,
            expires_s=plan.expires_s,
            retry_s=plan.retry_s,
            rng=self._rng,
        )

    @property
    def id(self) -> str:
        return self.channels.platform_id

    @property
    def registered(self) -> asyncio.Event:
        """Set while the server holds its registration."""
        return self._registrant.registered

    async def start(self) -> None:
        """Bind, begin to register and to stay alive. Raises OSError."""
        await self.endpoint.start()
        await self._registrant.start()
        self._spawn(self._stay_alive())

    async def stop(self) -> None:
        """Deregister and release everything."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._registrant.stop()
        await self.endpoint.stop()

    async def _on_invite(self, invite: IncomingInvite) -> None:
        invite.reject(488)

    async def _on_request(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        if request.from_.uri.user != self.plan.server_id:
            incoming.respond(403)
            return
        if request.method != "MESSAGE":
            incoming.respond(501)
            return
        try:
            message = decode(request.body)
        except RemoteViolation:
            incoming.respond(400)
            return
        if isinstance(message, CatalogQuery):
            self._catalogue(incoming, message)
            return
        if isinstance(message, DeviceControl):
            del self.controls[:-999]
            self.controls.append(message)
        incoming.respond(200)
        if isinstance(message, DeviceInfoQuery):
            answer = DeviceInfoResponse(message.sn, message.device_id, device_name=self.channels.name)
            self._spawn(self._send(answer.render()))

    def _catalogue(self, incoming: IncomingRequest, query: CatalogQuery) -> None:
        total = self.channels.total(query.device_id)
        if not total:
            incoming.respond(404)
        elif len(self._tasks) > MAX_ANSWERS:
            incoming.respond(503)
        else:
            incoming.respond(200)
            answer = self.answers.count(query.device_id)
            del self.answers[:-999]
            self.answers.append(query.device_id)
            self._spawn(self._answer(query, total, answer))

    async def _answer(self, query: CatalogQuery, total: int, answer: int) -> None:
        plan = self.plan
        bodies = parts(
            self.channels.items(query.device_id),
            total,
            query.sn,
            query.device_id,
            own=self.channels.own,
            defects=self.defects,
            answer=answer,
            per_message=plan.per_message,
            max_bytes=UDP_BODY_BYTES if plan.server.transport == "udp" else TCP_BODY_BYTES,
        )
        widest = plan.window if plan.server.transport == "udp" else min(plan.window, WIDEST_TCP)
        window = SendingWindow(SERIAL_PARTS, widest)
        try:
            for body in bodies:
                await window.put(self._send(body))
            await window.drain()
        except TongshiError as error:
            log.warning("simulated_answer_failed", reason=error.message)
        finally:
            await window.close()

    async def _send(self, body: bytes, timeout_s: float = PART_TIMEOUT_S) -> None:
        """Send one body. Raises Unavailable when it is not accepted."""
        response = await self.endpoint.request(
            "MESSAGE",
            to_id=self.plan.server_id,
            remote=self._registrant.remote,
            body=body,
            content_type=MANSCDP,
            timeout_s=timeout_s,
        )
        if response.status != 200:
            raise Unavailable(f"{response.status}")
        self.parts += 1

    async def _stay_alive(self) -> None:
        missed = 0
        while True:
            await self.registered.wait()
            self._sn = next_sn(self._sn)
            try:
                await self._send(Keepalive(self._sn, self.id).render(), min(8.0, self.plan.keepalive_s))
                missed = 0
            except (PeerTimeout, Unavailable):
                missed += 1
            if missed >= 3:
                missed = 0
                self._registrant.renew()
            await asyncio.sleep(self.plan.keepalive_s)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except TongshiError as error:
            log.info("simulated_answer_failed", reason=error.message)
