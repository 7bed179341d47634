"""Own recordings over REST; extensions, no rows of Annex E. What is recorded is searched by row E.2-4's kin.

A rule is the platform's; segments and gaps are shown of devices that the caller may play back.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest, NotFound
from tongshi.resources.recordings.model import (
    GAP_TEXT,
    MAX_RETENTION_DAYS,
    GapReason,
    RecordingGap,
    Rule,
    RuleUse,
    Segment,
)
from tongshi.resources.recordings.service import Listed, RecordingDesk
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Hours
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Reply, Request

_BASE = "/api/v1/recordings"
_ID = re.compile(r"[0-9a-f]{16}\Z")
_Device = Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
_MaybeDevice = Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")]
_Civil = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z")]
_Time = Annotated[datetime, Meta(tz=True)]
_MAX_PAGED_ROWS = 10_000


class State(Protocol):
    """How the recording of one stream stands; see the recorder's."""

    @property
    def device_id(self) -> str: ...
    @property
    def stream_type(self) -> int: ...
    @property
    def rule_id(self) -> str: ...
    @property
    def since(self) -> datetime: ...
    @property
    def problem(self) -> GapReason | None: ...
    @property
    def detail(self) -> str: ...


class RuleBody(Request, frozen=True):
    """A rule: one device or one division; ``hours`` empty is all day, ``quotaBytes`` 0 is no limit."""

    device_id: _MaybeDevice = ""
    civil_code: _Civil = ""
    stream_type: Literal[0, 1, 2] = 0
    hours: Annotated[str, Meta(max_length=11)] = ""
    retention_days: Annotated[int, Meta(ge=1, le=MAX_RETENTION_DAYS)] = 30
    quota_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    enabled: bool = True

    def rule(self, rule_id: str) -> Rule:
        """What is asked, understood. Raises InvalidRequest."""
        return Rule(
            rule_id,
            self.device_id,
            self.civil_code,
            self.stream_type,
            Hours.parse(self.hours) if self.hours else None,
            self.retention_days,
            self.quota_bytes,
            self.enabled,
        )


class RecordingRule(Answer, frozen=True):
    """A rule and what its segments take."""

    rule_id: str
    device_id: str
    civil_code: str
    stream_type: int
    hours: str
    retention_days: int
    quota_bytes: int
    enabled: bool
    updated_at: datetime | None
    updated_by: str
    segments: int
    size_bytes: int
    oldest: datetime | None


class RuleList(Answer, frozen=True):
    """Every rule."""

    rules: list[RecordingRule]


class StateRow(Answer, frozen=True):
    """One stream that is to be recorded; ``problem`` is empty while it is."""

    device_id: str
    stream_type: int
    rule_id: str
    since: datetime
    problem: str
    problem_text: str
    detail: str


class SpaceAnswer(Answer, frozen=True):
    """What own recordings take, what is left, and how recording stands."""

    segments: int
    size_bytes: int
    held_bytes: int
    oldest: datetime | None
    free_bytes: int | None
    recording: int
    not_recording: int
    streams: list[StateRow]


class SegmentsQuery(Request, frozen=True):
    """Which segments and gaps: those that reach into a time; ``deviceId`` empty is every device."""

    start_time: _Time
    end_time: _Time
    device_id: _MaybeDevice = ""
    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=500)] = 50


class SegmentRow(Answer, frozen=True):
    """One file of recording. ``digest`` is its SM3."""

    segment_id: str
    device_id: str
    stream_type: int
    start_time: datetime
    end_time: datetime
    size_bytes: int
    video_codec: str
    audio_codec: str
    digest: str
    state: str
    storage: str
    expires_at: datetime
    held: bool
    held_for: str


class GapRow(Answer, frozen=True):
    """A stretch that a rule asked for and that is missing; ``endTime`` null: it is missing still."""

    device_id: str
    stream_type: int
    start_time: datetime
    end_time: datetime | None
    reason: str
    reason_text: str
    detail: str


class SegmentPage(Answer, frozen=True):
    """One page of segments, the latest first, and the latest gaps of the same time."""

    segments: list[SegmentRow]
    total: int
    page_no: int
    page_size: int
    gaps: list[GapRow]


class HoldBody(Request, frozen=True):
    """Segments of a device that reach into a time; ``held`` false lets them go again."""

    device_id: _Device
    start_time: _Time
    end_time: _Time
    reason: Annotated[str, Meta(min_length=1, max_length=256)]
    held: bool = True


class HoldAnswer(Answer, frozen=True):
    """How many segments changed."""

    changed: int


def operations(desk: RecordingDesk, states: Callable[[], Sequence[State]]) -> list[AnyOperation]:
    """The operations of own recordings."""

    async def rules(_: Call[Nothing, Nothing]) -> RuleList:
        return RuleList([_rule_row(rule, use) for rule, use in await desk.rules()])

    async def add_rule(call: Call[RuleBody, Nothing]) -> Reply[RecordingRule]:
        made = await desk.put_rule(subject_of(call), call.body.rule(secrets.token_hex(8)), context_of(call))
        return Reply(_rule_row(made, RuleUse()), status=201)

    async def put_rule(call: Call[RuleBody, Nothing]) -> RecordingRule:
        made = await desk.put_rule(subject_of(call), call.body.rule(_id(call)), context_of(call))
        use = {rule.id: use for rule, use in await desk.rules()}
        return _rule_row(made, use.get(made.id, RuleUse()))

    async def drop_rule(call: Call[Nothing, Nothing]) -> Nothing:
        await desk.drop_rule(subject_of(call), _id(call), context_of(call))
        return Nothing()

    async def space(_: Call[Nothing, Nothing]) -> SpaceAnswer:
        taken, streams = await desk.space(), [_state_row(state) for state in states()]
        troubled = sum(1 for state in streams if state.problem)
        return SpaceAnswer(
            taken.segments,
            taken.size_bytes,
            taken.held_bytes,
            taken.oldest,
            taken.free_bytes,
            len(streams) - troubled,
            troubled,
            streams,
        )

    async def segments(call: Call[Nothing, SegmentsQuery]) -> SegmentPage:
        query = call.query
        if query.page_no * query.page_size > _MAX_PAGED_ROWS:
            raise InvalidRequest("翻页超过 10000 条，请缩小范围", code=40006, field="pageNo")
        between = _between(query.start_time, query.end_time)
        found = await desk.page(
            subject_of(call), query.device_id, between, query.page_no, query.page_size, context_of(call)
        )
        return _page(found, query)

    async def hold(call: Call[HoldBody, Nothing]) -> HoldAnswer:
        body = call.body
        between = _between(body.start_time, body.end_time)
        changed = await desk.hold(
            subject_of(call), body.device_id, between, body.reason, context_of(call), is_held=body.held
        )
        return HoldAnswer(changed)

    rule = "/rules/{ruleId}"
    return [
        _operation("listRecordingRules", "GET", "/rules", "查询中心录像规则", rules, RuleList),
        _operation(
            "addRecordingRule", "POST", "/rules", "新增中心录像规则", add_rule, RecordingRule,
            body=RuleBody, statuses=(201,), refusals=(NotFound,),
        ),
        _operation(
            "putRecordingRule", "PUT", rule, "修改中心录像规则", put_rule, RecordingRule,
            body=RuleBody, refusals=(NotFound,),
        ),
        _operation(
            "dropRecordingRule", "DELETE", rule, "删除中心录像规则", drop_rule, Nothing, refusals=(NotFound,)
        ),
        _operation("recordingSpace", "GET", "/space", "查询中心录像的空间与运行状态", space, SpaceAnswer),
        _operation(
            "listRecordingSegments", "GET", "/segments", "查询中心录像文件与缺失时段", segments, SegmentPage,
            query=SegmentsQuery, permission=Permission.VIDEO_PLAYBACK,
        ),
        _operation(
            "holdRecordings", "POST", "/hold", "锁定或解锁中心录像", hold, HoldAnswer,
            body=HoldBody, audit=AuditTag.RECORDING_HOLD,
        ),
    ]  # fmt: skip


def _operation(
    name: str, method: str, path: str, summary: str, handler: Any, response: Any, **more: Any
) -> AnyOperation:
    is_reading = method == "GET"
    return Operation(
        name=name,
        method=method,
        path=f"{_BASE}{path}",
        summary=summary,
        permission=more.pop("permission", Permission.PLATFORM_ADMIN),
        quota=Quota.QUERY if is_reading else Quota.ADMIN,
        audit=more.pop("audit", AuditTag.RECORDING_QUERY if is_reading else AuditTag.RECORDING_RULE),
        body=more.pop("body", Nothing),
        query=more.pop("query", Nothing),
        response=response,
        handler=handler,
        is_audited_within=not is_reading,
        **more,
    )


def _id(call: Call[Any, Any]) -> str:
    rule_id = call.path["ruleId"]
    if not _ID.match(rule_id):
        raise NotFound("没有这条录像规则", code=40404)
    return rule_id


def _between(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    if end <= start:
        raise InvalidRequest("结束时间应晚于开始时间", code=40003, field="endTime")
    return start, end


def _rule_row(rule: Rule, use: RuleUse) -> RecordingRule:
    return RecordingRule(
        rule.id,
        rule.device_id,
        rule.civil_code,
        rule.stream_type,
        "" if rule.hours is None else str(rule.hours),
        rule.retention_days,
        rule.quota_bytes,
        rule.is_enabled,
        rule.updated_at,
        rule.updated_by,
        use.segments,
        use.size_bytes,
        use.oldest,
    )


def _state_row(state: State) -> StateRow:
    problem = state.problem
    return StateRow(
        state.device_id,
        state.stream_type,
        state.rule_id,
        state.since,
        "" if problem is None else problem.value,
        "" if problem is None else GAP_TEXT[problem],
        state.detail,
    )


def _page(found: Listed, query: SegmentsQuery) -> SegmentPage:
    return SegmentPage(
        [_segment_row(one) for one in found.segments],
        found.total,
        query.page_no,
        query.page_size,
        [_gap_row(one) for one in found.gaps],
    )


def _segment_row(one: Segment) -> SegmentRow:
    return SegmentRow(
        one.id,
        one.device_id,
        one.stream_type,
        one.start,
        one.end,
        one.size_bytes,
        one.video,
        one.audio,
        one.digest,
        one.state.value,
        one.storage.value,
        one.expires_at,
        one.is_held,
        one.held_for,
    )


def _gap_row(one: RecordingGap) -> GapRow:
    return GapRow(
        one.device_id, one.stream_type, one.start, one.end, one.reason.value, GAP_TEXT[one.reason], one.detail
    )
