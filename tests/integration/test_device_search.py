"""Search and place on both engines against a look at every row."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from msgspec import structs
from sqlalchemy import Connection, event

from tongshi.clock import SystemClock
from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import query_store, store
from tongshi.resources.devices.coordinates import GeoCoordSys, from_wgs84
from tongshi.resources.devices.geometry import Box, Circle, Corridor, Polygon, Shape
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.query import Area, DeviceQueries
from tongshi.resources.devices.search_terms import Match, document, needle
from tongshi.resources.devices.selection import UNASSIGNED, Cursors, Selection, Sort
from tongshi.sharing.model import EVERYTHING, Scope, Target
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS = ("31010400002000000001", "31010500002000000001")
WORDS = "闵行长宁徐汇人民路外滩广场重庆北路１号ABcd 12号楼-东口（南）𠮷"
DIVISION, FIRST_OWNER = Scope(civil_codes=frozenset({"3101"})), Scope(owners=frozenset(OWNERS[:1]))
CODES = ("310104", "31010501", "31", "310112", "", "999")


def make(count: int, seed: int) -> list[DeviceArchive]:
    """Archives with short names of few characters, so that keywords find some and not all."""
    pick = random.Random(seed)
    found = []
    for number in range(count):
        item = CatalogItem(
            device_id=f"31010400001{pick.choice((131, 132))}{number:06d}",
            name="".join(pick.choice(WORDS) for _ in range(pick.randrange(0, 9))),
            address="".join(pick.choice(WORDS) for _ in range(pick.randrange(0, 6))),
            civil_code=pick.choice(CODES),
            longitude=None if number % 7 == 0 else 121.4 + pick.randrange(100) / 1_000,
            latitude=None if number % 7 == 0 else 31.2 + pick.randrange(100) / 1_000,
            ptz_type=pick.randrange(1, 5),
            point_type=pick.choice((1, 2, 3, 9)),
            management_unit=pick.choice(("甲所", "乙所")),
        )
        found.append(DeviceArchive(item=item, owner=pick.choice(OWNERS), source=Source.MANUAL))
    return found


class Field:
    """A filled database, its queries, and the rows as the oracle sees them."""

    def __init__(self, db: Database, archives: list[DeviceArchive]) -> None:
        self.db = db
        self.index = SearchIndex(db, SystemClock())
        self.queries = DeviceQueries(db, self.index)
        self.rows = {archive.device_id: archive for archive in archives}

    async def put(self, archives: list[DeviceArchive]) -> None:
        await self.db.write(store.upsert_many, archives, OWNERS[0], AT)
        self.rows.update((archive.device_id, archive) for archive in archives)

    async def found(self, selection: Selection) -> list[str]:
        ids, page = await self.queries.page(selection, Sort.ID, 10_000)
        assert page.total == len(ids) == len(page.rows)
        return ids


@pytest.fixture
async def filled(database: Database) -> Field:
    made = Field(database, [])
    await made.put(make(400, 1))
    return made


def oracle(field: Field, keyword: str, match: Match, scope: Scope = EVERYTHING) -> list[str]:
    asked = needle(keyword, match)
    return sorted(
        key
        for key, row in field.rows.items()
        if scope.holds(Target(key, row.item.civil_code, row.owner))
        and (asked is None or asked.matches(document(key, row.item.name, row.item.address)))
    )


async def test_every_keyword_finds_what_a_look_at_every_row_finds(filled: Field) -> None:
    pick = random.Random(2)
    texts = [row.item.name + row.item.address for row in filled.rows.values()]
    texts += [
        "mhcn",
        "cnl",
        "31010400001132",
        "0003",
        "3",
        "rml",
        "没有这样的",
        "％",
        "'\"*",
        "_",
        "\n",
        "A b",
    ]
    some = 0
    for _ in range(120):
        text = pick.choice(texts)
        start = pick.randrange(len(text)) if text else 0
        keyword = text[start : start + pick.choice((1, 2, 2, 3, 4, 7))]
        match = pick.choice(list(Match))
        scope = pick.choice(
            (EVERYTHING, Scope(civil_codes=frozenset({"3101"})), Scope(owners=frozenset(OWNERS[:1])))
        )
        expected = oracle(filled, keyword, match, scope)
        assert await filled.found(Selection(scope, needle=needle(keyword, match))) == expected, (
            keyword,
            match,
        )
        some += bool(expected)
    assert some > 60


async def test_one_and_two_characters_and_initials_are_found(filled: Field) -> None:
    name = CatalogItem(device_id="31010400001319999999", name="闵行区银行门口", civil_code="310112")
    await filled.put([DeviceArchive(item=name, owner=OWNERS[0], source=Source.MANUAL)])
    for keyword in ("银", "银行", "闵行区", "mhq", "yhmk", "9999999", "闵行区银行门口"):
        assert "31010400001319999999" in await filled.found(
            Selection(EVERYTHING, needle=needle(keyword, Match.CONTAINS))
        )


async def test_the_index_follows_every_change_of_an_archive(filled: Field) -> None:
    await filled.index.refresh()
    changed = [
        replace_item(archive, name="改名后的路口", longitude=121.7, latitude=31.7)
        for archive in list(filled.rows.values())[:50]
    ]
    await filled.put(changed)
    for keyword in ("改名", "闵行", "gmh", "路"):
        expected = oracle(filled, keyword, Match.CONTAINS)
        assert await filled.found(Selection(EVERYTHING, needle=needle(keyword, Match.CONTAINS))) == expected
    area = await filled.queries.in_area(Selection(EVERYTHING), Area(Box(121.7, 31.7, 121.7, 31.7)), 100)
    assert sorted(area.ids) == sorted(archive.device_id for archive in changed)


def replace_item(archive: DeviceArchive, **fields: object) -> DeviceArchive:
    return structs.replace(archive, item=structs.replace(archive.item, **fields))


SHAPES: list[tuple[Shape, GeoCoordSys]] = [
    (Box(121.41, 31.21, 121.45, 31.25), GeoCoordSys.WGS84),
    (Box(121.41, 31.21, 121.45, 31.25), GeoCoordSys.GCJ02),
    (Box(121.41, 31.21, 121.45, 31.25), GeoCoordSys.BD09),
    (Circle((121.45, 31.25), 3_000), GeoCoordSys.WGS84),
    (Circle((121.45, 31.25), 3_000), GeoCoordSys.CGCS2000),
    (Corridor(((121.4, 31.2), (121.45, 31.25), (121.5, 31.2)), 500), GeoCoordSys.WGS84),
    (
        Polygon.of(
            [(121.4, 31.2), (121.5, 31.2), (121.45, 31.29)],
            [[(121.44, 31.21), (121.46, 31.21), (121.45, 31.23)]],
        ),
        GeoCoordSys.GCJ02,
    ),
]


@pytest.mark.parametrize("number", range(len(SHAPES)))
async def test_a_shape_holds_what_a_look_at_every_row_holds(filled: Field, number: int) -> None:
    shape, system = SHAPES[number]
    scope = Scope(owners=frozenset(OWNERS[:1]))
    selection = Selection(scope, ptz_types=(1, 2, 3))
    mine = [r.item for r in filled.rows.values() if r.owner == OWNERS[0] and r.item.ptz_type in (1, 2, 3)]
    expected = {
        item.device_id
        for item in mine
        if item.longitude is not None
        and item.latitude is not None
        and shape.holds(*from_wgs84((item.longitude, item.latitude), system))
    }
    assert len(expected) > 5
    seen: list[str] = []
    after = None
    while True:
        found = await filled.queries.in_area(selection, Area(shape, system), 7, after)
        assert (found.total, found.placeless) == (
            len(expected),
            sum(item.longitude is None for item in mine),
        )
        if found.shown is None:
            assert [row.device_id for row in found.rows] == found.ids
        seen += found.ids
        after = found.after
        if after is None:
            break
    assert len(seen) == len(expected)
    assert set(seen) == expected
    clustered = await filled.queries.in_area(selection, Area(shape, system, cell_deg=0.01), 7)
    assert sum(cluster.count for cluster in clustered.clusters or ()) == len(expected)


@pytest.mark.parametrize("sort", list(Sort))
async def test_pages_by_cursor_join_to_the_whole_in_order(filled: Field, sort: Sort) -> None:
    selection = Selection(EVERYTHING)
    whole, _ = await filled.queries.page(selection, sort, 10_000)
    joined: list[str] = []
    after = None
    while True:
        ids, found = await filled.queries.page(selection, sort, 37, after=after, with_total=False)
        assert found.total is None
        joined += ids
        after = found.after
        if after is None:
            break
    assert joined == whole
    names = {key: row.item.name for key, row in filled.rows.items()}
    if sort is Sort.NAME:
        assert whole == sorted(names, key=lambda key: (names[key], key))


async def test_groups_count_each_device_once_and_name_the_unassigned(filled: Field) -> None:
    codes = ["31", "3101", UNASSIGNED]
    selection = Selection(EVERYTHING, civil_codes=tuple(codes))
    groups = await filled.queries.groups(selection, codes, "child")
    counted = {group.key: group.total for group in groups}
    told = [row.item.civil_code for row in filled.rows.values()]
    assert counted[UNASSIGNED] == sum(code in ("", "999") for code in told)
    assert counted["3101"] == sum(code.startswith("3101") for code in told)
    assert sum(counted.values()) == len(told) == len(await filled.found(selection))
    units = await filled.queries.groups(selection, ["31"], "department")
    assert {unit.key for unit in units} == {"甲所", "乙所", UNASSIGNED}


async def test_an_exact_division_leaves_its_children_out(filled: Field) -> None:
    selection = Selection(EVERYTHING, civil_codes=("31",))
    exact = await filled.found(replace(selection, is_exact_civil_code=True))
    assert exact == sorted(key for key, row in filled.rows.items() if row.item.civil_code == "31")
    assert len(await filled.found(selection)) > len(exact)


async def test_missing_devices_are_left_out_unless_asked_for(filled: Field) -> None:
    gone = [key for key, row in filled.rows.items() if row.owner == OWNERS[0]][:3]
    await filled.db.write(store.mark_missing, OWNERS[0], gone, AT)
    assert not set(gone) & set(await filled.found(Selection(EVERYTHING)))
    assert set(gone) <= set(await filled.found(Selection(EVERYTHING, include_missing=True)))


async def test_more_candidates_than_can_be_examined_are_refused(
    filled: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tongshi.resources.devices.query.MAX_EXAMINED", 10)
    with pytest.raises(InvalidRequest) as caught:
        await filled.queries.in_area(Selection(EVERYTHING), Area(Circle((121.45, 31.25), 9_000)), 5)
    assert caught.value.code == 40002


async def test_a_cursor_belongs_to_its_question() -> None:
    cursors = Cursors()
    sealed = cursors.seal(b"one", ["路", "3101"])
    assert cursors.open(b"one", sealed) == ["路", "3101"]
    for question, text in (
        (b"two", sealed),
        (b"one", sealed[:-2]),
        (b"one", "路"),
        (b"one", "A" * 2_000),
        (b"one", "="),
    ):
        with pytest.raises(InvalidRequest):
            cursors.open(question, text)


async def test_a_search_costs_the_same_few_statements_however_many_it_finds(filled: Field) -> None:
    await filled.index.refresh()
    statements: list[str] = []

    def measured(conn: Connection) -> None:
        event.listen(conn, "before_cursor_execute", lambda *args: statements.append(args[2]))
        selection = Selection(EVERYTHING, needle=needle("路", Match.CONTAINS))
        query_store.count(conn, selection)
        query_store.lite(conn, [key for key, _ in query_store.keys(conn, selection, Sort.NAME, 1_000)])

    await filled.db.read(measured)
    assert sum(statement.startswith("SELECT") for statement in statements) == 3
