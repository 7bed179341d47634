"""Open calls on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tongshi.resources.registrations import open_call_store as store
from tongshi.resources.registrations.model import OpenCall
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
CALL = OpenCall(
    "c1",
    "down",
    "31010100002000000001",
    "31010100001320000001",
    "192.0.2.7",
    5060,
    "udp",
    "sip:31010100001320000001@192.0.2.7:5060",
    "from",
    "to",
    2,
    AT,
)


async def test_an_open_call_is_kept_until_it_ends(database: Database) -> None:
    above = replace(CALL, call_id="c2", direction="up", from_tag="", to_tag="", transport="tcp", cseq=1)
    await database.write(store.note, [CALL, above], [])
    assert await database.write(store.take_left, AT) == [CALL, above]
    await database.write(store.note, [replace(CALL, host="192.0.2.8")], ["c2", "unknown"])
    assert await database.write(store.take_left, AT) == [replace(CALL, host="192.0.2.8")]
    await database.write(store.note, [], ["c1"])
    assert await database.write(store.take_left, AT) == []


async def test_a_call_that_is_too_old_is_forgotten(database: Database) -> None:
    await database.write(store.note, [CALL, replace(CALL, call_id="c2", opened_at=AT + timedelta(1))], [])
    left = await database.write(store.take_left, AT + timedelta(hours=1))
    assert [call.call_id for call in left] == ["c2"]
    assert [call.call_id for call in await database.write(store.take_left, AT)] == ["c2"]


async def test_bytes_that_are_no_text_neither_stop_a_call_nor_keep_it(database: Database) -> None:
    hostile = replace(CALL, call_id="a\0\udcff", target="sip:\0", to_tag="\udcff")
    await database.write(store.note, [hostile], [])
    assert len(await database.write(store.take_left, AT)) == 1
    await database.write(store.note, [], [hostile.call_id])
    assert await database.write(store.take_left, AT) == []


async def test_a_thousand_calls_are_one_transaction(database: Database) -> None:
    many = [replace(CALL, call_id=f"c{number:04}") for number in range(1000)]
    await database.write(store.note, many, [])
    assert len(await database.write(store.take_left, AT)) == 1000
    await database.write(store.note, [], [call.call_id for call in many])
    assert await database.write(store.take_left, AT) == []
