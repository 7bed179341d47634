"""Voice broadcast: the notification that invites a loudspeaker to call us, and its answer.

Implements: GB/T 28181-2022 A.2.5.5
Implements: GB/T 28181-2022 A.2.6.11
Not here: the call that follows (9.12.1).
"""

from __future__ import annotations

from typing import ClassVar

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.version import Edition


class BroadcastNotify(BaseMessage, frozen=True):
    """``device_id`` is TargetID, the voice output or a main device for all its outputs; there is no DeviceID.

    ``source_id`` is SourceID, the voice input that the target is to call.
    """

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "Broadcast"

    source_id: str = ""

    def identity(self) -> str:
        return xml.element("SourceID", self.source_id) + xml.element("TargetID", self.device_id)

    @classmethod
    def read(cls, document: xml.Document) -> BroadcastNotify:
        reader = document.root
        target_id = read_device_id(reader, "targetid", "deviceid")
        return cls(read_sn(reader), target_id, reader.text("sourceid")[:MAX_ID_CHARS])


class BroadcastResponse(BaseMessage, frozen=True):
    """Whether the voice output will call; ``reason`` is met in the field beside an ERROR."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Broadcast"

    result_ok: bool = True
    reason: str = ""

    def content(self, edition: Edition) -> str:
        return xml.element("Result", "OK" if self.result_ok else "ERROR")

    @classmethod
    def read(cls, document: xml.Document) -> BroadcastResponse:
        reader = document.root
        is_error = read_flag(reader.text("result"), "error", "err", "fail", "failed")
        return cls(read_sn(reader), read_device_id(reader), not is_error, reader.text("reason"))
