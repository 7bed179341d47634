"""Registrations that come together are written together, and nobody pays for another's."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tongshi.audit import store as audit
from tongshi.clock import ManualClock
from tongshi.errors import InvalidRequest
from tongshi.gateways.signalling.ports import StoredRegistration
from tongshi.gateways.signalling.record import RecordedRegistrations
from tongshi.resources.devices import reading_store
from tongshi.storage.engine import Database

OWN = "31010100002000000001"
CLOCK = ManualClock()


class Counted:
    """A database that counts units."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.units = 0

    async def write(self, *words: Any) -> Any:
        self.units += 1
        return await self._database.write(*words)


def registration(code: str) -> StoredRegistration:
    at = CLOCK.at()
    where = ("127.0.0.1", 5060, "udp", "", "call", "agent", "3.0")
    return StoredRegistration(code, *where, at, at + timedelta(days=1), at)


def code(number: int) -> str:
    return f"31010100001320{number:06d}"


@pytest.fixture
def counted(database: Database) -> Counted:
    return Counted(database)


@pytest.fixture
def record(counted: Counted) -> RecordedRegistrations:
    return RecordedRegistrations(counted, CLOCK, OWN)  # type: ignore[arg-type]  # it writes as a database does


async def test_many_at_once_are_few_units_with_all_that_belongs_to_each(
    database: Database, counted: Counted, record: RecordedRegistrations
) -> None:
    await asyncio.gather(*(record.put(registration(code(n)), is_refresh=False) for n in range(60)))
    assert counted.units <= 3
    assert {one.peer_id for one in await RecordedRegistrations(database, CLOCK, OWN).stored(CLOCK.at())} == {
        code(n) for n in range(60)
    }
    entries, total = await database.read(audit.page, 1, 100)
    assert total == 60
    assert {one.entry.subject_id for one in entries} == {code(n) for n in range(60)}
    assert await database.read(audit.verify) is None


async def test_one_that_cannot_be_kept_fails_alone(database: Database, record: RecordedRegistrations) -> None:
    wanted = [code(1), "31\0", code(2)]
    told = await asyncio.gather(
        *(record.put(registration(one), is_refresh=False) for one in wanted), return_exceptions=True
    )
    assert [type(one) for one in told] in (
        [type(None), InvalidRequest, type(None)],
        [type(None), type(None), type(None)],  # SQLite keeps a NUL
    )
    stored = {one.peer_id for one in await RecordedRegistrations(database, CLOCK, OWN).stored(CLOCK.at())}
    assert {code(1), code(2)} <= stored


async def test_who_goes_while_his_registration_waits_is_gone(
    database: Database, record: RecordedRegistrations
) -> None:
    first = [asyncio.ensure_future(record.put(registration(code(n)), is_refresh=False)) for n in range(5)]
    await asyncio.sleep(0)
    await record.remove(code(4), (), CLOCK.at(), "deregistered")
    await asyncio.gather(*first)
    stored = await RecordedRegistrations(database, CLOCK, OWN).stored(CLOCK.at())
    assert {one.peer_id for one in stored} == {code(n) for n in range(4)}
    online = await database.read(reading_store.get_many, [code(3)])
    assert online == {}  # a status is kept for a device whose archive has not been told yet
