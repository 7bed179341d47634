"""Finding what differs below one leaf of a digest tree: ranges of keys, each with its count and digest.

Two platforms that hold different archives of one owner know from the leaves in which divisions. Below a leaf
the one that told asks the one that was told for ranges, compares them with its own, and asks again within
those that differ, until rows are named. A single difference among a million costs three or four calls; what
agrees is neither sent nor read twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection

from tongshi.exchange.model import Code
from tongshi.resources.devices import digest_store
from tongshi.web.operations import Answer, Request

# Ranges in one answer, and up to how many rows are named instead.
PARTS = 64
ROWS_NAMED = 256
_ROWS_AT_ONCE = 5_000

_Key = Annotated[str, Meta(max_length=64)]
RowDigest = tuple[str, bytes]


class RangesQuery(Request, frozen=True):
    """Keys with ``after < DeviceID <= upTo`` below one leaf of one owner; an empty ``upTo`` is the end."""

    owner: Code
    civil_code: Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{0,6}\Z")] = ""
    after: _Key = ""
    up_to: _Key = ""


class RangeRoot(Answer, frozen=True):
    """Keys from behind the range before up to ``lastKey``; the last range of an answer ends with ``upTo``."""

    last_key: str
    count: int
    digest: str


class RowRoot(Answer, frozen=True):
    """One device and the SM3 of its canonical row."""

    device_id: str
    digest: str


class RangesAnswer(Answer, frozen=True):
    """Ranges that follow on each other, or (``isRows``) the few rows there are."""

    is_rows: bool
    ranges: list[RangeRoot]
    rows: list[RowRoot]


def ranges_of(conn: Connection, asked: RangesQuery) -> RangesAnswer:
    """What we hold in a range: rows when they are few, else ``PARTS`` ranges of equal counts."""
    count = digest_store.shard_count(conn, asked.owner, asked.civil_code, asked.after, asked.up_to)
    if count <= ROWS_NAMED:
        return RangesAnswer(True, [], [RowRoot(key, digest.hex()) for key, digest in _rows(conn, asked)])
    return RangesAnswer(False, list(_ranges(_rows(conn, asked), -(-count // PARTS), asked.up_to)), [])


def counts_of(conn: Connection, asked: RangesQuery, ends: Sequence[str]) -> list[RangeRoot]:
    """Count and digest of what we hold in ranges that end with ``ends``, the last of which is ``upTo``."""
    found: list[RangeRoot] = []
    held: list[bytes] = []
    rows = _rows(conn, asked)
    row = next(rows, None)
    for end in ends:
        while row is not None and (not end or row[0] <= end):
            held.append(row[1])
            row = next(rows, None)
        found.append(RangeRoot(end, len(held), digest_store.combine(held).hex()))
        held = []
    return found


def rows_of(conn: Connection, asked: RangesQuery) -> dict[str, str]:
    """Every row we hold in a range that is small over there: its digest in hexadecimal, by id."""
    return {key: digest.hex() for key, digest in _rows(conn, asked)}


def _ranges(rows: Iterator[RowDigest], size: int, up_to: str) -> Iterator[RangeRoot]:
    held: list[RowDigest] = []
    for row in rows:
        if len(held) == size:
            yield _root(held, held[-1][0])
            held = []
        held.append(row)
    yield _root(held, up_to)


def _root(held: Sequence[RowDigest], last_key: str) -> RangeRoot:
    return RangeRoot(last_key, len(held), digest_store.combine(digest for _, digest in held).hex())


def _rows(conn: Connection, asked: RangesQuery) -> Iterator[RowDigest]:
    after = asked.after
    while rows := digest_store.shard_rows(
        conn, asked.owner, asked.civil_code, after, _ROWS_AT_ONCE, asked.up_to
    ):
        yield from rows
        after = rows[-1][0]
