"""Mending a difference with one neighbour: what differs is found leaf by leaf, and only that is told anew.

A full of a million archives for one row that a disk spoiled would be out of all proportion. Only the owner's
side mends: it knows what is true. What cannot be found this way is left to a full.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

import msgspec

from tongshi.exchange import outbox, ranges
from tongshi.exchange.client import Link
from tongshi.exchange.model import DigestAnswer, OwnerRoot, ShardRoot
from tongshi.exchange.outbox import Audience
from tongshi.exchange.ranges import RangesAnswer, RangesQuery
from tongshi.exchange.store import shards
from tongshi.storage.engine import Database

DIGEST_PATH = "/exchange/v1/digest"
RANGES_PATH = "/exchange/v1/digest/ranges"
# Beyond either of these a full is the shorter way.
MAX_DIFFERENCES = 20_000
MAX_CALLS = 500
# Parts of parts: far more than five million rows need.
MAX_DEPTH = 6

# Owner and device id.
Place = tuple[str, str]


class TooDifferent(Exception):
    """More differs than is worth looking for."""


class Repair:
    """Looks for what one neighbour holds otherwise than we told it. Used once."""

    def __init__(self, db: Database, link: Link, audience: Audience) -> None:
        self._db = db
        self._link = link
        self._audience = audience
        self._calls = 0
        self._found: list[Place] = []

    async def find(self) -> list[Place]:
        """What differs, is missing there or is too much there.

        Raises:
            TooDifferent: more than ``MAX_DIFFERENCES``, or more calls than ``MAX_CALLS``.
            NotFound: the neighbour does not know this way.
        """
        ours = await self._db.read(outbox.roots, self._audience)
        theirs = (await self._digest("")).roots
        for owner in _unlike(ours, theirs):
            mine = await self._db.read(shards, owner)
            told = (await self._digest(owner)).shards
            for civil_code in _unlike_leaves(mine, told):
                await self._below(RangesQuery(owner, civil_code))
        return self._found

    async def _below(self, asked: RangesQuery, depth: int = 0) -> None:
        """Compare one range; ask again within those of its parts that differ."""
        told = await self._ranges(asked)
        if told.is_rows:
            mine = await self._db.read(ranges.rows_of, asked)
            theirs = {row.device_id: row.digest for row in told.rows}
            keys = mine.keys() | theirs.keys()
            self._add(asked.owner, [key for key in keys if mine.get(key) != theirs.get(key)])
            return
        if depth >= MAX_DEPTH:
            raise TooDifferent("分段未能收敛")
        ends = [one.last_key for one in told.ranges]
        own = await self._db.read(ranges.counts_of, asked, ends)
        after = asked.after
        for ours, one in zip(own, told.ranges, strict=True):
            if ours != one:
                part = msgspec.structs.replace(asked, after=after, up_to=one.last_key)
                await self._below(part, depth + 1)
            after = one.last_key

    def _add(self, owner: str, keys: Iterable[str]) -> None:
        self._found += ((owner, key) for key in sorted(keys))
        if len(self._found) > MAX_DIFFERENCES:
            raise TooDifferent(f"差异超过 {MAX_DIFFERENCES} 条")

    async def _digest(self, owner: str) -> DigestAnswer:
        self._count_call()
        return await self._link.get(DIGEST_PATH, f"shardsOf={owner}" if owner else "", DigestAnswer)

    async def _ranges(self, asked: RangesQuery) -> RangesAnswer:
        self._count_call()
        query = urlencode(
            {"owner": asked.owner, "civilCode": asked.civil_code, "after": asked.after, "upTo": asked.up_to}
        )
        return await self._link.get(RANGES_PATH, query, RangesAnswer)

    def _count_call(self) -> None:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise TooDifferent(f"核对超过 {MAX_CALLS} 次调用")


def _unlike(ours: Iterable[OwnerRoot], theirs: Iterable[OwnerRoot]) -> list[str]:
    mine = {root.owner: root for root in ours if root.count}
    told = {root.owner: root for root in theirs if root.count}
    return sorted(owner for owner in mine.keys() | told.keys() if mine.get(owner) != told.get(owner))


def _unlike_leaves(ours: Iterable[ShardRoot], theirs: Iterable[ShardRoot]) -> list[str]:
    mine = {leaf.civil_code: leaf for leaf in ours if leaf.count}
    told = {leaf.civil_code: leaf for leaf in theirs if leaf.count}
    return sorted(code for code in mine.keys() | told.keys() if mine.get(code) != told.get(code))
