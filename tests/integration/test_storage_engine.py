"""The engine's promises, on both databases: transactions, isolation of units, order, bounds."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from tongshi.errors import LocalViolation, Unavailable
from tongshi.storage import changes
from tongshi.storage.bulk import bulk_insert, bulk_upsert
from tongshi.storage.engine import Database
from tongshi.storage.runner import Limits
from tongshi.storage.schema import ENGINE_INDEXES, ENGINE_TABLES, device_status, metadata, setting

AT = datetime(2026, 1, 1, tzinfo=UTC)


def put(conn: Connection, name: str, value: str = "") -> str:
    conn.execute(insert(setting).values(name=name, value=value))
    return name


def names(conn: Connection) -> list[str]:
    return list(conn.execute(select(setting.c.name).order_by(setting.c.name)).scalars())


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    assert await database.write(put, "a") == "a"
    assert await database.read(names) == ["a"]


async def test_an_exception_rolls_back_its_own_unit_only(database: Database) -> None:
    def fail(conn: Connection) -> None:
        put(conn, "bad")
        raise KeyError("mine")

    results = await asyncio.gather(
        *(database.write(put, f"a{i}") for i in range(20)),
        database.write(fail),
        *(database.write(put, f"b{i}") for i in range(20)),
        return_exceptions=True,
    )
    assert isinstance(results[20], KeyError)
    assert len(await database.read(names)) == 40


async def test_a_broken_constraint_spoils_no_neighbour_in_the_group(database: Database) -> None:
    results = await asyncio.gather(*(database.write(put, "same") for _ in range(5)), return_exceptions=True)
    assert results.count("same") == 1
    assert sum(isinstance(r, DBAPIError) for r in results) == 4
    assert await database.read(names) == ["same"]


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises((DBAPIError, Unavailable)):
        await database.read(put, "a")
    assert await database.read(names) == []


async def test_a_reader_keeps_one_snapshot_while_a_writer_commits(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    begun, written = threading.Event(), threading.Event()

    def twice(conn: Connection) -> tuple[int, int]:
        first = len(names(conn))
        begun.set()
        assert written.wait(5)
        return first, len(names(conn))

    reading = asyncio.create_task(database.read(twice))
    assert await asyncio.to_thread(begun.wait, 5)
    await database.write(put, "a")
    written.set()
    assert await reading == (0, 0)
    await database.close()


async def test_postgresql_readers_are_repeatable_and_read_only(postgresql_url: str) -> None:
    database = await Database.open(postgresql_url)

    def settings(conn: Connection) -> tuple[str, str]:
        isolation = conn.execute(text("SHOW transaction_isolation")).scalar_one()
        return isolation, conn.execute(text("SHOW transaction_read_only")).scalar_one()

    assert await database.read(settings) == ("repeatable read", "on")
    assert await database.write(settings) == ("read committed", "off")
    await database.close()


async def test_waiting_writes_share_one_commit_and_nobody_is_answered_before_it(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url, limits=Limits(group_s=10.0))
    gates = [(threading.Event(), threading.Event()) for _ in range(2)]

    def hold(conn: Connection, gate: int) -> None:
        gates[gate][0].set()
        assert gates[gate][1].wait(5)

    tasks: list[asyncio.Task[object]] = [asyncio.create_task(database.write(hold, 0))]
    assert await asyncio.to_thread(gates[0][0].wait, 5)
    # All of these wait in the queue while the writer is held, and so fall into its commit.
    tasks += [asyncio.create_task(database.write(put, f"{i:03}")) for i in range(100)]
    tasks.append(asyncio.create_task(database.write(hold, 1)))
    await asyncio.sleep(0)
    gates[0][1].set()
    assert await asyncio.to_thread(gates[1][0].wait, 5)
    # The last unit of the group runs: a hundred were executed, none is visible, none was answered.
    assert await database.read(names) == []
    assert not any(task.done() for task in tasks)
    gates[1][1].set()
    await asyncio.gather(*tasks)
    assert len(await database.read(names)) == 100
    await database.close()


async def test_a_full_queue_is_refused_with_a_retry_time(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url, limits=Limits(queued_writes=3, retry_after_s=7.0))
    running, release = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        running.set()
        assert release.wait(5)

    holding = asyncio.create_task(database.write(hold))
    assert await asyncio.to_thread(running.wait, 5)
    waiting = [asyncio.create_task(database.write(put, str(i))) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await database.write(put, "too many")
    assert refused.value.retry_after_s == 7.0
    release.set()
    await asyncio.gather(holding, *waiting)
    assert await database.read(names) == ["0", "1", "2"]
    await database.close()


async def test_a_caller_cancelled_while_waiting_leaves_no_effect(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    running, release = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        running.set()
        assert release.wait(5)

    holding = asyncio.create_task(database.write(hold))
    assert await asyncio.to_thread(running.wait, 5)
    waiting = asyncio.create_task(database.write(put, "gone"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await holding
    assert await database.read(names) == []
    await database.close()


async def test_a_caller_that_gave_up_before_the_database_was_free_ends_nothing(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    other = sqlite3.connect(make_url(sqlite_url).database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(database.write(put, "given up", "1"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # Longer than the writer waits for a lock.
    await asyncio.sleep(5.5)
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(10):
        await database.write(put, "later", "2")
    await database.close()


async def test_full_disk_within_a_savepoint_is_told_as_a_full_disk(sqlite_url: str) -> None:
    """SQLite ends the transaction by itself, and the unit's own savepoint is gone when it goes back to it."""

    def unit(conn: Connection) -> None:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        with conn.begin_nested():
            rows = [(f"name {number}", "x" * 3_000) for number in range(100)]
            bulk_insert(conn, setting, ("name", "value"), rows)

    database = await Database.open(sqlite_url)
    try:
        with pytest.raises(Unavailable, match="disk is full"):
            await database.write(unit)
        assert await database.read(lambda conn: conn.execute(select(setting.c.name)).first()) is None
    finally:
        await database.close()


async def test_small_writes_are_not_starved_by_bulk_writes(database: Database) -> None:
    def bulk(conn: Connection, start: int) -> None:
        rows = [(f"bulk{start + i}", "") for i in range(2_000)]
        bulk_insert(conn, setting, ("name", "value"), rows)

    finished: list[str] = []

    async def note(name: str, work: asyncio.Future[object] | object) -> None:
        await work  # type: ignore[misc]
        finished.append(name)

    tasks = [asyncio.create_task(note("bulk", database.write(bulk, i * 2_000))) for i in range(3)]
    tasks.append(asyncio.create_task(note("small", database.write(put, "small"))))
    tasks += [asyncio.create_task(note("bulk", database.write(bulk, i * 2_000))) for i in range(3, 12)]
    await asyncio.gather(*tasks)
    assert finished.index("small") < 8


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    accepted = [asyncio.create_task(database.write(put, str(i))) for i in range(50)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*accepted)
    with pytest.raises(Unavailable):
        await database.write(put, "late")
    again = await Database.open(sqlite_url)
    assert len(await again.read(names)) == 50
    await again.close()


async def test_both_engines_migrate_from_nothing_to_the_declared_schema(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from tongshi.testing.postgres import create_database, drop_database

    def differences(conn: Connection) -> list[object]:
        def is_declared(name: str | None, kind: str, _: object) -> bool:
            # What each engine makes in its own way, and the tables behind it.
            if kind == "index":
                return name not in ENGINE_INDEXES
            return kind != "table" or not (name or "").startswith(ENGINE_TABLES)

        opts = {"compare_type": True, "include_name": is_declared}
        context = MigrationContext.configure(conn, opts=opts)
        return list(compare_metadata(context, metadata))

    empty = await create_database(postgres_server, "empty_to_head")
    for url in (f"sqlite:///{tmp_path_factory.mktemp('m')}/new.db", empty):
        database = await Database.open(url)
        assert await database.read(differences) == []
        await database.close()
    await drop_database(postgres_server, "empty_to_head")


@pytest.mark.parametrize("kind", ["sqlite_url", "own_postgresql_url"])
async def test_a_newer_schema_is_refused(request: pytest.FixtureRequest, kind: str) -> None:
    database_url: str = request.getfixturevalue(kind)
    database = await Database.open(database_url)
    await database.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await database.close()
    with pytest.raises(LocalViolation, match="newer"):
        await Database.open(database_url)


async def test_an_unmigrated_database_is_refused_when_told_not_to_migrate(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with pytest.raises(LocalViolation, match="older"):
        await Database.open(f"sqlite:///{tmp_path_factory.mktemp('m')}/new.db", migrate=False)


async def test_a_server_that_is_away_is_unavailable_within_the_patience() -> None:
    with pytest.raises(Unavailable):
        await Database.open("postgresql://nobody@127.0.0.1:1/none", limits=Limits(patience_s=0.2))


async def test_deadlocked_units_both_succeed_in_the_end(postgresql_url: str) -> None:
    database = await Database.open(postgresql_url)
    await database.write(put, "a")
    await database.write(put, "b")

    def lock_both(conn: Connection, names_in_order: tuple[str, str]) -> None:
        for name in names_in_order:
            conn.execute(select(setting).where(setting.c.name == name).with_for_update())
            conn.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(database.write(lock_both, ("a", "b")), database.write(lock_both, ("b", "a")))
    await database.close()


@pytest.mark.parametrize("count", [1, 5, 500])
async def test_bulk_upsert_inserts_and_overwrites(database: Database, count: int) -> None:
    columns = ("device_id", "is_online", "since_at", "last_seen_at", "source", "reason")

    def upsert(conn: Connection, value: bool) -> None:
        rows = [(f"{i:020}", value, 1, 2, "测试", "") for i in range(count)]
        bulk_upsert(conn, device_status, columns, rows)

    def counted(conn: Connection) -> list[tuple[bool, str]]:
        return [tuple(r) for r in conn.execute(select(device_status.c.is_online, device_status.c.source))]

    await database.write(upsert, True)
    await database.write(upsert, False)
    assert await database.read(counted) == [(False, "测试")] * count


async def test_a_change_is_rolled_back_with_its_unit(database: Database) -> None:
    def fail(conn: Connection) -> None:
        changes.record(conn, "device", "1", "put", "me", 1, AT)
        raise ValueError

    with pytest.raises(ValueError):
        await database.write(fail)
    await database.write(changes.record, "device", "2", "put", "me", 1, AT)
    found = await database.read(changes.read_after, 0, 10)
    assert [c.key for c in found] == ["2"]
