"""A full in pages and changes since a version, for whoever pulls.

Implements: DB31DSJ/Z 001-2024 6.2.2
Implements: DB31DSJ/Z 001-2024 6.3.2
A full is proved and not frozen (docs/decisions/0005): its pages are read from the living table, and the roots
behind the last change prove what the puller then holds. Nothing is kept for it here, so a full that broke off
goes on by its cursor for as long as the changes since it began are kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import Forbidden, Gone, InvalidRequest
from tongshi.exchange import pull_store, rows
from tongshi.exchange import store as memory
from tongshi.exchange.model import MAX_BATCH_BYTES, OwnerRoot
from tongshi.exchange.news import Leaving, News
from tongshi.exchange.outbox import KINDS
from tongshi.exchange.pull_model import MAX_SHARDS_TOLD, ChangesAnswer, DeviceChange, FullFacts, OwnerShard
from tongshi.exchange.reach import Reach, is_in
from tongshi.exchange.service import Exchange
from tongshi.resources.devices import store as devices
from tongshi.sharing.model import Scope, Subject
from tongshi.storage import changes
from tongshi.storage.engine import Database

# From a row of ``devices.store.wire_rows`` to what travels of it.
Encode = Callable[[Sequence[Any]], bytes]
_DEVICE_ID, _CIVIL_CODE = 0, rows.NAMES.index("civil_code")
_OWNER, _MISSING_SINCE = -6, -2
assert devices.WIRE_COLUMNS[_OWNER] == "owner_platform"
assert devices.WIRE_COLUMNS[_MISSING_SINCE] == "missing_since"


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a full goes on; bound to its feed and to the division it was narrowed to."""

    feed: Annotated[str, Meta(max_length=64)]
    as_of_version: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    after_key: Annotated[str, Meta(max_length=64)]
    civil_code: Annotated[str, Meta(max_length=8)]

    @property
    def snapshot_id(self) -> str:
        return f"{self.feed}-{self.as_of_version}"

    def write(self) -> str:
        """As the caller is given it."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Raises InvalidRequest for what we never wrote."""
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=cls)
        except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError) as error:
            raise InvalidRequest("cursor 无效，请从第一页重新开始", field="cursor") from error


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page of a full: ``cursor`` None for the first."""

    page_size: int
    cursor: Cursor | None
    civil_code: str
    with_shards: bool


class Pulls:
    """What neighbours and granted callers may fetch here."""

    def __init__(self, db: Database, clock: Clock, exchange: Exchange) -> None:
        self._db = db
        self._clock = clock
        self._exchange = exchange
        self.news = News(self._head)

    async def reach(self, subject: Subject, scope: Scope) -> Reach:
        """What a caller may pull: an upper platform all we tell it, anybody else what was granted.

        Raises:
            Forbidden: 40304, nothing was granted, or single devices, of which no digest can be told.
        """
        if scope.is_everything or await self._exchange.is_upper(subject):
            return Reach(subject.platform_id)
        if scope.device_ids or not (scope.owners or scope.civil_codes):
            raise Forbidden("全量和增量接口按平台或行政区划授权，按设备授权的请用 E.1-7", code=40304)
        return Reach(subject.platform_id, scope.owners, scope.civil_codes)

    async def full(self, reach: Reach, asked: Asked, encode: Encode) -> tuple[FullFacts, list[bytes]]:
        """One page of a full.

        Raises:
            Gone: 41001, the cursor is of another feed, or the changes since it began are no longer kept.
        """
        feed = await self._exchange.feed()
        return await self._db.read(_full, reach, feed, asked, encode)

    async def changes(
        self, reach: Reach, caller: str, since: int, limit: int, encode: Encode, wait_s: float, left: Leaving
    ) -> ChangesAnswer:
        """Changes after ``since``; with ``wait_s`` not before there is one, time is over or the caller left.

        Raises:
            Gone: 41001, ``since`` was compacted away or lies past the feed's end: do a full.
            LimitExceeded: 42901, too many wait.
        """
        feed = await self._exchange.feed()
        answer = await self._db.read(_changes, reach, feed, since, since, limit, encode)
        if answer.changes or answer.has_more or not wait_s:
            return answer
        until = self._clock.now() + wait_s
        with self.news.place(caller):
            while await self.news.past(answer.to_version, until - self._clock.now(), left):
                answer = await self._db.read(_changes, reach, feed, since, answer.to_version, limit, encode)
                if answer.changes or answer.has_more:
                    break
        return answer

    async def _head(self) -> int:
        return await self._db.read(memory.head)


def _full(
    conn: Connection, reach: Reach, feed: str, asked: Asked, encode: Encode
) -> tuple[FullFacts, list[bytes]]:
    head, floor = pull_store.head_and_floor(conn)
    at = asked.cursor or Cursor(feed, head, "", asked.civil_code)
    if at.feed != feed or not floor <= at.as_of_version <= head:
        raise Gone("变更序列已更换或已压缩，请从第一页重新开始")
    narrowed = reach.narrowed([at.civil_code] if at.civil_code else [])
    found = pull_store.page(conn, narrowed, at.after_key, asked.page_size)
    told: list[bytes] = []
    size = 0
    for row in found:
        record = encode(row)
        size += len(record)
        if size > MAX_BATCH_BYTES and told:
            break
        told.append(record)
    is_last = len(told) == len(found) < asked.page_size
    last_key = found[len(told) - 1][_DEVICE_ID] if told else at.after_key
    roots, shards = _proof(conn, narrowed)
    is_shown = asked.with_shards and len(shards) <= MAX_SHARDS_TOLD
    going_on = Cursor(feed, at.as_of_version, last_key, at.civil_code)
    return FullFacts(
        snapshot_id=at.snapshot_id,
        feed=feed,
        as_of_version=at.as_of_version,
        total=sum(root.count for root in roots),
        roots=roots,
        root_digest=combined(roots),
        last_key=last_key,
        complete=is_last,
        next_cursor=None if is_last else going_on.write(),
        shard_digests=shards if is_shown else None,
    ), told


def _changes(
    conn: Connection, reach: Reach, feed: str, since: int, position: int, limit: int, encode: Encode
) -> ChangesAnswer:
    """Changes after ``position``; ``since`` is what the caller holds, and what the answer counts from."""
    noted = changes.read_after(conn, position, limit, KINDS)
    head = changes.head(conn)
    if position > head and not noted:
        raise Gone("sinceVersion 超出变更序列，请执行全量同步")
    found = devices.wire_rows_of(conn, list(dict.fromkeys(change.key for change in noted)))
    first = {change.key for change in noted if change.op == "put" and change.revision == 1}
    hidden = pull_store.hidden_from(conn, reach.peer)
    told: list[DeviceChange] = []
    reached, size = position, 0
    for change in noted:
        row = found.pop(change.key, None)
        if row is not None and row[_OWNER] not in hidden:
            is_new = since == 0 or change.key in first
            told_of = _change(reach, row, change.seq, encode, is_new=is_new)
            if told_of is not None:
                size += 0 if told_of.after is msgspec.UNSET else len(memoryview(told_of.after))
                if size > MAX_BATCH_BYTES and told:
                    break
                told.append(told_of)
        reached = change.seq
    is_current = len(noted) < limit and (not noted or reached == noted[-1].seq)
    reached = max(reached, head) if is_current else reached
    return ChangesAnswer(
        changes=told,
        feed=feed,
        to_version=reached,
        has_more=not is_current,
        remaining=0 if is_current else memory.count_changes_after(conn, reached, KINDS),
        range_digest=range_digest(since, reached, told),
        roots=_proof(conn, reach)[0] if is_current else None,
    )


def _change(
    reach: Reach, row: Sequence[Any], version: int, encode: Encode, *, is_new: bool
) -> DeviceChange | None:
    """What is told of a changed row; None when it lies outside what was granted, whatever it was before."""
    owner, device_id, code = row[_OWNER], row[_DEVICE_ID], row[_CIVIL_CODE]
    if not is_in(code, reach.granted(owner)):
        return None
    is_outside = not is_in(code, reach.within(owner))
    if is_outside and is_new:
        return None
    if row[_MISSING_SINCE] is not None or is_outside:
        return DeviceChange("delete", device_id, owner, version)
    op: Literal["add", "update"] = "add" if is_new else "update"
    return DeviceChange(op, device_id, owner, version, msgspec.Raw(encode(tuple(row))))


def _proof(conn: Connection, reach: Reach) -> tuple[list[OwnerRoot], list[OwnerShard]]:
    """Count and digest of every owner within what is told, and the leaves they are made of."""
    roots: list[OwnerRoot] = []
    shards: list[OwnerShard] = []
    for owner in pull_store.owners(conn, reach):
        leaves = pull_store.leaves(conn, owner, reach.within(owner))
        root = hashlib.new("sm3")
        for leaf in leaves:
            root.update(f"{leaf.civil_code}\0{leaf.count}\0".encode() + leaf.digest)
            shards.append(OwnerShard(owner, leaf.civil_code, leaf.count, leaf.digest.hex()))
        if leaves:
            roots.append(OwnerRoot(owner, sum(leaf.count for leaf in leaves), root.hexdigest()))
    return roots, shards


def combined(roots: Sequence[OwnerRoot]) -> str:
    """One digest over the roots in order of owner."""
    text = "".join(f"{root.owner}\0{root.count}\0{root.digest}\n" for root in roots)
    return hashlib.new("sm3", text.encode()).hexdigest()


def range_digest(since: int, to: int, told: Sequence[DeviceChange]) -> str:
    """See ``ChangesAnswer``."""
    sm3 = hashlib.new("sm3", f"{since}\n{to}\n".encode())
    for change in told:
        sm3.update(f"{change.version}\0{change.op}\0{change.device_id}\n".encode())
    return sm3.hexdigest()
