"""What is known of a device's state, and how well.

Implements: DB31DSJ/Z 001-2024 Table E.2
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from tongshi.protocols.gb28181.response import DeviceStatusResponse

FRESH: Final = timedelta(minutes=5)


class Presence(StrEnum):
    """Whether a device is there. A platform that is silent makes what is below it unknown, not off."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Known:
    """What the record says of one device. ``is_owner_reachable`` is about another platform that owns it."""

    device_id: str
    is_online: bool | None
    since: datetime | None
    last_seen: datetime | None
    source: str
    reason: str
    is_own: bool
    is_owner_reachable: bool

    @property
    def presence(self) -> Presence:
        if self.is_online is None or not (self.is_own or self.is_owner_reachable):
            return Presence.UNKNOWN
        return Presence.ONLINE if self.is_online else Presence.OFFLINE

    @property
    def told_by(self) -> str:
        """register, keepalive, or cascade for what another told."""
        return self.source if self.source in ("register", "keepalive", "") else "cascade"

    @property
    def why(self) -> str:
        """Why it is not known to be online; "" when it is."""
        if self.presence is Presence.ONLINE:
            return ""
        if self.is_online is None:
            return "从未上报状态"
        if self.presence is Presence.UNKNOWN:
            return "所属平台失联"
        return self.reason or "设备离线"

    def confidence(self, at: datetime) -> Literal["high", "medium", "low"]:
        """high: we hear it ourselves; medium: another says so, or it was long ago; low: unknown."""
        if self.presence is Presence.UNKNOWN:
            return "low"
        is_fresh = self.last_seen is not None and at - self.last_seen <= FRESH
        return "high" if self.is_own and (is_fresh or not self.is_online) else "medium"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a device answered when it was asked, and when."""

    status: DeviceStatusResponse
    at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices there are of each presence."""

    total: int
    online: int
    offline: int
    unknown: int
