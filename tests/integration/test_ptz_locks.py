"""Locks of heads: priority, preemption, expiry, force, and that both sides are told; on both databases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.recorded_archive import RecordedArchive
from tongshi.resources.devices import store as devices
from tongshi.resources.viewing import lock_store
from tongshi.resources.viewing.access import SharingGuard
from tongshi.resources.viewing.locks import PtzLocks
from tongshi.sharing.gate import cookie_name
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import DEVICE_ACTIONS, Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import PASSWORD, RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
ADMIN = Subject(SubjectKind.USER, "0", "test")
LOCK, UNLOCK = "/api/v1/video/ptz/lock", "/api/v1/video/ptz/unlock"


@dataclass
class Room:
    """People with cookies: two operators and an administrator."""

    platform: RestPlatform
    clock: ManualClock
    people: dict[str, tuple[dict[str, str], dict[str, str]]]

    async def call(self, who: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        headers, cookies = self.people[who]
        async with self.platform.http() as client:
            client.cookies.update(cookies)
            return await client.request(method, path, json=body, headers=headers)

    def locks(self) -> PtzLocks:
        """The same locks as a service, for what has no operation."""
        archive = RecordedArchive(self.platform.devices, self.platform.access, self.clock, HOME)
        guard = SharingGuard(self.platform.access, archive, self.clock)
        return PtzLocks(self.platform.db, lock_store, guard, self.clock)

    async def lock(self, who: str, **body: Any) -> dict[str, Any]:
        answer = await self.call(who, "POST", LOCK, {"DeviceID": MINE, **body})
        told: dict[str, Any] = answer.json()
        return told


@pytest.fixture
async def room(database: Database) -> Room:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    made = Room(platform, clock, {})
    roles = {"li": ["operator"], "wang": ["operator"], "chief": ["admin"], "guest": ["viewer"]}
    for number, (name, role) in enumerate(roles.items(), 1):
        await platform.accounts.create_user(ADMIN, name, PASSWORD, role)
        actions = DEVICE_ACTIONS if name == "chief" else frozenset({Permission.PTZ_CONTROL})
        grant = Grant("", SubjectKind.USER, str(number), actions, ScopeKind.CIVIL_CODE, frozenset({"310104"}))
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
        signed = await platform.accounts.sign_in(name, PASSWORD, "127.0.0.1")
        made.people[name] = ({"X-CSRF-Token": signed.csrf_token}, {cookie_name(HOME): signed.token})
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 1), owner, clock.at())
    return made


async def test_an_equal_priority_waits_and_is_told_who_holds(room: Room) -> None:
    mine = await room.lock("li", reason="跟踪")
    assert mine["code"] == 0
    refused = await room.lock("wang", preempt=True)
    assert refused["code"] == 40903
    assert refused["data"]["details"]["holder"]["name"] == "li"
    again = await room.lock("li", ttlSec=600)
    assert again["data"]["lockId"] == mine["data"]["lockId"]


async def test_a_higher_priority_takes_over_when_it_says_so_and_both_are_told(room: Room) -> None:
    mine = (await room.lock("li"))["data"]
    assert (await room.lock("chief"))["code"] == 40903
    taken = (await room.lock("chief", preempt=True))["data"]
    assert taken["preempted"]["name"] == "li"
    told = (await room.call("li", "GET", "/api/v1/video/ptz/locks")).json()["data"]
    assert told["list"] == []
    assert [(lost["lockId"], lost["endedBy"], lost["by"]) for lost in told["lost"]] == [
        (mine["lockId"], "preempted", "chief")
    ]
    renewed = await room.lock("li", lockId=mine["lockId"])
    assert renewed["code"] == 40903
    assert renewed["data"]["details"]["endedBy"] == "preempted"


async def test_a_reserved_lock_needs_its_right_and_gives_way_to_nobody(room: Room) -> None:
    assert (await room.lock("li", level="reserved"))["code"] == 40301
    assert (await room.lock("chief", level="reserved"))["code"] == 0
    await room.platform.accounts.create_user(ADMIN, "second", PASSWORD, ["admin"])
    refused = await room.lock("li", preempt=True)
    assert refused["code"] == 40903


async def test_a_lock_ends_with_its_time_and_with_signing_out(room: Room) -> None:
    await room.lock("li", ttlSec=15)
    room.clock.advance(16)
    assert (await room.lock("wang"))["code"] == 0
    assert (await room.call("wang", "DELETE", "/api/v1/session")).status_code == 200
    assert (await room.lock("li"))["code"] == 0


async def test_only_the_holder_unlocks_unless_by_force_with_a_reason(room: Room) -> None:
    mine = (await room.lock("li"))["data"]
    by_id = {"lockId": mine["lockId"]}
    for who, body, code in (
        ("wang", by_id, 40303),
        ("wang", {**by_id, "force": True, "reason": "x"}, 40301),
        ("chief", {**by_id, "force": True}, 40001),
        ("chief", {}, 40001),
        ("guest", by_id, 40301),
    ):
        answer = await room.call(who, "POST", UNLOCK, body)
        assert answer.json()["code"] == code, (who, body, answer.text)
    forced = await room.call("chief", "POST", UNLOCK, {**by_id, "force": True, "reason": "处置突发事件"})
    assert forced.json()["data"] == {
        "released": True,
        "previousHolder": {"userId": "1", "name": "li", "platformId": "", "priority": 100},
    }
    again = await room.call("li", "POST", UNLOCK, {"DeviceID": MINE})
    assert again.json()["data"] == {"released": False, "previousHolder": None}


async def test_another_district_s_camera_looks_unknown_locked_or_not(room: Room) -> None:
    for path, body in ((LOCK, {"DeviceID": THEIRS}), (UNLOCK, {"DeviceID": THEIRS})):
        answer = await room.call("li", "POST", path, body)
        assert answer.json()["code"] == 40401


async def test_a_held_head_is_turned_by_its_holder_only(room: Room) -> None:
    """The check itself, as control asks it: RestPlatform has no cameras to turn."""
    mine = (await room.lock("li"))["data"]
    locks = room.locks()
    li, wang = (Subject(SubjectKind.USER, number, name) for number, name in (("1", "li"), ("2", "wang")))
    await locks.check(li, MINE, mine["lockId"])
    for who, lock_id in ((wang, ""), (li, "another")):
        with pytest.raises(Exception, match="锁") as refusal:
            await locks.check(who, MINE, lock_id)
        assert refusal.value.code == 40903  # type: ignore[attr-defined]
    room.clock.advance(timedelta(minutes=10).total_seconds())
    await locks.check(wang, MINE)


async def test_a_platform_above_holds_a_head_while_it_controls_it(room: Room) -> None:
    locks, upper = room.locks(), Subject(SubjectKind.PLATFORM, "31000000002000000001", "市级平台")
    await room.lock("li")
    await locks.hold_for_platform(upper, MINE)  # above an operator
    refused = await room.lock("wang", preempt=True)
    assert refused["data"]["details"]["holder"]["platformId"] == upper.id
    assert (await room.lock("chief", preempt=True))["code"] == 0
    with pytest.raises(Exception, match="锁定") as refusal:
        await locks.hold_for_platform(upper, MINE)
    assert refusal.value.sip_status == 486  # type: ignore[attr-defined]
