"""One SIP address on UDP, TCP and TLS: sockets, timers and awaitable calls around the sans-IO user agent.

Implements: GB/T 28181-2022 4.3.2
The agent decides, ``agent_loop`` moves its bytes and wakes it in time, ``handlers`` serve what arrives; here
what we send becomes awaitable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from tongshi.clock import Clock, SystemClock
from tongshi.errors import LocalViolation
from tongshi.gateways.signalling.agent_loop import AgentLoop, Doorkeeper, Trace
from tongshi.gateways.signalling.call_desk import CallDesk
from tongshi.gateways.signalling.calls import (
    Call,
    HeaderPairs,
    IncomingCall,
    IncomingInvite,
    IncomingRequest,
    OutgoingCall,
)
from tongshi.gateways.signalling.handlers import Handlers
from tongshi.gateways.signalling.subscription import IncomingSubscription, Subscription
from tongshi.gateways.signalling.subscription_desk import SubscriptionDesk
from tongshi.gateways.signalling.tls import Tls
from tongshi.gateways.signalling.transport import SipSockets
from tongshi.protocols.sip.agent_events import AgentEvent, RequestArrived, RequestFailed, ResponseArrived
from tongshi.protocols.sip.call_events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallFailed,
    CallRefused,
    InviteArrived,
    InviteCancelled,
)
from tongshi.protocols.sip.composing import Draft, Identity
from tongshi.protocols.sip.message import Remote, Response
from tongshi.protocols.sip.timers import TimerValues

__all__ = [
    "Call",
    "IncomingCall",
    "IncomingInvite",
    "IncomingRequest",
    "IncomingSubscription",
    "OutgoingCall",
    "Remote",
    "SipEndpoint",
    "Subscription",
]


class SipEndpoint:
    """Sends and answers SIP on one UDP and TCP port, and on one of TLS.

    Args:
        local_id: our 20-digit code, user part of From and Contact.
        host: address to bind. port: port of both transports; 0 chooses one free for both.
        on_request: handler of requests outside calls, of INFO and of NOTIFY; runs in its own task.
        on_invite: handler of new calls; runs in its own task.
        on_subscribe: handler of new subscriptions, likewise; None answers 489.
        clock: time source.
        advertised_host: host in Via and Contact; ``host`` when None.
        user_agent: User-Agent header, "" for none.
        headers: added to every message we send.
        max_pending: bound of unanswered transactions each way, of calls and of handlers; 503 beyond.
        max_connections: bound of TCP connections.
        idle_timeout_s: a TCP connection silent that long is closed.
        trace: called with "in" or "out", the remote and the bytes.
        timers: T1, T2, T4.
        sockets: what makes the sockets; a simulator's lose datagrams.
        tls: whom to believe, and where to listen for TLS; None: no TLS at all.
    """

    def __init__(
        self,
        *,
        local_id: str,
        host: str,
        port: int,
        on_request: Callable[[IncomingRequest], Awaitable[None]],
        on_invite: Callable[[IncomingInvite], Awaitable[None]],
        on_subscribe: Callable[[IncomingSubscription], Awaitable[None]] | None = None,
        clock: Clock | None = None,
        advertised_host: str | None = None,
        user_agent: str = "Tongshi/0.1",
        headers: tuple[tuple[str, str], ...] = (),
        allow_udp: bool = True,
        allow_tcp: bool = True,
        max_pending: int = 10_000,
        max_connections: int = 4_096,
        idle_timeout_s: float = 600.0,
        trace: Trace | None = None,
        timers: TimerValues | None = None,
        sockets: Callable[..., SipSockets] = SipSockets,
        tls: Tls | None = None,
    ) -> None:
        self.port = port
        self._handlers = Handlers(on_request, on_invite, on_subscribe, max_pending)
        clock = clock or SystemClock()
        opened = sockets(
            host,
            port,
            allow_udp=allow_udp,
            allow_tcp=allow_tcp,
            max_connections=max_connections,
            idle_timeout_s=idle_timeout_s,
            tls=tls,
        )
        self._sockets = opened
        self._loop = AgentLoop(
            Identity(local_id, advertised_host or host, port, user_agent, headers),
            opened,
            clock,
            on_event=self._handle,
            values=timers or TimerValues(),
            max_pending=max_pending,
            trace=trace,
        )
        self._calls = CallDesk(self._loop, self._handlers.invite)
        self._subscriptions = SubscriptionDesk(self._loop, self._handlers.subscribe)

    def guard(self, door: Doorkeeper) -> None:
        """Let this one look at everything that comes in; before ``start``."""
        self._loop.door = door

    def on_broken(self, callback: Callable[[Remote, str], None]) -> None:
        """Call back when a connection could not be made or broke, and there is a reason to tell."""
        self._loop.on_broken = callback

    def shut_out(self, hosts: Iterable[str]) -> None:
        """Hear nothing of these hosts from now on; of all others again."""
        self._loop.shut_out(hosts)

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port is taken."""
        self.port = await self._loop.open()

    async def stop(self, *, silently: bool = False) -> None:
        """Hang up, end every transaction, handler and connection; leaves no task and no socket.

        silently: without a word to anybody, as when the power fails.
        """
        agent = self._loop.agent
        if agent is None:
            return
        self._calls.farewell()
        self._loop.halt(agent, silently=silently)
        self._calls.close()
        self._subscriptions.close()
        await self._handlers.stop()
        await self._loop.close()

    async def request(
        self,
        method: str,
        *,
        to_id: str,
        remote: Remote,
        headers: HeaderPairs = (),
        body: bytes = b"",
        content_type: str = "",
        from_id: str | None = None,
        request_uri: str | None = None,
        call_id: str | None = None,
        cseq: int | None = None,
        from_tag: str | None = None,
        to_tag: str = "",
        timeout_s: float = 32.0,
        on_answer: Callable[[Response], None] | None = None,
    ) -> Response:
        """Send a request outside calls and return its final response, whatever the status.

        REGISTER names ourselves in From and To and ``sip:<to_id>@<domain>`` in the Request-URI; every other
        method names ``to_id`` in To and ``sip:<to_id>@<ip:port>`` in the Request-URI.
        on_answer: told of the response before anything that came in behind it is read.

        Raises:
            PeerTimeout: silence for ``timeout_s`` (Timer F).
            Unavailable: transport error, too much pending, or the endpoint stopped.
        """
        draft = Draft(
            method,
            to_id,
            headers=tuple(headers),
            body=body,
            content_type=content_type,
            from_id=from_id or "",
            request_uri=request_uri or "",
            call_id=call_id or "",
            cseq=cseq or 1,
            from_tag=from_tag or "",
            to_tag=to_tag,
        )
        remote = await self._loop.route(to_id, remote, len(body))
        return await self._loop.ask(
            lambda agent, now: agent.request(draft, remote, now, timeout_s), on_answer
        )

    async def invite(
        self,
        *,
        to_id: str,
        remote: Remote,
        sdp: bytes,
        subject: str,
        headers: HeaderPairs = (),
        from_id: str | None = None,
        answer_timeout_s: float = 15.0,
        on_offer: Callable[[bytes], bytes] | None = None,
    ) -> OutgoingCall:
        """Call and wait for the answer; the ACK is sent here.

        on_offer: without ``sdp`` the answer carries the offer; this makes the SDP of our ACK from it. What it
        raises ends the call and is raised here.

        Raises:
            PeerFailed: refused; details ``sipStatus`` and ``reason``.
            PeerTimeout: code 50401, no final answer; CANCEL is sent once allowed, a late 200 gets ACK and
            BYE. Unavailable: transport error, too much pending, or the endpoint stopped.
        """
        draft = Draft(
            "INVITE",
            to_id,
            headers=((("Subject", subject),) if subject else ()) + tuple(headers),
            body=sdp,
            content_type="Application/SDP" if sdp else "",
            from_id=from_id or "",
        )
        remote = await self._loop.route(to_id, remote, len(sdp))
        return await self._calls.invite(draft, remote, answer_timeout_s, on_offer)

    async def subscribe(
        self,
        *,
        to_id: str,
        remote: Remote,
        event: str,
        body: bytes,
        content_type: str,
        expires_s: int,
        headers: HeaderPairs = (),
        from_id: str | None = None,
        peer_id: str = "",
    ) -> Subscription:
        """Subscribe and wait for the answer. Refresh and end it through what is returned.

        peer_id: who is there at ``remote``, when it is not ``to_id`` itself.

        Raises:
            PeerFailed: refused; details ``sipStatus`` and ``reason``. PeerTimeout: silence.
            Unavailable: transport error, too many subscriptions, or the endpoint stopped.
        """
        draft = Draft(
            "SUBSCRIBE",
            to_id,
            headers=(("Event", event), *headers),
            body=body,
            content_type=content_type,
            from_id=from_id or "",
        )
        remote = await self._loop.route(to_id, remote, len(body))
        return await self._subscriptions.subscribe(draft, remote, expires_s, peer_id or to_id)

    async def reach_tcp(self, remote: Remote) -> Remote | None:
        """The same address by TCP, when a connection to it is open or can be made; None when it cannot."""
        by_tcp = Remote(remote.host, remote.port, "tcp")
        return by_tcp if await self._loop.reach(by_tcp) else None

    def watch(self, remote: Remote, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back each time the TCP connection to ``remote`` breaks. Returns what ends the watch."""
        return self._loop.watch(remote, callback)

    @property
    def tls_port(self) -> int:
        """Where TLS is listened for, 0 for nowhere."""
        return self._sockets.tls_port

    def respond(
        self,
        arrived: RequestArrived,
        status: int,
        reason: str,
        headers: HeaderPairs,
        body: bytes,
        content_type: str,
    ) -> None:
        """Answer a request."""
        if self._loop.agent is not None:
            self._loop.agent.respond(
                arrived, status, reason, tuple(headers), body, content_type, self._loop.now
            )
            self._loop.drain()

    @property
    def trace(self) -> Trace | None:
        """Called with "in" or "out", the remote and the bytes of each message."""
        return self._loop.trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._loop.trace = trace

    @property
    def pending(self) -> int:
        """Live transactions, calls and handlers."""
        return (self._loop.agent.pending if self._loop.agent is not None else 0) + len(self._handlers)

    # Events.

    def _handle(self, event: AgentEvent) -> None:
        match event:
            case RequestArrived():
                self._request_arrived(event)
            case ResponseArrived() | RequestFailed():
                raise LocalViolation("an answer belongs to who asked")
            case (
                InviteArrived()
                | CallAnswered()
                | CallRefused()
                | CallFailed()
                | CallConfirmed()
                | InviteCancelled()
                | CallEnded()
            ):
                self._calls.handle(event)
            case _:
                self._subscriptions.handle(event)

    def _request_arrived(self, arrived: RequestArrived) -> None:
        subscription = self._subscriptions.ours(arrived.subscription)
        incoming = IncomingRequest(self, arrived, self._calls.call(arrived.call), subscription)
        if arrived.source.is_reliable:
            self._loop.remember_tcp(arrived.request, arrived.source)
        self._handlers.request(incoming)
