"""What the web kit needs of others: a gate that knows callers, a recorder, kept answers, quotas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tongshi.web.operations import AnyOperation, Quota


@dataclass(frozen=True, slots=True)
class Head:
    """A request before its body was read."""

    request_id: str
    method: str
    path: str
    raw_query: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    client_host: str
    at: datetime


@dataclass(frozen=True, slots=True)
class BodyDigest:
    """The digest that a signed head promises of the body; ``algorithm`` is a hashlib name."""

    algorithm: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """A recognised caller.

    Attributes:
        caller: the subject, opaque here.
        key: what counters are kept by, for example ``user:7``.
        is_cookie: came by a browser cookie, so that unsafe methods needed the CSRF header.
        body_digest: to be compared with the body once it was read; None when nothing was promised.
    """

    caller: object
    key: str
    is_cookie: bool = False
    body_digest: BodyDigest | None = None


class Gate(Protocol):
    """Who calls, and may they call this."""

    async def authenticate(self, head: Head) -> Identity | None:
        """Recognise the caller by the head; None without any credential.

        Raises:
            Unauthenticated: a credential was given and is wrong, late, or used before.
            Forbidden: known, but not from this address or without the CSRF header.
        """
        ...

    async def authorise(self, identity: Identity, permission: StrEnum, head: Head) -> None:
        """Let a caller pass to an operation.

        Raises:
            Forbidden: the caller lacks the permission.
        """
        ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished request, for audit and for monitoring of the service (DB31DSJ/Z 001-2024 6.4.4)."""

    operation: AnyOperation
    head: Head
    identity: Identity | None
    status: int
    code: int
    message: str
    rows: int
    duration_s: float
    is_replayed: bool = False


class Recorder(Protocol):
    """Takes note of every attempt, refused ones too."""

    async def record(self, attempt: Attempt) -> None: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A call that is to run once.

    Attributes:
        id: digest of caller, operation and key (32 bytes).
        caller: ``Identity.key``, by which answers are counted.
        asked: digest of the request under the key (32 bytes).
        at, until: when it came, and when its answer is forgotten at the latest.
    """

    id: bytes
    caller: str
    asked: bytes
    at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was sent; ``code`` is that of its envelope."""

    status: int
    code: int
    headers: Mapping[str, str]
    body: bytes
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an earlier call of this id asked and came to; ``kept`` is None while it has no answer."""

    asked: bytes
    started_at: datetime
    kept: Kept | None


class Answers(Protocol):
    """Answers of calls that are to run once, known to every process of the platform."""

    async def claim(self, claim: Claim) -> Claimed | None:
        """Take the id for this call; what holds it already otherwise."""
        ...

    async def keep(self, claim: Claim, kept: Kept, until: datetime) -> None:
        """Note the answer of a call that claimed."""
        ...

    async def drop(self, claim: Claim) -> None:
        """Let go of a claim, so that the next call runs."""
        ...


class Quotas(Protocol):
    """What callers may have of a class in a day or a month, counted over every process of the platform."""

    async def take_call(self, caller: str, quota: Quota) -> int | None:
        """Count one call of ``Identity.key``. Returns what is left, None when there is no limit.

        Raises:
            LimitExceeded: 42902, none is left; carries the seconds until the day or month is over.
        """
        ...

    async def take_rows(self, caller: str, rows: int) -> int | None:
        """Count the rows of one answer before it leaves. Returns what is left, None when there is no limit.

        Raises:
            LimitExceeded: 42903, the answer has more rows than are left.
        """
        ...
