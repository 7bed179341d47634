"""Every endpoint meets the same callers: nobody, one without right, one without grant, a thief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Relation
from tongshi.sharing.gate import cookie_name
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import PASSWORD, RestPlatform, sample_archives
from tongshi.web.operations import AnyOperation, Open

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE, THEIRS = "31010400001310000001", "31010600001310000001"
ADMIN = Subject(SubjectKind.USER, "0", "test")


@dataclass
class Town:
    """A platform with devices of two districts, and people of different rights."""

    platform: RestPlatform
    clock: ManualClock
    people: dict[str, tuple[dict[str, str], dict[str, str]]]

    async def call(self, who: str | None, method: str, path: str, **kwargs: Any) -> httpx2.Response:
        headers, cookies = self.people[who] if who else ({}, {})
        async with self.platform.http() as client:
            client.cookies.update(cookies)
            return await client.request(
                method, path, headers={**headers, **kwargs.pop("headers", {})}, **kwargs
            )

    def signer(self, secret: str = "s" * 32, audience: str = HOME) -> Signer:
        return Signer("key-31010600002000000001", secret, audience, self.clock)


@pytest.fixture
async def town(database: Database) -> Town:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    code = await platform.accounts.create_setup_code()
    made = Town(platform, clock, {})
    body = {"code": code, "user": "admin", "password": PASSWORD}
    assert (await made.call(None, "POST", "/api/v1/setup", json=body)).status_code == 201
    for name, roles in (("viewer", ["viewer"]), ("ungranted", ["viewer"]), ("powerless", [])):
        await platform.accounts.create_user(ADMIN, name, PASSWORD, roles)
    grant = Grant(
        "",
        SubjectKind.USER,
        "2",
        frozenset({Permission.ARCHIVE_READ}),
        ScopeKind.CIVIL_CODE,
        frozenset({"310104"}),
    )
    await platform.grants.give(ADMIN, grant, Context(clock.at()))
    for name in ("admin", "viewer", "ungranted", "powerless"):
        answer = await made.call(None, "POST", "/api/v1/session", json={"user": name, "password": PASSWORD})
        token = answer.cookies[cookie_name(HOME)]
        made.people[name] = (
            {"X-CSRF-Token": answer.json()["data"]["csrfToken"]},
            {cookie_name(HOME): token},
        )
    for owner in (HOME, ABROAD):
        await database.write(devices.upsert_many, sample_archives(owner, 3), owner, clock.at())
    return made


def _path(operation: AnyOperation) -> str:
    return operation.path.replace("{deviceId}", MINE).replace("{platformId}", ABROAD)


async def test_nobody_gets_401_and_the_powerless_403_everywhere(town: Town) -> None:
    guarded = [o for o in town.platform.operations if o.permission is not Open.PUBLIC]
    assert len(guarded) > 70
    seen: dict[str, tuple[int, int]] = {}
    for operation in sorted(guarded, key=lambda o: o.name == "signOut"):
        town.clock.advance(5)
        path = _path(operation)
        nobody = await town.call(None, operation.method, path)
        powerless = await town.call("powerless", operation.method, path)
        seen[operation.name] = (nobody.status_code, powerless.status_code)
        for answer in (nobody, powerless):
            assert set(answer.json()) == {"code", "msg", "data", "requestId", "serverTime"}
    own = {o.name for o in guarded if o.permission is Open.SIGNED_IN}
    assert own == {"signOut", "whoAmI", "listServices", "getService"}
    wrong = {name: codes for name, codes in seen.items() if name not in own and codes != (401, 403)}
    assert not wrong


async def test_what_is_not_built_answers_501_with_its_row_to_those_who_may(town: Town) -> None:
    signer = Signer("root", "r" * 32, HOME, town.clock)
    await town.platform.grants.put_key("root", "root", "r" * 32, frozenset(Permission))
    for operation in [o for o in town.platform.operations if not o.is_implemented]:
        town.clock.advance(1)
        headers = signer.headers(operation.method, operation.path, "", b"")
        async with town.platform.http() as client:
            path = operation.path.replace("{", "%7B").replace("}", "%7D")
            headers = signer.headers(operation.method, path, "", b"")
            answer = await client.request(operation.method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (501, 50100), operation.name
        assert answer.json()["data"]["details"]["row"] == operation.row


@pytest.mark.parametrize(
    ("who", "device", "status", "code"),
    [
        ("viewer", MINE, 200, 0),
        ("viewer", THEIRS, 404, 40401),
        ("viewer", "31010400001319999999", 404, 40401),
        ("ungranted", MINE, 404, 40401),
        ("admin", THEIRS, 200, 0),
    ],
)
async def test_one_device_is_seen_by_those_granted(
    town: Town, who: str, device: str, status: int, code: int
) -> None:
    answer = await town.call(who, "GET", f"/api/v1/archive/devices/{device}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_unknown_and_not_permitted_look_the_same(town: Town) -> None:
    answers = [
        await town.call("viewer", "GET", f"/api/v1/archive/devices/{device}")
        for device in (THEIRS, "31010400001319999999")
    ]
    bodies = [answer.json() for answer in answers]
    assert bodies[0]["msg"] == bodies[1]["msg"]
    assert bodies[0]["data"] == bodies[1]["data"]


async def test_a_list_and_its_count_hold_only_what_is_granted(town: Town) -> None:
    totals = {}
    for who in ("admin", "viewer", "ungranted"):
        answer = await town.call(who, "GET", "/api/v1/archive/devices?pageSize=2")
        data = answer.json()["data"]
        totals[who] = (data["total"], len(data["list"]), {row["CivilCode"][:6] for row in data["list"]})
    assert totals["admin"][:2] == (6, 2)
    assert totals["viewer"] == (3, 2, {"310104"})
    assert totals["ungranted"] == (0, 0, set())


async def test_a_list_can_be_narrowed_by_what_may_be_done(town: Town) -> None:
    answer = await town.call("viewer", "GET", "/api/v1/archive/devices?action=view")
    assert answer.json()["data"]["total"] == 0
    answer = await town.call("admin", "GET", "/api/v1/archive/devices?action=ptz&keyword=2号")
    assert answer.json()["data"]["total"] == 2


async def test_deep_paging_is_refused(town: Town) -> None:
    answer = await town.call("admin", "GET", "/api/v1/archive/devices?pageNo=11&pageSize=1000")
    assert (answer.status_code, answer.json()["code"]) == (400, 40006)


async def test_a_batch_comes_in_the_order_asked_without_what_is_hidden(town: Town) -> None:
    second = MINE[:-1] + "2"
    body = {"deviceIds": [second, THEIRS, MINE, second, "nope"]}
    answer = await town.call("viewer", "POST", "/api/v1/archive/devices/batch-get", json=body)
    data = answer.json()["data"]
    assert [row["DeviceID"] for row in data["list"]] == [second, MINE]
    assert data["missing"] == [THEIRS, "nope"]
    assert "Password" not in answer.text


async def test_a_cookie_without_its_csrf_token_changes_nothing(town: Town) -> None:
    headers, cookies = town.people["admin"]
    town.people["forged"] = ({}, cookies)
    town.people["foreign"] = ({"X-CSRF-Token": town.people["viewer"][0]["X-CSRF-Token"]}, cookies)
    for who in ("forged", "foreign"):
        answer = await town.call(who, "DELETE", "/api/v1/session")
        assert (answer.status_code, answer.json()["code"]) == (403, 40302)
    assert (await town.call("admin", "GET", "/api/v1/session")).json()["data"][
        "csrfToken"
    ] in headers.values()


async def test_signing_out_ends_the_session(town: Town) -> None:
    answer = await town.call("viewer", "DELETE", "/api/v1/session")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await town.call("viewer", "GET", "/api/v1/session")).status_code == 401


async def test_a_session_cookie_is_hidden_from_scripts_and_other_sites(town: Town) -> None:
    body = {"user": "admin", "password": PASSWORD}
    cookie = (await town.call(None, "POST", "/api/v1/session", json=body)).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


async def test_a_wrong_password_and_a_wrong_name_look_the_same(town: Town) -> None:
    answers = [
        await town.call(None, "POST", "/api/v1/session", json={"user": user, "password": "Wrong-pass-1"})
        for user in ("admin", "nobody")
    ]
    assert [a.status_code for a in answers] == [401, 401]
    assert answers[0].json()["msg"] == answers[1].json()["msg"]


async def test_the_setup_code_works_once(town: Town) -> None:
    body = {"code": "AAAA-BBBB-CCCC-DDDD", "user": "second", "password": PASSWORD}
    assert (await town.call(None, "POST", "/api/v1/setup", json=body)).status_code == 403


async def _signed(town: Town, headers: dict[str, str], path: str = "/exchange/v1/digest") -> httpx2.Response:
    async with town.platform.http() as client:
        return await client.get(path, headers=headers)


@pytest.fixture
async def neighbour(town: Town) -> Town:
    await town.platform.admit(ABROAD, Relation.UPPER, "s" * 32)
    return town


async def test_a_signed_request_is_taken_once(neighbour: Town) -> None:
    headers = neighbour.signer().headers("GET", "/exchange/v1/digest", "", b"")
    first = await _signed(neighbour, headers)
    assert [root["owner"] for root in first.json()["data"]["roots"]] == [HOME]
    again = await _signed(neighbour, headers)
    assert (again.status_code, again.json()["code"]) == (401, 40104)


@pytest.mark.parametrize("skew_s", [-301, 301])
async def test_a_clock_that_is_off_in_either_direction_is_refused(neighbour: Town, skew_s: float) -> None:
    headers = neighbour.signer().headers("GET", "/exchange/v1/digest", "", b"")
    neighbour.clock.advance(skew_s)
    answer = await _signed(neighbour, headers)
    assert (answer.status_code, answer.json()["code"]) == (401, 40103)


async def test_a_nonce_outlives_every_clock_that_is_taken(neighbour: Town) -> None:
    neighbour.clock.advance(299)
    headers = neighbour.signer().headers("GET", "/exchange/v1/digest", "", b"")
    neighbour.clock.advance(-299)
    assert (await _signed(neighbour, headers)).status_code == 200
    neighbour.clock.advance(598)
    assert (await _signed(neighbour, headers)).json()["code"] == 40104


@pytest.mark.parametrize(
    "change",
    [
        {"X-Tongshi-Sign": "sm3=" + "0" * 64},
        {"X-Tongshi-Sign": "md5=00"},
        {"X-Tongshi-Sign": ""},
        {"X-Tongshi-Nonce": "short"},
        {"X-Tongshi-Nonce": "another-nonce-0001"},
        {"X-Tongshi-Timestamp": "9" * 400},
        {"X-Tongshi-Key": "unknown"},
        {"X-Tongshi-Key": "x" * 10_000},
        {"X-Tongshi-Digest": "sm3=" + "0" * 64},
        {"X-Tongshi-OnBehalf": "somebody else"},
    ],
)
async def test_a_changed_header_breaks_the_signature(neighbour: Town, change: dict[str, str]) -> None:
    headers = neighbour.signer().headers("GET", "/exchange/v1/digest", "", b"")
    answer = await _signed(neighbour, {**headers, **change})
    assert (answer.status_code, answer.json()["code"]) == (401, 40102)


async def test_a_signature_for_another_platform_path_or_query_is_worth_nothing(neighbour: Town) -> None:
    path = "/exchange/v1/digest"
    elsewhere = neighbour.signer(audience=ABROAD).headers("GET", path, "", b"")
    assert (await _signed(neighbour, elsewhere)).status_code == 401
    other_path = neighbour.signer().headers("GET", "/exchange/v1/other", "", b"")
    assert (await _signed(neighbour, other_path)).status_code == 401
    other_query = neighbour.signer().headers("GET", path, "", b"")
    assert (await _signed(neighbour, other_query, f"{path}?shardsOf={HOME}")).status_code == 401


async def test_a_body_that_was_not_signed_is_refused(neighbour: Town) -> None:
    path = "/api/v1/archive/devices/changes"
    body = b'{"sinceVersion":0}'
    headers = {**neighbour.signer().headers("POST", path, "", body), "Content-Type": "application/json"}
    async with neighbour.platform.http() as client:
        answer = await client.post(path, content=b'{"sinceVersion":1}', headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, 40102)
        headers = {**neighbour.signer().headers("POST", path, "", body), "Content-Type": "application/json"}
        answer = await client.post(path, content=body, headers=headers)
        assert [c["op"] for c in answer.json()["data"]["changes"]] == ["add"] * 3


async def test_a_full_is_paged_by_cursor_and_says_when_it_is_complete(neighbour: Town) -> None:
    path = "/api/v1/archive/devices/full"
    seen, cursor, complete = [], "", False
    async with neighbour.platform.http() as client:
        while not complete:
            body = msgspec.json.encode({"pageSize": 2, "cursor": cursor, "withShards": True})
            signed = neighbour.signer().headers("POST", path, "", body)
            answer = await client.post(
                path, content=body, headers={**signed, "Content-Type": "application/json"}
            )
            data = answer.json()["data"]
            seen += [row["DeviceID"] for row in data["list"]]
            assert (data["total"], len(data["rootDigest"])) == (3, 64)
            assert sum(shard["count"] for shard in data["shardDigests"]) == 3
            cursor, complete = data["nextCursor"], data["complete"]
    assert seen == sorted(seen)
    assert len(seen) == 3


async def test_a_grant_by_device_pulls_that_device_and_nothing_else(town: Town) -> None:
    await town.platform.grants.put_key(
        "app", "app", "a" * 32, {Permission.EXCHANGE_PULL, Permission.ARCHIVE_READ}
    )
    grant = Grant(
        "",
        SubjectKind.API_KEY,
        "app",
        frozenset({Permission.ARCHIVE_READ}),
        ScopeKind.DEVICE,
        frozenset({"31010400001310000001"}),
    )
    await town.platform.grants.give(ADMIN, grant, Context(town.clock.at()))
    path = "/api/v1/archive/devices/full"
    headers = Signer("app", "a" * 32, HOME, town.clock).headers("POST", path, "", b"")
    async with town.platform.http() as client:
        answer = await client.post(path, headers=headers)
    data = answer.json()["data"]
    assert answer.status_code == 200
    assert [row["DeviceID"] for row in data["list"]] == ["31010400001310000001"]
    assert (data["total"], sum(shard["count"] for shard in data["shardDigests"])) == (1, 1)


async def test_platforms_show_where_the_exchange_stands(neighbour: Town) -> None:
    rows = (await neighbour.call("viewer", "GET", "/api/v1/platforms")).json()["data"]["list"]
    by_id = {row["platformId"]: row for row in rows}
    assert (by_id[HOME]["relation"], by_id[HOME]["deviceCount"], by_id[HOME]["online"]) == ("self", 3, True)
    assert (by_id[ABROAD]["relation"], by_id[ABROAD]["equal"]) == ("upper", None)


async def test_uses_and_refusals_are_in_the_audit_and_say_who(town: Town) -> None:
    await town.call("viewer", "GET", "/api/v1/archive/devices", headers={"X-Request-Id": "r-1"})
    await town.call("powerless", "GET", "/api/v1/archive/devices", headers={"X-Request-Id": "r-2"})
    await town.call("powerless", "GET", "/api/v1/archive/devices", headers={"X-Request-Id": "r-3"})
    rows = (await town.call("admin", "GET", "/api/v1/audit?event=archive_query")).json()["data"]["list"]
    found = {row["requestId"]: (row["subjectName"], row["outcome"]) for row in rows}
    assert found == {"r-1": ("viewer", "done"), "r-2": ("powerless", "denied")}


@pytest.mark.parametrize("instant", ["0.5", "1700000000", "+1", "-1", "yesterday", "2026-01-01T00:00:00"])
async def test_an_instant_in_a_query_is_a_date_time_with_its_zone(town: Town, instant: str) -> None:
    answer = await town.call("admin", "GET", "/api/v1/audit", params={"until": instant})
    assert (answer.status_code, answer.json()["data"]["field"]) == (400, "until")


async def test_health_document_and_metrics_are_there(town: Town) -> None:
    assert (await town.call(None, "GET", "/healthz")).json()["data"] == {"status": "ok"}
    document = (await town.call(None, "GET", "/openapi.json")).json()
    rows = [o["x-db31"] for item in document["paths"].values() for o in item.values() if "x-db31" in o]
    assert len(rows) == len(set(rows)) == 73
    info = (await town.call(None, "GET", "/api/v1/info")).json()["data"]
    assert info["platformId"] == HOME
    assert "tongshi_web_calls_total" in (await town.call(None, "GET", "/metrics")).text
