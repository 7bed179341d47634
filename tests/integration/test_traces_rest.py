"""Timelines over REST on both engines: who sees which, what a file holds, what is recorded."""

from __future__ import annotations

import struct
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.protocols.sip.message import Remote
from tongshi.resources.devices import store as devices
from tongshi.resources.traces.model import TraceKind
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
BASE = "/api/v1/signalling/traces"
ACTIONS = frozenset({Permission.SIGNALLING_READ, Permission.SIGNALLING_CAPTURE})
BOSS = Subject(SubjectKind.USER, "0", "test")
PEER = Remote("10.0.0.2", 5060, "udp")


class Town:
    """A platform whose recorder heard of devices of two districts, and keys of different rights."""

    def __init__(self, platform: RestPlatform, clock: ManualClock) -> None:
        self.platform = platform
        self.clock = clock

    async def get(self, who: str, path: str) -> httpx2.Response:
        self.clock.advance(1)
        path, _, query = path.partition("?")
        headers = Signer(who, who[0] * 32, HOME, self.clock).headers("GET", path, query, b"")
        async with self.platform.http() as client:
            return await client.get(f"{path}?{query}" if query else path, headers=headers)

    async def rows(self, who: str, query: str = "") -> list[dict[str, Any]]:
        answer = await self.get(who, f"{BASE}{query}")
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        rows: list[dict[str, Any]] = data["list"]
        assert data["total"] >= len(rows)
        return rows

    def hear(self, direction: str, method: str, device: str, call_id: str, extra: str = "") -> None:
        """One request about a device."""
        self.clock.advance(1)
        self.platform.timeline(
            direction,
            PEER,
            (
                f"{method} sip:{device if direction == 'out' else HOME}@10.0.0.2 SIP/2.0\r\n"
                f"From: <sip:{device}@3101>;tag=1\r\nTo: <sip:{HOME}@3101>\r\nCall-ID: {call_id}\r\n"
                f"CSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
            ).encode(),
        )


@pytest.fixture
async def town(database: Database) -> Town:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    made = Town(platform, clock)
    rights: dict[str, frozenset[Permission]] = {
        "everything": ROLES["admin"][1],
        "granted": ACTIONS,
        "reader": frozenset({Permission.SIGNALLING_READ}),
        "ungranted": ACTIONS,
        "viewer": ROLES["viewer"][1],
    }
    for name, permissions in rights.items():
        await platform.grants.put_key(name, name, name[0] * 32, permissions)
    for name, kind, values in (
        ("everything", ScopeKind.ALL, frozenset[str]()),
        ("granted", ScopeKind.CIVIL_CODE, frozenset({"310104"})),
        ("reader", ScopeKind.DEVICE, frozenset({MINE})),
    ):
        grant = Grant("", SubjectKind.API_KEY, name, ACTIONS, kind, values)
        await platform.grants.give(BOSS, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    made.hear("out", "INVITE", MINE, "mine")
    made.hear("out", "INVITE", THEIRS, "theirs")
    secret = 'Authorization: Digest username="x", nonce="topsecret", response="topsecret"\r\n'
    made.hear("in", "REGISTER", MINE, "register", secret)
    made.hear("in", "REGISTER", "39999999991320000001", "stranger")
    return made


async def test_each_caller_sees_and_counts_the_sessions_of_what_is_granted(town: Town) -> None:
    seen = {
        who: sorted((row["DeviceID"], row["kind"]) for row in await town.rows(who))
        for who in ("everything", "granted", "reader", "ungranted")
    }
    mine = [(MINE, "call"), (MINE, "registration")]
    assert seen["granted"] == seen["reader"] == mine
    assert seen["ungranted"] == []
    assert len(seen["everything"]) == 4
    answer = await town.get("granted", f"{BASE}?pageSize=1")
    assert answer.json()["data"]["total"] == 2
    assert (await town.get("viewer", BASE)).status_code == 403


async def test_a_list_is_narrowed_by_device_kind_state_peer_and_time(town: Town) -> None:
    assert {row["kind"] for row in await town.rows("everything", f"?DeviceID={MINE}")} == {
        "call",
        "registration",
    }
    assert [row["DeviceID"] for row in await town.rows("everything", "?kind=call")] == [THEIRS, MINE]
    assert await town.rows("everything", f"?peerId={ABROAD}") == []
    assert {row["state"] for row in await town.rows("everything", "?state=running")} == {"running"}
    town.clock.advance(60)
    failed = await town.rows("everything", "?state=failed&kind=call")
    assert [(row["outcome"], row["failedStep"]) for row in failed] == [("对端没有应答", "等待应答")] * 2
    later = (town.clock.at() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await town.rows("everything", f"?from={later}") == []
    assert len(await town.rows("everything", f"?to={later}")) == 4


@pytest.mark.parametrize(
    "query", ["?kind=nonsense", "?from=yesterday", "?from=2026-01-01T00:00:00", "?pageSize=501", "?who=me",
              "?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"],
)  # fmt: skip
async def test_a_question_that_cannot_be_understood_is_refused(town: Town, query: str) -> None:
    assert (await town.get("everything", f"{BASE}{query}")).status_code == 400


async def test_a_timeline_is_read_in_words_and_holds_no_secret(town: Town) -> None:
    (row,) = await town.rows("granted", "?kind=registration")
    answer = await town.get("granted", f"{BASE}/{row['traceId']}")
    (step,) = answer.json()["data"]["steps"]
    assert (step["direction"], step["meaning"], step["remote"]) == (
        "in",
        "注册请求（携带认证）",
        "10.0.0.2:5060",
    )
    assert "topsecret" not in answer.text
    assert 'username="x"' in step["text"]


async def test_unknown_and_not_permitted_look_the_same(town: Town) -> None:
    rows = await town.rows("everything", "?kind=call")
    theirs = next(row["traceId"] for row in rows if row["DeviceID"] == THEIRS)
    for path in ("", "/capture"):
        answers = [await town.get("granted", f"{BASE}/{one}{path}") for one in (theirs, "0" * 16, "x")]
        assert {(one.status_code, one.json()["code"], one.json()["msg"]) for one in answers} == {
            (404, 40401, answers[0].json()["msg"])
        }


async def test_a_capture_is_a_file_with_a_right_of_its_own_and_a_record(town: Town) -> None:
    (row,) = await town.rows("granted", "?kind=registration")
    path = f"{BASE}/{row['traceId']}/capture"
    assert (await town.get("reader", path)).status_code == 403
    answer = await town.get("granted", path)
    assert answer.headers["content-type"] == "application/vnd.tcpdump.pcap"
    assert answer.headers["content-disposition"] == f'attachment; filename="tongshi-{row["traceId"]}.pcap"'
    magic, *_, link = struct.unpack("<IHHiIII", answer.content[:24])
    assert (magic, link) == (0xA1B2C3D4, 101)
    assert b"topsecret" not in answer.content
    assert b"REGISTER sip:" in answer.content
    audit = await town.get("everything", "/api/v1/audit?event=signalling_capture")
    done = [entry for entry in audit.json()["data"]["list"] if entry["outcome"] == "done"]
    assert [(entry["objectId"], entry["subjectName"]) for entry in done] == [(MINE, "granted")]


async def test_the_store_says_how_much_it_keeps(town: Town) -> None:
    data = (await town.get("reader", "/api/v1/signalling/trace-store")).json()["data"]
    assert (data["on"], data["sessions"], data["dropped"]) == (True, 4, 0)
    assert 0 < data["usedBytes"] < data["maxBytes"]


async def test_a_forgotten_timeline_is_gone(town: Town) -> None:
    (row,) = await town.rows("granted", "?kind=call")
    ring = town.platform.timeline.rings[TraceKind.CALL]
    ring.max_bytes = 1
    town.hear("out", "INVITE", THEIRS, "another")
    assert (await town.get("granted", f"{BASE}/{row['traceId']}")).json()["code"] == 40401
