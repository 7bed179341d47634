"""Control and status of devices over REST: who may, what is counted, and what an absent device answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.ids import PlatformId
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
UNKNOWN = "31010400001319999999"
ADMIN = Subject(SubjectKind.USER, "0", "test")
QUESTIONS = (
    "presets",
    "home-position",
    "cruises",
    "cruises/0",
    "ptz-position",
    "storage",
    "config?types=BasicParam",
)


@dataclass
class Office:
    """A platform with devices of two districts; ``keys`` are callers by name."""

    platform: RestPlatform
    clock: ManualClock

    async def key(self, name: str, permissions: set[Permission], granted: set[Permission]) -> None:
        await self.platform.grants.put_key(name, name, name * 8, frozenset(permissions))
        if granted:
            subject = Grant(
                "", SubjectKind.API_KEY, name, frozenset(granted), ScopeKind.CIVIL_CODE, frozenset({"310104"})
            )
            await self.platform.grants.give(ADMIN, subject, Context(self.clock.at()))

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
    made = Office(await RestPlatform.open(HOME, database, clock), clock)
    await made.platform.platforms.put(Platform(PlatformId(ABROAD), "邻区", Relation.LATERAL))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    control = {
        Permission.STATUS_READ,
        Permission.DEVICE_COMMAND,
        Permission.DEVICE_CONFIG,
        Permission.DEVICE_MAINTAIN,
    }
    await made.key("able", control, control)
    await made.key("bare", control, set())
    await made.key("mild", control, {Permission.ARCHIVE_READ, Permission.DEVICE_COMMAND})
    return made


@pytest.mark.parametrize("path", QUESTIONS)
async def test_a_device_is_asked_by_those_granted_only(office: Office, path: str) -> None:
    for who, device, code in (
        ("able", MINE, 50301),
        ("able", THEIRS, 40401),
        ("able", UNKNOWN, 40401),
        ("bare", MINE, 40401),
        ("mild", MINE, 40303),
    ):
        answer = await office.call(who, "GET", f"/api/v1/devices/{device}/{path}")
        assert answer.json()["code"] == code, (who, device)


async def test_commands_need_their_own_right(office: Office) -> None:
    path = f"/api/v1/devices/{MINE}/commands"
    for who, command, code in (
        ("able", {"command": "record"}, 50301),
        ("able", {"command": "reboot"}, 50301),
        ("able", {"command": "track", "track": "manual"}, 40001),
        ("able", {"command": "formatCard"}, 40001),
        ("able", {"command": "upgrade", "firmware": "V2", "fileUrl": "", "manufacturer": "T"}, 40001),
        ("mild", {"command": "guard"}, 50301),
        ("mild", {"command": "reboot"}, 40303),
        ("bare", {"command": "guard"}, 40401),
        ("able", {"command": "selfDestruct"}, 40001),
    ):
        answer = await office.call(who, "POST", path, command)
        assert answer.json()["code"] == code, (who, command, answer.text)


async def test_configurations_are_checked_before_they_are_decided_upon(office: Office) -> None:
    path = f"/api/v1/devices/{MINE}/config"
    nine = [{"text": "a", "x": 0, "y": 0}] * 9
    osd = {"length": 1, "width": 1, "timeX": 0, "timeY": 0, "count": 9, "lines": nine}
    for who, settings, code in (
        ("able", {"frameMirror": 1}, 50301),
        ("able", {"frameMirror": 4}, 40001),
        ("able", {"osdConfig": osd}, 40001),
        ("able", {"videoParamOpt": {}}, 42203),
        ("able", {}, 40001),
        ("mild", {"frameMirror": 1}, 40303),
        ("bare", {"frameMirror": 1}, 40401),
    ):
        answer = await office.call(who, "POST", path, {"settings": settings})
        assert answer.json()["code"] == code, (who, settings, answer.text)
    answer = await office.call("able", "GET", f"{path}?types=Nonsense")
    assert answer.json()["data"]["field"] == "types"


async def test_status_tells_own_devices_and_says_what_is_unknown(office: Office) -> None:
    platform, at = office.platform, office.clock.at()
    second = MINE[:-1] + "2"
    await platform.db.write(devices.set_statuses, {MINE: True, second: False}, "register", at, "", HOME)
    body = {"deviceIds": [MINE, second, THEIRS, MINE[:-1] + "3"]}
    data = (await office.call("able", "POST", "/api/v1/video/devices/online", body)).json()["data"]
    assert [(row["DeviceID"], row["online"]) for row in data["list"]] == [
        (MINE, True),
        (second, False),
        (MINE[:-1] + "3", None),
    ]
    assert data["missing"] == [THEIRS]
    assert data["summary"] == {"total": 3, "online": 1, "offline": 1, "unknown": 1}
    assert [row["confidence"] for row in data["list"]] == ["high", "high", "low"]
    status = (await office.call("able", "POST", "/api/v1/video/devices/status", body)).json()["data"]
    assert [row["online"] for row in status["list"]] == [True, False, None]
    assert [(row["DeviceID"], row["code"]) for row in status["failed"]] == [(THEIRS, 40401)]


async def test_counting_by_division_stays_within_the_scope(office: Office) -> None:
    body = {"civilCodes": ["31"], "summaryOnly": True}
    answer = await office.call("able", "POST", "/api/v1/video/devices/online", body)
    assert answer.json()["data"]["summary"]["total"] == 3
    answer = await office.call("bare", "POST", "/api/v1/video/devices/online", body)
    assert answer.json()["data"]["summary"]["total"] == 0
    listed = (
        await office.call("able", "POST", "/api/v1/video/devices/online", {"civilCodes": ["310104"]})
    ).json()
    assert len(listed["data"]["list"]) == 3


async def test_devices_of_a_silent_platform_are_unknown_and_not_off(office: Office) -> None:
    platform, at = office.platform, office.clock.at()
    await office.key("wide", {Permission.STATUS_READ}, set())
    grant = Grant("", SubjectKind.API_KEY, "wide", frozenset({Permission.STATUS_READ}), ScopeKind.ALL)
    await platform.grants.give(ADMIN, grant, Context(at))
    await platform.db.write(devices.set_statuses, {THEIRS: True}, ABROAD, at, "", ABROAD)

    async def seen() -> tuple[bool | None, str, str]:
        body = {"deviceIds": [THEIRS]}
        answer = await office.call("wide", "POST", "/api/v1/video/devices/online", body)
        row = answer.json()["data"]["list"][0]
        return row["online"], row["source"], row["offlineReason"]

    await platform.platforms.note_online(ABROAD)
    assert await seen() == (True, "cascade", "")
    await platform.platforms.note_offline(ABROAD, "keepaliveTimeout")
    assert await seen() == (None, "cascade", "所属平台失联")


async def test_a_probe_of_an_absent_device_fails_by_name(office: Office) -> None:
    body = {"deviceIds": [MINE, THEIRS], "mode": "probe"}
    data = (await office.call("able", "POST", "/api/v1/video/devices/status", body)).json()["data"]
    assert data["list"] == []
    assert {row["DeviceID"]: row["code"] for row in data["failed"]} == {MINE: 50301, THEIRS: 40401}


async def test_one_of_ids_divisions_and_a_plan_is_asked_for(office: Office) -> None:
    for body, code in (
        ({}, 40001),
        ({"deviceIds": [MINE], "civilCodes": ["31"]}, 40001),
        ({"planCode": "1", "deviceIds": [MINE]}, 40001),
        ({"planCode": "1"}, 40402),
    ):
        answer = await office.call("able", "POST", "/api/v1/video/devices/online", body)
        assert answer.json()["code"] == code


async def test_a_filter_is_kept_by_administrators_and_checked(office: Office) -> None:
    path = f"/api/v1/platforms/{ABROAD}/control-filter"
    await office.key("boss", {Permission.PLATFORM_ADMIN}, set())
    assert (await office.call("able", "GET", path)).json()["code"] == 40301
    before = (await office.call("boss", "GET", path)).json()["data"]
    assert before["updatedAt"] is None
    assert "TeleBoot" not in [rule["command"] for rule in before["rules"]]
    span = {"field": "presetIndex", "low": 1, "high": 10}
    good = {"rules": [{"command": "PTZCmd", "ranges": [span]}], "dryRun": True}
    put = (await office.call("boss", "PUT", path, good)).json()["data"]
    assert (put["dryRun"], put["updatedBy"]) == (True, "boss")
    assert (await office.call("boss", "GET", path)).json()["data"]["rules"] == good["rules"]
    for bad in (
        {"rules": [{"command": "SelfDestruct"}]},
        {"rules": [{"command": "PTZCmd", "ranges": [{**span, "low": 11}]}]},
        {"rules": [{"command": "PTZCmd", "ranges": [{**span, "field": "mood"}]}]},
        {"rules": [{"command": "PTZCmd"}] * 65},
    ):
        assert (await office.call("boss", "PUT", path, bad)).json()["code"] == 40001
    assert (await office.call("boss", "DELETE", path)).json()["data"] == {"dropped": True}
    assert (await office.call("boss", "DELETE", path)).json()["data"] == {"dropped": False}
