"""The transactions that we begin.

Implements: GB/T 28181-2022 4.3.2

    INVITE client      Calling --1xx--> Proceeding --2xx--> Accepted (M)   --300-699--> Completed (D)
                       A: send again, doubled   B: timed out   in Completed each refusal gets an ACK
    other client       Trying --1xx--> Proceeding --final--> gone
                       E: send again, doubled up to T2   F: timed out

Timer K would only absorb repeated responses; one that matches nothing is dropped anyway, so K has no state
here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from tongshi.errors import LimitExceeded, LocalViolation
from tongshi.protocols.sip.building import ack_for_refusal
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.timers import TimerHeap, TimerValues
from tongshi.protocols.sip.transaction_events import (
    Event,
    Key,
    Output,
    ResponseReceived,
    Terminated,
    TransactionFailed,
)


class _State(Enum):
    """RFC 3261 17.1, RFC 6026 8."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    ACCEPTED = "Accepted"


@dataclass(slots=True)
class _Client:
    request: Request
    data: bytes
    remote: Remote
    state: _State
    interval_s: float
    ack: bytes = b""


class ClientTransactions:
    """Those of one endpoint; timers, output and events are those of all its transactions."""

    def __init__(
        self,
        values: TimerValues,
        max_pending: int,
        timers: TimerHeap[Key],
        output: deque[Output],
        events: deque[Event],
    ) -> None:
        self._values = values
        self._max_pending = max_pending
        self._timers = timers
        self._output = output
        self._events = events
        self._clients: dict[Key, _Client] = {}
        self._by_cseq: dict[Key, Key] = {}
        self._by_connection: dict[Remote, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def __contains__(self, key: Key) -> bool:
        return key in self._clients

    def request(self, request: Request, remote: Remote, now: float, timeout_s: float | None = None) -> Key:
        """Start a client transaction.

        Args:
            request: complete, with our Via and a branch of its own.
            timeout_s: Timer B or F; 64 x T1 when None.

        Raises:
            LimitExceeded: too many already wait.
        """
        if len(self._clients) >= self._max_pending:
            raise LimitExceeded("待答复的信令请求过多", retry_after_s=1.0)
        key = (request.via.branch, request.method)
        if key in self._clients:
            raise LocalViolation("branch used twice")
        is_invite = request.method == "INVITE"
        state = _State.CALLING if is_invite else _State.TRYING
        client = _Client(request, request.encode(), remote, state, self._values.t1_s)
        self._clients[key] = client
        self._by_cseq[_cseq_key(request)] = key
        if remote.is_reliable:
            self._by_connection.setdefault(remote, set()).add(key)
        self._timers.set(key, "B" if is_invite else "F", now + (timeout_s or self._values.timeout_s))
        if not remote.is_reliable:
            self._timers.set(key, "A" if is_invite else "E", now + client.interval_s)
        self._send(client.data, remote)
        return key

    def receive(self, response: Response, source: Remote, now: float) -> None:
        """Take one checked response; one that belongs to nothing is dropped."""
        key: Key | None = (response.via.branch, response.cseq.method)
        client = self._clients.get(key) if key is not None else None
        if client is None:
            # Some peers lose the branch on the way back; Call-ID and CSeq of ours are as unguessable.
            key = self._by_cseq.get(_cseq_key(response))
            client = self._clients.get(key) if key is not None else None
        if client is None or key is None:
            return
        if client.request.method == "INVITE":
            self._invite_answered(key, client, response, source, now)
        elif response.is_final:
            self._end(key)
            self._events.append(ResponseReceived(key, response, source))
        else:
            client.state, client.interval_s = _State.PROCEEDING, self._values.t2_s

    def handle_timer(self, key: Key, name: str, now: float) -> None:
        """A timer of one of these is due."""
        client = self._clients[key]
        if name in ("A", "E"):
            client.interval_s *= 2
            if name == "E":
                client.interval_s = min(client.interval_s, self._values.t2_s)
            self._timers.set(key, name, now + client.interval_s)
            self._send(client.data, client.remote)
            return
        if name in ("B", "F"):
            self._events.append(TransactionFailed(key, is_timeout=True))
        self._end(key)

    def limit(self, key: Key, at: float) -> None:
        """Let our INVITE fail at ``at`` although it has a provisional response (RFC 3261 9.1)."""
        if key in self._clients:
            self._timers.set(key, "B", at)

    def abandon(self, key: Key) -> None:
        """Forget a client transaction; its answer will be dropped."""
        self._end(key)

    def fail(self, remote: Remote) -> None:
        """The TCP connection to ``remote`` broke: everything that waits on it fails."""
        for key in sorted(self._by_connection.get(remote, ())):
            if self._clients[key].state in (_State.CALLING, _State.TRYING, _State.PROCEEDING):
                self._events.append(TransactionFailed(key, is_timeout=False))
            self._end(key)

    def _invite_answered(
        self, key: Key, client: _Client, response: Response, source: Remote, now: float
    ) -> None:
        if client.state is _State.COMPLETED:
            if response.status >= 300:
                self._send(client.ack, client.remote)
            return
        if client.state is _State.ACCEPTED and not response.is_success:
            return
        self._timers.cancel(key, "A", "B")
        if response.is_success:
            client.state = _State.ACCEPTED
            self._timers.set(key, "M", now + self._values.timeout_s)
        elif response.is_final:
            client.state = _State.COMPLETED
            client.ack = ack_for_refusal(client.request, response).encode()
            self._send(client.ack, client.remote)
            linger_s = 0.0 if client.remote.is_reliable else self._values.timeout_s
            self._timers.set(key, "D", now + linger_s)
        else:
            client.state = _State.PROCEEDING
        self._events.append(ResponseReceived(key, response, source))

    def _end(self, key: Key) -> None:
        client = self._clients.pop(key, None)
        if client is None:
            return
        self._by_cseq.pop(_cseq_key(client.request), None)
        self._timers.cancel(key, "A", "B", "D", "E", "F", "M")
        if (keys := self._by_connection.get(client.remote)) is not None:
            keys.discard(key)
            if not keys:
                del self._by_connection[client.remote]
        if client.request.method == "INVITE":
            self._events.append(Terminated(key))

    def _send(self, data: bytes, remote: Remote) -> None:
        self._output.append(Output(data, remote))


def _cseq_key(message: Request | Response) -> Key:
    cseq = message.cseq
    return (message.call_id, str(cseq.number), cseq.method)
