"""One device in full over REST, changing it and putting it back, and who may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import pytest
from msgspec.structs import replace

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import store
from tongshi.resources.devices.coordinates import GeoCoordSys, from_wgs84
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
ONE, TWO, FAR, THEIRS = (
    "31010400001310000001",
    "31010400001310000002",
    "31010500001310000001",
    "31010600001310000001",
)
UNKNOWN = "31010400001319999999"
ADMIN = Subject(SubjectKind.USER, "0", "test")
ALL = frozenset(
    {Permission.ARCHIVE_READ, Permission.ARCHIVE_EDIT, Permission.ARCHIVE_HISTORY, Permission.VIDEO_LIVE}
)
# Key -> permissions, and what it was granted: scope and values.
KEYS: dict[str, tuple[frozenset[Permission], ScopeKind | None, frozenset[str]]] = {
    "all": (ALL | {Permission.EXPLAIN}, ScopeKind.ALL, frozenset()),
    "one": (ALL, ScopeKind.DEVICE, frozenset({ONE})),
    "elsewhere": (ALL, ScopeKind.CIVIL_CODE, frozenset({"310105"})),
    "ungranted": (ALL, None, frozenset()),
    "reader": (frozenset({Permission.ARCHIVE_READ}), ScopeKind.ALL, frozenset()),
}


@dataclass
class Desk:
    """A platform with three devices of its own and one of a neighbour, and keys of different rights."""

    platform: RestPlatform
    clock: ManualClock

    async def call(
        self, who: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        self.clock.advance(1)
        path, _, query = f"/api/v1/archive/devices{path}".partition("?")
        data = b"" if body is None else msgspec.json.encode(body)
        signed = Signer(who, who * 8, HOME, self.clock).headers(method, path, query, data)
        kind = {"Content-Type": "application/json"} if data else {}
        async with self.platform.http() as client:
            return await client.request(
                method,
                f"{path}?{query}" if query else path,
                content=data,
                headers={**signed, **kind, **(headers or {})},
            )

    async def ok(self, who: str, method: str, path: str, body: Any = None) -> Any:
        answer = await self.call(who, method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def hear(self, **fields: object) -> None:
        """The device of ours tells its catalogue."""
        self.clock.advance(1)
        item = replace(_item(ONE), **fields)
        await self.platform.devices.merge_catalogue(ONE, [item], is_platform=False)


def _item(device_id: str) -> CatalogItem:
    return CatalogItem(
        device_id=device_id,
        name="路口",
        civil_code=device_id[:6],
        longitude=121.47,
        latitude=31.23,
        ptz_type=1,
    )


@pytest.fixture
async def desk(database: Database) -> Desk:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    for name, (permissions, kind, values) in KEYS.items():
        await platform.grants.put_key(name, name, name * 8, permissions)
        if kind is not None:
            carried = permissions - {Permission.EXPLAIN}
            grant = Grant("", SubjectKind.API_KEY, name, carried, kind, values)
            await platform.grants.give(ADMIN, grant, Context(clock.at()))
    made = Desk(platform, clock)
    await made.hear()
    ext = ExtendedAttributes(is_networked=True, is_controllable=False, industries=("1", "12"))
    ours = [DeviceArchive(item=_item(key), owner=HOME, source=Source.FILE, ext=ext) for key in (TWO, FAR)]
    theirs = DeviceArchive(item=_item(THEIRS), owner=ABROAD, source=Source.REST, revision=4)
    await database.write(store.upsert_many, ours, HOME, clock.at())
    await database.write(store.upsert_many, [theirs], ABROAD, clock.at())
    return made


@pytest.mark.parametrize(("method", "path", "body"), [
    ("PATCH", "", {"Name": "新"}),
    ("POST", "/undo", {"toVersion": 1}),
    ("GET", "?history=true", None),
])  # fmt: skip
@pytest.mark.parametrize(
    ("who", "device", "status", "code"),
    [
        ("all", ONE, 200, 0),
        ("one", ONE, 200, 0),
        ("one", TWO, 404, 40401),
        ("one", UNKNOWN, 404, 40401),
        ("elsewhere", ONE, 404, 40401),
        ("ungranted", ONE, 404, 40401),
        ("reader", ONE, 403, 40301),
    ],
)
async def test_who_may_change_and_look_back(
    desk: Desk, who: str, device: str, status: int, code: int, method: str, path: str, body: Any
) -> None:
    answer = await desk.call(who, method, f"/{device}{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_edit_answers_what_it_changed_and_the_issues_left(desk: Desk) -> None:
    body = {"Name": "新名", "Info": {"PTZType": 9}, "ext": {"LWSX": "0"}, "ifVersion": 1}
    dry = await desk.ok("all", "PATCH", f"/{ONE}", {**body, "dryRun": True})
    done = await desk.ok("all", "PATCH", f"/{ONE}", body)
    assert (dry["version"], dry["written"], done["version"], done["written"]) == (1, False, 2, True)
    shown = [(c["field"], c["before"], c["after"]) for c in done["changes"]]
    assert shown == [("Name", "路口", "新名"), ("Info.PTZType", 1, 9), ("ext.LWSX", None, "0")]
    assert dry["changes"] == done["changes"]
    assert "GB-23" in {issue["rule"] for issue in done["issues"]}
    held = await desk.platform.devices.get(ONE)
    assert (held.item.name, held.ext.is_networked, held.item.longitude) == ("新名", True, 121.47)


async def test_empty_and_null_empty_a_field(desk: Desk) -> None:
    body = {"Longitude": None, "Latitude": None, "ext": {"SFKK": None, "SSBMHY": ""}}
    await desk.ok("all", "PATCH", f"/{TWO}", body)
    held = await desk.platform.devices.get(TWO)
    assert (held.item.longitude, held.ext.is_controllable, held.ext.industries) == (None, None, ())
    assert held.ext.is_networked is True


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"Foo": 1}, "Foo"),
        ({"Status": "ON"}, "Status"),
        ({"DeviceID": TWO}, "DeviceID"),
        ({"Info": {"PTZType": "x"}}, "Info.PTZType"),
        ({"ext": {"LWSX": "2"}}, "ext.LWSX"),
        ({"Longitude": 500}, "Longitude"),
        ({"Name": "a\x01"}, "Name"),
        ({"Name": "长" * 2000}, "Name"),
        ({"Longitude": 121.4, "geoCoordSys": "GCJ02"}, "Longitude"),
    ],
)
async def test_a_wrong_edit_is_refused_by_the_name_of_its_field(desk: Desk, body: Any, field: str) -> None:
    answer = await desk.call("all", "PATCH", f"/{ONE}", body)
    assert (answer.status_code, answer.json()["code"]) == (400, 40001)
    assert answer.json()["data"]["field"] == field


async def test_a_position_may_be_told_in_another_system(desk: Desk) -> None:
    lon, lat = from_wgs84((121.5, 31.2), GeoCoordSys.GCJ02)
    await desk.ok("all", "PATCH", f"/{ONE}", {"Longitude": lon, "Latitude": lat, "geoCoordSys": "GCJ02"})
    item = (await desk.platform.devices.get(ONE)).item
    assert item.longitude == pytest.approx(121.5, abs=1e-8)
    assert item.latitude == pytest.approx(31.2, abs=1e-8)


async def test_an_edit_of_another_version_or_another_owner_is_refused(desk: Desk) -> None:
    late = await desk.call("all", "PATCH", f"/{ONE}", {"Name": "新", "ifVersion": 5})
    assert (late.status_code, late.json()["code"]) == (409, 40901)
    theirs = await desk.call("all", "PATCH", f"/{THEIRS}", {"Name": "新"})
    assert (theirs.status_code, theirs.json()["code"]) == (403, 40304)
    assert theirs.json()["data"]["details"]["owner"] == ABROAD


async def test_undo_by_version_and_by_number(desk: Desk) -> None:
    await desk.ok("all", "PATCH", f"/{ONE}", {"Name": "二"})
    await desk.ok("all", "PATCH", f"/{ONE}", {"Name": "三"})
    dry = await desk.ok("all", "POST", f"/{ONE}/undo", {"number": 2, "dryRun": True})
    assert [(c["before"], c["after"]) for c in dry["changes"]] == [("三", "二")]
    done = await desk.ok("all", "POST", f"/{ONE}/undo", {"toVersion": 1, "ifVersion": 3})
    assert [(c["before"], c["after"]) for c in done["changes"]] == [("三", "路口")]
    assert done["version"] == 4
    for body in ({}, {"toVersion": 1, "number": 1}):
        answer = await desk.call("all", "POST", f"/{ONE}/undo", body)
        assert answer.json()["data"]["field"] == "toVersion"


async def test_the_history_says_who_when_what_and_from_where(desk: Desk) -> None:
    await desk.ok("all", "PATCH", f"/{ONE}", {"ext": {"LWSX": "1"}, "Name": "二"})
    await desk.hear(name="乱", manufacturer="厂")
    data = await desk.ok("one", "GET", f"/{ONE}?history=true")
    newest, edit = data["history"]
    assert (newest["kind"], newest["method"], newest["version"], newest["actor"]) == (
        "update",
        "signalling",
        3,
        "",
    )
    assert (edit["kind"], edit["method"], edit["actor"]) == ("edit", "manual", "api_key:all all")
    assert [(c["field"], c["before"], c["after"]) for c in edit["changes"]] == [
        ("Name", "路口", "二"),
        ("ext.LWSX", None, "1"),
    ]
    assert edit["changes"][0]["provenance"]["method"] == "signalling"
    provenance = data["provenance"]
    assert {key: provenance[key]["method"] for key in ("*", "Name", "Manufacturer", "ext.LWSX")} == {
        "*": "signalling",
        "Name": "manual",
        "Manufacturer": "signalling",
        "ext.LWSX": "manual",
    }
    assert provenance["Name"]["version"] == 2
    assert "Address" not in provenance
    assert "history" not in await desk.ok("one", "GET", f"/{ONE}")


async def test_the_etag_changes_with_anything_that_is_shown(desk: Desk) -> None:
    first = await desk.call("all", "GET", f"/{ONE}?withPerm=true")
    tag = first.headers["etag"]
    assert tag.startswith('"1-')
    same = await desk.call("all", "GET", f"/{ONE}?withPerm=true", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await desk.platform.devices.note_status({ONE: True}, HOME)
    online = await desk.call("all", "GET", f"/{ONE}?withPerm=true", headers={"If-None-Match": tag})
    assert (online.status_code, online.json()["data"]["Status"]) == (200, "ON")
    other = await desk.call("reader", "GET", f"/{ONE}?withPerm=true", headers={"If-None-Match": tag})
    assert (other.status_code, other.json()["data"]["perm"]["view"]) == (200, False)


async def test_fields_are_chosen_by_their_names_on_the_wire(desk: Desk) -> None:
    path = f"/{TWO}?fields=Name,PTZType,ext.LWSX,issues"
    data = await desk.ok("all", "GET", path)
    assert set(data) == {"DeviceID", "Name", "Info", "ext", "issues", "geoCoordSys"}
    assert (data["Info"], data["ext"]) == ({"PTZType": 1}, {"LWSX": "0"})
    refused = await desk.call("all", "GET", f"/{TWO}?fields=Name,Password")
    assert (refused.json()["code"], "Password" in refused.json()["msg"]) == (40001, True)
    body = {"deviceIds": [TWO], "fields": ["Info.Foo"]}
    refused = await desk.call("all", "POST", "/batch-get", body)
    assert (refused.json()["code"], "Info.Foo" in refused.json()["msg"]) == (40001, True)


@pytest.mark.parametrize("system", list(GeoCoordSys))
async def test_positions_come_in_the_system_asked_for(desk: Desk, system: GeoCoordSys) -> None:
    one = await desk.ok("all", "GET", f"/{ONE}?geoCoordSys={system.value}")
    body = {"deviceIds": [ONE], "geoCoordSys": system.value}
    many = await desk.ok("all", "POST", "/batch-get", body)
    for row in (one, many["list"][0]):
        assert (row["Longitude"], row["Latitude"]) == from_wgs84((121.47, 31.23), system)
        assert row["geoCoordSys"] == system.value
    assert many["geoCoordSys"] == system.value


async def test_a_batch_says_missing_denied_and_rights_to_those_who_may(desk: Desk) -> None:
    body = {"deviceIds": [TWO, ONE, UNKNOWN, TWO, FAR], "withPerm": True}
    found = await desk.ok("one", "POST", "/batch-get", body)
    assert [row["DeviceID"] for row in found["list"]] == [ONE]
    assert found["missing"] == [TWO, UNKNOWN, FAR]
    assert "denied" not in found
    assert found["list"][0]["perm"] == {
        "view": True,
        "playback": False,
        "download": False,
        "ptz": False,
        "talk": False,
    }
    everything = await desk.ok("all", "POST", "/batch-get", body)
    assert [row["DeviceID"] for row in everything["list"]] == [TWO, ONE, FAR]
    assert (everything["missing"], everything["denied"]) == ([UNKNOWN], [])
    await desk.platform.grants.put_key("curious", "curious", "curious" * 8, ALL | {Permission.EXPLAIN})
    told = await desk.ok("curious", "POST", "/batch-get", body)
    assert (told["list"], told["missing"], told["denied"]) == ([], [UNKNOWN], [TWO, ONE, FAR])
