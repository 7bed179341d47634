"""What rows E.1-3 and E.1-4 are asked and what they answer.

Implements: DB31DSJ/Z 001-2024 E.1-3
Implements: DB31DSJ/Z 001-2024 E.1-4
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tongshi.exchange.model import MAX_BATCH_ITEMS, Code, OwnerRoot, Position
from tongshi.web.operations import Answer, Request

MAX_WAIT_S = 30
MAX_DIVISIONS = 100
# A first page tells so many leaves; who has more asks /exchange/v1/digest owner by owner.
MAX_SHARDS_TOLD = 5_000

Division = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})\Z")]

_Name = Annotated[str, Meta(min_length=1, max_length=64)]


class PageForm(StrEnum):
    """In which form a page of a full comes."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


class FullScope(Request, frozen=True):
    """Narrows a full to one administrative division; empty, to all that the caller may pull."""

    civil_code: Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z")] = ""


class PullFull(Request, frozen=True, omit_defaults=True):
    """E.1-3: the first page without a cursor, later ones with the cursor of the page before.

    ``compress`` asks for gzip (or refuses it) whatever Accept-Encoding says. ``withShards`` tells the leaves
    of the digest tree: without it they come with the first page only.
    """

    page_size: Annotated[int, Meta(ge=1, le=MAX_BATCH_ITEMS)] = 1_000
    cursor: Annotated[str, Meta(max_length=512)] = ""
    snapshot_id: Annotated[str, Meta(max_length=128)] = ""
    scope: FullScope = FullScope()
    format: PageForm = PageForm.JSON
    compress: bool | None = None
    with_shards: bool | None = None


class OwnerShard(Answer, frozen=True):
    """One leaf of one owner's tree: an administrative division of six digits."""

    owner: str
    civil_code: str
    count: int
    digest: str


class FullFacts(Answer, frozen=True, kw_only=True):
    """What a page of a full says beside its rows.

    Rows come in the order of DeviceID and are as new as ``asOfVersion`` or newer: after the page that says
    ``complete``, ask E.1-4 since ``asOfVersion`` of the first page; the roots it ends with are what one then
    holds. What was not in it may be taken for gone only if they are equal.
    """

    snapshot_id: str
    feed: str
    as_of_version: int
    total: int
    roots: list[OwnerRoot]
    root_digest: str
    last_key: str
    complete: bool
    next_cursor: str | None = None
    shard_digests: list[OwnerShard] | None = None


class FullAnswer(FullFacts, frozen=True, kw_only=True):
    """A page of a full."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")


class PullChanges(Request, frozen=True, omit_defaults=True):
    """E.1-4: what changed since a version; ``waitSec`` waits that long for the first change.

    ``civilCodes`` narrows; a device that changed and lies outside is told as deleted, unless the history says
    that it was outside before. ``fields`` are names of DeviceFull's outer members; DeviceID, sourcePlatform
    and version come with them always.
    """

    since_version: Position
    limit: Annotated[int, Meta(ge=1, le=MAX_BATCH_ITEMS)] = 1_000
    wait_sec: Annotated[int, Meta(ge=0, le=MAX_WAIT_S)] = 0
    civil_codes: Annotated[tuple[Division, ...], Meta(max_length=MAX_DIVISIONS)] = ()
    fields: Annotated[tuple[_Name, ...], Meta(max_length=100)] = ()


class DeviceChange(Answer, frozen=True, omit_defaults=True):
    """The latest state of one device, or that it is gone; ``version`` is the change's place in the feed.

    ``add`` is said where it is known that the device is new to whoever holds everything up to
    ``sinceVersion``; both ``add`` and ``update`` are applied as "insert or overwrite".

    ``changedFields`` names what differs from the record before the change (``Name``, ``Info.PTZType``,
    ``ext.SFKK``); ``before`` is that record, without its Status and time, for who holds ``archive:history``
    on it. Both are absent where the history does not reach, and of a record that the caller was not to see.
    """

    op: Literal["add", "update", "delete"]
    device_id: str = msgspec.field(name="DeviceID")
    source_platform: Code
    version: int = 0
    after: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    before: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    changed_fields: list[str] | msgspec.UnsetType = msgspec.UNSET


class ChangesAnswer(Answer, frozen=True):
    """Changes in (sinceVersion, toVersion]; ``roots`` when nothing is left behind them.

    ``rangeDigest`` is the SM3 over ``sinceVersion LF toVersion LF`` and, for each change in order, ``version
    NUL op NUL DeviceID LF``: a list that lost, doubled or swapped a change on its way has another.
    """

    changes: list[DeviceChange]
    feed: str
    to_version: int
    has_more: bool
    remaining: int
    range_digest: str = ""
    roots: list[OwnerRoot] | None = None
