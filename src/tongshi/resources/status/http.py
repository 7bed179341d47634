"""Rows E.2-9 and E.2-10: how devices are, and whether they are there.

Implements: DB31DSJ/Z 001-2024 E.2-9
Implements: DB31DSJ/Z 001-2024 E.2-10
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.clock import BEIJING, Clock
from tongshi.errors import InvalidRequest, NotFound, RemoteViolation
from tongshi.protocols.gb28181.dates import parse_time
from tongshi.resources.status.model import Counts, Known, Presence, Probe
from tongshi.resources.status.service import MAX_LISTED, DeviceStatuses, Statuses
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_CivilCode = Annotated[str, Meta(pattern=r"^([0-9]{2}){1,4}\Z")]


class StatusRequest(Request, frozen=True):
    """E.2-9. ``probe`` asks the devices; ``cached`` tells what is known. ``timeoutMs`` is of one device."""

    device_ids: Annotated[list[_Id], Meta(min_length=1, max_length=500)]
    mode: Literal["cached", "probe"] = "cached"
    max_age_sec: Annotated[int, Meta(ge=0, le=86_400)] = 60
    timeout_ms: Annotated[int, Meta(ge=200, le=10_000)] = 3_000


class OnlineRequest(Request, frozen=True):
    """E.2-10: ids, divisions, or the devices of a plan."""

    device_ids: Annotated[list[_Id], Meta(max_length=MAX_LISTED)] = field(default_factory=list)
    civil_codes: Annotated[list[_CivilCode], Meta(max_length=100)] = field(default_factory=list)
    plan_code: Annotated[str, Meta(max_length=64)] = ""
    summary_only: bool = False


class AlarmInput(Answer, frozen=True):
    """One alarm input: ONDUTY, OFFDUTY or ALARM."""

    device_id: str = field(name="DeviceID")
    duty_status: str


class StatusLine(Answer, frozen=True):
    """E.2-9: null is not told. ``clockOffsetMs`` is the device's time less ours, to the second."""

    device_id: str = field(name="DeviceID")
    online: bool | None
    result: Literal["OK", "ERROR"] | None
    status: Literal["OK", "ERROR"] | None
    reason: str
    encode: Literal["ON", "OFF"] | None
    record: Literal["ON", "OFF"] | None
    device_time: datetime | None
    clock_offset_ms: int | None
    alarm_status: list[AlarmInput]
    work_state: Literal["normal", "fault"] | None
    checked_at: datetime | None
    source: str


class StatusFailure(Answer, frozen=True):
    """Nothing can be said of this one now."""

    device_id: str = field(name="DeviceID")
    code: int
    message: str


class StatusList(Answer, frozen=True):
    """E.2-9's answer."""

    rows: list[StatusLine] = field(name="list")
    failed: list[StatusFailure]


class OnlineLine(Answer, frozen=True):
    """E.2-10: ``online`` null is unknown, and ``offlineReason`` says why."""

    device_id: str = field(name="DeviceID")
    online: bool | None
    since: datetime | None
    last_seen: datetime | None
    source: str
    confidence: Literal["high", "medium", "low"]
    offline_reason: str


class OnlineSummary(Answer, frozen=True):
    """Counted within what the caller may see."""

    total: int
    online: int
    offline: int
    unknown: int


class OnlineList(Answer, frozen=True):
    """E.2-10's answer; ``truncated`` when there are more devices than are listed.

    ``missing`` are ids of which nothing is told; of a plan's, those that the archive lacks.
    """

    rows: list[OnlineLine] = field(name="list")
    summary: OnlineSummary
    missing: list[str]
    is_truncated: bool = field(name="truncated")


def operations(statuses: DeviceStatuses, access: Access, clock: Clock) -> list[AnyOperation]:
    """The two rows."""

    async def scope_of(call: Call[Any, Any]) -> Scope:
        return await access.scope(subject_of(call), Permission.STATUS_READ, context_of(call))

    async def status(call: Call[StatusRequest, Nothing]) -> StatusList:
        body, scope = call.body, await scope_of(call)
        if body.mode == "probe":
            timeout_s = body.timeout_ms / 1000
            told = await statuses.probe(body.device_ids, scope, body.max_age_sec, timeout_s)
        else:
            told = await statuses.cached(body.device_ids, scope, body.max_age_sec)
        return _status_list(told)

    async def online(call: Call[OnlineRequest, Nothing]) -> OnlineList:
        body, scope = call.body, await scope_of(call)
        if [bool(body.device_ids), bool(body.civil_codes), bool(body.plan_code)].count(True) != 1:
            raise InvalidRequest("deviceIds、civilCodes 与 planCode 须给出其中之一", field="deviceIds")
        at = clock.at()
        if body.civil_codes:
            is_summary = body.summary_only
            found, counts = await statuses.online_in(body.civil_codes, scope, is_summary=is_summary)
            is_truncated = not is_summary and counts.total > len(found)
            return OnlineList([_online(k, at) for k in found], _summary(counts), [], is_truncated)
        if body.plan_code:
            found, missing = await statuses.online_of(subject_of(call), body.plan_code, scope)
        else:
            found, missing = await statuses.online(body.device_ids, scope)
        rows = [] if body.summary_only else [_online(k, at) for k in found]
        return OnlineList(rows, _summary(_counted(found)), missing, False)

    return [
        Operation(
            name="deviceStatus",
            method="POST",
            path="/api/v1/video/devices/status",
            summary="查询设备状态",
            permission=Permission.STATUS_READ,
            quota=Quota.QUERY,
            audit=AuditTag.DEVICE_QUERY,
            body=StatusRequest,
            query=Nothing,
            response=StatusList,
            handler=status,
            row="E.2-9",
        ),
        Operation(
            name="deviceOnline",
            method="POST",
            path="/api/v1/video/devices/online",
            summary="查询设备在线",
            permission=Permission.STATUS_READ,
            quota=Quota.QUERY,
            audit=AuditTag.DEVICE_QUERY,
            body=OnlineRequest,
            query=Nothing,
            response=OnlineList,
            handler=online,
            refusals=(NotFound,),
            row="E.2-10",
        ),
    ]


def _status_list(told: Statuses) -> StatusList:
    failed = [StatusFailure(lost.device_id, lost.code, lost.message) for lost in told.failed]
    return StatusList([_line(known, probe) for known, probe in told.found], failed)


def _line(known: Known, probe: Probe | None) -> StatusLine:
    if probe is None:
        is_unknown = known.presence is Presence.UNKNOWN
        return StatusLine(
            device_id=known.device_id,
            online=None if is_unknown else known.is_online,
            result=None,
            status=None,
            reason=known.why,
            encode=None,
            record=None,
            device_time=None,
            clock_offset_ms=None,
            alarm_status=[],
            work_state=None,
            checked_at=known.last_seen,
            source=known.told_by,
        )
    told, device_time = probe.status, _time(probe.status.device_time)
    offset = None if device_time is None else round((device_time - probe.at).total_seconds()) * 1000
    return StatusLine(
        device_id=known.device_id,
        online=told.online,
        result="OK" if told.result_ok else "ERROR",
        status=None if told.status_ok is None else ("OK" if told.status_ok else "ERROR"),
        reason=told.reason,
        encode=told.encode,
        record=told.record,
        device_time=device_time,
        clock_offset_ms=offset,
        alarm_status=[AlarmInput(code, duty) for code, duty in told.alarms],
        work_state=None if told.status_ok is None else ("normal" if told.status_ok else "fault"),
        checked_at=probe.at,
        source="probe",
    )


def _time(text: str) -> datetime | None:
    try:
        return parse_time(text).astimezone(BEIJING) if text else None
    except RemoteViolation:
        return None


def _online(known: Known, at: datetime) -> OnlineLine:
    presence = known.presence
    return OnlineLine(
        device_id=known.device_id,
        online=None if presence is Presence.UNKNOWN else presence is Presence.ONLINE,
        since=known.since,
        last_seen=known.last_seen,
        source=known.told_by,
        confidence=known.confidence(at),
        offline_reason=known.why,
    )


def _counted(found: list[Known]) -> Counts:
    each = [known.presence for known in found]
    return Counts(
        len(each),
        each.count(Presence.ONLINE),
        each.count(Presence.OFFLINE),
        each.count(Presence.UNKNOWN),
    )


def _summary(counts: Counts) -> OnlineSummary:
    return OnlineSummary(counts.total, counts.online, counts.offline, counts.unknown)
