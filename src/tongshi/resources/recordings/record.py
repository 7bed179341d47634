"""What the recorder and the player ask of the record: what is wanted now, segments, gaps, what may go.

Beginning to record a device is written to the audit chain before its picture is held, with the rule and who
made it: it is a view that nobody asked for at that moment. Deletion is written there too.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import (
    MAX_RECORDED_STREAMS,
    GapReason,
    RecordingGap,
    Rule,
    Segment,
    SegmentState,
    Storage,
    Wanted,
)
from tongshi.storage.engine import Database

A_MOMENT = timedelta(seconds=1)
DELETE_AT_ONCE = 200
GAPS_KEPT = timedelta(days=366)


class RecordingRecord:
    """The record of own recordings.

    Args:
        self_id: this platform, who audits as itself what no person asked for.
    """

    def __init__(self, db: Database, clock: Clock, self_id: str) -> None:
        self._db = db
        self._clock = clock
        self._self_id = self_id

    async def wanted(self) -> list[Wanted]:
        """Streams that rules ask for now; a rule for the device goes before one for its division."""
        return await self._db.read(_wanted, self._clock.at())

    async def begin(self, wanted: Wanted) -> None:
        """A device is about to be recorded by a rule: audited."""
        await self._db.write(_begin, wanted, self._self_id, self._clock.at())

    async def add(self, segment: Segment) -> None:
        """A segment was begun: a gap before it ends there."""
        await self._db.write(_add, segment)

    async def note_stopped(self, wanted: Sequence[Wanted]) -> None:
        """This platform has just started: since their last segment nothing of these was recorded."""
        await self._db.write(_note_stopped, wanted, self._clock.at())

    async def change(self, segment: Segment) -> None:
        """How far a segment is."""
        await self._db.write(store.change_segment, segment)

    async def lost(self, segment: Segment, detail: str) -> None:
        """A segment whose file is gone or has nothing whole in it: named as a gap, never claimed."""
        await self._db.write(_lost, segment, detail)

    async def missing(self, device_id: str, stream_type: int, reason: GapReason, detail: str) -> None:
        """Nothing is recorded from now on, and why; it ends with the next segment."""
        gap = RecordingGap(
            secrets.token_hex(16), device_id, stream_type, self._clock.at(), None, reason, detail
        )
        await self._db.write(_missing, gap)

    async def no_longer_wanted(self, device_id: str, stream_type: int) -> None:
        """No rule asks any more: what is not recorded is no gap."""
        await self._db.write(store.end_gaps, device_id, stream_type, self._clock.at())

    async def segments(self, device_id: str, start: datetime, end: datetime) -> list[Segment]:
        """What is recorded within a window, with its key frames."""
        return await self._db.read(store.segments, device_id, start, end, with_key_frames=True)

    async def listed(self, device_id: str, start: datetime, end: datetime) -> list[Segment]:
        """The same without key frames."""
        return await self._db.read(store.segments, device_id, start, end)

    async def unfinished(self) -> list[Segment]:
        """Segments that a process before this one did not end."""
        return await self._db.read(store.by_state, SegmentState.WRITING)

    async def left_over(self) -> list[Segment]:
        """Segments that are to be deleted still."""
        return await self._db.read(store.by_state, SegmentState.DELETING)

    async def not_moved(self) -> list[Segment]:
        """Whole segments that lie on the local disk."""
        whole = await self._db.read(store.by_state, SegmentState.WHOLE, Storage.LOCAL)
        return whole + await self._db.read(store.by_state, SegmentState.REPAIRED, Storage.LOCAL)

    async def condemn(self) -> list[Segment]:
        """Choose what goes by age and by quota, oldest first and nothing that is held; audited and marked."""
        return await self._db.write(_condemn, self._self_id, self._clock.at())

    async def deleted(self, segments: Sequence[Segment]) -> None:
        """Their files are gone."""
        await self._db.write(store.remove_segments, [one.id for one in segments])

    async def forget_gaps(self) -> None:
        """Forget what is missing since longer than anything is kept."""
        await self._db.write(store.forget_gaps, self._clock.at() - GAPS_KEPT)


def _wanted(conn: Connection, at: datetime) -> list[Wanted]:
    rules = [rule for rule in store.rules(conn) if rule.is_enabled]
    found: dict[tuple[str, int], Rule] = {}
    for rule in (rule for rule in rules if rule.device_id):
        found.setdefault((rule.device_id, rule.stream_type), rule)
    # The narrowest division first, so that its word goes before that of the wider.
    for rule in sorted((r for r in rules if r.civil_code), key=lambda r: (-len(r.civil_code), r.id)):
        for device_id in store.devices_within(conn, rule.civil_code, MAX_RECORDED_STREAMS):
            found.setdefault((device_id, rule.stream_type), rule)
    return [Wanted(*key, rule) for key, rule in found.items() if rule.wants(at)][:MAX_RECORDED_STREAMS]


def _begin(conn: Connection, wanted: Wanted, self_id: str, at: datetime) -> None:
    rule = wanted.rule
    details: dict[str, object] = {"rule": rule.id, "madeBy": rule.updated_by, "stream": wanted.stream_type}
    audit.append(conn, _entry(AuditTag.RECORDING_BEGIN, self_id, "device", wanted.device_id, at, details))


def _add(conn: Connection, segment: Segment) -> None:
    store.end_gaps(conn, segment.device_id, segment.stream_type, segment.start)
    store.add_segment(conn, segment)


def _note_stopped(conn: Connection, wanted: Sequence[Wanted], at: datetime) -> None:
    missing = {(gap.device_id, gap.stream_type) for gap in store.open_gaps(conn)}
    for one in wanted:
        last = store.last_end(conn, one.device_id, one.stream_type)
        if last is None or (one.device_id, one.stream_type) in missing or not one.rule.wants(last + A_MOMENT):
            continue
        gap = RecordingGap(
            secrets.token_hex(16), one.device_id, one.stream_type, last, None, GapReason.STOPPED
        )
        store.add_gap(conn, gap)


def _lost(conn: Connection, segment: Segment, detail: str) -> None:
    store.remove_segments(conn, [segment.id])
    store.add_gap(
        conn,
        RecordingGap(
            segment.id,
            segment.device_id,
            segment.stream_type,
            segment.start,
            max(segment.end, segment.start),
            GapReason.LOST,
            detail,
        ),
    )


def _missing(conn: Connection, gap: RecordingGap) -> None:
    for known in store.open_gaps(conn):
        if (known.device_id, known.stream_type) == (gap.device_id, gap.stream_type):
            if known.reason is gap.reason:
                return
            store.end_gaps(conn, gap.device_id, gap.stream_type, gap.start)
    store.add_gap(conn, gap)


def _condemn(conn: Connection, self_id: str, at: datetime) -> list[Segment]:
    doomed = {one.id: one for one in store.expired(conn, at, DELETE_AT_ONCE)}
    by_age = len(doomed)
    use = store.rule_use(conn)
    for rule in store.rules(conn):
        over = use[rule.id].size_bytes - rule.quota_bytes if rule.quota_bytes and rule.id in use else 0
        for one in store.oldest(conn, rule.id, DELETE_AT_ONCE) if over > 0 else ():
            if over <= 0:
                break
            over -= one.size_bytes
            doomed.setdefault(one.id, one)
    return _mark(conn, list(doomed.values()), {"byAge": by_age}, self_id, at)


def _mark(
    conn: Connection, doomed: list[Segment], why: dict[str, object], self_id: str, at: datetime
) -> list[Segment]:
    if not doomed:
        return []
    store.mark_deleting(conn, [one.id for one in doomed])
    details: dict[str, object] = {
        **why,
        "segments": len(doomed),
        "bytes": sum(one.size_bytes for one in doomed),
        "from": min(one.start for one in doomed).isoformat(),
        "to": max(one.end for one in doomed).isoformat(),
        "devices": sorted({one.device_id for one in doomed})[:50],
    }
    audit.append(conn, _entry(AuditTag.RECORDING_DELETE, self_id, "recording", "", at, details))
    return [replace(one, state=SegmentState.DELETING) for one in doomed]


def _entry(
    event: AuditTag, self_id: str, kind: str, object_id: str, at: datetime, details: dict[str, object]
) -> audit.AuditEntry:
    return audit.AuditEntry(
        at,
        event,
        Outcome.DONE,
        subject_kind="platform",
        subject_id=self_id,
        object_kind=kind,
        object_id=object_id,
        details=details,
    )
