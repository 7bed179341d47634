"""Established calls as their users hold them, and requests and calls that wait for our answer.

Implements: GB/T 28181-2022 9.2.3
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from tongshi.errors import LocalViolation
from tongshi.gateways.signalling.subscription import Subscription
from tongshi.protocols.sip.agent_events import RequestArrived
from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.message import Remote, Request, Response

HeaderPairs = Iterable[tuple[str, str]]


class Driver(Protocol):
    """What calls ask of the endpoint they live in."""

    async def hang_up(self, number: int, timeout_s: float, headers: HeaderPairs) -> None:
        """Send BYE and wait for its answer."""
        ...

    async def request_inside(
        self, number: int, method: str, body: bytes, content_type: str, timeout_s: float
    ) -> Response:
        """Send a request inside a call."""
        ...

    async def accept_call(self, number: int, sdp: bytes, headers: HeaderPairs) -> IncomingCall:
        """Answer 200 and wait for the ACK."""
        ...

    def reject_call(self, number: int, status: int, reason: str, headers: HeaderPairs) -> None:
        """Refuse."""
        ...

    def ring(self, number: int, status: int) -> None:
        """Send a provisional response."""
        ...


class Responder(Protocol):
    """What a request asks of the endpoint it came through."""

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
        ...


class Call:
    """An established call, seen from either side.

    Attributes:
        call_id: the Call-ID.
        dialog: its two sides, to be read only.
        remote: where our requests inside the call go.
        ended: set once the call is over, whoever ended it.
        on_info: takes the INFO that comes inside the call; without one it is answered 405.
    """

    def __init__(self, driver: Driver, number: int, dialog: Dialog) -> None:
        self.call_id = dialog.call_id
        self.dialog = dialog
        self.remote = dialog.destination
        self.ended = asyncio.Event()
        self.on_info: Callable[[IncomingRequest], Awaitable[None]] | None = None
        self._driver = driver
        self._number = number
        self._on_bye: Callable[[], None] | None = None
        self._has_peer_ended = False

    @property
    def on_bye(self) -> Callable[[], None] | None:
        """Called once when the call ends without our ``bye``: the peer's BYE, or the peer lost the call.

        Setting it after that happened calls it at once.
        """
        return self._on_bye

    @on_bye.setter
    def on_bye(self, callback: Callable[[], None] | None) -> None:
        self._on_bye = callback
        if self._has_peer_ended and callback is not None:
            callback()

    async def bye(self, timeout_s: float = 4.0, headers: HeaderPairs = ()) -> None:
        """Hang up. Idempotent; waits at most ``timeout_s`` and never raises on a silent peer."""
        if self.ended.is_set():
            return
        self.ended.set()
        await self._driver.hang_up(self._number, timeout_s, headers)

    async def info(self, body: bytes, content_type: str, timeout_s: float = 32.0) -> Response:
        """Send INFO inside the call. Raises PeerTimeout, Unavailable (also when the call is over)."""
        return await self._driver.request_inside(self._number, "INFO", body, content_type, timeout_s)

    async def message(self, body: bytes, content_type: str, timeout_s: float = 8.0) -> Response:
        """Send MESSAGE inside the call (9.8.2). Raises PeerTimeout, Unavailable (also when it is over)."""
        return await self._driver.request_inside(self._number, "MESSAGE", body, content_type, timeout_s)

    def end_by_peer(self) -> None:
        """For the endpoint: the peer ended the call or lost it."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._has_peer_ended = True
        if self._on_bye is not None:
            self._on_bye()


class OutgoingCall(Call):
    """A call we made. ``answer`` is the SDP of the 200, ``response`` the 200 itself."""

    def __init__(self, driver: Driver, number: int, dialog: Dialog, response: Response) -> None:
        super().__init__(driver, number, dialog)
        self.response = response
        self.answer = response.body


class IncomingCall(Call):
    """A call we accepted. ``offer`` is the SDP of the INVITE, ``request`` the INVITE itself.

    ``answer`` is the SDP of the ACK, when the INVITE brought none and the offer was ours.
    """

    def __init__(self, driver: Driver, number: int, dialog: Dialog, request: Request) -> None:
        super().__init__(driver, number, dialog)
        self.request = request
        self.offer = request.body
        self.answer = b""


class IncomingRequest:
    """A request that waits for exactly one answer; a handler that forgets answers 500.

    Attributes:
        request: the request.
        remote: true source of the request; answers go there.
        call: the call it belongs to (INFO), None outside calls.
        subscription: our subscription it belongs to (NOTIFY), None for all else.
    """

    def __init__(
        self,
        driver: Responder,
        arrived: RequestArrived,
        call: Call | None,
        subscription: Subscription | None = None,
    ) -> None:
        self.request = arrived.request
        self.remote = arrived.source
        self.call = call
        self.subscription = subscription
        self.is_answered = False
        self._driver = driver
        self._arrived = arrived

    def respond(
        self,
        status: int,
        reason: str = "",
        headers: HeaderPairs = (),
        body: bytes = b"",
        content_type: str = "",
    ) -> None:
        """Answer. Raises LocalViolation on a second answer."""
        if self.is_answered:
            raise LocalViolation("request answered twice")
        self._driver.respond(self._arrived, status, reason, headers, body, content_type)
        self.is_answered = True


class IncomingInvite:
    """An INVITE that waits for ``accept`` or ``reject``; a handler that forgets rejects with 500.

    Attributes:
        request: the INVITE. remote: its true source. offer: its SDP.
        cancelled: set when the caller cancelled (487 is already sent) or the call failed before the ACK.
        on_cancel: called once at that moment.
    """

    def __init__(self, driver: Driver, number: int, request: Request, remote: Remote) -> None:
        self.request = request
        self.remote = remote
        self.offer = request.body
        self.cancelled = asyncio.Event()
        self.on_cancel: Callable[[], None] | None = None
        self.is_answered = False
        self._driver = driver
        self._number = number

    def trying(self) -> None:
        """Send 100 now instead of after 200 ms."""
        self._driver.ring(self._number, 100)

    def ring(self, status: int = 180) -> None:
        """Send another provisional response."""
        self._driver.ring(self._number, status)

    async def accept(self, sdp: bytes, headers: HeaderPairs = ()) -> IncomingCall:
        """Answer 200 and wait for the ACK.

        Raises:
            PeerTimeout: no ACK within Timer H; BYE was sent.
            Unavailable: cancelled before, or transport lost.
            LocalViolation: answered before.
        """
        self._answer()
        return await self._driver.accept_call(self._number, sdp, headers)

    def reject(self, status: int, reason: str = "", headers: HeaderPairs = ()) -> None:
        """Answer with a failure. Does nothing when already cancelled."""
        self._answer()
        self._driver.reject_call(self._number, status, reason, headers)

    def fail(self, status: int) -> None:
        """For the endpoint: the handler broke, whether it had answered or not."""
        self.is_answered = True
        self._driver.reject_call(self._number, status, "", ())

    def cancel_by_peer(self) -> None:
        """For the endpoint: nobody waits for the answer any more."""
        if not self.cancelled.is_set():
            self.cancelled.set()
            if self.on_cancel is not None:
                self.on_cancel()

    def _answer(self) -> None:
        if self.is_answered:
            raise LocalViolation("call answered twice")
        self.is_answered = True
