"""How upgrades and snapshots ended: what a device says of them goes into the audit, under their number.

Implements: GB/T 28181-2022 A.2.5.7
Implements: GB/T 28181-2022 A.2.5.9
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.protocols.gb28181.device_notify import FAILURES, DeviceUpgradeResult, UploadSnapShotFinished
from tongshi.storage.engine import Database

Ended = DeviceUpgradeResult | UploadSnapShotFinished


class Undertakings:
    """Writes down what devices say of their undertakings, and tells those who keep their results."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        on_snapshots: Callable[[UploadSnapShotFinished], Awaitable[None]] | None = None,
        on_upgrade: Callable[[DeviceUpgradeResult], Awaitable[None]] | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._on_snapshots = on_snapshots
        self._on_upgrade = on_upgrade

    async def note(self, peer_id: str, told: Ended) -> None:
        """One notification, whoever ordered it; ``peer_id`` is who brought it."""
        details: dict[str, object] = {"sessionId": told.session_id, "via": peer_id}
        if isinstance(told, DeviceUpgradeResult):
            has_succeeded, reason = told.has_succeeded, FAILURES.get(told.failed_reason or "", "")
            details |= {"firmware": told.firmware, "failedReason": told.failed_reason}
        else:
            has_succeeded, reason = bool(told.files), "" if told.files else "没有上传任何图像"
            details["files"] = list(told.files)
        entry = audit.AuditEntry(
            at=self._clock.at(),
            event=AuditTag.DEVICE_COMMAND,
            outcome=Outcome.DONE if has_succeeded else Outcome.FAILED,
            subject_kind="device",
            subject_id=told.device_id,
            object_kind="device",
            object_id=told.device_id,
            reason=reason,
            details=details,
        )
        await self._db.write(audit.append, entry)
        if isinstance(told, DeviceUpgradeResult):
            if self._on_upgrade is not None:
                await self._on_upgrade(told)
        elif self._on_snapshots is not None:
            await self._on_snapshots(told)
