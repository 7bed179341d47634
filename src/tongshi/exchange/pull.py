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
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import Forbidden, Gone, InvalidRequest
from tongshi.exchange import pull_store, rows
from tongshi.exchange import store as memory
from tongshi.exchange.former import Former, formers
from tongshi.exchange.model import MAX_BATCH_BYTES, OwnerRoot
from tongshi.exchange.news import Leaving, News
from tongshi.exchange.outbox import KINDS
from tongshi.exchange.pull_model import MAX_SHARDS_TOLD, ChangesAnswer, DeviceChange, FullFacts, OwnerShard
from tongshi.exchange.reach import Reach
from tongshi.exchange.service import Exchange
from tongshi.resources.devices import reading_store
from tongshi.sharing.model import Scope, Subject, Target
from tongshi.storage import changes
from tongshi.storage.changes import Change
from tongshi.storage.engine import Database

# From a row of ``devices.reading_store.wire_rows`` to what travels of it.
Encode = Callable[[Sequence[Any]], bytes]
_DEVICE_ID, _CIVIL_CODE = 0, rows.NAMES.index("civil_code")
_OWNER, _MISSING_SINCE = -6, -2
assert reading_store.WIRE_COLUMNS[_OWNER] == "owner_platform"
assert reading_store.WIRE_COLUMNS[_MISSING_SINCE] == "missing_since"


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


@dataclass(frozen=True, slots=True)
class Since:
    """Which changes are asked for; former states are told of devices in ``history``."""

    position: int
    limit: int
    encode: Encode
    history: Scope = field(default_factory=Scope)


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
            Forbidden: 40304, nothing was granted.
        """
        if scope.is_everything or await self._exchange.is_upper(subject):
            return Reach(subject.platform_id)
        if not (scope.owners or scope.civil_codes or scope.device_ids):
            raise Forbidden("未授予任何设备的档案", code=40304)
        return Reach(subject.platform_id, scope.owners, scope.civil_codes, scope.device_ids)

    async def full(self, reach: Reach, asked: Asked, encode: Encode) -> tuple[FullFacts, list[bytes]]:
        """One page of a full.

        Raises:
            Gone: 41001, the cursor is of another feed, or the changes since it began are no longer kept.
        """
        feed = await self._exchange.feed()
        return await self._db.read(_full, reach, feed, asked, encode)

    async def changes(
        self, reach: Reach, caller: str, asked: Since, wait_s: float, left: Leaving
    ) -> ChangesAnswer:
        """Changes after a position; with ``wait_s`` not before there is one, time is over or the caller left.

        Raises:
            Gone: 41001, the position was compacted away or lies past the feed's end: do a full.
            LimitExceeded: 42901, too many wait.
        """
        feed = await self._exchange.feed()
        answer = await self._db.read(_changes, reach, feed, asked, asked.position)
        if answer.changes or answer.has_more or not wait_s:
            return answer
        until = self._clock.now() + wait_s
        with self.news.place(caller):
            while await self.news.past(answer.to_version, until - self._clock.now(), left):
                answer = await self._db.read(_changes, reach, feed, asked, answer.to_version)
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
    single = pull_store.named(conn, narrowed)
    found = pull_store.page(conn, narrowed, single, at.after_key, asked.page_size)
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
    roots, shards = _proof(conn, narrowed, single)
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


def _changes(conn: Connection, reach: Reach, feed: str, asked: Since, position: int) -> ChangesAnswer:
    """Changes after ``position``; the asked one is what the caller holds, and what the answer counts from."""
    noted = changes.read_after(conn, position, asked.limit, KINDS)
    head = changes.head(conn)
    if position > head and not noted:
        raise Gone("sinceVersion 超出变更序列，请执行全量同步")
    told, reached = _told(conn, reach, asked, noted, position)
    is_current = len(noted) < asked.limit and (not noted or reached == noted[-1].seq)
    reached = max(reached, head) if is_current else reached
    return ChangesAnswer(
        changes=told,
        feed=feed,
        to_version=reached,
        has_more=not is_current,
        remaining=0 if is_current else memory.count_changes_after(conn, reached, KINDS),
        range_digest=range_digest(asked.position, reached, told),
        roots=_proof(conn, reach, pull_store.named(conn, reach))[0] if is_current else None,
    )


def _told(
    conn: Connection, reach: Reach, asked: Since, noted: Sequence[Change], position: int
) -> tuple[list[DeviceChange], int]:
    """What is told of changes, each device once, and the position that it reaches."""
    rows_now = reading_store.wire_rows_of(conn, list(dict.fromkeys(change.key for change in noted)))
    new = {change.key for change in noted if change.op == "put" and change.revision == 1}
    # Who begins at nothing held nothing before.
    known = formers(conn, noted, rows_now) if asked.position else {}
    hidden = pull_store.hidden_from(conn, reach.peer)
    told: list[DeviceChange] = []
    reached, size = position, 0
    for change in noted:
        row = rows_now.pop(change.key, None)
        if row is not None and row[_OWNER] not in hidden:
            is_new = not asked.position or change.key in new
            told_of = _change(reach, asked, row, change.seq, known.get(change.key), is_new=is_new)
            if told_of is not None:
                size += sum(
                    len(memoryview(one)) for one in (told_of.before, told_of.after) if one is not UNSET
                )
                if size > MAX_BATCH_BYTES and told:
                    break
                told.append(told_of)
        reached = change.seq
    return told, reached


def _change(
    reach: Reach, asked: Since, row: Sequence[Any], version: int, former: Former | None, *, is_new: bool
) -> DeviceChange | None:
    """What is told of a changed row; None when it lies outside what was granted, whatever it was before."""
    place = row[_DEVICE_ID], row[_OWNER], row[_CIVIL_CODE]
    if not reach.is_granted(*place):
        return None
    before: msgspec.Raw | UnsetType = UNSET
    changed: list[str] | UnsetType = UNSET
    if former is not None and not is_new:
        was = former.row
        if was is None or not reach.is_told(was[_DEVICE_ID], was[_OWNER], was[_CIVIL_CODE]):
            is_new = True
        else:
            changed = former.changed
            if asked.history.holds(Target(was[_DEVICE_ID], was[_CIVIL_CODE], was[_OWNER])):
                before = msgspec.Raw(asked.encode(was))
    is_outside = not reach.is_told(*place)
    if is_outside and is_new:
        return None
    if row[_MISSING_SINCE] is not None or is_outside:
        return DeviceChange("delete", *place[:2], version, before=before)
    op: Literal["add", "update"] = "add" if is_new else "update"
    after = msgspec.Raw(asked.encode(tuple(row)))
    return DeviceChange(op, *place[:2], version, after, before, changed)


def _proof(
    conn: Connection, reach: Reach, single: Sequence[pull_store.Named]
) -> tuple[list[OwnerRoot], list[OwnerShard]]:
    """Count and digest of every owner within what is told, and the leaves they are made of."""
    roots: list[OwnerRoot] = []
    shards: list[OwnerShard] = []
    for owner in pull_store.owners(conn, reach, single):
        leaves = pull_store.leaves(conn, owner, reach.within(owner), single)
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
