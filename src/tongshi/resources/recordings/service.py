"""What people do with own recordings: rules, space, lists, and holding segments against deletion.

Implements: DB31DSJ/Z 001-2024 7.3
Nothing is recorded without a rule. Every change is audited in its own transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest, NotFound
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import RecordingGap, Rule, RuleUse, Segment, Space
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

MAX_GAPS_SHOWN = 500
Between = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of segments that the caller may see, and the gaps of the same time."""

    segments: list[Segment]
    total: int
    gaps: list[RecordingGap]


class RecordingDesk:
    """Rules and segments, for administrators and for whoever may play back.

    Args:
        free_bytes: room that is left where recordings are kept.
        on_change: told after rules changed.
    """

    def __init__(
        self,
        db: Database,
        free_bytes: Callable[[], Awaitable[int | None]],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._free_bytes = free_bytes
        self._on_change = on_change

    async def rules(self) -> list[tuple[Rule, RuleUse]]:
        """Every rule with what its segments take."""
        return await self._db.read(_rules)

    async def put_rule(self, by: Subject, rule: Rule, context: Context) -> Rule:
        """Create or replace a rule.

        Raises:
            InvalidRequest: neither or both of device and division. NotFound: no such device (40401).
            LimitExceeded: too many rules (42903).
        """
        if bool(rule.device_id) is bool(rule.civil_code):
            raise InvalidRequest("规则须指定一个设备或一个行政区划，二者择一", field="deviceId")
        named = replace(rule, updated_by=by.name, updated_at=context.at)
        await self._db.write(_put_rule, by, named, context)
        self._on_change()
        return named

    async def drop_rule(self, by: Subject, rule_id: str, context: Context) -> None:
        """Stop recording by a rule; what it recorded stays until it expires. Raises NotFound."""
        if not await self._db.write(_drop_rule, by, rule_id, context):
            raise NotFound("没有这条录像规则", code=40404)
        self._on_change()

    async def space(self) -> Space:
        """What own recordings take, and what is left."""
        return replace(await self._db.read(store.space), free_bytes=await self._free_bytes())

    async def page(
        self, by: Subject, device_id: str, between: Between, page_no: int, size: int, context: Context
    ) -> Listed:
        """Segments and gaps of what the caller may play back."""
        return await self._db.read(_page, by, device_id, between, page_no, size, context)

    async def hold(
        self, by: Subject, device_id: str, between: Between, reason: str, context: Context, *, is_held: bool
    ) -> int:
        """Keep what was recorded of a device within a time from being deleted, or let it go; how many."""
        return await self._db.write(_hold, by, device_id, between, reason, is_held, context)


def _rules(conn: Connection) -> list[tuple[Rule, RuleUse]]:
    use = store.rule_use(conn)
    return [(rule, use.get(rule.id, RuleUse())) for rule in store.rules(conn)]


def _put_rule(conn: Connection, by: Subject, rule: Rule, context: Context) -> None:
    if rule.device_id and not store.is_known(conn, rule.device_id):
        raise NotFound("设备不存在")
    store.put_rule(conn, rule, context.at)
    details: dict[str, object] = {
        "deviceId": rule.device_id,
        "civilCode": rule.civil_code,
        "streamType": rule.stream_type,
        "retentionDays": rule.retention_days,
        "quotaBytes": rule.quota_bytes,
        "enabled": rule.is_enabled,
    }
    _audit(conn, by, AuditTag.RECORDING_RULE, "recording_rule", rule.id, context, details)


def _drop_rule(conn: Connection, by: Subject, rule_id: str, context: Context) -> bool:
    was_there = store.drop_rule(conn, rule_id)
    if was_there:
        _audit(conn, by, AuditTag.RECORDING_RULE, "recording_rule", rule_id, context, {"dropped": True})
    return was_there


def _page(
    conn: Connection,
    by: Subject,
    device_id: str,
    between: Between,
    page_no: int,
    size: int,
    context: Context,
) -> Listed:
    scope = scope_of(conn, by, Permission.VIDEO_PLAYBACK, context)
    found, total = store.page(conn, scope, device_id, between, page_no, size)
    return Listed(found, total, store.gaps(conn, scope, device_id, between, MAX_GAPS_SHOWN))


def _hold(
    conn: Connection,
    by: Subject,
    device_id: str,
    between: Between,
    reason: str,
    is_held: bool,
    context: Context,
) -> int:
    changed = store.hold(conn, device_id, between, reason if is_held else "", is_held=is_held)
    details: dict[str, object] = {
        "held": is_held,
        "segments": changed,
        "startTime": between[0].isoformat(),
        "endTime": between[1].isoformat(),
        "reason": reason,
    }
    _audit(conn, by, AuditTag.RECORDING_HOLD, "device", device_id, context, details)
    return changed


def _audit(
    conn: Connection,
    by: Subject,
    event: AuditTag,
    object_kind: str,
    object_id: str,
    context: Context,
    details: dict[str, object],
) -> None:
    audit.append(conn, deed(by, context, event, object_kind, object_id, details))
