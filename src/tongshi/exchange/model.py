"""What two platforms say to each other about archives, and how each remembers where they stand.

Implements: DB31DSJ/Z 001-2024 6.2.2
Implements: DB31DSJ/Z 001-2024 6.3.2

A *feed* is one life of a sender's change feed; its *positions* are the numbers of that feed. A sender pushes
batches that lead from one position to the next; the receiver applies a batch and its new position in one
transaction. The first contact, a new feed, or a position that was compacted away asks for a *full*: pages in
key order, then the changes since it began, then a proof (count and digest of each owner). Only a full that is
proved equal marks as missing what was not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tongshi.web.operations import Answer, Request

MAX_BATCH_ITEMS = 5_000
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Owners that one neighbour may speak for: itself and what is below it.
MAX_OWNERS = 1_000
MAX_REJECTIONS_SHOWN = 100
# The share of an archive that may turn missing at once; more waits for a person. Of a handful a share says
# nothing, so up to the floor it does not count.
VANISH_GUARD = 0.05
VANISH_FLOOR = 3

Position = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Code = Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
Key = Annotated[str, Meta(min_length=1, max_length=64)]
Feed = Annotated[str, Meta(min_length=1, max_length=64)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Form = Literal["row", "record", "full"]
Count = Annotated[int, Meta(ge=0, le=100_000_000)]


class PeerState(StrEnum):
    """Where an exchange with one neighbour stands."""

    NEW = "new"
    FULL = "full"
    LIVE = "live"
    HELD = "held"


class Equality(StrEnum):
    """Whether both hold the same, as far as it was proved."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Peer:
    """What is remembered of one neighbour in one direction.

    Attributes:
        feed: the life of the feed that ``position`` counts in.
        full_key: the last key acknowledged while a full runs; None when none runs.
        full_from: position at which the running full began.
        snapshot_id: the running full's name at the receiver.
        confirmed: how many devices a person allowed to vanish at the next proof.
        waiting: how many wait for such a word.
    """

    platform_id: str
    direction: str
    position: int = 0
    feed: str = ""
    state: PeerState = PeerState.NEW
    equality: Equality = Equality.UNKNOWN
    lag: int = 0
    failures: int = 0
    last_error: str = ""
    last_success_at: datetime | None = None
    next_try_at: datetime | None = None
    full_key: str | None = None
    full_from: int = 0
    snapshot_id: str = ""
    confirmed: int = 0
    waiting: int = 0
    differences: int = 0
    full_done_at: datetime | None = None


class OwnerRoot(Request, frozen=True):
    """Count and digest (hexadecimal SM3) of one owner's archives."""

    owner: Code
    count: Count
    digest: Digest


class GoneItem(Request, frozen=True):
    """A device that its owner's platform marked missing."""

    owner: Code
    device_id: Key


class Push(Request, frozen=True):
    """One batch. ``items`` are decoded one by one, so that a bad one is named and the others get in.

    ``remaining`` changes wait behind it; ``roots`` come with the batch behind which none waits.
    """

    batch_id: Annotated[str, Meta(min_length=1, max_length=64)]
    feed: Feed
    from_position: Position
    to_position: Position
    items: Annotated[list[msgspec.Raw], Meta(max_length=MAX_BATCH_ITEMS)]
    gone: Annotated[tuple[GoneItem, ...], Meta(max_length=MAX_BATCH_ITEMS)] = ()
    remaining: Count = 0
    roots: Annotated[list[OwnerRoot], Meta(max_length=MAX_OWNERS)] | None = None
    form: Form = "record"
    dry_run: bool = False


class Rejection(Answer, frozen=True):
    """One item that was not taken, and why."""

    index: int
    device_id: str
    code: int
    message: str
    field: str | None = None


class PushResult(Answer, frozen=True):
    """What became of a batch. ``position`` is the receiver's after it; ``equal`` when roots were compared."""

    position: int
    is_duplicate: bool
    inserted: int
    updated: int
    unchanged: int
    stale: int
    missing: int
    rejected_count: int
    rejected: list[Rejection]
    equal: bool | None = None
    held: int = 0


class FullBegin(Request, frozen=True):
    """Open a full at a position, or go on with the one that broke off."""

    feed: Feed
    position: Position
    is_restart: bool = False


class FullOpened(Answer, frozen=True):
    """Send pages after ``afterKey``; ``position`` is where the full began, older when it goes on."""

    snapshot_id: str
    position: int
    after_key: str


class FullPage(Request, frozen=True):
    """Every archive with ``afterKey < DeviceID <= lastKey``, in order; on the last page up to the end."""

    snapshot_id: Annotated[str, Meta(max_length=64)]
    after_key: Annotated[str, Meta(max_length=64)]
    last_key: Annotated[str, Meta(max_length=64)]
    items: Annotated[list[msgspec.Raw], Meta(max_length=MAX_BATCH_ITEMS)]
    is_last: bool = False
    form: Form = "record"


class FullPageResult(Answer, frozen=True):
    """What became of a page; ``lastKey`` is what the receiver acknowledges."""

    last_key: str
    is_duplicate: bool
    rejected_count: int
    rejected: list[Rejection]


class FullComplete(Request, frozen=True):
    """The proof: every owner that was sent, as it stood at ``position``."""

    snapshot_id: Annotated[str, Meta(max_length=64)]
    position: Position
    roots: Annotated[list[OwnerRoot], Meta(max_length=MAX_OWNERS)]


class FullResult(Answer, frozen=True):
    """``equal``: what was absent is now missing. ``held``: so many wait for a person, none was marked."""

    equal: bool
    missing: int
    held: int


class DigestAnswer(Answer, frozen=True):
    """Roots of owners, and the leaves of one owner when asked."""

    roots: list[OwnerRoot]
    shards: list[ShardRoot]
    position: int


class ShardRoot(Answer, frozen=True):
    """One leaf of an owner's tree: an administrative division of six digits."""

    civil_code: str
    count: int
    digest: str
