"""Rows E.1-1 and E.1-6 to E.1-9 over REST: what is granted is counted, wrong questions are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tongshi.audit import store as audit_store
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.protocols.gb28181.codes import ItemKind
from tongshi.resources.devices import query_http
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.tags import device_store as tag_store
from tongshi.resources.tags import dictionary
from tongshi.resources.tags.model import DeviceTag, TagSource
from tongshi.resources.trees import store as tree_store
from tongshi.resources.trees.model import Node
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import PASSWORD, RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
ADMIN = Subject(SubjectKind.USER, "0", "test")
AREA = "/api/v1/archive/devices/area-query"
SEARCH = "/api/v1/archive/devices/search-ids"
LIST = "/api/v1/archive/devices"
REGIONS = "/api/v1/archive/regions/devices"
PLANS = "/api/v1/archive/plans/devices"
EVERYWHERE = {"type": "rect", "rect": {"minLon": 120, "minLat": 30, "maxLon": 123, "maxLat": 33}}


@dataclass(repr=False)
class Desk:
    """A platform with devices of two districts, and keys of different rights."""

    platform: RestPlatform
    clock: ManualClock

    async def ask(self, who: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, int, Any]:
        """POST with a body, else GET. Returns HTTP status, code and data."""
        self.clock.advance(1)
        content = b"" if body is None else msgspec.json.encode(body)
        method = "GET" if body is None else "POST"
        bare, _, query = path.partition("?")
        headers = Signer(who, who * 16, HOME, self.clock).headers(method, bare, query, content)
        async with self.platform.http() as client:
            kind = {"Content-Type": "application/json"} if content else {}
            answer = await client.request(method, path, content=content, headers={**headers, **kind})
        told = answer.json()
        return answer.status_code, told["code"], told["data"]

    async def data(self, who: str, path: str, body: dict[str, Any] | None = None) -> Any:
        status, code, data = await self.ask(who, path, body)
        assert (status, code) == (200, 0), data
        return data


@pytest.fixture
async def desk(database: Database) -> Desk:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    for who in ("all", "one", "nil"):
        await platform.grants.put_key(who, who, who * 16, {Permission.ARCHIVE_READ, Permission.VIDEO_LIVE})
    await platform.grants.put_key("bare", "bare", "bare" * 16, set())
    kinds = {"all": (ScopeKind.ALL, ()), "one": (ScopeKind.CIVIL_CODE, ("310104",))}
    for who, (kind, values) in kinds.items():
        actions = frozenset({Permission.ARCHIVE_READ, Permission.VIDEO_LIVE})
        grant = Grant("", SubjectKind.API_KEY, who, actions, kind, frozenset(values))
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 30), owner, clock.at())
    return Desk(platform, clock)


BODIES: list[tuple[str, dict[str, Any]]] = [
    (AREA, {"shape": EVERYWHERE, "geoCoordSys": "GCJ02"}),
    (AREA, {"shape": EVERYWHERE, "filter": {"keyword": "路口"}}),
    (SEARCH, {"keyword": "lk", "totalMode": "exact"}),
    (REGIONS, {"civilCodes": ["31"]}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_each_caller_is_told_and_counted_what_was_granted(
    desk: Desk, path: str, body: dict[str, Any]
) -> None:
    totals = {who: (await desk.data(who, path, body))["total"] for who in ("all", "one", "nil")}
    assert totals == {"all": 60, "one": 30, "nil": 0}
    assert (await desk.ask("bare", path, body))[:2] == (403, 40301)


@pytest.mark.parametrize("system", ["WGS84", "GCJ02", "BD09", "CGCS2000"])
async def test_positions_come_in_the_system_of_the_question(desk: Desk, system: str) -> None:
    found = await desk.data("all", AREA, {"shape": EVERYWHERE, "geoCoordSys": system, "limit": 1})
    row = found["list"][0]
    assert (row.get("geoCoordSys", "WGS84"), found["geoCoordSys"]) == (system, system)
    assert found["truncated"] is True
    shift = abs(row["Longitude"] - 121.4001)
    assert (shift < 1e-9) is (system in ("WGS84", "CGCS2000"))


async def test_an_area_is_paged_by_cursor_and_clustered_on_a_grid(desk: Desk) -> None:
    body: dict[str, Any] = {"shape": EVERYWHERE, "limit": 25, "fields": "id", "cursor": ""}
    seen: list[str] = []
    for expected in (25, 25, 10):
        found = await desk.data("all", AREA, body)
        assert len(found["deviceIds"]) == expected
        seen += found["deviceIds"]
        body["cursor"] = found["nextCursor"]
    assert (len(set(seen)), body["cursor"]) == (60, "")
    found = await desk.data("all", AREA, {"shape": EVERYWHERE, "cluster": "grid", "zoom": 8})
    assert sum(cluster["count"] for cluster in found["clusters"]) == 60
    assert found["list"] == []


BOW_TIE = ((0, 0), (1, 1), (1, 0), (0, 1))
WRONG: list[tuple[str, dict[str, Any], int]] = [
    (AREA, {"shape": {"type": "circle", "center": {"lon": 121, "lat": 31}}}, 40002),
    (AREA, {"shape": {"type": "circle", "center": {"lon": 121, "lat": 31}, "radiusM": 50_001}}, 40001),
    (
        AREA,
        {
            "shape": {
                "type": "polygon",
                "points": [{"lon": x, "lat": y} for x, y in ((0, 0), (1, 1), (1, 0), (0, 1))],
            }
        },
        40002,
    ),
    (AREA, {"shape": {"type": "rect", "rect": {"minLon": 2, "minLat": 0, "maxLon": 1, "maxLat": 1}}}, 40002),
    (AREA, {"shape": EVERYWHERE, "limit": 20_001}, 40001),
    (AREA, {"shape": EVERYWHERE, "cursor": "AAAA"}, 40001),
    (SEARCH, {"keyword": "路" * 65}, 40001),
    (SEARCH, {"keyword": "路", "filter": {"keyword": "口"}}, 40001),
    (REGIONS, {"civilCodes": []}, 40001),
    (REGIONS, {"civilCodes": ["31"], "filter": {"civilCodes": ["3101"]}}, 40001),
    (REGIONS, {"civilCodes": ["31"], "pageNo": 11, "pageSize": 1000}, 40006),
    (PLANS, {"planCodes": ["1"]}, 40402),
]


@pytest.mark.parametrize(("path", "body", "code"), WRONG)
async def test_a_wrong_question_is_named(desk: Desk, path: str, body: dict[str, Any], code: int) -> None:
    assert (await desk.ask("all", path, body))[:2] == (code // 100, code)


async def test_a_cursor_of_another_caller_or_question_is_refused(desk: Desk) -> None:
    first = await desk.data("all", SEARCH, {"keyword": "路口", "limit": 2})
    again = {"keyword": "路口", "limit": 5, "cursor": first["nextCursor"]}
    assert len((await desk.data("all", SEARCH, again))["deviceIds"]) == 5
    assert (await desk.ask("one", SEARCH, again))[1] == 40001
    assert (await desk.ask("all", SEARCH, {**again, "keyword": "路"}))[1] == 40001


async def test_a_list_says_what_may_be_done_and_by_which_grant(desk: Desk) -> None:
    page = await desk.data("one", f"{LIST}?pageSize=2&sort=-name&keyword=12&action=view")
    assert page["total"] == 1
    row = page["list"][0]
    assert row["perm"] == {"view": True, "playback": False, "download": False, "ptz": False, "talk": False}
    assert [set(one) for one in row["decidedBy"]] == [{"roleId", "ruleId"}]
    assert (await desk.data("one", f"{LIST}?action=ptz"))["total"] == 0
    assert (await desk.data("all", f"{LIST}?totalMode=none"))["total"] is None


async def test_an_area_tells_ids_lite_or_full_rows(desk: Desk) -> None:
    body: dict[str, Any] = {"shape": EVERYWHERE, "limit": 3}
    lite = (await desk.data("one", AREA, body))["list"]
    ids = (await desk.data("one", AREA, {**body, "fields": "id"}))["deviceIds"]
    full = (await desk.data("one", AREA, {**body, "fields": "full"}))["list"]
    batch = await desk.data("one", f"{LIST}/batch-get", {"deviceIds": ids})
    assert [row["DeviceID"] for row in lite] == ids == [row["DeviceID"] for row in full]
    assert full == batch["list"]
    assert {"Info", "ext", "provenance"} <= set(full[0])
    shifted = (await desk.data("one", AREA, {**body, "fields": "full", "geoCoordSys": "GCJ02"}))["list"]
    assert {row["geoCoordSys"] for row in shifted} == {"GCJ02"}
    assert [row["Longitude"] for row in shifted] != [row["Longitude"] for row in full]
    assert (await desk.data("nil", AREA, {**body, "fields": "full"}))["list"] == []


async def test_full_rows_of_an_area_come_in_pages_whatever_the_limit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_http, "MAX_BATCH", 25)
    body: dict[str, Any] = {"shape": EVERYWHERE, "fields": "full", "limit": 20_000}
    seen: list[str] = []
    for count, is_more in ((25, True), (25, True), (10, False)):
        page = await desk.data("all", AREA, body)
        assert (len(page["list"]), page["truncated"], page["total"]) == (count, is_more, 60)
        seen += [row["DeviceID"] for row in page["list"]]
        body["cursor"] = page["nextCursor"]
    assert len(set(seen)) == 60
    assert not body["cursor"]


async def test_full_rows_bear_their_tags_like_short_ones(desk: Desk) -> None:
    one, other = (sample_archives(HOME, 1, first=n)[0].device_id for n in (1, 2))
    value = dictionary.values()[0]
    tag = DeviceTag(one, value.define_code, value.code, TagSource.MANUAL, "", desk.clock.at())
    await desk.platform.db.write(tag_store.write, {}, [tag], {one: 1}, desk.clock.at())
    whole = {"shape": EVERYWHERE, "filter": {"ids": [one, other]}, "fields": "full"}
    batch = {"deviceIds": [one, other], "fields": ["tagCodes"]}
    alone = [await desk.data("all", f"{LIST}/{key}") for key in (one, other)]
    for rows in (
        (await desk.data("all", AREA, whole))["list"],
        (await desk.data("all", f"{LIST}/batch-get", batch))["list"],
        alone,
    ):
        assert {row["DeviceID"]: row["tagCodes"] for row in rows} == {one: [value.code], other: []}


@pytest.mark.parametrize("system", ["WGS84", "GCJ02"])
async def test_every_row_says_in_which_system_it_is(desk: Desk, system: str) -> None:
    asked = {"geoCoordSys": system}
    for page in (
        await desk.data("all", AREA, {"shape": EVERYWHERE, **asked}),
        await desk.data("all", REGIONS, {"civilCodes": ["31"], **asked}),
        await desk.data("all", f"{LIST}?geoCoordSys={system}"),
    ):
        assert {row["geoCoordSys"] for row in page["list"]} == {system}


async def test_what_another_person_may_do_is_told_within_ones_own_scope(desk: Desk) -> None:
    platform = desk.platform
    ann = await platform.accounts.create_user(ADMIN, "ann", PASSWORD, ["viewer"])
    grant = Grant(
        "",
        SubjectKind.USER,
        ann.id,
        frozenset({Permission.ARCHIVE_READ, Permission.VIDEO_LIVE}),
        ScopeKind.CIVIL_CODE,
        frozenset({"31010401", "310106"}),
        valid_from=desk.clock.at(),
    )
    await platform.grants.give(ADMIN, grant, Context(desk.clock.at()))
    assert (await desk.ask("all", f"{LIST}?userId={ann.id}"))[:2] == (403, 40301)
    rights = {Permission.ARCHIVE_READ, Permission.EXPLAIN}
    for who in ("all", "one", "nil"):
        await platform.grants.put_key(who, who, who * 16, rights)
    page = await desk.data("all", f"{LIST}?userId={ann.id}&action=view&pageSize=100")
    codes = {row["CivilCode"] for row in page["list"]}
    assert (page["total"], {code[:6] for code in codes}) == (32, {"310104", "310106"})
    assert {row["perm"]["view"] for row in page["list"]} == {True}
    assert {"validFrom"} <= set(page["list"][0]["perm"])
    shared = await desk.data("one", f"{LIST}?userId={ann.id}")
    assert (shared["total"], {row["CivilCode"] for row in shared["list"]}) == (2, {"31010401"})
    assert (await desk.data("nil", f"{LIST}?userId={ann.id}"))["total"] == 0
    assert (await desk.data("all", f"{LIST}?userId={ann.id}&action=ptz"))["total"] == 0
    status, code, data = await desk.ask("all", f"{LIST}?userId=999")
    assert (status, code, data["field"]) == (400, 40001, "userId")
    noted = (await platform.db.read(audit_store.page, 1, 50, event="access_decision"))[0]
    about = [one.entry for one in noted if one.entry.details.get("onBehalf") == f"user:{ann.id}"]
    assert {("all", "allowed"), ("all", "denied")} <= {(one.subject_id, one.outcome.value) for one in about}


async def test_counts_are_left_out_when_they_are_not_asked_for(desk: Desk) -> None:
    found = await desk.data("all", AREA, {"shape": EVERYWHERE, "totalMode": "none", "limit": 5})
    assert (found["total"], found["noCoordinateCount"], found["truncated"]) == (None, None, True)
    assert len(found["list"]) == 5


async def test_an_answer_that_the_index_may_lack_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[tuple[str, dict[str, Any] | None]] = [
        (AREA, {"shape": EVERYWHERE}),
        (SEARCH, {"keyword": "路口"}),
        (f"{LIST}?keyword=12", None),
        (REGIONS, {"civilCodes": ["31"], "filter": {"keyword": "路口"}}),
    ]
    for path, body in questions:
        assert (await desk.data("all", path, body))["indexing"] is None

    async def not_now(index: SearchIndex) -> bool:
        return False

    monkeypatch.setattr(SearchIndex, "refresh", not_now)
    late = sample_archives(HOME, 7, first=100)
    await desk.platform.db.write(devices.upsert_many, late, HOME, desk.clock.at())
    for path, body in questions:
        told = (await desk.data("all", path, body))["indexing"]
        assert told == {"isCurrent": False, "remaining": 7, "remainingSec": None}
    # What asks neither words nor places is answered from the archive itself.
    page = await desk.data("all", LIST)
    assert (page["indexing"], page["total"]) == (None, 67)
    async with desk.platform.http() as client:
        assert "tongshi_search_index_remaining_rows 7.0" in (await client.get("/metrics")).text


async def test_divisions_are_grouped(desk: Desk) -> None:
    page = await desk.data("all", REGIONS, {"civilCodes": ["3101"], "groupBy": "child", "pageSize": 1})
    totals = {group["civilCode"]: group["total"] for group in page["groups"]}
    assert totals == {"310104": 30, "310106": 30, "unassigned": 0}
    assert len(page["list"]) == 1
    names = {group["civilCode"]: group["name"] for group in page["groups"]}
    assert names == {"310104": "徐汇区", "310106": "静安区", "unassigned": "未归入行政区划"}
    node = Node("31010402", ItemKind.DIVISION, HOME, "田林街道")
    await desk.platform.db.write(tree_store.put, HOME, [node], desk.clock.at())
    asked = {"civilCodes": ["310104"], "groupBy": "street", "totalMode": "none"}
    page = await desk.data("all", REGIONS, asked)
    names = {group["civilCode"]: group["name"] for group in page["groups"]}
    assert (names["31010402"], names["31010403"], page["total"]) == ("田林街道", "", None)
