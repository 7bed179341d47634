"""Each row of Table E.1 and each operation of the exchange meets the wrong type, the too long, the too many,
the other district's, no grant, and a grant on one row; on both databases. Exactly what was granted comes and
is counted, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Relation
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_office import SQUARE
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
UNKNOWN = "31010400001310009999"
EVERY = [f"{owner[:8]}00131000000{n}" for owner in (HOME, ABROAD) for n in (1, 2, 3)]
GRANTED = {"all": frozenset(EVERY), "row": frozenset({MINE}), "far": frozenset(EVERY[3:])}
ADMIN = Subject(SubjectKind.USER, "0", "test")
LIST, ONE = "/api/v1/archive/devices", f"/api/v1/archive/devices/{MINE}"
AREA, BATCH, FULL, CHANGES, SEARCH = (
    f"{LIST}/{name}" for name in ("area-query", "batch-get", "full", "changes", "search-ids")
)
REGIONS, PLANS = "/api/v1/archive/regions/devices", "/api/v1/archive/plans/devices"
PUSH, BEGIN, PAGE, COMPLETE, ROOTS, DIGEST, RANGES = (
    f"/exchange/v1/{name}"
    for name in (
        *("devices:push", "devices/full:begin", "devices/full:page", "devices/full:complete"),
        *("devices:root", "digest", "digest/ranges"),
    )
)
WORLD = {"type": "rect", "rect": {"minLon": 120, "minLat": 30, "maxLon": 123, "maxLat": 33}}
PUSHED = {"batchId": "b", "feed": "f", "fromPosition": 0, "toPosition": 1, "items": []}
PAGED: dict[str, Any] = {"snapshotId": "s", "afterKey": "", "lastKey": "1", "items": []}


@dataclass(repr=False)
class Desk:
    """A platform with devices of two districts, and a plan that lists them all and one that is not there.

    Keys: all, one row, the other district, nothing, a neighbour.
    """

    platform: RestPlatform
    clock: ManualClock
    plan: str = ""

    async def ask(self, who: str, target: str, body: Any = None) -> tuple[int, int, Any]:
        """POST with a body, else GET. Returns HTTP status, code and data."""
        self.clock.advance(1)
        method, content = ("GET", b"") if body is None else ("POST", msgspec.json.encode(body))
        path, _, query = target.partition("?")
        headers = Signer(who, "s" * 32, HOME, self.clock).headers(method, path, query, content)
        if content:
            headers["Content-Type"] = "application/json"
        async with self.platform.http() as client:
            answer = await client.request(method, target, content=content, headers=headers)
        told = answer.json()
        return answer.status_code, told["code"], told["data"]


@pytest.fixture
async def desk(database: Database) -> Desk:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    every = set(Permission)
    for who in ("all", "row", "far", "nil"):
        await platform.grants.put_key(who, who, "s" * 32, every)
    await platform.admit(ABROAD, Relation.LOWER, "s" * 32)
    scopes = {
        "all": (ScopeKind.ALL, frozenset[str]()),
        "row": (ScopeKind.DEVICE, frozenset({MINE})),
        "far": (ScopeKind.CIVIL_CODE, frozenset({ABROAD[:6]})),
    }
    for who, (kind, values) in scopes.items():
        grant = Grant("", SubjectKind.API_KEY, who, frozenset({Permission.ARCHIVE_READ}), kind, values)
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    made = Desk(platform, clock)
    plan = {"PlanName": "保障", "CatalogID": SQUARE, "DeviceIdList": [*sorted(GRANTED["all"]), UNKNOWN]}
    _, _, data = await made.ask("all", "/api/v1/plans/config", plan)
    made.plan = data["PlanCode"]
    return made


WRONG_TYPE: list[tuple[str, Any, str]] = [
    (AREA, {"shape": 7}, "shape"),
    (BATCH, {"deviceIds": MINE}, "deviceIds"),
    (BATCH, {"deviceIds": [1]}, "deviceIds[0]"),
    (FULL, {"pageSize": "10"}, "pageSize"),
    (CHANGES, {"sinceVersion": "0"}, "sinceVersion"),
    (SEARCH, {"keyword": ["路"]}, "keyword"),
    (f"{LIST}?pageNo=one", None, "pageNo"),
    (f"{LIST}?online=maybe", None, "online"),
    (REGIONS, {"civilCodes": "3101"}, "civilCodes"),
    (PLANS, {"planCodes": {"a": 1}}, "planCodes"),
    (PUSH, {**PUSHED, "toPosition": 1.5}, "toPosition"),
    (BEGIN, {"feed": 1, "position": 0}, "feed"),
    (PAGE, {**PAGED, "items": {}}, "items"),
    (COMPLETE, {"snapshotId": "s", "position": 0, "roots": [1]}, "roots[0]"),
    (ROOTS, {"items": 1}, "items"),
    (f"{DIGEST}?shardsOf=abc", None, "shardsOf"),
    (f"{RANGES}?owner=abc", None, "owner"),
]
TOO_LONG: list[tuple[str, Any, str]] = [
    (AREA, {"shape": WORLD, "cursor": "x" * 2049}, "cursor"),
    (BATCH, {"deviceIds": ["1" * 65]}, "deviceIds[0]"),
    (FULL, {"cursor": "x" * 513}, "cursor"),
    (CHANGES, {"sinceVersion": 1 << 63}, "sinceVersion"),
    (SEARCH, {"keyword": "路" * 65}, "keyword"),
    (f"{LIST}/{'1' * 257}", None, "deviceId"),
    (f"{LIST}?keyword={'x' * 65}", None, "keyword"),
    (REGIONS, {"civilCodes": ["3" * 9]}, "civilCodes[0]"),
    (PLANS, {"planCodes": ["p" * 65]}, "planCodes[0]"),
    (PUSH, {**PUSHED, "batchId": "b" * 65}, "batchId"),
    (BEGIN, {"feed": "f" * 65, "position": 0}, "feed"),
    (PAGE, {**PAGED, "lastKey": "k" * 65}, "lastKey"),
    (COMPLETE, {"snapshotId": "s" * 65, "position": 0, "roots": []}, "snapshotId"),
    (f"{DIGEST}?shardsOf={'3' * 21}", None, "shardsOf"),
    (f"{RANGES}?owner={HOME}&after={'3' * 65}", None, "after"),
]
ROOT = {"owner": ABROAD, "count": 0, "digest": "0" * 64}
TOO_MANY: list[tuple[str, Any, str]] = [
    (AREA, {"shape": WORLD, "limit": 20_001}, "limit"),
    (AREA, {"shape": WORLD, "filter": {"civilCodes": ["31"] * 2_000}}, "filter.civilCodes"),
    (BATCH, {"deviceIds": [MINE] * 1_001}, "deviceIds"),
    (FULL, {"pageSize": 5_001}, "pageSize"),
    (CHANGES, {"sinceVersion": 0, "limit": 5_001}, "limit"),
    (SEARCH, {"keyword": "路", "limit": 50_001}, "limit"),
    (f"{LIST}?pageSize=1001", None, "pageSize"),
    (REGIONS, {"civilCodes": ["31"] * 101}, "civilCodes"),
    (PLANS, {"planCodes": ["p"] * 51}, "planCodes"),
    (PUSH, {**PUSHED, "items": [0] * 5_001}, "items"),
    (BEGIN, {"feed": "f", "position": 0, "more": 1}, "more"),
    (PAGE, {**PAGED, "items": [0] * 5_001}, "items"),
    (COMPLETE, {"snapshotId": "s", "position": 0, "roots": [ROOT] * 1_001}, "roots"),
    (ROOTS, {"items": [0] * 5_001}, "items"),
    (f"{RANGES}?owner={HOME}&owner={HOME}", None, "owner"),
]


@pytest.mark.parametrize(("target", "body", "field"), [*WRONG_TYPE, *TOO_LONG, *TOO_MANY])
async def test_what_no_question_may_hold_is_refused_by_its_name(
    desk: Desk, target: str, body: Any, field: str
) -> None:
    who = f"key-{ABROAD}" if target.startswith("/exchange/") else "all"
    status, code, data = await desk.ask(who, target, body)
    assert (status, code // 100, data["field"]) == (400, 400, field)


def _ids(data: Any) -> list[str]:
    rows = [*(data.get("list") or []), *(row for plan in data.get("plans") or [] for row in plan["list"])]
    return [row["DeviceID"] for row in [*rows, *(data.get("changes") or [])]] + (data.get("deviceIds") or [])


QUESTIONS: list[tuple[str, Any]] = [
    (AREA, {"shape": WORLD}),
    (AREA, {"shape": WORLD, "fields": "full"}),
    (AREA, {"shape": WORLD, "fields": "id"}),
    (BATCH, {"deviceIds": [*EVERY, UNKNOWN]}),
    (FULL, {}),
    (CHANGES, {"sinceVersion": 0}),
    (SEARCH, {"keyword": "路口"}),
    (LIST, None),
    (f"{LIST}?totalMode=none", None),
    (REGIONS, {"civilCodes": ["31"], "groupBy": "child"}),
    (PLANS, {"planCodes": ["plan"]}),
    (PLANS, {"planCodes": ["plan"], "merge": "perPlan", "withPerm": True}),
]


@pytest.mark.parametrize(("target", "body"), QUESTIONS)
async def test_exactly_what_was_granted_comes_and_is_counted(desk: Desk, target: str, body: Any) -> None:
    for who, granted in GRANTED.items():
        status, code, data = await desk.ask(who, target, _of_plan(desk, body))
        assert (status, code) == (200, 0), data
        assert sorted(_ids(data)) == sorted(granted), who
        assert data.get("total") in (None, len(granted)), who
        if target != BATCH:
            named = {one for one in (*EVERY, UNKNOWN) if one in msgspec.json.encode(data).decode()}
            assert named - granted == ({UNKNOWN} if "plans" in data and who == "all" else set()), who
        _check_counts(data, who, granted)


def _check_counts(data: Any, who: str, granted: frozenset[str]) -> None:
    """Whatever else an answer counts."""
    by_owner = Counter(HOME if one.startswith(HOME[:6]) else ABROAD for one in granted)
    if "roots" in data:
        assert {root["owner"]: root["count"] for root in data["roots"]} == by_owner
    if data.get("shardDigests") is not None:
        assert sum(shard["count"] for shard in data["shardDigests"]) == len(granted)
    if "groups" in data:
        assert [g["total"] for g in data["groups"]] == [len(granted), 0], "of the city, and without division"
    for plan in data.get("plans") or []:
        missing = [UNKNOWN] if who == "all" else []
        denied = len(EVERY) + 1 - len(granted) - len(missing)
        assert (plan["DeviceCount"], plan["missing"], plan["deniedCount"]) == (
            len(EVERY) + 1,
            missing,
            denied,
        )


@pytest.mark.parametrize(("target", "body"), QUESTIONS)
async def test_who_was_granted_nothing_is_told_and_counted_nothing(
    desk: Desk, target: str, body: Any
) -> None:
    status, code, data = await desk.ask("nil", target, _of_plan(desk, body))
    if target in (FULL, CHANGES):
        assert (status, code, data) == (403, 40304, {}), "not even a count and a digest"
        return
    assert (status, _ids(data)) == (200, [])
    assert not data.get("total")
    assert not data.get("noCoordinateCount")
    assert all(group["total"] == 0 for group in data.get("groups") or [])
    assert all(plan["missing"] == [] for plan in data.get("plans") or [])


def _of_plan(desk: Desk, body: Any) -> Any:
    """The question with the code that the plan was given."""
    return {**body, "planCodes": [desk.plan]} if body and "planCodes" in body else body


async def test_one_device_is_there_for_its_grant_only(desk: Desk) -> None:
    theirs = f"{LIST}/{THEIRS}"
    every = [(who, path) for who in ("row", "far", "nil") for path in (ONE, theirs)]
    codes = {(who, path): (await desk.ask(who, path))[:2] for who, path in every}
    assert codes.pop(("row", ONE)) == codes.pop(("far", theirs)) == (200, 0)
    assert set(codes.values()) == {(404, 40401)}


async def test_ranges_and_roots_tell_a_neighbour_of_itself_only(desk: Desk) -> None:
    who = f"key-{ABROAD}"
    assert (await desk.ask(who, f"{RANGES}?owner={HOME}&civilCode=310104"))[0] == 404
    mine = {"DeviceID": THEIRS, "Name": "一", "CivilCode": ABROAD[:6]}
    await desk.ask(who, PUSH, {**PUSHED, "items": [mine], "form": "full"})
    status, _, data = await desk.ask(who, f"{RANGES}?owner={ABROAD}&civilCode={ABROAD[:6]}")
    assert status == 200
    assert {row["deviceId"] for row in data["rows"]} == GRANTED["far"]
    row = {"DeviceID": MINE, "Name": "一", "CivilCode": "310104"}
    status, _, data = await desk.ask(who, ROOTS, {"items": [row, {**row, "sourcePlatform": "1"}]})
    assert (status, data["rejectedCount"], data["rejected"][0]["index"]) == (200, 1, 1)
    assert [(root["owner"], root["count"]) for root in data["roots"]] == [(ABROAD, 1)], "of the items alone"


async def test_a_neighbour_speaks_for_itself_only(desk: Desk) -> None:
    row = {"DeviceID": MINE, "Name": "夺", "sourcePlatform": HOME}
    who = f"key-{ABROAD}"
    pushed = {**PUSHED, "items": [row], "form": "full"}
    status, _, data = await desk.ask(who, PUSH, pushed)
    assert (status, data["inserted"], data["updated"], data["rejectedCount"]) == (200, 0, 0, 1)
    gone = {"owner": HOME, "deviceId": MINE}
    again = {**PUSHED, "fromPosition": 1, "toPosition": 2, "gone": [gone]}
    assert (await desk.ask(who, PUSH, again))[2]["missing"] == 0
    assert (await desk.ask("all", ONE))[0] == 200


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (PUSH, PUSHED),
        (BEGIN, {"feed": "f", "position": 0}),
        (PAGE, PAGED),
        (COMPLETE, {"snapshotId": "s", "position": 0, "roots": []}),
        (ROOTS, {"items": []}),
        (f"{RANGES}?owner={HOME}", None),
    ],
)
async def test_who_is_no_platform_pushes_nothing_whatever_it_may(desk: Desk, target: str, body: Any) -> None:
    assert (await desk.ask("all", target, body))[:2] == (403, 40301)
