"""Files over REST on both engines: export, download, import, undo, neighbours' packages, jobs."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import datetime as dt
import hashlib
import io
import shutil
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.ids import PlatformId
from tongshi.resources.devices import digest_store, reading_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import DeviceArchive, digest
from tongshi.resources.files import service as service_module
from tongshi.resources.files import store
from tongshi.resources.files.model import MAX_UPLOAD_BYTES, Format, JobState
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD, CITY = "31010400002000000001", "31010600002000000001", "31000000002000000001"
SECRET = "k" * 32
ADMIN = Subject(SubjectKind.USER, "0", "test")
KEY_PERMISSIONS = frozenset(
    {Permission.ARCHIVE_READ, Permission.ARCHIVE_EXPORT, Permission.ARCHIVE_WRITE, Permission.GRANT_ADMIN}
)
FORMS = ("ndjson", "csv", "xlsx", "parquet")


@dataclass
class Office:
    """A platform with devices, and callers who sign."""

    platform: RestPlatform
    clock: ManualClock
    folder: Path

    async def call(
        self, who: str, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> httpx2.Response:
        route, _, query = path.partition("?")
        headers = Signer(who, SECRET, self.platform.id, self.clock).headers(method, route, query, body)
        if body:
            headers["Content-Type"] = kind
        async with self.platform.http() as client:
            return await client.request(method, path, content=body, headers=headers)

    async def caller(self, key: str, scope: ScopeKind, *values: str) -> str:
        """A key with a grant to read and export. Returns the grant's number."""
        await self.platform.grants.put_key(key, key, SECRET, KEY_PERMISSIONS)
        actions = frozenset({Permission.ARCHIVE_READ, Permission.ARCHIVE_EXPORT})
        grant = Grant("", SubjectKind.API_KEY, key, actions, scope, frozenset(values))
        return (await self.platform.grants.give(ADMIN, grant, Context(self.clock.at()))).number

    async def ended(self, who: str, answer: httpx2.Response) -> dict[str, Any]:
        """The job that an answer began, once it has ended."""
        assert answer.status_code in (200, 202), answer.text
        job: dict[str, Any] = answer.json()["data"]
        async with asyncio.timeout(60):
            while job["state"] in ("queued", "running"):
                await asyncio.sleep(0.02)
                again = await self.call(who, "GET", f"/api/v1/files/jobs/{job['jobId']}")
                job = again.json()["data"]
        return job

    async def export(self, who: str, form: str = "ndjson", grantee: str = "") -> dict[str, Any]:
        body = msgspec.json.encode({"format": form, "grantee": grantee})
        return await self.ended(who, await self.call(who, "POST", "/api/v1/files/exports", body))

    async def package(self, who: str, form: str = "ndjson", grantee: str = "") -> bytes:
        job = await self.export(who, form, grantee)
        assert job["state"] == "done", job
        answer = await self.call(who, "GET", job["content"])
        assert answer.status_code == 200, answer.text
        assert hashlib.new("sm3", answer.content).hexdigest() == job["sm3"]
        return answer.content

    async def take(self, who: str, data: bytes, query: str = "dryRun=false") -> dict[str, Any]:
        kind = "application/octet-stream"
        answer = await self.call(who, "POST", f"/api/v1/files/imports?{query}", data, kind=kind)
        return await self.ended(who, answer)

    async def held(self, owner: str = HOME) -> dict[str, DeviceArchive]:
        rows = await self.platform.db.read(reading_store.iter_owned, owner, "", 10_000)
        return {archive.device_id: archive for archive in rows}


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    await platform.files.start()
    folder = platform.files.folder
    made = Office(platform, clock, folder)
    await made.caller("desk", ScopeKind.ALL)
    await database.write(devices.upsert_many, sample_archives(HOME, 25), HOME, clock.at())
    yield made
    await platform.files.stop()
    shutil.rmtree(folder, ignore_errors=True)


def rows_of(package: bytes) -> list[dict[str, str]]:
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        return list(csv.DictReader(io.StringIO(opened.read("devices.csv").decode("utf-8-sig"), newline="")))


def csv_of(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


@pytest.mark.parametrize("form", FORMS)
async def test_what_was_exported_comes_back_as_it_was(office: Office, form: str) -> None:
    before = await office.held()
    package = await office.package("desk", form)
    unchanged = await office.take("desk", package)
    assert (unchanged["state"], unchanged["report"]["unchanged"]) == ("done", 25)
    others = [replace(a, item=replace(a.item, name="别的")) for a in before.values()]
    await office.platform.db.write(
        devices.upsert_many, [replace(a, revision=0) for a in others[:5]], HOME, office.clock.at()
    )
    refused = await office.take("desk", package)
    assert {error["rule"] for error in refused["report"]["errors"]} == {"version"}
    assert refused["report"]["rejected"] == 5
    assert refused["report"]["unchanged"] == 20


async def test_a_package_holds_the_callers_scope_and_names_the_grant(office: Office) -> None:
    number = await office.caller("narrow", ScopeKind.CIVIL_CODE, "31010401", "31010402")
    job = await office.export("narrow", "csv")
    assert (job["done"], job["grants"]) == (4, [number])
    package = await office.package("narrow", "csv")
    assert {row["CivilCode"] for row in rows_of(package)} == {"31010401", "31010402"}
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        manifest = msgspec.json.decode(opened.read("manifest.json"))
        assert msgspec.json.decode(opened.read("signature.json"))["keyId"] == "narrow"
    assert manifest["grants"] == [number]
    assert manifest["owners"][0]["isComplete"] is False
    statement = select(audit.c.grant_number).where(audit.c.event == "archive_export")
    assert number in await office.platform.db.read(lambda conn: set(conn.execute(statement).scalars()))


async def test_the_manifests_digest_is_that_of_the_record(office: Office) -> None:
    package = await office.package("desk", "xlsx")
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        (owner,) = msgspec.json.decode(opened.read("manifest.json"))["owners"]
    count, root = await office.platform.db.read(digest_store.root_digest, HOME)
    assert owner == {"owner": HOME, "count": count, "digest": root.hex(), "isComplete": True}


async def test_who_was_granted_nothing_exports_nothing(office: Office) -> None:
    await office.platform.grants.put_key("poor", "poor", SECRET, KEY_PERMISSIONS)
    answer = await office.call("poor", "POST", "/api/v1/files/exports", b"{}")
    assert (answer.status_code, answer.json()["code"]) == (403, 40304)


async def test_without_the_library_parquet_is_refused_with_what_is_supported(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "is_installed", lambda: False)
    answer = await office.call("desk", "POST", "/api/v1/files/exports", b'{"format":"parquet"}')
    assert (answer.status_code, answer.json()["code"]) == (422, 42203)
    assert answer.json()["data"]["details"]["supported"] == ["ndjson", "csv", "xlsx"]
    assert "requirements/parquet.txt" in answer.json()["msg"]


async def test_another_callers_job_is_not_there(office: Office) -> None:
    await office.caller("other", ScopeKind.ALL)
    job = await office.export("desk")
    for path in (f"/api/v1/files/jobs/{job['jobId']}", job["content"]):
        answer = await office.call("other", "GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, 40404)


async def test_the_list_of_jobs_is_the_callers_own_youngest_first(office: Office) -> None:
    await office.caller("other", ScopeKind.ALL)
    mine = [await office.export("desk")]
    await office.export("other")
    office.clock.advance(1)
    mine.append(await office.take("desk", b"DeviceID,Longitude\n31010400001319999999,east\n", "dryRun=true"))
    assert mine[1]["report"]["errors"]
    answer = await office.call("desk", "GET", "/api/v1/files/jobs")
    listed = answer.json()["data"]["list"]
    assert [job["jobId"] for job in listed] == [job["jobId"] for job in reversed(mine)]
    assert listed[0]["report"] == {**mine[1]["report"], "errors": []}, "rows are told one job at a time"
    assert listed[1] == {**mine[0], "signature": None}


async def test_a_finished_export_shows_the_signature_in_its_package(office: Office) -> None:
    job = await office.export("desk")
    seen = (await office.call("desk", "GET", f"/api/v1/files/jobs/{job['jobId']}")).json()["data"]
    package = (await office.call("desk", "GET", job["content"])).content
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        told = msgspec.json.decode(opened.read("signature.json"))
    assert seen["signature"] == {"keyId": "desk", "value": told["value"]}


async def test_an_export_is_narrowed_and_says_that_it_is_not_whole(office: Office) -> None:
    body = b'{"format":"csv","civilCode":"31010401"}'
    job = await office.ended("desk", await office.call("desk", "POST", "/api/v1/files/exports", body))
    package = (await office.call("desk", "GET", job["content"])).content
    wanted = {key for key, one in (await office.held()).items() if one.item.civil_code == "31010401"}
    assert wanted
    assert {row["DeviceID"] for row in rows_of(package)} == wanted
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        (owner,) = msgspec.json.decode(opened.read("manifest.json"))["owners"]
    assert owner["isComplete"] is False
    for body, count in ((b'{"owner":"%s"}' % HOME.encode(), 25), (b'{"owner":"%s"}' % ABROAD.encode(), 0)):
        job = await office.ended("desk", await office.call("desk", "POST", "/api/v1/files/exports", body))
        assert job["done"] == count
    online = await office.call("desk", "POST", "/api/v1/files/exports", b'{"online":true}')
    assert (await office.ended("desk", online))["done"] == 0, "nobody reported a status"


async def test_narrowing_does_not_reach_beyond_the_grant(office: Office) -> None:
    await office.caller("narrow", ScopeKind.CIVIL_CODE, "31010401")
    for code, count in (("31010402", 0), ("3101", 2)):
        body = msgspec.json.encode({"civilCode": code})
        answer = await office.call("narrow", "POST", "/api/v1/files/exports", body)
        assert (await office.ended("narrow", answer))["done"] == count


async def test_a_revoked_grant_closes_the_download(office: Office) -> None:
    number = await office.caller("brief", ScopeKind.ALL)
    job = await office.export("brief")
    await office.platform.grants.revoke(ADMIN, number, Context(office.clock.at()))
    answer = await office.call("brief", "GET", job["content"])
    assert (answer.status_code, answer.json()["code"]) == (403, 40304)


async def test_a_package_is_kept_for_three_days(office: Office) -> None:
    job = await office.export("desk")
    assert list(office.folder.iterdir())
    office.clock.advance(72 * 3600 + 1)
    assert (await office.call("desk", "GET", job["content"])).status_code == 404
    await office.platform.files.sweep()
    assert not list(office.folder.iterdir())


async def test_a_dry_run_names_the_place_and_changes_nothing(office: Office) -> None:
    rows = rows_of(await office.package("desk", "csv"))
    before = await office.held()
    rows[0]["Name"] = "改名"
    rows[1]["Longitude"] = "east"
    rows[2]["sourcePlatform"] = ABROAD
    rows[3]["Name"] = "=HYPERLINK(1)"
    rows[4] = dict(rows[0])
    rows.append({**rows[5], "DeviceID": "31010400001319999999", "version": ""})
    job = await office.take("desk", csv_of(rows), "dryRun=true")
    report = job["report"]
    assert (report["updated"], report["inserted"], report["rejected"]) == (1, 1, 4)
    places = sorted((error["row"], error["column"], error["rule"]) for error in report["errors"])
    assert places == [
        (3, "Longitude", "archive"),
        (4, "DeviceID", "owner"),
        (5, "Name", "formula"),
        (6, "DeviceID", "duplicate"),
    ]
    assert job["undoToken"] is None
    assert await office.held() == before


async def test_good_rows_get_in_and_an_undo_takes_them_back(office: Office) -> None:
    rows = rows_of(await office.package("desk", "csv"))
    before = await office.held()
    rows[0]["Name"], rows[1]["Name"], rows[2]["Longitude"] = "改名", "也改", "east"
    fresh = "31010400001319999999"
    rows.append({**rows[5], "DeviceID": fresh, "version": ""})
    job = await office.take("desk", csv_of(rows))
    assert [job["report"][key] for key in ("updated", "inserted", "rejected")] == [2, 1, 1]
    held = await office.held()
    assert held[rows[0]["DeviceID"]].item.name == "改名"
    kept = dt.datetime.fromisoformat(job["undoUntil"]) - dt.datetime.fromisoformat(job["finishedAt"])
    assert kept == dt.timedelta(hours=24)
    touched = held[rows[1]["DeviceID"]]
    later = replace(touched, item=replace(touched.item, name="后来又改"), revision=0)
    await office.platform.db.write(devices.upsert_many, [later], HOME, office.clock.at())
    path = f"/api/v1/files/jobs/{job['jobId']}/undo"
    wrong = await office.call("desk", "POST", path, b'{"undoToken":"guess"}')
    assert wrong.status_code == 404
    body = msgspec.json.encode({"undoToken": job["undoToken"]})
    done = await office.call("desk", "POST", path, body)
    assert done.json()["data"] == {"restored": 2, "leftAlone": 1}
    after = await office.held()
    assert digest(after[rows[0]["DeviceID"]]) == digest(before[rows[0]["DeviceID"]])
    assert after[rows[1]["DeviceID"]].item.name == "后来又改"
    assert fresh not in after
    assert (await office.call("desk", "POST", path, body)).status_code in (404, 409)


async def test_an_undo_is_over_after_a_day(office: Office) -> None:
    job = await office.take("desk", b"DeviceID,Name,CivilCode\n31010400001310000001,x,310104\n")
    office.clock.advance(24 * 3600 + 1)
    body = msgspec.json.encode({"undoToken": job["undoToken"]})
    answer = await office.call("desk", "POST", f"/api/v1/files/jobs/{job['jobId']}/undo", body)
    assert answer.status_code == 404


async def test_an_atomic_import_takes_every_row_or_none(office: Office) -> None:
    before = await office.held()
    bad = b"DeviceID,Name,CivilCode\n31010400001319999998,x,310104\n31010400001319999999,=x,310104\n"
    job = await office.take("desk", bad, "dryRun=false&atomic=true")
    assert (job["state"], job["report"]["inserted"], job["report"]["rejected"]) == ("refused", 0, 1)
    assert await office.held() == before
    good = bad.replace(b"=x", b"y")
    job = await office.take("desk", good, "dryRun=false&atomic=true")
    assert (job["state"], job["report"]["inserted"]) == ("done", 2)


async def test_a_row_outside_the_callers_scope_is_refused(office: Office) -> None:
    await office.caller("narrow", ScopeKind.CIVIL_CODE, "31010401")
    data = b"DeviceID,Name,CivilCode\n31010400001310000002,x,31010401\n31010400001319999999,y,31010401\n"
    report = (await office.take("narrow", data))["report"]
    assert [(error["row"], error["rule"]) for error in report["errors"]] == [(2, "scope")]
    assert report["inserted"] == 1


@pytest.mark.parametrize("data", [b"PK\x03\x04broken", b"\xff\xfe\x00", b"DeviceID\n\x00", b"{" * 70_000])
async def test_a_broken_file_is_a_failed_job_and_no_crash(office: Office, data: bytes) -> None:
    job = await office.take("desk", data)
    report = job["report"] or {"inserted": 0, "updated": 0}
    assert report["inserted"] == report["updated"] == 0
    assert job["state"] in ("failed", "refused")
    assert "内部" not in job["error"]


async def test_a_file_above_the_bound_is_refused_before_it_is_read(office: Office) -> None:
    headers = Signer("desk", SECRET, HOME, office.clock).headers("POST", "/api/v1/files/imports", "", b"")
    declared = {**headers, "Content-Length": str(MAX_UPLOAD_BYTES + 1), "Content-Type": "text/csv"}
    async with office.platform.http() as client:
        answer = await client.post("/api/v1/files/imports", headers=declared)
    assert answer.status_code == 413
    assert not list(office.folder.iterdir())


async def test_a_cancelled_export_leaves_no_file(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "PATIENCE_S", 0.0)
    hold = asyncio.Event()

    async def feed() -> str:
        await hold.wait()
        return "never"

    slow = dataclasses.replace(office.platform.files._exporter, feed=feed)
    monkeypatch.setattr(office.platform.files, "_exporter", slow)
    answer = await office.call("desk", "POST", "/api/v1/files/exports", b"{}")
    assert answer.status_code == 202
    path = f"/api/v1/files/jobs/{answer.json()['data']['jobId']}"
    cancelled = await office.call("desk", "POST", f"{path}/cancel")
    assert cancelled.json()["data"]["state"] == "cancelled"
    assert (await office.call("desk", "POST", f"{path}/cancel")).status_code == 409
    assert not list(office.folder.iterdir())


async def test_a_job_that_a_stop_interrupted_has_failed(office: Office) -> None:
    job = await office.export("desk")
    kept = await office.platform.db.read(store.get_job, job["jobId"])
    assert kept is not None
    running = dataclasses.replace(kept, state=JobState.RUNNING)
    await office.platform.db.write(store.put_job, running)
    await office.platform.files.start()
    answer = await office.call("desk", "GET", f"/api/v1/files/jobs/{job['jobId']}")
    assert answer.json()["data"]["state"] == "failed"


@pytest.mark.parametrize("form", FORMS)
async def test_a_neighbours_package_is_an_exchange_full(
    office: Office, form: str, tmp_path: Path, sqlite_template: Path
) -> None:
    """The district exports for the city's key, the city takes it in and marks what is gone."""
    shutil.copy(sqlite_template, tmp_path / "city.db")
    city_db = await Database.open(f"sqlite:///{tmp_path}/city.db")
    city = await RestPlatform.open(CITY, city_db, office.clock)
    await city.files.start()
    await office.caller("city", ScopeKind.ALL)
    row = Platform(PlatformId(HOME), "区", Relation.LOWER, rest_key="city", rest_secret=SECRET)
    await city.platforms.put(row)
    above = Office(city, office.clock, city.files.folder)
    await above.caller("clerk", ScopeKind.ALL)
    first = await office.package("desk", form, grantee="city")
    dry = await above.take("clerk", first, "dryRun=true")
    assert (dry["state"], dry["report"]["rows"]) == ("done", 25)
    assert not await above.held()
    report = (await above.take("clerk", first))["report"]
    assert (report["equal"], report["rows"], report["rejected"]) == (True, 25, 0)
    ours, theirs = await office.held(), await above.held()
    assert {key: digest(a) for key, a in ours.items()} == {key: digest(a) for key, a in theirs.items()}
    gone = sorted(ours)[-1]
    office.clock.advance(1)
    await office.platform.db.write(devices.mark_missing, HOME, [gone], office.clock.at())
    second = await office.package("desk", form, grantee="city")
    report = (await above.take("clerk", second))["report"]
    assert (report["equal"], report["missing"]) == (True, 1)
    stale = await above.take("clerk", first)
    assert stale["state"] == "failed"
    assert "早于" in stale["error"]
    await city.files.stop()
    shutil.rmtree(above.folder, ignore_errors=True)
    await city.close()


async def test_a_strangers_package_counts_for_nothing(office: Office) -> None:
    package = await office.package("desk", "ndjson")
    with zipfile.ZipFile(io.BytesIO(package)) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    manifest = msgspec.json.decode(parts["manifest.json"])
    for platform in (ABROAD, HOME):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as new:
            for name, body in parts.items():
                new.writestr(name, body)
            changed = msgspec.json.encode({**manifest, "platform": platform, "position": 10**6})
        with zipfile.ZipFile(stream, "w") as new:
            for name, body in {**parts, "manifest.json": changed}.items():
                new.writestr(name, body)
        job = await office.take("desk", stream.getvalue())
        assert job["state"] == "failed"
        assert "签名" in job["error"]


@pytest.mark.parametrize("form", [Format.CSV, Format.XLSX])
async def test_memory_stays_flat_however_many_rows(office: Office, form: Format) -> None:
    """Seven times the rows cost no more memory at the peak, but for what a batch takes."""
    peaks = []
    for first, count in ((1_000, 1_000), (2_000, 6_000)):
        for start in range(first, first + count, 1_000):
            batch = sample_archives(HOME, 1_000, first=start)
            await office.platform.db.write(devices.upsert_many, batch, HOME, office.clock.at())
        tracemalloc.start()
        job = await office.export("desk", form.value)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert job["state"] == "done"
    assert job["done"] == 7_025
    assert peaks[1] < peaks[0] + 3 * 1024 * 1024
