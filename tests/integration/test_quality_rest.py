"""Row E.2-11 over REST: who sees the figures of which running stream, on both database engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tongshi.clock import ManualClock
from tongshi.ids import device_id
from tongshi.resources.devices import store as devices
from tongshi.resources.plans.members import Members
from tongshi.resources.status import store as status_store
from tongshi.resources.status.service import DeviceStatuses
from tongshi.resources.viewing import quality_http
from tongshi.resources.viewing.model import Codec, Coding, History, Quality, Step, StreamKey, StreamType
from tongshi.resources.viewing.quality import QualityMonitor
from tongshi.resources.viewing.recordings import Window
from tongshi.resources.viewing.streams import SharedStream
from tongshi.sharing.gate import cookie_name
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import PASSWORD, RestPlatform, sample_archives
from tongshi.testing.silent_devices import SilentDevices

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, SECOND, THEIRS = "31010400001310000001", "31010400001310000002", "31010600001310000001"
PATH = "/api/v1/video/quality/query"
ADMIN = Subject(SubjectKind.USER, "0", "test")
GOOD = Quality(5.2, 2011.4, 25.0, 0.001, 1.5, 3.0, None, 2000.0, 4, 0)


@dataclass
class Town:
    platform: RestPlatform
    streams: list[SharedStream]
    clock: ManualClock
    people: dict[str, tuple[dict[str, str], dict[str, str]]]

    async def ask(self, who: str | None, **body: Any) -> httpx2.Response:
        headers, cookies = self.people[who] if who else ({}, {})
        async with self.platform.http() as client:
            client.cookies.update(cookies)
            return await client.post(PATH, json=body, headers=headers)

    def run(
        self, device: str, quality: Quality | None = GOOD, history: History | None = None
    ) -> SharedStream:
        stream = SharedStream(StreamKey(device_id(device), StreamType.MAIN, history), self.clock.now())
        stream.reached[Step.INVITED] = self.clock.now()
        stream.codec, stream.quality = Codec("h264", "g711a", 1920, 1080), quality
        stream.holders[1] = None
        self.streams.append(stream)
        return stream


@pytest.fixture
async def town(database: Database) -> Town:
    clock = ManualClock()
    streams: list[SharedStream] = []
    statuses = DeviceStatuses(database, status_store, clock, HOME, Members(), SilentDevices())
    monitor = QualityMonitor(lambda: streams, statuses.visible, clock)
    platform = await RestPlatform.open(
        HOME, database, clock, more=lambda access: quality_http.operations(monitor, access, clock)
    )
    code = await platform.accounts.create_setup_code()
    made = Town(platform, streams, clock, {})
    async with platform.http() as client:
        body = {"code": code, "user": "admin", "password": PASSWORD}
        assert (await client.post("/api/v1/setup", json=body)).status_code == 201
    for name, roles in (("viewer", ["viewer"]), ("ungranted", ["viewer"]), ("powerless", [])):
        await platform.accounts.create_user(ADMIN, name, PASSWORD, roles)
    grant = Grant(
        "",
        SubjectKind.USER,
        "2",
        frozenset({Permission.STATUS_READ}),
        ScopeKind.CIVIL_CODE,
        frozenset({"310104"}),
    )
    await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for name in ("admin", "viewer", "ungranted", "powerless"):
        async with platform.http() as client:
            answer = await client.post("/api/v1/session", json={"user": name, "password": PASSWORD})
        token = answer.cookies[cookie_name(HOME)]
        made.people[name] = (
            {"X-CSRF-Token": answer.json()["data"]["csrfToken"]},
            {cookie_name(HOME): token},
        )
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    return made


def ids(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["total"] == len(data["list"])
    return [row["DeviceID"] for row in data["list"]]


async def test_the_figures_of_running_streams_are_told_to_those_granted(town: Town) -> None:
    for device in (THEIRS, MINE, SECOND):
        town.run(device)
    assert ids(await town.ask("admin")) == [MINE, SECOND, THEIRS]
    assert ids(await town.ask("viewer")) == [MINE, SECOND]
    assert ids(await town.ask("viewer", deviceIds=[THEIRS, MINE, "31010400001319999999"])) == [MINE]
    assert ids(await town.ask("ungranted")) == []
    assert (await town.ask("powerless")).json()["code"] == 40301
    assert (await town.ask(None)).status_code == 401


async def test_a_line_says_what_runs_and_how_well(town: Town) -> None:
    town.run(MINE)
    town.clock.advance(7)
    data = (await town.ask("viewer")).json()["data"]
    (row,) = data["list"]
    assert (row["kind"], row["holders"], row["ageSec"], row["streamType"]) == ("live", 1, 7.0, 0)
    assert row["codec"]["width"] == 1920
    assert row["quality"] == {
        "windowSec": 5.2,
        "bitrateKbps": 2011.4,
        "frameRate": 25.0,
        "lossRate": 0.001,
        "jitterMs": 1.5,
        "delayMs": 3.0,
        "reportDelayMs": None,
        "keyIntervalMs": 2000.0,
        "lostPackets": 4,
        "kernelDrops": 0,
    }
    assert data["sampledAt"]


async def test_what_is_coded_anew_says_how_its_coder_stands(town: Town) -> None:
    town.run(MINE)
    town.run(MINE).coding = Coding(90, 80, skipped=7, thinned=9, undecoded=1, speed=0.7, queued_bytes=512)
    plain, coded = sorted(
        (await town.ask("viewer")).json()["data"]["list"], key=lambda one: bool(one["coding"])
    )
    assert plain["coding"] is None
    words = coded["coding"].pop("trouble")
    assert coded["coding"] == {
        "picturesIn": 90,
        "picturesOut": 80,
        "skipped": 7,
        "thinned": 9,
        "undecoded": 1,
        "speed": 0.7,
        "queuedBytes": 512,
    }
    assert words.startswith("转码跟不上（0.70 倍速），已跳过 7 帧")


async def test_what_is_not_measured_yet_is_null_and_not_zero(town: Town) -> None:
    window = Window(town.clock.at(), town.clock.at())
    town.run(MINE, quality=None, history=History(window, "somebody", 4))
    (row,) = (await town.ask("viewer")).json()["data"]["list"]
    assert (row["quality"], row["kind"], row["step"]) == (None, "download", "answered")


async def test_pages_and_divisions_are_taken_after_the_scope(town: Town) -> None:
    for device in (MINE, SECOND, THEIRS):
        town.run(device)
    page = (await town.ask("viewer", pageNo=2, pageSize=1)).json()["data"]
    assert [row["DeviceID"] for row in page["list"]] == [SECOND]
    assert (page["total"], page["pageNo"]) == (2, 2)
    assert ids(await town.ask("admin", civilCodes=["310106"])) == [THEIRS]
    assert ids(await town.ask("viewer", civilCodes=["310106"])) == []


@pytest.mark.parametrize("body", [{"level": "kpi"}, {"level": "device"}, {"indicators": ["C5"]}])
async def test_indicators_over_devices_and_time_are_refused_aloud(town: Town, body: dict[str, Any]) -> None:
    answer = await town.ask("viewer", **body)
    assert (answer.status_code, answer.json()["code"]) == (422, 42203)
    assert answer.json()["data"]["details"]["supported"] == ["sample"]
