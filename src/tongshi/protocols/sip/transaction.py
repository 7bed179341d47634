"""Transactions: RFC 3261 section 17 with the Accepted states of RFC 6026, without I/O.

Implements: GB/T 28181-2022 4.3.2
States and timers carry the RFC's names, so that the tables of ``client_transactions`` and
``server_transactions`` and the RFC's figures can be read side by side.
"""

from __future__ import annotations

from collections import deque

from tongshi.protocols.sip.client_transactions import ClientTransactions
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.server_transactions import ServerTransactions
from tongshi.protocols.sip.timers import TimerHeap, TimerValues
from tongshi.protocols.sip.transaction_events import Event, Key, Output


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
        self._timers: TimerHeap[Key] = TimerHeap()
        self._output: deque[Output] = deque()
        self._events: deque[Event] = deque()
        shared = self._timers, self._output, self._events
        self._clients = ClientTransactions(self.values, max_pending, *shared)
        self._servers = ServerTransactions(self.values, max_pending, max_answered, *shared)

    # The five verbs, without receive's bytes: the agent has parsed them.

    def receive(self, message: Request | Response, source: Remote, now: float) -> None:
        """Take one checked message."""
        if isinstance(message, Response):
            self._clients.receive(message, source, now)
        elif message.method == "ACK":
            self._servers.receive_ack(message, source, now)
        else:
            self._servers.receive(message, source, now)

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
            if key in self._clients:
                self._clients.handle_timer(key, name, now)
            elif key in self._servers:
                self._servers.handle_timer(key, name, now)

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
        return self._clients.request(request, remote, now, timeout_s)

    def send(self, request: Request, remote: Remote) -> None:
        """Send without a transaction (ACK for a 2xx)."""
        self._output.append(Output(request.encode(), remote))

    def reply_stateless(self, response: Response, remote: Remote) -> None:
        """Answer and remember nothing."""
        self.repeat(response.encode(), remote)

    def respond(self, key: Key, response: Response, now: float) -> bool:
        """Send a response of the transaction's user. False when the transaction is gone."""
        return self._servers.respond(key, response, now)

    def stop_sending(self, key: Key) -> None:
        """Send the request no more, yet wait for its answer."""
        self._timers.cancel(key, "A", "E")

    def limit(self, key: Key, at: float) -> None:
        """Let our INVITE fail at ``at`` although it has a provisional response (RFC 3261 9.1)."""
        self._clients.limit(key, at)

    def repeat(self, data: bytes, remote: Remote) -> None:
        """Send a 2xx to INVITE again."""
        self._output.append(Output(data, remote, is_reply=True))

    def abandon(self, key: Key) -> None:
        """Forget a client transaction; its answer will be dropped."""
        self._clients.abandon(key)

    def has_server(self, key: Key) -> bool:
        """Is this server transaction still alive?"""
        return key in self._servers

    def fail(self, remote: Remote) -> None:
        """The TCP connection to ``remote`` broke: everything that waits on it fails."""
        self._clients.fail(remote)

    @property
    def pending(self) -> int:
        """Transactions alive on both sides, without remembered responses."""
        return len(self._clients) + len(self._servers)
