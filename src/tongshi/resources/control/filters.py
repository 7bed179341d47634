"""What a neighbour above may command through us: an allow list, with ranges, beside the rights on devices.

Implements: DB31DSJ/Z 001-2024 6.4.3.1
Implements: GB/T 28181-2022 7.3
A filter narrows and never widens: who passes it is still asked for the right on the device. Without one, a
neighbour may ask, turn heads by front-end instructions, and want a key frame of what it may see; nothing
else. A filter on trial decides nothing: the rule without one holds, and what the filter would have said is
written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import InvalidRequest, RemoteViolation
from tongshi.protocols.gb28181.control import ControlKind, DeviceConfig, DeviceControl
from tongshi.protocols.gb28181.device_query import DeviceQuery
from tongshi.protocols.gb28181.front_end import Action, parse_instruction
from tongshi.sharing.model import Subject
from tongshi.storage.engine import Database

MAX_RULES: Final = 64
QUERIES: Final = (
    "PresetQuery",
    "HomePositionQuery",
    "CruiseTrackListQuery",
    "CruiseTrackQuery",
    "PTZPosition",
    "SDCardStatus",
    "ConfigDownload",
)
CONFIG: Final = "DeviceConfig"
COMMANDS: Final = (*(kind.value for kind in ControlKind), CONFIG, *QUERIES)
FIELDS: Final = (
    "panSpeed",
    "tiltSpeed",
    "zoomSpeed",
    "presetIndex",
    "group",
    "streamNumber",
    "resetTime",
    "pan",
    "tilt",
    "zoom",
    "card",
)


class Range(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A number of the command within bounds, both inclusive. A command without that number passes."""

    field: str
    low: Annotated[float, Meta(ge=-1e9, le=1e9)]
    high: Annotated[float, Meta(ge=-1e9, le=1e9)]


class FilterRule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One command that is let through: its element, or the CmdType of a query or of DeviceConfig."""

    command: str
    ranges: Annotated[tuple[Range, ...], Meta(max_length=16)] = ()


@dataclass(frozen=True, slots=True)
class ControlFilter:
    """What one neighbour may command."""

    rules: tuple[FilterRule, ...]
    is_dry_run: bool = False
    updated_at: datetime | None = None
    updated_by: str = ""


DEFAULT: Final = ControlFilter(
    (
        FilterRule(ControlKind.FRONT_END.value),
        FilterRule(ControlKind.KEY_FRAME.value),
        *(FilterRule(name) for name in QUERIES),
    )
)
Commanded = DeviceControl | DeviceConfig | DeviceQuery


class FilterStore(Protocol):
    """See ``filter_store``."""

    def get(self, conn: Connection, platform_id: str, /) -> ControlFilter | None: ...
    def put(self, conn: Connection, platform_id: str, new: ControlFilter, at: datetime, /) -> None: ...
    def drop(self, conn: Connection, platform_id: str, /) -> bool: ...


class ControlFilters:
    """Filters of all neighbours."""

    def __init__(self, db: Database, store: FilterStore, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._clock = clock

    async def get(self, platform_id: str) -> ControlFilter:
        """What holds for a neighbour: its own filter, or the rule without one."""
        return await self._db.read(self._store.get, platform_id) or DEFAULT

    async def put(
        self, by: Subject, platform_id: str, rules: tuple[FilterRule, ...], *, is_dry_run: bool
    ) -> ControlFilter:
        """Replace a filter, with its audit record. Raises InvalidRequest: a rule that cannot be."""
        check_rules(rules)
        at = self._clock.at()
        new = ControlFilter(rules, is_dry_run, at, by.name)
        await self._db.write(self._put, by, platform_id, new, at)
        return new

    async def drop(self, by: Subject, platform_id: str) -> bool:
        """Go back to the rule without one. False when there was none."""
        return await self._db.write(self._drop, by, platform_id, self._clock.at())

    async def passes(self, subject: Subject, message: Commanded, address: str) -> bool:
        """Whether a neighbour's command may go on to the decision; a refusal and a trial are recorded."""
        found = await self._db.read(self._store.get, subject.id)
        is_dry_run = found is not None and found.is_dry_run
        holding = DEFAULT if found is None or is_dry_run else found
        refusal = reason_against(holding, message)
        trial = reason_against(found, message) if found is not None and is_dry_run else None
        if refusal or trial:
            await self._db.write(self._record, subject, message, address, refusal, trial)
        return not refusal

    def _put(self, conn: Connection, by: Subject, platform_id: str, new: ControlFilter, at: datetime) -> None:
        self._store.put(conn, platform_id, new, at)
        rules: dict[str, object] = {"rules": len(new.rules), "dryRun": new.is_dry_run}
        audit.append(conn, _entry(at, by, "platform", platform_id, Outcome.DONE, "", rules))

    def _drop(self, conn: Connection, by: Subject, platform_id: str, at: datetime) -> bool:
        was_there = self._store.drop(conn, platform_id)
        if was_there:
            audit.append(conn, _entry(at, by, "platform", platform_id, Outcome.DONE, "", {"dropped": True}))
        return was_there

    def _record(
        self,
        conn: Connection,
        subject: Subject,
        message: Commanded,
        address: str,
        refusal: str,
        trial: str | None,
    ) -> None:
        details: dict[str, object] = {"commands": list(names_of(message)), "address": address}
        if trial is not None:
            details["dryRun"] = trial or "passes"
        outcome = Outcome.DENIED if refusal else Outcome.ALLOWED
        at = self._clock.at()
        audit.append(conn, _entry(at, subject, "device", message.device_id, outcome, refusal, details))


def check_rules(rules: tuple[FilterRule, ...]) -> None:
    """Raises InvalidRequest: too many, a command or a number that there is not, or an empty range."""
    if len(rules) > MAX_RULES:
        raise InvalidRequest(f"一个平台最多 {MAX_RULES} 条规则", field="rules")
    for place, rule in enumerate(rules):
        where = f"rules[{place}]"
        if rule.command not in COMMANDS:
            details: dict[str, object] = {"supported": list(COMMANDS)}
            raise InvalidRequest(f"未知的命令 {rule.command}", field=f"{where}.command", details=details)
        for span in rule.ranges:
            if span.field not in FIELDS:
                raise InvalidRequest(
                    f"未知的参数 {span.field}", field=f"{where}.ranges", details={"supported": list(FIELDS)}
                )
            if span.low > span.high:
                raise InvalidRequest("范围的下限大于上限", field=f"{where}.ranges")


def reason_against(rules: ControlFilter, message: Commanded) -> str:
    """Why a command does not pass; "" when it does. Every part of it must pass."""
    names = names_of(message)
    if not names:
        return "没有可识别的命令"
    numbers = numbers_of(message)
    for name in names:
        same = [rule for rule in rules.rules if rule.command == name]
        if not same:
            return f"不允许的命令 {name}"
        if not any(_holds(rule, numbers) for rule in same):
            return f"命令 {name} 的参数超出允许范围"
    return ""


def names_of(message: Commanded) -> tuple[str, ...]:
    """What a message asks for, as rules name it."""
    if isinstance(message, DeviceControl):
        return tuple(kind.value for kind in message.kinds)
    return (message.cmd_type,)


def numbers_of(message: Commanded) -> Mapping[str, float]:
    """The numbers of a command, by the names that rules have for them."""
    if not isinstance(message, DeviceControl):
        return {}
    found: dict[str, float | None] = {
        "streamNumber": message.stream_number,
        "card": message.format_card,
    }
    if message.ptz_cmd is not None:
        found.update(_instruction_numbers(message.ptz_cmd))
    if message.home_position is not None:
        found["presetIndex"] = message.home_position.preset_index
        found["resetTime"] = message.home_position.reset_time
    if message.precise_view is not None:
        view = message.precise_view
        found.update(pan=view.pan, tilt=view.tilt, zoom=view.zoom)
    return {name: value for name, value in found.items() if value is not None}


def _instruction_numbers(text: str) -> dict[str, float]:
    try:
        wanted = parse_instruction(text)
    except RemoteViolation:
        return {}  # it is refused where it would be relayed
    if wanted.action is Action.MOVE:
        return {"panSpeed": wanted.data1, "tiltSpeed": wanted.data2, "zoomSpeed": wanted.data3}
    if wanted.action in (Action.SET_PRESET, Action.CALL_PRESET, Action.DELETE_PRESET):
        return {"presetIndex": wanted.data2}
    return {} if wanted.action is Action.LENS else {"group": wanted.data1}


def _holds(rule: FilterRule, numbers: Mapping[str, float]) -> bool:
    return all(
        span.field not in numbers or span.low <= numbers[span.field] <= span.high for span in rule.ranges
    )


def _entry(
    at: datetime,
    subject: Subject,
    object_kind: str,
    object_id: str,
    outcome: Outcome,
    reason: str,
    details: dict[str, object],
) -> audit.AuditEntry:
    return audit.AuditEntry(
        at=at,
        event=AuditTag.CONTROL_FILTER,
        outcome=outcome,
        subject_kind=subject.kind.value,
        subject_id=subject.id,
        subject_name=subject.name,
        object_kind=object_kind,
        object_id=object_id,
        reason=reason,
        details=details,
    )
