"""Our refreshes of sessions: a re-INVITE that repeats the session at half of its time (RFC 4028 10).

    agree: by us    -> "refresh" at half the time, "session" when nobody refreshed
    agree: by them  -> "session" alone
    2xx             -> agree anew, as the answer says; without a word of it as before
    422             -> again at once with the least time that the peer takes
    408, 481, none  -> the call is over
    else            -> again after ``RETRY_S``, until "session"

The session that a 2xx brings is not followed: we said that nothing changed. UPDATE is not used, for 9.2.3 b)
does not list it among the methods that a peer must know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tongshi.errors import LimitExceeded
from tongshi.protocols.sip import session_timer
from tongshi.protocols.sip.call_events import CallRecord, CallState
from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import Remote, Request, Response
from tongshi.protocols.sip.session_timer import SessionTimer
from tongshi.protocols.sip.timers import TimerHeap
from tongshi.protocols.sip.transaction import Transactions
from tongshi.protocols.sip.transaction_events import Key

RETRY_S = 4.0  # also after 491: the longest that RFC 3261 14.1 lets the two sides draw
NOT_REFRESHED = "session not refreshed"

Inside = Callable[[Dialog, str, Pairs, bytes, str], Request]


class SessionRefresh:
    """Those calls that we refresh, and the re-INVITEs under way.

    Args:
        timers: of all calls; names "session" and "refresh" are ours.
        contact: value of our Contact header. inside: makes a request inside a dialog.
    """

    def __init__(
        self,
        transactions: Transactions,
        timers: TimerHeap[int],
        contact: Callable[[Remote, str], str],
        inside: Inside,
    ) -> None:
        self._transactions = transactions
        self._timers = timers
        self._contact = contact
        self._inside = inside
        self._running: dict[Key, tuple[CallRecord, Request]] = {}

    def of(self, key: Key) -> CallRecord | None:
        """The call whose refresh this is."""
        found = self._running.get(key)
        return None if found is None else found[0]

    def invite(self, key: Key) -> Request:
        """The re-INVITE of that key."""
        return self._running[key][1]

    def agree(self, call: CallRecord, timer: SessionTimer | None, now: float) -> None:
        """Both sides agreed on this, or on no timer at all; the time begins now."""
        call.timer = timer
        self._timers.cancel(call.number, "session", "refresh")
        if timer is None:
            return
        self._timers.set(call.number, "session", now + timer.ends_after_s)
        if timer.is_ours:
            self._timers.set(call.number, "refresh", now + timer.seconds / 2)

    def send(self, call: CallRecord, now: float) -> None:
        """It is time: repeat the session."""
        dialog, timer = call.dialog, call.timer
        is_free = call.state is CallState.ESTABLISHED and call.refresh is None and call.own_refresh is None
        if dialog is None or timer is None or not is_free or not call.local_sdp:
            self._later(call, now)
            return
        scheme = "sips" if dialog.target.startswith("sips:") else "sip"
        headers = (("Contact", self._contact(dialog.destination, scheme)), *session_timer.asking(timer))
        request = self._inside(dialog, "INVITE", headers, call.local_sdp, "Application/SDP")
        try:
            key = self._transactions.request(request, dialog.destination, now)
        except LimitExceeded:
            self._later(call, now)
            return
        call.own_refresh = key
        self._running[key] = call, request

    def answered(self, call: CallRecord, key: Key, response: Response, now: float) -> bool:
        """The final answer. False when the peer does not know the call any more."""
        self._done(call, key)
        timer = call.timer
        if timer is None or response.status in (408, 481):
            return timer is None
        if response.is_success:
            self.agree(call, session_timer.granted(response) or timer, now)
        elif (least := session_timer.least_s(response)) > timer.seconds:
            call.timer = replace(timer, seconds=least)
            self.send(call, now)
        else:
            self._later(call, now)
        return True

    def failed(self, call: CallRecord, key: Key, now: float) -> None:
        """No answer came."""
        self._done(call, key)
        self._later(call, now)

    def _done(self, call: CallRecord, key: Key) -> None:
        self._running.pop(key, None)
        if call.own_refresh == key:
            call.own_refresh = None

    def _later(self, call: CallRecord, now: float) -> None:
        if call.timer is not None and call.timer.is_ours and call.state is CallState.ESTABLISHED:
            self._timers.set(call.number, "refresh", now + RETRY_S)
