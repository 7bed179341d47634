"""Snapshots over REST: our own words; none of these operations is a row of Annex E."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from tongshi.resources.snapshots.model import (
    ISSUE_TEXTS,
    MAX_INTERVAL_S,
    MAX_PICTURES,
    Filters,
    Order,
    Picture,
    State,
)
from tongshi.web.operations import Answer, Request

MAX_PAGED_ROWS = 10_000

_Time = Annotated[datetime, Meta(tz=True)]


class SnapshotRequest(Request, frozen=True):
    """How many pictures, how many seconds apart, and what for."""

    count: Annotated[int, Meta(ge=1, le=MAX_PICTURES)] = 1
    interval_sec: Annotated[int, Meta(ge=1, le=MAX_INTERVAL_S)] = 1
    purpose: Annotated[str, Meta(max_length=128)] = ""


class CaptureRequest(Request, frozen=True):
    """Of which stream, and what for."""

    stream_type: Literal[0, 1, 2] = 0
    purpose: Annotated[str, Meta(max_length=128)] = ""


class SnapshotQuery(Request, frozen=True):
    """Which orders; all filters must hold. The times are those of ordering; ``until`` is exclusive."""

    device_id: Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")] = ""
    state: State | None = None
    since: _Time | None = None
    until: _Time | None = None
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=200)] = 50

    @property
    def filters(self) -> Filters:
        return Filters(self.device_id, self.state, self.since, self.until)


class SnapshotIssue(Answer, frozen=True):
    """What is wrong with a picture that was kept all the same."""

    code: str
    message: str


class SnapshotPicture(Answer, frozen=True):
    """One picture. ``takenAt`` is the device's word; ``told`` whether its notification names the picture."""

    id: str
    number: int
    file_name: str
    size_bytes: int
    width: int
    height: int
    sha256: str
    taken_at: datetime | None
    received_at: datetime
    is_told: bool = field(name="told")
    issues: list[SnapshotIssue]


class SnapshotOrder(Answer, frozen=True):
    """One order: how many pictures were asked for, told of and received. ``toldCount`` null: not told yet.

    ``removedCount`` pictures were received and are gone by age or for want of room.
    """

    id: str
    device_id: str = field(name="DeviceID")
    name: str
    origin: str
    state: State
    reason: str
    count: int
    interval_sec: int
    told_count: int | None
    received_count: int
    removed_count: int
    ordered_by: str
    purpose: str
    ordered_at: datetime
    deadline_at: datetime
    finished_at: datetime | None
    pictures: list[SnapshotPicture]


def order(made: Order, pictures: Sequence[Picture] = ()) -> SnapshotOrder:
    return SnapshotOrder(
        id=made.id,
        device_id=made.device_id,
        name=made.place.name,
        origin=made.origin.value,
        state=made.state,
        reason=made.reason,
        count=made.count,
        interval_sec=made.interval_s,
        told_count=None if made.told is None else len(made.told),
        received_count=len(pictures) + made.removed,
        removed_count=made.removed,
        ordered_by=made.by.name,
        purpose=made.purpose,
        ordered_at=made.ordered_at,
        deadline_at=made.deadline_at,
        finished_at=made.finished_at,
        pictures=[picture(one) for one in pictures],
    )


def picture(one: Picture) -> SnapshotPicture:
    return SnapshotPicture(
        one.id,
        one.number,
        one.file_name,
        one.size_bytes,
        one.width,
        one.height,
        one.sha256,
        one.taken_at,
        one.received_at,
        one.is_told,
        [SnapshotIssue(issue.value, ISSUE_TEXTS[issue]) for issue in one.issues],
    )
