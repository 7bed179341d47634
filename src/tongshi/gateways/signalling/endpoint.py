"""One SIP address on UDP and TCP: sockets, timers and awaitable calls around the sans-IO user agent.

Implements: GB/T 28181-2022 4.3.2
The agent decides; this module moves its bytes, wakes it in time and turns its events into futures and tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tongshi.clock import Clock, SystemClock
from tongshi.protocols.sip.message import Remote, Request, Response

__all__ = ["IncomingCall", "IncomingInvite", "IncomingRequest", "OutgoingCall", "Remote", "SipEndpoint"]

HeaderPairs = Iterable[tuple[str, str]]
Trace = Callable[[str, Remote, bytes], None]


class Call:
    """An established call, seen from either side.

    Attributes:
        call_id: the Call-ID.
        remote: where our requests inside the call go.
        ended: set once the call is over, whoever ended it.
        on_bye: called once when the call ends without our ``bye``: the peer's BYE, or the peer lost the call.
            Setting it after that happened calls it at once.
    """

    call_id: str
    remote: Remote
    ended: asyncio.Event
    on_bye: Callable[[], None] | None

    async def bye(self, timeout_s: float = 4.0) -> None:
        """Hang up. Idempotent; waits at most ``timeout_s`` for the answer and never raises on a silent peer."""
        raise NotImplementedError

    async def info(self, body: bytes, content_type: str, timeout_s: float = 32.0) -> Response:
        """Send INFO inside the call. Raises PeerTimeout, Unavailable (also when the call is over)."""
        raise NotImplementedError


class OutgoingCall(Call):
    """A call we made. ``answer`` is the SDP of the 200, ``response`` the 200 itself."""

    answer: bytes
    response: Response


class IncomingCall(Call):
    """A call we accepted. ``offer`` is the SDP of the INVITE, ``request`` the INVITE itself."""

    offer: bytes
    request: Request


class IncomingRequest:
    """A request that waits for exactly one answer; a handler that forgets answers 500.

    Attributes:
        request: the request.
        remote: true source of the request; answers go there.
        call: the call it belongs to (INFO), None outside calls.
    """

    request: Request
    remote: Remote
    call: Call | None

    def respond(
        self,
        status: int,
        reason: str = "",
        headers: HeaderPairs = (),
        body: bytes = b"",
        content_type: str = "",
    ) -> None:
        """Answer. Raises LocalViolation on a second answer."""
        raise NotImplementedError


class IncomingInvite:
    """An INVITE that waits for ``accept`` or ``reject``.

    Attributes:
        request: the INVITE. remote: its true source. offer: its SDP.
        cancelled: set when the caller cancelled (487 is already sent) or the call failed before the ACK.
        on_cancel: called once at that moment.
    """

    request: Request
    remote: Remote
    offer: bytes
    cancelled: asyncio.Event
    on_cancel: Callable[[], None] | None

    def trying(self) -> None:
        """Send 100 now instead of after 200 ms."""
        raise NotImplementedError

    async def accept(self, sdp: bytes, headers: HeaderPairs = ()) -> IncomingCall:
        """Answer 200 and wait for the ACK.

        Raises:
            PeerTimeout: no ACK within Timer H; BYE was sent.
            Unavailable: cancelled before, or transport lost.
        """
        raise NotImplementedError

    def reject(self, status: int, reason: str = "", headers: HeaderPairs = ()) -> None:
        """Answer with a failure. Does nothing when already cancelled."""
        raise NotImplementedError


class SipEndpoint:
    """Sends and answers SIP on one UDP and TCP port.

    Args:
        local_id: our 20-digit code, user part of From and Contact.
        host: address to bind. port: port of both transports; 0 chooses one free for both.
        clock: time source.
        advertised_host: host in Via and Contact; ``host`` when None.
        user_agent: User-Agent header, "" for none.
        headers: added to every message we send.
        on_request: handler of requests outside calls, and of INFO; runs in its own task.
        on_invite: handler of new calls; runs in its own task.
        max_pending: bound of unanswered transactions each way; 503 beyond.
        max_connections: bound of TCP connections.
        idle_timeout_s: a TCP connection silent that long is closed.
        trace: called with "in" or "out", the remote and the bytes.
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
    ) -> None:
        self.port = port
        self._clock = clock or SystemClock()

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port is taken."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End every transaction, handler and connection; leaves no task and no socket."""
        raise NotImplementedError

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

        REGISTER names ourselves in From and To and ``sip:<to_id>@<domain>`` in the Request-URI; every other method
        names ``to_id`` in To and ``sip:<to_id>@<ip:port>`` in the Request-URI.

        Raises:
            PeerTimeout: silence for ``timeout_s`` (Timer F).
            Unavailable: transport error, too much pending, or the endpoint stopped.
        """
        raise NotImplementedError

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
            PeerTimeout: code 50401, no final answer; CANCEL is sent once allowed, a late 200 gets ACK and BYE.
            Unavailable: transport error, too much pending, or the endpoint stopped.
        """
        raise NotImplementedError
