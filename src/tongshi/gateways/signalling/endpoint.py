"""One SIP address on UDP and TCP: sockets, timers and awaitable calls around the sans-IO user agent.

Implements: GB/T 28181-2022 4.3.2
The agent decides; this module moves its bytes, wakes it in time and turns its events into futures and tasks.
A MESSAGE too large for one unfragmented datagram takes the TCP connection that its receiver holds open to
us, if there is one (Annex M); a receiver known by UDP only gets the datagram anyway.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from tongshi.clock import Clock, SystemClock
from tongshi.errors import LimitExceeded, PeerFailed, PeerTimeout, RemoteViolation, TongshiError, Unavailable
from tongshi.gateways.signalling.calls import (
    Call,
    HeaderPairs,
    IncomingCall,
    IncomingInvite,
    IncomingRequest,
    OutgoingCall,
)
from tongshi.gateways.signalling.transport import SipSockets
from tongshi.protocols.sip.agent import (
    AgentEvent,
    Draft,
    Identity,
    RequestArrived,
    RequestFailed,
    ResponseArrived,
    UserAgent,
)
from tongshi.protocols.sip.calls import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallFailed,
    CallRefused,
    InviteArrived,
    InviteCancelled,
)
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.timers import TimerValues
from tongshi.protocols.sip.transaction import Key, Output

__all__ = [
    "Call",
    "IncomingCall",
    "IncomingInvite",
    "IncomingRequest",
    "OutgoingCall",
    "Remote",
    "SipEndpoint",
]

log = structlog.get_logger(__name__)

Trace = Callable[[str, Remote, bytes], None]

MAX_UDP_REQUEST_BYTES = 1_300
# What our own headers take beside the body; only decides between UDP and an open TCP connection.
_HEAD_BYTES = 600
_MAX_UDP_BODY_BYTES = 64_000


class SipEndpoint:
    """Sends and answers SIP on one UDP and TCP port.

    Args:
        local_id: our 20-digit code, user part of From and Contact.
        host: address to bind. port: port of both transports; 0 chooses one free for both.
        on_request: handler of requests outside calls, and of INFO; runs in its own task.
        on_invite: handler of new calls; runs in its own task.
        clock: time source.
        advertised_host: host in Via and Contact; ``host`` when None.
        user_agent: User-Agent header, "" for none.
        headers: added to every message we send.
        max_pending: bound of unanswered transactions each way, of calls and of handlers; 503 beyond.
        max_connections: bound of TCP connections.
        idle_timeout_s: a TCP connection silent that long is closed.
        trace: called with "in" or "out", the remote and the bytes.
        timers: T1, T2, T4.
    """

    def __init__(
        self,
        *,
        local_id: str,
        host: str,
        port: int,
        on_request: Callable[[IncomingRequest], Awaitable[None]],
        on_invite: Callable[[IncomingInvite], Awaitable[None]],
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
    ) -> None:
        self.port = port
        self.trace = trace
        self._identity = Identity(local_id, advertised_host or host, port, user_agent, headers)
        self._clock = clock or SystemClock()
        self._on_request = on_request
        self._on_invite = on_invite
        self._max_pending = max_pending
        self._values = timers or TimerValues()
        self._sockets = SipSockets(
            host,
            port,
            on_message=self._receive,
            on_lost=self._lost,
            allow_udp=allow_udp,
            allow_tcp=allow_tcp,
            max_connections=max_connections,
            idle_timeout_s=idle_timeout_s,
        )
        self._agent: UserAgent | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[Key, asyncio.Future[Response]] = {}
        self._answers: dict[int, asyncio.Future[OutgoingCall]] = {}
        self._confirmations: dict[int, asyncio.Future[None]] = {}
        self._invites: dict[int, IncomingInvite] = {}
        self._calls: dict[int, Call] = {}
        self._watchers: dict[Remote, list[Callable[[], None]]] = {}
        self._known_by_tcp: OrderedDict[str, Remote] = OrderedDict()

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port is taken."""
        self.port = await self._sockets.open()
        identity = self._identity
        identity = Identity(
            identity.local_id, identity.host, self.port, identity.user_agent, identity.headers
        )
        self._agent = UserAgent(
            identity, random_bytes=secrets.token_bytes, values=self._values, max_pending=self._max_pending
        )

    async def stop(self, *, silently: bool = False) -> None:
        """Hang up, end every transaction, handler and connection; leaves no task and no socket.

        silently: without a word to anybody, as when the power fails.
        """
        agent, self._agent = self._agent, None
        if agent is None:
            return
        now = self._clock.now()
        for number in list(self._invites):
            agent.reject(number, 503, "", (), now)
        for number, call in list(self._calls.items()):
            agent.hang_up(number, now)
            call.end_by_peer()
        farewells = agent.take_output()
        for output in () if silently else farewells:
            self._send(output)
        if self._wake is not None:
            self._wake.cancel()
        futures: list[asyncio.Future[Any]] = [*self._waiting.values(), *self._answers.values()]
        for future in (*futures, *self._confirmations.values()):
            _reject(future, Unavailable("信令服务已停止"))
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sockets.close()

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
    ) -> Response:
        """Send a request outside calls and return its final response, whatever the status.

        REGISTER names ourselves in From and To and ``sip:<to_id>@<domain>`` in the Request-URI; every other
        method names ``to_id`` in To and ``sip:<to_id>@<ip:port>`` in the Request-URI.

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
        agent, remote = self._running(), self._route(method, to_id, remote, len(body))
        try:
            key = agent.request(draft, remote, self._clock.now(), timeout_s)
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        return await self._response(key)

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
    ) -> OutgoingCall:
        """Call and wait for the answer; the ACK is sent here.

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
        agent = self._running()
        try:
            number = agent.invite(draft, remote, self._clock.now())
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        answer: asyncio.Future[OutgoingCall] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._drain()
        try:
            async with asyncio.timeout(answer_timeout_s):
                return await answer
        except TimeoutError as error:
            if answer.done() and not answer.cancelled():
                return answer.result()
            raise PeerTimeout("对端未应答呼叫", code=50401) from error
        except asyncio.CancelledError:
            self._abandon(number)
            raise
        finally:
            self._answers.pop(number, None)
            if answer.cancelled():
                self._abandon(number)

    def watch(self, remote: Remote, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back each time the TCP connection to ``remote`` breaks. Returns what ends the watch."""
        callbacks = self._watchers.setdefault(remote, [])
        callbacks.append(callback)

        def stop() -> None:
            callbacks.remove(callback)
            if not callbacks and self._watchers.get(remote) is callbacks:
                del self._watchers[remote]

        return stop

    # What calls ask of us (calls.Driver).

    async def hang_up(self, number: int, timeout_s: float) -> None:
        """Send BYE and wait for its answer, not longer than ``timeout_s``."""
        self._calls.pop(number, None)
        if self._agent is None:
            return
        key = self._agent.hang_up(number, self._clock.now())
        if key is None:
            self._drain()
            return
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self._drain()
        # The BYE goes on being repeated after this; only the waiting ends here.
        await asyncio.wait([answer], timeout=timeout_s)
        self._waiting.pop(key, None)
        if answer.done():
            answer.exception()

    async def request_inside(
        self, number: int, method: str, body: bytes, content_type: str, timeout_s: float
    ) -> Response:
        """Send a request inside a call. Raises PeerTimeout, Unavailable."""
        agent = self._running()
        try:
            key = agent.request_inside(number, method, body, content_type, timeout_s, self._clock.now())
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        return await self._response(key)

    async def accept_call(self, number: int, sdp: bytes, headers: HeaderPairs) -> IncomingCall:
        """Answer 200 and wait for the ACK. Raises PeerTimeout, Unavailable."""
        agent, invite = self._running(), self._invites.get(number)
        agent.accept(number, sdp, tuple(headers), self._clock.now())
        if invite is None:
            raise Unavailable("呼叫已取消")
        call = IncomingCall(self, number, agent.dialog(number), invite.request)
        confirmation = self._confirmations[number] = asyncio.get_running_loop().create_future()
        self._calls[number] = call
        self._drain()
        try:
            await confirmation
        except BaseException:
            # Cancelled, or never acknowledged: the caller must not stream into nothing.
            self._calls.pop(number, None)
            if self._agent is not None:
                self._agent.hang_up(number, self._clock.now())
                self._drain()
            raise
        finally:
            self._confirmations.pop(number, None)
        return call

    def reject_call(self, number: int, status: int, reason: str, headers: HeaderPairs) -> None:
        """Refuse a call."""
        self._invites.pop(number, None)
        if self._agent is not None:
            self._agent.reject(number, status, reason, tuple(headers), self._clock.now())
            self._drain()

    def ring(self, number: int, status: int) -> None:
        """Send a provisional response."""
        if self._agent is not None:
            self._agent.progress(number, status, self._clock.now())
            self._drain()

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
        if self._agent is not None:
            self._agent.respond(
                arrived, status, reason, tuple(headers), body, content_type, self._clock.now()
            )
            self._drain()

    @property
    def pending(self) -> int:
        """Live transactions, calls and handlers."""
        return (self._agent.pending if self._agent is not None else 0) + len(self._tasks)

    # Sockets in and out.

    def _receive(self, data: bytes, source: Remote) -> None:
        if self._agent is None:
            return
        if self.trace is not None:
            self.trace("in", source, data)
        self._agent.receive(data, source, self._clock.now())
        self._drain()

    def _lost(self, remote: Remote) -> None:
        if self._agent is not None:
            self._agent.fail(remote, self._clock.now())
            self._drain()
            for callback in tuple(self._watchers.get(remote, ())):
                callback()

    def _tick(self) -> None:
        self._wake = None
        if self._agent is not None:
            self._agent.handle_timer(self._clock.now())
            self._drain()

    def _drain(self) -> None:
        """Send what the agent wants sent, hand on what it has seen, and set the alarm."""
        agent = self._agent
        if agent is None:
            return
        for output in agent.take_output():
            self._send(output)
        while (event := agent.next_event()) is not None:
            self._handle(event)
        # Handlers above may have answered at once.
        for output in agent.take_output():
            self._send(output)
        at = agent.next_timer()
        if at is not None and (self._wake is None or at < self._wake_at):
            if self._wake is not None:
                self._wake.cancel()
            self._wake_at = at
            delay_s = max(0.0, at - self._clock.now())
            self._wake = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _send(self, output: Output) -> None:
        if self.trace is not None:
            self.trace("out", output.remote, output.data)
        self._sockets.send(output)

    def _route(self, method: str, to_id: str, remote: Remote, body_bytes: int) -> Remote:
        """Which transport a request takes. Raises Unavailable when no datagram could hold it."""
        if remote.transport != "udp" or body_bytes + _HEAD_BYTES <= MAX_UDP_REQUEST_BYTES:
            return remote
        known = self._known_by_tcp.get(to_id)
        if (
            method == "MESSAGE"
            and known is not None
            and known.host == remote.host
            and self._sockets.has_connection(known)
        ):
            return known
        if body_bytes > _MAX_UDP_BODY_BYTES:
            raise Unavailable("消息超过 UDP 报文上限，且对端没有 TCP 连接")
        return remote

    # Events.

    def _handle(self, event: AgentEvent) -> None:
        match event:
            case RequestArrived():
                self._request_arrived(event)
            case ResponseArrived(key, response):
                _resolve(self._waiting.pop(key, None), response)
            case RequestFailed(key, is_timeout):
                _fail(self._waiting.pop(key, None), is_timeout)
            case InviteArrived(number, request, source):
                self._invite_arrived(number, request, source)
            case CallAnswered(number, response):
                self._call_answered(number, response)
            case CallRefused(number, response):
                details: dict[str, object] = {"sipStatus": response.status, "reason": response.reason}
                refusal = PeerFailed(f"对端拒绝呼叫（{response.status}）", details=details)
                _reject(self._answers.pop(number, None), refusal)
            case CallFailed(number, is_timeout):
                self._call_failed(number, is_timeout)
            case CallConfirmed(number):
                self._invites.pop(number, None)
                confirmation = self._confirmations.get(number)
                if confirmation is not None and not confirmation.done():
                    confirmation.set_result(None)
            case InviteCancelled(number):
                if (invite := self._invites.pop(number, None)) is not None:
                    invite.cancel_by_peer()
            case CallEnded(number):
                if (call := self._calls.pop(number, None)) is not None:
                    call.end_by_peer()

    def _request_arrived(self, arrived: RequestArrived) -> None:
        incoming = IncomingRequest(self, arrived, self._calls.get(arrived.call or 0))
        if arrived.source.transport == "tcp":
            self._remember_tcp(arrived.request, arrived.source)
        if len(self._tasks) >= self._max_pending:
            incoming.respond(503, headers=(("Retry-After", "5"),))
            return
        self._spawn(self._serve_request(incoming))

    def _invite_arrived(self, number: int, request: Request, source: Remote) -> None:
        invite = self._invites[number] = IncomingInvite(self, number, request, source)
        if len(self._tasks) >= self._max_pending:
            invite.reject(503, headers=(("Retry-After", "5"),))
            return
        self._spawn(self._serve_invite(number, invite))

    def _call_answered(self, number: int, response: Response) -> None:
        answer = self._answers.pop(number, None)
        if answer is None or answer.done():
            self._abandon(number)
            return
        call = OutgoingCall(self, number, self._running().dialog(number), response)
        self._calls[number] = call
        answer.set_result(call)

    def _call_failed(self, number: int, is_timeout: bool) -> None:
        _fail(self._answers.pop(number, None), is_timeout)
        _fail(self._confirmations.get(number), is_timeout)
        if (invite := self._invites.pop(number, None)) is not None:
            invite.cancel_by_peer()
        if (call := self._calls.pop(number, None)) is not None:
            call.end_by_peer()

    def _abandon(self, number: int) -> None:
        """Our caller is gone: end the call whatever became of it."""
        if self._agent is not None:
            self._agent.give_up(number, self._clock.now())
            if self._calls.pop(number, None) is not None:
                self._agent.hang_up(number, self._clock.now())
            self._drain()

    def _remember_tcp(self, request: Request, source: Remote) -> None:
        try:
            user = request.from_.uri.user
        except RemoteViolation:
            return
        self._known_by_tcp[user] = source
        self._known_by_tcp.move_to_end(user)
        if len(self._known_by_tcp) > self._max_pending:
            self._known_by_tcp.popitem(last=False)

    # Tasks and futures.

    async def _serve_request(self, incoming: IncomingRequest) -> None:
        try:
            await self._on_request(incoming)
        except Exception:
            log.exception("sip_request_handler_failed", method=incoming.request.method)
        finally:
            if not incoming.is_answered:
                incoming.respond(500)

    async def _serve_invite(self, number: int, invite: IncomingInvite) -> None:
        try:
            await self._on_invite(invite)
        except (PeerTimeout, Unavailable) as error:
            log.info("sip_call_not_established", reason=error.message)
        except Exception:
            log.exception("sip_invite_handler_failed")
            self.reject_call(number, 500, "", ())
        finally:
            if not invite.is_answered:
                invite.reject(500)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _response(self, key: Key) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self._drain()
        try:
            return await answer
        finally:
            if self._waiting.pop(key, None) is not None and self._agent is not None:
                self._agent.forget(key)

    def _running(self) -> UserAgent:
        if self._agent is None:
            raise Unavailable("信令服务未启动")
        return self._agent


def _resolve(future: asyncio.Future[Response] | None, response: Response) -> None:
    if future is not None and not future.done():
        future.set_result(response)


def _fail(future: asyncio.Future[Any] | None, is_timeout: bool) -> None:
    if is_timeout:
        _reject(future, PeerTimeout("对端无应答", code=50401))
    else:
        _reject(future, Unavailable("信令连接中断"))


def _reject(future: asyncio.Future[Any] | None, error: TongshiError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
