"""Rows E.2-7 and E.2-8: lock and unlock a camera's head; and what one holds and lost.

Implements: DB31DSJ/Z 001-2024 E.2-7
Implements: DB31DSJ/Z 001-2024 E.2-8
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest
from tongshi.ids import device_id
from tongshi.resources.viewing.locks import (
    DEFAULT_TTL_S,
    MAX_TTL_S,
    MIN_TTL_S,
    Level,
    Lock,
    PtzLocks,
    Wish,
)
from tongshi.resources.viewing.ports import Viewer
from tongshi.sharing.gate import subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_Device = Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
_LockId = Annotated[str, Meta(max_length=64)]
_Reason = Annotated[str, Meta(max_length=255)]


class LockRequest(Request, frozen=True):
    """E.2-7. ``lockId`` renews one's own lock; ``preempt`` takes over from a lower priority."""

    device_id: _Device = field(name="DeviceID")
    ttl_sec: Annotated[int, Meta(ge=MIN_TTL_S, le=MAX_TTL_S)] = DEFAULT_TTL_S
    reason: _Reason = ""
    level: Literal["manual", "reserved"] = "manual"
    preempt: bool = False
    lock_id: _LockId = ""


class UnlockRequest(Request, frozen=True):
    """E.2-8: one of ``lockId`` and ``DeviceID``. ``force`` needs its right and a reason."""

    lock_id: _LockId = ""
    device_id: _Device | None = field(name="DeviceID", default=None)
    force: bool = False
    reason: _Reason = ""


class HolderShown(Answer, frozen=True):
    """Who holds, or held, a head."""

    user_id: str
    name: str
    platform_id: str
    priority: int


class LockShown(Answer, frozen=True):
    """A lock."""

    lock_id: str
    device_id: str = field(name="DeviceID")
    level: str
    holder: HolderShown
    expires_at: datetime


class LockAnswer(Answer, frozen=True):
    """E.2-7's answer; ``preempted`` is whose lock this one took over."""

    lock_id: str
    holder: HolderShown
    expires_at: datetime
    preempted: HolderShown | None


class UnlockAnswer(Answer, frozen=True):
    """E.2-8's answer; ``released`` is false when there was no lock."""

    released: bool
    previous_holder: HolderShown | None


class LostLock(Answer, frozen=True):
    """A lock that was taken away: preempted or forced, and by whom."""

    lock_id: str
    device_id: str = field(name="DeviceID")
    ended_by: str
    by: str
    at: datetime


class MyLocks(Answer, frozen=True):
    """The caller's locks, and those lost to others within a day."""

    rows: list[LockShown] = field(name="list")
    lost: list[LostLock]


def operations(locks: PtzLocks) -> list[AnyOperation]:
    """The two rows, and one's own locks."""

    async def lock(call: Call[LockRequest, Nothing]) -> LockAnswer:
        body = call.body
        wish = Wish(
            device_id(body.device_id),
            body.ttl_sec,
            body.reason,
            Level(body.level),
            body.preempt,
            body.lock_id,
        )
        made, lost = await locks.lock(_viewer(call), wish)
        return LockAnswer(made.lock_id, _holder(made), made.expires_at, _holder(lost) if lost else None)

    async def unlock(call: Call[UnlockRequest, Nothing]) -> UnlockAnswer:
        body = call.body
        if bool(body.lock_id) is bool(body.device_id):
            raise InvalidRequest("lockId 与 DeviceID 须给出其中之一", field="lockId")
        released = await locks.unlock(
            _viewer(call),
            lock_id=body.lock_id,
            device_id=body.device_id or "",
            is_forced=body.force,
            reason=body.reason,
        )
        return UnlockAnswer(released is not None, _holder(released) if released else None)

    async def mine(call: Call[Nothing, Nothing]) -> MyLocks:
        held, lost = await locks.mine(subject_of(call))
        shown = [
            LockShown(one.lock_id, one.device_id, one.level.value, _holder(one), one.expires_at)
            for one in held
        ]
        gone = [LostLock(one.lock_id, one.device_id, one.ended_by.value, one.by_name, one.at) for one in lost]
        return MyLocks(shown, gone)

    return [
        Operation(
            name="lockPtz",
            method="POST",
            path="/api/v1/video/ptz/lock",
            summary="云台锁定",
            permission=Permission.PTZ_CONTROL,
            quota=Quota.CONTROL,
            audit=AuditTag.PTZ_LOCK,
            body=LockRequest,
            query=Nothing,
            response=LockAnswer,
            handler=lock,
            refusals=(Conflict,),
            row="E.2-7",
        ),
        Operation(
            name="unlockPtz",
            method="POST",
            path="/api/v1/video/ptz/unlock",
            summary="云台解锁",
            permission=Permission.PTZ_CONTROL,
            quota=Quota.CONTROL,
            audit=AuditTag.PTZ_LOCK,
            body=UnlockRequest,
            query=Nothing,
            response=UnlockAnswer,
            handler=unlock,
            refusals=(Conflict,),
            row="E.2-8",
        ),
        Operation(
            name="myPtzLocks",
            method="GET",
            path="/api/v1/video/ptz/locks",
            summary="查询本人的云台锁",
            permission=Permission.PTZ_CONTROL,
            quota=Quota.QUERY,
            audit=AuditTag.PTZ_LOCK,
            body=Nothing,
            query=Nothing,
            response=MyLocks,
            handler=mine,
        ),
    ]


def _viewer(call: Call[Any, Any]) -> Viewer:
    return Viewer(subject_of(call), call.client_host, call.request_id)


def _holder(lock: Lock) -> HolderShown:
    return HolderShown(lock.subject_id, lock.subject_name, lock.platform_id, lock.priority)
