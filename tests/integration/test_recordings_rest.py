"""Rules, space and segments of own recordings over REST, on both databases: who may, and what is audited."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.recordings import http as recordings_http
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import (
    GapReason,
    KeyFrame,
    RecordingGap,
    Rule,
    Segment,
    SegmentState,
    Wanted,
)
from tongshi.resources.recordings.record import RecordingRecord
from tongshi.resources.recordings.service import RecordingDesk
from tongshi.sharing.model import Context, Grant, Hours, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS, UNKNOWN = "31010400001310000001", "31010600001310000001", "31010400001319999999"
ADMIN = Subject(SubjectKind.USER, "0", "test")
SECRET = "k" * 32
BASE = "/api/v1/recordings"
RULE = {"deviceId": MINE, "retentionDays": 7, "quotaBytes": 1000, "hours": "08:00-18:00"}
ALL_TIME = "startTime=2025-01-01T00:00:00Z&endTime=2027-01-01T00:00:00Z"


@dataclass
class Archive:
    platform: RestPlatform
    clock: ManualClock
    record: RecordingRecord
    changes: list[None]

    async def call(self, who: str, method: str, path: str, body: object = None) -> Any:
        self.clock.advance(1)
        bare, _, query = f"{BASE}{path}".partition("?")
        content = b"" if body is None else msgspec.json.encode(body)
        headers = Signer(who, SECRET, HOME, self.clock).headers(method, bare, query, content)
        if content:
            headers["content-type"] = "application/json"
        async with self.platform.http() as client:
            return await client.request(method, f"{BASE}{path}", headers=headers, content=content)

    async def segment(self, device_id: str, minutes: float, **more: Any) -> Segment:
        start = self.clock.at() + timedelta(minutes=minutes)
        values: dict[str, Any] = {
            "id": f"{device_id[:6]}-{minutes}",
            "rule_id": "r",
            "device_id": device_id,
            "stream_type": 0,
            "start": start,
            "end": start + timedelta(minutes=5),
            "expires_at": start + timedelta(days=1),
            "size_bytes": 100,
            "state": SegmentState.WHOLE,
            "key_frames": (KeyFrame(0, 0), KeyFrame(40, 2_000)),
            **more,
        }
        made = Segment(**values)
        await self.record.add(made)
        return made


@pytest.fixture
async def archive(database: Database) -> Archive:
    clock = ManualClock()
    changes: list[None] = []
    record = RecordingRecord(database, clock, HOME)

    async def free_bytes() -> int:
        return 5_000

    desk = RecordingDesk(database, free_bytes, lambda: changes.append(None))
    platform = await RestPlatform.open(
        HOME, database, clock, more=lambda _: recordings_http.operations(desk, lambda: [])
    )
    await platform.grants.put_key("root", "root", SECRET, frozenset(Permission))
    for who in ("district", "one", "ungranted"):
        await platform.grants.put_key(who, who, SECRET, {Permission.VIDEO_PLAYBACK})
    await platform.grants.put_key("powerless", "powerless", SECRET, {Permission.ARCHIVE_READ})
    scopes = {
        "root": (ScopeKind.ALL, frozenset[str]()),
        "district": (ScopeKind.CIVIL_CODE, frozenset({"310104"})),
        "one": (ScopeKind.DEVICE, frozenset({THEIRS})),
    }
    for who, (kind, values) in scopes.items():
        actions = frozenset({Permission.VIDEO_PLAYBACK})
        grant = Grant("", SubjectKind.API_KEY, who, actions, kind, values)
        await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 2), owner, clock.at())
    return Archive(platform, clock, record, changes)


async def test_a_rule_is_made_changed_and_dropped_with_its_record(archive: Archive) -> None:
    made = await archive.call("root", "POST", "/rules", RULE)
    assert made.status_code == 201, made.text
    rule_id = made.json()["data"]["ruleId"]
    changed = await archive.call("root", "PUT", f"/rules/{rule_id}", {**RULE, "enabled": False})
    assert changed.json()["data"]["enabled"] is False
    await archive.segment(MINE, 0, rule_id=rule_id)
    (row,) = (await archive.call("root", "GET", "/rules")).json()["data"]["rules"]
    assert (row["deviceId"], row["hours"], row["segments"], row["sizeBytes"]) == (MINE, "08:00-18:00", 1, 100)
    assert row["updatedBy"] == "root"
    assert (await archive.call("root", "DELETE", f"/rules/{rule_id}")).status_code == 200
    assert (await archive.call("root", "DELETE", f"/rules/{rule_id}")).status_code == 404
    written, _ = await archive.platform.db.read(audit.page, 1, 10, event=AuditTag.RECORDING_RULE)
    assert {record.entry.object_id for record in written if record.entry.object_kind == "recording_rule"} == {
        rule_id
    }
    assert len(archive.changes) == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**RULE, "civilCode": "310104"}, 400),
        ({"retentionDays": 7}, 400),
        ({**RULE, "hours": "8-18"}, 400),
        ({**RULE, "retentionDays": 0}, 400),
        ({**RULE, "deviceId": UNKNOWN}, 404),
    ],
)
async def test_a_rule_that_cannot_be_is_refused(archive: Archive, body: object, status: int) -> None:
    assert (await archive.call("root", "POST", "/rules", body)).status_code == status


async def test_administration_is_for_administrators(archive: Archive) -> None:
    hold = {
        "deviceId": MINE,
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-02T00:00:00Z",
        "reason": "案件",
    }
    for who in ("district", "powerless"):
        for method, path, body in (
            ("GET", "/rules", None),
            ("POST", "/rules", RULE),
            ("GET", "/space", None),
            ("POST", "/hold", hold),
        ):
            assert (await archive.call(who, method, path, body)).status_code == 403, (who, path)
    assert (await archive.call("powerless", "GET", f"/segments?{ALL_TIME}")).status_code == 403


async def test_everybody_sees_segments_and_gaps_of_their_devices_and_their_number(archive: Archive) -> None:
    for device_id in (MINE, THEIRS):
        await archive.segment(device_id, 0)
        gap = RecordingGap(device_id, device_id, 0, archive.clock.at(), None, GapReason.OFFLINE, "设备不在线")
        await archive.platform.db.write(store.add_gap, gap)
    seen = {}
    for who in ("root", "district", "one", "ungranted"):
        data = (await archive.call(who, "GET", f"/segments?{ALL_TIME}")).json()["data"]
        seen[who] = (
            {row["deviceId"] for row in data["segments"]},
            data["total"],
            {row["deviceId"] for row in data["gaps"]},
        )
    assert seen == {
        "root": ({MINE, THEIRS}, 2, {MINE, THEIRS}),
        "district": ({MINE}, 1, {MINE}),
        "one": ({THEIRS}, 1, {THEIRS}),
        "ungranted": (set(), 0, set()),
    }
    narrowed = await archive.call("district", "GET", f"/segments?{ALL_TIME}&deviceId={THEIRS}")
    assert narrowed.json()["data"]["total"] == 0
    deep = await archive.call("root", "GET", f"/segments?{ALL_TIME}&pageNo=101&pageSize=100")
    assert (deep.status_code, deep.json()["code"]) == (400, 40006)


async def test_space_says_what_is_taken_held_and_left(archive: Archive) -> None:
    await archive.segment(MINE, 0)
    await archive.segment(MINE, 10)
    hold = {
        "deviceId": MINE,
        "startTime": archive.clock.at().isoformat(),
        "endTime": (archive.clock.at() + timedelta(minutes=1)).isoformat(),
        "reason": "案件",
    }
    assert (await archive.call("root", "POST", "/hold", hold)).json()["data"] == {"changed": 1}
    space = (await archive.call("root", "GET", "/space")).json()["data"]
    assert (space["segments"], space["sizeBytes"], space["heldBytes"], space["freeBytes"]) == (
        2,
        200,
        100,
        5_000,
    )
    (written,), _ = await archive.platform.db.read(audit.page, 1, 1, event=AuditTag.RECORDING_HOLD)
    assert (written.entry.object_id, written.entry.details["segments"]) == (MINE, 1)


async def test_a_device_rule_goes_before_its_division_and_hours_are_kept(archive: Archive) -> None:
    at = archive.clock.at()  # eight in the morning in Beijing
    write = archive.platform.db.write
    await write(store.put_rule, Rule("a" * 16, civil_code="310104", retention_days=1), at)
    await write(store.put_rule, Rule("b" * 16, device_id=MINE, hours=Hours.parse("09:00-10:00")), at)
    wanted = {one.device_id: one.rule.id for one in await archive.record.wanted()}
    assert wanted == {"31010400001310000002": "a" * 16}
    archive.clock.advance(3_600)
    wanted = {one.device_id: one.rule.id for one in await archive.record.wanted()}
    assert wanted == {MINE: "b" * 16, "31010400001310000002": "a" * 16}


async def test_age_and_quota_take_the_oldest_and_leave_what_is_held(archive: Archive) -> None:
    at = archive.clock.at()
    await archive.platform.db.write(store.put_rule, Rule("c" * 16, device_id=MINE, quota_bytes=250), at)
    old = await archive.segment(MINE, -60, expires_at=at - timedelta(seconds=1))
    first = await archive.segment(MINE, 0, rule_id="c" * 16)
    for minutes in (10, 20, 30):
        await archive.segment(MINE, minutes, rule_id="c" * 16)
    between = (first.start, first.start + timedelta(seconds=1))
    await archive.platform.db.write(store.hold, MINE, between, "案件", is_held=True)
    doomed = await archive.record.condemn()
    assert [one.id for one in doomed] == [old.id, f"{MINE[:6]}-10", f"{MINE[:6]}-20"]
    assert await archive.record.condemn() == []
    assert {one.id for one in await archive.record.left_over()} == {one.id for one in doomed}
    await archive.record.deleted(doomed)
    left = await archive.record.segments(MINE, at - timedelta(days=1), at + timedelta(days=1))
    assert [one.id for one in left] == [first.id, f"{MINE[:6]}-30"]
    assert left[0].key_frames == (KeyFrame(0, 0), KeyFrame(40, 2_000))


async def test_a_gap_is_one_row_until_its_reason_changes_or_it_ends(archive: Archive) -> None:
    for reason in (GapReason.OFFLINE, GapReason.OFFLINE, GapReason.NO_MEDIA):
        await archive.record.missing(MINE, 0, reason, "")
        archive.clock.advance(10)
    await archive.segment(MINE, 0)
    data = (await archive.call("root", "GET", f"/segments?{ALL_TIME}")).json()["data"]
    assert [(gap["reason"], gap["endTime"] is not None) for gap in data["gaps"]] == [
        ("noMedia", True),
        ("offline", True),
    ]


async def test_a_stop_of_the_platform_is_a_gap_since_the_last_segment(archive: Archive) -> None:
    last = await archive.segment(MINE, -60)
    rule = Rule("d" * 16, device_id=MINE)
    await archive.record.note_stopped([Wanted(MINE, 0, rule), Wanted(THEIRS, 0, rule)])
    await archive.record.note_stopped([Wanted(MINE, 0, rule)])
    data = (await archive.call("root", "GET", f"/segments?{ALL_TIME}")).json()["data"]
    (gap,) = data["gaps"]
    assert (gap["reason"], gap["endTime"]) == ("stopped", None)
    assert datetime.fromisoformat(gap["startTime"]).astimezone(UTC) == last.end
