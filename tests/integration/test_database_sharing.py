"""The archive as a database for one grantee: views on PostgreSQL, a file anywhere."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from tongshi.clock import SystemClock
from tongshi.errors import Conflict, InvalidRequest, NotFound
from tongshi.resources.devices import reading_store
from tongshi.resources.devices import store as devices
from tongshi.resources.files.table import COLUMNS, cells
from tongshi.resources.files.views import DatabaseSharing, Shared, wanted_grant
from tongshi.sharing.file_keys import FileKeys
from tongshi.sharing.grants import Grants
from tongshi.sharing.model import Context, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit
from tongshi.testing.rest_platform import sample_archives

HOME, GRANTEE = "31010400002000000001", "traffic-dept"
BY = Subject(SubjectKind.USER, "command", "test")


async def sharing_of(database: Database) -> tuple[DatabaseSharing, Grants]:
    clock = SystemClock()
    grants = Grants(database, clock)
    await grants.put_key(GRANTEE, "交通", "s" * 32, {Permission.ARCHIVE_EXPORT})
    rows = sample_archives(HOME, 40)
    await database.write(devices.upsert_many, rows, HOME, clock.at())
    await database.write(devices.set_statuses, {rows[0].device_id: True}, "test", clock.at())
    return DatabaseSharing(database, clock, grants, FileKeys(database, grants), HOME), grants


async def as_grantee(url: str, shared: Shared) -> asyncpg.Connection:
    parts = make_url(url)
    return await asyncpg.connect(
        host=parts.host,
        port=parts.port,
        database=parts.database,
        user=shared.role,
        password=shared.password,
    )


async def test_a_file_holds_the_scope_with_the_standards_columns(database: Database, tmp_path: Path) -> None:
    sharing, _ = await sharing_of(database)
    path = tmp_path / "copy.db"
    wanted = wanted_grant(GRANTEE, "31010401,31010402")
    number, count = await sharing.copy(BY, GRANTEE, wanted, path)
    copy = sqlite3.connect(path)
    found = copy.execute("SELECT * FROM device ORDER BY DeviceID").fetchall()
    assert [column[1] for column in copy.execute("PRAGMA table_info(device)")] == list(COLUMNS)
    assert dict(copy.execute("SELECT * FROM about"))["grant"] == number
    copy.close()
    held = await database.read(reading_store.iter_owned, HOME, "", 1_000)
    expected = [tuple(cells(a)) for a in held if a.item.civil_code in ("31010401", "31010402")]
    assert found == expected
    assert count == len(found) == 4
    assert path.stat().st_mode & 0o777 == 0o600
    written = select(audit.c.event).where(audit.c.grant_number == number)
    assert set(await database.read(lambda conn: conn.execute(written).scalars().all())) == {
        "grant_create",
        "archive_export",
    }


async def test_a_copy_that_fails_leaves_the_old_file(sqlite_url: str, tmp_path: Path) -> None:
    database = await Database.open(sqlite_url)
    sharing, _ = await sharing_of(database)
    path = tmp_path / "copy.db"
    path.write_bytes(b"old")
    await database.close()
    with pytest.raises(Exception, match="数据库"):
        await sharing.copy(BY, GRANTEE, wanted_grant(GRANTEE, "*"), path)
    assert path.read_bytes() == b"old"
    assert not (tmp_path / "copy.db.part").exists()


async def test_views_show_the_scope_and_nothing_else(own_postgresql_url: str) -> None:
    database = await Database.open(own_postgresql_url)
    sharing, grants = await sharing_of(database)
    shared = await sharing.share(BY, GRANTEE, wanted_grant(GRANTEE, "310104"))
    with pytest.raises(Conflict):
        await sharing.share(BY, GRANTEE, wanted_grant(GRANTEE, "*"))
    reader = await as_grantee(own_postgresql_url, shared)
    rows = await reader.fetch('SELECT * FROM device ORDER BY "DeviceID"')
    assert list(rows[0].keys()) == list(COLUMNS)
    held = await database.read(reading_store.iter_owned, HOME, "", 1_000)
    assert [row["DeviceID"] for row in rows] == [archive.device_id for archive in held]
    assert (rows[0]["Status"], rows[1]["Status"]) == ("ON", None)
    for statement in (
        "SELECT * FROM public.device_archive",
        "SELECT * FROM public.api_key",
        "DELETE FROM device",
        "CREATE TABLE mine (a int)",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await reader.execute(statement)
    await grants.revoke(BY, shared.grant, Context(SystemClock().at()))
    assert await reader.fetch("SELECT * FROM device") == []
    await sharing.revoke(BY, GRANTEE)
    # The server ends the grantee's connections; how the driver notices depends on where it stood.
    ended = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError)
    with pytest.raises(ended):
        await reader.fetch("SELECT 1 FROM device")
    with pytest.raises(asyncpg.PostgresError):
        await as_grantee(own_postgresql_url, shared)
    with pytest.raises(NotFound):
        await sharing.revoke(BY, GRANTEE)
    await database.close()


async def test_a_narrow_view_hides_the_rest(own_postgresql_url: str) -> None:
    database = await Database.open(own_postgresql_url)
    sharing, _ = await sharing_of(database)
    shared = await sharing.share(BY, GRANTEE, wanted_grant(GRANTEE, "31010409,31010419"))
    reader = await as_grantee(own_postgresql_url, shared)
    found = {row["CivilCode"] for row in await reader.fetch("SELECT * FROM device")}
    assert found == {"31010409", "31010419"}
    await reader.close()
    assert await sharing.revoke(BY, GRANTEE) == 1
    await database.close()


async def test_sqlite_has_no_views_and_says_what_to_do(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    sharing, _ = await sharing_of(database)
    with pytest.raises(InvalidRequest, match="--out"):
        await sharing.share(BY, GRANTEE, wanted_grant(GRANTEE, "*"))
    await database.close()


@pytest.mark.parametrize("scope", ["", "abc", "310104,*", "310104,31010400002000000001", "3101041"])
def test_a_scope_that_is_none_is_refused(scope: str) -> None:
    with pytest.raises(InvalidRequest):
        wanted_grant(GRANTEE, scope)


async def test_an_unknown_grantee_is_given_nothing(sqlite_url: str, tmp_path: Path) -> None:
    database = await Database.open(sqlite_url)
    sharing, _ = await sharing_of(database)
    with pytest.raises(NotFound):
        await sharing.copy(BY, "nobody", wanted_grant("nobody", "*"), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
    await database.close()
