"""The audit chain on both engines: every later change of a record shows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, delete, insert, text, update

from tongshi.audit import store
from tongshi.audit.store import AuditEntry
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.errors import LocalViolation
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit, audit_head

AT = datetime(2026, 1, 1, tzinfo=UTC)


def entry(at: datetime = AT, object_id: str = "1", details: dict[str, object] | None = None) -> AuditEntry:
    return AuditEntry(
        at,
        AuditTag.VIDEO_LIVE,
        Outcome.ALLOWED,
        "user",
        "7",
        "张三",
        object_kind="device",
        object_id=object_id,
        details=details or {},
    )


async def _filled(database: Database, count: int = 10) -> None:
    for number in range(count):
        await database.write(store.append, entry(object_id=str(number)))


async def test_a_chain_as_written_is_whole(database: Database) -> None:
    assert await database.read(store.verify) is None
    await _filled(database)
    assert await database.read(store.verify, 3) is None


async def test_concurrent_writers_make_one_gapless_chain(database: Database) -> None:
    numbers = await asyncio.gather(*(database.write(store.append, entry()) for _ in range(60)))
    assert sorted(numbers) == list(range(1, 61))
    assert await database.read(store.verify) is None


async def test_an_append_that_is_rolled_back_leaves_no_gap(database: Database) -> None:
    def fail(conn: Connection) -> None:
        store.append(conn, entry())
        raise ValueError

    await _filled(database, 1)
    with pytest.raises(ValueError):
        await database.write(fail)
    assert await database.write(store.append, entry()) == 2
    assert await database.read(store.verify) is None


@pytest.mark.parametrize(
    "column", ["at", "event", "outcome", "subject_name", "object_id", "details", "grant_number"]
)
async def test_a_changed_field_is_found(database: Database, column: str) -> None:
    await _filled(database)
    value = 5 if column == "at" else "x"
    await database.write(lambda c: c.execute(update(audit).where(audit.c.seq == 4).values({column: value})))
    assert await database.read(store.verify) == 4


@pytest.mark.parametrize(("seq", "bad"), [(1, 1), (5, 5), (10, 10)])
async def test_a_removed_record_is_found(database: Database, seq: int, bad: int) -> None:
    await _filled(database)
    await database.write(lambda c: c.execute(delete(audit).where(audit.c.seq == seq)))
    assert await database.read(store.verify) == bad


async def test_two_exchanged_records_are_found(database: Database) -> None:
    await _filled(database)

    def exchange(conn: Connection) -> None:
        for old, new in ((3, 99), (4, 3), (99, 4)):
            conn.execute(update(audit).where(audit.c.seq == old).values(seq=new))

    await database.write(exchange)
    assert await database.read(store.verify) == 3


async def test_a_record_smuggled_in_before_the_beginning_or_after_the_end_is_found(
    database: Database,
) -> None:
    await _filled(database, 2)
    row = {"at": 1, "hash": bytes(32)}
    await database.write(lambda c: c.execute(insert(audit).values(seq=3, **row)))
    assert await database.read(store.verify) == 3
    await database.write(lambda c: c.execute(delete(audit).where(audit.c.seq == 3)))
    await database.write(lambda c: c.execute(insert(audit).values(seq=0, **row)))
    assert await database.read(store.verify) == 0


async def test_a_chain_recomputed_without_its_head_is_found(database: Database) -> None:
    await _filled(database, 3)
    await database.write(lambda c: c.execute(update(audit_head).values(last_hash=bytes(32))))
    assert await database.read(store.verify) == 4


async def test_purging_keeps_six_months_and_an_unbroken_chain(database: Database) -> None:
    now = AT + timedelta(days=365)
    for days in (0, 100, *range(182, 365)):
        await database.write(store.append, entry(AT + timedelta(days=days)))
    assert await database.write(store.purge, now - store.RETENTION, now, 10) == 2
    assert await database.read(store.verify) is None
    records, total = await database.read(store.page, 1, 10)
    assert (total, records[0].entry.event) == (184, AuditTag.AUDIT_PURGE)
    assert (await database.read(store.page, 19, 10))[0][-1].seq == 3


async def test_purging_within_six_months_is_refused(database: Database) -> None:
    with pytest.raises(LocalViolation):
        await database.write(store.purge, AT - timedelta(days=183), AT, 10)


async def test_pages_are_newest_first_and_narrowed(database: Database) -> None:
    await _filled(database, 5)
    records, total = await database.read(store.page, 1, 2)
    assert (total, [r.seq for r in records]) == (5, [5, 4])

    def of_one_object(conn: Connection) -> tuple[list[store.AuditRecord], int]:
        return store.page(conn, 1, 10, object_id="3", since=AT, until=AT + timedelta(seconds=1))

    records, total = await database.read(of_one_object)
    assert (total, records[0].entry) == (1, entry(object_id="3"))


async def test_text_that_no_database_keeps_is_cleaned(database: Database) -> None:
    await database.write(store.append, entry(object_id="a\0b\udc80" + "长" * 1_000))
    assert await database.read(store.verify) is None
    records, _ = await database.read(store.page, 1, 1)
    assert records[0].entry.object_id.startswith("ab?长")


async def test_details_beyond_their_bound_are_refused(database: Database) -> None:
    with pytest.raises(LocalViolation):
        await database.write(store.append, entry(details={"x": "y" * store.MAX_DETAILS_BYTES}))


async def test_the_chain_is_made_with_sm3(database: Database) -> None:
    await _filled(database, 1)
    stored = await database.read(lambda c: c.execute(text("SELECT hash FROM audit")).scalar_one())
    assert len(stored) == 32
