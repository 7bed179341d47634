"""What a neighbour tells us: batches and pages applied once, each in one transaction with the new position.

Implements: DB31DSJ/Z 001-2024 6.2.2
A neighbour speaks for itself and for platforms below it. It cannot speak for us, for another neighbour of
ours, or for an owner that we already hear of through somebody else. Nothing is marked missing but by an
owner's own word or by a full whose count and digest are equal afterwards, and never more than a set share at
once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.errors import Conflict, Gone, InvalidRequest, NotFound, TongshiError
from tongshi.exchange import outbox, store
from tongshi.exchange.model import (
    MAX_OWNERS,
    MAX_REJECTIONS_SHOWN,
    VANISH_FLOOR,
    VANISH_GUARD,
    Equality,
    FullBegin,
    FullComplete,
    FullOpened,
    FullPage,
    FullPageResult,
    FullResult,
    OwnerRoot,
    Peer,
    PeerState,
    Push,
    PushResult,
    Rejection,
)
from tongshi.exchange.reading import Items
from tongshi.ids import platform_id
from tongshi.resources.devices import digest_store, reading_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import FlatArchive, UpsertResult, digested

# A full that rests longer than this is begun anew.
FULL_RESTS = timedelta(hours=2)
_KEYS_AT_ONCE = 5_000
STATUS_SOURCE = "exchange"


@dataclass(frozen=True, slots=True)
class House:
    """Who we are and what a neighbour may do here.

    Attributes:
        platform_id: ourselves.
        neighbours: every platform that speaks for itself.
        vanish_guard: share of an owner's devices that may turn missing at once.
    """

    platform_id: str
    neighbours: Collection[str] = ()
    vanish_guard: float = VANISH_GUARD


class _Different(Exception):
    """The proof failed; what was marked is rolled back."""


def apply_push(
    conn: Connection, house: House, sender: str, push: Push, items: Items, at: datetime
) -> PushResult:
    """Apply one batch and its position.

    Raises:
        Gone: another feed than the one we follow, or its beginning was not heard; a full is needed.
        Conflict: the batch does not begin where we stand; ``details.position`` says where that is.
    """
    peer = store.get_peer(conn, sender, store.IN)
    is_first = peer.state is PeerState.NEW and push.from_position == 0
    if is_first:
        peer = replace(peer, feed=push.feed, state=PeerState.LIVE)
    elif peer.feed != push.feed or peer.state is PeerState.NEW:
        raise Gone("请先执行全量同步", details={"position": peer.position})
    if push.to_position < push.from_position:
        raise InvalidRequest("toPosition 小于 fromPosition", field="toPosition")
    if push.to_position <= peer.position and push.from_position < peer.position:
        return _nothing(peer.position, is_duplicate=True)
    if push.from_position != peer.position:
        raise Conflict("批次与已确认的位置不衔接", details={"position": peer.position})
    # A push that leads nowhere states what stands at this position, to mend a difference.
    is_statement = push.from_position == push.to_position
    taken = _take(conn, house, sender, items, at, is_full=is_statement)
    missing, held = _take_gone(conn, house, sender, push, peer, at)
    snapshot = store.snapshot_of(conn, sender, at)
    if snapshot is not None and snapshot.is_paged:
        store.note_put(conn, snapshot.id, taken.keys)
    equal = None if push.roots is None else _is_equal(conn, sender, push.roots)
    store.put_peer(conn, _after_push(peer, push, taken, equal, held, at), at)
    return _result(push.to_position, taken, missing, equal, held)


def begin_full(conn: Connection, sender: str, begin: FullBegin, fresh_id: str, at: datetime) -> FullOpened:
    """Open a full, or go on with the one of the same feed that broke off.

    Fulls of anybody that broke off too long ago to be gone on with are forgotten, with what they remembered.
    """
    store.drop_expired_snapshots(conn, at)
    known = store.snapshot_of(conn, sender, at)
    if known is not None and known.feed == begin.feed and not begin.is_restart:
        return FullOpened(known.id, known.position, known.last_key)
    snapshot = store.Snapshot(fresh_id, sender, begin.feed, begin.position, "", is_paged=False)
    store.open_snapshot(conn, snapshot, at, at + FULL_RESTS)
    peer = store.get_peer(conn, sender, store.IN)
    store.put_peer(conn, replace(peer, state=PeerState.FULL, equality=Equality.UNKNOWN), at)
    return FullOpened(snapshot.id, snapshot.position, "")


def apply_page(
    conn: Connection, house: House, sender: str, page: FullPage, items: Items, at: datetime
) -> FullPageResult:
    """Apply one page and remember which of our keys it lacks.

    Raises:
        NotFound: no such full is being received.
        Conflict: the page does not begin where we stand; ``details.lastKey`` says where that is.
    """
    snapshot = _snapshot(conn, sender, page.snapshot_id, at)
    if snapshot.is_paged or (page.last_key <= snapshot.last_key and page.after_key < snapshot.last_key):
        return FullPageResult(snapshot.last_key, True, 0, [])
    if page.after_key != snapshot.last_key:
        raise Conflict("页与已确认的键不衔接", details={"lastKey": snapshot.last_key})
    held = _keys_within(conn, store.owners_via(conn, sender), page)
    taken = _take(conn, house, sender, items, at, is_full=True)
    _check_order(taken.keys, page)
    # An owner that was heard of for the first time may be known from a catalogue.
    held |= _keys_within(conn, [o for o in store.owners_via(conn, sender) if o not in held], page)
    _note_absent(conn, snapshot, held, taken)
    store.advance_snapshot(conn, snapshot, page.last_key, page.is_last, at + FULL_RESTS)
    if page.is_last:
        # From here on changes are taken from where the full began.
        peer = store.get_peer(conn, sender, store.IN)
        store.put_peer(conn, replace(peer, feed=snapshot.feed, position=snapshot.position), at)
    return FullPageResult(page.last_key, False, len(taken.rejected), taken.rejected[:MAX_REJECTIONS_SHOWN])


def complete_full(
    conn: Connection, house: House, sender: str, complete: FullComplete, at: datetime
) -> FullResult:
    """Prove a full: mark what it lacked, compare every owner, and keep all of that or nothing."""
    snapshot = _snapshot(conn, sender, complete.snapshot_id, at)
    peer = store.get_peer(conn, sender, store.IN)
    if not snapshot.is_paged:
        raise Conflict("全量尚未传完", details={"lastKey": snapshot.last_key})
    if complete.position != peer.position:
        raise Conflict("证明的位置与已确认的位置不同", details={"position": peer.position})
    absent = store.absent_of(conn, snapshot.id)
    held = _held(conn, house, absent, peer)
    if held:
        store.put_peer(conn, replace(peer, state=PeerState.HELD, waiting=held), at)
        return FullResult(equal=False, missing=0, held=held)
    try:
        with conn.begin_nested():
            missing = sum(devices.mark_missing(conn, o, keys, at, sender) for o, keys in absent.items())
            if not _is_equal(conn, sender, complete.roots):
                raise _Different
    except _Different:
        store.put_peer(conn, replace(peer, equality=Equality.DIFFERENT), at)
        return FullResult(equal=False, missing=0, held=0)
    store.drop_snapshot(conn, snapshot.id)
    _audit_missing(conn, sender, missing, "full", at)
    done = replace(peer, state=PeerState.LIVE, equality=Equality.EQUAL, waiting=0, confirmed=0)
    store.put_peer(conn, replace(done, last_success_at=at, last_error="", full_done_at=at), at)
    return FullResult(equal=True, missing=missing, held=0)


def confirm_vanishing(conn: Connection, sender: str, at: datetime) -> int:
    """A person lets the devices that wait turn missing at the next proof. Returns how many."""
    peer = store.get_peer(conn, sender, store.IN)
    if not peer.waiting:
        raise Conflict("没有等待确认的设备")
    store.put_peer(conn, replace(peer, confirmed=peer.waiting), at)
    return peer.waiting


@dataclass(slots=True)
class _Taken:
    keys: list[str]
    rejected: list[Rejection]
    merged: UpsertResult


def _take(
    conn: Connection, house: House, sender: str, items: Items, at: datetime, *, is_full: bool = False
) -> _Taken:
    """Store what the sender may tell, name what it may not."""
    rejected = list(items.rejected)
    refusals = {
        owner: _owner_refusal(conn, house, sender, owner or sender, at)
        for owner in dict.fromkeys(archive.owner for _, archive in items.archives)
    }
    archives: list[FlatArchive] = []
    for index, archive in items.archives:
        refusal = refusals[archive.owner]
        if refusal is not None:
            told = (archive.device_id, refusal.code, refusal.message, refusal.field)
            rejected.append(Rejection(index, *told))
        elif archive.owner:
            archives.append(archive)
        else:
            _, digest = digested(sender, archive.values)
            archives.append(msgspec.structs.replace(archive, owner=sender, digest=digest))
    ours = store.owners_via(conn, sender)
    merged = devices.upsert_flat(conn, archives, sender, at, spoken_for=ours, is_full=is_full)
    if merged.foreign:
        rejected += _foreign(items, merged.foreign)
        foreign = set(merged.foreign)
        archives = [archive for archive in archives if archive.device_id not in foreign]
    online = {archive.device_id: archive.online for archive in archives if archive.online is not None}
    if online:
        devices.set_statuses(conn, online, STATUS_SOURCE, at, origin=sender)
    return _Taken([archive.device_id for archive in archives], rejected, merged)


def _foreign(items: Items, device_ids: Sequence[str]) -> list[Rejection]:
    """What belongs to somebody else, with its place; the last one of a device that came twice."""
    places = {archive.device_id: index for index, archive in items.archives}
    return [
        Rejection(places[key], key, 40902, "该编码的设备已属于另一平台", "deviceId") for key in device_ids
    ]


def _owner_refusal(
    conn: Connection, house: House, sender: str, owner: str, at: datetime
) -> TongshiError | None:
    """Why ``sender`` may not speak for ``owner``; None when it may."""
    try:
        platform_id(owner, "owner")
    except TongshiError as error:
        return error
    text = _owner_objection(conn, house, sender, owner, at)
    return None if text is None else InvalidRequest(text, code=40304, field="owner")


def _owner_objection(conn: Connection, house: House, sender: str, owner: str, at: datetime) -> str | None:
    """The same in words; an owner that is new is bound to its sender."""
    if owner == house.platform_id:
        return "该设备属于本平台，不接受他人改写"
    if owner != sender and owner in house.neighbours:
        return "该设备的所属平台与本平台直接交换"
    known = store.via(conn, owner)
    if known not in (None, sender):
        return "该设备的所属平台经由另一平台交换"
    if known is None and store.count_owners_via(conn, sender) >= MAX_OWNERS:
        return f"一个平台最多代 {MAX_OWNERS} 个平台交换"
    if known is None:
        store.bind_owner(conn, owner, sender, at)
    return None


def _take_gone(
    conn: Connection, house: House, sender: str, push: Push, peer: Peer, at: datetime
) -> tuple[int, int]:
    """Mark what the owner's platform says is gone, unless it is too much at once. Returns (marked, held)."""
    ours = set(store.owners_via(conn, sender))
    by_owner: dict[str, list[str]] = {}
    for item in push.gone:
        if item.owner in ours:
            by_owner.setdefault(item.owner, []).append(item.device_id)
    held = _held(conn, house, by_owner, peer)
    if held:
        return 0, held
    marked = sum(devices.mark_missing(conn, o, keys, at, sender) for o, keys in by_owner.items())
    _audit_missing(conn, sender, marked, "change", at)
    return marked, 0


def _audit_missing(conn: Connection, sender: str, count: int, proof: str, at: datetime) -> None:
    if count:
        details: dict[str, object] = {"count": count, "proof": proof}
        entry = audit.AuditEntry(
            at,
            AuditTag.ARCHIVE_MISSING,
            Outcome.DONE,
            "platform",
            sender,
            "",
            "platform",
            sender,
            details=details,
        )
        audit.append(conn, entry)


def _held(conn: Connection, house: House, absent: dict[str, list[str]], peer: Peer) -> int:
    """How many devices would vanish when that is more than may without a person's word; else 0."""
    counts = digest_store.owners(conn)
    total = sum(len(keys) for keys in absent.values())
    is_much = any(
        len(keys) > max(VANISH_FLOOR, house.vanish_guard * counts.get(owner, 0))
        for owner, keys in absent.items()
    )
    return total if is_much and total > peer.confirmed else 0


def _is_equal(conn: Connection, sender: str, roots: Sequence[OwnerRoot]) -> bool:
    """Whether we hold just what the sender says it told us, owner by owner."""
    theirs = {root.owner: (root.count, root.digest) for root in roots if root.count}
    ours = {
        r.owner: (r.count, r.digest) for r in outbox.roots_of(conn, store.owners_via(conn, sender)) if r.count
    }
    return theirs == ours


def _keys_within(conn: Connection, owners: Collection[str], page: FullPage) -> dict[str, list[str]]:
    """Our present keys in a page's range, by owner. Asked before the page is stored: then a first full finds
    nothing to read."""
    up_to = "" if page.is_last else page.last_key
    held: dict[str, list[str]] = {}
    for owner in owners:
        held[owner], after = [], page.after_key
        while keys := reading_store.owned_keys(conn, owner, after, _KEYS_AT_ONCE, up_to):
            held[owner] += keys
            after = keys[-1]
    return held


def _note_absent(
    conn: Connection, snapshot: store.Snapshot, held: dict[str, list[str]], taken: _Taken
) -> None:
    """Which of the keys we held lie in the page's range and are not in it; a rejected item was told, so it
    is."""
    told = {*taken.keys, *(rejection.device_id for rejection in taken.rejected)}
    absent = [store.Absent(owner, [key for key in keys if key not in told]) for owner, keys in held.items()]
    store.note_absent(conn, snapshot.id, absent)


def _check_order(keys: Sequence[str], page: FullPage) -> None:
    """A page holds its range in order; a disordered one would let keys slip through."""
    bounds = [page.after_key, *keys]
    if any(left >= right for left, right in pairwise(bounds)):
        raise InvalidRequest("页内设备编码应严格递增", field="items")
    if keys and keys[-1] > page.last_key:
        raise InvalidRequest("页内设备编码超出 lastKey", field="lastKey")
    if page.last_key < page.after_key or (page.last_key == page.after_key and not page.is_last):
        raise InvalidRequest("lastKey 应大于 afterKey", field="lastKey")


def _snapshot(conn: Connection, sender: str, snapshot_id: str, at: datetime) -> store.Snapshot:
    snapshot = store.snapshot_of(conn, sender, at)
    if snapshot is None or snapshot.id != snapshot_id:
        raise NotFound("没有这次全量同步，请重新开始", code=40404)
    return snapshot


def _after_push(peer: Peer, push: Push, taken: _Taken, equal: bool | None, held: int, at: datetime) -> Peer:
    equality = peer.equality
    if equal is not None:
        equality = Equality.EQUAL if equal else Equality.DIFFERENT
    return replace(
        peer,
        position=push.to_position,
        equality=equality,
        state=PeerState.HELD if held else PeerState.LIVE if equal else peer.state,
        waiting=held or (0 if equal else peer.waiting),
        lag=push.remaining,
        last_success_at=at,
        last_error=f"{len(taken.rejected)} 条记录未被接受" if taken.rejected else "",
    )


def _nothing(position: int, *, is_duplicate: bool) -> PushResult:
    return PushResult(position, is_duplicate, 0, 0, 0, 0, 0, 0, [])


def _result(position: int, taken: _Taken, missing: int, equal: bool | None, held: int) -> PushResult:
    merged = taken.merged
    return PushResult(
        position=position,
        is_duplicate=False,
        inserted=len(merged.inserted),
        updated=len(merged.updated),
        unchanged=len(merged.unchanged),
        stale=len(merged.stale),
        missing=missing,
        rejected_count=len(taken.rejected),
        rejected=taken.rejected[:MAX_REJECTIONS_SHOWN],
        equal=equal,
        held=held,
    )
