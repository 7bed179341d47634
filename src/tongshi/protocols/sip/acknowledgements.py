"""The ACK of each 2xx to an INVITE of ours, kept as long as the 2xx may come again.

Implements: GB/T 28181-2022 9.2.3
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tongshi.protocols.sip.dialog import Dialog
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import Remote, Request
from tongshi.protocols.sip.transaction import Transactions
from tongshi.protocols.sip.transaction_events import Key

MAX_FORKS = 8


@dataclass(frozen=True, slots=True)
class _Answered:
    """An answered INVITE of ours, kept until Timer M, with the ACK of each tag that answered."""

    invite: Request
    acks: dict[str, tuple[Request, Remote]]


class Acknowledgements:
    """Those of one endpoint. ``inside`` makes a request inside a dialog."""

    def __init__(
        self, transactions: Transactions, inside: Callable[[Dialog, str, Pairs, bytes, str], Request]
    ) -> None:
        self._transactions = transactions
        self._inside = inside
        self._answered: dict[Key, _Answered] = {}

    def begin(self, key: Key, invite: Request) -> None:
        """An INVITE of ours was answered with 2xx."""
        self._answered[key] = _Answered(invite, {})

    def of(self, key: Key) -> Request | None:
        """The answered INVITE."""
        found = self._answered.get(key)
        return None if found is None else found.invite

    def owes(self, key: Key, tag: str) -> bool:
        """Whether the answer with this tag got no ACK yet."""
        found = self._answered.get(key)
        return found is not None and tag not in found.acks

    def has_room(self, key: Key) -> bool:
        """Whether one more tag may answer."""
        return len(self._answered[key].acks) < MAX_FORKS

    def send(self, key: Key, dialog: Dialog, body: bytes = b"") -> None:
        """Acknowledge the 2xx that made the dialog."""
        answered = self._answered[key]
        ack = self._inside(dialog, "ACK", (), body, "Application/SDP" if body else "")
        # That of the INVITE, whatever else we said inside the dialog since (RFC 3261 13.2.2.4).
        ack.headers.set("CSeq", f"{answered.invite.cseq.number} ACK")
        answered.acks[dialog.remote.tag] = ack, dialog.destination
        self._transactions.send(ack, dialog.destination)

    def again(self, key: Key, tag: str) -> bool:
        """A 2xx came again: so does its ACK. False when it has none."""
        sent = self._answered[key].acks.get(tag)
        if sent is not None:
            self._transactions.send(*sent)
        return sent is not None

    def forget(self, key: Key) -> None:
        """Its 2xx will not come again."""
        self._answered.pop(key, None)
