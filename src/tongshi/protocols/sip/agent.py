"""The user agent: parser, transactions and calls joined behind five verbs, without I/O.

Implements: GB/T 28181-2022 4.3.2
Implements: GB/T 28181-2022 9.2.3
It answers by itself what needs no decision: unknown dialogs (481), re-INVITE (200 or 488, see ``calls``), and
what ``own_answers`` says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.agent_events import AgentEvent, RequestArrived, RequestFailed, ResponseArrived
from tongshi.protocols.sip.building import MIRRORED, reply
from tongshi.protocols.sip.calls import Calls
from tongshi.protocols.sip.composing import Composer, Draft, Identity
from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import (
    Remote,
    Request,
    Response,
    looks_like_sip,
    parse,
)
from tongshi.protocols.sip.own_answers import own_answer, salvage, status_of_malformed
from tongshi.protocols.sip.subscription_events import NotifyArrived
from tongshi.protocols.sip.subscriptions import Subscriptions
from tongshi.protocols.sip.timers import TimerValues
from tongshi.protocols.sip.transaction import Transactions
from tongshi.protocols.sip.transaction_events import (
    AckReceived,
    Key,
    Output,
    RequestReceived,
    ResponseReceived,
    Terminated,
    TransactionFailed,
)

_NEEDS_DIALOG = frozenset(("BYE", "INFO"))
# What is answered without a transaction: status and headers, 0 for silence; None lets the request in.
Screen = Callable[[Request, Remote], "tuple[int, Pairs] | None"]


@dataclass(slots=True)
class Counts:
    """What was refused without a word to anybody else."""

    noise: int = 0
    malformed: int = 0


class UserAgent:
    """A SIP user agent, both sides.

    Args:
        identity: how we appear.
        random_bytes: source of tags, branches and Call-IDs.
        values: T1, T2, T4.
        max_pending: bound of transactions each way and of calls.

    Attributes:
        screen: sees every request before it becomes a transaction.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        random_bytes: Callable[[int], bytes],
        values: TimerValues | None = None,
        max_pending: int = 10_000,
    ) -> None:
        self.identity = identity
        self.counts = Counts()
        self._composer = composer = Composer(identity, random_bytes)
        self._token, self._with_ours = composer.token, composer.with_ours
        self._transactions = Transactions(values, max_pending=max_pending)
        self._calls = Calls(
            self._transactions, composer.finish, composer.token, identity.contact, max_pending
        )
        self._subscriptions = Subscriptions(
            self._transactions, composer.finish, composer.with_ours, composer.token, identity.contact
        )
        self._inside: dict[Key, int] = {}
        self._events: deque[AgentEvent] = deque()
        self.screen: Screen | None = None

    # The five verbs.

    def receive(self, data: bytes, source: Remote, now: float) -> None:
        """Take one datagram or one frame of a stream; anything may be in it."""
        if not looks_like_sip(data):
            self.counts.noise += bool(data.strip(b"\r\n\0"))
            return
        try:
            message = parse(data)
        except RemoteViolation:
            self.counts.malformed += 1
            self._answer_malformed(salvage(data), source, status_of_malformed(data))
            return
        try:
            message.check()
            if isinstance(message, Request):
                if message.cseq.method != message.method:
                    raise RemoteViolation("CSeq names another method")
                if self._is_screened(message, source):
                    return
            self._transactions.receive(message, source, now)
        except RemoteViolation:
            self.counts.malformed += 1
            self._answer_malformed(message if isinstance(message, Request) else None, source)
            return
        self._drain(now)

    def take_output(self) -> list[Output]:
        """What has to be sent now."""
        return self._transactions.take_output()

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called."""
        parts = (self._transactions, self._calls, self._subscriptions)
        return min((at for part in parts if (at := part.next_timer()) is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Run every timer that is due."""
        self._transactions.handle_timer(now)
        self._calls.handle_timer(now)
        self._subscriptions.handle_timer(now)
        self._drain(now)

    def next_event(self) -> AgentEvent | None:
        """The next event, None when there is none."""
        if self._events:
            return self._events.popleft()
        event = self._subscriptions.next_event()
        if isinstance(event, NotifyArrived):
            return RequestArrived(event.key, event.request, event.source, None, event.subscription)
        return event if event is not None else self._calls.next_event()

    # Requests outside calls.

    def request(self, draft: Draft, remote: Remote, now: float, timeout_s: float | None = None) -> Key:
        """Send a request outside calls; ends in ResponseArrived or RequestFailed.

        Raises:
            LimitExceeded: too much pending. InvalidRequest: an id that no URI can carry.
        """
        return self._transactions.request(self._composer.compose(draft, remote), remote, now, timeout_s)

    def forget(self, key: Key) -> None:
        """Nobody waits for this answer any more."""
        self._inside.pop(key, None)
        self._subscriptions.forget(key)
        self._transactions.abandon(key)

    def respond(
        self,
        arrived: RequestArrived,
        status: int,
        reason: str,
        headers: Pairs,
        body: bytes,
        content_type: str,
        now: float,
    ) -> None:
        """Answer a request."""
        response = reply(
            arrived.request,
            arrived.source,
            status,
            reason,
            to_tag=self._token() if status > 100 else "",
            headers=self._with_ours(headers),
            body=body,
            content_type=content_type,
        )
        self._transactions.respond(arrived.key, response, now)

    def fail(self, remote: Remote, now: float) -> None:
        """The connection to ``remote`` broke."""
        self._transactions.fail(remote)
        self._drain(now)

    # Calls.

    def invite(self, draft: Draft, remote: Remote, now: float) -> int:
        """Call with a draft of INVITE; ends in CallAnswered, CallRefused, CallFailed. Raises like request."""
        return self._calls.invite(self._composer.compose(draft, remote), remote, now)

    def acknowledge(self, call: int, sdp: bytes) -> None:
        """Send the ACK of a call whose offer came with its answer. Raises Unavailable when it is over."""
        self._calls.acknowledge(call, sdp)

    def give_up(self, call: int, now: float) -> None:
        """Stop waiting for the answer of our call."""
        self._calls.give_up(call, now)

    def progress(self, call: int, status: int, now: float) -> None:
        """Send a provisional response to a call."""
        self._calls.progress(call, status, now)

    def accept(self, call: int, sdp: bytes, headers: Pairs, now: float) -> None:
        """Answer a call; ends in CallConfirmed or CallFailed. Raises Unavailable when it is gone."""
        self._calls.accept(call, sdp, self._with_ours(headers), now)

    def reject(self, call: int, status: int, reason: str, headers: Pairs, now: float) -> bool:
        """Refuse a call. False when it is gone."""
        return self._calls.reject(call, status, reason, self._with_ours(headers), now)

    def request_inside(
        self, call: int, method: str, body: bytes, content_type: str, timeout_s: float, now: float
    ) -> Key:
        """Send a request inside a call. Raises Unavailable when the call is over, LimitExceeded."""
        key = self._calls.request(
            call, method, now, body=body, content_type=content_type, timeout_s=timeout_s
        )
        self._inside[key] = call
        return key

    def hang_up(self, call: int, now: float, headers: Pairs = ()) -> Key | None:
        """Send BYE; None when there is nothing to end."""
        return self._calls.hang_up(call, now, headers)

    def dialog(self, call: int) -> Dialog:
        """The dialog of an answered call, to be read only."""
        return self._calls.dialog(call)

    # Subscriptions.

    def subscribe(self, draft: Draft, remote: Remote, expires_s: int, now: float) -> int:
        """Subscribe with a draft of SUBSCRIBE; ends in SubscriptionAnswered or SubscriptionFailed."""
        with_expires = replace(draft, headers=(*draft.headers, ("Expires", str(expires_s))))
        return self._subscriptions.subscribe(
            self._composer.compose(with_expires, remote), remote, expires_s, now
        )

    @property
    def subscriptions(self) -> Subscriptions:
        """What is done with subscriptions once they are there."""
        return self._subscriptions

    @property
    def pending(self) -> int:
        """Live transactions and calls; subscriptions live on without work."""
        return self._transactions.pending + len(self._calls)

    # What arrives.

    def _drain(self, now: float) -> None:
        """Turn the transactions' events into calls' and ours until none is left."""
        while (event := self._transactions.next_event()) is not None:
            match event:
                case RequestReceived(key, request, source):
                    self._arrived(key, request, source, now)
                case AckReceived(request):
                    self._calls.handle_ack(request)
                case ResponseReceived(key, response, source):
                    if not self._calls.handle_response(
                        key, response, source, now
                    ) and not self._subscriptions.handle_response(key, response, source, now):
                        self._answered(key, response)
                case TransactionFailed(key, is_timeout):
                    if not self._calls.handle_failure(
                        key, now, is_timeout=is_timeout
                    ) and not self._subscriptions.handle_failure(key, is_timeout=is_timeout):
                        self._unanswered(key, is_timeout)
                case Terminated(key):
                    self._calls.handle_terminated(key)

    def _arrived(self, key: Key, request: Request, source: Remote, now: float) -> None:
        status, headers = own_answer(request)
        if status:
            self._reply(key, request, source, status, headers, now)
        elif request.method == "CANCEL":
            self._calls.handle_cancel(key, request, source, now)
        elif request.method == "SUBSCRIBE":
            self._subscriptions.handle_subscribe(key, request, source, now)
        elif request.method == "NOTIFY":
            self._subscriptions.handle_notify(key, request, source, now)
        elif request.method == "INVITE" and not request.to.tag:
            self._calls.offer(key, request, source, now)
        elif request.method == "INVITE" or request.method in _NEEDS_DIALOG:
            self._arrived_inside(key, request, source, now)
        else:
            self._events.append(RequestArrived(key, request, source, None))

    def _arrived_inside(self, key: Key, request: Request, source: Remote, now: float) -> None:
        call = self._calls.find(request)
        if call is None:
            self._reply(key, request, source, 481, (), now)
        elif not self._calls.is_in_order(call, request):
            self._reply(key, request, source, 500, (("Retry-After", "1"),), now)
        elif request.method == "INVITE":
            self._calls.refresh(call, key, request, source, now)
        elif request.method == "BYE":
            self._reply(key, request, source, 200, (), now)
            self._calls.end(call)
        else:
            self._events.append(RequestArrived(key, request, source, call))

    def _is_screened(self, request: Request, source: Remote) -> bool:
        """Refused before it costs a transaction: the answer, if there is one, leaves without state."""
        verdict = None if self.screen is None else self.screen(request, source)
        if verdict is None:
            return False
        status, headers = verdict
        if status:
            answer = reply(
                request,
                source,
                status,
                to_tag=self._token(),
                headers=self._with_ours(headers),
            )
            self._transactions.reply_stateless(answer, source)
        return True

    def _answered(self, key: Key, response: Response) -> None:
        call = self._inside.pop(key, None)
        self._events.append(ResponseArrived(key, response))
        if call is not None and response.status in (408, 481):
            self._calls.end(call)

    def _unanswered(self, key: Key, is_timeout: bool) -> None:
        call = self._inside.pop(key, None)
        self._events.append(RequestFailed(key, is_timeout))
        if call is not None and is_timeout:
            self._calls.end(call)

    def _reply(
        self, key: Key, request: Request, source: Remote, status: int, headers: Pairs, now: float
    ) -> None:
        response = reply(request, source, status, to_tag=self._token(), headers=self._with_ours(headers))
        self._transactions.respond(key, response, now)

    def _answer_malformed(self, request: Request | None, source: Remote, status: int = 400) -> None:
        """Refuse when the sender gave enough to match it by; an ACK is never answered."""
        if request is None or request.method == "ACK":
            return
        if all(request.headers.get(name) for name in ("Via", *MIRRORED)):
            self._transactions.reply_stateless(reply(request, source, status, to_tag=self._token()), source)
