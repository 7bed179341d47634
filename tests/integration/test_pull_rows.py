"""Rows E.1-3 and E.1-4 on both engines: forms, narrowing, proof, resuming, waiting, and who may."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from tongshi.clock import ManualClock
from tongshi.exchange import news as news_module
from tongshi.exchange import pull, pull_model
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import digest_store, history_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import DeviceArchive, digest
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage import changes
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
SECRET = "k" * 32
ADMIN = Subject(SubjectKind.USER, "0", "test")
FULL, CHANGES = "/api/v1/archive/devices/full", "/api/v1/archive/devices/changes"


@dataclass
class Town:
    """A platform with devices of two owners, and callers who sign."""

    platform: RestPlatform
    clock: ManualClock

    async def caller(self, key: str, scope: ScopeKind, *values: str, sees_history: bool = False) -> None:
        actions = frozenset(
            {Permission.ARCHIVE_READ, *([Permission.ARCHIVE_HISTORY] if sees_history else [])}
        )
        await self.platform.grants.put_key(key, key, SECRET, {Permission.EXCHANGE_PULL, *actions})
        grant = Grant("", SubjectKind.API_KEY, key, actions, scope, frozenset(values))
        await self.platform.grants.give(ADMIN, grant, Context(self.clock.at()))

    async def post(
        self, path: str, body: dict[str, Any], who: str = "all", **headers: str
    ) -> httpx2.Response:
        data = msgspec.json.encode(body)
        signed = Signer(who, SECRET, HOME, self.clock).headers("POST", path, "", data)
        async with self.platform.http() as client:
            return await client.post(
                path, content=data, headers={**signed, "Content-Type": "application/json", **headers}
            )

    async def asked_and_waiting(self) -> None:
        """Until a question for changes has come in and waits."""
        async with asyncio.timeout(10):
            while self.platform.pulls.news.waiters != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def data(self, path: str, body: dict[str, Any], who: str = "all") -> dict[str, Any]:
        answer = await self.post(path, body, who)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    async def whole(self, who: str = "all", **body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Every row of a full by its cursors, and the last page."""
        rows: list[dict[str, Any]] = []
        page = await self.data(FULL, {"pageSize": 7, **body}, who)
        first = page["snapshotId"]
        while True:
            rows += page["list"]
            assert page["snapshotId"] == first
            if page["complete"]:
                return rows, page
            page = await self.data(FULL, {"pageSize": 7, "cursor": page["nextCursor"]}, who)

    async def put(self, *archives: DeviceArchive) -> None:
        await self.platform.db.write(
            devices.upsert_many, [replace(a, revision=0) for a in archives], HOME, self.clock.at()
        )


@pytest.fixture
async def town(database: Database) -> AsyncIterator[Town]:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    made = Town(platform, clock)
    await made.caller("all", ScopeKind.ALL)
    await made.put(*sample_archives(HOME, 25), *sample_archives(ABROAD, 5))
    yield made
    platform.pulls.news.stop()


def combined(roots: list[dict[str, Any]]) -> str:
    text = "".join(f"{root['owner']}\0{root['count']}\0{root['digest']}\n" for root in roots)
    return hashlib.new("sm3", text.encode()).hexdigest()


def roots_of(shards: list[dict[str, Any]]) -> dict[str, tuple[int, str]]:
    """Roots as docs/integrators.md tells a puller to compute them from leaves."""
    found: dict[str, tuple[int, str]] = {}
    for owner in {shard["owner"] for shard in shards}:
        sm3, count = hashlib.new("sm3"), 0
        for shard in (s for s in shards if s["owner"] == owner):
            sm3.update(f"{shard['civilCode']}\0{shard['count']}\0".encode() + bytes.fromhex(shard["digest"]))
            count += shard["count"]
        found[owner] = (count, sm3.hexdigest())
    return found


async def test_a_full_is_paged_and_its_first_page_tells_the_leaves(town: Town) -> None:
    first = await town.data(FULL, {"pageSize": 7})
    assert len(first["list"]) == 7
    assert first["complete"] is False
    assert first["total"] == 30
    assert first["rootDigest"] == combined(first["roots"])
    told = {root["owner"]: (root["count"], root["digest"]) for root in first["roots"]}
    assert roots_of(first["shardDigests"]) == told
    rows, last = await town.whole()
    assert [row["DeviceID"] for row in rows] == sorted({row["DeviceID"] for row in rows})
    assert len(rows) == 30
    assert (last["complete"], last["nextCursor"], last["shardDigests"]) == (True, None, None)


async def test_a_full_goes_on_by_its_cursor_after_a_break_and_after_a_restart(town: Town) -> None:
    first = await town.data(FULL, {"pageSize": 20})
    town.clock.advance(3 * 3600)
    again = await RestPlatform.open(HOME, town.platform.db, town.clock)
    later = Town(again, town.clock)
    body = {"pageSize": 20, "cursor": first["nextCursor"], "snapshotId": first["snapshotId"]}
    second = await later.data(FULL, body)
    assert (len(second["list"]), second["complete"]) == (10, True)
    assert second["asOfVersion"] == first["asOfVersion"]
    assert second["list"] == (await town.data(FULL, body))["list"], "asking twice is harmless"


async def test_what_changes_while_a_full_is_pulled_comes_by_changes_and_is_proved(town: Town) -> None:
    first = await town.data(FULL, {"pageSize": 20})
    held = {row["DeviceID"]: row for row in first["list"]}
    renamed = sample_archives(HOME, 1, name="改名")[0]
    gone = sample_archives(HOME, 1, first=2)[0].device_id
    await town.put(renamed, *sample_archives(HOME, 1, first=90))
    await town.platform.db.write(devices.mark_missing, HOME, [gone], town.clock.at())
    second = await town.data(FULL, {"pageSize": 20, "cursor": first["nextCursor"]})
    held |= {row["DeviceID"]: row for row in second["list"]}
    answer = await town.data(CHANGES, {"sinceVersion": first["asOfVersion"]})
    for change in answer["changes"]:
        if change["op"] == "delete":
            held.pop(change["DeviceID"], None)
        else:
            held[change["DeviceID"]] = change["after"]
    ops = {change["DeviceID"]: change["op"] for change in answer["changes"]}
    assert ops[renamed.device_id] == "update"
    assert ops[gone] == "delete"
    assert sorted(ops.values()) == ["add", "delete", "update"]
    assert held[renamed.device_id]["Name"] == "改名1号摄像机"
    assert len(held) == sum(root["count"] for root in answer["roots"]) == 30


async def test_a_full_is_narrowed_to_a_division_and_proved_within_it(town: Town) -> None:
    every, _ = await town.whole()
    for code in ("31", "310104", "31010402", "31010406", "99"):
        rows, last = await town.whole(scope={"civilCode": code}, withShards=True)
        wanted = [row for row in every if row.get("CivilCode", "").startswith(code)]
        assert rows == wanted
        assert last["total"] == len(wanted)
        first = await town.data(FULL, {"scope": {"civilCode": code}})
        assert roots_of(first["shardDigests"]) == {
            root["owner"]: (root["count"], root["digest"]) for root in first["roots"]
        }
    street = await town.data(FULL, {"scope": {"civilCode": "31010402"}})
    held = await town.platform.db.read(devices.get_many, [row["DeviceID"] for row in street["list"]], None)
    digests = [digest(archive) for archive in held.values()]
    assert street["shardDigests"][0]["digest"] == digest_store.combine(digests).hex()


async def test_a_cursor_is_bound_to_its_snapshot_its_division_and_its_feed(town: Town) -> None:
    first = await town.data(FULL, {"pageSize": 2, "scope": {"civilCode": "310104"}})
    cursor = first["nextCursor"]
    for body, field in (
        ({"cursor": cursor, "snapshotId": "another"}, "snapshotId"),
        ({"cursor": cursor, "scope": {"civilCode": "310106"}}, "scope.civilCode"),
        ({"snapshotId": first["snapshotId"]}, "cursor"),
        ({"cursor": "bm9uc2Vuc2U="}, "cursor"),
        ({"cursor": "*"}, "cursor"),
    ):
        answer = await town.post(FULL, body)
        assert (answer.status_code, answer.json()["data"]["field"]) == (400, field)
    foreign = pull.Cursor("another-feed", first["asOfVersion"], "", "").write()
    future = pull.Cursor(first["feed"], 1 << 62, "", "").write()
    for lost in (foreign, future):
        answer = await town.post(FULL, {"cursor": lost})
        assert (answer.status_code, answer.json()["code"]) == (410, 41001)


async def test_ndjson_ends_with_the_facts_of_the_page(town: Town) -> None:
    answer = await town.post(FULL, {"pageSize": 7, "format": "ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    *rows, last = [msgspec.json.decode(line) for line in answer.content.splitlines()]
    plain = await town.data(FULL, {"pageSize": 7})
    assert rows == plain["list"]
    assert last["page"] == {key: value for key, value in plain.items() if key != "list"}
    facts = msgspec.json.decode(answer.headers["x-tongshi-page"])
    assert (facts["nextCursor"], facts["rootDigest"]) == (plain["nextCursor"], plain["rootDigest"])


async def test_csv_has_the_columns_of_the_files(town: Town) -> None:
    found: list[dict[str, str]] = []
    body: dict[str, Any] = {"pageSize": 11, "format": "csv"}
    while True:
        answer = await town.post(FULL, body)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        found += csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))
        facts = msgspec.json.decode(answer.headers["x-tongshi-page"])
        if facts["complete"]:
            break
        body = {**body, "cursor": facts["nextCursor"]}
    rows, _ = await town.whole()
    assert [row["DeviceID"] for row in found] == [row["DeviceID"] for row in rows]
    assert found[0]["Name"] == rows[0]["Name"]
    assert found[0]["sourcePlatform"] == rows[0]["sourcePlatform"]


@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
async def test_compress_is_taken_at_its_word(town: Town, form: str) -> None:
    for wanted, accepts, is_packed in (
        (True, "identity", True),
        (False, "gzip", False),
        (None, "gzip", True),
        (None, "identity", False),
    ):
        body = {"format": form} if wanted is None else {"format": form, "compress": wanted}
        answer = await town.post(FULL, body, **{"Accept-Encoding": accepts})
        assert (answer.headers.get("content-encoding") == "gzip") is is_packed
        assert len(answer.content) > 8_192, "the client unpacks by itself"
        assert int(answer.headers["content-length"]) < len(gzip.compress(answer.content, 0)) + 200


async def test_a_page_in_any_form_is_in_the_audit_with_its_rows(town: Town) -> None:
    await town.post(FULL, {"pageSize": 7, "format": "csv"}, **{"X-Request-Id": "as-csv"})
    await town.post(FULL, {"pageSize": 5, "format": "ndjson"}, **{"X-Request-Id": "as-lines"})
    statement = select(audit.c.request_id, audit.c.details).where(audit.c.event == "exchange_pull")
    found = await town.platform.db.read(lambda conn: {row[0]: row[1] for row in conn.execute(statement)})
    assert '"rows":7' in str(found["as-csv"]).replace(" ", "")
    assert '"rows":5' in str(found["as-lines"]).replace(" ", "")


async def test_changes_say_op_version_and_a_digest_of_their_range(town: Town) -> None:
    answer = await town.data(CHANGES, {"sinceVersion": 0, "limit": 10})
    assert (len(answer["changes"]), answer["hasMore"], answer["remaining"]) == (10, True, 20)
    assert {change["op"] for change in answer["changes"]} == {"add"}
    versions = [change["version"] for change in answer["changes"]]
    assert versions == sorted(set(versions))
    assert versions[-1] <= answer["toVersion"]
    lines = "".join(f"{c['version']}\0{c['op']}\0{c['DeviceID']}\n" for c in answer["changes"])
    text = f"0\n{answer['toVersion']}\n{lines}"
    assert answer["rangeDigest"] == hashlib.new("sm3", text.encode()).hexdigest()
    assert answer["roots"] is None


async def test_changes_are_narrowed_and_one_that_left_the_division_is_deleted(town: Town) -> None:
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    await town.put(*sample_archives(HOME, 1, first=91))
    (change,) = (await town.data(CHANGES, {"sinceVersion": start}))["changes"]
    assert change["op"] == "add"
    assert (await town.data(CHANGES, {"sinceVersion": start, "civilCodes": ["310106"]}))["changes"] == []
    start = (await town.data(CHANGES, {"sinceVersion": start}))["toVersion"]
    moved = sample_archives(HOME, 1)[0]
    assert moved.item.civil_code == "31010401"
    await town.put(replace(moved, item=replace(moved.item, civil_code="31010409")))
    body = {"sinceVersion": start, "civilCodes": ["31010401", "310106"]}
    (change,) = (await town.data(CHANGES, body))["changes"]
    assert (change["op"], change["DeviceID"]) == ("delete", moved.device_id)
    (change,) = (await town.data(CHANGES, {"sinceVersion": start, "civilCodes": ["31010409"]}))["changes"]
    assert (change["op"], change["after"]["CivilCode"]) == ("add", "31010409"), "new to who asks for that one"
    assert "changedFields" not in change
    narrowed = await town.data(CHANGES, {"sinceVersion": start, "civilCodes": ["31010402"]})
    assert narrowed["changes"] == [], "its history says that it was never inside"
    assert sum(root["count"] for root in narrowed["roots"]) == 2


async def test_changes_tell_the_wanted_fields_only(town: Town) -> None:
    body = {"sinceVersion": 0, "limit": 1, "fields": ["Name", "Info"]}
    (change,) = (await town.data(CHANGES, body))["changes"]
    assert set(change["after"]) == {"DeviceID", "sourcePlatform", "version", "Name", "Info"}
    answer = await town.post(CHANGES, {"sinceVersion": 0, "fields": ["Password"]})
    assert (answer.status_code, answer.json()["data"]["field"]) == (400, "fields")


async def test_what_was_compacted_or_never_was_asks_for_a_full(town: Town) -> None:
    town.clock.advance(timedelta(days=200).total_seconds())
    await town.put(*sample_archives(HOME, 1, name="新"))
    before = town.clock.at() - timedelta(days=180)
    assert await town.platform.db.write(changes.compact, before) >= 30
    for since in (0, 1 << 62):
        answer = await town.post(CHANGES, {"sinceVersion": since})
        assert (answer.status_code, answer.json()["code"]) == (410, 41001)
    first = await town.data(FULL, {})
    assert (await town.data(CHANGES, {"sinceVersion": first["asOfVersion"]}))["changes"] == []


async def test_a_long_poll_ends_with_the_first_change(town: Town) -> None:
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    waiting = asyncio.create_task(town.data(CHANGES, {"sinceVersion": start, "waitSec": 30}))
    await town.asked_and_waiting()
    await town.put(sample_archives(HOME, 1, name="新")[0])
    answer = await asyncio.wait_for(waiting, 5)
    assert [change["op"] for change in answer["changes"]] == ["update"]
    lines = "".join(f"{c['version']}\0{c['op']}\0{c['DeviceID']}\n" for c in answer["changes"])
    text = f"{start}\n{answer['toVersion']}\n{lines}"
    assert answer["rangeDigest"] == hashlib.new("sm3", text.encode()).hexdigest()
    assert town.platform.pulls.news.waiters == 0


async def test_a_change_that_is_not_the_callers_ends_no_long_poll(town: Town) -> None:
    await town.caller("north", ScopeKind.OWNER, ABROAD)
    start = (await town.data(CHANGES, {"sinceVersion": 0}, "north"))["toVersion"]
    body = {"sinceVersion": start, "waitSec": 30}
    waiting = asyncio.create_task(town.data(CHANGES, body, "north"))
    await town.asked_and_waiting()
    await town.put(sample_archives(HOME, 1, name="新")[0])
    await asyncio.sleep(0.8)
    assert not waiting.done()
    town.platform.pulls.news.stop()
    answer = await asyncio.wait_for(waiting, 15)
    assert answer["changes"] == []
    assert answer["toVersion"] > start, "what was looked at need not be looked at again"


async def test_waiters_are_few(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "MAX_WAITERS_OF_A_CALLER", 1)
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    waiting = asyncio.create_task(town.post(CHANGES, {"sinceVersion": start, "waitSec": 30}))
    await town.asked_and_waiting()
    answer = await town.post(CHANGES, {"sinceVersion": start, "waitSec": 30})
    assert (answer.status_code, answer.json()["code"]) == (429, 42901)
    assert int(answer.headers["retry-after"]) == 5
    town.platform.pulls.news.stop()
    assert (await waiting).status_code == 200


async def test_a_caller_that_hangs_up_is_let_go_at_once(town: Town) -> None:
    """Over ASGI: the request is whole, then the client is gone while the answer waits."""
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    body = msgspec.json.encode({"sinceVersion": start, "waitSec": 30})
    signed = Signer("all", SECRET, HOME, town.clock).headers("POST", CHANGES, "", body)
    hangs_up = asyncio.Event()
    told = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if told:
            return told.pop()
        await hangs_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        del message

    headers = {**signed, "content-type": "application/json"}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": CHANGES,
        "raw_path": CHANGES.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("platform", 80),
        "scheme": "http",
        "root_path": "",
    }
    serving = asyncio.ensure_future(town.platform.asgi(scope, receive, send))
    await town.asked_and_waiting()
    started_s = time.monotonic()
    hangs_up.set()
    await asyncio.wait_for(serving, 15)
    assert time.monotonic() - started_s < 1
    assert town.platform.pulls.news.waiters == 0


async def test_a_grant_by_division_pulls_its_division_and_proves_it(town: Town) -> None:
    await town.caller("street", ScopeKind.CIVIL_CODE, "31010402", "310106")
    rows, last = await town.whole("street")
    codes = {row["CivilCode"] for row in rows}
    assert codes == {"31010402", *(f"310106{n:02}" for n in range(1, 6))}
    assert last["total"] == len(rows) == 7
    beyond, _ = await town.whole("street", scope={"civilCode": "31010403"})
    assert beyond == []
    start = last["asOfVersion"]
    outside, inside = sample_archives(HOME, 1, name="新")[0], sample_archives(HOME, 1, first=2, name="新")[0]
    leaving = sample_archives(HOME, 1, first=22)[0]
    await town.put(outside, inside, replace(leaving, item=replace(leaving.item, civil_code="31010409")))
    answer = await town.data(CHANGES, {"sinceVersion": start}, "street")
    assert [change["DeviceID"] for change in answer["changes"]] == [inside.device_id], (
        "no word of a device outside the grant, not even that it is gone"
    )
    assert sum(root["count"] for root in answer["roots"]) == 6, "the proof says that something is missing"


@pytest.mark.parametrize("path", [FULL, CHANGES])
async def test_who_may_not(town: Town, path: str) -> None:
    """Nobody, a key without the permission, no grant, a grant on one device, a grant of another district."""
    body = {} if path == FULL else {"sinceVersion": 0}
    async with town.platform.http() as client:
        answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, 40101)
    await town.platform.grants.put_key("reader", "reader", SECRET, {Permission.ARCHIVE_READ})
    answer = await town.post(path, body, "reader")
    assert (answer.status_code, answer.json()["code"]) == (403, 40301)
    rights = {Permission.EXCHANGE_PULL, Permission.ARCHIVE_READ}
    await town.platform.grants.put_key("bare", "bare", SECRET, rights)
    answer = await town.post(path, body, "bare")
    assert (answer.status_code, answer.json()["code"]) == (403, 40304)
    one = sample_archives(HOME, 1)[0].device_id
    await town.caller("single", ScopeKind.DEVICE, one)
    data = await town.data(path, body, "single")
    rows: list[dict[str, Any]] = data["list"] if path == FULL else data["changes"]
    assert [row["DeviceID"] for row in rows] == [one]
    assert [(root["owner"], root["count"]) for root in data["roots"]] == [(HOME, 1)]
    await town.caller("elsewhere", ScopeKind.OWNER, "99" + HOME[2:])
    data = await town.data(path, body, "elsewhere")
    assert data.get("list", data.get("changes")) == []
    assert data["roots"] == []


async def test_a_grant_by_device_pulls_its_devices_and_proves_them(town: Town) -> None:
    mine = [sample_archives(HOME, 1, first=n)[0] for n in (3, 4, 23)]
    theirs = sample_archives(ABROAD, 1, first=2)[0]
    await town.caller("few", ScopeKind.DEVICE, *(one.device_id for one in (*mine, theirs)), "9" * 20)
    rows, last = await town.whole("few")
    assert [row["DeviceID"] for row in rows] == sorted(one.device_id for one in (*mine, theirs))
    assert (last["total"], {root["owner"]: root["count"] for root in last["roots"]}) == (
        4,
        {HOME: 3, ABROAD: 1},
    )
    first = await town.data(FULL, {}, "few")
    assert roots_of(first["shardDigests"]) == {r["owner"]: (r["count"], r["digest"]) for r in last["roots"]}
    leaf = next(shard for shard in first["shardDigests"] if shard["owner"] == HOME)
    assert leaf["digest"] == digest_store.combine([digest(one) for one in mine]).hex()
    within, page = await town.whole("few", scope={"civilCode": mine[0].item.civil_code})
    assert {row["DeviceID"] for row in within} == {mine[0].device_id, mine[2].device_id}
    assert page["total"] == 2
    await town.put(*sample_archives(HOME, 5, name="新"))
    answer = await town.data(CHANGES, {"sinceVersion": last["asOfVersion"]}, "few")
    assert [change["DeviceID"] for change in answer["changes"]] == [one.device_id for one in mine[:2]]


async def test_a_grant_by_device_adds_to_a_grant_by_division_and_nothing_counts_twice(town: Town) -> None:
    inside, outside = sample_archives(HOME, 1, first=2)[0], sample_archives(HOME, 1, first=5)[0]
    await town.caller("both", ScopeKind.CIVIL_CODE, "31010402")
    grant = Grant(
        "",
        SubjectKind.API_KEY,
        "both",
        frozenset({Permission.ARCHIVE_READ}),
        ScopeKind.DEVICE,
        frozenset({inside.device_id, outside.device_id}),
    )
    await town.platform.grants.give(ADMIN, grant, Context(town.clock.at()))
    rows, last = await town.whole("both")
    assert {row["CivilCode"] for row in rows} == {"31010402", "31010405"}
    assert last["total"] == len(rows) == 3


def told(change: dict[str, Any], part: str = "after") -> dict[str, Any]:
    """A record as its history can tell it."""
    return {name: value for name, value in change[part].items() if name not in ("Status", "updateTime")}


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """By the names that ``changedFields`` uses."""
    parts = {name: value for name, value in record.items() if isinstance(value, dict)}
    inner = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return {name: value for name, value in record.items() if name not in parts} | inner


async def test_a_change_says_what_the_record_was_and_what_differs(town: Town) -> None:
    await town.caller("archivist", ScopeKind.ALL, sees_history=True)
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    one = sample_archives(HOME, 1)[0]
    row = (await town.data(FULL, {"pageSize": 1}))["list"][0]
    await town.put(replace(one, item=replace(one.item, ptz_type=4)))
    await town.put(replace(one, item=replace(one.item, ptz_type=4, name="新")))
    (change,) = (await town.data(CHANGES, {"sinceVersion": start}, "archivist"))["changes"]
    assert (change["op"], change["changedFields"]) == ("update", ["Name", "Info.PTZType"])
    assert told(change, "before") == told({"row": row}, "row")
    assert (change["after"]["Name"], change["before"]["version"], change["after"]["version"]) == ("新", 1, 3)
    (change,) = (await town.data(CHANGES, {"sinceVersion": start}))["changes"]
    assert "before" not in change, "who may not see the history hears what changed and not what it was"
    assert change["changedFields"] == ["Name", "Info.PTZType"]
    body = {"sinceVersion": start, "fields": ["Name"]}
    (change,) = (await town.data(CHANGES, body, "archivist"))["changes"]
    assert set(change["before"]) == {"DeviceID", "sourcePlatform", "version", "Name"}
    await town.platform.db.write(devices.set_statuses, {one.device_id: True}, "register", town.clock.at())
    start = (await town.data(CHANGES, {"sinceVersion": change["version"] + 1}))["toVersion"]
    await town.platform.db.write(devices.set_statuses, {one.device_id: False}, "register", town.clock.at())
    (change,) = (await town.data(CHANGES, {"sinceVersion": start}))["changes"]
    assert (change["changedFields"], change["after"]["Status"]) == (["Status"], "OFF")


async def test_a_former_record_that_was_not_the_callers_is_not_told(town: Town) -> None:
    await town.caller("street", ScopeKind.CIVIL_CODE, "31010409", sees_history=True)
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    one = sample_archives(HOME, 1)[0]
    await town.put(replace(one, item=replace(one.item, civil_code="31010409", name="来")))
    (change,) = (await town.data(CHANGES, {"sinceVersion": start}, "street"))["changes"]
    assert (change["op"], set(change) & {"before", "changedFields"}) == ("add", set())
    assert one.item.civil_code not in str(change)


async def test_what_the_history_does_not_tell_is_left_out(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_store, "MAX_VERSIONS", 2)
    await town.caller("archivist", ScopeKind.ALL, sees_history=True)
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    (fresh,) = sample_archives(HOME, 1, first=90)
    for number in range(4):
        await town.put(sample_archives(HOME, 1, name=f"名{number}")[0])
        await town.put(replace(fresh, item=replace(fresh.item, name=f"名{number}")))
    for change in (await town.data(CHANGES, {"sinceVersion": start}, "archivist"))["changes"]:
        assert set(change) & {"before", "changedFields"} == set()
        assert change["after"]["Name"].startswith("名3")


async def test_former_records_are_those_that_were_told(town: Town) -> None:
    """Random histories: who keeps what it is told finds it again as ``before``, and nothing is guessed."""
    await town.caller("archivist", ScopeKind.ALL, sees_history=True)
    chance = random.Random(31)
    start = (await town.data(CHANGES, {"sinceVersion": 0}))["toVersion"]
    rows, _ = await town.whole()
    held = {row["DeviceID"]: told({"row": row}, "row") for row in rows}
    seen = dict.fromkeys(("add", "update", "delete"), 0)
    for _ in range(25):
        for _ in range(chance.randrange(1, 6)):
            await _something_happens(town, chance)
        answer = await town.data(CHANGES, {"sinceVersion": start}, "archivist")
        start = answer["toVersion"]
        for change in answer["changes"]:
            seen[change["op"]] += 1
            was = held.pop(change["DeviceID"], None)
            if "before" in change:
                assert told(change, "before") == was
            if "after" in change:
                held[change["DeviceID"]] = told(change)
            if "changedFields" in change:
                unlike = flat(was or {}).items() ^ flat(held[change["DeviceID"]]).items()
                assert set(change["changedFields"]) - {"Status"} == {name for name, _ in unlike} - {"version"}
    assert min(seen.values()) > 3
    rows, _ = await town.whole()
    assert held == {row["DeviceID"]: told({"row": row}, "row") for row in rows}


async def _something_happens(town: Town, chance: random.Random) -> None:
    town.clock.advance(chance.choice((0, 1, 60)))
    one = sample_archives(HOME, 1, first=chance.randrange(1, 8))[0]
    match chance.randrange(4):
        case 0:
            await town.platform.db.write(devices.mark_missing, HOME, [one.device_id], town.clock.at())
        case 1:
            online = chance.random() < 0.5
            await town.platform.db.write(
                devices.set_statuses, {one.device_id: online}, "register", town.clock.at()
            )
        case _:
            name, ptz, code = (
                f"名{chance.randrange(3)}",
                chance.randrange(1, 5),
                f"3101040{chance.randrange(4)}",
            )
            await town.put(replace(one, item=replace(one.item, name=name, ptz_type=ptz, civil_code=code)))


async def test_an_older_reader_of_the_first_form_still_understands(town: Town) -> None:
    """What was asked before the narrowing, the forms and the waiting is asked in the same words."""
    encoded = msgspec.json.encode(pull_model.PullFull(page_size=5, cursor=""))
    assert encoded == b'{"pageSize":5}'
    assert msgspec.json.encode(pull_model.PullChanges(since_version=3)) == b'{"sinceVersion":3}'
