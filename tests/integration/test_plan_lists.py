"""Rows E.1-9 and E.4-5 and the filter by plan, against a look at every row within grants."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from tongshi.clock import SystemClock
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.model import DeviceArchive, Source
from tongshi.resources.devices.plan_lists import Part, PlanLists
from tongshi.resources.devices.presence_store import presence
from tongshi.resources.devices.query import DeviceQueries
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.resources.plans import standard, store
from tongshi.resources.plans.members import InPlans, Members
from tongshi.resources.plans.model import Plan
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
from tongshi.testing.rest_office import ABROAD, ADMIN, HOME, MINE, PLANS, THEIRS, UNKNOWN, Office

E19 = "/api/v1/archive/plans/devices"
ONLINE = "/api/v1/video/devices/online"
AT = datetime(2026, 1, 1, tzinfo=UTC)
READER = Subject(SubjectKind.API_KEY, "reader", permissions=frozenset({Permission.PLAN_READ}))


@pytest.fixture
async def office(database: Database) -> Office:
    return await Office.open(database)


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["DeviceID"] for row in rows]


async def test_each_caller_gets_his_own_devices_of_a_plan(office: Office) -> None:
    code = await office.plan("root", [MINE[1], THEIRS[0], UNKNOWN, MINE[0]])
    for who, listed, missing, denied in (
        ("ann", [MINE[1], MINE[0]], [], 2),
        ("bob", [THEIRS[0]], [], 3),
        ("nil", [], [], 4),
        ("root", [MINE[1], THEIRS[0], MINE[0]], [UNKNOWN], 0),
    ):
        found = await office.data(who, "POST", E19, {"planCodes": [code], "merge": "perPlan"})
        (part,) = found["plans"]
        assert (ids(part["list"]), part["missing"], part["deniedCount"]) == (listed, missing, denied), who
        assert (part["PlanCode"], part["PlanName"], part["DeviceCount"]) == (code, "保障", 4)
        assert (found["list"], found["total"]) == ([], len(listed))
        union = await office.data(who, "POST", E19, {"planCodes": [code]})
        assert (ids(union["list"]), union["total"]) == (sorted(listed), len(listed))
        assert union["plans"] == [{**part, "list": []}]
        one = await office.data(who, "GET", f"{PLANS}/{code}/devices") if who != "bare" else None
        assert one is not None
        assert (ids(one["list"]), one["missing"], one["deniedCount"]) == (listed, missing, denied)


async def test_a_plan_tells_each_caller_which_of_his_devices_work(office: Office) -> None:
    code = await office.plan("root", [MINE[1], THEIRS[0], UNKNOWN, MINE[0], MINE[2]])
    told = {MINE[0]: True, MINE[1]: False, THEIRS[0]: True}
    await office.platform.db.write(devices.set_statuses, told, "register", office.clock.at(), "", HOME)
    await office.platform.db.write(devices.mark_missing, HOME, [MINE[2]], office.clock.at(), HOME)
    right = frozenset({Permission.STATUS_READ})
    for who, rights, kind, values in (
        ("eve", right | {Permission.PLAN_READ}, ScopeKind.CIVIL_CODE, {"310104"}),
        ("all", right | {Permission.PLAN_READ}, ScopeKind.ALL, set()),
        ("low", right | {Permission.PLAN_READ}, None, set()),
        ("blind", right, ScopeKind.ALL, set()),
    ):
        await office.admit(who, rights)
        if kind is not None:
            grant = Grant("", SubjectKind.API_KEY, who, right, kind, frozenset(values))
            await office.platform.grants.give(ADMIN, grant, Context(office.clock.at()))
    ours = [(MINE[1], False), (MINE[0], True)]
    theirs = (THEIRS[0], None)  # its platform was never heard of
    for who, listed, missing in (
        ("eve", ours, [MINE[2]]),
        ("all", [ours[0], theirs, ours[1]], [UNKNOWN, MINE[2]]),
        ("low", [], []),
    ):
        found = await office.data(who, "POST", ONLINE, {"planCode": code})
        assert [(row["DeviceID"], row["online"]) for row in found["list"]] == listed, who
        assert (found["missing"], found["truncated"]) == (missing, False)
        summary = await office.data(who, "POST", ONLINE, {"planCode": code, "summaryOnly": True})
        assert summary["list"] == []
        assert summary["summary"] == found["summary"]
        assert found["summary"]["total"] == len(listed)
        assert found["summary"]["online"] == sum(is_on is True for _, is_on in listed)
    for who, asked in (("blind", code), ("all", "nowhere")):
        assert await office.ask(who, "POST", ONLINE, {"planCode": asked}) == (404, 40402, ANY)
    assert (await office.ask("ann", "POST", ONLINE, {"planCode": code}))[:2] == (403, 40301)


async def test_a_union_lists_a_device_once_and_pages_join_to_the_whole(office: Office) -> None:
    codes = [await office.plan("root", MINE[:7]), await office.plan("root", [*THEIRS[:3], *MINE[4:9]])]
    seen: dict[str, list[str]] = {"union": [], "perPlan": []}
    by_cursor: dict[str, list[str]] = {"union": [], "perPlan": []}
    for merge, total in (("union", 12), ("perPlan", 15)):
        for page_no in range(1, 6):
            body = {"planCodes": codes, "merge": merge, "pageNo": page_no, "pageSize": 4}
            found = await office.data("root", "POST", E19, body)
            assert found["total"] == total
            seen[merge] += ids(found["list"]) + [key for part in found["plans"] for key in ids(part["list"])]
        more = {"planCodes": codes, "merge": merge, "pageSize": 4}
        while True:
            found = await office.data("root", "POST", E19, more)
            assert (found["total"], found["asOfVersion"] > 0) == (total, True)
            for rows in (found["list"], *(part["list"] for part in found["plans"])):
                by_cursor[merge] += ids(rows)
            if not found["nextCursor"]:
                break
            more["cursor"] = found["nextCursor"]
    assert by_cursor == seen
    foreign = {**more, "planCodes": codes[:1], "cursor": more["cursor"]}
    assert (await office.ask("root", "POST", E19, foreign))[:2] == (400, 40001)
    assert seen["union"] == sorted({*MINE[:9], *THEIRS[:3]})
    assert seen["perPlan"] == [*MINE[:7], *THEIRS[:3], *MINE[4:9]]


async def test_what_left_the_archive_is_named_to_those_who_could_know_it(office: Office) -> None:
    code = await office.plan("root", [MINE[0], THEIRS[0], MINE[1]])
    for owner, key in ((HOME, MINE[0]), (ABROAD, THEIRS[0])):
        await office.platform.db.write(devices.mark_missing, owner, [key], office.clock.at())
    for who, missing, denied in (("ann", [MINE[0]], 1), ("bob", [THEIRS[0]], 2), ("nil", [], 3)):
        (part,) = (await office.data(who, "POST", E19, {"planCodes": [code]}))["plans"]
        assert (part["missing"], part["deniedCount"]) == (missing, denied)


async def test_what_may_be_done_is_told_when_asked(office: Office) -> None:
    code = await office.plan("ann", MINE[:1])
    for merge in ("union", "perPlan"):
        body = {"planCodes": [code], "merge": merge}
        plain = await office.data("ann", "POST", E19, body)
        found = await office.data("ann", "POST", E19, {**body, "withPerm": True})
        rows = [(*told["list"], *told["plans"][0]["list"]) for told in (plain, found)]
        assert "perm" not in rows[0][0]
        assert rows[1][0]["perm"] == {
            "view": False,
            "playback": False,
            "download": False,
            "ptz": False,
            "talk": False,
        }


async def test_a_plan_that_one_may_not_see_looks_unknown(office: Office) -> None:
    draft, code = await office.plan("ann", MINE[:2], draft=True), await office.plan("ann", MINE[:2])
    for path, body in (
        (E19, {"planCodes": [code, draft]}),
        ("/api/v1/archive/devices/search-ids", {"filter": {"planCode": draft}}),
    ):
        assert (await office.ask("ann", "POST", path, body))[0] == 200
        assert (await office.ask("bob", "POST", path, body))[:2] == (404, 40402)
        assert (await office.ask("bare", "POST", path, body))[:2] == (404, 40402)
    assert (await office.ask("bob", "GET", f"{PLANS}/{draft}/devices"))[:2] == (404, 40402)
    assert (await office.ask("bare", "GET", f"{PLANS}/{code}/devices"))[:2] == (403, 40301)
    assert (await office.ask("bare", "POST", E19, {"planCodes": [code]}))[:2] == (404, 40402)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"planCodes": []}, 40001),
        ({"planCodes": ["1"] * 51}, 40001),
        ({"planCodes": ["1"], "merge": "both"}, 40001),
        ({"planCodes": ["1"], "pageNo": 11, "pageSize": 1000}, 40006),
        ({"planCodes": ["1"]}, 40402),
    ],
)
async def test_a_wrong_question_is_named(office: Office, body: dict[str, Any], code: int) -> None:
    assert (await office.ask("root", "POST", E19, body))[1] == code


async def test_one_plan_is_narrowed_by_words_and_status_in_its_order(office: Office) -> None:
    code = await office.plan("root", [MINE[11], MINE[0], MINE[10], THEIRS[0]])
    await office.platform.db.write(
        devices.set_statuses, {MINE[10]: True, MINE[0]: True}, HOME, office.clock.at()
    )
    for query, listed in (
        ("keyword=1%E5%8F%B7", [MINE[0], MINE[10], THEIRS[0]]),
        ("online=true", [MINE[0], MINE[10]]),
        ("online=false", [MINE[11], THEIRS[0]]),
        ("pageNo=2&pageSize=3", [THEIRS[0]]),
    ):
        found = await office.data("root", "GET", f"{PLANS}/{code}/devices?{query}")
        assert ids(found["list"]) == listed, query
        assert found["total"] == (4 if "pageNo" in query else len(listed))


async def test_other_questions_are_narrowed_by_plan(office: Office) -> None:
    code = await office.plan("root", [*MINE[:4], *THEIRS[:2]])
    asked = {"filter": {"planCode": code}}
    shape = {"type": "rect", "rect": {"minLon": 120, "minLat": 30, "maxLon": 123, "maxLat": 33}}
    for who, total in (("root", 6), ("ann", 4), ("bob", 2), ("nil", 0)):
        for path, body in (
            ("search-ids", {"keyword": "路口", **asked}),
            ("area-query", {"shape": shape, **asked}),
            ("area-query", {"shape": shape, "geoCoordSys": "GCJ02", **asked}),
        ):
            found = await office.data(who, "POST", f"/api/v1/archive/devices/{path}", body)
            assert found["total"] == total, (who, path)
        body = {"civilCodes": ["31"], "groupBy": "child", **asked}
        found = await office.data(who, "POST", "/api/v1/archive/regions/devices", body)
        assert found["total"] == total == sum(group["total"] for group in found["groups"])


# --- Against a look at every row -------------------------------------------------------------------

OWNERS = (HOME, ABROAD)
CODES = ("310104", "31010501", "310106", "", "31")
POOL = [f"310104000013100000{number:02d}" for number in range(40)]
ABSENT = [f"310104000013200000{number:02d}" for number in range(10)]
SCOPES = [
    EVERYTHING,
    Scope(),
    Scope(civil_codes=frozenset({"3101"})),
    Scope(civil_codes=frozenset({"310104"}), device_ids=frozenset({POOL[3], ABSENT[0], ABSENT[1]})),
    Scope(owners=frozenset({HOME})),
    Scope(device_ids=frozenset(POOL[5:9])),
]
_numbers = itertools.count(1)


class Field:
    """A database with devices, some of them missing, as the oracle knows it."""

    def __init__(self, db: Database) -> None:
        index = SearchIndex(db, SystemClock())
        self.db = db
        self.lists = PlanLists(db, index, Members())
        self.queries = DeviceQueries(db, index)
        self.rows: dict[str, DeviceArchive] = {}
        self.gone: set[str] = set()

    async def fill(self) -> None:
        pick = random.Random(7)
        for key in POOL:
            item = CatalogItem(device_id=key, name=key[-4:], civil_code=pick.choice(CODES))
            self.rows[key] = DeviceArchive(item=item, owner=pick.choice(OWNERS), source=Source.MANUAL)
        await self.db.write(devices.upsert_many, list(self.rows.values()), HOME, AT)
        for owner in OWNERS:
            gone = [key for key, row in self.rows.items() if row.owner == owner][:5]
            await self.db.write(devices.mark_missing, owner, gone, AT)
            self.gone.update(gone)
        await self.db.write(store.seed, standard.catalogues(), AT)

    def sees(self, scope: Scope, key: str) -> bool:
        row = self.rows.get(key)
        return scope.holds(Target(key, row.item.civil_code, row.owner) if row else Target(key))

    def is_present(self, key: str) -> bool:
        return key in self.rows and key not in self.gone

    async def make(self, lists: Sequence[Sequence[str]]) -> list[str]:
        """Plans with these devices. Returns their codes."""
        codes = [f"{next(_numbers):020d}" for _ in lists]
        for code, listed in zip(codes, lists, strict=True):
            plan = Plan(code, "10304", "计划", owner="api_key:other", device_ids=tuple(listed))
            await self.db.write(store.put, plan, AT)
        return codes


@pytest.fixture
async def field(database: Database) -> Field:
    made = Field(database)
    await made.fill()
    return made


LISTS = st.lists(st.lists(st.sampled_from(POOL + ABSENT), unique=True, max_size=20), min_size=1, max_size=4)
FAST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(lists=LISTS, scope=st.sampled_from(SCOPES), limit=st.integers(1, 9))
async def test_plans_hold_what_a_look_at_every_row_holds(
    field: Field, lists: list[list[str]], scope: Scope, limit: int
) -> None:
    codes = await field.make(lists)
    expected = [[key for key in one if field.is_present(key) and field.sees(scope, key)] for one in lists]
    missing = [[key for key in one if not field.is_present(key) and field.sees(scope, key)] for one in lists]
    joined: list[list[str]] = [[] for _ in lists]
    for skip in range(0, 81, limit):
        page = await field.lists.of_plans(READER, scope, codes, Part(limit, skip), is_union=False)
        assert page.total == sum(map(len, expected))
        for i, part in enumerate(page.parts):
            joined[i] += [row.device_id for row in part.rows]
            assert part.missing == missing[i]
            assert part.denied == len(lists[i]) - len(expected[i]) - len(missing[i])
    assert joined == expected
    union = await field.lists.of_plans(READER, scope, codes, Part(1_000), is_union=True)
    assert [row.device_id for row in union.rows] == sorted({key for one in expected for key in one})
    assert union.total == len(union.rows)
    for code, one in zip(codes, expected, strict=True):
        page = await field.lists.of_plan(READER, Selection(scope), code, 1_000, 0)
        assert [row.device_id for row in page.rows] == one


@FAST
@given(lists=LISTS, scope=st.sampled_from(SCOPES), online=st.sampled_from([None, False]))
async def test_a_filter_by_plan_holds_what_a_look_at_every_row_holds(
    field: Field, lists: list[list[str]], scope: Scope, online: bool | None
) -> None:
    codes = await field.make(lists)
    wanted = {key for one in lists for key in one}
    expected = sorted(key for key in wanted if field.is_present(key) and field.sees(scope, key))
    selection = Selection(scope, online=online, narrowings=(InPlans(tuple(codes)),))
    found, page = await field.queries.page(selection, Sort.ID, 1_000)
    assert (found, page.total) == (expected, len(expected))


@FAST
@given(keys=st.lists(st.sampled_from(POOL + ABSENT), unique=True), scope=st.sampled_from(SCOPES))
async def test_presence_is_what_a_look_at_every_row_says(field: Field, keys: list[str], scope: Scope) -> None:
    found = await field.db.read(presence, keys, scope)
    assert found == {key: field.is_present(key) for key in keys if field.sees(scope, key)}


async def test_the_devices_of_fifty_plans_cost_a_few_statements(field: Field) -> None:
    codes = await field.make([POOL[:20]] * 50)
    for is_union, most in ((True, 9), (False, 8)):
        statements: list[str] = []

        def measured(conn: Connection, is_union: bool = is_union, told: list[str] = statements) -> None:
            event.listen(conn, "before_cursor_execute", lambda *args: told.append(args[2]))
            field.lists._of_plans(conn, READER, EVERYTHING, codes, Part(1_000), is_union)

        await field.db.read(measured)
        assert 0 < sum(statement.startswith("SELECT") for statement in statements) <= most
