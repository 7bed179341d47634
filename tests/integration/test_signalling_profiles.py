"""Profiles over real sockets and REST: detected, shown with evidence, overridden, undone, in force."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, Remote, SipEndpoint
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.profile import Quirk
from tongshi.protocols.gb28181.version import Edition
from tongshi.protocols.sip.message import Request, parse
from tongshi.resources.devices import store as devices
from tongshi.resources.peers import store as peer_store
from tongshi.resources.peers.model import Words
from tongshi.resources.viewing.model import Transport
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
PLATFORM, NVR = "31010100002000000001", "31010100001180000001"
BASE = "/api/v1/signalling/peers"
BOSS = Subject(SubjectKind.USER, "0", "test")

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


class Recorder:
    """A recorder of some maker on a socket of its own."""

    def __init__(self, platform: SmallPlatform, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.platform = platform
        self.got: list[Request] = []
        self.endpoint = SipEndpoint(
            local_id=NVR, host="127.0.0.1", port=0, on_request=self._take, on_invite=self._refuse,
            user_agent="IPDome V2.1",
        )  # fmt: skip
        self.headers = headers
        self.registrant: Registrant | None = None

    async def __aenter__(self) -> Recorder:
        await self.endpoint.start()
        self.at = Remote("127.0.0.1", self.platform.gateway.port, "udp")
        await self.register()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.registrant is not None:
            await self.registrant.stop()
        await self.endpoint.stop()

    async def register(self) -> None:
        if self.registrant is not None:
            await self.registrant.stop()
        self.registrant = Registrant(
            self.endpoint, server_id=PLATFORM, remote=self.at, username=NVR, password="gb-2022",
            headers=self.headers,
        )  # fmt: skip
        await self.registrant.start()
        await self.registrant.registered.wait()

    async def say(self, body: bytes) -> int:
        kind = "Application/MANSCDP+xml"
        sent = await self.endpoint.request(
            "MESSAGE", to_id=PLATFORM, remote=self.at, body=body, content_type=kind
        )
        return sent.status

    async def _take(self, incoming: IncomingRequest) -> None:
        self.got.append(incoming.request)
        incoming.respond(200)

    async def _refuse(self, invite: IncomingInvite) -> None:
        invite.reject(486)


def alarm(name: str, charset: str = "GB2312", codec: str = "utf-8") -> bytes:
    return (
        f'<?xml version="1.0" encoding="{charset}"?><Notify><CmdType>Unheard</CmdType><SN>1</SN>'
        f"<DeviceID>{NVR}</DeviceID><Name>{name}</Name></Notify>"
    ).encode(codec)


async def test_what_a_peer_does_is_seen_kept_and_survives_a_restart(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform) as recorder:
        known = platform.gateway.profiles.of(NVR)
        assert (known.user_agent, known.said_edition, known.edition) == ("IPDome V2.1", "", "2.0")
        assert await recorder.say(alarm("路口")) == 200
        assert await recorder.say(alarm("路口")) == 200
    await platform.gateway.profiles.stop()
    platform = await neighbourhood.restart(platform)
    stored = await platform.db.read(peer_store.get, NVR)
    assert stored is not None
    evidence = stored.seen["wrong-charset"]
    assert (evidence.message, evidence.detail) == ("MESSAGE 1 MESSAGE", "encoding=gb2312，实际为 utf-8")
    assert evidence.trace_id
    assert platform.gateway.profiles.of(NVR).charset == "utf-8"


async def test_what_only_the_last_edition_says_tells_the_edition(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform) as recorder:
        await recorder.say(alarm("x", charset="GB18030"))
        peer = platform.gateway.peers.get(NVR)
        assert peer is not None
        assert peer.profile.edition is Edition.GB2022
        await recorder.register()
        assert platform.gateway.profiles.of(NVR).edition == "3.0"


async def test_an_edition_that_is_said_goes_before_what_is_inferred(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform, headers=(("X-GB-Ver", "1.1"),)) as recorder:
        await recorder.say(alarm("x", charset="GB18030"))
        assert platform.gateway.profiles.effective(NVR).edition is Edition.GB2014


@pytest.mark.parametrize(
    ("quirk", "date"),
    [(Quirk.NO_DATE_HEADER, ""), (Quirk.RFC1123_DATE, " GMT")],
)
async def test_the_date_is_told_as_the_peer_can_take_it(
    neighbourhood: Neighbourhood, quirk: Quirk, date: str
) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform) as recorder:
        _tell(platform, quirks={quirk.value: True})
        await recorder.register()
        assert recorder.registrant is not None
        said = recorder.registrant.server_date or ""
        assert said.endswith(date)
        assert bool(said) is bool(date)


async def test_guard_is_set_after_registration_where_it_must_be(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform) as recorder:
        _tell(platform, quirks={Quirk.GUARD_BEFORE_ALARM.value: True})
        await recorder.register()
        await neighbourhood.until(lambda: any(b"<GuardCmd>SetGuard" in one.body for one in recorder.got))


async def test_a_word_is_in_force_at_once(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform):
        peer = platform.gateway.peers.get(NVR)
        assert peer is not None
        assert not peer.is_at(Remote("10.9.9.9", 5060, "udp"))
        _tell(
            platform,
            edition="1.0",
            charset="utf-8",
            media_transport="tcp-passive",
            quirks={"dual-homed": True},
        )
        assert (peer.profile.edition, peer.profile.forced_charset) == (Edition.GB2011, "utf-8")
        assert peer.is_at(Remote("10.9.9.9", 5060, "udp"))
        assert (await platform.gateway.downward.route(DeviceId(NVR))).transport is Transport.TCP_PASSIVE


async def test_a_digest_of_another_realm_is_taken_from_whom_an_administrator_names(
    neighbourhood: Neighbourhood,
) -> None:
    from tongshi.protocols.sip.digest import Challenge, answer

    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    async with Recorder(platform) as recorder:

        async def register(call_id: str) -> int:
            first = await recorder.endpoint.request(
                "REGISTER", to_id=PLATFORM, remote=recorder.at, call_id=call_id
            )
            challenge = Challenge.parse(first.headers.get("WWW-Authenticate"))
            foreign = Challenge("other-realm", challenge.nonce)
            credentials = answer(
                foreign, username=NVR, password="gb-2022", method="REGISTER", uri="sip:x", cnonce="1"
            )  # fmt: skip
            second = await recorder.endpoint.request(
                "REGISTER", to_id=PLATFORM, remote=recorder.at, call_id=call_id, cseq=2,
                headers=(("Authorization", credentials.render()),),
            )  # fmt: skip
            return second.status

        assert await register("a") == 403
        _tell(platform, quirks={Quirk.FOREIGN_REALM.value: True})
        assert await register("b") == 200


def _tell(platform: SmallPlatform, **words: Any) -> None:
    known = platform.gateway.profiles.of(NVR)
    platform.gateway.profiles.apply(known.told(Words(**words), "管理员", "试", platform.clock.at()))


# Over REST, on both engines.


class Town:
    """A platform that two devices registered with, and keys of different rights."""

    def __init__(self, platform: RestPlatform, clock: ManualClock) -> None:
        self.platform = platform
        self.clock = clock

    async def call(self, who: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        self.clock.advance(1)
        raw = b"" if body is None else msgspec.json.encode(body)
        path, _, query = path.partition("?")
        headers = Signer(who, who[0] * 32, HOME, self.clock).headers(method, path, query, raw)
        headers["Content-Type"] = "application/json"
        async with self.platform.http() as client:
            url = f"{path}?{query}" if query else path
            return await client.request(method, url, content=raw, headers=headers)


@pytest.fixture
async def town(database: Database) -> Town:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    rights: dict[str, frozenset[Permission]] = {
        "everything": ROLES["admin"][1],
        "granted": ROLES["operator"][1],
        "ungranted": ROLES["operator"][1],
        "viewer": ROLES["viewer"][1],
    }
    for name, permissions in rights.items():
        await platform.grants.put_key(name, name, name[0] * 32, permissions)
    actions = frozenset({Permission.SIGNALLING_READ})
    for name, kind, values in (
        ("everything", ScopeKind.ALL, frozenset[str]()),
        ("granted", ScopeKind.CIVIL_CODE, frozenset({"310104"})),
    ):
        grant = Grant("", SubjectKind.API_KEY, name, actions, kind, values)
        await platform.grants.give(BOSS, grant, Context(clock.at()))
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    for device in (MINE, THEIRS):
        text = (
            f"REGISTER sip:{HOME}@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=1\r\n"
            f"From: <sip:{device}@x>;tag=1\r\nTo: <sip:{device}@x>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n"
            f"Contact: <sip:{device}@h>\r\nUser-Agent: IPC 5.0\r\nX-GB-Ver: 3.0\r\n\r\n"
        )
        request = parse(text.encode())
        assert isinstance(request, Request)
        platform.profiles.registered(device, request, "udp", device)
    await platform.profiles.stop()
    return Town(platform, clock)


async def test_each_caller_sees_and_counts_the_peers_within_its_scope(town: Town) -> None:
    seen = {}
    for who in ("everything", "granted", "ungranted"):
        data = (await town.call(who, "GET", BASE)).json()["data"]
        seen[who] = ([row["peerId"] for row in data["list"]], data["total"])
    assert seen == {"everything": ([MINE, THEIRS], 2), "granted": ([MINE], 1), "ungranted": ([], 0)}
    assert (await town.call("viewer", "GET", BASE)).status_code == 403
    for device in (THEIRS, "nobody"):
        answer = await town.call("granted", "GET", f"{BASE}/{device}")
        assert (answer.status_code, answer.json()["code"]) == (404, 40401)


async def test_peers_are_found_by_what_they_say_of_themselves(town: Town) -> None:
    for query, count in (
        ("?keyword=ipc", 2),
        ("?keyword=%25", 0),
        ("?online=true", 0),
        (f"?keyword={MINE}", 1),
    ):
        data = (await town.call("everything", "GET", f"{BASE}{query}")).json()["data"]
        assert data["total"] == count, query


async def test_a_profile_shows_evidence_and_what_may_be_set(town: Town) -> None:
    data = (await town.call("granted", "GET", f"{BASE}/{MINE}")).json()["data"]
    assert (data["saidEdition"], data["edition"], data["charset"], data["undoable"]) == (
        "3.0",
        "3.0",
        "gb18030",
        False,
    )
    first = data["habits"][0]
    assert (first["code"], first["number"], first["message"], first["detail"]) == (
        "odd-branch",
        29,
        "REGISTER",
        "branch=1",
    )
    assert (first["inForce"], bool(first["seenAt"])) == (None, True)
    assert {habit["inForce"] for habit in data["habits"][1:]} == {False}


async def test_words_are_recorded_in_force_and_undone(town: Town) -> None:
    words = {"reason": "现场核实", "edition": "2.0", "charset": "utf-8", "quirks": {"slow-answer": True}}
    answer = await town.call("everything", "PUT", f"{BASE}/{MINE}", words)
    data = answer.json()["data"]
    assert (data["edition"], data["charset"], data["toldBy"], data["undoable"]) == (
        "2.0",
        "utf-8",
        "everything",
        True,
    )
    assert {habit["code"] for habit in data["habits"] if habit["inForce"]} == {
        "slow-answer",
        "forced-charset",
    }
    assert town.platform.profiles.effective(MINE).edition is Edition.GB2016
    # What is seen later does not take the words away.
    town.platform.profiles.see(MINE, Quirk.SLOW_ANSWER, "6.0 秒", "INVITE 200")
    await town.platform.profiles.stop()
    stored = await town.platform.db.read(peer_store.get, MINE)
    assert stored is not None
    assert stored.words.edition == "2.0"
    undone = (await town.call("everything", "POST", f"{BASE}/{MINE}/undo", {"reason": "误设"})).json()["data"]
    assert (undone["edition"], undone["charset"], undone["told"]["quirks"]) == ("3.0", "gb18030", {})
    assert town.platform.profiles.effective(MINE).edition is Edition.GB2022
    rows = (await town.call("everything", "GET", "/api/v1/audit?event=signalling_change")).json()["data"][
        "list"
    ]
    assert [row["objectId"] for row in rows if row["outcome"] == "done"] == [MINE, MINE]


async def test_who_may_look_may_not_change_and_nothing_unknown_is_taken(town: Town) -> None:
    words = {"reason": "试"}
    assert (await town.call("granted", "PUT", f"{BASE}/{MINE}", words)).status_code == 403
    assert (await town.call("everything", "PUT", f"{BASE}/nobody", words)).status_code == 404
    assert (await town.call("everything", "POST", f"{BASE}/{MINE}/undo", words)).status_code == 409
    for change in (
        {"edition": "4.0"}, {"charset": "big5"}, {"mediaTransport": "quic"}, {"quirks": {"nonsense": True}},
        {"quirks": {"odd-branch": True}}, {"reason": ""},
    ):  # fmt: skip
        answer = await town.call("everything", "PUT", f"{BASE}/{MINE}", {**words, **change})
        assert answer.status_code == 400, change


async def test_no_upper_platform_is_an_empty_list(town: Town) -> None:
    assert (await town.call("viewer", "GET", "/api/v1/signalling/uppers")).json()["data"] == {"list": []}


async def test_how_a_device_is_reached_is_for_those_who_may_see_it(town: Town) -> None:
    path = "/api/v1/signalling/devices"
    data = (await town.call("granted", "GET", f"{path}/{MINE}")).json()["data"]
    assert (data["peerId"], data["direct"], data["registered"], data["edition"]) == (MINE, True, False, "3.0")
    second = (await town.call("granted", "GET", f"{path}/{MINE[:-1]}2")).json()["data"]
    assert (second["peerId"], second["registered"]) == (MINE[:-1] + "2", False)
    for device in (THEIRS, "nobody"):
        for method, tail in (("GET", ""), ("POST", "/info")):
            answer = await town.call("granted", method, f"{path}/{device}{tail}")
            assert (answer.status_code, answer.json()["code"]) == (404, 40401)
    assert (await town.call("granted", "POST", f"{path}/{MINE}/info")).status_code == 503
    assert (await town.call("viewer", "GET", f"{path}/{MINE}")).status_code == 403
