"""The change feed: a reader that remembers one number misses nothing, even when transactions overtake."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tongshi.errors import Gone
from tongshi.storage import changes
from tongshi.storage.engine import Database
from tongshi.storage.schema import change

AT = datetime(2026, 1, 1, tzinfo=UTC)


def note(conn: Connection, key: str, at: datetime = AT) -> int:
    return changes.record(conn, "device", key, "put", "me", 1, at)


async def test_changes_come_in_order_and_only_after_the_position(database: Database) -> None:
    numbers = [await database.write(note, str(i)) for i in range(5)]
    assert numbers == sorted(numbers)
    found = await database.read(changes.read_after, numbers[1], 2)
    assert [c.key for c in found] == ["2", "3"]
    assert await database.read(changes.head) == numbers[-1]


async def test_kinds_narrow_the_feed(database: Database) -> None:
    await database.write(note, "1")
    await database.write(changes.record, "grant", "g", "put", "", 1, AT)
    assert [c.key for c in await database.read(changes.read_after, 0, 10, ["grant"])] == ["g"]


@pytest.mark.parametrize("count", [3, 200])
async def test_several_records_of_one_unit_get_their_own_numbers(database: Database, count: int) -> None:
    def many(conn: Connection) -> list[int]:
        first = note(conn, "first")
        items: list[tuple[str, changes.Op, int]] = [(str(i), "put", i) for i in range(count)]
        last = changes.record_many(conn, "device", items, "me", AT)
        return [first, last, note(conn, "last")]

    first, last, end = await database.write(many)
    found = await database.read(changes.read_after, 0, 1_000)
    assert [c.key for c in found] == ["first", *map(str, range(count)), "last"]
    assert (found[0].seq, found[-2].seq, found[-1].seq) == (first, last, end)


async def test_an_empty_feed_has_its_head_at_zero(database: Database) -> None:
    assert await database.read(changes.head) == 0
    assert await database.read(changes.read_after, 0, 10) == []


async def test_a_reader_behind_the_compaction_must_do_a_full_sync(database: Database) -> None:
    old = await database.write(note, "old")
    await database.write(note, "new", AT + timedelta(days=181))
    assert await database.write(changes.compact, AT + timedelta(days=1)) == 1
    with pytest.raises(Gone) as gone:
        await database.read(changes.read_after, 0, 10)
    assert gone.value.code == 41001
    assert [c.key for c in await database.read(changes.read_after, old, 10)] == ["new"]


async def test_numbers_go_on_after_everything_was_compacted(database: Database) -> None:
    old = await database.write(note, "old")
    await database.write(changes.compact, AT + timedelta(days=1))
    assert await database.read(changes.head) == old
    assert await database.write(note, "new") > old


class _Reader:
    """Reads as a neighbour does: remembers the last number, never looks back."""

    def __init__(self) -> None:
        self.position = 0
        self.keys: list[str] = []

    def read(self, conn: Connection) -> None:
        for found in changes.read_after(conn, self.position, 100):
            self.position = found.seq
            self.keys.append(found.key)


async def _begin(connection: AsyncConnection, key: str) -> None:
    await connection.run_sync(note, key)


@pytest.mark.parametrize("commit_order", ["young first", "old first"])
async def test_a_late_commit_is_never_missed(postgresql_url: str, commit_order: str) -> None:
    """Two transactions take numbers and commit in both orders while a reader follows."""
    database = await Database.open(postgresql_url)
    engine = create_async_engine(postgresql_url.replace("postgresql:", "postgresql+asyncpg:"))
    reader = _Reader()
    async with engine.connect() as old, engine.connect() as young:
        # "old" has a transaction id before "young" writes, and writes again after it.
        await _begin(old, "old 1")
        await _begin(young, "young 1")
        await _begin(old, "old 2")
        first, second = (young, old) if commit_order == "young first" else (old, young)
        await first.commit()
        await database.read(reader.read)
        await database.write(note, "third")
        await database.read(reader.read)
        await second.commit()
        await database.read(reader.read)
    assert sorted(reader.keys) == ["old 1", "old 2", "third", "young 1"]
    assert reader.position == await database.read(changes.head)
    await engine.dispose()
    await database.close()


async def test_the_race_is_real_without_the_fence(postgresql_url: str) -> None:
    """The same dance read by plain numbers loses a change: what the fence is for."""
    engine = create_async_engine(postgresql_url.replace("postgresql:", "postgresql+asyncpg:"))
    plain = text("SELECT seq, key FROM change WHERE seq > :position ORDER BY seq")
    async with engine.connect() as old, engine.connect() as young, engine.connect() as reader:
        await _begin(old, "old")
        await _begin(young, "young")
        await young.commit()
        rows = (await reader.execute(plain, {"position": 0})).all()
        await old.commit()
        later = (await reader.execute(plain, {"position": rows[-1].seq})).all()
    assert [row.key for row in [*rows, *later]] == ["young"]
    await engine.dispose()


async def test_many_concurrent_writers_lose_nothing(database: Database) -> None:
    reader = _Reader()

    async def follow() -> None:
        while len(reader.keys) < 300:
            await database.read(reader.read)
            await asyncio.sleep(0)

    following = asyncio.create_task(follow())
    await asyncio.gather(*(database.write(note, str(i)) for i in range(300)))
    await asyncio.wait_for(following, 20)
    assert sorted(reader.keys, key=int) == [str(i) for i in range(300)]


async def test_numbers_go_on_upwards_after_a_restore_into_a_younger_cluster(postgresql_url: str) -> None:
    database = await Database.open(postgresql_url)
    ahead = (1 << 50) + 5
    row = {"seq": ahead, "kind": "device", "key": "r", "op": "put", "revision": 1, "at": 0}
    await database.write(lambda conn: conn.execute(insert(change), row))
    await database.close()
    database = await Database.open(postgresql_url)
    assert await database.write(note, "after") > ahead
    assert [c.key for c in await database.read(changes.read_after, ahead, 10)] == ["after"]
    await database.close()
