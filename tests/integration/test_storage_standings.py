"""How catalogues stand, on both engines and over a restart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.catalogue_standings import KEPT_FOR, Standings
from tongshi.gateways.signalling.record import RecordedRegistrations
from tongshi.resources.registrations import standing_store as store
from tongshi.resources.registrations.model import CatalogueStanding, CatalogueState
from tongshi.storage.engine import Database
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan

AT = datetime(2026, 1, 1, tzinfo=UTC)
OWN, PEER = "31000000002000000001", "31010100002000000001"
SHORT = CatalogueStanding(
    PEER, CatalogueState.INCOMPLETE, AT, AT + timedelta(seconds=9), 120, 118, 1, "idle", 3, 2
)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def test_the_last_standing_of_a_peer_is_kept_and_an_old_one_is_forgotten(database: Database) -> None:
    other = replace(SHORT, peer_id="31010400002000000001", at=AT + timedelta(days=1))
    await database.write(store.put, [SHORT, other])
    assert await database.write(store.take, AT, 10) == [SHORT, other]
    assert await database.write(store.take, AT, 1) == [other]
    await database.write(store.put, [replace(SHORT, state=CatalogueState.COMPLETE, reason="")])
    assert (await database.write(store.take, AT, 10))[0].state is CatalogueState.COMPLETE
    assert await database.write(store.take, AT + timedelta(hours=1), 10) == [other]
    assert await database.write(store.take, AT, 10) == [other]


async def test_what_ended_is_written_and_what_is_still_asked_is_not(database: Database) -> None:
    clock = ManualClock(start=AT)
    record = RecordedRegistrations(database, clock, OWN)
    standings = Standings(clock)
    await standings.load(record)
    standings.begun(PEER)
    standings.asked(PEER)
    standings.counted(PEER, 120, 118, 1)
    standings.ended(PEER, CatalogueState.INCOMPLETE, "idle")
    standings.begun("31010400002000000001")
    await standings.stop()
    after = Standings(clock)
    await after.load(record)
    (row,) = after.all()
    assert (row.peer_id, row.state, row.reason) == (PEER, CatalogueState.INCOMPLETE, "idle")
    assert (row.announced, row.received, row.broken, row.asked) == (120, 118, 1, 1)
    clock.advance(KEPT_FOR.total_seconds() + 1)
    late = Standings(clock)
    await late.load(record)
    assert not late.all()


async def test_a_platform_knows_after_a_restart_how_its_catalogues_stood(
    neighbourhood: Neighbourhood,
) -> None:
    platform = await neighbourhood.platform(PlatformPlan(PEER))
    code = "31010100001320000001"
    await neighbourhood.camera(platform, CameraPlan(id=code, civil_code="310101"))
    await neighbourhood.known(platform, code)
    standings = platform.gateway.catalogues.standings
    await neighbourhood.until(
        lambda: (row := standings.of(code)) is not None and row.state is CatalogueState.COMPLETE
    )
    before = standings.of(code)
    assert before is not None
    await standings.stop()
    after = Standings(platform.clock)
    await after.load(platform.gateway._record)
    row = after.of(code)
    assert row is not None
    assert (row.state, row.received) == (before.state, before.received)
