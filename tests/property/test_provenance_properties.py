"""Contributions may come late, twice and in any order: the archive and its provenance stay the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection, delete

from tongshi.clock import ManualClock
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import store
from tongshi.resources.devices.model import DeviceArchive, Origin, Source, digest
from tongshi.resources.devices.provenance import (
    CATALOGUES,
    EXT_FIELDS,
    ITEM_FIELDS,
    Contribution,
    assembled,
    merged,
    numbered,
    origins_of,
    values_of,
    whole_of,
)
from tongshi.resources.devices.service import DeviceArchives
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_archive, device_history, device_shard, device_status

SELF, LOWER = "31000000002000000001", "31010400002000000001"
START = datetime(2026, 1, 1, tzinfo=UTC)
# Fields of each kind: text, list, number, position, flag of Table A.1, list of Table A.1.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["", "甲", "乙"]),
    "parent_ids": st.sampled_from([(), (SELF,), (SELF, LOWER)]),
    "ptz_type": st.sampled_from([None, 1, 2]),
    "longitude": st.sampled_from([None, 121.4, 121.5]),
    "is_networked": st.sampled_from([None, True, False]),
    "industries": st.sampled_from([(), ("公安",), ("公安", "交警")]),
}
_numbers = itertools.count(1)


@st.composite
def catalogues(draw: st.DrawFn, owner: str = SELF, method: Source = Source.SIGNALLING) -> Contribution:
    item = CatalogItem(
        device_id="x", **{name: draw(kind) for name, kind in VALUES.items() if name in ITEM_FIELDS}
    )
    origin = Origin(owner, draw(st.integers(0, 2)), draw(st.integers(1, 4)), method)
    return Contribution(origin, {name: getattr(item, name) for name in ITEM_FIELDS})


@st.composite
def persons(draw: st.DrawFn) -> Contribution:
    names = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, unique=True))
    method = draw(st.sampled_from([Source.FILE, Source.MANUAL]))
    origin = Origin(SELF, draw(st.integers(1, 4)), draw(st.integers(1, 4)), method)
    return Contribution(origin, {name: draw(VALUES[name]) for name in names})


OURS = st.lists(st.one_of(catalogues(), persons()), min_size=1, max_size=6)


@st.composite
def told_twice(draw: st.DrawFn) -> tuple[list[Contribution], list[Contribution]]:
    """Contributions, and the same in another order with some of them twice."""
    first = draw(OURS)
    again = draw(st.lists(st.sampled_from(first), max_size=4))
    return first, draw(st.permutations([*first, *again]))


def begun(device_id: str, told: Contribution) -> DeviceArchive:
    """A record of which nothing was known before."""
    blank = DeviceArchive(item=CatalogItem(device_id=device_id), owner=told.origin.platform)
    values = {**values_of(blank), **told.values}
    origins = dict.fromkeys(values) | dict.fromkeys(told.values, told.origin)
    return assembled(blank, values, origins, told.origin)


def folded(told: Sequence[Contribution]) -> DeviceArchive:
    archive = begun("x", told[0])
    for one in told[1:]:
        archive = merged(archive, one)
    return archive


def seen(archive: DeviceArchive) -> tuple[object, ...]:
    """All that must be equal; a catalogue counts no versions, so that its number is only a note."""

    def shown(origin: Origin | None) -> object:
        if origin is None or origin.method not in CATALOGUES:
            return origin
        return replace(origin, revision=0)

    origins = {name: shown(origin) for name, origin in origins_of(archive).items()}
    return values_of(archive), origins, shown(whole_of(archive)), archive.source


@given(told_twice())
@settings(max_examples=300, deadline=None)
def test_order_and_repetition_change_nothing(told: tuple[list[Contribution], list[Contribution]]) -> None:
    first, other = told
    assert seen(folded(first)) == seen(folded(other))


@given(OURS)
@settings(max_examples=200, deadline=None)
def test_a_persons_word_is_never_overwritten_by_a_machine(told: list[Contribution]) -> None:
    final = folded(told)
    origins, values = origins_of(final), values_of(final)
    for name in VALUES:
        words = [c for c in told if c.origin.method not in CATALOGUES and name in c.values]
        if words:
            assert values[name] in [c.values[name] for c in words]
            assert origins[name] in [*(c.origin for c in words), None]


async def _tell(db: Database, device_id: str, told: Contribution, at: datetime) -> None:
    def write(conn: Connection) -> None:
        store.lock(conn)
        held = store.get(conn, device_id)
        new = begun(device_id, told) if held is None else merged(held, told)
        if held is not None and digest(held) == digest(new):
            store.restamp(conn, [new])
        else:
            revision = 1 if held is None else held.revision + 1
            store.upsert_many(conn, [numbered(new, revision, at)], SELF, at)

    await db.write(write)


@given(told=told_twice())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_database_keeps_the_same_in_any_order(
    database: Database, told: tuple[list[Contribution], list[Contribution]]
) -> None:
    kept = []
    for order in told:
        device_id = f"3101040000132{next(_numbers):07}"
        for step, one in enumerate(order):
            await _tell(database, device_id, one, START + timedelta(minutes=step))
        found = await database.read(store.get, device_id)
        assert found is not None
        kept.append(found)
    assert seen(kept[0]) == seen(kept[1])
    assert seen(kept[0]) == seen(folded(told[0]))
    assert [digest(replace(one, item=replace(one.item, device_id="x"))) for one in kept] == [
        digest(folded(told[0]))
    ] * 2


def _forget(conn: Connection) -> None:
    for table in (device_archive, device_shard, device_status, device_history):
        conn.execute(delete(table))


@st.composite
def of_a_neighbour(draw: st.DrawFn) -> list[DeviceArchive | CatalogItem]:
    """What a lower platform tells by its catalogue and by REST; one revision may even say two things."""
    words = st.tuples(st.integers(1, 3), VALUES["name"])
    told = draw(st.dictionaries(words, st.integers(1, 3), min_size=1, max_size=4))
    rows: list[DeviceArchive | CatalogItem] = [
        DeviceArchive(
            item=CatalogItem(device_id="x", name=name),
            owner=LOWER,
            revision=revision,
            updated_at=START + timedelta(seconds=second),
            source=Source.REST,
        )
        for (revision, name), second in told.items()
    ]
    names = draw(st.lists(VALUES["name"], max_size=3))
    return [*rows, *(CatalogItem(device_id="x", name=name) for name in names)]


@given(told=of_a_neighbour(), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_neighbours_record_is_the_same_in_any_order(
    database: Database, told: list[DeviceArchive | CatalogItem], data: st.DataObject
) -> None:
    clock = ManualClock()
    devices = DeviceArchives(database, store, clock, SELF)
    kept = []
    repeated = [*told, *data.draw(st.lists(st.sampled_from(told), max_size=3))]
    device_id = "31010400001320000001"
    for order in (told, data.draw(st.permutations(repeated))):
        # Of two words with one number the digest decides, and that holds the id: it must be the same device.
        await database.write(_forget)
        for one in order:
            clock.advance(1)
            if isinstance(one, CatalogItem):
                item = replace(one, device_id=device_id)
                await devices.merge_catalogue(LOWER, [item], is_platform=True)
            else:
                item = replace(one.item, device_id=device_id)
                await devices.put([replace(one, item=item)], LOWER)
        kept.append(await devices.get(device_id))
    assert seen(kept[0]) == seen(kept[1])
    assert kept[0].revision == kept[1].revision


def test_every_field_is_of_the_item_or_of_table_a1() -> None:
    assert set(VALUES) <= {*ITEM_FIELDS, *EXT_FIELDS}
