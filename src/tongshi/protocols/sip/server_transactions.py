"""The transactions that a peer begins.

Implements: GB/T 28181-2022 4.3.2

    INVITE server      Proceeding --2xx--> Accepted (L)   --300-699--> Completed --ACK--> Confirmed (I)
                       after 200 ms: 100   C: nobody answers    G: send again, doubled up to T2   H: give up
    other server       Trying --final--> Completed (J): the response is remembered and repeated

Timer J is equal for all, so the remembered responses are a queue and not timers. Beyond its bound the oldest
is forgotten early: at worst a request is handled twice. The same span ends a request that its user never
answers. A request beyond ``max_pending`` gets 503 and no state.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum

from tongshi.errors import LocalViolation
from tongshi.protocols.sip.address import MAGIC
from tongshi.protocols.sip.building import reply
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.timers import TimerHeap, TimerValues
from tongshi.protocols.sip.transaction_events import (
    AckReceived,
    Event,
    Key,
    Output,
    RequestReceived,
    Terminated,
    TransactionFailed,
)

TRYING_AFTER_S = 0.2
TIMER_C_S = 180.0


class _State(Enum):
    """RFC 3261 17.2, RFC 6026 8."""

    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    ACCEPTED = "Accepted"


@dataclass(slots=True)
class _Server:
    request: Request
    remote: Remote
    state: _State
    last: bytes = b""
    interval_s: float = 0.0


def server_key(request: Request, method: str = "") -> Key:
    """Matching of RFC 3261 17.2.3; by Call-ID, CSeq and From tag for branches without the magic (quirk 29).

    Args:
        request: checked request.
        method: the transaction's method when it is not the request's (ACK and CANCEL look for INVITE).
    """
    via, method = request.via, method or request.method
    if via.branch.startswith(MAGIC) and len(via.branch) > len(MAGIC):
        # Call-ID joins the RFC's three: cheap devices behind different NATs share addresses and branches.
        return (via.branch, via.sent_by, request.call_id, method)
    return ("", via.sent_by, request.call_id, request.from_.tag, str(request.cseq.number), method)


class ServerTransactions:
    """Those of one endpoint; timers, output and events are those of all its transactions."""

    def __init__(
        self,
        values: TimerValues,
        max_pending: int,
        max_answered: int,
        timers: TimerHeap[Key],
        output: deque[Output],
        events: deque[Event],
    ) -> None:
        self._values = values
        self._max_pending = max_pending
        self._max_answered = max_answered
        self._timers = timers
        self._output = output
        self._events = events
        self._servers: dict[Key, _Server] = {}
        self._answered: OrderedDict[Key, tuple[float, bytes, Remote]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._servers)

    def __contains__(self, key: Key) -> bool:
        return key in self._servers

    def receive(self, request: Request, source: Remote, now: float) -> None:
        """Take one checked request that is no ACK; a repeated one is answered as before."""
        key = server_key(request)
        self._expire(now)
        if (server := self._servers.get(key)) is not None:
            if server.last and server.state is not _State.ACCEPTED:
                self._send(server.last, server.remote)
            return
        if (remembered := self._answered.get(key)) is not None:
            self._send(remembered[1], remembered[2])
            return
        if len(self._servers) >= self._max_pending:
            refusal = reply(request, source, 503, headers=(("Retry-After", "5"),))
            self._send(refusal.encode(), source)
            return
        if request.method == "INVITE":
            self._servers[key] = _Server(request, source, _State.PROCEEDING)
            self._timers.set(key, "100", now + TRYING_AFTER_S)
            self._timers.set(key, "C", now + TIMER_C_S)
        else:
            self._servers[key] = _Server(request, source, _State.TRYING)
            self._timers.set(key, "J", now + self._values.timeout_s)
        self._events.append(RequestReceived(key, request, source))

    def receive_ack(self, ack: Request, source: Remote, now: float) -> None:
        """Take an ACK: that of a refusal ends here, that of a 2xx is the user's."""
        key = server_key(ack, "INVITE")
        server = self._servers.get(key)
        if server is None or server.state is _State.ACCEPTED:
            self._events.append(AckReceived(ack, source))
        elif server.state is _State.COMPLETED:
            server.state, server.last = _State.CONFIRMED, b""
            self._timers.cancel(key, "G", "H")
            self._timers.set(key, "I", now + (0.0 if server.remote.is_reliable else self._values.t4_s))

    def respond(self, key: Key, response: Response, now: float) -> bool:
        """Send a response of the transaction's user. False when the transaction is gone."""
        server = self._servers.get(key)
        if server is None:
            return False
        data = response.encode()
        if server.request.method == "INVITE":
            self._respond_invite(key, server, response, now)
        elif response.is_final:
            self._end(key)
            self._remember(key, data, server.remote, now)
        server.last = data
        self._send(data, server.remote)
        return True

    def handle_timer(self, key: Key, name: str, now: float) -> None:
        """A timer of one of these is due."""
        server = self._servers[key]
        if name == "100":
            server.last = reply(server.request, server.remote, 100).encode()
            self._send(server.last, server.remote)
        elif name == "G":
            server.interval_s = min(2 * server.interval_s, self._values.t2_s)
            self._timers.set(key, "G", now + server.interval_s)
            self._send(server.last, server.remote)
        elif name == "C":
            # The user forgot the call. Its caller deserves an end, and the table its place.
            self._events.append(TransactionFailed(key, is_timeout=True))
            self.respond(key, reply(server.request, server.remote, 408, to_tag="c"), now)
        else:
            self._end(key)

    def _respond_invite(self, key: Key, server: _Server, response: Response, now: float) -> None:
        if server.state is _State.ACCEPTED and response.is_success:
            return
        if server.state is not _State.PROCEEDING:
            raise LocalViolation("second final response")
        self._timers.cancel(key, "100")
        if not response.is_final:
            return
        self._timers.cancel(key, "C")
        if response.is_success:
            server.state = _State.ACCEPTED
            self._timers.set(key, "L", now + self._values.timeout_s)
            return
        server.state, server.interval_s = _State.COMPLETED, self._values.t1_s
        self._timers.set(key, "H", now + self._values.timeout_s)
        if not server.remote.is_reliable:
            self._timers.set(key, "G", now + server.interval_s)

    def _end(self, key: Key) -> None:
        server = self._servers.pop(key, None)
        self._timers.cancel(key, "100", "C", "G", "H", "I", "J", "L")
        if server is not None and server.request.method == "INVITE":
            self._events.append(Terminated(key))

    def _remember(self, key: Key, data: bytes, remote: Remote, now: float) -> None:
        if remote.is_reliable:
            return
        self._answered[key] = (now + self._values.timeout_s, data, remote)
        if len(self._answered) > self._max_answered:
            self._answered.popitem(last=False)

    def _expire(self, now: float) -> None:
        while self._answered:
            key = next(iter(self._answered))
            if self._answered[key][0] > now:
                return
            del self._answered[key]

    def _send(self, data: bytes, remote: Remote) -> None:
        self._output.append(Output(data, remote, is_reply=True))
