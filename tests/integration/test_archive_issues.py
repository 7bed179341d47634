"""Issues follow the archives on both engines, and a caller sees those of his scope."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tongshi.clock import ManualClock
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import inspection, inspection_store, store
from tongshi.resources.devices.inspection import Inspection
from tongshi.resources.devices.inspection_store import IssueFilters
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.sharing.model import EVERYTHING, Scope
from tongshi.storage import changes
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
LOWER, OTHER = "31010400002000000001", "31010500002000000001"


def archive(number: int, owner: str = LOWER, **fields: object) -> DeviceArchive:
    item = CatalogItem(
        device_id=f"3101040000132{number:07}", name=f"路口{number}", civil_code="310104", parental=0
    )
    return DeviceArchive(item=replace(item, **fields), owner=owner, source=Source.REST, revision=number)


async def inspected(database: Database) -> Inspection:
    found = Inspection(database, ManualClock())
    for _ in range(50):
        if not await found.step():
            return found
    raise AssertionError("an inspection that never ends")


async def broken(database: Database, rule: str, scope: Scope = EVERYTHING) -> list[str]:
    filters = IssueFilters(rules=frozenset({rule}))
    rows, total = await database.read(inspection_store.page, scope, filters, 1, 1000)
    assert total == len(rows)
    return [row.device_id[-2:] for row in rows]


async def test_every_archive_is_inspected_and_then_what_changes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "BATCH", 3)
    many = [archive(n, manufacturer="" if n % 2 else "厂商") for n in range(1, 8)]
    await database.write(store.upsert_many, many, LOWER, AT)
    assert not await Inspection(database, ManualClock()).is_current()
    found = await inspected(database)
    assert await found.is_current()
    assert await broken(database, "GB-03") == ["01", "03", "05", "07"]

    await database.write(store.upsert_many, [archive(1, manufacturer="甲"), archive(2)], LOWER, AT)
    assert not await found.is_current()
    await inspected(database)
    assert await broken(database, "GB-03") == ["02", "03", "05", "07"]

    await database.write(store.mark_missing, LOWER, [many[2].device_id], AT)
    await inspected(database)
    assert await broken(database, "GB-03") == ["02", "05", "07"]


async def test_a_status_that_arrives_mends_its_issue(database: Database) -> None:
    await database.write(store.upsert_many, [archive(1)], LOWER, AT)
    await inspected(database)
    assert await broken(database, "GB-18") == ["01"]
    await database.write(store.set_statuses, {archive(1).device_id: True}, "test", AT)
    await inspected(database)
    assert await broken(database, "GB-18") == []


async def test_a_feed_that_was_compacted_away_starts_the_pass_anew(database: Database) -> None:
    await database.write(store.upsert_many, [archive(1)], LOWER, AT)
    await inspected(database)
    await database.write(store.upsert_many, [archive(2)], LOWER, AT)
    await database.write(store.upsert_many, [archive(3, manufacturer="甲")], LOWER, AT)
    await database.write(changes.compact, AT + timedelta(days=1))
    found = await inspected(database)
    assert await broken(database, "GB-03") == ["01", "02"]
    assert await found.is_current()


async def test_counts_are_of_the_callers_scope_and_by_owner_or_division(database: Database) -> None:
    mine = [archive(1), archive(2, civil_code="310105")]
    theirs = [archive(3, OTHER)]
    await database.write(store.upsert_many, [*mine, *theirs], LOWER, AT)
    found = await inspected(database)
    filters = IssueFilters(rules=frozenset({"GB-03", "X-01"}))
    everything = await found.counts(EVERYTHING, filters)
    assert everything == [("", "GB-03", 3), ("", "X-01", 1)]
    of_other = Scope(owners=frozenset({OTHER}))
    assert await found.counts(of_other, filters) == [("", "GB-03", 1)]
    assert await found.counts(EVERYTHING, filters, "owner") == [
        (LOWER, "GB-03", 2),
        (LOWER, "X-01", 1),
        (OTHER, "GB-03", 1),
    ]
    assert await found.counts(EVERYTHING, IssueFilters(civil_code="310105"), "civil_code") == [
        (group, rule, count)
        for group, rule, count in await found.counts(EVERYTHING, IssueFilters(), "civil_code")
        if group == "310105"
    ]
    assert await found.counts(Scope(), IssueFilters()) == []
    assert (await found.page(of_other, IssueFilters(owner=LOWER), 1, 10))[1] == 0
