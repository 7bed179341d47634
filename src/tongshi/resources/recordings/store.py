"""Rules, segments and gaps in the database. What a caller's scope does not hold stands in no answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from tongshi.errors import LimitExceeded
from tongshi.resources.recordings.model import (
    MAX_RULES,
    MAX_SEGMENTS_FOUND,
    GapReason,
    RecordingGap,
    Rule,
    RuleUse,
    Segment,
    SegmentState,
    Space,
    Storage,
    pack_key_frames,
    unpack_key_frames,
)
from tongshi.sharing.model import Hours, Scope
from tongshi.sharing.scope_store import below, within
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.schema import device_archive, recording_gap, recording_rule, recording_segment
from tongshi.storage.times import from_ms, to_ms

_r, _s, _g, _d = recording_rule.c, recording_segment.c, recording_gap.c, device_archive.c
_RULE_COLUMNS = (
    "id",
    "device_id",
    "civil_code",
    "stream_type",
    "hours",
    "retention_days",
    "quota_bytes",
    "is_enabled",
    "updated_at",
    "updated_by",
)
_SHOWN = [column for column in recording_segment.c if column.name != "key_frames"]
_THERE = _s.state != SegmentState.DELETING.value


def rules(conn: Connection) -> list[Rule]:
    """Every rule, in order of id."""
    return [_rule(row) for row in conn.execute(select(recording_rule).order_by(_r.id))]


def find_rule(conn: Connection, rule_id: str) -> Rule | None:
    """One rule."""
    row = conn.execute(select(recording_rule).where(_r.id == rule_id)).one_or_none()
    return None if row is None else _rule(row)


def put_rule(conn: Connection, rule: Rule, at: datetime) -> None:
    """Create or replace a rule; its segments expire by its new retention. Raises LimitExceeded."""
    if find_rule(conn, rule.id) is None:
        count = conn.execute(select(func.count()).select_from(recording_rule)).scalar_one()
        if count >= MAX_RULES:
            raise LimitExceeded(f"录像规则最多 {MAX_RULES} 条", code=42903)
    row = (
        rule.id,
        rule.device_id,
        rule.civil_code,
        rule.stream_type,
        "" if rule.hours is None else str(rule.hours),
        rule.retention_days,
        rule.quota_bytes,
        rule.is_enabled,
        to_ms(at),
        rule.updated_by,
    )
    bulk_upsert(conn, recording_rule, _RULE_COLUMNS, [row])
    kept_ms = timedelta(days=rule.retention_days) // timedelta(milliseconds=1)
    conn.execute(
        update(recording_segment).where(_s.rule_id == rule.id).values(expires_at=_s.end_at + kept_ms)
    )


def drop_rule(conn: Connection, rule_id: str) -> bool:
    """Take a rule away; what it recorded stays until it expires. False when there was none."""
    return conn.execute(delete(recording_rule).where(_r.id == rule_id)).rowcount == 1


def rule_use(conn: Connection) -> dict[str, RuleUse]:
    """What each rule's segments take."""
    rows = conn.execute(
        select(_s.rule_id, func.count(), func.sum(_s.size_bytes), func.min(_s.start_at))
        .where(_THERE)
        .group_by(_s.rule_id)
    )
    return {row[0]: RuleUse(row[1], int(row[2] or 0), from_ms(row[3])) for row in rows}


def devices_within(conn: Connection, civil_code: str, limit: int) -> list[str]:
    """Devices of an administrative division, in order of code."""
    rows = conn.execute(
        select(_d.device_id).where(below(_d.civil_code, civil_code)).order_by(_d.device_id).limit(limit)
    )
    return [row[0] for row in rows]


def is_known(conn: Connection, device_id: str) -> bool:
    """Whether the archive knows a device."""
    return conn.execute(select(_d.device_id).where(_d.device_id == device_id)).first() is not None


def space(conn: Connection) -> Space:
    """What all segments take."""
    row = conn.execute(
        select(func.count(), func.sum(_s.size_bytes), func.min(_s.start_at)).where(_THERE)
    ).one()
    held = conn.execute(select(func.sum(_s.size_bytes)).where(_THERE, _s.is_held)).scalar_one()
    return Space(row[0], int(row[1] or 0), int(held or 0), from_ms(row[2]))


def add_segment(conn: Connection, new: Segment) -> None:
    """A segment that is being written."""
    conn.execute(
        insert(recording_segment).values(
            id=new.id,
            rule_id=new.rule_id,
            device_id=new.device_id,
            stream_type=new.stream_type,
            start_at=to_ms(new.start),
            end_at=to_ms(new.end),
            expires_at=to_ms(new.expires_at),
            size_bytes=new.size_bytes,
            video=new.video,
            audio=new.audio,
            state=new.state.value,
            storage=new.storage.value,
            key_frames=pack_key_frames(new.key_frames),
        )
    )


def change_segment(conn: Connection, now: Segment) -> None:
    """How far a segment is; whether it is held is another's business."""
    conn.execute(
        update(recording_segment)
        .where(_s.id == now.id)
        .values(
            start_at=to_ms(now.start),
            end_at=to_ms(now.end),
            expires_at=to_ms(now.expires_at),
            size_bytes=now.size_bytes,
            video=now.video,
            audio=now.audio,
            digest=now.digest,
            state=now.state.value,
            storage=now.storage.value,
            key_frames=pack_key_frames(now.key_frames),
        )
    )


def remove_segments(conn: Connection, ids: Sequence[str]) -> None:
    """Forget segments whose files are gone."""
    conn.execute(delete(recording_segment).where(_s.id.in_(list(ids))))


def segments(
    conn: Connection,
    device_id: str,
    start: datetime,
    end: datetime,
    *,
    with_key_frames: bool = False,
) -> list[Segment]:
    """What of a device reaches into a window, the oldest first; at most MAX_SEGMENTS_FOUND."""
    columns = list(recording_segment.c) if with_key_frames else _SHOWN
    rows = conn.execute(
        select(*columns)
        .where(
            _s.device_id == device_id,
            _s.start_at < to_ms(end),
            _s.end_at > to_ms(start),
            _THERE,
        )
        .order_by(_s.start_at, _s.id)
        .limit(MAX_SEGMENTS_FOUND)
    )
    return [_segment(row) for row in rows]


def by_state(conn: Connection, state: SegmentState, storage: Storage | None = None) -> list[Segment]:
    """Segments in a state, the oldest first, a bounded number."""
    wanted = [_s.state == state.value]
    if storage is not None:
        wanted.append(_s.storage == storage.value)
    rows = conn.execute(
        select(recording_segment).where(*wanted).order_by(_s.start_at).limit(MAX_SEGMENTS_FOUND)
    )
    return [_segment(row) for row in rows]


def page(
    conn: Connection, scope: Scope, device_id: str, window: tuple[datetime, datetime], page_no: int, size: int
) -> tuple[list[Segment], int]:
    """Segments of devices that the caller may see, the latest first, and how many there are."""
    wanted = [_within(scope), _THERE, _s.start_at < to_ms(window[1]), _s.end_at > to_ms(window[0])]
    if device_id:
        wanted.append(_s.device_id == device_id)
    joined = recording_segment.outerjoin(device_archive, _d.device_id == _s.device_id)
    total = conn.execute(select(func.count()).select_from(joined).where(*wanted)).scalar_one()
    rows = conn.execute(
        select(*_SHOWN)
        .select_from(joined)
        .where(*wanted)
        .order_by(_s.start_at.desc(), _s.id)
        .limit(size)
        .offset((page_no - 1) * size)
    )
    return [_segment(row) for row in rows], total


def gaps(
    conn: Connection, scope: Scope, device_id: str, window: tuple[datetime, datetime], limit: int
) -> list[RecordingGap]:
    """Gaps of devices that the caller may see, the latest first."""
    wanted = [
        _within(scope),
        _g.start_at < to_ms(window[1]),
        or_(_g.end_at.is_(None), _g.end_at > to_ms(window[0])),
    ]
    if device_id:
        wanted.append(_g.device_id == device_id)
    rows = conn.execute(
        select(recording_gap)
        .select_from(recording_gap.outerjoin(device_archive, _d.device_id == _g.device_id))
        .where(*wanted)
        .order_by(_g.start_at.desc(), _g.id)
        .limit(limit)
    )
    return [_gap(row) for row in rows]


def last_end(conn: Connection, device_id: str, stream_type: int) -> datetime | None:
    """When the latest segment of a stream ends."""
    found: int | None = conn.execute(
        select(func.max(_s.end_at)).where(_s.device_id == device_id, _s.stream_type == stream_type)
    ).scalar_one()
    return from_ms(found)


def hold(
    conn: Connection, device_id: str, window: tuple[datetime, datetime], reason: str, *, is_held: bool
) -> int:
    """Lock segments of a device against deletion, or unlock them; how many changed."""
    return conn.execute(
        update(recording_segment)
        .where(
            _s.device_id == device_id,
            _s.start_at < to_ms(window[1]),
            _s.end_at > to_ms(window[0]),
            _THERE,
            _s.is_held.is_(not is_held),
        )
        .values(is_held=is_held, held_for=reason)
    ).rowcount


def expired(conn: Connection, at: datetime, limit: int) -> list[Segment]:
    """Segments that may go by age, the oldest first."""
    return _deletable(conn, _s.expires_at <= to_ms(at), limit)


def oldest(conn: Connection, rule_id: str, limit: int) -> list[Segment]:
    """The oldest deletable segments of a rule."""
    return _deletable(conn, _s.rule_id == rule_id, limit)


def mark_deleting(conn: Connection, ids: Sequence[str]) -> None:
    """They are shown and played no more from here on; one that was held meanwhile stays."""
    conn.execute(
        update(recording_segment)
        .where(_s.id.in_(list(ids)), _s.is_held.is_(False))
        .values(state=SegmentState.DELETING.value)
    )


def add_gap(conn: Connection, new: RecordingGap) -> None:
    """A stretch that is missing."""
    conn.execute(
        insert(recording_gap).values(
            id=new.id,
            device_id=new.device_id,
            stream_type=new.stream_type,
            start_at=to_ms(new.start),
            end_at=None if new.end is None else to_ms(new.end),
            reason=new.reason.value,
            detail=new.detail[:256],
        )
    )


def end_gaps(conn: Connection, device_id: str, stream_type: int, at: datetime) -> None:
    """What was missing is recorded again."""
    conn.execute(
        update(recording_gap)
        .where(_g.device_id == device_id, _g.stream_type == stream_type, _g.end_at.is_(None))
        .values(end_at=to_ms(at))
    )


def open_gaps(conn: Connection) -> list[RecordingGap]:
    """Gaps that have no end yet."""
    return [_gap(row) for row in conn.execute(select(recording_gap).where(_g.end_at.is_(None)))]


def forget_gaps(conn: Connection, before: datetime) -> int:
    """Forget gaps that ended before a time."""
    return conn.execute(delete(recording_gap).where(_g.end_at < to_ms(before))).rowcount


def _deletable(conn: Connection, wanted: ColumnElement[bool], limit: int) -> list[Segment]:
    whole = _s.state.in_((SegmentState.WHOLE.value, SegmentState.REPAIRED.value))
    rows = conn.execute(
        select(*_SHOWN).where(wanted, whole, _s.is_held.is_(False)).order_by(_s.start_at).limit(limit)
    )
    return [_segment(row) for row in rows]


def _within(scope: Scope) -> ColumnElement[bool]:
    """Devices of a scope; asked of a join with the archive."""
    return within(scope, _d.civil_code, _d.owner_platform, _d.device_id)


def _rule(row: Any) -> Rule:
    return Rule(
        row.id,
        row.device_id,
        row.civil_code,
        row.stream_type,
        Hours.parse(row.hours) if row.hours else None,
        row.retention_days,
        row.quota_bytes,
        row.is_enabled,
        from_ms(row.updated_at),
        row.updated_by,
    )


def _segment(row: Any) -> Segment:
    return Segment(
        id=row.id,
        rule_id=row.rule_id,
        device_id=row.device_id,
        stream_type=row.stream_type,
        start=from_ms(row.start_at),
        end=from_ms(row.end_at),
        expires_at=from_ms(row.expires_at),
        size_bytes=row.size_bytes,
        video=row.video,
        audio=row.audio,
        digest=row.digest,
        state=SegmentState(row.state),
        storage=Storage(row.storage),
        is_held=row.is_held,
        held_for=row.held_for,
        key_frames=unpack_key_frames(row.key_frames) if hasattr(row, "key_frames") else (),
    )


def _gap(row: Any) -> RecordingGap:
    return RecordingGap(
        row.id,
        row.device_id,
        row.stream_type,
        from_ms(row.start_at),
        from_ms(row.end_at),
        GapReason(row.reason),
        row.detail,
    )
