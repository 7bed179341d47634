"""Transactions: RFC 3261 section 17 with the Accepted states of RFC 6026, without I/O.

Implements: GB/T 28181-2022 4.3.2
States and timers carry the RFC's names, so that this table and the RFC's figures can be read side by side.

    INVITE client      Calling --1xx--> Proceeding --2xx--> Accepted (M)   --300-699--> Completed (D)
                       A: send again, doubled   B: timed out   in Completed each refusal gets an ACK
    other client       Trying --1xx--> Proceeding --final--> gone
                       E: send again, doubled up to T2   F: timed out
    INVITE server      Proceeding --2xx--> Accepted (L)   --300-699--> Completed --ACK--> Confirmed (I)
                       after 200 ms: 100   C: nobody answers    G: send again, doubled up to T2   H: give up
    other server       Trying --final--> Completed (J): the response is remembered and repeated

Timer K would only absorb repeated responses; one that matches nothing is dropped anyway, so K has no state
here. Timer J is equal for all, so the remembered responses are a queue and not timers. Beyond its bound the
oldest is forgotten early: at worst a request is handled twice. The same span ends a request that its user
never answers. A request beyond ``max_pending`` gets 503 and no state.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum

from tongshi.errors import LimitExceeded, LocalViolation
from tongshi.protocols.sip.building import ack_for_refusal, reply
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.timers import TimerHeap, TimerValues

MAGIC = "z9hG4bK"
TRYING_AFTER_S = 0.2
TIMER_C_S = 180.0

Key = tuple[str, ...]


class State(Enum):
    """RFC 3261 17, RFC 6026 8."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    ACCEPTED = "Accepted"


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes to send. A reply whose connection is gone is dropped, never redialled."""

    data: bytes
    remote: Remote
    is_reply: bool = False


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A new request; answer it with ``respond(key, ...)``."""

    key: Key
    request: Request
    source: Remote


@dataclass(frozen=True, slots=True)
class AckReceived:
    """An ACK for a 2xx."""

    request: Request
    source: Remote


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to our request; repeated 2xx to INVITE come again."""

    key: Key
    response: Response
    source: Remote


@dataclass(frozen=True, slots=True)
class TransactionFailed:
    """No final response will come: ``is_timeout`` tells silence from a broken transport."""

    key: Key
    is_timeout: bool


@dataclass(frozen=True, slots=True)
class Terminated:
    """An INVITE transaction of either side is over."""

    key: Key


Event = RequestReceived | AckReceived | ResponseReceived | TransactionFailed | Terminated


@dataclass(slots=True)
class _Client:
    request: Request
    data: bytes
    remote: Remote
    state: State
    interval_s: float
    ack: bytes = b""


@dataclass(slots=True)
class _Server:
    request: Request
    remote: Remote
    state: State
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


class Transactions:
    """All transactions of one endpoint.

    Args:
        values: T1, T2, T4.
        max_pending: bound of client transactions, and of unanswered server transactions.
        max_answered: bound of remembered responses.
    """

    def __init__(
        self, values: TimerValues | None = None, *, max_pending: int = 10_000, max_answered: int = 50_000
    ) -> None:
        self.values = values or TimerValues()
        self.refused = 0
        self._max_pending = max_pending
        self._max_answered = max_answered
        self._clients: dict[Key, _Client] = {}
        self._by_cseq: dict[Key, Key] = {}
        self._by_connection: dict[Remote, set[Key]] = {}
        self._servers: dict[Key, _Server] = {}
        self._answered: OrderedDict[Key, tuple[float, bytes, Remote]] = OrderedDict()
        self._timers: TimerHeap[Key] = TimerHeap()
        self._output: deque[Output] = deque()
        self._events: deque[Event] = deque()

    # The five verbs, without receive's bytes: the agent has parsed them.

    def receive(self, message: Request | Response, source: Remote, now: float) -> None:
        """Take one checked message."""
        if isinstance(message, Response):
            self._receive_response(message, source, now)
        elif message.method == "ACK":
            self._receive_ack(message, source, now)
        else:
            self._receive_request(message, source, now)

    def take_output(self) -> list[Output]:
        """What has to be sent now."""
        output = list(self._output)
        self._output.clear()
        return output

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Run every timer that is due."""
        while (due := self._timers.pop_due(now)) is not None:
            key, name = due
            if (client := self._clients.get(key)) is not None:
                self._client_timer(key, client, name, now)
            elif (server := self._servers.get(key)) is not None:
                self._server_timer(key, server, name, now)

    def next_event(self) -> Event | None:
        """The next event, None when there is none."""
        return self._events.popleft() if self._events else None

    # What the user of transactions asks for.

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
        state = State.CALLING if is_invite else State.TRYING
        client = _Client(request, request.encode(), remote, state, self.values.t1_s)
        self._clients[key] = client
        self._by_cseq[_cseq_key(request)] = key
        if remote.is_reliable:
            self._by_connection.setdefault(remote, set()).add(key)
        self._timers.set(key, "B" if is_invite else "F", now + (timeout_s or self.values.timeout_s))
        if not remote.is_reliable:
            self._timers.set(key, "A" if is_invite else "E", now + client.interval_s)
        self._send(client.data, remote)
        return key

    def send(self, request: Request, remote: Remote) -> None:
        """Send without a transaction (ACK for a 2xx)."""
        self._send(request.encode(), remote)

    def reply_stateless(self, response: Response, remote: Remote) -> None:
        """Answer and remember nothing."""
        self._send(response.encode(), remote, is_reply=True)

    def respond(self, key: Key, response: Response, now: float) -> bool:
        """Send a response of the transaction's user. False when the transaction is gone."""
        server = self._servers.get(key)
        if server is None:
            return False
        data = response.encode()
        if server.request.method == "INVITE":
            self._respond_invite(key, server, response, now)
        elif response.is_final:
            self._end_server(key)
            self._remember(key, data, server.remote, now)
        server.last = data
        self._send(data, server.remote, is_reply=True)
        return True

    def stop_sending(self, key: Key) -> None:
        """Send the request no more, yet wait for its answer."""
        self._timers.cancel(key, "A", "E")

    def limit(self, key: Key, at: float) -> None:
        """Let our INVITE fail at ``at`` although it has a provisional response (RFC 3261 9.1)."""
        if key in self._clients:
            self._timers.set(key, "B", at)

    def repeat(self, data: bytes, remote: Remote) -> None:
        """Send a 2xx to INVITE again."""
        self._send(data, remote, is_reply=True)

    def abandon(self, key: Key) -> None:
        """Forget a client transaction; its answer will be dropped."""
        self._end_client(key)

    def has_server(self, key: Key) -> bool:
        """Is this server transaction still alive?"""
        return key in self._servers

    def fail(self, remote: Remote) -> None:
        """The TCP connection to ``remote`` broke: everything that waits on it fails."""
        for key in sorted(self._by_connection.get(remote, ())):
            if self._clients[key].state in (State.CALLING, State.TRYING, State.PROCEEDING):
                self._events.append(TransactionFailed(key, is_timeout=False))
            self._end_client(key)

    @property
    def pending(self) -> int:
        """Transactions alive on both sides, without remembered responses."""
        return len(self._clients) + len(self._servers)

    # Client side.

    def _receive_response(self, response: Response, source: Remote, now: float) -> None:
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
            self._end_client(key)
            self._events.append(ResponseReceived(key, response, source))
        else:
            client.state, client.interval_s = State.PROCEEDING, self.values.t2_s

    def _invite_answered(
        self, key: Key, client: _Client, response: Response, source: Remote, now: float
    ) -> None:
        if client.state is State.COMPLETED:
            if response.status >= 300:
                self._send(client.ack, client.remote)
            return
        if client.state is State.ACCEPTED and not response.is_success:
            return
        self._timers.cancel(key, "A", "B")
        if response.is_success:
            client.state = State.ACCEPTED
            self._timers.set(key, "M", now + self.values.timeout_s)
        elif response.is_final:
            client.state = State.COMPLETED
            client.ack = ack_for_refusal(client.request, response).encode()
            self._send(client.ack, client.remote)
            linger_s = 0.0 if client.remote.is_reliable else self.values.timeout_s
            self._timers.set(key, "D", now + linger_s)
        else:
            client.state = State.PROCEEDING
        self._events.append(ResponseReceived(key, response, source))

    def _client_timer(self, key: Key, client: _Client, name: str, now: float) -> None:
        if name in ("A", "E"):
            client.interval_s *= 2
            if name == "E":
                client.interval_s = min(client.interval_s, self.values.t2_s)
            self._timers.set(key, name, now + client.interval_s)
            self._send(client.data, client.remote)
            return
        if name in ("B", "F"):
            self._events.append(TransactionFailed(key, is_timeout=True))
        self._end_client(key)

    def _end_client(self, key: Key) -> None:
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

    # Server side.

    def _receive_request(self, request: Request, source: Remote, now: float) -> None:
        key = server_key(request)
        self._expire(now)
        if (server := self._servers.get(key)) is not None:
            if server.last and server.state is not State.ACCEPTED:
                self._send(server.last, server.remote, is_reply=True)
            return
        if (remembered := self._answered.get(key)) is not None:
            self._send(remembered[1], remembered[2], is_reply=True)
            return
        if len(self._servers) >= self._max_pending:
            self.refused += 1
            refusal = reply(request, source, 503, headers=(("Retry-After", "5"),))
            self._send(refusal.encode(), source, is_reply=True)
            return
        if request.method == "INVITE":
            self._servers[key] = _Server(request, source, State.PROCEEDING)
            self._timers.set(key, "100", now + TRYING_AFTER_S)
            self._timers.set(key, "C", now + TIMER_C_S)
        else:
            self._servers[key] = _Server(request, source, State.TRYING)
            self._timers.set(key, "J", now + self.values.timeout_s)
        self._events.append(RequestReceived(key, request, source))

    def _receive_ack(self, ack: Request, source: Remote, now: float) -> None:
        key = server_key(ack, "INVITE")
        server = self._servers.get(key)
        if server is None or server.state is State.ACCEPTED:
            self._events.append(AckReceived(ack, source))
        elif server.state is State.COMPLETED:
            server.state, server.last = State.CONFIRMED, b""
            self._timers.cancel(key, "G", "H")
            self._timers.set(key, "I", now + (0.0 if server.remote.is_reliable else self.values.t4_s))

    def _respond_invite(self, key: Key, server: _Server, response: Response, now: float) -> None:
        if server.state is State.ACCEPTED and response.is_success:
            return
        if server.state is not State.PROCEEDING:
            raise LocalViolation("second final response")
        self._timers.cancel(key, "100")
        if not response.is_final:
            return
        self._timers.cancel(key, "C")
        if response.is_success:
            server.state = State.ACCEPTED
            self._timers.set(key, "L", now + self.values.timeout_s)
            return
        server.state, server.interval_s = State.COMPLETED, self.values.t1_s
        self._timers.set(key, "H", now + self.values.timeout_s)
        if not server.remote.is_reliable:
            self._timers.set(key, "G", now + server.interval_s)

    def _server_timer(self, key: Key, server: _Server, name: str, now: float) -> None:
        if name == "100":
            server.last = reply(server.request, server.remote, 100).encode()
            self._send(server.last, server.remote, is_reply=True)
        elif name == "G":
            server.interval_s = min(2 * server.interval_s, self.values.t2_s)
            self._timers.set(key, "G", now + server.interval_s)
            self._send(server.last, server.remote, is_reply=True)
        elif name == "C":
            # The user forgot the call. Its caller deserves an end, and the table its place.
            self._events.append(TransactionFailed(key, is_timeout=True))
            self.respond(key, reply(server.request, server.remote, 408, to_tag="c"), now)
        else:
            self._end_server(key)

    def _end_server(self, key: Key) -> None:
        server = self._servers.pop(key, None)
        self._timers.cancel(key, "100", "C", "G", "H", "I", "J", "L")
        if server is not None and server.request.method == "INVITE":
            self._events.append(Terminated(key))

    def _remember(self, key: Key, data: bytes, remote: Remote, now: float) -> None:
        if remote.is_reliable:
            return
        self._answered[key] = (now + self.values.timeout_s, data, remote)
        if len(self._answered) > self._max_answered:
            self._answered.popitem(last=False)

    def _expire(self, now: float) -> None:
        while self._answered:
            key = next(iter(self._answered))
            if self._answered[key][0] > now:
                return
            del self._answered[key]

    def _send(self, data: bytes, remote: Remote, *, is_reply: bool = False) -> None:
        self._output.append(Output(data, remote, is_reply))


def _cseq_key(message: Request | Response) -> Key:
    cseq = message.cseq
    return (message.call_id, str(cseq.number), cseq.method)
