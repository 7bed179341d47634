"""The service directory over REST: complete, honest, and only what the caller may know."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform

HOME = "31010400002000000001"
BASE = "/api/v1/services"
EXTERNAL = {
    "name": "交通信号配时查询",
    "owner": "市交通委",
    "version": "2.1",
    "contract": "https://traffic.example/openapi.json",
    "address": "https://traffic.example/api",
    "permission": "tag:read",
    "contact": "021-00000000",
}


class Callers:
    """One platform and keys of different rights."""

    def __init__(self, platform: RestPlatform, clock: ManualClock) -> None:
        self.platform = platform
        self._clock = clock

    async def call(self, who: str, method: str, path: str, body: Any = None) -> Any:
        self._clock.advance(1)
        raw = b"" if body is None else msgspec.json.encode(body)
        path, _, query = path.partition("?")
        headers = Signer(who, who[0] * 32, HOME, self._clock).headers(method, path, query, raw)
        headers["Content-Type"] = "application/json"
        async with self.platform.http() as client:
            url = f"{path}?{query}" if query else path
            return await client.request(method, url, content=raw, headers=headers)

    async def entries(self, who: str, query: str = "") -> dict[str, dict[str, Any]]:
        answer = await self.call(who, "GET", f"{BASE}?pageSize=1000{query}")
        assert answer.status_code == 200, answer.text
        return {row["serviceId"]: row for row in answer.json()["data"]["list"]}


@pytest.fixture
async def callers(database: Database) -> Callers:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    rights: dict[str, frozenset[Permission]] = {
        "admin": frozenset(Permission),
        "viewer": ROLES["viewer"][1],
        "exchange": ROLES["exchange"][1],
        "none": frozenset(),
    }
    for name, permissions in rights.items():
        await platform.grants.put_key(name, name, name[0] * 32, permissions)
    return Callers(platform, clock)


async def test_every_operation_is_listed_with_owner_version_contract_and_state(callers: Callers) -> None:
    entries = await callers.entries("admin")
    served = {o.name for o in callers.platform.operations if o.path.startswith(("/api/", "/exchange/"))}
    assert served == {code for code, row in entries.items() if row["kind"] == "operation"}
    full = entries["fullDevices"]
    assert full["contract"] == "/openapi.json#/paths/~1api~1v1~1archive~1devices~1full/post"
    assert (full["owner"], full["row"], full["state"]) == (HOME, "E.1-3", "running")
    assert full["version"]
    assert full["howToApply"]
    assert entries["runPlan"]["state"] == "not-built"


async def test_every_contract_points_into_the_served_document(callers: Callers) -> None:
    async with callers.platform.http() as client:
        document = (await client.get("/openapi.json")).json()
    for row in (await callers.entries("admin", "&kind=operation")).values():
        *_, path, method = row["contract"].split("/")
        path = path.replace("~1", "/").replace("~0", "~")
        assert document["paths"][path][method]["operationId"] == row["serviceId"]


async def test_streams_are_listed_with_the_state_of_what_opens_them(callers: Callers) -> None:
    entries = await callers.entries("viewer", "&kind=stream")
    assert set(entries) == {
        "stream-live-flv",
        "stream-live-fmp4",
        "stream-live-gb28181",
        "stream-playback",
    }
    # This platform is built without the viewing part.
    assert {row["state"] for row in entries.values()} == {"not-built"}
    assert entries["stream-live-flv"]["granted"] is True


async def test_a_caller_sees_what_it_could_apply_for_and_no_administration(callers: Callers) -> None:
    entries = await callers.entries("none")
    assert entries["listDevices"]["granted"] is False
    assert entries["listDevices"]["howToApply"]
    assert not {"putService", "queryAudit", "confirmVanishing"} & set(entries)
    assert (await callers.call("none", "GET", f"{BASE}/putService")).json()["code"] == 40404
    assert (await callers.call("none", "GET", f"{BASE}/nonsense")).json()["code"] == 40404
    granted = await callers.entries("exchange", "&granted=true")
    assert "fullDevices" in granted
    assert "liveUrl" not in granted


async def test_a_list_is_narrowed_and_paged(callers: Callers) -> None:
    found = await callers.entries("viewer", "&keyword=E.1-3")
    assert set(found) == {"fullDevices"}
    answer = await callers.call("viewer", "GET", f"{BASE}?pageNo=2&pageSize=10")
    data = answer.json()["data"]
    assert len(data["list"]) == 10
    assert data["total"] > 70


async def test_a_withdrawn_service_is_listed_for_administrators_only_and_still_answers(
    callers: Callers,
) -> None:
    path = f"{BASE}/listDevices"
    answer = await callers.call("admin", "POST", f"{path}/withdraw", {"reason": "改用 E.1-6"})
    assert (answer.json()["data"]["state"], answer.json()["data"]["reason"]) == ("withdrawn", "改用 E.1-6")
    assert (await callers.call("viewer", "GET", path)).status_code == 404
    assert (await callers.call("viewer", "GET", "/api/v1/archive/devices")).status_code == 200
    again = await callers.call("admin", "POST", f"{path}/withdraw", {"reason": "x"})
    assert again.status_code == 409
    await callers.call("admin", "POST", f"{path}/publish", {"reason": "恢复"})
    assert (await callers.call("viewer", "GET", path)).json()["data"]["state"] == "running"
    rows = (await callers.call("admin", "GET", "/api/v1/audit?event=service_change")).json()["data"]["list"]
    done = [(row["objectId"], row["subjectName"]) for row in rows if row["outcome"] == "done"]
    assert done == [("listDevices", "admin")] * 2


async def test_an_external_service_is_registered_and_its_address_is_for_the_granted(callers: Callers) -> None:
    path = f"{BASE}/ext-signals"
    assert (await callers.call("admin", "PUT", path, EXTERNAL)).status_code == 200
    assert (await callers.call("viewer", "GET", path)).json()["data"]["address"] == EXTERNAL["address"]
    hidden = (await callers.call("none", "GET", path)).json()["data"]
    assert (hidden["address"], hidden["granted"], hidden["contact"]) == ("", False, "021-00000000")
    await callers.call("admin", "POST", f"{path}/withdraw", {"reason": "停用"})
    # A new description does not publish what was withdrawn.
    await callers.call("admin", "PUT", path, EXTERNAL)
    assert (await callers.call("viewer", "GET", path)).status_code == 404


async def test_of_our_own_service_only_contact_and_application_are_told(callers: Callers) -> None:
    told = {"contact": "科信 110", "howToApply": "OA 申请"}
    answer = await callers.call("admin", "PUT", f"{BASE}/fullDevices", told)
    assert (answer.json()["data"]["contact"], answer.json()["data"]["howToApply"]) == ("科信 110", "OA 申请")
    answer = await callers.call("admin", "PUT", f"{BASE}/fullDevices", {"name": "别的名字"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("signals", {}),
        ("ext-a%20b", {}),
        ("ext-a", {"name": ""}),
        ("ext-a", {"address": "javascript:alert(1)"}),
        ("ext-a", {"address": "https://user:secret@traffic.example/"}),
        ("ext-a", {"contract": "https://["}),
        ("ext-a", {"permission": "root"}),
        ("ext-a", {"summary": "x" * 513}),
    ],
)
async def test_a_bad_registration_is_refused(callers: Callers, code: str, change: dict[str, str]) -> None:
    answer = await callers.call("admin", "PUT", f"{BASE}/{code}", {**EXTERNAL, **change})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("who", ["viewer", "exchange", "none"])
async def test_only_administrators_change_the_directory(callers: Callers, who: str) -> None:
    for method, path, body in (
        ("PUT", f"{BASE}/ext-signals", EXTERNAL),
        ("POST", f"{BASE}/listDevices/withdraw", {"reason": "x"}),
        ("POST", f"{BASE}/listDevices/publish", {"reason": "x"}),
    ):
        assert (await callers.call(who, method, path, body)).status_code == 403
