"""Each row of Table E.1 and each push of the exchange meets the wrong type, the too long, the too many, the
other district's, no grant, and a grant on one row; on both databases.
"""

from __future__ import annotations

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
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
ADMIN = Subject(SubjectKind.USER, "0", "test")
LIST, ONE = "/api/v1/archive/devices", f"/api/v1/archive/devices/{MINE}"
AREA, BATCH, FULL, CHANGES, SEARCH = (
    f"{LIST}/{name}" for name in ("area-query", "batch-get", "full", "changes", "search-ids")
)
REGIONS, PLANS = "/api/v1/archive/regions/devices", "/api/v1/archive/plans/devices"
PUSH, BEGIN, PAGE, COMPLETE, DIGEST = (
    f"/exchange/v1/{name}"
    for name in ("devices:push", "devices/full:begin", "devices/full:page", "devices/full:complete", "digest")
)
WORLD = {"type": "rect", "rect": {"minLon": 120, "minLat": 30, "maxLon": 123, "maxLat": 33}}
PUSHED = {"batchId": "b", "feed": "f", "fromPosition": 0, "toPosition": 1, "items": []}
PAGED: dict[str, Any] = {"snapshotId": "s", "afterKey": "", "lastKey": "1", "items": []}


@dataclass(repr=False)
class Desk:
    """A platform with devices of two districts, and keys: all, one row, nothing, a neighbour."""

    platform: RestPlatform
    clock: ManualClock

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
    for who in ("all", "row", "nil"):
        await platform.grants.put_key(who, who, "s" * 32, every)
    await platform.admit(ABROAD, Relation.LOWER, "s" * 32)
    scopes = {"all": (ScopeKind.ALL, frozenset[str]()), "row": (ScopeKind.DEVICE, frozenset({MINE}))}
    for who, (kind, values) in scopes.items():
        grant = Grant("", SubjectKind.API_KEY, who, frozenset({Permission.ARCHIVE_READ}), kind, values)
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    return Desk(platform, clock)


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
    (f"{DIGEST}?shardsOf=abc", None, "shardsOf"),
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
]


@pytest.mark.parametrize(("target", "body", "field"), [*WRONG_TYPE, *TOO_LONG, *TOO_MANY])
async def test_what_no_question_may_hold_is_refused_by_its_name(
    desk: Desk, target: str, body: Any, field: str
) -> None:
    who = f"key-{ABROAD}" if target.startswith("/exchange/") else "all"
    status, code, data = await desk.ask(who, target, body)
    assert (status, code // 100, data["field"]) == (400, 400, field)


def _ids(data: Any) -> set[str]:
    rows = data.get("list") or []
    return {row["DeviceID"] for row in rows} | set(data.get("deviceIds") or [])


QUESTIONS: list[tuple[str, Any]] = [
    (AREA, {"shape": WORLD}),
    (BATCH, {"deviceIds": [MINE, THEIRS, "31010400001310000002"]}),
    (SEARCH, {"keyword": "路口"}),
    (LIST, None),
    (REGIONS, {"civilCodes": ["31"]}),
]


@pytest.mark.parametrize(("target", "body"), QUESTIONS)
async def test_a_grant_on_one_row_shows_one_row_and_none_shows_none(
    desk: Desk, target: str, body: Any
) -> None:
    seen = {}
    for who in ("all", "row", "nil"):
        status, _, data = await desk.ask(who, target, body)
        assert status == 200
        seen[who] = (_ids(data), data.get("total"))
    assert {MINE, THEIRS} <= seen["all"][0]
    assert seen["row"][0] == {MINE}
    assert seen["nil"][0] == set()
    if seen["all"][1] is not None:
        assert (seen["row"][1], seen["nil"][1]) == (1, 0)


async def test_one_device_is_there_for_its_grant_only(desk: Desk) -> None:
    theirs = f"{LIST}/{THEIRS}"
    codes = {(who, path): (await desk.ask(who, path))[:2] for who in ("row", "nil") for path in (ONE, theirs)}
    assert codes["row", ONE] == (200, 0)
    assert {codes["row", theirs], codes["nil", ONE], codes["nil", theirs]} == {(404, 40401)}


@pytest.mark.parametrize(("target", "body"), [(FULL, {}), (CHANGES, {"sinceVersion": 0})])
async def test_a_pull_tells_no_row_beyond_the_grant(desk: Desk, target: str, body: Any) -> None:
    for who, may_see in (("row", {MINE}), ("nil", set[str]())):
        status, code, data = await desk.ask(who, target, body)
        if status == 200:
            told = _ids(data) | {change["deviceId"] for change in data.get("changes") or []}
            assert told <= may_see
        else:
            assert (status, code) == (403, 40304)


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
    ],
)
async def test_who_is_no_platform_pushes_nothing_whatever_it_may(desk: Desk, target: str, body: Any) -> None:
    assert (await desk.ask("all", target, body))[:2] == (403, 40301)
