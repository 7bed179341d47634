"""Conditions over tags in SQL, with a plan and within grants, against a look at every row."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from tongshi.clock import SystemClock
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import presence_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.geometry import Box
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.query import Area, DeviceQueries
from tongshi.resources.devices.search_terms import Match, needle
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.resources.plans import standard, store
from tongshi.resources.plans.members import InPlans
from tongshi.resources.plans.model import Plan
from tongshi.resources.tags import device_store
from tongshi.resources.tags.annotation import Annotations
from tongshi.resources.tags.expression import Expression, Node, Term, bearer, holds, terms
from tongshi.resources.tags.expression_store import Bearing
from tongshi.resources.tags.model import Annotation, DeviceTag, Mode, Setting, TagSource
from tongshi.resources.tags.service import TagDictionary
from tongshi.sharing import store as sharing
from tongshi.sharing.model import (
    EVERYTHING,
    Context,
    Grant,
    Scope,
    ScopeKind,
    Subject,
    SubjectKind,
    Target,
)
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

AT = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS = ("31010400002000000001", "31010600002000000001")
CODES = ("310104", "31010501", "310106", "")
VALUES = {"d1": ("d1a", "d1b", "d1c"), "d2": ("d2a", "d2b")}
ALL = [(define, value) for define, values in VALUES.items() for value in values]
PLAN = "00000000000000000001"
SCOPES = [
    EVERYTHING,
    Scope(),
    Scope(civil_codes=frozenset({"3101"})),
    Scope(owners=frozenset(OWNERS[:1]), civil_codes=frozenset({"310106"})),
]
WRITER = Subject(
    SubjectKind.API_KEY, "writer", permissions=frozenset({Permission.TAG_WRITE, Permission.ARCHIVE_READ})
)

TERMS = st.one_of(
    st.builds(Term, st.sampled_from(["d1", "d2", "d3"])),
    st.builds(
        Term,
        st.sampled_from(["", "d1", "d2"]),
        st.lists(st.sampled_from([value for _, value in ALL]), min_size=1, max_size=3).map(tuple),
    ),
)


def _nodes(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    parts = st.lists(inner, max_size=3).map(tuple)
    return st.builds(Node, parts, parts, parts).filter(lambda node: bool(node.parts))


TREES: st.SearchStrategy[Expression] = st.recursive(TERMS, _nodes, max_leaves=12)


class Field:
    """A database with tagged devices, as the oracle knows it."""

    def __init__(self, db: Database) -> None:
        index = SearchIndex(db, SystemClock())
        self.db = db
        self.queries = DeviceQueries(db, index)
        self.annotations = Annotations(db, presence_store, index.refresh)
        self.rows: dict[str, DeviceArchive] = {}
        self.tags: dict[str, set[tuple[str, str]]] = {}
        self.planned: list[str] = []

    async def fill(self, count: int = 80) -> None:
        pick = random.Random(3)
        for number in range(count):
            item = CatalogItem(
                device_id=f"310104000013100000{number:02d}",
                name=pick.choice(("路口", "广场")),
                civil_code=pick.choice(CODES),
                longitude=121.4 + pick.randrange(100) / 1_000,
                latitude=31.2,
            )
            archive = DeviceArchive(item=item, owner=pick.choice(OWNERS), source=Source.MANUAL)
            self.rows[item.device_id] = archive
            self.tags[item.device_id] = set(pick.sample(ALL, pick.randrange(0, 4)))
        await self.db.write(devices.upsert_many, list(self.rows.values()), OWNERS[0], AT)
        tags = [
            DeviceTag(key, define, value, TagSource.MANUAL, "", AT)
            for key, borne in self.tags.items()
            for define, value in sorted(borne)
        ]
        await self.db.write(device_store.write, {}, tags, dict.fromkeys(self.rows, 1), AT)
        self.planned = pick.sample(sorted(self.rows), 30)
        await self.db.write(store.seed, standard.catalogues(), AT)
        await self.db.write(store.put, Plan(PLAN, "10304", "计划", device_ids=tuple(self.planned)), AT)

    def expected(self, tree: Expression, scope: Scope, *, in_plan: bool, keyword: str = "") -> list[str]:
        return sorted(
            key
            for key, row in self.rows.items()
            if scope.holds(Target(key, row.item.civil_code, row.owner))
            and holds(tree, bearer(self.tags[key]))
            and (not in_plan or key in self.planned)
            and keyword in row.item.name
        )


@pytest.fixture
async def field(database: Database) -> Field:
    made = Field(database)
    await made.fill()
    return made


FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(
    tree=TREES,
    scope=st.sampled_from(SCOPES),
    in_plan=st.booleans(),
    keyword=st.sampled_from(["", "路", "广场"]),
)
async def test_a_condition_holds_for_what_a_look_at_every_row_says(
    field: Field, tree: Expression, scope: Scope, in_plan: bool, keyword: str
) -> None:
    narrowings = (Bearing(tree), *((InPlans((PLAN,)),) if in_plan else ()))
    selection = Selection(scope, needle=needle(keyword, Match.CONTAINS), narrowings=narrowings)
    expected = field.expected(tree, scope, in_plan=in_plan, keyword=keyword)
    ids, page = await field.queries.page(selection, Sort.ID, 1_000)
    assert (ids, page.total) == (expected, len(expected))
    area = await field.queries.in_area(selection, Area(Box(121, 31, 122, 32)), 1_000)
    assert (sorted(area.ids), area.total) == (expected, len(expected))
    counts = await field.annotations.explain(Selection(scope), [Bearing(term) for term in terms(tree)])
    assert counts == [len(field.expected(term, scope, in_plan=False)) for term in terms(tree)]


async def test_codes_are_those_that_a_device_bears(field: Field) -> None:
    found = await field.annotations.codes(list(field.rows))
    wanted = {key: tuple(sorted(value for _, value in borne)) for key, borne in field.tags.items() if borne}
    assert found == wanted


class Statements:
    """Counts what a unit of work sends to the database."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def listen(self, conn: Connection) -> None:
        event.listen(conn, "before_cursor_execute", lambda *args: self.sent.append(args[2]))


async def test_two_thousand_devices_are_tagged_with_a_few_statements(database: Database) -> None:
    field = Field(database)
    await TagDictionary(database, SystemClock()).prepare()
    archives = [
        DeviceArchive(
            item=CatalogItem(device_id=f"31010400001310{number:06d}", civil_code="310104"),
            owner=OWNERS[0],
            source=Source.MANUAL,
        )
        for number in range(2_000)
    ]
    await database.write(devices.upsert_many, archives, OWNERS[0], AT)
    grant = Grant("G1", SubjectKind.API_KEY, "writer", frozenset({Permission.ARCHIVE_READ}), ScopeKind.ALL)
    await database.write(sharing.add_grant, grant, AT)
    ids = tuple(archive.device_id for archive in archives)
    for mode, code in ((Mode.REPLACE, "000101001"), (Mode.REPLACE, "000101002"), (Mode.ADD, "000101003")):
        counted = Statements()
        asked = Annotation(ids, settings=(Setting("000101", (code,)),), mode=mode)

        def measured(
            conn: Connection, asked: Annotation = asked, counted: Statements = counted
        ) -> tuple[int, int]:
            counted.listen(conn)
            done = field.annotations._annotate(conn, WRITER, asked, Context(AT))
            return done.matched, done.changed

        assert await database.write(measured) == (2_000, 2_000)
        assert 0 < len(counted.sent) <= 45, counted.sent
