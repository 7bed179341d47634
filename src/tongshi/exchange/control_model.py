"""What a person sees of the exchange with one neighbour, and what they may ask of it.

Implements: DB31DSJ/Z 001-2024 6.2
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from tongshi.web.operations import Answer, Request

MAX_REASON_CHARS = 200
# Changes that wait are counted up to here: "more than so many" is all that a person needs.
MAX_COUNTED = 10_000
# Owners whose shards are compared one by one; the others show that they differ.
MAX_OWNERS_IN_DETAIL = 16

Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS, pattern=r"\S")]


class SyncKind(StrEnum):
    """What to send or fetch."""

    INCREMENTAL = "incremental"
    FULL = "full"


class Reasoned(Request, frozen=True):
    """Why; a person's own words, kept in the audit."""

    reason: Reason


class Synchronise(Request, frozen=True):
    """``full`` tells or fetches everything again, ``incremental`` what changed since the last position."""

    kind: SyncKind = SyncKind.INCREMENTAL


class MissingQuery(Request, frozen=True):
    """Which page of the quarantine."""

    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=200)] = 50


class Pause(Answer, frozen=True):
    """A person stopped the exchange with a neighbour."""

    by: str
    reason: str
    at: datetime


class Direction(Answer, frozen=True):
    """What is remembered of one direction: ``out`` we tell, ``in`` we are told.

    ``pending`` counts changes of ours behind the position (at most ``MAX_COUNTED``); None inward, where only
    the neighbour knows. ``waiting`` devices would turn missing at once and wait for a person, who allowed
    ``confirmed``.
    """

    direction: str
    state: str
    position: int
    head: int | None
    pending: int | None
    equal: bool | None
    failures: int
    last_error: str
    last_success_at: datetime | None
    next_try_at: datetime | None
    full_done_at: datetime | None
    waiting: int
    confirmed: int


class OwnerCount(Answer, frozen=True):
    """One owner's devices as we hold them."""

    owner: str
    name: str
    count: int
    digest: str


class SyncRun(Answer, frozen=True):
    """The last synchronisation that a person asked for and that we ran ourselves."""

    kind: SyncKind
    started_at: datetime
    ended_at: datetime | None = None
    error: str = ""


class LinkDetail(Answer, frozen=True):
    """The exchange with one neighbour. ``canAsk``: we know its REST address and hold a key."""

    platform_id: str
    name: str
    relation: str
    online: bool
    signalling_error: str
    can_ask: bool
    paused: Pause | None
    directions: list[Direction]
    owners: list[OwnerCount]
    sync: SyncRun | None


class ShardPair(Answer, frozen=True):
    """One administrative division that both do not hold alike."""

    civil_code: str
    ours: int
    theirs: int


class OwnerPair(Answer, frozen=True):
    """One owner's archives, here and there. ``shards`` lists what differs."""

    owner: str
    name: str
    ours: int
    theirs: int
    equal: bool
    our_digest: str
    their_digest: str
    shards: list[ShardPair]


class Comparison(Answer, frozen=True):
    """Both sides asked now. ``lag``: changes from the acknowledged position to the sender's head."""

    at: datetime
    equal: bool
    lag: int
    owners: list[OwnerPair]


class Missing(Answer, frozen=True):
    """A device in quarantine: kept, with its grants, until its owner tells of it again."""

    device_id: str
    name: str
    owner: str
    civil_code: str
    missing_since: datetime | None


class Done(Answer, frozen=True):
    """It was taken up; the detail shows how it goes."""

    accepted: bool = True
