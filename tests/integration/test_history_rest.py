"""Rows E.2-3 to E.2-5 and the search over REST, on both databases: contracts and who may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from tongshi.clock import BEIJING, ManualClock
from tongshi.errors import PeerTimeout
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.mansrtsp import Command, Method, Reply
from tongshi.protocols.gb28181.records import RecordFile, RecordType
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.viewing import history_http
from tongshi.resources.viewing.access import SharingGuard
from tongshi.resources.viewing.history import HistoryViewing
from tongshi.resources.viewing.media_ports import Datagrams, IngestFigures, Promise
from tongshi.resources.viewing.model import Codec, Timeouts, Transport
from tongshi.resources.viewing.ports import (
    ControlReply,
    DeviceFact,
    HistoryRequest,
    LiveCall,
    LiveRequest,
    Route,
)
from tongshi.resources.viewing.recordings import Found, Search
from tongshi.resources.viewing.service import Viewing
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import cookie_name
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import PASSWORD, RestPlatform, sample_archives
from tongshi.web.operations import AnyOperation

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS, UNKNOWN = "31010400001310000001", "31010600001310000001", "31010400001319999999"
ADMIN = Subject(SubjectKind.USER, "0", "test")
START = datetime(2026, 5, 19, 8, 0, tzinfo=BEIJING)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def recorded(begin: float, end: float, kind: RecordType = RecordType.TIME) -> RecordFile:
    return RecordFile(device_id=MINE, start=at(begin), end=at(end), kind=kind, file_size=9, location=MINE)


class Call:
    """An answered call for a recording."""

    def __init__(self) -> None:
        self.ssrc: int | None = 1
        self.media_host, self.media_port = "127.0.0.1", 1
        self.payload_types: tuple[RtpMap, ...] = ()
        self.ended, self.finished = asyncio.Event(), asyncio.Event()
        self.file_size: int | None = 4096
        self.commands: list[Command] = []
        self.reply = Reply(cseq=1)

    async def end(self) -> None: ...

    async def steer(self, command: Command) -> Reply:
        self.commands.append(command)
        return self.reply


class Far:
    """Devices that have recorded an hour, with a gap, and are called without a socket."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.requests: list[HistoryRequest] = []
        self.searches: list[Search] = []
        self.is_silent = False

    async def route(self, device_id: DeviceId) -> Route:
        return Route(device_id, Transport.UDP)

    async def open_live(self, request: LiveRequest, timeout_s: float) -> LiveCall:
        raise AssertionError("not used here")

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> Call:
        self.requests.append(request)
        self.calls.append(Call())
        return self.calls[-1]

    async def control(self, device_id: DeviceId, ptz_cmd: str, preset_name: str = "") -> ControlReply:
        raise AssertionError("not used here")

    async def ask_key_frame(self, device_id: DeviceId) -> None:
        raise AssertionError("not used here")

    async def search(self, search: Search) -> Found:
        self.searches.append(search)
        if self.is_silent:
            raise PeerTimeout("设备没有应答录像检索", code=50401)
        return Found((recorded(0, 30), recorded(40, 60, RecordType.ALARM)))


class Ingest:
    """A receiving end where media came."""

    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", 40_000
        self.first_packet, self.first_key_frame = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        self.first_packet.set()
        self.first_key_frame.set()

    lost_with_node = ""

    def viewer_url(self, delivery: object, ticket: str, *, is_sound_alone: bool = False) -> str | None:
        return None

    async def announce(self, ssrc: int) -> None: ...
    async def expect(self, promise: Promise) -> None: ...
    async def connect(self, host: str, port: int) -> None: ...
    async def figures(self) -> IngestFigures:
        return IngestFigures(9, 0, 0, 0, 0.0, Codec("h264", "", 640, 360))

    async def group_of_pictures(self) -> bytes:
        return b"gop"

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Callable[[str], None],
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        return 1

    async def detach(self, viewer: int) -> int:
        return 1000

    async def relay(self, *_: Any) -> tuple[int, int]:
        raise AssertionError("not used here")

    async def drop_relay(self, relay: int) -> None: ...
    async def close(self) -> None: ...


class Engine:
    async def open(
        self, stream: str, transport: Transport, device_id: str = "", *, is_local: bool = False
    ) -> Ingest:
        return Ingest()


class Facts:
    """The archive, as far as a decision asks it."""

    def __init__(self, db: Database, clock: ManualClock) -> None:
        self._devices = DeviceArchives(db, device_store, clock, HOME)

    async def fact(self, device_id: str) -> DeviceFact | None:
        found = await self._devices.find(device_id)
        return None if found is None else DeviceFact(found.item.civil_code, found.owner)


class House:
    """A platform over REST whose devices are doubles, and people of different rights."""

    def __init__(self, db: Database) -> None:
        self.db, self.clock, self.far = db, ManualClock(), Far()
        self.people: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.viewing: Viewing | None = None

    def operations(self, access: Access) -> list[AnyOperation]:
        guard = SharingGuard(access, Facts(self.db, self.clock), self.clock)
        self.viewing = Viewing(
            signalling=self.far,
            engine=Engine(),
            guard=guard,
            clock=self.clock,
            base_url=lambda: "http://media",
            timeouts=Timeouts(linger_s=0.01),
        )
        return history_http.operations(HistoryViewing(self.viewing, self.far, guard, self.clock))

    async def open(self) -> None:
        self.platform = await RestPlatform.open(HOME, self.db, self.clock, self.operations)
        for owner in (HOME, ABROAD):
            await self.db.write(device_store.upsert_many, sample_archives(owner, 1), owner, self.clock.at())
        may = frozenset({Permission.ARCHIVE_READ, Permission.VIDEO_PLAYBACK})
        for number, (name, roles, district) in enumerate(
            (
                ("operator", ["operator"], "310104"),
                ("abroad", ["operator"], "310106"),
                ("viewer", ["viewer"], ""),
                ("ungranted", ["operator"], ""),
                ("watcher", ["operator"], "310104"),
            ),
            1,
        ):
            await self.platform.accounts.create_user(ADMIN, name, PASSWORD, roles)
            if district:
                scope = frozenset({district})
                granted = may if name == "watcher" else may | {Permission.VIDEO_DOWNLOAD}
                grant = Grant("", SubjectKind.USER, str(number), granted, ScopeKind.CIVIL_CODE, scope)
                await self.platform.grants.give(ADMIN, grant, Context(self.clock.at()))
            answer = await self.post(None, "/api/v1/session", {"user": name, "password": PASSWORD})
            self.people[name] = (
                {"X-CSRF-Token": answer.json()["data"]["csrfToken"]},
                {cookie_name(HOME): answer.cookies[cookie_name(HOME)]},
            )

    async def post(self, who: str | None, path: str, body: dict[str, Any]) -> httpx2.Response:
        headers, cookies = self.people[who] if who else ({}, {})
        self.clock.advance(1)
        async with self.platform.http() as client:
            client.cookies.update(cookies)
            return await client.post(path, json=body, headers=headers)

    async def close(self) -> None:
        assert self.viewing is not None
        await self.viewing.stop_all()


@pytest.fixture
async def house(database: Database) -> Any:
    made = House(database)
    await made.open()
    yield made
    await made.close()


def hour(device: str = MINE, **more: Any) -> dict[str, Any]:
    return {
        "DeviceID": device,
        "startTime": "2026-05-19T08:00:00+08:00",
        "endTime": "2026-05-19 09:00:00",
        **more,
    }


SEARCH, OPEN = "/api/v1/video/recordings/query", "/api/v1/video/playback/url"
CONTROL, STOP = "/api/v1/video/playback/control", "/api/v1/video/playback/stop"


async def test_who_may_not_gets_nothing_and_no_device_is_asked(house: House) -> None:
    for path in (SEARCH, OPEN):
        answers = {
            who: await house.post(who, path, hour(device))
            for who, device in ((None, MINE), ("viewer", MINE), ("ungranted", MINE), ("abroad", MINE))
        }
        assert [answer.status_code for answer in answers.values()] == [401, 403, 404, 404]
        unknown = await house.post("operator", path, hour(UNKNOWN))
        theirs = await house.post("operator", path, hour(THEIRS))
        assert unknown.json()["code"] == theirs.json()["code"] == 40401
        assert unknown.json()["msg"] == theirs.json()["msg"]
    assert house.far.searches == []
    assert house.far.requests == []


async def test_a_search_tells_segments_gaps_and_coverage(house: House) -> None:
    answer = await house.post("operator", SEARCH, hour())
    data = answer.json()["data"]
    assert [one["type"] for one in data["segments"]] == ["time", "alarm"]
    assert data["segments"][0] == {
        "startTime": "2026-05-19T08:00:00+08:00",
        "endTime": "2026-05-19T08:30:00+08:00",
        "size": 9,
        "location": MINE,
        "source": "device",
        "type": "time",
        "locked": None,
    }
    assert data["gaps"] == [
        {"startTime": "2026-05-19T08:30:00+08:00", "endTime": "2026-05-19T08:40:00+08:00"}
    ]
    assert (data["totalSec"], data["coverage"], data["complete"]) == (3000.0, 0.833333, True)
    for wrong in (
        {"endTime": "2026-05-19 07:00:00"},
        {"endTime": "2026-08-19 07:00:00"},
        {"startTime": "yesterday"},
    ):
        answer = await house.post("operator", SEARCH, {**hour(), **wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, 40003)


async def test_a_recording_is_opened_steered_and_closed(house: House) -> None:
    answer = await house.post("operator", OPEN, hour(recordType="time", streamType=1))
    data = answer.json()["data"]
    assert answer.status_code == 200
    assert data["urls"][0]["url"].startswith("http://media/live/")
    assert (len(data["segments"]), data["coverage"], data["timelineProblem"]) == (2, 0.833333, None)
    (request,) = house.far.requests
    assert (request.window.start, request.window.kind, request.download_speed) == (
        START,
        RecordType.TIME,
        None,
    )
    (call,) = house.far.calls
    session = {"sessionId": data["sessionId"]}
    paused = await house.post("operator", CONTROL, {**session, "action": "pause", "clientSeq": 7})
    assert paused.json()["data"]["state"] == "paused"
    assert paused.json()["data"]["clientSeq"] == 7
    moved = await house.post(
        "operator", CONTROL, {**session, "action": "seek", "position": "2026-05-19T08:45:00"}
    )
    assert moved.json()["data"]["position"] == 2700.0
    assert moved.json()["data"]["positionTime"] == "2026-05-19T08:45:00+08:00"
    fast = await house.post("operator", CONTROL, {**session, "action": "scale", "scale": 4})
    assert fast.json()["data"]["scale"] == 4.0
    assert [command.method for command in call.commands] == [Method.PAUSE, Method.PLAY, Method.PLAY]
    for who in ("ungranted", "abroad"):
        stolen = await house.post(who, CONTROL, {**session, "action": "pause"})
        assert (stolen.status_code, stolen.json()["code"]) == (404, 40404)
        stolen = await house.post(who, STOP, session)
        assert (stolen.status_code, stolen.json()["code"]) == (404, 40404)
    closed = await house.post("operator", STOP, session)
    assert (closed.json()["data"]["closed"], closed.json()["data"]["downloadedBytes"]) == (True, None)
    again = await house.post("operator", STOP, session)
    assert not again.json()["data"]["closed"]
    late = await house.post("operator", CONTROL, {**session, "action": "pause"})
    assert (late.status_code, late.json()["code"]) == (410, 41002)


async def test_what_we_do_not_have_is_refused_with_what_we_have(house: House) -> None:
    coded = {"video": "h264"}
    for option in (
        {"sign": True},
        {"mode": "download", "speed": 4},
        {"mode": "download", "transcode": coded},
        {"transcode": {"video": "h265"}},
        {"transcode": coded},  # no decoder in this house
    ):
        refused = await house.post("operator", OPEN, hour(**option))
        assert (refused.status_code, refused.json()["code"]) == (422, 42203)
    data = (await house.post("operator", OPEN, hour())).json()["data"]
    session = {"sessionId": data["sessionId"]}
    step = await house.post("operator", CONTROL, {**session, "action": "step"})
    assert (step.status_code, step.json()["code"]) == (422, 42203)  # a node that holds nothing back
    assert step.json()["data"]["details"]["supported"] == ["play", "pause", "resume", "seek", "scale", "stop"]
    odd = await house.post("operator", CONTROL, {**session, "action": "scale", "scale": 3})
    assert 8.0 in odd.json()["data"]["details"]["supportedScales"]
    house.far.calls[0].reply = Reply(status=551, cseq=1)
    cannot = await house.post("operator", CONTROL, {**session, "action": "scale", "scale": 8})
    assert (cannot.status_code, cannot.json()["code"]) == (422, 42203)
    assert cannot.json()["data"]["details"]["supportedScales"]


async def test_who_may_play_back_may_not_therefore_download(house: House) -> None:
    asked = hour(mode="download", speed=4)
    refused = await house.post("watcher", OPEN, asked)
    assert (refused.status_code, refused.json()["code"]) == (403, 40303)
    unknown = await house.post("watcher", OPEN, hour(THEIRS, mode="download"))
    assert (unknown.status_code, unknown.json()["code"]) == (404, 40401)
    assert house.far.requests == []
    slow = await house.post("operator", OPEN, hour(speed=4))
    assert slow.json()["code"] == 40001


async def test_an_empty_hour_names_the_nearest_recordings(house: House) -> None:
    body = hour(startTime="2026-05-19 08:31:00", endTime="2026-05-19 08:39:00")
    answer = await house.post("operator", OPEN, body)
    assert (answer.status_code, answer.json()["code"]) == (404, 40405)
    details = answer.json()["data"]["details"]
    assert details["earlier"]["endTime"] == "2026-05-19T08:30:00+08:00"
    assert house.far.calls == []


async def test_a_device_that_cannot_be_searched_is_played_and_the_answer_says_so(house: House) -> None:
    house.far.is_silent = True
    data = (await house.post("operator", OPEN, hour())).json()["data"]
    assert (data["segments"], data["coverage"], data["complete"]) == ([], None, False)
    assert data["timelineProblem"] == {"code": 50401, "message": "设备没有应答录像检索"}
    assert (await house.post("operator", SEARCH, hour())).json()["code"] == 50401
