"""Subscriptions: what SUBSCRIBE and NOTIFY make together, seen from both sides, without I/O.

Implements: GB/T 28181-2022 9.11

    we subscribe     Subscribing --2xx or NOTIFY--> Active --2xx to a refresh--> Active
                     Active --cancel: SUBSCRIBE with Expires 0--> Ending (N) --NOTIFY terminated--> gone
                     Active --NOTIFY terminated, expiry, refusal of a refresh--> gone
    they subscribe   Offered --accept: 200--> Active --SUBSCRIBE inside: 200--> Active
                     Active --Expires 0, expiry, NOTIFY refused or unanswered, terminate--> gone

After RFC 6665. A NOTIFY that overtakes the 200 makes the dialog (4.1.2.4); one that belongs to none of our
subscriptions gets 481. The side that notifies says "terminated" once when a subscription ends for another
reason than its own NOTIFY. A subscriber without Contact is answered at
the address it spoke from (quirk 27). What the statuses of ``ENDING`` say of a subscription stands in RFC 6665
4.1.2.2 and 4.2.2: it is not known over there any more; any other refusal leaves it to its expiry.
"""

from __future__ import annotations

from collections.abc import Callable

from tongshi.errors import LimitExceeded, RemoteViolation, Unavailable
from tongshi.protocols.sip.building import reply
from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.subscription_events import (
    End,
    NotifyArrived,
    SubscribeArrived,
    SubscriptionAnswered,
    SubscriptionEvent,
    SubscriptionFailed,
    SubscriptionRefreshed,
    SubscriptionState,
)
from tongshi.protocols.sip.subscription_table import Subscription, SubscriptionTable
from tongshi.protocols.sip.transaction import Transactions
from tongshi.protocols.sip.transaction_events import Key

MAX_SUBSCRIPTIONS = 100_000  # both sides together: twenty thousand devices with a few each
MAX_EXPIRES_S = 7 * 86_400
MAX_EVENT_CHARS = 128
ENDING = frozenset((403, 404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604))


class Subscriptions:
    """All subscriptions of one endpoint, in either role.

    Args:
        transactions: shared with the agent, which routes events here.
        finish: adds Via, Max-Forwards and our own headers to a request.
        dress: adds our own headers to those of a response.
        token: source of tags. contact: value of our Contact header toward a remote, in the scheme given.
    """

    def __init__(
        self,
        transactions: Transactions,
        finish: Callable[[Request, Remote], Request],
        dress: Callable[[Pairs], Pairs],
        token: Callable[[], str],
        contact: Callable[[Remote, str], str],
        limit: int = MAX_SUBSCRIPTIONS,
    ) -> None:
        self._transactions = transactions
        self._finish = finish
        self._dress = dress
        self._token = token
        self._contact = contact
        self.limit = limit
        self._table = SubscriptionTable(transactions.values.timeout_s)
        self._timers, self._events = self._table.timers, self._table.events
        self._by_key: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._table)

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called."""
        return self._timers.next()

    def next_event(self) -> SubscriptionEvent | None:
        """The next event, None when there is none."""
        return self._events.popleft() if self._events else None

    def handle_timer(self, now: float) -> None:
        """End what nobody refreshed."""
        while (due := self._timers.pop_due(now)) is not None:
            number, name = due
            found = self._table[number]
            if name == "N":
                self._table.end(found, End.CANCELLED)
            else:
                self._say_terminated(found, "timeout", now)
                self._table.end(found, End.EXPIRED)

    # We subscribe.

    def subscribe(self, request: Request, remote: Remote, expires_s: int, now: float) -> int:
        """Subscribe. ``request`` is finished and carries Expires. Raises LimitExceeded."""
        self._check_room()
        key = self._transactions.request(request, remote, now)
        found = self._table.add(
            SubscriptionState.SUBSCRIBING, request, key, remote, request.from_.tag, expires_s
        )
        self._by_key[key] = found.number
        return found.number

    def renew(self, number: int, expires_s: int, now: float) -> None:
        """Refresh inside the dialog; ends in SubscriptionAnswered or SubscriptionEnded.

        Nothing happens while another refresh waits for its answer. Raises Unavailable when the subscription
        is over, LimitExceeded.
        """
        found = self._table.get(number)
        if found is None or found.dialog is None or found.state is not SubscriptionState.ACTIVE:
            raise Unavailable("订阅已结束")
        if found.refresh is None:
            found.refresh = self._subscribe_inside(found, found.dialog, expires_s, now)
            found.asked_s = expires_s

    def cancel(self, number: int, now: float) -> None:
        """End our subscription; the last NOTIFY is still answered. Does nothing when it is over."""
        found = self._table.get(number)
        if found is None or not found.is_ours or found.state is SubscriptionState.ENDING:
            return
        if found.dialog is None:
            # Not answered yet. A late answer is dropped; its NOTIFY gets 481, which ends it over there.
            self._table.end(found, End.DROPPED)
            return
        found.state = SubscriptionState.ENDING
        self._timers.cancel(number, "expires")
        self._timers.set(number, "N", now + self._transactions.values.timeout_s)
        try:
            found.refresh = self._subscribe_inside(found, found.dialog, 0, now)
        except LimitExceeded:
            self._table.end(found, End.DROPPED)

    # They subscribe.

    def handle_subscribe(self, key: Key, request: Request, source: Remote, now: float) -> None:
        """A SUBSCRIBE from outside or inside a subscription."""
        if request.to.tag:
            self._take_refresh(key, request, source, now)
        elif len(self._table) >= self.limit:
            self._answer(key, request, source, 503, now, headers=(("Retry-After", "30"),))
        else:
            asked = _expires_of(request)
            state = SubscriptionState.OFFERED
            found = self._table.add(state, request, key, source, self._token(), asked or 0, is_ours=False)
            self._timers.set(found.number, "offer", now + self._transactions.values.timeout_s)
            self._events.append(SubscribeArrived(found.number, request, source, asked))

    def accept(
        self, number: int, expires_s: int, now: float, *, body: bytes = b"", content_type: str = ""
    ) -> None:
        """Answer 200 and begin. Raises Unavailable when the subscriber is gone."""
        found = self._table.get(number)
        if found is None or found.state is not SubscriptionState.OFFERED:
            raise Unavailable("订阅已取消")
        found.dialog = Dialog.from_request(found.request, found.local_tag, found.remote)
        found.state = SubscriptionState.ACTIVE
        self._timers.cancel(number, "offer")
        self._table.set_expiry(found, expires_s, now)
        routes = tuple(("Record-Route", line) for line in found.request.headers.get_all("Record-Route"))
        headers = (*routes, ("Contact", self._contact_for(found)), ("Expires", str(expires_s)))
        self._answer(
            found.key, found.request, found.remote, 200, now, found.local_tag, headers, body, content_type
        )

    def reject(self, number: int, status: int, headers: Pairs, now: float) -> None:
        """Refuse. Does nothing when the subscriber is gone or was answered."""
        found = self._table.get(number)
        if found is None or found.state is not SubscriptionState.OFFERED:
            return
        self._table.drop(found)
        self._answer(found.key, found.request, found.remote, status, now, found.local_tag, headers)

    def notify(
        self, number: int, body: bytes, content_type: str, now: float, timeout_s: float | None = None
    ) -> Key:
        """Send one notification. Raises Unavailable when the subscription is over, LimitExceeded."""
        found = self._table.get(number)
        if found is None or found.is_ours or found.state is not SubscriptionState.ACTIVE:
            raise Unavailable("订阅已结束")
        left_s = max(0, int(found.ends_at - now))
        key = self._send_notify(found, f"active;expires={left_s}", body, content_type, now, timeout_s)
        self._by_key[key] = number
        return key

    def terminate(self, number: int, reason: str, now: float) -> None:
        """End their subscription with a last NOTIFY. Does nothing when it is over."""
        found = self._table.get(number)
        if found is not None and not found.is_ours and found.state is SubscriptionState.ACTIVE:
            self._say_terminated(found, reason, now)
            self._table.end(found, End.DROPPED)

    def drop(self, number: int) -> None:
        """End either kind without a word. Does nothing when it is over."""
        found = self._table.get(number)
        if found is not None:
            self._table.end(found, End.DROPPED)

    # What the agent routes here.

    def handle_notify(self, key: Key, request: Request, source: Remote, now: float) -> None:
        """A NOTIFY: 481 without a subscription, 500 out of order, else an event for its user."""
        found = self._table.find(request, is_ours=True)
        if found is None or not self._makes_dialog(found, request, source):
            self._answer(key, request, source, 481, now)
            return
        dialog = found.dialog
        if dialog is None or not dialog.take_order(request):
            self._answer(key, request, source, 500, now, headers=(("Retry-After", "1"),))
            return
        state, expires_s, reason = _state_of(request)
        self._events.append(NotifyArrived(key, request, source, found.number))
        if state == "terminated":
            is_ours = found.state is SubscriptionState.ENDING
            self._table.end(found, End.CANCELLED if is_ours else End.TERMINATED, reason)
        elif found.state is SubscriptionState.ACTIVE and expires_s is not None:
            # The notifier may shorten, never lengthen what it granted (4.1.2.1).
            self._table.set_expiry(found, min(expires_s, max(0, int(found.ends_at - now) + 1)), now)

    def handle_response(self, key: Key, response: Response, source: Remote, now: float) -> bool:
        """The final answer to a SUBSCRIBE of ours; else False, though that to a NOTIFY is noted here."""
        number = self._by_key.pop(key, None)
        found = self._table.get(number) if number is not None else None
        if found is None:
            return False
        if not found.is_ours:
            if response.status in ENDING:
                self._table.end(found, End.REFUSED, str(response.status))
            return False
        if key == found.key:
            self._first_answer(found, response, source, now)
        else:
            found.refresh = None
            self._refresh_answer(found, response, now)
        return True

    def handle_failure(self, key: Key, *, is_timeout: bool) -> bool:
        """No answer came; False when it was no SUBSCRIBE. An unanswered NOTIFY ends the subscription."""
        number = self._by_key.pop(key, None)
        found = self._table.get(number) if number is not None else None
        if found is None:
            return False
        if not found.is_ours:
            if is_timeout:
                self._table.end(found, End.SILENT)
            return False
        if key == found.key and found.state is SubscriptionState.SUBSCRIBING:
            self._table.drop(found)
            self._events.append(SubscriptionFailed(found.number, None, is_timeout))
        elif key == found.refresh:
            found.refresh = None
            if is_timeout or found.state is SubscriptionState.ENDING:
                self._table.end(found, End.SILENT)
        return True

    def forget(self, key: Key) -> None:
        """Nobody waits for this answer any more."""
        self._by_key.pop(key, None)

    def dialog(self, number: int) -> Dialog | None:
        """The dialog, to be read only."""
        found = self._table.get(number)
        return found.dialog if found is not None else None

    # Private.

    def _first_answer(self, found: Subscription, response: Response, source: Remote, now: float) -> None:
        if not response.is_success:
            self._table.drop(found)
            self._events.append(SubscriptionFailed(found.number, response, is_timeout=False))
            return
        try:
            dialog = Dialog.from_answer(found.request, response, source)
        except RemoteViolation:
            self._table.drop(found)
            self._events.append(SubscriptionFailed(found.number, response, is_timeout=False))
            return
        if found.dialog is None:
            found.dialog = dialog
        found.state = SubscriptionState.ACTIVE
        self._granted(found, response, now)

    def _refresh_answer(self, found: Subscription, response: Response, now: float) -> None:
        if found.state is SubscriptionState.ENDING:
            if not response.is_success:
                self._table.end(found, End.CANCELLED)
        elif response.is_success:
            self._granted(found, response, now)
        elif response.status in ENDING:
            self._table.end(found, End.REFUSED, str(response.status))

    def _granted(self, found: Subscription, response: Response, now: float) -> None:
        granted = response.expires
        expires_s = found.asked_s if granted is None else min(granted, MAX_EXPIRES_S)
        self._table.set_expiry(found, expires_s, now)
        self._events.append(SubscriptionAnswered(found.number, response, expires_s))

    def _take_refresh(self, key: Key, request: Request, source: Remote, now: float) -> None:
        found = self._table.find(request, is_ours=False)
        if found is None or found.dialog is None or found.state is not SubscriptionState.ACTIVE:
            self._answer(key, request, source, 481, now)
            return
        if not found.dialog.take_order(request):
            self._answer(key, request, source, 500, now, headers=(("Retry-After", "1"),))
            return
        asked = _expires_of(request)
        expires_s = min(found.asked_s or MAX_EXPIRES_S, MAX_EXPIRES_S) if asked is None else asked
        headers = (("Contact", self._contact_for(found)), ("Expires", str(expires_s)))
        self._answer(key, request, source, 200, now, found.local_tag, headers)
        if expires_s == 0:
            self._say_terminated(found, "timeout", now)
            self._table.end(found, End.CANCELLED)
            return
        found.dialog.retarget(request, source)
        self._table.set_expiry(found, expires_s, now)
        self._events.append(SubscriptionRefreshed(found.number, request, expires_s))

    def _contact_for(self, found: Subscription) -> str:
        return self._contact(found.remote, found.request.uri.scheme)

    def _makes_dialog(self, found: Subscription, request: Request, source: Remote) -> bool:
        """Whether the NOTIFY fits; one that overtook the 200 makes the dialog."""
        if found.dialog is not None:
            return found.dialog.belongs(request)
        if not request.from_.tag:
            return False
        found.dialog = Dialog.from_request(request, found.local_tag, source)
        found.dialog.local = found.request.from_
        found.dialog.local_cseq = found.request.cseq.number
        found.dialog.remote_cseq = None
        return True

    def _subscribe_inside(self, found: Subscription, dialog: Dialog, expires_s: int, now: float) -> Key:
        first = found.request
        table = dialog.headers_of_next("SUBSCRIBE")
        table.add("Contact", first.headers.get("Contact") or self._contact(dialog.destination, "sip"))
        table.add("Event", first.headers.get("Event"))
        table.add("Expires", str(expires_s))
        if content_type := first.headers.get("Content-Type"):
            table.add("Content-Type", content_type)
        request = Request("SUBSCRIBE", dialog.target, table, first.body)
        key = self._transactions.request(self._finish(request, dialog.destination), dialog.destination, now)
        self._by_key[key] = found.number
        return key

    def _send_notify(
        self,
        found: Subscription,
        state: str,
        body: bytes,
        content_type: str,
        now: float,
        timeout_s: float | None = None,
    ) -> Key:
        dialog = found.dialog
        assert dialog is not None  # an active subscription has one
        table = dialog.headers_of_next("NOTIFY")
        table.add("Contact", self._contact_for(found))
        table.add("Event", found.request.headers.get("Event")[:MAX_EVENT_CHARS] or "presence")
        table.add("Subscription-State", state)
        if body:
            table.add("Content-Type", content_type)
        request = self._finish(Request("NOTIFY", dialog.target, table, body), dialog.destination)
        return self._transactions.request(request, dialog.destination, now, timeout_s)

    def _say_terminated(self, found: Subscription, reason: str, now: float) -> None:
        if found.is_ours or found.state is not SubscriptionState.ACTIVE:
            return
        try:
            self._send_notify(found, f"terminated;reason={reason}", b"", "", now)
        except LimitExceeded:
            return  # the subscriber's own timer ends it

    def _check_room(self) -> None:
        if len(self._table) >= self.limit:
            raise LimitExceeded("订阅数已达上限", retry_after_s=30.0)

    def _answer(
        self,
        key: Key,
        request: Request,
        source: Remote,
        status: int,
        now: float,
        to_tag: str = "",
        headers: Pairs = (),
        body: bytes = b"",
        content_type: str = "",
    ) -> None:
        response = reply(
            request,
            source,
            status,
            to_tag=to_tag or self._token(),
            headers=self._dress(headers),
            body=body,
            content_type=content_type,
        )
        self._transactions.respond(key, response, now)


def _expires_of(request: Request) -> int | None:
    return None if request.expires is None else min(request.expires, MAX_EXPIRES_S)


def _state_of(notify: Request) -> tuple[str, int | None, str]:
    """State, seconds left and reason of Subscription-State; what is missing or unreadable means active."""
    word, *params = (part.strip() for part in notify.headers.get("Subscription-State").split(";"))
    pairs = (param.partition("=") for param in params[:16])
    named = {name.strip().lower(): value.strip() for name, _, value in pairs}
    text = named.get("expires", "")
    seconds = min(int(text[:10]), MAX_EXPIRES_S) if text.isascii() and text.isdigit() else None
    return word.lower(), seconds, named.get("reason", "")[:64]
