"""The run loop around the sans-IO user agent: bytes in and out, the alarm clock, which transport is taken.

Implements: GB/T 28181-2022 4.3.2
Implements: GB/T 28181-2022 Annex M
The agent decides; this moves its bytes, wakes it in time and hands its events on. A request too large for one
unfragmented datagram takes the connection that its receiver holds open to us, else one that we open where it
listens for UDP (RFC 3261 18.1.1); a receiver that cannot be reached so gets the datagram anyway, and is not
tried again for a while.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from tongshi.clock import Clock
from tongshi.errors import LimitExceeded, PeerTimeout, RemoteViolation, TongshiError, Unavailable
from tongshi.gateways.signalling.transport import SipSockets
from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.agent_events import AgentEvent, RequestFailed, ResponseArrived
from tongshi.protocols.sip.composing import Identity
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.timers import TimerValues
from tongshi.protocols.sip.transaction_events import Key, Output

Trace = Callable[[str, Remote, bytes], None]

MAX_UDP_REQUEST_BYTES = 1_300
# What our own headers take beside the body; only decides between UDP and an open TCP connection.
_HEAD_BYTES = 600
_MAX_UDP_BODY_BYTES = 64_000
MAX_UNREACHABLE = 1_000
REACH_S = 1.0  # a datagram waits no longer for a better way
UNREACHABLE_S = 600.0  # before a receiver that refused TCP is tried again


class Doorkeeper(Protocol):
    """Who looks at a source and at a request before they cost anything (``admission.door``)."""

    def admits(self, source: Remote) -> bool:
        """May anything of this source be read?"""
        ...

    def screen(self, request: Request, source: Remote) -> tuple[int, Pairs] | None:
        """The answer that needs no state (0: silence), or None: go on."""
        ...

    def admits_connection(self, source: Remote, open_already: int) -> bool:
        """May this address open one more TCP connection?"""
        ...


class AgentLoop:
    """One user agent on one pair of sockets.

    Args:
        identity: how we appear; its port is replaced by the bound one.
        sockets: not yet open; their callbacks are set here.
        on_event: called with each event of the agent that is no answer to ``ask``.
        max_pending: bound of unanswered transactions each way, of calls, and of remembered connections.

    Attributes:
        agent: None before ``open`` and after ``halt``.
        trace: called with "in" or "out", the remote and the bytes.
        on_broken: called when a connection could not be made or broke for a reason worth telling.
        door: set before ``open``; decides what is read at all.
    """

    def __init__(
        self,
        identity: Identity,
        sockets: SipSockets,
        clock: Clock,
        *,
        on_event: Callable[[AgentEvent], None],
        values: TimerValues,
        max_pending: int,
        trace: Trace | None,
    ) -> None:
        self.agent: UserAgent | None = None
        self.trace = trace
        self.on_broken: Callable[[Remote, str], None] = lambda remote, reason: None
        self.door: Doorkeeper | None = None
        self._identity = identity
        self._sockets = sockets
        self._clock = clock
        self._on_event = on_event
        self._values = values
        self._max_pending = max_pending
        self._waiting: dict[Key, asyncio.Future[Response]] = {}
        self._listeners: dict[Key, Callable[[Response], None]] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._broken = ""  # why the connection that is being reported as lost was lost
        self._watchers: dict[Remote, list[Callable[[], None]]] = {}
        self._known_by_tcp: OrderedDict[str, Remote] = OrderedDict()
        self._unreachable: dict[Remote, float] = {}
        sockets.on_message, sockets.on_lost = self._receive, self._lost

    async def open(self) -> int:
        """Bind and listen; returns the port. Raises OSError when it is taken."""
        port = await self._sockets.open()
        given = self._identity
        identity = replace(given, port=port, tls_port=self._sockets.tls_port)
        self.agent = UserAgent(
            identity, random_bytes=secrets.token_bytes, values=self._values, max_pending=self._max_pending
        )
        if self.door is not None:
            self.agent.screen = self.door.screen
            self._sockets.admits = self.door.admits_connection
        return port

    def halt(self, agent: UserAgent, *, silently: bool) -> None:
        """Let the agent go; what it still wants to say is sent unless ``silently``."""
        self.agent = None
        farewells = agent.take_output()
        for output in () if silently else farewells:
            self._send(output)
        if self._wake is not None:
            self._wake.cancel()
        for future in self._waiting.values():
            reject(future, Unavailable("信令服务已停止"))

    def shut_out(self, hosts: Iterable[str]) -> None:
        """See ``SipSockets.shut_out``."""
        self._sockets.shut_out(hosts)

    async def close(self) -> None:
        """Close the sockets."""
        await self._sockets.close()

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.now()

    def running(self) -> UserAgent:
        """The agent. Raises Unavailable when there is none."""
        if self.agent is None:
            raise Unavailable("信令服务未启动")
        return self.agent

    async def ask(
        self, start: Callable[[UserAgent, float], Key], on_answer: Callable[[Response], None] | None = None
    ) -> Response:
        """Start a request and wait for its final response, whatever the status.

        on_answer: told of the answer at once, before anything that came in behind it is read; who waits here
        runs later.

        Raises:
            PeerTimeout: silence. Unavailable: transport error, too much pending, or nothing runs.
        """
        try:
            key = start(self.running(), self.now)
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        if on_answer is not None:
            self._listeners[key] = on_answer
        self.drain()
        try:
            return await answer
        finally:
            self._listeners.pop(key, None)
            if self._waiting.pop(key, None) is not None and self.agent is not None:
                self.agent.forget(key)

    async def linger(self, key: Key | None, timeout_s: float) -> None:
        """Wait for the answer to a request that goes on without us; never raises."""
        if key is None:
            self.drain()
            return
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self.drain()
        await asyncio.wait([answer], timeout=timeout_s)
        self._waiting.pop(key, None)
        if answer.done():
            answer.exception()

    def watch(self, remote: Remote, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back each time the TCP connection to ``remote`` breaks. Returns what ends the watch."""
        callbacks = self._watchers.setdefault(remote, [])
        callbacks.append(callback)

        def stop() -> None:
            callbacks.remove(callback)
            if not callbacks and self._watchers.get(remote) is callbacks:
                del self._watchers[remote]

        return stop

    def drain(self) -> None:
        """Send what the agent wants sent, hand on what it has seen, and set the alarm."""
        agent = self.agent
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

    async def route(self, to_id: str, remote: Remote, body_bytes: int) -> Remote:
        """Which transport a request takes. Raises Unavailable when no datagram could hold it."""
        if remote.transport != "udp" or body_bytes + _HEAD_BYTES <= MAX_UDP_REQUEST_BYTES:
            return remote
        known = self._known_by_tcp.get(to_id)
        if known is not None and known.host == remote.host and self._sockets.has_connection(known):
            return known
        by_tcp = Remote(remote.host, remote.port, "tcp")
        if self._sockets.allows_tcp and await self.reach(by_tcp):
            return by_tcp
        if body_bytes > _MAX_UDP_BODY_BYTES:
            raise Unavailable("消息超过 UDP 报文上限，且对端没有 TCP 连接")
        return remote

    async def reach(self, remote: Remote) -> bool:
        """Whether a TCP connection to ``remote`` is open or could be made now; a refusal is remembered."""
        if self._sockets.has_connection(remote):
            return True
        if self.now < self._unreachable.get(remote, 0.0):
            return False
        if await self._sockets.dial(remote, REACH_S):
            return True
        self._unreachable[remote] = self.now + UNREACHABLE_S
        while len(self._unreachable) > MAX_UNREACHABLE:
            del self._unreachable[next(iter(self._unreachable))]
        return False

    def remember_tcp(self, request: Request, source: Remote) -> None:
        """This sender holds a TCP connection to us."""
        try:
            user = request.from_.uri.user
        except RemoteViolation:
            return
        self._known_by_tcp[user] = source
        self._known_by_tcp.move_to_end(user)
        if len(self._known_by_tcp) > self._max_pending:
            self._known_by_tcp.popitem(last=False)

    def _handle(self, event: AgentEvent) -> None:
        match event:
            case ResponseArrived(key, response):
                if (future := self._waiting.pop(key, None)) is not None and not future.done():
                    if (listener := self._listeners.pop(key, None)) is not None:
                        listener(response)
                    future.set_result(response)
            case RequestFailed(key, is_timeout):
                fail(self._waiting.pop(key, None), is_timeout, self._broken)
            case _:
                self._on_event(event)

    def _receive(self, data: bytes, source: Remote) -> None:
        if self.agent is None or (self.door is not None and not self.door.admits(source)):
            return
        if self.trace is not None:
            self.trace("in", source, data)
        self.agent.receive(data, source, self._clock.now())
        self.drain()

    def _lost(self, remote: Remote, reason: str = "") -> None:
        if self.agent is not None:
            self.agent.fail(remote, self._clock.now())
            self._broken = reason
            self.drain()
            self._broken = ""
            if reason:
                self.on_broken(remote, reason)
            for callback in tuple(self._watchers.get(remote, ())):
                callback()

    def _tick(self) -> None:
        self._wake = None
        if self.agent is not None:
            self.agent.handle_timer(self._clock.now())
            self.drain()

    def _send(self, output: Output) -> None:
        if self.trace is not None:
            self.trace("out", output.remote, output.data)
        self._sockets.send(output)


def fail(future: asyncio.Future[Any] | None, is_timeout: bool, reason: str = "") -> None:
    """Tell who waits that no answer will come."""
    if is_timeout:
        reject(future, PeerTimeout("对端无应答", code=50401))
    else:
        reject(future, Unavailable(f"信令连接中断：{reason}" if reason else "信令连接中断"))


def reject(future: asyncio.Future[Any] | None, error: TongshiError) -> None:
    """Let a future fail unless it is done."""
    if future is not None and not future.done():
        future.set_exception(error)
