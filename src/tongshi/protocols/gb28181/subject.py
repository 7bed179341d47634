"""The Subject header of a media INVITE: which stream of which source goes to which receiver.

Implements: GB/T 28181-2022 Annex L

``<sender id>:<stream serial>,<receiver id>:<receiver serial>``. The stream serial starts with 0 for live
and 1 for history; it is our SSRC in ten digits. It is the same for the same live picture, so that a
platform that gets a second INVITE with the same left half replaces the first (Annex K).
"""

from __future__ import annotations

from typing import Final

import msgspec

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.types import MAX_ID_CHARS

MAX_SERIAL_CHARS: Final = 64  # the standard says 20 for the sender's; nothing for the receiver's
_MAX_CHARS: Final = 300


class Subject(msgspec.Struct, frozen=True):
    """Both halves; the receiver's is empty when the peer left it out."""

    sender_id: str
    sender_serial: str
    receiver_id: str = ""
    receiver_serial: str = "0"

    @property
    def is_history(self) -> bool:
        """Whether the stream serial announces a history stream."""
        return self.sender_serial.startswith("1")

    @property
    def stream_key(self) -> str:
        """The left half, by which a stream that is sent already is found again (Annex K)."""
        return f"{self.sender_id}:{self.sender_serial}"

    def render(self) -> str:
        """The header's value."""
        return f"{self.stream_key},{self.receiver_id}:{self.receiver_serial}"


def parse_subject(text: str) -> Subject:
    """Read a Subject; blanks around the parts and a missing right half are forgiven.

    Raises:
        RemoteViolation: no sender, or a part beyond its bound.
    """
    if len(text) > _MAX_CHARS:
        raise RemoteViolation("Subject too long", field="Subject")
    sender, _, receiver = text.partition(",")
    sender_id, sender_serial = _half(sender)
    receiver_id, receiver_serial = _half(receiver)
    if not sender_id:
        raise RemoteViolation("Subject names no sender", field="Subject")
    return Subject(sender_id, sender_serial, receiver_id, receiver_serial)


def _half(text: str) -> tuple[str, str]:
    name, _, serial = (part.strip() for part in text.partition(":"))
    if len(name) > MAX_ID_CHARS or len(serial) > MAX_SERIAL_CHARS or not (name + serial).isprintable():
        raise RemoteViolation("Subject part beyond its bound", field="Subject")
    return name, serial
