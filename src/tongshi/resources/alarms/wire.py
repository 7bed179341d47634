"""Alarms on both wires: the elements of GB/T 28181 to the model and back, and the fields of the REST face.

Implements: GB/T 28181-2022 A.2.5.3
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import alarm_types
from tongshi.protocols.gb28181.alarm import AlarmNotify
from tongshi.protocols.gb28181.dates import parse_time, render_time
from tongshi.resources.alarms.model import Alarm, Delivery, Route, Seen, Told
from tongshi.storage.text import storable
from tongshi.web.operations import Answer, Request

MAX_PAGED_ROWS = 10_000
MAX_ACKNOWLEDGED = 500

_FAULT_TEXTS = {**alarm_types.FAULT_TEXTS, "clock": "设备报警时间与平台时间相差超过 10 分钟"}
_STATE_TEXTS = {"waiting": "等待分发", "answered": "已应答", "refused": "被拒绝", "failed": "未应答"}

_Device = Annotated[str, Meta(pattern=r"^(?:[0-9]{10}|[0-9]{20})?\Z")]
_Civil = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z")]
_Method = Annotated[int, Meta(ge=1, le=7)]
_Time = Annotated[datetime, Meta(tz=True)]
_Priority = Annotated[int, Meta(ge=1, le=4)]


def told_of(notify: AlarmNotify, at: datetime) -> Told:
    """Understand a notification; ``at`` stands for a time that cannot be read."""
    faults = alarm_types.faults(notify.priority, notify.method, notify.alarm_type, notify.event_type)
    try:
        raised_at = parse_time(notify.time)
    except RemoteViolation:
        raised_at = at
        faults.append("time")
    return Told(
        device_id=notify.device_id,
        raised_at=raised_at,
        priority=notify.priority,
        method=notify.method,
        alarm_type=notify.alarm_type,
        event_type=notify.event_type,
        type_param=storable(notify.type_param),
        description=storable(notify.description),
        longitude=notify.longitude,
        latitude=notify.latitude,
        extra=tuple(storable(text) for text in notify.extra),
        faults=tuple(faults),
    )


def notify_of(told: Told, sn: int) -> AlarmNotify:
    """An alarm as it is passed on."""
    return AlarmNotify(
        sn,
        told.device_id,
        priority=told.priority,
        method=told.method,
        time=render_time(told.raised_at),
        description=told.description,
        longitude=told.longitude,
        latitude=told.latitude,
        alarm_type=told.alarm_type,
        event_type=told.event_type,
        type_param=told.type_param,
        extra=told.extra,
    )


class AlarmQueryParams(Request, frozen=True):
    """Which alarms; all filters must hold. The times are those of receipt; ``until`` is exclusive."""

    device_id: _Device = ""
    civil_code: _Civil = ""
    priority: Annotated[list[_Priority], Meta(max_length=4)] = field(default_factory=list)
    method: Annotated[list[_Method], Meta(max_length=7)] = field(default_factory=list)
    since: _Time | None = None
    until: _Time | None = None
    acknowledged: bool | None = None
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50


class AckBody(Request, frozen=True):
    """Alarms that were seen to, and a note for all of them."""

    ids: Annotated[
        list[Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]],
        Meta(min_length=1, max_length=MAX_ACKNOWLEDGED),
    ]
    note: Annotated[str, Meta(max_length=256)] = ""


class RouteBody(Request, frozen=True):
    """A target and which alarms it gets; what is left out narrows nothing."""

    target_id: Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
    device_id: _Device = ""
    civil_code: _Civil = ""
    methods: Annotated[list[_Method], Meta(max_length=7)] = field(default_factory=list)
    lowest_priority: _Priority = 4

    def route(self) -> Route:
        """As the model says it."""
        return Route(
            "",
            self.target_id,
            self.device_id,
            self.civil_code,
            frozenset(self.methods),
            self.lowest_priority,
        )


class AlarmRow(Answer, frozen=True):
    """One alarm. ``receivedAt`` is our clock, ``raisedAt`` the device's."""

    id: str
    device_id: str
    device_name: str
    civil_code: str
    owner: str
    source_id: str
    source_kind: str
    priority: int | None
    priority_text: str
    method: int | None
    method_text: str
    alarm_type: int | None
    type_text: str
    event_type: int | None
    event_text: str
    type_param: str
    description: str
    longitude: float | None
    latitude: float | None
    extra: list[str]
    faults: list[str]
    raised_at: datetime
    received_at: datetime
    last_at: datetime
    repeats: int
    acknowledged_at: datetime | None
    acknowledged_by: str
    note: str


class DeliveryRow(Answer, frozen=True):
    """How passing an alarm on to one target went."""

    target_id: str
    state: str
    state_text: str
    tries: int
    at: datetime | None
    error: str


class AlarmDetail(Answer, frozen=True):
    """One alarm with those it was passed on to."""

    alarm: AlarmRow
    deliveries: list[DeliveryRow]


class AckAnswer(Answer, frozen=True):
    """``missing`` are unknown or not permitted, which look the same."""

    acknowledged: list[str]
    already: list[str]
    missing: list[str]


class RouteRow(Answer, frozen=True):
    """One rule of passing on."""

    id: str
    target_id: str
    device_id: str
    civil_code: str
    methods: list[int]
    lowest_priority: int
    created_by: str
    created_at: datetime | None


class RouteList(Answer, frozen=True):
    """Every rule, the oldest first."""

    rows: list[RouteRow] = field(name="list")


class AlarmWord(Answer, frozen=True):
    """A number and what the standard calls it."""

    value: int
    text: str


class MethodWord(Answer, frozen=True):
    """A method with the types that belong to it."""

    value: int
    text: str
    types: list[AlarmWord]


class AlarmWords(Answer, frozen=True):
    """The closed lists of an alarm."""

    priorities: list[AlarmWord]
    methods: list[MethodWord]
    events: list[AlarmWord]


def row(alarm: Alarm) -> AlarmRow:
    """One alarm as it is shown."""
    told, seen = alarm.told, alarm.acknowledged
    return AlarmRow(
        id=alarm.id,
        device_id=told.device_id,
        device_name=alarm.place.name,
        civil_code=alarm.place.civil_code,
        owner=alarm.place.owner,
        source_id=alarm.source.id,
        source_kind=alarm.source.kind.value,
        priority=told.priority,
        priority_text=alarm_types.PRIORITIES.get(told.priority or 0, ""),
        method=told.method,
        method_text=alarm_types.METHODS.get(told.method or 0, ""),
        alarm_type=told.alarm_type,
        type_text=alarm_types.type_name(told.method, told.alarm_type),
        event_type=told.event_type,
        event_text=alarm_types.EVENTS.get(told.event_type or 0, ""),
        type_param=told.type_param,
        description=told.description,
        longitude=told.longitude,
        latitude=told.latitude,
        extra=list(told.extra),
        faults=[_FAULT_TEXTS.get(key, key) for key in told.faults],
        raised_at=told.raised_at,
        received_at=alarm.received_at,
        last_at=alarm.last_at,
        repeats=alarm.repeats,
        acknowledged_at=None if seen is None else seen.at,
        acknowledged_by="" if seen is None else seen.by,
        note="" if seen is None else seen.note,
    )


def detail(alarm: Alarm, deliveries: Sequence[Delivery]) -> AlarmDetail:
    """One alarm with its targets."""
    return AlarmDetail(
        row(alarm),
        [
            DeliveryRow(d.target_id, d.state.value, _STATE_TEXTS[d.state.value], d.tries, d.at, d.error)
            for d in deliveries
        ],
    )


def ack_answer(seen: Seen) -> AckAnswer:
    """What became of a wish to acknowledge."""
    return AckAnswer(list(seen.acknowledged), list(seen.already), list(seen.missing))


def route_row(route: Route) -> RouteRow:
    """One rule as it is shown."""
    return RouteRow(
        route.id,
        route.target_id,
        route.device_id,
        route.civil_code,
        sorted(route.methods),
        route.lowest_priority,
        route.created_by,
        route.created_at,
    )


def words() -> AlarmWords:
    """The closed lists, for forms and filters."""
    return AlarmWords(
        [AlarmWord(value, text) for value, text in alarm_types.PRIORITIES.items()],
        [
            MethodWord(
                value, text, [AlarmWord(n, name) for n, name in alarm_types.TYPES.get(value, {}).items()]
            )
            for value, text in alarm_types.METHODS.items()
        ],
        [AlarmWord(value, text) for value, text in alarm_types.EVENTS.items()],
    )
