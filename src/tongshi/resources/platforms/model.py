"""A platform as we know it.

Implements: DB31DSJ/Z 001-2024 6.2
Implements: DB31DSJ/Z 001-2024 6.3
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tongshi.ids import PlatformId


class Relation(StrEnum):
    """Where the platform stands, seen from here."""

    SELF = "self"
    UPPER = "upper"
    LOWER = "lower"
    LATERAL = "lateral"


@dataclass(frozen=True, slots=True)
class Platform:
    """What an administrator or the configuration says of a platform. Secrets do not print."""

    id: PlatformId
    name: str
    relation: Relation
    sip_host: str = ""
    sip_port: int = 0
    sip_transport: str = "udp"
    realm: str = ""
    username: str = ""
    secret: str = field(default="", repr=False)
    rest_url: str = ""
    rest_key: str = ""
    rest_secret: str = field(default="", repr=False)
    profile: str = "{}"
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class PlatformState:
    """What we see of it: registration by signalling, last sign of life, last trouble."""

    is_online: bool = False
    registered_at: datetime | None = None
    last_seen_at: datetime | None = None
    expires_at: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class KnownPlatform:
    """Both halves in one row."""

    platform: Platform
    state: PlatformState


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the exchange with a neighbour stands; None is "not known"."""

    device_count: int = 0
    last_exchange_at: datetime | None = None
    lag: int | None = None
    is_equal: bool | None = None
    state: str = ""
    waiting: int = 0
    last_error: str = ""
    is_paused: bool = False
