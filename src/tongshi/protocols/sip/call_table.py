"""The calls there are, by number, by their INVITE and by their dialog."""

from __future__ import annotations

from tongshi.protocols.sip.call_events import CallRecord, CallState
from tongshi.protocols.sip.message import Remote, Request
from tongshi.protocols.sip.transaction_events import Key


class CallTable:
    """All calls of one endpoint, in any state; whoever adds one has looked at the bound."""

    def __init__(self) -> None:
        self._calls: dict[int, CallRecord] = {}
        self._by_key: dict[Key, int] = {}
        self._by_dialog: dict[tuple[str, str], int] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, number: int) -> bool:
        return number in self._calls

    def __getitem__(self, number: int) -> CallRecord:
        return self._calls[number]

    def get(self, number: int) -> CallRecord | None:
        """The call, None when it is over."""
        return self._calls.get(number)

    def of_key(self, key: Key) -> CallRecord | None:
        """The call that this INVITE transaction began."""
        number = self._by_key.get(key)
        return self._calls.get(number) if number is not None else None

    def find(self, request: Request) -> CallRecord | None:
        """The call that a request inside a dialog belongs to."""
        number = self._by_dialog.get((request.call_id, request.to.tag))
        call = self._calls.get(number) if number is not None else None
        if call is None or call.dialog is None or not call.dialog.belongs(request):
            return None
        return call

    def add(self, state: CallState, invite: Request, key: Key, remote: Remote, tag: str) -> CallRecord:
        """Begin a call; ``tag`` is ours."""
        self._last_number += 1
        call = CallRecord(self._last_number, state, invite, key, remote, tag)
        self._calls[call.number] = call
        self._by_key[key] = call.number
        self._by_dialog[invite.call_id, tag] = call.number
        # Some devices send BYE without our tag (quirk 28); then the Call-ID alone must find the call.
        self._by_dialog[invite.call_id, ""] = call.number
        return call

    def drop(self, call: CallRecord) -> None:
        """The call is over."""
        self._calls.pop(call.number, None)
        for tag in (call.local_tag, ""):
            if self._by_dialog.get((call.invite.call_id, tag)) == call.number:
                del self._by_dialog[call.invite.call_id, tag]
        if self._by_key.get(call.key) == call.number:
            del self._by_key[call.key]

    def forget_key(self, key: Key) -> None:
        """The INVITE transaction of a call is over; the call may go on."""
        self._by_key.pop(key, None)
