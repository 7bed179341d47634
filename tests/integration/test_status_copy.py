"""The copy of statuses in memory is never older than the snapshot of who asks, whatever was written."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs
from sqlalchemy import Connection, select

from tongshi.clock import SystemClock
from tongshi.resources.devices import status_copy, status_copy_store, store
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.status_copy import StatusCopy
from tongshi.storage import changes
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_search, device_status
from tongshi.testing.rest_platform import sample_archives

OWNER = "31010400002000000001"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


async def _platform(database: Database, count: int) -> tuple[SearchIndex, list[str]]:
    rows = sample_archives(OWNER, count)
    await database.write(store.upsert_many, rows, OWNER, NOW)
    index = SearchIndex(database, SystemClock())
    await index.refresh()
    return index, [row.device_id for row in rows]


async def _set(database: Database, online: dict[str, bool]) -> None:
    await database.write(store.set_statuses, online, "test", NOW)


def _asked(conn: Connection, copy: StatusCopy) -> tuple[list[bool | None], list[bool | None]]:
    """What the copy says of every device, and what the same snapshot holds."""
    s, t = device_search.c, device_status.c
    joined = device_search.outerjoin(device_status, s.device_id == t.device_id)
    rows = conn.execute(select(s.number, t.is_online).select_from(joined).order_by(s.number)).all()
    return copy.of(conn, [row.number for row in rows]), [row.is_online for row in rows]


async def test_copy_is_as_the_snapshot_after_any_writes(database: Database) -> None:
    """Steps of the copy, writes, new devices and questions in a random order, with an oracle."""
    index, known = await _platform(database, 20)
    copy, pick = index.statuses, random.Random(5)
    fresh = [structs.replace(row) for row in sample_archives(OWNER, 20, 21)]
    for _ in range(60):
        match pick.randrange(5):
            case 0:
                await copy.catch_up()
            case 1 if fresh:
                row = fresh.pop()
                known.append(row.device_id)
                await database.write(store.upsert_many, [row], OWNER, NOW)
            case 2:
                await index.refresh()
            case _:
                some = pick.sample(known, pick.randrange(1, 4))
                await _set(database, {key: pick.random() < 0.5 for key in some})
        told, held = await database.read(_asked, copy)
        assert told == held


async def test_statuses_come_from_memory_once_copied(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, known = await _platform(database, 5)
    await _set(database, {known[0]: True, known[1]: False})
    await index.statuses.catch_up()
    monkeypatch.setattr(status_copy_store, "of_numbers", _refuse)
    told, held = await database.read(_asked, index.statuses)
    assert told == held == [True, False, None, None, None]
    await _set(database, {known[4]: True, known[0]: False})
    told, held = await database.read(_asked, index.statuses)
    assert told == held == [False, False, None, None, True]


def _refuse(conn: Connection, numbers: object) -> dict[int, bool | None]:
    raise AssertionError(f"looked up: {numbers}")


async def test_question_past_a_storm_or_a_compacted_feed_looks_everything_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_copy, "MAX_TURNED", 3)
    index, known = await _platform(database, 8)
    copy = index.statuses
    await copy.catch_up()
    await _set(database, dict.fromkeys(known, True))
    told, held = await database.read(_asked, copy)
    assert told == held == [True] * 8
    await database.write(changes.compact, NOW + timedelta(days=1))
    await _set(database, {known[0]: False})
    told, held = await database.read(_asked, copy)
    assert told == held == [False, *[True] * 7]
    await copy.catch_up()
    monkeypatch.setattr(status_copy_store, "of_numbers", _refuse)
    told, held = await database.read(_asked, copy)
    assert told == held == [False, *[True] * 7]


async def test_change_that_commits_late_is_not_missed(postgresql_url: str) -> None:
    """PostgreSQL gives the smaller number to the transaction that began first and may commit last."""
    database = await Database.open(postgresql_url)
    try:
        index, known = await _platform(database, 2)
        copy = index.statuses
        await copy.catch_up()
        noted, loop = asyncio.Event(), asyncio.get_running_loop()

        def late(conn: Connection) -> None:
            store.set_statuses(conn, {known[0]: True}, "late", NOW)
            loop.call_soon_threadsafe(noted.set)
            conn.exec_driver_sql("SELECT pg_sleep(0.4)")

        writing = asyncio.create_task(database.write(late))
        await noted.wait()
        await _set(database, {known[1]: True})
        assert not writing.done()
        for _ in range(3):
            await copy.catch_up()
            told, held = await database.read(_asked, copy)
            assert told == held
        await writing
        for _ in range(2):
            told, held = await database.read(_asked, copy)
            assert told == held == [True, True]
            await copy.catch_up()
    finally:
        await database.close()


async def test_background_follows(database: Database) -> None:
    index, known = await _platform(database, 3)
    await _set(database, {known[2]: True})
    await index.start()
    try:
        async with asyncio.timeout(15):
            while index.statuses.copied < 3:  # noqa: ASYNC110  # it is a number that grows, not an event
                await asyncio.sleep(0.02)
        told, held = await database.read(_asked, index.statuses)
        assert told == held == [None, None, True]
    finally:
        await index.stop()
