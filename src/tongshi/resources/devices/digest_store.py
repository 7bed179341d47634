"""The digest tree of device archives: a leaf for each owner and division, its digest the sum of its rows'.

Two platforms compare roots first, then leaves, then the rows of the leaves that differ.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from sqlalchemy import ColumnElement, Connection, and_, func, select

from tongshi.resources.devices.model import FlatArchive, Shard
from tongshi.storage.bulk import among, bulk_upsert, in_key_order
from tongshi.storage.schema import device_archive, device_shard

_MODULUS = 1 << 256
_a = device_archive.c


def owners(conn: Connection) -> dict[str, int]:
    """Owners of present devices with their counts, from the digest tree."""
    s = device_shard.c
    rows = conn.execute(select(s.owner_platform, func.sum(s.row_count)).group_by(s.owner_platform))
    return {owner: int(count) for owner, count in rows if count}


def root_digest(conn: Connection, owner: str) -> tuple[int, bytes]:
    """Count and digest of an owner's present devices: SM3 over its shards in order."""
    root = hashlib.new("sm3")
    count = 0
    for shard in shard_digests(conn, owner):
        root.update(f"{shard.civil_code}\0{shard.count}\0".encode() + shard.digest)
        count += shard.count
    return count, root.digest()


def shard_digests(conn: Connection, owner: str) -> list[Shard]:
    """Leaves of an owner's digest tree in order of civil code (6 digits; "" for devices without one)."""
    s = device_shard.c
    rows = conn.execute(
        select(s.shard, s.row_count, s.digest)
        .where(s.owner_platform == owner, s.row_count > 0)
        .order_by(s.shard)
    )
    return [Shard(*row) for row in rows]


def shard_rows(
    conn: Connection, owner: str, shard: str, after_key: str, limit: int, up_to: str = ""
) -> list[tuple[str, bytes]]:
    """``(device id, digest)`` below one leaf, to ``up_to`` if given, to find which rows differ."""
    in_key_order(conn)
    statement = select(_a.device_id, _a.digest).where(_in_leaf(owner, shard, after_key, up_to))
    return [(row[0], row[1]) for row in conn.execute(statement.order_by(_a.device_id).limit(limit))]


def shard_count(conn: Connection, owner: str, shard: str, after_key: str, up_to: str = "") -> int:
    """How many rows ``shard_rows`` would give without a limit."""
    statement = select(func.count()).select_from(device_archive)
    return conn.execute(statement.where(_in_leaf(owner, shard, after_key, up_to))).scalar_one()


def combine(digests: Iterable[bytes]) -> bytes:
    """Digest of a shard from its rows' digests, for one who holds the rows and not the tree."""
    return (_sum(digests) % _MODULUS).to_bytes(32, "big")


class TreeChanges:
    """What a batch does to the leaves.

    A sum is no defence against an owner who forges colliding rows; he may write what he likes anyway.
    """

    def __init__(self) -> None:
        self._come: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        self._gone: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)

    def add_all(self, archives: Iterable[FlatArchive]) -> None:
        for archive in archives:
            self._come[archive.owner, archive.shard].append(archive.digest)

    def remove(self, owner: str, shard: str, row_digest: bytes) -> None:
        self._gone[owner, shard].append(row_digest)

    def write(self, conn: Connection) -> None:
        rows = []
        leaves = sorted({*self._come, *self._gone})
        old = self._old(conn, leaves)
        for owner, shard in leaves:
            come, gone = self._come.get((owner, shard), []), self._gone.get((owner, shard), [])
            count, total = len(come) - len(gone), _sum(come) - _sum(gone)
            if (owner, shard) in old:
                old_count, old_digest = old[owner, shard]
                count, total = count + old_count, total + int.from_bytes(old_digest, "big")
            rows.append((owner, shard, count, (total % _MODULUS).to_bytes(32, "big")))
        bulk_upsert(conn, device_shard, ("owner_platform", "shard", "row_count", "digest"), rows)

    @staticmethod
    def _old(conn: Connection, leaves: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, bytes]]:
        """Count and digest of those leaves that are there, with a statement an owner."""
        s = device_shard.c
        old: dict[tuple[str, str], tuple[int, bytes]] = {}
        for owner, ours in groupby(leaves, itemgetter(0)):
            shards = [shard for _, shard in ours]
            statement = select(s.shard, s.row_count, s.digest).where(s.owner_platform == owner)
            for shard, count, total in conn.execute(statement.where(among(conn, s.shard, shards))):
                old[owner, shard] = count, total
        return old


def _in_leaf(owner: str, shard: str, after_key: str, up_to: str) -> ColumnElement[bool]:
    within = _a.device_id > after_key
    if up_to:
        within = and_(within, _a.device_id <= up_to)
    return and_(_a.owner_platform == owner, _a.shard == shard, _a.missing_since.is_(None), within)


def _sum(digests: Iterable[bytes]) -> int:
    return sum([int.from_bytes(value, "big") for value in digests])
