"""Who holds a camera's head: locks with priority, expiry, and a word to who lost one.

Implements: DB31DSJ/Z 001-2024 6.4.3.1
Implements: GB/T 28181-2022 7.3
A ``manual`` lock gives way to a strictly higher priority that asks to take over; a ``reserved`` one does not
and needs its own right. A lock ends with its time, when its holder lets go or signs out, or by force of who
may. Locks are in the record: they survive a restart and hold for every process. GB/T 28181 carries no lock,
so a platform above takes the head for a short while by controlling it, at a platform's priority, and is
refused while somebody of the same or a higher priority holds it; what we send to a platform below is, to its
people, a platform's command.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import Conflict, Forbidden, InvalidRequest
from tongshi.ids import DeviceId
from tongshi.resources.viewing.ports import Guard, Viewer
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

MIN_TTL_S, DEFAULT_TTL_S, MAX_TTL_S = 15, 300, 3_600
CASCADE_TTL_S: Final = 15.0  # a platform above holds a head so long after each of its commands
KEPT_ENDED: Final = timedelta(hours=24)  # how long a loser can learn what became of its lock
PLATFORM_PRIORITY: Final = 150
_KEY_PRIORITY: Final = 80
_ROLE_PRIORITY: Final = {"admin": 200, "operator": 100, "viewer": 50}
_OTHER_PRIORITY: Final = 60


class Level(StrEnum):
    """Whether a higher priority may take over."""

    MANUAL = "manual"
    RESERVED = "reserved"


class EndedBy(StrEnum):
    """Why a lock is over before its time."""

    RELEASED = "released"
    PREEMPTED = "preempted"
    FORCED = "forced"
    SIGNED_OUT = "signedOut"


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock; ``platform_id`` is the neighbour that holds it, "" for our own people."""

    lock_id: str
    device_id: str
    level: Level
    priority: int
    subject_kind: str
    subject_id: str
    subject_name: str
    platform_id: str
    reason: str
    since: datetime
    expires_at: datetime

    def is_of(self, subject: Subject) -> bool:
        return (self.subject_kind, self.subject_id) == (subject.kind.value, subject.id)

    @property
    def holder(self) -> dict[str, object]:
        """Who holds it, as others may know."""
        return {
            "userId": self.subject_id,
            "name": self.subject_name,
            "platformId": self.platform_id,
            "priority": self.priority,
            "level": self.level.value,
            "expiresAt": self.expires_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a lock."""

    lock_id: str
    device_id: str
    ended_by: EndedBy
    by_name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Wish:
    """A lock that is asked for. ``lock_id`` renews one's own."""

    device_id: DeviceId
    ttl_s: int = DEFAULT_TTL_S
    reason: str = ""
    level: Level = Level.MANUAL
    may_preempt: bool = False
    lock_id: str = ""


class LockStore(Protocol):
    """See ``lock_store``; times are aware. Each runs in the caller's transaction."""

    def live(self, conn: Connection, device_id: str, at: datetime, /) -> Lock | None: ...
    def find(self, conn: Connection, lock_id: str, at: datetime, /) -> Lock | None: ...
    def of_subject(self, conn: Connection, kind: str, id_: str, at: datetime, /) -> list[Lock]: ...
    def take(self, conn: Connection, lock: Lock, /) -> bool: ...
    def renew(self, conn: Connection, lock: Lock, /) -> None: ...
    def end(self, conn: Connection, lock: Lock, ended: Ended, /) -> None: ...
    def ended(self, conn: Connection, lock_id: str, /) -> Ended | None: ...
    def lost_by(self, conn: Connection, kind: str, id_: str, since: datetime, /) -> list[Ended]: ...


class PtzLocks:
    """Locks of all cameras of the platform."""

    def __init__(self, db: Database, store: LockStore, guard: Guard, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._guard = guard
        self._clock = clock

    async def lock(self, viewer: Viewer, wish: Wish) -> tuple[Lock, Lock | None]:
        """Take or renew a lock; the lock and whose it took over.

        Raises:
            InvalidRequest: a time out of range. NotFound, Forbidden: the decision.
            Conflict: held by another (40903, details ``holder``), or the lock to renew is over.
        """
        if not MIN_TTL_S <= wish.ttl_s <= MAX_TTL_S:
            message = f"锁定时长应为 {MIN_TTL_S} 到 {MAX_TTL_S} 秒"
            raise InvalidRequest(message, field="ttlSec")
        await self._guard.admit(viewer, Permission.PTZ_CONTROL, wish.device_id, "lock")
        if wish.level is Level.RESERVED:
            await self._guard.admit(viewer, Permission.PTZ_RESERVE, wish.device_id, "reserve")
        return await self._db.write(self._lock, viewer.subject, wish, self._clock.at())

    async def unlock(
        self, viewer: Viewer, *, lock_id: str, device_id: str, is_forced: bool, reason: str
    ) -> Lock | None:
        """Let go of one's own lock, or of another's by force. Returns what was released; None when nothing.

        Raises:
            InvalidRequest: force without a reason. NotFound, Forbidden: the decision, or not the holder.
        """
        at = self._clock.at()
        held = await self._db.read(self._held, lock_id, device_id, at)
        if held is None or not held.is_of(viewer.subject):
            target = device_id if held is None else held.device_id
            if target:  # first, so that a device that is not theirs looks unknown whether it is held or not
                await self._guard.admit(viewer, Permission.PTZ_CONTROL, DeviceId(target), "unlock")
        if held is None:
            return None
        ended_by = EndedBy.RELEASED
        if not held.is_of(viewer.subject):
            if not is_forced:
                raise Forbidden("只有锁定人可以解锁", code=40303, details={"holder": held.holder})
            if not reason.strip():
                raise InvalidRequest("强制解锁需要说明理由", field="reason")
            purpose = f"force: {reason[:200]}"
            await self._guard.admit(viewer, Permission.PTZ_RELEASE_ANY, DeviceId(held.device_id), purpose)
            ended_by = EndedBy.FORCED
        ended = Ended(held.lock_id, held.device_id, ended_by, viewer.subject.name, at)
        await self._db.write(self._store.end, held, ended)
        return held

    async def check(self, subject: Subject, device_id: str, lock_id: str = "") -> None:
        """Nobody else holds the head, and the lock that is named is still held.

        Raises:
            Conflict: 40903, details ``holder``, or what became of the lock (``endedBy``, ``by``).
        """
        at = self._clock.at()
        held = await self._db.read(self._store.live, device_id, at)
        if held is not None and not held.is_of(subject):
            raise _held_by(held)
        if lock_id and (held is None or held.lock_id != lock_id):
            raise _over(await self._db.read(self._store.ended, lock_id))

    async def hold_for_platform(self, subject: Subject, device_id: str) -> None:
        """A platform above controls: it holds the head for a short while (see the head of this module).

        Raises:
            Conflict: somebody of the same or a higher priority holds it.
        """
        wish = Wish(DeviceId(device_id), reason="cascade", may_preempt=True)
        await self._db.write(self._lock, subject, wish, self._clock.at(), CASCADE_TTL_S)

    async def mine(self, subject: Subject) -> tuple[list[Lock], list[Ended]]:
        """The subject's locks, and those it lost within a day."""
        at, who = self._clock.at(), (subject.kind.value, subject.id)
        held = await self._db.read(self._store.of_subject, *who, at)
        return held, await self._db.read(self._store.lost_by, *who, at - KEPT_ENDED)

    def signed_out(self, conn: Connection, user_id: str, at: datetime) -> None:
        """A person signed out: what they held is free. Runs in the transaction of the signing out."""
        for lock in self._store.of_subject(conn, SubjectKind.USER.value, user_id, at):
            ended = Ended(lock.lock_id, lock.device_id, EndedBy.SIGNED_OUT, lock.subject_name, at)
            self._store.end(conn, lock, ended)

    def _held(self, conn: Connection, lock_id: str, device_id: str, at: datetime) -> Lock | None:
        if lock_id:
            return self._store.find(conn, lock_id, at)
        return self._store.live(conn, device_id, at)

    def _lock(
        self, conn: Connection, subject: Subject, wish: Wish, at: datetime, ttl_s: float = 0.0
    ) -> tuple[Lock, Lock | None]:
        expires_at = at + timedelta(seconds=ttl_s or wish.ttl_s)
        held = self._store.live(conn, wish.device_id, at)
        if wish.lock_id and (held is None or held.lock_id != wish.lock_id or not held.is_of(subject)):
            raise _over(self._store.ended(conn, wish.lock_id))
        if held is not None and held.is_of(subject):
            renewed = replace(held, level=wish.level, reason=wish.reason, expires_at=expires_at)
            self._store.renew(conn, renewed)
            return renewed, None
        mine = Lock(
            lock_id=secrets.token_urlsafe(18),
            device_id=wish.device_id,
            level=wish.level,
            priority=priority_of(subject),
            subject_kind=subject.kind.value,
            subject_id=subject.id,
            subject_name=subject.name,
            platform_id=subject.id if subject.kind is SubjectKind.PLATFORM else subject.platform_id,
            reason=wish.reason,
            since=at,
            expires_at=expires_at,
        )
        if held is not None:
            if not wish.may_preempt or held.level is Level.RESERVED or mine.priority <= held.priority:
                raise _held_by(held)
            lost = Ended(held.lock_id, held.device_id, EndedBy.PREEMPTED, mine.subject_name, at)
            self._store.end(conn, held, lost)
        if not self._store.take(conn, mine):  # another process was quicker
            winner = self._store.live(conn, wish.device_id, at)
            raise _held_by(winner) if winner is not None else Conflict("云台正被他人锁定", code=40903)
        return mine, held


def priority_of(subject: Subject) -> int:
    """0 to 255: the highest of the roles; a platform stands between operators and administrators."""
    if subject.kind is SubjectKind.PLATFORM or subject.platform_id:
        return PLATFORM_PRIORITY
    if subject.kind is SubjectKind.API_KEY:
        return _KEY_PRIORITY
    return max((_ROLE_PRIORITY.get(role, _OTHER_PRIORITY) for role in subject.roles), default=0)


def _held_by(held: Lock) -> Conflict:
    who = held.subject_name or held.subject_id
    return Conflict(f"云台正由 {who} 锁定", code=40903, details={"holder": held.holder})


_ENDED: Final = {
    EndedBy.RELEASED: "锁已解除",
    EndedBy.PREEMPTED: "锁已被更高优先级的 {by} 取得",
    EndedBy.FORCED: "锁已被 {by} 强制解除",
    EndedBy.SIGNED_OUT: "锁已随退出登录解除",
}


def _over(ended: Ended | None) -> Conflict:
    if ended is None:
        return Conflict("锁已到期", code=40903, details={"endedBy": "expired"})
    message = _ENDED[ended.ended_by].format(by=ended.by_name)
    details: dict[str, object] = {"endedBy": ended.ended_by.value, "by": ended.by_name}
    return Conflict(message, code=40903, details=details)
