"""Archives travel from a district to the city: incremental, full, cut off, lied about."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Conflict, Forbidden, Gone, NotFound, PeerFailed
from tongshi.exchange import outbox, store, wire
from tongshi.exchange.client import Link, Packed
from tongshi.exchange.model import (
    Equality,
    FullBegin,
    FullComplete,
    FullPage,
    GoneItem,
    OwnerRoot,
    PeerState,
    Push,
)
from tongshi.exchange.outbox import Audience
from tongshi.exchange.puller import Puller
from tongshi.exchange.ranges import RangesAnswer
from tongshi.exchange.sender import Sender
from tongshi.resources.devices import digest_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import DeviceArchive, Filters, Source, flatten
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.sharing.model import EVERYTHING
from tongshi.storage import changes
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

CITY, DISTRICT, OTHER = "31000000002000000001", "31010400002000000001", "31010600002000000001"
SECRET = "s" * 32


@dataclass
class Pair:
    clock: ManualClock
    city: RestPlatform
    district: RestPlatform
    sender: Sender

    async def write(self, archives: list[DeviceArchive], platform: RestPlatform | None = None) -> None:
        at = self.clock.at()
        await (platform or self.district).db.write(devices.upsert_many, archives, DISTRICT, at)

    async def city_ids(self) -> set[str]:
        rows, _ = await self.city.devices.page(EVERYTHING, Filters(), 1, 1000)
        return {row.device_id for row in rows}

    async def roots(self) -> tuple[Any, Any]:
        return (
            await self.district.db.read(digest_store.root_digest, DISTRICT),
            await self.city.db.read(digest_store.root_digest, DISTRICT),
        )


@pytest.fixture
async def pair(database: Database, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    """A district on SQLite below a city on either database."""
    clock = ManualClock()
    shutil.copy(sqlite_template, tmp_path / "district.db")
    below = await Database.open(f"sqlite:///{tmp_path}/district.db", migrate=False)
    city = await RestPlatform.open(CITY, database, clock)
    district = await RestPlatform.open(DISTRICT, below, clock)
    yield Pair(clock, city, district, await district.sender_to(city, SECRET))
    await district.close()
    for link in city.links:
        await link.close()


async def test_first_contact_is_a_full_and_ends_equal(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    peer = await pair.sender.step()
    assert (peer.state, peer.equality) == (PeerState.LIVE, Equality.EQUAL)
    mine, theirs = await pair.roots()
    assert mine == theirs
    assert mine[0] == 30
    got = await pair.city.devices.get("31010400001310000001")
    assert (got.source, got.owner, got.item.name) == (Source.REST, DISTRICT, "路口1号摄像机")


async def test_an_empty_platform_is_equal_too(pair: Pair) -> None:
    assert (await pair.sender.step()).equality is Equality.EQUAL


async def test_a_change_travels_alone(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    before = await pair.city.db.read(changes.head)
    await pair.write(sample_archives(DISTRICT, 1, first=7, name="改名"))
    assert await pair.sender.has_news()
    peer = await pair.sender.step()
    assert peer.equality is Equality.EQUAL
    assert not await pair.sender.has_news()
    noted = await pair.city.db.read(changes.read_after, before, 100, [devices.KIND])
    assert [change.key for change in noted] == ["31010400001310000007"]


async def test_status_travels_with_the_archive(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 2))
    await pair.sender.step()
    await pair.district.devices.note_status({"31010400001310000001": True}, "register")
    await pair.sender.step()
    assert (await pair.city.devices.get("31010400001310000001")).online is True
    assert (await pair.city.devices.get("31010400001310000002")).online is None


async def test_a_removed_device_is_missing_above_and_comes_back(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    key = "31010400001310000003"
    await pair.district.db.write(devices.mark_missing, DISTRICT, [key], pair.clock.at())
    assert (await pair.sender.step()).equality is Equality.EQUAL
    assert key not in await pair.city_ids()
    assert (await pair.city.devices.get(key)).missing_since is not None
    await pair.write(sample_archives(DISTRICT, 1, first=3))
    await pair.sender.step()
    assert key in await pair.city_ids()


async def test_too_many_gone_at_once_wait_for_a_person(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    keys = [f"3101040000131{number:07d}" for number in range(1, 11)]
    await pair.district.db.write(devices.mark_missing, DISTRICT, keys, pair.clock.at())
    peer = await pair.sender.step()
    assert (peer.state, peer.waiting) == (PeerState.HELD, 10)
    assert len(await pair.city_ids()) == 30
    peer = await pair.sender.step()
    assert (peer.state, peer.waiting) == (PeerState.HELD, 10)
    standing = (await pair.city.exchange.standings())[DISTRICT]
    assert (standing.state, standing.waiting, standing.is_equal) == ("held", 10, False)
    assert await pair.city.exchange.confirm_vanishing(DISTRICT) == 10
    peer = await pair.sender.step()
    assert (peer.state, peer.equality) == (PeerState.LIVE, Equality.EQUAL)
    assert len(await pair.city_ids()) == 20


async def test_nothing_waits_means_nothing_to_confirm(pair: Pair) -> None:
    await pair.sender.step()
    with pytest.raises(Conflict):
        await pair.city.exchange.confirm_vanishing(DISTRICT)


class _Cut(Exception):
    """The sender dies here."""


class CuttingLink(Link):
    """Dies before or after the nth call to a path."""

    def __init__(self, inner: Link, path: str, number: int, *, after: bool) -> None:
        self._inner, self._path, self._left, self._after = inner, path, number, after

    async def send(self, path: str, packed: Packed, answer: type[Any]) -> Any:
        self._left -= path.endswith(self._path)
        is_the_one = path.endswith(self._path) and self._left == 0
        if is_the_one and not self._after:
            raise _Cut
        result = await self._inner.send(path, packed, answer)
        if is_the_one:
            raise _Cut
        return result


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("path", "number"), [(":begin", 1), (":page", 1), (":page", 3), (":push", 1), (":complete", 1)]
)
async def test_a_full_that_was_cut_off_anywhere_goes_on_and_ends_equal(
    pair: Pair, path: str, number: int, after: bool
) -> None:
    await pair.write(sample_archives(DISTRICT, 45))
    link = CuttingLink(pair.district.links[0], path, number, after=after)
    with pytest.raises(_Cut):
        await Sender(pair.district.db, pair.clock, link, CITY, batch_items=10).step()
    await pair.write(sample_archives(DISTRICT, 1, first=200, name="其间新增"))
    peer = await pair.sender.step()
    assert (peer.state, peer.equality) == (PeerState.LIVE, Equality.EQUAL)
    assert len(await pair.city_ids()) == 46


class CountingLink(Link):
    """Counts the items it carries and the questions it asks."""

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self.items = self.questions = 0
        self.paths: set[str] = set()

    async def send(self, path: str, packed: Packed, answer: type[Any]) -> Any:
        self.items += len(getattr(packed.body, "items", ()))
        self.paths.add(path)
        return await self._inner.send(path, packed, answer)

    async def get(self, path: str, raw_query: str, answer: type[Any]) -> Any:
        self.questions += 1
        return await self._inner.get(path, raw_query, answer)


async def test_a_difference_is_found_and_only_what_differs_is_told_again(pair: Pair) -> None:
    """A row that the upper platform's disk spoiled, one it lost and one it never should have had."""
    archives = sample_archives(DISTRICT, 3_000)
    await pair.write(archives)
    await pair.sender.step()
    city, at = pair.city.db, pair.clock.at()
    spoiled = msgspec.structs.replace(archives[7].item, name="被改动")
    extra = sample_archives(DISTRICT, 1, first=9_000)
    wrong = [msgspec.structs.replace(archives[7], item=spoiled), *extra]
    await city.write(devices.upsert_many, wrong, CITY, at)
    # As a disk spoils rows: under the number they had, with a digest before or behind the true one, or ahead.
    held = await city.read(devices.get_many, [archive.device_id for archive in archives[10:30]])
    stale = [
        msgspec.structs.replace(
            a, item=msgspec.structs.replace(a.item, name=f"坏{n}"), revision=1 + n % 2 * 8
        )
        for n, a in enumerate(held.values())
    ]
    await city.write(partial(devices.upsert_flat, is_full=True), [flatten(a) for a in stale], CITY, at)
    await city.write(devices.mark_missing, DISTRICT, [archives[2_000].device_id], at)
    assert len(set(await pair.roots())) == 2
    link = CountingLink(pair.district.links[0])
    sender = Sender(pair.district.db, pair.clock, link, CITY)
    assert (await sender.step()).equality is Equality.DIFFERENT
    assert (await sender.step()).equality is Equality.DIFFERENT
    peer = await sender.step()
    assert (peer.state, peer.equality, peer.differences) == (PeerState.LIVE, Equality.EQUAL, 0)
    mine, theirs = await pair.roots()
    assert mine == theirs
    assert link.items == 2 + len(stale)
    assert link.questions < 20
    assert link.paths == {"/exchange/v1/devices:push"}
    assert extra[0].device_id not in await pair.city_ids()


async def test_a_device_that_moved_between_owners_is_told_once_and_is_not_gone(pair: Pair) -> None:
    """The upper platform still holds it of its old owner, so that both owners differ."""
    await pair.write(sample_archives(DISTRICT, 5))
    moved = msgspec.structs.replace(sample_archives(DISTRICT, 1)[0], owner=OTHER)
    at, db = pair.clock.at(), pair.district.db
    await db.write(devices.mark_missing, DISTRICT, [moved.device_id], at)
    await db.write(devices.upsert_many, [moved], DISTRICT, at)
    places = [(DISTRICT, moved.device_id), (OTHER, moved.device_id), (OTHER, "31010400001329999999")]
    batch = await db.read(outbox.state_of, Audience(CITY), places)
    assert len(batch.items) == 1
    assert batch.gone == [GoneItem(OTHER, "31010400001329999999")]


async def test_a_neighbour_that_cannot_be_asked_is_mended_by_a_full(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    lost = sample_archives(DISTRICT, 1)[0].device_id
    await pair.city.db.write(devices.mark_missing, DISTRICT, [lost], pair.clock.at())

    class Deaf(CountingLink):
        async def get(self, path: str, raw_query: str, answer: type[Any]) -> Any:
            raise NotFound("没有这个地址")

    link = Deaf(pair.district.links[0])
    sender = Sender(pair.district.db, pair.clock, link, CITY)
    pair.clock.advance(3_600)
    for _ in range(3):
        peer = await sender.step()
    assert peer.equality is Equality.EQUAL
    assert "/exchange/v1/devices/full:page" in link.paths


async def test_ranges_are_shown_only_to_who_told_them(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 400))
    await pair.sender.step()
    link = pair.district.links[0]
    told = await link.get("/exchange/v1/digest/ranges", f"owner={DISTRICT}&civilCode=310104", RangesAnswer)
    assert sum(one.count for one in told.ranges) == 400
    assert told.ranges[-1].last_key == ""
    for owner in (CITY, "31010500002000000001"):
        with pytest.raises(NotFound):
            await link.get("/exchange/v1/digest/ranges", f"owner={owner}", RangesAnswer)
    for wrong in ("owner=1", "", f"owner={DISTRICT}&civilCode=3101041", f"owner={DISTRICT}&after={'x' * 65}"):
        with pytest.raises(PeerFailed):
            await link.get("/exchange/v1/digest/ranges", wrong, RangesAnswer)


async def test_a_batch_sent_twice_is_applied_once(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 5))
    await pair.sender.step()
    await pair.write(sample_archives(DISTRICT, 1, first=9))
    link = pair.district.links[0]
    with pytest.raises(_Cut):
        await Sender(pair.district.db, pair.clock, CuttingLink(link, ":push", 1, after=True), CITY).step()
    head = await pair.city.db.read(changes.head)
    peer = await pair.sender.step()
    assert peer.equality is Equality.EQUAL
    assert await pair.city.db.read(changes.head) == head


def _push(position: int, items: list[Any], **fields: Any) -> Push:
    wanted: dict[str, Any] = {
        "batch_id": "b",
        "feed": "f",
        "from_position": 0,
        "to_position": position,
        "items": [item if isinstance(item, msgspec.Raw) else wire.encode(item) for item in items],
    }
    return Push(**{**wanted, **fields})


def _numbered(archives: list[DeviceArchive]) -> list[DeviceArchive]:
    at = ManualClock().at()
    return [msgspec.structs.replace(a, revision=1, updated_at=at) for a in archives]


async def test_bad_items_are_named_and_good_ones_get_in(pair: Pair) -> None:
    good = _numbered(sample_archives(DISTRICT, 3))
    raw = bytes(wire.encode(good[1]))
    bad = [
        msgspec.Raw(raw.replace(b'"longitude":121.4', b'"longitude":721.4')),
        msgspec.Raw(raw.replace(b'"name"', b'"nome"')),
        msgspec.Raw(b'{"owner":"x"}'),
        msgspec.Raw(raw.replace("人".encode(), b"\\u0000")),
    ]
    result = await pair.city.exchange.push(DISTRICT, _push(9, [good[0], *bad, good[2]]))
    assert (result.inserted, result.rejected_count) == (2, 4)
    assert [(r.index, r.field) for r in result.rejected] == [
        (1, "item.longitude"),
        (2, "item.nome"),
        (3, "owner"),
        (4, None),
    ]
    assert result.rejected[0].device_id == good[1].device_id


async def test_a_sender_cannot_speak_for_others(pair: Pair) -> None:
    await pair.city.admit(OTHER, Relation.LOWER, SECRET)
    below = "31010400002000000077"
    claims = [
        *_numbered(sample_archives(CITY, 1)),
        *_numbered(sample_archives(OTHER, 1)),
        *_numbered(sample_archives(below, 1, first=50)),
    ]
    result = await pair.city.exchange.push(DISTRICT, _push(9, claims))
    assert (result.inserted, [r.index for r in result.rejected]) == (1, [0, 1])
    assert {r.code for r in result.rejected} == {40304}
    stolen = await pair.city.exchange.push(OTHER, _push(9, _numbered(sample_archives(below, 1, first=60))))
    assert (stolen.inserted, stolen.rejected_count) == (0, 1)


async def test_a_device_of_another_owner_is_not_taken_over(pair: Pair) -> None:
    await pair.write(sample_archives(CITY, 1), pair.city)
    theft = [msgspec.structs.replace(a, owner=DISTRICT) for a in _numbered(sample_archives(CITY, 1))]
    result = await pair.city.exchange.push(DISTRICT, _push(9, theft))
    assert [(r.code, r.field) for r in result.rejected] == [(40902, "deviceId")]
    assert (await pair.city.devices.get(theft[0].device_id)).owner == CITY


async def test_a_gap_between_batches_is_refused_with_the_position(pair: Pair) -> None:
    await pair.city.exchange.push(DISTRICT, _push(9, []))
    with pytest.raises(Conflict) as refusal:
        await pair.city.exchange.push(DISTRICT, _push(20, [], from_position=15))
    assert refusal.value.details == {"position": 9}


async def test_an_old_batch_again_is_a_duplicate(pair: Pair) -> None:
    await pair.city.exchange.push(DISTRICT, _push(9, _numbered(sample_archives(DISTRICT, 1))))
    again = await pair.city.exchange.push(DISTRICT, _push(9, _numbered(sample_archives(DISTRICT, 1))))
    assert (again.is_duplicate, again.position) == (True, 9)


async def test_another_feed_must_begin_with_a_full(pair: Pair) -> None:
    await pair.city.exchange.push(DISTRICT, _push(9, []))
    with pytest.raises(Gone):
        await pair.city.exchange.push(DISTRICT, _push(12, [], from_position=9, feed="restored"))


async def test_a_dry_run_tells_and_keeps_nothing(pair: Pair) -> None:
    push = _push(9, _numbered(sample_archives(DISTRICT, 3)), dry_run=True)
    assert (await pair.city.exchange.push(DISTRICT, push)).inserted == 3
    assert await pair.city_ids() == set()
    assert (await pair.city.db.read(store.get_peer, DISTRICT, store.IN)).state is PeerState.NEW


async def test_a_stranger_is_refused(pair: Pair) -> None:
    with pytest.raises(Forbidden):
        await pair.city.exchange.push(OTHER, _push(9, []))


async def _paged(pair: Pair, archives: list[DeviceArchive], *, is_last: bool) -> str:
    opened = await pair.city.exchange.begin_full(DISTRICT, FullBegin("f", 5, is_restart=True))
    items = [wire.encode(archive) for archive in archives]
    last = archives[-1].device_id if archives else ""
    await pair.city.exchange.page(DISTRICT, FullPage(opened.snapshot_id, "", last, items, is_last))
    return opened.snapshot_id


async def test_a_truncated_full_marks_nothing_missing(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    snapshot = await _paged(pair, _numbered(sample_archives(DISTRICT, 29)), is_last=False)
    with pytest.raises(Conflict):
        await pair.city.exchange.complete_full(DISTRICT, FullComplete(snapshot, 5, []))
    assert len(await pair.city_ids()) == 30


async def test_a_lying_count_or_digest_marks_nothing_missing(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    true = (await pair.district.db.read(outbox.roots, Audience(CITY)))[0]
    snapshot = await _paged(pair, _numbered(sample_archives(DISTRICT, 29)), is_last=True)
    lies = [
        [],
        [true],
        [OwnerRoot(DISTRICT, 29, "0" * 64)],
        [OwnerRoot(DISTRICT, 28, true.digest)],
        [true, OwnerRoot(OTHER, 1, "1" * 64)],
    ]
    for roots in lies:
        complete = FullComplete(snapshot, 5, roots)
        result = await pair.city.exchange.complete_full(DISTRICT, complete)
        assert (result.equal, result.missing) == (False, 0)
    assert len(await pair.city_ids()) == 30


async def test_a_page_out_of_order_is_refused(pair: Pair) -> None:
    archives = _numbered(sample_archives(DISTRICT, 3))
    opened = await pair.city.exchange.begin_full(DISTRICT, FullBegin("f", 5))
    items = [wire.encode(a) for a in reversed(archives)]
    with pytest.raises(Exception, match="递增"):
        await pair.city.exchange.page(
            DISTRICT, FullPage(opened.snapshot_id, "", archives[-1].device_id, items, is_last=True)
        )
    assert await pair.city_ids() == set()


async def test_a_full_that_rested_too_long_is_begun_anew(pair: Pair) -> None:
    snapshot = await _paged(pair, _numbered(sample_archives(DISTRICT, 3)), is_last=False)
    pair.clock.advance(timedelta(hours=3).total_seconds())
    with pytest.raises(NotFound):
        await pair.city.exchange.page(DISTRICT, FullPage(snapshot, "x", "y", []))


async def test_a_full_that_nobody_went_on_with_is_forgotten(pair: Pair) -> None:
    begun = pair.clock.at()
    old = store.Snapshot("old", OTHER, "f", 1, "", is_paged=False)
    await pair.city.db.write(store.open_snapshot, old, begun, begun + timedelta(hours=2))
    pair.clock.advance(timedelta(hours=3).total_seconds())
    await pair.city.exchange.begin_full(DISTRICT, FullBegin("f", 5))
    assert await pair.city.db.read(store.snapshot_of, OTHER, begun) is None


async def test_a_receiver_that_lost_its_memory_is_told_everything_again(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 12))
    await pair.sender.step()
    blank = replace(await pair.city.db.read(store.get_peer, DISTRICT, store.IN), state=PeerState.NEW, feed="")
    await pair.city.db.write(store.put_peer, blank, pair.clock.at())
    await pair.write(sample_archives(DISTRICT, 1, first=90))
    assert (await pair.sender.step()).equality is Equality.EQUAL
    assert len(await pair.city_ids()) == 13


async def test_a_receiver_restored_from_an_older_copy_is_caught_up(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 12))
    await pair.sender.step()
    old = await pair.city.db.read(store.get_peer, DISTRICT, store.IN)
    await pair.write(sample_archives(DISTRICT, 1, first=90))
    await pair.sender.step()
    await pair.city.db.write(store.put_peer, old, pair.clock.at())
    await pair.write(sample_archives(DISTRICT, 1, first=91))
    assert (await pair.sender.step()).equality is Equality.EQUAL


async def test_a_difference_that_stays_is_mended_by_a_full(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    await pair.sender.step()
    await pair.city.db.write(devices.mark_missing, DISTRICT, ["31010400001310000003"], pair.clock.at())
    pair.clock.advance(3600)
    steps = [await pair.sender.step() for _ in range(4)]
    assert steps[0].equality is Equality.DIFFERENT
    assert steps[-1].equality is Equality.EQUAL
    assert len(await pair.city_ids()) == 30


async def test_a_compacted_feed_is_followed_by_a_full(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 5))
    await pair.sender.step()
    await pair.write(sample_archives(DISTRICT, 1, first=9))
    await pair.district.db.write(changes.compact, pair.clock.at() + timedelta(days=1))
    peer = await pair.sender.step()
    assert peer.equality is Equality.EQUAL
    assert len(await pair.city_ids()) == 6


async def test_a_platform_passes_on_what_is_below_it_and_nothing_back(pair: Pair, tmp_path: Path) -> None:
    street_id = "31010400002000000055"
    street = await RestPlatform.open(
        street_id, await Database.open(f"sqlite:///{tmp_path}/street.db"), pair.clock
    )
    to_district = await street.sender_to(pair.district, SECRET)
    await pair.write(sample_archives(street_id, 4, first=500), street)
    await pair.write(sample_archives(DISTRICT, 2))
    assert (await to_district.step()).equality is Equality.EQUAL
    assert (await pair.sender.step()).equality is Equality.EQUAL
    owners = await pair.city.db.read(digest_store.owners)
    assert owners == {DISTRICT: 2, street_id: 4}
    assert await pair.city.db.read(outbox.exportable, Audience(DISTRICT)) == []
    await street.close()


async def test_the_city_can_pull_instead(pair: Pair) -> None:
    await pair.write(sample_archives(DISTRICT, 30))
    key_id = await pair.district.admit(CITY, Relation.UPPER, SECRET)
    await pair.city.platforms.put(Platform(pair.district.id, "区", Relation.LOWER))
    link = pair.city.link_to(pair.district, key_id, SECRET)
    puller = Puller(pair.city.db, pair.city.exchange, link, DISTRICT)
    peer = await puller.step()
    assert (peer.state, peer.equality) == (PeerState.LIVE, Equality.EQUAL)
    mine, theirs = await pair.roots()
    assert mine == theirs
    await pair.write(sample_archives(DISTRICT, 1, first=7, name="改名"))
    await pair.district.db.write(devices.mark_missing, DISTRICT, ["31010400001310000008"], pair.clock.at())
    peer = await puller.step()
    assert peer.equality is Equality.EQUAL
    assert len(await pair.city_ids()) == 29


async def test_a_wrong_secret_is_the_peers_refusal(pair: Pair) -> None:
    link = pair.district.link_to(pair.city, f"key-{DISTRICT}", "wrong")
    with pytest.raises(PeerFailed) as refusal:
        await Sender(pair.district.db, pair.clock, link, CITY).step()
    assert refusal.value.details["peerCode"] == 40102


async def test_gone_of_an_owner_that_is_not_the_senders_is_ignored(pair: Pair) -> None:
    await pair.write(sample_archives(CITY, 1), pair.city)
    key = sample_archives(CITY, 1)[0].device_id
    result = await pair.city.exchange.push(DISTRICT, _push(9, [], gone=(GoneItem(CITY, key),)))
    assert result.missing == 0
    assert (await pair.city.devices.get(key)).missing_since is None
