"""Bans, strangers and fingerprints.

Implements: GB/T 28181-2022 8.1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class BanReason(StrEnum):
    """What led to a ban."""

    DIGEST = "digest"
    UNKNOWN = "unknown"
    BINDING = "binding"
    FLOOD = "flood"


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban.

    Attributes:
        subject: an address, or ``code@address``.
        level: how many in a row, from 1; decides how long.
        refused: requests refused on its strength, since this process began.
    """

    subject: str
    reason: BanReason
    level: int
    since: datetime
    until: datetime
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Stranger:
    """One source: how much was refused with an answer, how much was dropped without one, and the latest."""

    address: str
    first_at: datetime
    last_at: datetime
    refused: int = 0
    dropped: int = 0
    method: str = ""
    code: str = ""


class Standing(StrEnum):
    """How a fingerprint stands."""

    KNOWN = "known"
    CHANGED = "changed"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One device: what we trust (``traits``) and what it says now where that differs (``changed``)."""

    code: str
    traits: Mapping[str, str]
    first_at: datetime
    changed_at: datetime
    changed: Mapping[str, str] = field(default_factory=dict)
    standing: Standing = Standing.KNOWN
