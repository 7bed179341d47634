"""The change feed is cut back by itself, a bounded step at a time, and its readers are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from tongshi.app.housekeeping import Housekeeping
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
    assert await keeping.turn() == {"change feed": 30, "alarms": 0}
    with pytest.raises(Gone):
        await database.read(changes.read_after, 0, 10)
    assert len(await database.read(changes.read_after, old, 10)) == 5
    assert await database.read(changes.head) == young
    assert await keeping.turn() == {"change feed": 0, "alarms": 0}


async def test_a_step_is_bounded_and_the_floor_follows_it(database: Database) -> None:
    await database.write(note, 30, AT)
    before = AT + timedelta(days=1)
    assert await database.write(changes.compact, before, 12) == 12
    assert len(await database.read(changes.read_after, await database.read(changes.floor), 100)) == 18
    assert await database.write(changes.compact, before, 100) == 18
    assert await database.write(changes.compact, before, 100) == 0
