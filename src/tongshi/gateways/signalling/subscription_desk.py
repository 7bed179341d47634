"""Subscriptions as futures and objects: what the agent's events mean to those who wait.

Implements: GB/T 28181-2022 9.11
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tongshi.errors import LimitExceeded, PeerFailed, Unavailable
from tongshi.gateways.signalling.agent_loop import AgentLoop, fail, reject
from tongshi.gateways.signalling.subscription import IncomingSubscription, Subscription
from tongshi.protocols.sip.composing import Draft
from tongshi.protocols.sip.message import Remote, Response
from tongshi.protocols.sip.subscription_events import (
    End,
    NotifyArrived,
    SubscribeArrived,
    SubscriptionAnswered,
    SubscriptionEnded,
    SubscriptionEvent,
    SubscriptionFailed,
    SubscriptionRefreshed,
)


class SubscriptionDesk:
    """All subscriptions of one endpoint.

    Args:
        on_subscribe: called with each new SUBSCRIBE of somebody.
    """

    def __init__(self, loop: AgentLoop, on_subscribe: Callable[[IncomingSubscription], None]) -> None:
        self._loop = loop
        self._on_subscribe = on_subscribe
        self._ours: dict[int, Subscription] = {}
        self._theirs: dict[int, IncomingSubscription] = {}
        self._answers: dict[int, asyncio.Future[None]] = {}

    def ours(self, number: int | None) -> Subscription | None:
        """Our subscription of that number."""
        return None if number is None else self._ours.get(number)

    def close(self) -> None:
        """Whoever still waits is told that we stopped; nothing is said to peers."""
        for future in self._answers.values():
            reject(future, Unavailable("信令服务已停止"))
        for one in (*self._ours.values(), *self._theirs.values()):
            one.end_by(End.DROPPED, "")
        self._ours.clear()
        self._theirs.clear()

    async def subscribe(self, draft: Draft, remote: Remote, expires_s: int, peer_id: str) -> Subscription:
        """Subscribe and wait for the answer; see ``SipEndpoint.subscribe``."""
        agent = self._loop.running()
        try:
            number = agent.subscribe(draft, remote, expires_s, self._loop.now)
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        # A notification may come before the answer, so what it belongs to exists from here on.
        made = self._ours[number] = Subscription(self, number, peer_id)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._loop.drain()
        try:
            await answer
        except asyncio.CancelledError:
            self.cancel_subscription(number)
            raise
        finally:
            self._answers.pop(number, None)
        return made

    def handle(self, event: SubscriptionEvent) -> None:
        """One event of the agent."""
        match event:
            case SubscribeArrived(number, request, source, expires_s):
                made = IncomingSubscription(self, number, request, source, expires_s)
                self._theirs[number] = made
                self._on_subscribe(made)
            case SubscriptionAnswered(number, _, expires_s):
                self._answered(number, expires_s)
            case SubscriptionFailed(number, response, is_timeout):
                self._failed(number, response, is_timeout)
            case SubscriptionRefreshed(number, _, expires_s):
                theirs = self._theirs.get(number)
                if theirs is not None and theirs.on_refresh is not None:
                    theirs.on_refresh(expires_s)
            case SubscriptionEnded(number, end, detail):
                self._ended(number, end, detail)
            case NotifyArrived():
                pass  # comes as a request

    # What subscriptions ask of us (subscription.SubscriptionDriver).

    def renew_subscription(self, number: int, expires_s: int) -> None:
        try:
            self._loop.running().subscriptions.renew(number, expires_s, self._loop.now)
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        self._loop.drain()

    def cancel_subscription(self, number: int) -> None:
        if self._loop.agent is not None:
            self._loop.agent.subscriptions.cancel(number, self._loop.now)
            self._loop.drain()

    def forget_subscription(self, number: int) -> None:
        if self._loop.agent is not None:
            self._loop.agent.subscriptions.drop(number)
            self._loop.drain()

    def accept_subscription(self, number: int, expires_s: int) -> None:
        self._loop.running().subscriptions.accept(number, expires_s, self._loop.now)
        self._loop.drain()

    def reject_subscription(self, number: int, status: int) -> None:
        self._theirs.pop(number, None)
        if self._loop.agent is not None:
            self._loop.agent.subscriptions.reject(number, status, (), self._loop.now)
            self._loop.drain()

    async def notify(self, number: int, body: bytes, content_type: str, timeout_s: float) -> Response:
        return await self._loop.ask(
            lambda agent, now: agent.subscriptions.notify(number, body, content_type, now, timeout_s)
        )

    def terminate_subscription(self, number: int, reason: str) -> None:
        if self._loop.agent is not None:
            self._loop.agent.subscriptions.terminate(number, reason, self._loop.now)
            self._loop.drain()

    # Private.

    def _answered(self, number: int, expires_s: int) -> None:
        ours = self._ours.get(number)
        if ours is not None:
            ours.expires_s = expires_s
        answer = self._answers.get(number)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _failed(self, number: int, response: Response | None, is_timeout: bool) -> None:
        self._ours.pop(number, None)
        answer = self._answers.get(number)
        if response is None:
            fail(answer, is_timeout)
            return
        details: dict[str, object] = {"sipStatus": response.status, "reason": response.reason}
        reject(answer, PeerFailed(f"对端拒绝订阅（{response.status}）", details=details))

    def _ended(self, number: int, end: End, detail: str) -> None:
        one = self._ours.pop(number, None) or self._theirs.pop(number, None)
        if one is not None:
            one.end_by(end, detail)
        reject(self._answers.get(number), PeerFailed("对端已结束订阅", details={"reason": detail}))
