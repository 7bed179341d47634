"""A person steers the exchange: pause, go on, compare, synchronise, confirm; all of it in the audit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from tongshi.clock import ManualClock
from tongshi.errors import Conflict, LimitExceeded, NotFound
from tongshi.exchange import store
from tongshi.exchange.client import Link
from tongshi.exchange.control import Control
from tongshi.exchange.control_model import SyncKind
from tongshi.exchange.model import Equality, PeerState
from tongshi.exchange.sender import Sender
from tongshi.exchange.signing import Signer
from tongshi.exchange.worker import Worker
from tongshi.ids import PlatformId
from tongshi.resources.devices import digest_store
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.sharing.model import EVERYTHING, Context, Scope, Subject, SubjectKind
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit
from tongshi.testing.rest_platform import RestPlatform, sample_archives

CITY, DISTRICT = "31000000002000000001", "31010400002000000001"
SECRET = "s" * 32
PERSON = Subject(SubjectKind.USER, "1", "admin")


@dataclass
class Pair:
    """A district below a city; ``above`` and ``below`` are their persons' hands on the exchange."""

    clock: ManualClock
    city: RestPlatform
    district: RestPlatform
    sender: Sender
    above: Control
    below: Control

    def context(self) -> Context:
        return Context(self.clock.at(), "127.0.0.1", "r-1")

    async def write(self, count: int, first: int = 1, name: str = "路口") -> None:
        archives = sample_archives(DISTRICT, count, first, name)
        await self.district.db.write(devices.upsert_many, archives, DISTRICT, self.clock.at())

    async def lose(self, count: int) -> None:
        keys = [f"3101040000131{number:07d}" for number in range(1, count + 1)]
        await self.district.db.write(devices.mark_missing, DISTRICT, keys, self.clock.at())

    async def ran(self) -> str:
        """The error of the city's own synchronisation, once it has ended."""
        async with asyncio.timeout(5):
            while (run := (await self.above.detail(DISTRICT)).sync) is None or run.ended_at is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return run.error


@pytest.fixture
async def pair(database: Database, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    clock = ManualClock()
    shutil.copy(sqlite_template, tmp_path / "district.db")
    below = await Database.open(f"sqlite:///{tmp_path}/district.db", migrate=False)
    city = await RestPlatform.open(CITY, database, clock)
    district = await RestPlatform.open(DISTRICT, below, clock)
    sender = await district.sender_to(city, SECRET)
    key_below = await district.admit(CITY, Relation.UPPER, SECRET)
    for platform, other, relation in ((city, DISTRICT, Relation.LOWER), (district, CITY, Relation.UPPER)):
        key = key_below if platform is city else f"key-{DISTRICT}"
        await platform.platforms.put(
            Platform(
                PlatformId(other), "邻居", relation, rest_url="http://n", rest_key=key, rest_secret=SECRET
            )
        )
    hands = []
    for platform, facing in ((city, district), (district, city)):

        def link(target: Platform, _clock: object, facing: RestPlatform = facing) -> Link:
            signer = Signer(target.rest_key, target.rest_secret, target.id, clock)
            return Link("http://platform", signer, facing.http())

        hands.append(Control(platform.db, clock, platform.platforms, platform.exchange, None, link))
    made = Pair(clock, city, district, sender, *hands)
    yield made
    for hand in hands:
        await hand.stop()
    await district.close()
    for one in city.links:
        await one.close()


def _words(conn: Connection) -> list[tuple[str, str]]:
    rows = conn.execute(select(audit.c.event, audit.c.reason).order_by(audit.c.seq))
    return [(row.event, row.reason) for row in rows if row.event == "platform_change"]


async def test_a_paused_neighbour_is_refused_and_both_sides_say_why(pair: Pair) -> None:
    await pair.write(5)
    await pair.sender.step()
    await pair.above.pause(PERSON, DISTRICT, "演练断开", pair.context())
    await pair.write(1, first=2, name="改名")
    with pytest.raises(LimitExceeded, match="暂停"):
        await pair.sender.step()
    detail = await pair.above.detail(DISTRICT)
    assert detail.paused is not None
    assert (detail.paused.by, detail.paused.reason) == ("admin", "演练断开")
    assert (await pair.city.exchange.standings())[DISTRICT].is_paused
    assert ("platform_change", "演练断开") in await pair.city.db.read(_words)


async def test_comparing_shows_lag_and_the_division_that_differs_from_either_side(pair: Pair) -> None:
    await pair.write(5)
    await pair.sender.step()
    for hand, other in ((pair.above, DISTRICT), (pair.below, CITY)):
        found = await hand.compare(other)
        assert (found.equal, found.lag) == (True, 0)
        assert [(o.owner, o.ours, o.theirs) for o in found.owners] == [(DISTRICT, 5, 5)]
    await pair.above.pause(PERSON, DISTRICT, "演练", pair.context())
    await pair.write(1, first=6)
    for hand, other, counts in ((pair.above, DISTRICT, (5, 6)), (pair.below, CITY, (6, 5))):
        found = await hand.compare(other)
        assert (found.equal, found.lag) == (False, 1)
        [owner] = found.owners
        assert (owner.ours, owner.theirs) == counts
        assert [(s.civil_code, s.ours, s.theirs) for s in owner.shards] == [("310104", *counts)]


async def test_going_on_fetches_what_was_missed_at_once(pair: Pair) -> None:
    await pair.write(5)
    await pair.sender.step()
    await pair.above.pause(PERSON, DISTRICT, "演练", pair.context())
    await pair.write(2, first=5, name="新")
    await pair.above.resume(PERSON, DISTRICT, pair.context())
    assert await pair.ran() == ""
    assert (await pair.above.compare(DISTRICT)).equal
    # The sender notices that the city went ahead, and both go on.
    assert (await pair.sender.step()).equality is Equality.EQUAL
    await pair.write(1, first=9)
    assert (await pair.sender.step()).equality is Equality.EQUAL
    assert (await pair.above.detail(DISTRICT)).owners[0].count == 7


@pytest.mark.parametrize("kind", list(SyncKind))
async def test_the_city_fetches_when_asked(pair: Pair, kind: SyncKind) -> None:
    await pair.write(5)
    await pair.sender.step()
    await pair.write(4, first=4, name="新")
    await pair.above.synchronise(PERSON, DISTRICT, kind, pair.context())
    assert await pair.ran() == ""
    detail = await pair.above.detail(DISTRICT)
    assert detail.directions[0].equal is True
    assert (detail.owners[0].owner, detail.owners[0].count) == (DISTRICT, 7)


async def test_nothing_is_synchronised_while_paused_and_pausing_twice_is_refused(pair: Pair) -> None:
    await pair.above.pause(PERSON, DISTRICT, "演练", pair.context())
    with pytest.raises(Conflict, match="暂停"):
        await pair.above.synchronise(PERSON, DISTRICT, SyncKind.FULL, pair.context())
    with pytest.raises(Conflict, match="已经暂停"):
        await pair.above.pause(PERSON, DISTRICT, "又", pair.context())
    await pair.above.resume(PERSON, DISTRICT, pair.context())
    with pytest.raises(Conflict, match="没有暂停"):
        await pair.above.resume(PERSON, DISTRICT, pair.context())


async def test_the_quarantine_lists_what_is_missing_within_the_callers_scope(pair: Pair) -> None:
    await pair.write(80)
    await pair.sender.step()
    await pair.lose(2)
    await pair.sender.step()
    rows, total = await pair.above.missing(DISTRICT, EVERYTHING, 1, 50)
    assert (total, {row.device_id for row in rows}) == (2, {"31010400001310000001", "31010400001310000002"})
    assert rows[0].missing_since == pair.clock.at()
    assert (await pair.above.detail(DISTRICT)).owners[0].count == 78
    abroad = Scope(civil_codes=frozenset({"310106"}))
    assert await pair.above.missing(DISTRICT, abroad, 1, 50) == ([], 0)


async def test_a_confirmed_vanishing_carries_the_persons_reason_into_the_audit(pair: Pair) -> None:
    await pair.write(30)
    await pair.sender.step()
    with pytest.raises(Conflict):
        await pair.above.confirm(PERSON, DISTRICT, "随便", pair.context())
    await pair.lose(10)
    await pair.sender.step()
    assert (await pair.above.detail(DISTRICT)).directions[0].waiting == 10
    assert await pair.above.confirm(PERSON, DISTRICT, "工地拆除", pair.context()) == 10
    peer = await pair.sender.step()
    assert (peer.state, peer.equality) == (PeerState.LIVE, Equality.EQUAL)
    assert (await pair.above.missing(DISTRICT, EVERYTHING, 1, 50))[1] == 10
    words = await pair.city.db.read(_words)
    assert [word for word in words if word[1]] == [("platform_change", "工地拆除")]


async def test_oneself_and_a_stranger_are_no_neighbours(pair: Pair) -> None:
    for stranger in (CITY, "31999900002000000001"):
        with pytest.raises(NotFound):
            await pair.above.detail(stranger)


async def test_the_worker_leaves_a_paused_neighbour_alone_and_takes_it_up_again(pair: Pair) -> None:
    def link(platform: Platform, clock: object) -> Link:
        return Link("http://platform", Signer(f"key-{DISTRICT}", SECRET, CITY, pair.clock), pair.city.http())

    district = pair.district
    worker = Worker(
        district.db, pair.clock, district.platforms, district.exchange, interval_s=0.05, new_link=link
    )
    hand = Control(district.db, pair.clock, district.platforms, district.exchange, worker, link)

    async def told(count: int) -> None:
        async with asyncio.timeout(5):
            while (await pair.city.db.read(digest_store.root_digest, DISTRICT))[0] != count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def in_step() -> None:
        """The city has what we told it, and we have remembered its answer: a pause cuts nothing off."""
        async with asyncio.timeout(5):
            while (await hand.detail(CITY)).directions[0].state is not PeerState.LIVE:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    await pair.write(3)
    await worker.start()
    try:
        await told(3)
        await in_step()
        await hand.pause(PERSON, CITY, "演练", pair.context())
        await pair.write(1, first=4)
        assert not await worker.take_up(CITY)
        assert (await hand.detail(CITY)).directions[0].pending == 1
        await hand.resume(PERSON, CITY, pair.context())
        await told(4)
        before = (await district.db.read(store.get_peer, CITY, store.OUT)).full_done_at
        pair.clock.advance(60)
        await hand.synchronise(PERSON, CITY, SyncKind.FULL, pair.context())
        async with asyncio.timeout(5):
            while (await district.db.read(store.get_peer, CITY, store.OUT)).full_done_at == before:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await worker.stop()
