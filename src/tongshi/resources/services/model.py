"""One entry of the service directory.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# Registered services begin so, and no operation of ours ever will.
EXTERNAL_PREFIX = "ext-"
MAX_LISTINGS = 1_000


class ServiceKind(StrEnum):
    """What is served: an operation of the REST face, a stream, or somebody else's service."""

    OPERATION = "operation"
    STREAM = "stream"
    EXTERNAL = "external"


class ServiceState(StrEnum):
    """``degraded`` is what callers saw lately. An external one runs until it is withdrawn."""

    RUNNING = "running"
    DEGRADED = "degraded"
    NOT_BUILT = "not-built"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Listing:
    """What an administrator says of one service; of our own services only the last lines count.

    Attributes:
        code: operation or stream name, or ``ext-...``.
        contract: address of the description that a caller builds against.
        permission: value of the permission that opens it; empty for everybody who is signed in.
    """

    code: str
    name: str = ""
    summary: str = ""
    owner: str = ""
    version: str = ""
    contract: str = ""
    address: str = ""
    permission: str = ""
    how_to_apply: str = ""
    contact: str = ""
    is_withdrawn: bool = False
    reason: str = ""
    updated_by: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the directory shows it to one caller."""

    code: str
    kind: ServiceKind
    name: str
    summary: str
    owner: str
    version: str
    contract: str
    address: str
    permission: str
    is_granted: bool
    state: ServiceState
    reason: str
    how_to_apply: str
    contact: str
    method: str = ""
    row: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a list is narrowed by; an empty one narrows nothing."""

    keyword: str = ""
    kind: ServiceKind | None = None
    state: ServiceState | None = None
    is_granted: bool | None = None
