"""Tags over REST: the dictionary, tags of devices within grants, and taking back what was done."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from sqlalchemy import Connection, select

from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.tags import store
from tongshi.resources.tags.model import Define, TagSort
from tongshi.sharing.model import ScopeKind
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit, change, tag_undo, tag_undo_device
from tongshi.testing.rest_office import HOME, MINE, THEIRS, UNKNOWN, Office

TAGS = "/api/v1/tags"
TYPE, PART, OWN = "000101", "000201", "000501"  # 场所类型, 场所部位, 个性标签
ROAD, SCHOOL, GATE = "000101002", "000101006", "000201050"  # 道路, 学校, 大门
ARCHIVE = "/api/v1/archive/devices"


@pytest.fixture
async def office(database: Database) -> Office:
    return await Office.open(database)


async def annotate(office: Office, who: str, ids: list[str], *codes: str, **more: Any) -> Any:
    """Put values on devices."""
    setting = {"TagDefineCode": codes[0][:6], "tagEnumCodes": list(codes)}
    return await office.data(who, "POST", f"{TAGS}/annotate", {"deviceIds": ids, "set": [setting], **more})


async def borne(office: Office, device_id: str) -> list[str]:
    found = await office.data("root", "GET", f"{TAGS}/devices/{device_id}")
    return [tag["tagEnumCode"] for part in found["tags"] for tag in part["values"]]


async def own(office: Office, *texts: str) -> list[str]:
    """Values of the personal definition. Returns their codes."""
    body = {"TagDefineCode": OWN, "items": [{"TagEnum": text} for text in texts]}
    return [one["tagEnumCode"] for one in (await office.data("ann", "POST", f"{TAGS}/enums", body))["saved"]]


async def test_the_dictionary_begins_with_what_is_printed(office: Office) -> None:
    found = await office.data("ann", "GET", f"{TAGS}/groups?withCounts=1")
    assert [(row["TagGroupName"], row["Tagsort"], row["defineCount"]) for row in found["list"]] == [
        ("场所类型", 0, 1),
        ("场所部位", 0, 1),
        ("应用标签", 1, 1),
        ("属性标签", 2, 1),
        ("个性标签", 3, 1),
    ]
    places = await office.data("ann", "GET", f"{TAGS}/groups?Tagsort=0&keyword={quote('部位')}")
    assert [row["TagGroupName"] for row in places["list"]] == ["场所部位"]
    assert "defineCount" not in places["list"][0]
    page = await office.data("ann", "GET", f"{TAGS}/defines?Tagsort=0")
    assert [(row["TagDefineCode"], row["enumCount"], row["CustomizedEnum"]) for row in page["list"]] == [
        (TYPE, 48, 0),
        (PART, 58, 0),
    ]
    assert (await office.data("ann", "GET", f"{TAGS}/defines?pageSize=2&pageNo=3"))["total"] == 5
    assert (await office.data("ann", "GET", f"{TAGS}/defines?TagGroupCode=0005"))["total"] == 1
    assert (await office.ask("ann", "GET", f"{TAGS}/defines?TagGroupCode=9"))[1] == 40403
    assert (await office.ask("ann", "GET", f"{TAGS}/groups?Tagsort=4"))[1] == 40001
    await office.platform.tags.prepare()
    assert (await office.data("ann", "GET", f"{TAGS}/defines"))["total"] == 5


async def test_groups_that_are_held_are_answered_by_304_until_one_changes(office: Office) -> None:
    async def groups(held: str) -> tuple[int, str]:
        office.clock.advance(1)
        signed = Signer("ann", "ann" * 16, HOME, office.clock)
        headers = signed.headers("GET", f"{TAGS}/groups", "withCounts=1", b"")
        async with office.platform.http() as client:
            answer = await client.get(
                f"{TAGS}/groups?withCounts=1", headers={**headers, "If-None-Match": held}
            )
        return answer.status_code, answer.headers["etag"]

    status, tag = await groups('"another"')
    assert status == 200
    assert await groups(f'"another", {tag}') == (304, tag)
    added = Define("000502", "0005", "新定义", TagSort.PERSONAL)
    await office.platform.db.write(store.put_define, added, office.clock.at())
    status, other = await groups(tag)
    assert (status, other != tag) == (200, True)


async def test_each_caller_tags_only_what_he_may_see(office: Office) -> None:
    done = await annotate(office, "ann", [MINE[0], THEIRS[0], UNKNOWN], ROAD)
    assert (done["matched"], done["changed"], done["unchanged"]) == (1, 1, 0)
    assert done["failed"] == [
        {"DeviceID": THEIRS[0], "code": 40401},
        {"DeviceID": UNKNOWN, "code": 40401},
    ]
    nothing = await annotate(office, "nil", [MINE[0]], SCHOOL)
    assert (nothing["matched"], nothing["changed"], nothing["undoToken"]) == (0, 0, "")
    assert await borne(office, MINE[0]) == [ROAD]
    for who in ("bob", "nil"):
        unseen = await office.ask(who, "GET", f"{TAGS}/devices/{MINE[0]}")
        assert unseen == await office.ask(who, "GET", f"{TAGS}/devices/{UNKNOWN}")
        assert unseen[:2] == (404, 40401)
    assert (await office.ask("root", "GET", f"{TAGS}/devices/{UNKNOWN}"))[1] == 40401
    assert (await office.ask("bare", "GET", f"{TAGS}/devices/{MINE[0]}"))[:2] == (403, 40301)
    assert (await office.ask("bare", "POST", f"{TAGS}/annotate", {}))[:2] == (403, 40301)


async def test_what_a_device_bears_is_told_with_source_person_and_time(office: Office) -> None:
    await annotate(office, "ann", MINE[:1], ROAD, SCHOOL, source="import")
    await annotate(office, "ann", MINE[:1], GATE)
    found = await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}")
    assert [(part["group"], part["define"]["TagDefineCode"]) for part in found["tags"]] == [
        ("场所类型", TYPE),
        ("场所部位", PART),
    ]
    tag = found["tags"][0]["values"][0]
    assert (tag["TagEnum"], tag["source"], tag["annotator"]) == ("道路", "import", "api_key:ann")
    assert (tag["DeviceID"], tag["version"], found["version"]) == (MINE[0], 1, 2)
    assert found["missingMandatory"] == []


async def test_values_are_replaced_added_removed_and_unset(office: Office) -> None:
    for mode, codes, expected in (
        ("replace", [ROAD], [ROAD]),
        ("add", [SCHOOL], [ROAD, SCHOOL]),
        ("remove", [ROAD], [SCHOOL]),
        ("replace", [ROAD], [ROAD]),
    ):
        assert (await annotate(office, "ann", MINE[:1], *codes, mode=mode))["changed"] == 1
        assert await borne(office, MINE[0]) == expected
    assert (await annotate(office, "ann", MINE[:1], ROAD, mode="add"))["unchanged"] == 1
    by_text = {"TagDefineCode": PART, "TagEnum": ["大门"]}
    body = {"deviceIds": MINE[:1], "set": [by_text], "unset": [TYPE]}
    await office.data("ann", "POST", f"{TAGS}/annotate", body)
    assert await borne(office, MINE[0]) == [GATE]


WRONG: list[tuple[dict[str, Any], int]] = [
    ({}, 40001),
    ({"deviceIds": MINE[:1], "selection": {"expectedCount": 1}}, 40001),
    ({"deviceIds": MINE[:1], "set": []}, 40001),
    ({"deviceIds": MINE[:1], "set": [{"TagDefineCode": TYPE}]}, 40001),
    ({"deviceIds": MINE[:1], "unset": [TYPE]}, 40001),
    ({"deviceIds": MINE[:1], "set": [{"TagDefineCode": "9", "TagEnum": ["甲"]}]}, 40403),
    ({"deviceIds": MINE[:1], "set": [{"TagDefineCode": PART, "tagEnumCodes": [ROAD]}]}, 40403),
    ({"deviceIds": MINE[:1], "set": [{"TagDefineCode": PART, "TagEnum": ["没有"]}]}, 40403),
    ({"deviceIds": MINE[:2], "ifVersion": 0}, 40001),
    ({"deviceIds": MINE[:1], "ifVersion": 1}, 40901),
    ({"selection": {"expectedCount": 29}}, 40901),
    ({"selection": {"expectedCount": 1, "filter": {"planCode": "7"}}}, 40402),
    ({"deviceIds": [f"{number:020d}" for number in range(2_001)]}, 40001),
    ({"deviceIds": MINE[:1], "mode": "swap"}, 40001),
]


@pytest.mark.parametrize(("part", "code"), WRONG)
async def test_a_wrong_annotation_is_named_and_changes_nothing(
    office: Office, part: dict[str, Any], code: int
) -> None:
    body = {"set": [{"TagDefineCode": TYPE, "tagEnumCodes": [ROAD]}], **part}
    assert (await office.ask("ann", "POST", f"{TAGS}/annotate", body))[1] == code
    assert await borne(office, MINE[0]) == []


async def test_a_selection_must_be_as_large_as_it_was_seen(office: Office) -> None:
    setting = [{"TagDefineCode": TYPE, "tagEnumCodes": [ROAD]}]
    body: dict[str, Any] = {"selection": {"keyword": "路口1", "expectedCount": 11}, "set": setting}
    dry = await office.data("ann", "POST", f"{TAGS}/annotate", {**body, "dryRun": True})
    assert (dry["matched"], dry["changed"], dry["undoToken"]) == (11, 11, "")
    assert await borne(office, MINE[0]) == []
    done = await office.data("ann", "POST", f"{TAGS}/annotate", body)
    assert (done["matched"], done["changed"]) == (11, 11)
    assert await borne(office, THEIRS[0]) == []
    stale = await office.ask("bob", "POST", f"{TAGS}/annotate", {**body, "selection": {"expectedCount": 60}})
    assert (stale[0], stale[1], stale[2]["details"]) == (409, 40901, {"count": 30})


async def test_an_annotation_is_taken_back_for_a_day(office: Office) -> None:
    await annotate(office, "ann", MINE[:3], SCHOOL, source="rule")
    before = await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}")
    done = await annotate(office, "ann", MINE[:3], ROAD)
    await annotate(office, "ann", MINE[2:3], GATE)
    token = {"undoToken": done["undoToken"]}
    assert (await office.ask("bob", "POST", f"{TAGS}/annotate/undo", token))[1] == 40403
    office.clock.advance(timedelta(hours=23).total_seconds())
    back = await office.data("ann", "POST", f"{TAGS}/annotate/undo", token)
    assert back == {"restored": 2, "left": 1}
    after = await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}")
    assert (after["tags"], after["version"]) == (before["tags"], 3)
    assert await borne(office, MINE[2]) == [ROAD, GATE]
    assert (await office.ask("ann", "POST", f"{TAGS}/annotate/undo", token))[1] == 40403


async def test_after_a_day_nothing_is_taken_back_and_nothing_kept(office: Office) -> None:
    done = await annotate(office, "ann", MINE[:3], ROAD)
    office.clock.advance(timedelta(hours=24, seconds=1).total_seconds())
    token = {"undoToken": done["undoToken"]}
    assert (await office.ask("ann", "POST", f"{TAGS}/annotate/undo", token))[1] == 40403
    await annotate(office, "ann", MINE[3:4], ROAD)

    def left(conn: Connection) -> tuple[int, int]:
        return len(conn.execute(select(tag_undo)).all()), len(conn.execute(select(tag_undo_device)).all())

    assert await office.platform.db.read(left) == (1, 1)


async def test_a_definition_may_want_one_value_and_never_none(office: Office) -> None:
    strict = Define(
        "000502", "0005", "唯一", TagSort.PERSONAL, 9, True, allows_empty=False, is_multiple=False
    )
    await office.platform.db.write(store.put_define, strict, office.clock.at())
    items = [{"TagEnum": "甲"}, {"TagEnum": "乙"}]
    saved = await office.data("ann", "POST", f"{TAGS}/enums", {"TagDefineCode": "000502", "items": items})
    first, second = (one["tagEnumCode"] for one in saved["saved"])
    both = [{"TagDefineCode": "000502", "tagEnumCodes": [first, second]}]
    body = {"deviceIds": MINE[:1], "set": both}
    assert (await office.ask("ann", "POST", f"{TAGS}/annotate", body))[1] == 42201
    found = await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}")
    assert found["missingMandatory"] == ["000502"]
    await office.data(
        "ann", "POST", f"{TAGS}/annotate", {**body, "set": [{**both[0], "tagEnumCodes": [first]}]}
    )
    for change_, mode in (({"tagEnumCodes": [second]}, "add"), ({"tagEnumCodes": [first]}, "remove")):
        one = [{"TagDefineCode": "000502", **change_}]
        done = await office.data(
            "ann", "POST", f"{TAGS}/annotate", {"deviceIds": MINE[:2], "set": one, "mode": mode}
        )
        assert {"DeviceID": MINE[0], "code": 42201} in done["failed"]
    done = await office.data("ann", "POST", f"{TAGS}/annotate", {"deviceIds": MINE[:1], "unset": ["000502"]})
    assert (done["changed"], done["failed"]) == (0, [{"DeviceID": MINE[0], "code": 42201}])
    assert (await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}"))["missingMandatory"] == []


async def test_fixed_values_are_not_changed(office: Office) -> None:
    body = {"TagDefineCode": TYPE, "items": [{"TagEnum": "新的"}]}
    assert (await office.ask("root", "POST", f"{TAGS}/enums", body))[:2] == (422, 42201)
    body["TagDefineCode"] = "9"
    assert (await office.ask("root", "POST", f"{TAGS}/enums", body))[1] == 40403


async def test_values_are_added_renamed_and_switched_with_their_code(office: Office) -> None:
    first, second = await own(office, "重点", "夜间")
    await annotate(office, "ann", MINE[:1], first)
    body: dict[str, Any] = {"TagDefineCode": OWN, "items": [{"tagEnumCode": first, "TagEnum": " 特别重点 "}]}
    done = await office.data("ann", "POST", f"{TAGS}/enums", {**body, "ifVersion": 2})
    assert [(one["tagEnumCode"], one["TagEnum"], one["version"]) for one in done["saved"]] == [
        (first, "特别重点", 2)
    ]
    assert (await office.ask("ann", "POST", f"{TAGS}/enums", {**body, "ifVersion": 2}))[1] == 40901
    found = await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}")
    assert found["tags"][0]["values"][0]["TagEnum"] == "特别重点"
    again = await office.data("ann", "POST", f"{TAGS}/enums", body)
    assert again["version"] == done["version"]
    items = [
        {"TagEnum": "夜间"},
        {"TagEnum": "Ａb"},
        {"TagEnum": "aB"},
        {"tagEnumCode": "7", "TagEnum": "丙"},
        {"tagEnumCode": second, "TagEnum": "特别重点"},
    ]
    done = await office.data("ann", "POST", f"{TAGS}/enums", {**body, "items": items})
    assert [one["TagEnum"] for one in done["saved"]] == ["夜间", "Ａb"]
    assert [(one["TagEnum"], one["code"]) for one in done["conflicts"]] == [
        ("aB", 40902),
        ("丙", 40403),
        ("特别重点", 40902),
    ]
    for bad in ("", " ", "长" * 65, "a\nb"):
        assert (await office.ask("ann", "POST", f"{TAGS}/enums", {**body, "items": [{"TagEnum": bad}]}))[
            1
        ] == 40001


async def test_a_value_in_use_is_switched_off_only_with_a_word_on_its_devices(office: Office) -> None:
    first, second, third = await own(office, "一", "二", "三")
    await annotate(office, "ann", MINE[:2], first)
    await annotate(office, "bob", THEIRS[:1], first)
    off = {"TagDefineCode": OWN, "items": [{"tagEnumCode": first, "TagEnum": "一", "TagEnable": "0"}]}
    status, code, data = await office.ask("ann", "POST", f"{TAGS}/enums", off)
    assert (status, code, data["details"]["devices"]) == (409, 40904, {first: 2})
    wrong = {**off, "onDevices": "moveTo", "moveTo": ROAD}
    assert (await office.ask("ann", "POST", f"{TAGS}/enums", wrong))[1] == 40403
    assert (await office.ask("ann", "POST", f"{TAGS}/enums", {**off, "onDevices": "moveTo"}))[1] == 40001
    done = await office.data("ann", "POST", f"{TAGS}/enums", {**off, "onDevices": "moveTo", "moveTo": second})
    assert done["disabled"] == [first]
    assert await borne(office, MINE[0]) == await borne(office, MINE[1]) == [second]
    assert await borne(office, THEIRS[0]) == [first]
    body = {"deviceIds": MINE[:1], "set": [{"TagDefineCode": OWN, "tagEnumCodes": [first]}]}
    assert (await office.ask("ann", "POST", f"{TAGS}/annotate", body))[1] == 42201
    assert (await office.data("bob", "POST", f"{TAGS}/annotate", {**body, "mode": "remove"}))["matched"] == 0
    whole = {"TagDefineCode": OWN, "items": [{"TagEnum": "三"}], "mode": "replace", "onDevices": "clear"}
    done = await office.data("ann", "POST", f"{TAGS}/enums", whole)
    assert (done["disabled"], await borne(office, MINE[0])) == ([second], [])
    assert third in {one["tagEnumCode"] for one in done["saved"]}


async def test_questions_about_devices_are_narrowed_by_tags(office: Office) -> None:
    await annotate(office, "root", [*MINE[:4], *THEIRS[:2]], ROAD)
    await annotate(office, "root", MINE[2:6], GATE)
    expr = {"all": [{"TagDefineCode": TYPE, "tagEnumCodes": [ROAD]}], "none": [{"TagDefineCode": PART}]}
    shape = {"type": "rect", "rect": {"minLon": 120, "minLat": 30, "maxLon": 123, "maxLat": 33}}
    asked = {"filter": {"tagExpr": expr}}
    text = quote(msgspec.json.encode(expr).decode())
    for who, total in (("root", 4), ("ann", 2), ("bob", 2), ("nil", 0)):
        for path, body in (
            ("search-ids", {**asked}),
            ("search-ids", {"keyword": "路口", **asked}),
            ("area-query", {"shape": shape, **asked}),
        ):
            assert (await office.data(who, "POST", f"{ARCHIVE}/{path}", body))["total"] == total, (who, path)
        page = await office.data(who, "GET", f"{ARCHIVE}?tagExpr={text}")
        assert page["total"] == total
        assert all(row["tagCodes"] == [ROAD] for row in page["list"])
        found = await office.data(who, "POST", f"{TAGS}/devices/query", {"expr": expr, "explain": True})
        assert found["total"] == total
        assert all([tag["TagEnum"] for tag in row["tags"]] == ["道路"] for row in found["list"])
        counts = {"root": [6, 4], "ann": [4, 4], "bob": [2, 0], "nil": [0, 0]}[who]
        assert [one["count"] for one in found["explain"]] == counts
    region = {"civilCodes": ["31"], "groupBy": "child", **asked}
    found = await office.data("root", "POST", "/api/v1/archive/regions/devices", region)
    assert (found["total"], sum(group["total"] for group in found["groups"])) == (4, 4)


BAD: list[tuple[Any, int]] = [
    ({}, 40001),
    ({"all": [{}]}, 40001),
    ({"any": [{"TagDefineCode": TYPE}] * 51}, 40001),
    ({"all": [{"any": [{"TagDefineCode": TYPE}] * 26}, {"any": [{"TagDefineCode": TYPE}] * 25}]}, 40001),
    ({"all": [{"all": [{"all": [{"all": [{"all": [{"TagDefineCode": TYPE}]}]}]}]}]}, 40001),
    ({"TagDefineCode": TYPE, "any": [{"TagDefineCode": TYPE}]}, 40001),
    ({"TagDefineCode": "9"}, 40403),
    ({"tagEnumCodes": ["9"]}, 40403),
    ({"TagDefineCode": PART, "tagEnumCodes": [ROAD]}, 40403),
    ({"every": []}, 40001),
]


@pytest.mark.parametrize(("expr", "code"), BAD)
async def test_a_wrong_condition_is_named(office: Office, expr: Any, code: int) -> None:
    for path, body in (
        (f"{ARCHIVE}/search-ids", {"filter": {"tagExpr": expr}}),
        (f"{TAGS}/devices/query", {"expr": expr}),
    ):
        assert (await office.ask("ann", "POST", path, body))[1] == code
    text = quote(msgspec.json.encode(expr).decode())
    assert (await office.ask("ann", "GET", f"{ARCHIVE}?tagExpr={text}"))[1] == code


async def test_a_batch_and_a_plan_show_tags(office: Office) -> None:
    await annotate(office, "root", [MINE[0], THEIRS[0]], ROAD)
    ids = {"deviceIds": [MINE[0], MINE[1], THEIRS[0]]}
    found = await office.data("ann", "POST", f"{ARCHIVE}/batch-get", {**ids, "withTags": True})
    assert {key: [tag["TagEnum"] for tag in tags] for key, tags in found["tags"].items()} == {
        MINE[0]: ["道路"]
    }
    assert "tags" not in await office.data("ann", "POST", f"{ARCHIVE}/batch-get", ids)
    code = await office.plan("ann", MINE[:2])
    listed = await office.data("ann", "POST", "/api/v1/archive/plans/devices", {"planCodes": [code]})
    assert [row.get("tagCodes", []) for row in listed["list"]] == [[ROAD], []]


async def test_what_was_done_is_in_the_feed_and_in_the_audit(office: Office) -> None:
    await annotate(office, "ann", MINE[:2], ROAD)
    await own(office, "重点")
    noted = await office.platform.db.read(
        lambda conn: conn.execute(
            select(change.c.kind, change.c.key).where(change.c.kind.in_(("device_tag", "tag_define")))
        ).all()
    )
    assert [tuple(row) for row in noted] == [
        ("device_tag", MINE[0]),
        ("device_tag", MINE[1]),
        ("tag_define", OWN),
    ]
    events = await office.platform.db.read(
        lambda conn: conn.execute(
            select(audit.c.event).where(audit.c.event.in_(("tag_annotate", "tag_change")))
        ).all()
    )
    assert [row[0] for row in events] == ["tag_annotate", "tag_change"]


async def test_a_device_that_is_missing_keeps_its_tags(office: Office) -> None:
    await annotate(office, "ann", MINE[:1], ROAD)
    await office.platform.db.write(devices.mark_missing, HOME, MINE[:1], office.clock.at())
    assert await borne(office, MINE[0]) == [ROAD]
    done = await annotate(office, "ann", MINE[:1], SCHOOL)
    assert done["failed"] == [{"DeviceID": MINE[0], "code": 40401}]


async def test_two_who_write_at_once_do_not_lose_each_others_word(office: Office) -> None:
    await office.grant("bob", ScopeKind.CIVIL_CODE, "310104")
    code = await office.plan("root", MINE[:1])
    plan = {"PlanCode": code, "PlanName": "乙", "CatalogID": "10304", "DeviceIdList": [], "ifVersion": 1}
    saves = await asyncio.gather(
        *(office.ask("root", "POST", "/api/v1/plans/config", plan) for _ in range(4))
    )
    assert sorted(code for _, code, _ in saves) == [0, 40901, 40901, 40901]
    words = [(("ann", "bob")[n % 2], f"000101{n:03d}") for n in range(1, 9)]
    await asyncio.gather(*(annotate(office, who, MINE[:5], code, mode="add") for who, code in words))
    assert await borne(office, MINE[0]) == [f"000101{number:03d}" for number in range(1, 9)]
    assert (await office.data("ann", "GET", f"{TAGS}/devices/{MINE[0]}"))["version"] == 8
