"""Calls: what INVITE, ACK, CANCEL and BYE make together, seen from both sides, without I/O.

Implements: GB/T 28181-2022 9.2.3

    we call       Calling --1xx--> Proceeding --2xx: ACK--> Established --BYE--> gone
                  given up in Calling: wait; in Proceeding: CANCEL; a late 2xx gets ACK and BYE
    they call     Offered --accept: 200 (G, H)--> Answered --ACK--> Established --BYE--> gone
                  CANCEL in Offered: 487; no ACK within Timer H: BYE

An INVITE without a session asks the called side to offer one (9.2.2): the 2xx carries the offer and our ACK
the answer, which waits for ``acknowledge``; likewise the ACK of a caller may bring the answer to our offer. A
re-INVITE that repeats the session as it is gets 200 with ours as it is and takes the peer's new address; one
that would change the session, or hold it, gets 488, and the session goes on as it was (RFC 3261 14.2).
Sessions with a timer are refreshed by whom both agreed on (``session_refresh``); what nobody refreshed ends.

A 2xx is repeated here, over TCP too, because it travels end to end (RFC 3261 13.3.1.4); each repeated 2xx
that we receive is acknowledged again, also after the call has ended, and one with a foreign tag is
acknowledged and ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tongshi.errors import LimitExceeded, RemoteViolation, Unavailable
from tongshi.protocols.sip import session_timer
from tongshi.protocols.sip.acknowledgements import Acknowledgements
from tongshi.protocols.sip.building import cancel_of, reason, reply
from tongshi.protocols.sip.call_events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallEvent,
    CallFailed,
    CallRecord,
    CallRefused,
    CallState,
    InviteArrived,
    InviteCancelled,
)
from tongshi.protocols.sip.call_table import CallTable
from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.server_transactions import server_key
from tongshi.protocols.sip.session_refresh import NOT_REFRESHED, SessionRefresh
from tongshi.protocols.sip.timers import TimerHeap
from tongshi.protocols.sip.transaction import Transactions
from tongshi.protocols.sip.transaction_events import Key


class Calls:
    """All calls of one endpoint.

    Args:
        transactions: shared with the agent, which routes events here.
        finish: adds Via, Max-Forwards and our own headers to a request.
        token: source of tags. contact: value of our Contact header toward a remote, in the scheme given.
        max_calls: bound of calls in any state.
    """

    def __init__(
        self,
        transactions: Transactions,
        finish: Callable[[Request, Remote], Request],
        token: Callable[[], str],
        contact: Callable[[Remote, str], str],
        max_calls: int,
    ) -> None:
        self._transactions = transactions
        self._finish = finish
        self._token = token
        self._contact = contact
        self._max_calls = max_calls
        self._table = CallTable()
        self._acknowledgements = Acknowledgements(transactions, self._inside)
        self._timers: TimerHeap[int] = TimerHeap()
        self._events: deque[CallEvent] = deque()
        self._refresh = SessionRefresh(transactions, self._timers, contact, self._inside)

    def __len__(self) -> int:
        return len(self._table)

    def next_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called."""
        return self._timers.next()

    def next_event(self) -> CallEvent | None:
        """The next event, None when there is none."""
        return self._events.popleft() if self._events else None

    # Our calls.

    def invite(self, request: Request, remote: Remote, now: float) -> int:
        """Call. ``request`` is finished. Raises LimitExceeded."""
        if len(self._table) >= self._max_calls:
            raise LimitExceeded("呼叫过多", retry_after_s=1.0)
        key = self._transactions.request(request, remote, now)
        return self._table.add(CallState.CALLING, request, key, remote, request.from_.tag).number

    def give_up(self, number: int, now: float) -> None:
        """Nobody waits for our call any more. CANCEL goes out as soon as it may (RFC 3261 9.1)."""
        call = self._table.get(number)
        if call is None or call.state not in (CallState.CALLING, CallState.PROCEEDING):
            return
        if call.state is CallState.PROCEEDING:
            self._cancel(call, now)
        else:
            self._transactions.stop_sending(call.key)
        call.state = CallState.GIVEN_UP

    def handle_response(self, key: Key, response: Response, source: Remote, now: float) -> bool:
        """Take a response to an INVITE of ours. False when it is none."""
        if (refreshed := self._refresh.of(key)) is not None:
            self._refresh_answered(refreshed, key, response, source, now)
            return True
        call = self._table.of_key(key)
        if call is None or call.state is CallState.ESTABLISHED:
            return self._acknowledge_again(key, response, source, now)
        if response.is_success:
            self._answered(call, response, source, now)
        elif response.is_final:
            self._drop(call)
            if call.state is not CallState.GIVEN_UP:
                self._events.append(CallRefused(call.number, response))
        elif call.state is CallState.CALLING:
            call.state = CallState.PROCEEDING
        elif call.state is CallState.GIVEN_UP:
            self._cancel(call, now)
        return True

    def handle_failure(self, key: Key, now: float, *, is_timeout: bool) -> bool:
        """An INVITE transaction of either side failed. False when the key is none of ours."""
        if (refreshed := self._refresh.of(key)) is not None:
            self._refresh.failed(refreshed, key, now)
            if is_timeout:
                self._not_refreshed(refreshed, now)
            return True
        call = self._table.of_key(key)
        if call is None:
            return False
        self._drop(call)
        if call.state is not CallState.GIVEN_UP:
            self._events.append(CallFailed(call.number, is_timeout=is_timeout))
        return True

    def handle_terminated(self, key: Key) -> None:
        """An INVITE transaction is over: nothing of it will be repeated any more."""
        self._acknowledgements.forget(key)
        self._table.forget_key(key)

    # Their calls.

    def offer(self, key: Key, request: Request, source: Remote, now: float) -> None:
        """An INVITE outside any dialog arrived."""
        if len(self._table) >= self._max_calls:
            refusal = reply(request, source, 503, to_tag=self._token(), headers=(("Retry-After", "5"),))
            self._transactions.respond(key, refusal, now)
            return
        call = self._table.add(CallState.OFFERED, request, key, source, self._token())
        self._events.append(InviteArrived(call.number, request, source))

    def progress(self, number: int, status: int, now: float) -> None:
        """Send a provisional response."""
        call = self._table.get(number)
        if call is not None and call.state is CallState.OFFERED:
            tag = "" if status == 100 else call.local_tag
            self._transactions.respond(call.key, reply(call.invite, call.remote, status, to_tag=tag), now)

    def accept(self, number: int, body: bytes, headers: Pairs, now: float) -> None:
        """Answer 200 and repeat it until the ACK. Raises Unavailable when the caller is gone."""
        call = self._table.get(number)
        if call is None or call.state is not CallState.OFFERED:
            raise Unavailable("呼叫已取消")
        call.dialog = Dialog.from_request(call.invite, call.local_tag, call.remote)
        routes = tuple(("Record-Route", line) for line in call.invite.headers.get_all("Record-Route"))
        response = reply(
            call.invite,
            call.remote,
            200,
            to_tag=call.local_tag,
            headers=(
                *routes,
                ("Contact", self._contact(call.remote, call.invite.uri.scheme)),
                *self._time_session(call, call.invite, now),
                *headers,
            ),
            body=body,
            content_type="Application/SDP" if body else "",
        )
        call.state = CallState.ANSWERED
        call.local_sdp, call.remote_sdp = body, call.invite.body
        self._transactions.respond(call.key, response, now)
        self._repeat_until_ack(call, response, now)

    def reject(self, number: int, status: int, reason: str, headers: Pairs, now: float) -> bool:
        """Refuse. False when the call is gone or already answered."""
        call = self._table.get(number)
        if call is None or call.state is not CallState.OFFERED:
            return False
        self._refuse(call, status, reason, headers, now)
        return True

    def handle_cancel(self, key: Key, cancel: Request, source: Remote, now: float) -> None:
        """Answer CANCEL, and the INVITE when it still waits."""
        invite_key = server_key(cancel, "INVITE")
        call = self._table.of_key(invite_key)
        is_known = call is not None or self._transactions.has_server(invite_key)
        tag = call.local_tag if call is not None else self._token()
        answer = reply(cancel, source, 200 if is_known else 481, to_tag=tag)
        self._transactions.respond(key, answer, now)
        if call is not None and call.state is CallState.OFFERED:
            self._refuse(call, 487, "", (), now)
            self._events.append(InviteCancelled(call.number))

    def handle_ack(self, ack: Request) -> None:
        """An ACK for a 2xx; anything else is ignored."""
        call = self._table.find(ack)
        if call is None:
            return
        if call.state is CallState.ANSWERED:
            self._timers.cancel(call.number, "G", "H")
            call.state = CallState.ESTABLISHED
            call.remote_sdp = call.remote_sdp or ack.body
            self._events.append(CallConfirmed(call.number, ack.body))
        elif call.refresh is not None:
            self._timers.cancel(call.number, "G", "H")
            call.refresh = None

    def handle_timer(self, now: float) -> None:
        """Repeat unacknowledged answers, give up on those too old and on callers that do not refresh."""
        while (due := self._timers.pop_due(now)) is not None:
            number, name = due
            call = self._table[number]
            if name == "G":
                call.interval_s = min(2 * call.interval_s, self._transactions.values.t2_s)
                self._timers.set(number, "G", now + call.interval_s)
                self._transactions.repeat(call.answer, call.remote)
            elif name == "refresh":
                self._refresh.send(call, now)
            elif call.state is CallState.ESTABLISHED:
                self._not_refreshed(call, now)
            else:
                self.hang_up(number, now)
                self._events.append(CallFailed(number, is_timeout=True))

    # Inside a call.

    def find(self, request: Request) -> int | None:
        """The call that a request inside a dialog belongs to."""
        call = self._table.find(request)
        return None if call is None else call.number

    def is_in_order(self, number: int, request: Request) -> bool:
        """Is this request's CSeq newer than what the dialog saw?"""
        dialog = self._table[number].dialog
        return dialog is not None and dialog.take_order(request)

    def refresh(self, number: int, key: Key, request: Request, source: Remote, now: float) -> None:
        """Answer a re-INVITE: 491 while an earlier one waits for its ACK, 200 or 488 as the head says."""
        call = self._table[number]
        dialog = call.dialog
        assert dialog is not None  # ``find`` gives calls with one only
        is_busy = call.refresh is not None or call.own_refresh is not None
        is_waiting = is_busy or call.state is not CallState.ESTABLISHED
        is_same = bool(request.body) and _session(request.body) == _session(call.remote_sdp)
        if is_waiting or not is_same or not call.local_sdp:
            refusal = reply(request, source, 491 if is_waiting else 488, to_tag=call.local_tag)
            self._transactions.respond(key, refusal, now)
            return
        dialog.retarget(request, source)
        response = reply(
            request,
            source,
            200,
            to_tag=call.local_tag,
            headers=(
                ("Contact", self._contact(source, request.uri.scheme)),
                *self._time_session(call, request, now),
            ),
            body=call.local_sdp,
            content_type="Application/SDP",
        )
        call.refresh = key
        self._transactions.respond(key, response, now)
        self._repeat_until_ack(call, response, now)

    def _time_session(self, call: CallRecord, invite: Request, now: float) -> Pairs:
        """Begin the time until the next refresh, if the caller asked for one; each refresh decides anew."""
        timer = session_timer.asked(invite)
        self._refresh.agree(call, timer, now)
        return session_timer.granting(timer)

    def _refresh_answered(
        self, call: CallRecord, key: Key, response: Response, source: Remote, now: float
    ) -> None:
        """A response to our re-INVITE; a success is acknowledged even when the call is over by now."""
        if not response.is_final:
            return
        dialog = call.dialog
        assert dialog is not None  # only established calls are refreshed
        if response.is_success:
            self._acknowledgements.begin(key, self._refresh.invite(key))
            dialog.retarget(response, source)
            self._acknowledgements.send(key, dialog)
        is_known = self._refresh.answered(call, key, response, now)
        if not is_known and call.number in self._table:
            self._not_refreshed(call, now)

    def _not_refreshed(self, call: CallRecord, now: float) -> None:
        """The session timer ran out, or the peer does not know the call any more (RFC 4028 10)."""
        if self._table.get(call.number) is call:
            self.hang_up(call.number, now, reason(408, NOT_REFRESHED))
            self._events.append(CallEnded(call.number, NOT_REFRESHED))

    def acknowledge(self, number: int, body: bytes) -> None:
        """Send the ACK of a call that we offered nothing for, with our answer. Raises Unavailable."""
        call = self._table.get(number)
        if call is None or call.dialog is None or call.state is not CallState.ESTABLISHED:
            raise Unavailable("呼叫已结束")
        if self._acknowledgements.owes(call.key, call.dialog.remote.tag):
            call.local_sdp = body
            self._acknowledgements.send(call.key, call.dialog, body)

    def request(
        self,
        number: int,
        method: str,
        now: float,
        *,
        body: bytes = b"",
        content_type: str = "",
        headers: Pairs = (),
        timeout_s: float | None = None,
    ) -> Key:
        """Send a request inside the call. Raises Unavailable when the call is over, LimitExceeded."""
        call = self._table.get(number)
        if call is None or call.dialog is None:
            raise Unavailable("呼叫已结束")
        request = self._inside(call.dialog, method, headers, body, content_type)
        return self._transactions.request(request, call.dialog.destination, now, timeout_s)

    def hang_up(self, number: int, now: float, headers: Pairs = ()) -> Key | None:
        """Send BYE and forget the call; None when there was none."""
        call = self._table.get(number)
        if call is None or call.dialog is None:
            return None
        self._drop(call)
        if self._acknowledgements.owes(call.key, call.dialog.remote.tag):
            # Its offer was never answered; without an ACK its 2xx would go on.
            self._acknowledgements.send(call.key, call.dialog)
        return self._bye(call.dialog, now, headers)

    def end(self, number: int) -> None:
        """The peer ended the call or lost it."""
        call = self._table.get(number)
        if call is None:
            return
        self._drop(call)
        if call.state is CallState.ANSWERED:
            self._events.append(CallFailed(number, is_timeout=False))
        else:
            self._events.append(CallEnded(number))

    def dialog(self, number: int) -> Dialog:
        """The dialog of an answered call, to be read only."""
        dialog = self._table[number].dialog
        assert dialog is not None  # an answer makes it
        return dialog

    # Private.

    @property
    def _t1_s(self) -> float:
        return self._transactions.values.t1_s

    def _answered(self, call: CallRecord, response: Response, source: Remote, now: float) -> None:
        try:
            dialog = Dialog.from_answer(call.invite, response, source)
        except RemoteViolation:
            self._drop(call)
            self._events.append(CallFailed(call.number, is_timeout=False))
            return
        call.dialog = dialog
        call.local_sdp, call.remote_sdp = call.invite.body, response.body
        self._acknowledgements.begin(call.key, call.invite)
        if call.invite.body or not response.body or call.state is CallState.GIVEN_UP:
            self._acknowledgements.send(call.key, dialog)
        if call.state is CallState.GIVEN_UP:
            self.hang_up(call.number, now)
            return
        call.state = CallState.ESTABLISHED
        self._refresh.agree(call, session_timer.granted(response), now)
        self._events.append(CallAnswered(call.number, response))

    def _acknowledge_again(self, key: Key, response: Response, source: Remote, now: float) -> bool:
        invite = self._acknowledgements.of(key)
        if invite is None or not response.is_success:
            return invite is not None
        if self._acknowledgements.again(key, response.to.tag) or self._awaits_answer(key, response):
            return True
        if self._acknowledgements.has_room(key):
            dialog = Dialog.from_answer(invite, response, source)
            self._acknowledgements.send(key, dialog)
            self._bye(dialog, now)
        return True

    def _drop(self, call: CallRecord) -> None:
        self._table.drop(call)
        self._timers.cancel(call.number, "G", "H", "session", "refresh")

    def _awaits_answer(self, key: Key, response: Response) -> bool:
        """Whether this repeated 2xx is of a call whose ACK waits for our answer."""
        call = self._table.of_key(key)
        return call is not None and call.dialog is not None and call.dialog.remote.tag == response.to.tag

    def _repeat_until_ack(self, call: CallRecord, response: Response, now: float) -> None:
        call.answer, call.interval_s = response.encode(), self._t1_s
        self._timers.set(call.number, "G", now + call.interval_s)
        self._timers.set(call.number, "H", now + self._transactions.values.timeout_s)

    def _bye(self, dialog: Dialog, now: float, headers: Pairs = ()) -> Key | None:
        request = self._inside(dialog, "BYE", headers, b"", "")
        try:
            return self._transactions.request(request, dialog.destination, now)
        except LimitExceeded:
            # Without a place for the transaction one unrepeated BYE is still better than a stream without
            # end.
            self._transactions.send(request, dialog.destination)
            return None

    def _cancel(self, call: CallRecord, now: float) -> None:
        """CANCEL, and a last limit on waiting for the INVITE's own answer."""
        cancel = cancel_of(call.invite)
        try:
            self._transactions.request(cancel, call.remote, now)
        except LimitExceeded:
            self._transactions.send(cancel, call.remote)
        self._transactions.limit(call.key, now + self._transactions.values.timeout_s)

    def _refuse(self, call: CallRecord, status: int, reason: str, headers: Pairs, now: float) -> None:
        response = reply(call.invite, call.remote, status, reason, to_tag=call.local_tag, headers=headers)
        self._drop(call)
        self._transactions.respond(call.key, response, now)

    def _inside(self, dialog: Dialog, method: str, headers: Pairs, body: bytes, content_type: str) -> Request:
        table = dialog.headers_of_next(method)
        for name, value in headers:
            table.add(name, value)
        if content_type:
            table.add("Content-Type", content_type)
        return self._finish(Request(method, dialog.target, table, body), dialog.destination)


def _session(sdp: bytes) -> bytes:
    """A session description without its origin, whose version may count up although nothing changed."""
    return b"\n".join(line for line in sdp.replace(b"\r", b"").split(b"\n") if line and line[:2] != b"o=")
