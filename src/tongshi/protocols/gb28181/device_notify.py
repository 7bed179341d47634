"""How an upgrade and a snapshot ended: notifications of the device itself.

Implements: GB/T 28181-2022 A.2.5.7
Implements: GB/T 28181-2022 A.2.5.9
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.configuration import SessionId
from tongshi.protocols.gb28181.message import Root
from tongshi.protocols.gb28181.shape import Shaped
from tongshi.protocols.gb28181.version import Edition

FAILURES: Final[dict[str, str]] = {
    "01": "下载超时",
    "02": "升级包损坏",
    "03": "系统异常",
    "99": "其他原因",
}


class DeviceUpgradeResult(Shaped, frozen=True, kw_only=True):
    """How an upgrade ended; ``firmware`` is what runs now."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "DeviceUpgradeResult"
    NAMES: ClassVar[dict[str, str]] = {
        "session_id": "SessionID",
        "result": "UpgradeResult",
        "failed_reason": "UpgradeFailedReason",
    }

    session_id: SessionId
    result: Literal["OK", "ERROR"]
    firmware: Annotated[str, Meta(max_length=255)] = ""
    failed_reason: Literal["01", "02", "03", "99"] | None = None

    @property
    def has_succeeded(self) -> bool:
        return self.result == "OK"


class UploadSnapShotFinished(Shaped, frozen=True, kw_only=True):
    """What was uploaded; fewer names than pictures asked for say that some failed."""

    root: ClassVar[Root] = "Notify"
    cmd_type: ClassVar[str] = "UploadSnapShotFinished"
    NAMES: ClassVar[dict[str, str]] = {"session_id": "SessionID"}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"files": ("SnapShotList", "SnapShotFileID")}

    session_id: SessionId
    files: Annotated[tuple[str, ...], Meta(max_length=10)] = ()

    def content(self, edition: Edition) -> str:
        """This list has no Num and is there when it is empty."""
        files = "".join([xml.element("SnapShotFileID", name) for name in self.files])
        return xml.element("SessionID", self.session_id) + f"<SnapShotList>{files}</SnapShotList>"
