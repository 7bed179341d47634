"""What is kept for a set time is cut back by itself, a bounded step at a time, and readers are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from tongshi.app import housekeeping
from tongshi.app.housekeeping import Housekeeping
from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import ManualClock
from tongshi.errors import Gone
from tongshi.storage import changes
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)


def note(conn: Connection, count: int, at: datetime) -> int:
    items: list[tuple[str, changes.Op, int]] = [(f"key {number}", "put", 1) for number in range(count)]
    return changes.record_many(conn, "device", items, "31010400002000000001", at)


async def test_changes_past_their_time_go_and_a_reader_behind_them_is_told(database: Database) -> None:
    old = await database.write(note, 30, AT)
    young = await database.write(note, 5, AT + timedelta(days=100))
    clock = ManualClock()
    clock.advance((AT + changes.KEEP + timedelta(days=1) - clock.at()).total_seconds())
    keeping = Housekeeping(database, clock)
    assert (await keeping.turn())["change feed"] == 30
    with pytest.raises(Gone):
        await database.read(changes.read_after, 0, 10)
    assert len(await database.read(changes.read_after, old, 10)) == 5
    assert await database.read(changes.head) == young
    assert (await keeping.turn())["change feed"] == 0


async def test_a_step_is_bounded_and_the_floor_follows_it(database: Database) -> None:
    await database.write(note, 30, AT)
    before = AT + timedelta(days=1)
    assert await database.write(changes.compact, before, 12) == 12
    assert len(await database.read(changes.read_after, await database.read(changes.floor), 100)) == 18
    assert await database.write(changes.compact, before, 100) == 18
    assert await database.write(changes.compact, before, 100) == 0


def act(conn: Connection, first_day: int, days: int) -> None:
    """Three records a day."""
    for day in range(first_day, first_day + days):
        for hour in (8, 9, 10):
            at = AT + timedelta(days=day, hours=hour)
            audit.append(conn, audit.AuditEntry(at, AuditTag.SIGN_IN, Outcome.DONE, object_id=str(day)))


async def stands_after(database: Database, day: float, *, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """What a turn on a day removes from the audit, and the oldest record's number after it."""
    monkeypatch.setattr(housekeeping, "AUDIT_AT_ONCE", 7)
    monkeypatch.setattr(housekeeping, "STEP_PAUSE_S", 0)
    clock = ManualClock()
    clock.advance((AT + timedelta(days=day) - clock.at()).total_seconds())
    gone = (await Housekeeping(database, clock).turn())["audit"]
    assert await database.read(audit.verify) is None, "what is left is one unbroken chain"
    return gone, min(record.seq for record in (await database.read(audit.page, 1, 2_000))[0])


async def test_audit_records_go_when_they_are_old_and_it_is_recorded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.write(act, 0, 200)
    assert await stands_after(database, 183.9, monkeypatch=monkeypatch) == (0, 1)
    assert await stands_after(database, 200, monkeypatch=monkeypatch) == (3 * 16, 3 * 16 + 1)
    records, _ = await database.read(audit.page, 1, 20, event=AuditTag.AUDIT_PURGE.value)
    assert [record.entry.details["removed"] for record in records] == [6, *[7] * 6]
    assert records[0].entry.details["lastSeq"] == 3 * 16
    oldest = min(record.entry.at for record in (await database.read(audit.page, 1, 2_000))[0])
    assert AT + timedelta(days=200) - oldest < timedelta(days=184)


async def test_a_clock_that_jumps_ahead_takes_no_audit_record(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.write(act, 0, 30)
    await database.write(act, 1_000, 3)
    assert await stands_after(database, 1_002, monkeypatch=monkeypatch) == (0, 1)
    assert await stands_after(database, 9_000, monkeypatch=monkeypatch) == (0, 1)
    await database.write(act, 1_003, 190)
    gone, _ = await stands_after(database, 1_000 + 190, monkeypatch=monkeypatch)
    assert gone == 3 * 30 + 3 * 6, "half a year of days with records has followed: they are old indeed"


async def test_a_task_that_fails_leaves_the_others_their_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(conn: Connection, before: datetime) -> int:
        raise RuntimeError("a defect")

    await database.write(note, 4, AT)
    clock = ManualClock()
    clock.advance((AT + changes.KEEP + timedelta(days=1) - clock.at()).total_seconds())
    tasks = {"broken": (broken, timedelta(0)), "change feed": housekeeping.TASKS["change feed"]}
    monkeypatch.setattr(housekeeping, "TASKS", tasks)
    assert await Housekeeping(database, clock).turn() == {"change feed": 4}
