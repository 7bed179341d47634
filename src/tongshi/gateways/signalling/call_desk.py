"""Calls as futures and objects: what the agent's events about calls mean to those who wait.

Implements: GB/T 28181-2022 9.2.3
Fulfils ``calls.Driver`` for the calls and invites it makes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from tongshi.errors import LimitExceeded, PeerFailed, PeerTimeout, TongshiError, Unavailable
from tongshi.gateways.signalling.agent_loop import AgentLoop, fail, reject
from tongshi.gateways.signalling.calls import (
    Call,
    HeaderPairs,
    IncomingCall,
    IncomingInvite,
    OutgoingCall,
)
from tongshi.protocols.gb28181.routing import ROUTE_PATH
from tongshi.protocols.sip.call_events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallEvent,
    CallFailed,
    CallRefused,
    InviteArrived,
    InviteCancelled,
)
from tongshi.protocols.sip.composing import Draft
from tongshi.protocols.sip.message import Remote, Response

log = structlog.get_logger(__name__)


class CallDesk:
    """All calls of one endpoint.

    Args:
        on_invite: called with each new call.
    """

    def __init__(self, loop: AgentLoop, on_invite: Callable[[IncomingInvite], None]) -> None:
        self._loop = loop
        self._on_invite = on_invite
        self._answers: dict[int, asyncio.Future[OutgoingCall]] = {}
        self._on_offer: dict[int, Callable[[bytes], bytes]] = {}
        self._confirmations: dict[int, asyncio.Future[bytes]] = {}
        self._invites: dict[int, IncomingInvite] = {}
        self._calls: dict[int, Call] = {}

    def call(self, number: int | None) -> Call | None:
        """The established call of that number."""
        return None if number is None else self._calls.get(number)

    def farewell(self) -> None:
        """Refuse and hang up everything, as far as the agent still runs."""
        agent, now = self._loop.running(), self._loop.now
        for number in list(self._invites):
            agent.reject(number, 503, "", (), now)
        for number, call in list(self._calls.items()):
            agent.hang_up(number, now)
            call.end_by_peer()

    def close(self) -> None:
        """Whoever still waits is told that we stopped."""
        futures: list[asyncio.Future[Any]] = [*self._answers.values(), *self._confirmations.values()]
        for future in futures:
            reject(future, Unavailable("信令服务已停止"))

    async def invite(
        self,
        draft: Draft,
        remote: Remote,
        answer_timeout_s: float,
        on_offer: Callable[[bytes], bytes] | None = None,
    ) -> OutgoingCall:
        """Call and wait for the answer; see ``SipEndpoint.invite``."""
        agent = self._loop.running()
        try:
            number = agent.invite(draft, remote, self._loop.now)
        except LimitExceeded as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        answer: asyncio.Future[OutgoingCall] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        if on_offer is not None:
            self._on_offer[number] = on_offer
        self._loop.drain()
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
            self._on_offer.pop(number, None)
            if answer.cancelled():
                self._abandon(number)

    def handle(self, event: CallEvent) -> None:
        """One event of the agent."""
        match event:
            case InviteArrived(number, request, source):
                invite = self._invites[number] = IncomingInvite(self, number, request, source)
                self._on_invite(invite)
            case CallAnswered(number, response):
                self._call_answered(number, response)
            case CallRefused(number, response):
                details: dict[str, object] = {"sipStatus": response.status, "reason": response.reason}
                if path := response.headers.get(ROUTE_PATH):
                    details["routePath"] = path[:512]
                refusal = PeerFailed(f"对端拒绝呼叫（{response.status}）", details=details)
                reject(self._answers.pop(number, None), refusal)
            case CallFailed(number, is_timeout):
                self._call_failed(number, is_timeout)
            case CallConfirmed(number, body):
                self._invites.pop(number, None)
                confirmation = self._confirmations.get(number)
                if confirmation is not None and not confirmation.done():
                    confirmation.set_result(body)
            case InviteCancelled(number):
                if (waiting := self._invites.pop(number, None)) is not None:
                    waiting.cancel_by_peer()
            case CallEnded(number, why):
                if why:
                    log.info("session_not_refreshed", call=number, reason=why)
                if (call := self._calls.pop(number, None)) is not None:
                    call.end_by_peer()

    # What calls ask of us (calls.Driver).

    async def hang_up(self, number: int, timeout_s: float, headers: HeaderPairs) -> None:
        """Send BYE and wait for its answer, not longer than ``timeout_s``."""
        self._calls.pop(number, None)
        if self._loop.agent is None:
            return
        key = self._loop.agent.hang_up(number, self._loop.now, tuple(headers))
        # The BYE goes on being repeated after this; only the waiting ends here.
        await self._loop.linger(key, timeout_s)

    async def request_inside(
        self, number: int, method: str, body: bytes, content_type: str, timeout_s: float
    ) -> Response:
        """Send a request inside a call. Raises PeerTimeout, Unavailable."""
        return await self._loop.ask(
            lambda agent, now: agent.request_inside(number, method, body, content_type, timeout_s, now)
        )

    async def accept_call(self, number: int, sdp: bytes, headers: HeaderPairs) -> IncomingCall:
        """Answer 200 and wait for the ACK. Raises PeerTimeout, Unavailable."""
        agent, invite = self._loop.running(), self._invites.get(number)
        agent.accept(number, sdp, tuple(headers), self._loop.now)
        if invite is None:
            raise Unavailable("呼叫已取消")
        call = IncomingCall(self, number, agent.dialog(number), invite.request)
        confirmation = self._confirmations[number] = asyncio.get_running_loop().create_future()
        self._calls[number] = call
        self._loop.drain()
        try:
            call.answer = await confirmation
        except BaseException:
            # Cancelled, or never acknowledged: the caller must not stream into nothing.
            self._calls.pop(number, None)
            if self._loop.agent is not None:
                self._loop.agent.hang_up(number, self._loop.now)
                self._loop.drain()
            raise
        finally:
            self._confirmations.pop(number, None)
        return call

    def reject_call(self, number: int, status: int, reason: str, headers: HeaderPairs) -> None:
        """Refuse a call."""
        self._invites.pop(number, None)
        if self._loop.agent is not None:
            self._loop.agent.reject(number, status, reason, tuple(headers), self._loop.now)
            self._loop.drain()

    def ring(self, number: int, status: int) -> None:
        """Send a provisional response."""
        if self._loop.agent is not None:
            self._loop.agent.progress(number, status, self._loop.now)
            self._loop.drain()

    # Private.

    def _call_answered(self, number: int, response: Response) -> None:
        answer = self._answers.pop(number, None)
        if answer is None or answer.done():
            self._abandon(number)
            return
        agent = self._loop.running()
        on_offer = self._on_offer.pop(number, None)
        try:
            agent.acknowledge(number, on_offer(response.body) if on_offer and response.body else b"")
        except TongshiError as error:
            # We cannot answer this offer: the call is acknowledged without a session, and ended.
            agent.hang_up(number, self._loop.now)
            reject(answer, error)
            return
        call = OutgoingCall(self, number, agent.dialog(number), response)
        self._calls[number] = call
        answer.set_result(call)

    def _call_failed(self, number: int, is_timeout: bool) -> None:
        fail(self._answers.pop(number, None), is_timeout)
        fail(self._confirmations.get(number), is_timeout)
        if (invite := self._invites.pop(number, None)) is not None:
            invite.cancel_by_peer()
        if (call := self._calls.pop(number, None)) is not None:
            call.end_by_peer()

    def _abandon(self, number: int) -> None:
        """Our caller is gone: end the call whatever became of it."""
        if self._loop.agent is not None:
            self._loop.agent.give_up(number, self._loop.now)
            if self._calls.pop(number, None) is not None:
                self._loop.agent.hang_up(number, self._loop.now)
            self._loop.drain()
