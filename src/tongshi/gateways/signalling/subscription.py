"""Subscriptions as their users hold them: one we made, and one that somebody asks of us.

Implements: GB/T 28181-2022 9.11
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tongshi.errors import LocalViolation
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.subscription_events import End

NOTIFY_TIMEOUT_S = 16.0


class SubscriptionDriver(Protocol):
    """What subscriptions ask of the endpoint they live in."""

    def renew_subscription(self, number: int, expires_s: int) -> None:
        """Refresh ours."""
        ...

    def cancel_subscription(self, number: int) -> None:
        """End ours."""
        ...

    def forget_subscription(self, number: int) -> None:
        """Drop either kind without a word."""
        ...

    def accept_subscription(self, number: int, expires_s: int) -> None:
        """Answer theirs with 200."""
        ...

    def reject_subscription(self, number: int, status: int) -> None:
        """Refuse theirs."""
        ...

    async def notify(self, number: int, body: bytes, content_type: str, timeout_s: float) -> Response:
        """Send a notification under theirs."""
        ...

    def terminate_subscription(self, number: int, reason: str) -> None:
        """End theirs."""
        ...


class _Either:
    """What both sides share: the end, which comes once.

    Attributes:
        ended: set once the subscription is over. end: why, None before. detail: the peer's word.
        on_end: called once at that moment.
    """

    def __init__(self, driver: SubscriptionDriver, number: int) -> None:
        self.ended = asyncio.Event()
        self.end: End | None = None
        self.detail = ""
        self.on_end: Callable[[End], None] | None = None
        self._driver = driver
        self._number = number

    def forget(self) -> None:
        """Drop it without a word; what the peer still says under it gets 481."""
        if not self.ended.is_set():
            self._driver.forget_subscription(self._number)

    def end_by(self, end: End, detail: str) -> None:
        """For the endpoint: it is over."""
        if self.end is None:
            self.end, self.detail = end, detail
            self.ended.set()
            if self.on_end is not None:
                self.on_end(end)


class Subscription(_Either):
    """A subscription of ours. Its notifications come as requests whose ``subscription`` it is.

    Attributes:
        peer_id: whom we subscribed at.
        expires_s: time granted last.
    """

    def __init__(self, driver: SubscriptionDriver, number: int, peer_id: str) -> None:
        super().__init__(driver, number)
        self.peer_id = peer_id
        self.expires_s = 0

    def renew(self, expires_s: int) -> None:
        """Refresh in the same dialog; a refusal shows as ``ended``. Raises Unavailable when it is over."""
        self._driver.renew_subscription(self._number, expires_s)

    def cancel(self) -> None:
        """End it in the same dialog. Does nothing when it is over."""
        if not self.ended.is_set():
            self._driver.cancel_subscription(self._number)


class IncomingSubscription(_Either):
    """A SUBSCRIBE that waits for ``accept`` or ``reject``; a handler that forgets rejects with 500.

    Attributes:
        request: the SUBSCRIBE. remote: its true source.
        expires_s: the time asked for, None when the request named none.
        on_refresh: called with the new time at each refresh; the 200 is already sent.
    """

    def __init__(
        self, driver: SubscriptionDriver, number: int, request: Request, remote: Remote, expires_s: int | None
    ) -> None:
        super().__init__(driver, number)
        self.request = request
        self.remote = remote
        self.expires_s = expires_s
        self.is_answered = False
        self.on_refresh: Callable[[int], None] | None = None

    @property
    def event(self) -> str:
        """The event package in lower case without parameters, "" when none is named."""
        return self.request.headers.get("Event").partition(";")[0].strip(" \t").lower()

    def accept(self, expires_s: int) -> None:
        """Answer 200. Raises Unavailable when the subscriber is gone, LocalViolation on a second answer."""
        self._answer()
        self._driver.accept_subscription(self._number, expires_s)

    def reject(self, status: int) -> None:
        """Refuse."""
        self._answer()
        self._driver.reject_subscription(self._number, status)

    async def notify(self, body: bytes, content_type: str, timeout_s: float = NOTIFY_TIMEOUT_S) -> Response:
        """Notify and return the answer; one that ends the subscription shows as ``ended`` too.

        Raises:
            PeerTimeout: silence, which ends the subscription. Unavailable: over already, transport lost.
        """
        return await self._driver.notify(self._number, body, content_type, timeout_s)

    def terminate(self, reason: str) -> None:
        """End it with a last NOTIFY. Does nothing when it is over."""
        if not self.ended.is_set():
            self._driver.terminate_subscription(self._number, reason)

    def _answer(self) -> None:
        if self.is_answered:
            raise LocalViolation("subscription answered twice")
        self.is_answered = True
