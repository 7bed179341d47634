"""Snapshots and upgrades over REST: who may order, list and see, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tongshi.audit import store as audit
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.ids import DeviceId, PlatformId
from tongshi.protocols.gb28181.device_notify import DeviceUpgradeResult
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.resources.viewing.ports import Viewer
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.jpeg import tiny_jpeg
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = DeviceId("31010400001310000001"), DeviceId("31010600001310000001")
UNKNOWN = "31010400001319999999"
ADMIN = Subject(SubjectKind.USER, "0", "test")
WANTED = {Permission.VIDEO_LIVE, Permission.DEVICE_COMMAND, Permission.STATUS_READ}


@dataclass
class Office:
    """A platform with devices of two districts, one picture of each; ``call`` asks as somebody by name."""

    platform: RestPlatform
    clock: ManualClock
    pictures: dict[str, str]
    orders: dict[str, str]

    async def key(self, name: str, permissions: set[Permission], granted: set[Permission]) -> None:
        await self.platform.grants.put_key(name, name, name * 8, frozenset(permissions))
        if granted:
            within = frozenset({"310104"})
            grant = Grant("", SubjectKind.API_KEY, name, frozenset(granted), ScopeKind.CIVIL_CODE, within)
            await self.platform.grants.give(ADMIN, grant, Context(self.clock.at()))

    async def call(self, who: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        self.clock.advance(1)
        signer = Signer(who, who * 8, HOME, self.clock)
        async with self.platform.http() as client:
            request = client.build_request(method, path, json=body)
            target, _, query = path.partition("?")
            request.headers.update(signer.headers(method, target, query, request.content))
            return await client.send(request)


@pytest.fixture
async def office(database: Database) -> Office:
    clock = ManualClock()
    made = Office(await RestPlatform.open(HOME, database, clock), clock, {}, {})
    await made.platform.platforms.put(Platform(PlatformId(ABROAD), "邻区", Relation.LATERAL))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    await made.key("able", WANTED, WANTED)
    await made.key("bare", WANTED, set())
    await made.key("mild", WANTED, {Permission.ARCHIVE_READ, Permission.DEVICE_COMMAND})
    await made.key("blind", {Permission.ARCHIVE_READ}, {Permission.ARCHIVE_READ})
    for code in (MINE, THEIRS):
        picture = tiny_jpeg(64, 48, code.encode())
        order, kept = await made.platform.snapshots.keep(Viewer(ADMIN, ""), code, picture, "test")
        made.pictures[code], made.orders[code] = kept.id, order.id
    return made


async def test_ordering_needs_both_rights_and_a_device_that_is_there(office: Office) -> None:
    for who, device, body, code in (
        ("able", MINE, {}, 50301),
        ("able", THEIRS, {}, 40401),
        ("able", UNKNOWN, {}, 40401),
        ("bare", MINE, {}, 40401),
        ("mild", MINE, {}, 40303),
        ("blind", MINE, {}, 40301),
        ("able", MINE, {"count": 11}, 40001),
        ("able", MINE, {"intervalSec": 0}, 40001),
    ):
        answer = await office.call(who, "POST", f"/api/v1/devices/{device}/snapshots", body)
        assert answer.json()["code"] == code, (who, device, body, answer.text)
    async with office.platform.http() as nobody:
        answer = await nobody.post(f"/api/v1/devices/{MINE}/snapshots", json={})
        assert answer.json()["code"] == 40101
    listed = (await office.call("able", "GET", "/api/v1/snapshots?state=failed")).json()["data"]
    assert [(row["DeviceID"], row["reason"]) for row in listed["list"]] == [(MINE, "设备不在线")]


async def test_lists_hold_and_count_what_the_caller_may_see(office: Office) -> None:
    for who, seen in (("able", [MINE]), ("bare", []), ("mild", [])):
        data = (await office.call(who, "GET", "/api/v1/snapshots")).json()["data"]
        assert ([row["DeviceID"] for row in data["list"]], data["total"]) == (seen, len(seen)), who
    assert (await office.call("blind", "GET", "/api/v1/snapshots")).json()["code"] == 40301
    for query, total in (
        (f"deviceId={MINE}", 1),
        (f"deviceId={THEIRS}", 0),
        ("state=complete", 1),
        ("state=waiting", 0),
        ("since=2090-01-01T00:00:00Z", 0),
        ("until=2090-01-01T00:00:00Z", 1),
        ("pageNo=2", 1),
    ):
        data = (await office.call("able", "GET", f"/api/v1/snapshots?{query}")).json()["data"]
        assert data["total"] == total, query
    for bad in ("pageNo=500&pageSize=200", "state=odd", "deviceId=1"):
        assert (await office.call("able", "GET", f"/api/v1/snapshots?{bad}")).status_code == 400


async def test_one_order_is_shown_with_its_pictures(office: Office) -> None:
    row = (await office.call("able", "GET", f"/api/v1/snapshots/{office.orders[MINE]}")).json()["data"]
    assert (row["origin"], row["state"], row["receivedCount"]) == ("stream", "complete", 1)
    assert [one["id"] for one in row["pictures"]] == [office.pictures[MINE]]
    for who, order in (("able", office.orders[THEIRS]), ("able", "nothing"), ("bare", office.orders[MINE])):
        assert (await office.call(who, "GET", f"/api/v1/snapshots/{order}")).json()["code"] == 40400


async def test_a_picture_is_a_view_decided_and_recorded(office: Office) -> None:
    answer = await office.call("able", "GET", f"/api/v1/snapshots/pictures/{office.pictures[MINE]}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == tiny_jpeg(64, 48, MINE.encode())
    for who, picture in (
        ("able", office.pictures[THEIRS]),
        ("able", "nothing"),
        ("bare", office.pictures[MINE]),
    ):
        refused = await office.call(who, "GET", f"/api/v1/snapshots/pictures/{picture}")
        assert refused.json()["code"] == 40400, who
    rows, _ = await office.platform.db.read(audit.page, 1, 100)
    seen = [r.entry.outcome.value for r in rows if r.entry.event.value == "snapshot_view"]
    assert sorted(seen) == ["denied", "denied", "done"]  # the same refusal of one caller is written once
    decided = [r.entry for r in rows if r.entry.event.value == "access_decision"]
    assert any(entry.object_id == MINE and entry.outcome.value == "allowed" for entry in decided)


async def test_a_picture_that_changed_on_disk_is_not_shown(office: Office) -> None:
    await office.platform.snapshots._files.write(office.pictures[MINE], tiny_jpeg(64, 48, b"forged"))
    answer = await office.call("able", "GET", f"/api/v1/snapshots/pictures/{office.pictures[MINE]}")
    assert answer.status_code == 422
    assert answer.json()["code"] == 42200


async def test_upgrades_are_listed_within_the_scope(office: Office) -> None:
    upgrades = office.platform.upgrades
    for code in (MINE, THEIRS):
        await upgrades.begin(ADMIN, code, f"{code}-session-0123456", "V2", "Tongshi")
    told = DeviceUpgradeResult(
        sn=1, device_id=MINE, session_id=f"{MINE}-session-0123456", result="OK", firmware="V2.1"
    )
    await upgrades.ended(told)
    await upgrades.failed(MINE, told.session_id, "late")  # an end is said once
    data = (await office.call("able", "GET", "/api/v1/upgrades")).json()["data"]
    assert data["total"] == 1
    assert [(r["DeviceID"], r["succeeded"], r["running"]) for r in data["list"]] == [(MINE, True, "V2.1")]
    assert (await office.call("bare", "GET", "/api/v1/upgrades")).json()["data"]["total"] == 0
    assert (await office.call("able", "GET", f"/api/v1/upgrades?deviceId={THEIRS}")).json()["data"][
        "total"
    ] == 0
    assert (await office.call("blind", "GET", "/api/v1/upgrades")).json()["code"] == 40301
