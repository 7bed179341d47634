"""What a simulated recorder has recorded, what it answers when asked, and the picture of a recorded moment.

Implements: GB/T 28181-2022 9.7
A recorded frame says its own time: the counter of its block code is the second since 1970 modulo 65536, so
that whoever decodes it knows which second is shown. Frames are drawn and coded when they are sent, from the
scenery of the live picture; that makes a day of recordings cost nothing until somebody looks at it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from tongshi.protocols.gb28181.records import RecordFile, RecordInfoQuery, RecordType

COUNTER_PERIOD_S = 65_536
FILE_LENGTH = timedelta(minutes=30)
Kind = Literal["time", "alarm", "manual"]


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stretch that was recorded; the times carry their zone."""

    start: datetime
    end: datetime
    kind: Kind = "time"


def made_up(until: datetime, hours: float, rng: random.Random) -> tuple[Recorded, ...]:
    """A believable recording of the last hours: files of half an hour, every third followed by a gap.

    Every fifth is an alarm recording of a few minutes. The same source of chance makes the same recordings.
    """
    end_at = until.replace(microsecond=0)
    at = end_at - timedelta(hours=hours)
    made: list[Recorded] = []
    while at < end_at:
        number = len(made) + 1
        is_alarm = number % 5 == 0
        length = timedelta(minutes=rng.randrange(3, 9)) if is_alarm else FILE_LENGTH
        made.append(Recorded(at, min(at + length, end_at), "alarm" if is_alarm else "time"))
        at += length
        if is_alarm or number % 3 == 0:
            at += timedelta(minutes=rng.randrange(5, 25))
    return tuple(made)


def second_of(counter: int, near: datetime) -> datetime:
    """The recorded second that a frame's counter names: the one nearest to ``near``."""
    base = int(near.timestamp())
    offset = (counter - base) % COUNTER_PERIOD_S
    if offset > COUNTER_PERIOD_S // 2:
        offset -= COUNTER_PERIOD_S
    return datetime.fromtimestamp(base + offset, UTC)


def matching(recorded: Iterable[Recorded], query: RecordInfoQuery) -> list[Recorded]:
    """What a query asks for: overlapping its window and of its kind, in order of time."""
    wanted = query.kind
    return sorted(
        (
            one
            for one in recorded
            if one.start < query.end
            and one.end > query.start
            and (wanted is RecordType.ALL or one.kind == wanted.value)
        ),
        key=lambda one: one.start,
    )


def files(
    recorded: Sequence[Recorded], *, channel_id: str, name: str, location: str, rate_kbps: int
) -> list[RecordFile]:
    """As they stand in the answer."""
    return [
        RecordFile(
            device_id=channel_id,
            name=name,
            file_path=f"/{channel_id}/{one.start.astimezone(UTC):%Y%m%d/%H%M%S}.ps",
            start=one.start,
            end=one.end,
            kind=RecordType(one.kind),
            recorder_id=location,
            file_size=size_bytes(one.end - one.start, rate_kbps),
            location=location,
            stream_number=0,
        )
        for one in recorded
    ]


def size_bytes(length: timedelta, rate_kbps: int) -> int:
    """About what a stretch takes up at the aimed rate."""
    return max(1, int(length.total_seconds() * rate_kbps * 125))


def within(recorded: Iterable[Recorded], start: datetime, end: datetime) -> list[tuple[float, float]]:
    """The stretches inside a window, as seconds from its start, joined where they touch."""
    spans: list[tuple[float, float]] = []
    for one in sorted(recorded, key=lambda each: each.start):
        begin, stop = max(one.start, start), min(one.end, end)
        if begin >= stop:
            continue
        first, last = (begin - start).total_seconds(), (stop - start).total_seconds()
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    return spans
