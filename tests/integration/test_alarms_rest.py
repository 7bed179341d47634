"""Alarms over REST on both databases: who sees which, what is kept of a flood, and who saw to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.ids import PlatformId
from tongshi.protocols.gb28181.alarm import AlarmNotify
from tongshi.protocols.gb28181.dates import render_time
from tongshi.resources.alarms import model, store
from tongshi.resources.alarms.flood import Bounds
from tongshi.resources.alarms.model import Delivery, DeliveryState, Source, SourceKind, Verdict
from tongshi.resources.alarms.service import FLOOD_TEXT, Alarms
from tongshi.resources.alarms.wire import told_of
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms import store as platform_store
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.sharing.model import EVERYTHING, Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD, CITY = "31010400002000000001", "31010600002000000001", "31000000002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
INPUT = "31010400001340000001"  # an alarm input that no archive knows
ADMIN = Subject(SubjectKind.USER, "0", "test")
SECRET = "k" * 32
NVR = Source(MINE, SourceKind.DEVICE)


@dataclass
class Town:
    platform: RestPlatform
    clock: ManualClock

    @property
    def alarms(self) -> Alarms:
        return self.platform.alarms

    async def call(self, who: str, method: str, path: str, body: bytes = b"") -> Any:
        self.clock.advance(1)
        bare, _, query = path.partition("?")
        headers = Signer(who, SECRET, HOME, self.clock).headers(method, bare, query, body)
        if body:
            headers["content-type"] = "application/json"
        async with self.platform.http() as client:
            return await client.request(method, path, headers=headers, content=body)

    async def tell(self, device_id: str = MINE, source: Source = NVR, **values: Any) -> Any:
        at = self.clock.at()
        said = {"priority": 1, "method": 5, "alarm_type": 6, "time": render_time(at), **values}
        return await self.alarms.take(told_of(AlarmNotify(1, device_id, **said), at), source)


@pytest.fixture
async def town(database: Database) -> Town:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    both = frozenset({Permission.ALARM_READ, Permission.ALARM_HANDLE})
    scopes = {
        "all": (both, ScopeKind.ALL, frozenset()),
        "district": (both, ScopeKind.CIVIL_CODE, frozenset({"310104"})),
        "reader": (frozenset({Permission.ALARM_READ}), ScopeKind.DEVICE, frozenset({MINE})),
    }
    for who in ("all", "district", "reader", "ungranted"):
        await platform.grants.put_key(who, who, SECRET, both)
    await platform.grants.put_key("powerless", "powerless", SECRET, {Permission.ARCHIVE_READ})
    await platform.grants.put_key("root", "root", SECRET, frozenset(Permission))
    for who, (actions, kind, values) in scopes.items():
        grant = Grant("", SubjectKind.API_KEY, who, actions, kind, values)
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 2), owner, clock.at())
    return Town(platform, clock)


async def test_everybody_sees_the_alarms_of_their_devices_and_their_number(town: Town) -> None:
    for device_id in (MINE, THEIRS, INPUT):
        assert (await town.tell(device_id)).verdict is Verdict.KEPT
        town.clock.advance(1)
    seen = {}
    for who in ("all", "district", "reader", "ungranted"):
        data = (await town.call(who, "GET", "/api/v1/alarms")).json()["data"]
        seen[who] = ([row["deviceId"] for row in data["list"]], data["total"])
    assert seen["all"] == ([INPUT, THEIRS, MINE], 3)
    # The input has no archive: it lies where its teller lies.
    assert seen["district"] == ([INPUT, MINE], 2)
    assert seen["reader"] == ([MINE], 1)
    assert seen["ungranted"] == ([], 0)
    assert (await town.call("powerless", "GET", "/api/v1/alarms")).status_code == 403


async def test_one_alarm_out_of_scope_looks_unknown(town: Town) -> None:
    alarm = (await town.tell(THEIRS)).alarm
    answers = [
        (await town.call("district", "GET", f"/api/v1/alarms/{key}")).json() for key in (alarm.id, "0" * 32)
    ]
    assert [(a["code"], a["msg"], a["data"]) for a in answers] == [(40400, "报警不存在", {})] * 2
    whole = (await town.call("all", "GET", f"/api/v1/alarms/{alarm.id}")).json()["data"]
    assert whole["alarm"]["typeText"] == "入侵检测报警"
    assert whole["alarm"]["owner"] == ABROAD


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("priority=1,2", 1),
        ("priority=4", 1),
        ("method=2", 1),
        (f"deviceId={MINE}&method=5", 1),
        ("civilCode=310106", 0),
        ("acknowledged=true", 0),
        ("until=2026-01-01T08:00:05%2B08:00", 1),
        ("since=2026-01-01T08:00:05%2B08:00", 1),
        ("pageSize=1&pageNo=2", 1),
    ],
)
async def test_a_list_is_narrowed(town: Town, query: str, found: int) -> None:
    await town.tell(MINE)
    town.clock.advance(20)
    await town.tell(MINE, priority=4, method=2, alarm_type=2)
    answer = await town.call("all", "GET", f"/api/v1/alarms?{query}")
    assert len(answer.json()["data"]["list"]) == found, answer.text


async def test_paging_too_deep_and_a_bad_filter_are_refused(town: Town) -> None:
    deep = await town.call("all", "GET", "/api/v1/alarms?pageNo=101&pageSize=100")
    assert (deep.status_code, deep.json()["code"]) == (400, 40006)
    assert (await town.call("all", "GET", "/api/v1/alarms?method=8")).status_code == 400
    assert (await town.call("all", "GET", "/api/v1/alarms?since=2026-01-01T08:00:05")).status_code == 400


async def test_an_alarm_is_acknowledged_once_and_by_those_who_may(town: Town) -> None:
    mine, theirs = (await town.tell(MINE)).alarm, (await town.tell(THEIRS)).alarm
    body = f'{{"ids": ["{mine.id}", "{theirs.id}", "{"0" * 32}"], "note": "误报"}}'.encode()
    refused = (await town.call("reader", "POST", "/api/v1/alarms/ack", body)).json()["data"]
    assert refused["missing"] == [mine.id, theirs.id, "0" * 32]  # may read it, and not see to it
    first = (await town.call("district", "POST", "/api/v1/alarms/ack", body)).json()["data"]
    assert first == {"acknowledged": [mine.id], "already": [], "missing": [theirs.id, "0" * 32]}
    again = (await town.call("all", "POST", "/api/v1/alarms/ack", body)).json()["data"]
    assert again["already"] == [mine.id]
    assert again["acknowledged"] == [theirs.id]
    rows, _ = await town.platform.db.read(store.page, EVERYTHING, model.Filters(device_id=MINE), 1, 10)
    assert rows[0].acknowledged is not None
    assert (rows[0].acknowledged.by, rows[0].acknowledged.note) == ("district", "误报")
    written, _ = await town.platform.db.read(audit.page, 1, 10, event=AuditTag.ALARM_HANDLE)
    assert sorted(record.entry.object_id for record in written) == sorted((mine.id, theirs.id))


async def test_what_was_told_before_is_kept_once(town: Town) -> None:
    kept = await town.tell(MINE)
    again = await town.alarms.take(kept.alarm.told, Source(ABROAD, SourceKind.LOWER))
    assert (again.verdict, again.targets) == (Verdict.REPEATED, ())
    rows, total = await town.platform.db.read(store.page, EVERYTHING, model.Filters(), 1, 10)
    assert (total, rows[0].repeats) == (1, 0)


async def test_a_broken_alarm_is_kept_and_says_what_is_wrong(town: Town) -> None:
    await town.tell(INPUT, priority=9, method=1, alarm_type=3, time="昨天")
    await town.tell(MINE, time="2024-05-20T09:40:00")
    rows = (await town.call("all", "GET", "/api/v1/alarms")).json()["data"]["list"]
    by_device = {row["deviceId"]: row["faults"] for row in rows}
    assert len(by_device[INPUT]) == 3
    assert by_device[MINE] == ["设备报警时间与平台时间相差超过 10 分钟"]


async def test_a_flood_of_one_kind_is_merged_and_counted(town: Town) -> None:
    alarms = Alarms(
        town.platform.db, platform_store, town.clock, HOME, Bounds(60.0, of_kind=3, of_source=100)
    )
    first = told_of(AlarmNotify(1, MINE, priority=1, method=5, alarm_type=2), town.clock.at())
    verdicts = []
    for second in range(10):
        told = replace(first, raised_at=first.raised_at + timedelta(seconds=second))
        verdicts.append((await alarms.take(told, NVR)).verdict)
    assert verdicts == [Verdict.KEPT] * 3 + [Verdict.MERGED] * 7
    await alarms.flush()
    rows, total = await town.platform.db.read(store.page, EVERYTHING, model.Filters(), 1, 10)
    assert (total, sum(row.repeats for row in rows)) == (3, 7)
    town.clock.advance(61)
    later = replace(first, raised_at=town.clock.at())
    assert (await alarms.take(later, NVR)).verdict is Verdict.KEPT


async def test_a_source_past_its_bound_is_said_so(town: Town) -> None:
    alarms = Alarms(town.platform.db, platform_store, town.clock, HOME, Bounds(60.0, of_kind=5, of_source=20))
    at = town.clock.at()
    for number in range(100):
        notify = AlarmNotify(1, f"3101040000134{number:07d}", priority=1, method=2)
        await alarms.take(told_of(notify, at), NVR)
    await alarms.flush()
    rows, total = await town.platform.db.read(store.page, EVERYTHING, model.Filters(device_id=MINE), 1, 10)
    assert (total, rows[0].told.description, rows[0].repeats) == (1, FLOOD_TEXT, 80)
    assert rows[0].source.kind is SourceKind.OURSELVES
    _, everything = await town.platform.db.read(store.page, EVERYTHING, model.Filters(), 1, 10)
    assert everything == 21


async def test_routes_say_who_gets_it_and_a_platform_needs_a_grant(town: Town) -> None:
    await town.platform.platforms.put(Platform(PlatformId(CITY), "市级平台", Relation.UPPER))
    lamp = "31010400001350000001"
    for body in (
        f'{{"targetId": "{CITY}", "lowestPriority": 2}}',
        f'{{"targetId": "{lamp}", "deviceId": "{MINE}", "methods": [5]}}',
    ):
        made = await town.call("root", "POST", "/api/v1/alarms/routes", body.encode())
        assert made.status_code == 201, made.text
    assert (await town.tell(MINE)).targets == (lamp,)  # nothing is granted to the city
    grant = Grant("", SubjectKind.PLATFORM, CITY, frozenset({Permission.ALARM_READ}), ScopeKind.ALL)
    await town.platform.grants.give(ADMIN, grant, Context(town.clock.at()))
    town.clock.advance(1)
    kept = await town.tell(MINE)
    assert kept.targets == (CITY, lamp)
    town.clock.advance(1)
    assert (await town.tell(MINE, priority=3)).targets == (lamp,)
    town.clock.advance(1)
    # Never back to who told it.
    assert (await town.tell(MINE, Source(CITY, SourceKind.UPPER), alarm_type=5)).targets == (lamp,)

    await town.alarms.note_delivery(Delivery(kept.alarm.id, CITY, DeliveryState.FAILED, 3, error="超时"))
    whole = (await town.call("all", "GET", f"/api/v1/alarms/{kept.alarm.id}")).json()["data"]
    assert [(d["targetId"], d["state"], d["tries"]) for d in whole["deliveries"]] == [
        (CITY, "failed", 3),
        (lamp, "waiting", 0),
    ]
    assert {target for _, target in await town.alarms.waiting()} == {lamp}


async def test_routes_are_the_administrators(town: Town) -> None:
    own = await town.call("root", "POST", "/api/v1/alarms/routes", f'{{"targetId": "{HOME}"}}'.encode())
    assert own.status_code == 400
    assert (await town.call("all", "GET", "/api/v1/alarms/routes")).status_code == 403
    made = await town.call("root", "POST", "/api/v1/alarms/routes", f'{{"targetId": "{CITY}"}}'.encode())
    key = made.json()["data"]["id"]
    listed = (await town.call("root", "GET", "/api/v1/alarms/routes")).json()["data"]["list"]
    assert [row["id"] for row in listed] == [key]
    assert (await town.call("root", "DELETE", f"/api/v1/alarms/routes/{key}")).status_code == 200
    assert (await town.call("root", "DELETE", f"/api/v1/alarms/routes/{key}")).status_code == 404


async def test_old_alarms_are_forgotten_with_their_deliveries(town: Town) -> None:
    body = f'{{"targetId": "{"31010400001350000001"}"}}'.encode()
    await town.call("root", "POST", "/api/v1/alarms/routes", body)
    old = await town.tell(MINE)
    town.clock.advance(3600)
    young = await town.tell(MINE)
    assert await town.platform.db.write(store.forget, young.alarm.received_at) == 1
    assert await town.platform.db.read(store.deliveries, old.alarm.id) == []
    assert len(await town.platform.db.read(store.deliveries, young.alarm.id)) == 1
    assert await town.platform.db.write(store.forget, young.alarm.received_at) == 0


async def test_the_words_of_an_alarm_are_told(town: Town) -> None:
    words = (await town.call("reader", "GET", "/api/v1/alarms/words")).json()["data"]
    assert len(words["methods"]) == 7
    assert words["methods"][4]["types"][5] == {"value": 6, "text": "入侵检测报警"}
