"""What all MANSCDP messages share: root, CmdType, SN, DeviceID, and how they become a body.

Implements: GB/T 28181-2022 A.1
Implements: GB/T 28181-2022 A.2.2
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import msgspec

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.version import Edition

Root = Literal["Control", "Query", "Notify", "Response"]

MAX_SN: Final = 2**31 - 1  # devices echo SN truncated to 32 bits


class BaseMessage(msgspec.Struct, frozen=True):
    """One MANSCDP message. ``sn`` is 1 to MAX_SN; 0 says that the peer gave none that can be read (quirk 7).

    ``device_id`` is the target of a control or query and the source of a notification: 20 digits, a
    division of 2 to 8 digits, or what a device uses instead, at most 64 characters.
    """

    root: ClassVar[Root]
    cmd_type: ClassVar[str]

    sn: int
    device_id: str

    def render(self, charset: str = "gb18030", edition: Edition = Edition.GB2022) -> bytes:
        """The body, ready to send, spelt for a peer of this edition."""
        head = xml.element("CmdType", self.cmd_type) + xml.element("SN", self.sn) + self.identity()
        return xml.document(self.root, head + self.content(edition), charset)

    def identity(self) -> str:
        """Whom it is about, after SN; escaped XML."""
        return xml.element("DeviceID", self.device_id)

    def content(self, edition: Edition) -> str:
        """What follows DeviceID; escaped XML."""
        return ""


class UnknownMessage(msgspec.Struct, frozen=True):
    """A well-formed message whose command we do not know; enough to answer it."""

    root: str
    cmd_type: str
    sn: int
    device_id: str


def refusal(message: UnknownMessage, charset: str = "gb18030") -> bytes:
    """The answer to a query that we do not do: Result ERROR, there is no other word (24 no. 12)."""
    content = (
        xml.element("CmdType", message.cmd_type)
        + xml.element("SN", message.sn)
        + xml.element("DeviceID", message.device_id)
        + xml.element("Result", "ERROR")
    )
    return xml.document("Response", content, charset)


def next_sn(sn: int) -> int:
    """The SN after this one: 31 bits, wraps to 1."""
    return sn + 1 if 0 < sn < MAX_SN else 1


def read_sn(reader: xml.Reader) -> int:
    """SN, or 0 when it is missing or no number."""
    sn = reader.integer("sn")
    return sn if sn is not None and sn > 0 else 0


def read_device_id(reader: xml.Reader, *names: str) -> str:
    """DeviceID, which every known message has.

    Raises:
        RemoteViolation: missing, or longer than MAX_ID_CHARS.
    """
    text = reader.text(*(names or ("deviceid",)))
    if not 0 < len(text) <= MAX_ID_CHARS:
        raise RemoteViolation("DeviceID missing or too long", field="DeviceID")
    return text


def read_flag(text: str, *true_words: str) -> bool:
    """Whether a closed word was given, without regard to case."""
    return text.lower() in true_words
