"""Plans over REST: who sees what, what is counted, and that a plan never tells whether a device exists."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tongshi.resources.devices import store as devices
from tongshi.resources.plans import store
from tongshi.resources.plans.model import MAX_DEVICES
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit, change, plan
from tongshi.testing.rest_office import ABROAD, HOME, MINE, PLANS, RIGHTS, SQUARE, THEIRS, UNKNOWN, Office


@pytest.fixture
async def office(database: Database) -> Office:
    return await Office.open(database)


async def test_a_plan_is_read_as_it_was_written(office: Office) -> None:
    ids = [MINE[2], MINE[0], MINE[1]]
    code = await office.plan("ann", ids, PlanDesc="说明")
    assert code.isdigit()
    plan = await office.data("ann", "GET", f"{PLANS}/{code}")
    assert plan["DeviceIdList"] == ids
    assert (plan["CatalogID"], plan["CatalogName"]) == (SQUARE, "公共场所/广场")
    assert (plan["PlanName"], plan["PlanDesc"], plan["status"]) == ("保障", "说明", "ready")
    assert (plan["PlanCount"], plan["DeviceCount"], plan["deniedCount"], plan["missing"]) == (1, 3, 0, [])
    assert (plan["owner"], plan["version"], plan["perms"]) == ("api_key:ann", 1, ["view", "edit"])
    other = await office.data("bob", "GET", f"{PLANS}/{code}")
    assert other["perms"] == ["view"]


async def test_counts_are_computed_and_a_given_count_is_refused(office: Office) -> None:
    body = {"PlanName": "甲", "CatalogID": SQUARE, "DeviceIdList": MINE[:2]}
    for extra in ({"DeviceCount": 7}, {"PlanCount": 7}):
        assert (await office.ask("ann", "POST", f"{PLANS}/config", {**body, **extra}))[1] == 40001


@pytest.mark.parametrize("part", ["layout", "schedule", "tags"])
async def test_what_is_not_built_is_refused_by_name(office: Office, part: str) -> None:
    body = {"PlanName": "甲", "CatalogID": SQUARE, "DeviceIdList": MINE[:2], part: {"screens": []}}
    status, code, data = await office.ask("ann", "POST", f"{PLANS}/config", body)
    assert (status, code, data["field"]) == (422, 42203, part)
    assert (await office.data("ann", "GET", PLANS))["total"] == 0


WRONG: list[tuple[dict[str, Any], int]] = [
    ({"DeviceIdList": [MINE[0], MINE[0]]}, 40001),
    ({"DeviceIdList": [f"{number:020d}" for number in range(MAX_DEVICES + 1)]}, 40001),
    ({"PlanName": ""}, 40001),
    ({"PlanName": "长" * 65}, 40001),
    ({"PlanDesc": "长" * 501}, 40001),
    ({"CatalogID": "999"}, 40402),
    ({"PlanCode": "20260101000000000000"}, 40402),
    ({"DeviceIdList": [MINE[0], THEIRS[0]]}, 40401),
    ({"DeviceIdList": [MINE[0], UNKNOWN]}, 40401),
]


@pytest.mark.parametrize(("part", "code"), WRONG)
async def test_a_wrong_plan_is_refused_and_nothing_is_kept(
    office: Office, part: dict[str, Any], code: int
) -> None:
    body = {"PlanName": "甲", "CatalogID": SQUARE, "DeviceIdList": MINE[:2], **part}
    assert (await office.ask("ann", "POST", f"{PLANS}/config", body))[:2] == (code // 100, code)
    assert (await office.data("root", "GET", PLANS))["total"] == 0


async def test_unknown_and_unseen_devices_are_refused_alike(office: Office) -> None:
    answers = []
    for strange in (THEIRS[0], UNKNOWN):
        body = {"PlanName": "甲", "CatalogID": SQUARE, "DeviceIdList": [strange]}
        status, code, data = await office.ask("ann", "POST", f"{PLANS}/config", body)
        assert data["details"].pop("deviceIds") == [strange]
        answers.append((status, code, data))
    assert answers[0] == answers[1]


async def test_a_reader_is_told_of_his_own_devices_and_a_number(office: Office) -> None:
    code = await office.plan("root", [MINE[0], THEIRS[0], UNKNOWN, MINE[1]])
    for who, listed, denied in (("ann", MINE[:2], 2), ("bob", [THEIRS[0]], 3), ("nil", [], 4)):
        plan = await office.data(who, "GET", f"{PLANS}/{code}")
        assert (plan["DeviceIdList"], plan["deniedCount"], plan["DeviceCount"]) == (listed, denied, 4)
        assert plan["missing"] == []
    plan = await office.data("root", "GET", f"{PLANS}/{code}")
    assert (plan["missing"], plan["deniedCount"]) == ([UNKNOWN], 0)


async def test_what_left_the_archive_is_missing_for_those_who_could_know_it(office: Office) -> None:
    code = await office.plan("root", [MINE[0], THEIRS[0], MINE[1]])
    at = office.clock.at()
    await office.platform.db.write(devices.mark_missing, HOME, [MINE[0]], at)
    await office.platform.db.write(devices.mark_missing, ABROAD, [THEIRS[0]], at)
    plan = await office.data("ann", "GET", f"{PLANS}/{code}")
    assert (plan["missing"], plan["DeviceIdList"], plan["deniedCount"]) == ([MINE[0]], MINE[:2], 1)


async def test_who_changes_a_plan_keeps_what_he_cannot_see(office: Office) -> None:
    code = await office.plan("ann", MINE[:3])
    body = {"PlanCode": code, "PlanName": "乙", "CatalogID": SQUARE}
    await office.data("root", "POST", f"{PLANS}/config", {**body, "DeviceIdList": [*MINE[:3], THEIRS[4]]})
    saved = await office.data("ann", "POST", f"{PLANS}/config", {**body, "DeviceIdList": [MINE[9]]})
    assert (saved["DeviceCount"], saved["version"]) == (2, 3)
    assert [one["level"] for one in saved["validation"]] == ["info"]
    plan = await office.data("root", "GET", f"{PLANS}/{code}")
    assert (plan["DeviceIdList"], plan["owner"]) == ([MINE[9], THEIRS[4]], "api_key:ann")


async def test_a_stale_version_changes_nothing(office: Office) -> None:
    code = await office.plan("ann", MINE[:3])
    body = {"PlanCode": code, "PlanName": "乙", "CatalogID": SQUARE, "DeviceIdList": [], "ifVersion": 1}
    assert (await office.data("ann", "POST", f"{PLANS}/config", body))["version"] == 2
    status, number, data = await office.ask("ann", "POST", f"{PLANS}/config", {**body, "PlanName": "丙"})
    assert (status, number, data["details"]) == (409, 40901, {"version": 2})
    assert (await office.data("ann", "GET", f"{PLANS}/{code}"))["PlanName"] == "乙"


async def test_a_plan_of_somebody_else_is_seen_and_not_touched(office: Office) -> None:
    code = await office.plan("ann", MINE[:3])
    body = {"PlanCode": code, "PlanName": "乙", "CatalogID": SQUARE, "DeviceIdList": []}
    assert (await office.ask("bob", "POST", f"{PLANS}/config", body))[:2] == (403, 40304)
    assert (await office.ask("bob", "DELETE", f"{PLANS}/{code}"))[:2] == (403, 40304)
    assert (await office.ask("bare", "GET", f"{PLANS}/{code}"))[:2] == (403, 40301)


async def test_a_draft_and_a_private_catalogue_look_unknown_to_others(office: Office) -> None:
    place = await office.data(
        "ann", "POST", f"{PLANS}/catalogs", {"CatalogName": "公共场所/广场/我的", "visible": "private"}
    )
    hidden = await office.plan("ann", MINE[:2], CatalogID=place["CatalogID"])
    draft = await office.plan("ann", MINE[:2], draft=True)
    for code in (hidden, draft):
        assert (await office.data("ann", "GET", f"{PLANS}/{code}"))["DeviceCount"] == 2
        unseen = await office.ask("bob", "GET", f"{PLANS}/{code}")
        assert unseen == await office.ask("bob", "GET", f"{PLANS}/20260101000000000000")
        assert unseen[:2] == (404, 40402)
        body = {"PlanCode": code, "PlanName": "乙", "CatalogID": SQUARE, "DeviceIdList": []}
        assert (await office.ask("bob", "POST", f"{PLANS}/config", body))[:2] == (404, 40402)
        assert (await office.ask("bob", "DELETE", f"{PLANS}/{code}"))[:2] == (404, 40402)
    body = {"PlanName": "乙", "CatalogID": place["CatalogID"], "DeviceIdList": []}
    assert (await office.ask("bob", "POST", f"{PLANS}/config", body))[:2] == (404, 40402)
    totals = {who: (await office.data(who, "GET", PLANS))["total"] for who in ("ann", "bob", "root")}
    assert totals == {"ann": 2, "bob": 0, "root": 2}


async def test_a_catalogue_of_an_organisation_is_seen_by_its_people(
    database: Database, office: Office
) -> None:
    for who, platform in (("cat", HOME), ("dan", HOME), ("eve", ABROAD)):
        await office.admit(who, RIGHTS, platform)
    place = await office.data(
        "cat", "POST", f"{PLANS}/catalogs", {"CatalogName": "银行/本区", "visible": "org"}
    )
    seen = {}
    for who in ("cat", "dan", "eve", "ann"):
        found = await office.data(who, "GET", f"{PLANS}/catalogs?keyword=%E6%9C%AC%E5%8C%BA")
        seen[who] = [child["CatalogID"] for top in found["list"] for child in top.get("children", [])]
    mine = [place["CatalogID"]]
    assert seen == {"cat": mine, "dan": mine, "eve": [], "ann": []}


async def test_a_deleted_plan_comes_back_within_seven_days(office: Office) -> None:
    code = await office.plan("ann", MINE[:3])
    gone = await office.data("ann", "DELETE", f"{PLANS}/{code}?force=0")
    assert gone["deleted"] == [code]
    assert (await office.ask("ann", "GET", f"{PLANS}/{code}"))[1] == 40402
    assert (await office.ask("ann", "DELETE", f"{PLANS}/{code}"))[1] == 40402
    assert (await office.data("ann", "GET", PLANS))["total"] == 0
    token = {"undoToken": gone["undoToken"]}
    assert (await office.ask("bob", "POST", f"{PLANS}/undo", token))[1] == 40402
    office.clock.advance(timedelta(days=6, hours=23).total_seconds())
    plan = await office.data("ann", "POST", f"{PLANS}/undo", token)
    assert (plan["DeviceIdList"], plan["version"]) == (MINE[:3], 3)
    assert (await office.ask("ann", "POST", f"{PLANS}/undo", token))[1] == 40402


async def test_the_recycle_bin_is_emptied_after_seven_days(office: Office) -> None:
    code = await office.plan("ann", MINE[:3])
    gone = await office.data("ann", "DELETE", f"{PLANS}/{code}")
    office.clock.advance(timedelta(days=7, seconds=1).total_seconds())
    token = {"undoToken": gone["undoToken"]}
    assert (await office.ask("ann", "POST", f"{PLANS}/undo", token))[1] == 40402
    await office.plan("ann", MINE[:1])
    left = await office.platform.db.read(lambda conn: conn.execute(select(plan.c.code)).all())
    assert len(left) == 1
    assert await office.platform.db.read(store.device_ids, code) == []


async def test_a_search_answers_which_plans_use_a_camera(office: Office) -> None:
    first = await office.plan("root", [MINE[0], THEIRS[0]], name="Ａ保障")
    second = await office.plan("root", [THEIRS[0]], name="b")
    found = await office.data("bob", "GET", f"{PLANS}?deviceId={THEIRS[0]}&sort=PlanName")
    assert [row["PlanCode"] for row in found["list"]] == [second, first]
    assert all("DeviceIdList" not in row for row in found["list"])
    found = await office.data("ann", "GET", f"{PLANS}?deviceId={MINE[0]}")
    assert [row["PlanCode"] for row in found["list"]] == [first]
    unseen = await office.ask("ann", "GET", f"{PLANS}?deviceId={THEIRS[0]}")
    assert unseen == await office.ask("ann", "GET", f"{PLANS}?deviceId={UNKNOWN}")
    assert unseen[1] == 40401
    for query, count in (
        ("keyword=a", 1),
        (f"keyword={first}", 1),
        (f"CatalogID={SQUARE}", 2),
        ("owner=api_key:root", 2),
        ("owner=api_key:ann", 0),
        ("status=draft", 0),
        ("pageSize=1&pageNo=2", 2),
    ):
        assert (await office.data("ann", "GET", f"{PLANS}?{query}"))["total"] == count, query
    assert (await office.ask("ann", "GET", f"{PLANS}?tagEnumCode=1"))[1] == 40403
    assert (await office.ask("ann", "GET", f"{PLANS}?pageNo=11&pageSize=1000"))[1] == 40006


async def test_a_search_by_tag_looks_at_devices_of_the_caller_only(office: Office) -> None:
    first = await office.plan("root", [MINE[0], THEIRS[0]])
    second = await office.plan("root", [THEIRS[0], MINE[1]])
    setting = {"TagDefineCode": "000101", "TagEnum": ["道路"]}
    for ids in ([MINE[1]], [THEIRS[0]]):
        await office.data("root", "POST", "/api/v1/tags/annotate", {"deviceIds": ids, "set": [setting]})
    for who, codes in (
        ("root", {first, second}),
        ("ann", {second}),
        ("bob", {first, second}),
        ("nil", set()),
    ):
        found = await office.data(who, "GET", f"{PLANS}?tagEnumCode=000101002")
        assert {row["PlanCode"] for row in found["list"]} == codes, who
        assert found["total"] == len(codes)


async def test_catalogues_are_a_tree_with_counts_of_what_the_caller_sees(office: Office) -> None:
    await office.plan("ann", MINE[:1])
    await office.plan("ann", MINE[:1], draft=True)
    for who, count in (("ann", 2), ("bob", 1)):
        found = await office.data(who, "GET", f"{PLANS}/catalogs?withCounts=1&keyword=%E5%B9%BF%E5%9C%BA")
        tops = {top["CatalogName"]: top for top in found["list"]}
        assert set(tops) == {"公共场所", "日常保障"}
        top = tops["公共场所"]
        assert (top["PlanCount"], top["planCountRecursive"], top["level"]) == (0, count, 1)
        (square,) = top["children"]
        assert (square["CatalogID"], square["PlanCount"], square["standardRow"]) == (SQUARE, count, 19)
        assert square["CatalogName"] == "公共场所/广场"
    whole = await office.data("bob", "GET", f"{PLANS}/catalogs")
    assert len(whole["list"]) == 21
    assert "PlanCount" not in whole["list"][0]
    assert len((await office.data("bob", "GET", f"{PLANS}/catalogs?parentId=10300"))["list"]) == 9
    shallow = await office.data("bob", "GET", f"{PLANS}/catalogs?depth=1")
    assert not any(top.get("children") for top in shallow["list"])
    assert (await office.ask("bob", "GET", f"{PLANS}/catalogs?parentId=7"))[1] == 40402


CATALOGUES: list[tuple[str, dict[str, Any], int]] = [
    ("ann", {"CatalogName": "新的一级"}, 42201),
    ("ann", {"CatalogName": "公共场所/新的二级"}, 42201),
    ("ann", {"CatalogName": "居民小区/人民广场"}, 42201),
    ("ann", {"CatalogName": "居民小区/310199"}, 42201),
    ("ann", {"CatalogName": "没有/人民广场"}, 40402),
    ("ann", {"CatalogName": "公共场所/广场/甲/乙"}, 40402),
    ("ann", {"CatalogName": "公共场所//甲"}, 40001),
    ("ann", {}, 40001),
    ("ann", {"CatalogName": "公共场所/广场", "standardRow": 20}, 42201),
    ("ann", {"CatalogID": SQUARE, "CatalogName": "改名"}, 42201),
    ("ann", {"CatalogID": "7", "CatalogName": "改名"}, 40402),
    ("root", {"CatalogName": "新的一级"}, 0),
    ("root", {"CatalogName": "公共场所/新的二级"}, 0),
    ("ann", {"CatalogName": "公共场所/广场", "standardRow": 19}, 0),
    ("ann", {"CatalogName": "居民小区/310104"}, 0),
    ("ann", {"CatalogName": "310104003", "parentId": "12000"}, 0),
    ("ann", {"CatalogName": "政务大厅/徐汇"}, 0),
    ("ann", {"CatalogName": "人民广场", "parentId": SQUARE}, 0),
]


@pytest.mark.parametrize(("who", "body", "code"), CATALOGUES)
async def test_where_a_catalogue_may_be_made(
    office: Office, who: str, body: dict[str, Any], code: int
) -> None:
    assert (await office.ask(who, "POST", f"{PLANS}/catalogs", body))[1] == code


async def test_a_catalogue_is_renamed_by_its_owner_with_what_is_below(office: Office) -> None:
    make = f"{PLANS}/catalogs"
    top = await office.data("ann", "POST", make, {"CatalogName": "银行/甲", "visible": "all"})
    low = await office.data("ann", "POST", make, {"CatalogName": "乙", "parentId": top["CatalogID"]})
    assert (low["CatalogName"], low["level"]) == ("银行/甲/乙", 3)
    again = await office.ask("ann", "POST", make, {"CatalogName": "银行/甲"})
    assert (again[1], again[2]["details"]) == (40902, {"CatalogID": top["CatalogID"]})
    body = {"CatalogID": top["CatalogID"], "CatalogName": "丙", "ifVersion": 1}
    assert (await office.ask("bob", "POST", make, body))[1] == 40304
    assert (await office.data("ann", "POST", make, body))["CatalogName"] == "银行/丙"
    assert (await office.ask("ann", "POST", make, body))[1] == 40901
    moved = {"CatalogID": top["CatalogID"], "parentId": SQUARE}
    assert (await office.ask("ann", "POST", make, moved))[1] == 40001
    found = await office.data("ann", "GET", f"{make}?keyword=%E4%B9%99")
    ours = [one for first in found["list"] for one in first["children"]]
    assert [one["CatalogName"] for one in ours[0]["children"]] == ["银行/丙/乙"]


async def test_a_change_is_in_the_feed_and_in_the_audit(office: Office) -> None:
    code = await office.plan("ann", MINE[:1])
    await office.data("ann", "DELETE", f"{PLANS}/{code}")
    noted = await office.platform.db.read(
        lambda conn: conn.execute(
            select(change.c.op, change.c.revision).where(change.c.kind == "plan", change.c.key == code)
        ).all()
    )
    assert [tuple(row) for row in noted] == [("put", 1), ("delete", 2)]
    recorded = await office.platform.db.read(
        lambda conn: conn.execute(
            select(audit.c.outcome).where(audit.c.event == "plan_change", audit.c.object_id == code)
        ).all()
    )
    assert [row[0] for row in recorded] == ["done", "done"]


async def test_the_standards_catalogues_are_stored_once(office: Office) -> None:
    await office.platform.plans.prepare()
    found = await office.data("root", "GET", f"{PLANS}/catalogs")
    assert sum(len(top.get("children", [])) for top in found["list"]) == 73
