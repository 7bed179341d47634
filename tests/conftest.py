"""Fixtures for every test: a fresh database on each engine, and one PostgreSQL for the whole run."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import insert
from xdist.scheduler import LoadFileScheduling

from tongshi.storage.engine import Database
from tongshi.storage.schema import audit_head
from tongshi.testing.postgres import (
    PostgresMissing,
    create_database,
    drop_database,
    empty_database,
    private_postgres,
)

_WHOLE_PLATFORMS = "tests/e2e/"
_TEMPLATE = "tongshi_template"
_numbers = itertools.count(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Files as they are, but whole platforms to one worker: they start once, beside tests of parts."""
    return ByFileAndWholePlatforms(config, log) if config.getvalue("dist") == "loadfile" else None


class ByFileAndWholePlatforms(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """``--dist loadfile`` with the folder of whole platforms as one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return _WHOLE_PLATFORMS if file.startswith(_WHOLE_PLATFORMS) else file


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a test made of the process's logs is its own: another may want to see a line that it left out."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the run's own PostgreSQL server, with a migrated template database."""
    try:
        with private_postgres() as url:
            _run(_make_template(url))
            yield url
    except PostgresMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a fresh, migrated SQLite database."""
    path = tmp_path / "tongshi.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def spare_databases(postgres_server: str) -> list[str]:
    """URLs of databases that a finished test left behind, emptied."""
    return []


@pytest.fixture
def postgresql_url(postgres_server: str, spare_databases: list[str]) -> Iterator[str]:
    """URL of a fresh, migrated PostgreSQL database; to be damaged, take ``own_postgresql_url``."""
    if spare_databases:
        url = spare_databases.pop()
    else:
        url = _run(create_database(postgres_server, f"tongshi_{next(_numbers)}", _TEMPLATE))
    yield url
    if _run(_empty(url)):
        spare_databases.append(url)


@pytest.fixture
def own_postgresql_url(postgres_server: str) -> Iterator[str]:
    """URL of a migrated PostgreSQL database that nobody uses after this test."""
    name = f"tongshi_{next(_numbers)}"
    yield _run(create_database(postgres_server, name, _TEMPLATE))
    _run(drop_database(postgres_server, name))


@pytest.fixture(scope="module")
def lasting_sqlite_url(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a migrated SQLite database that every test of a module shares."""
    path = tmp_path_factory.mktemp("lasting") / "tongshi.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def lasting_postgresql_url(postgres_server: str) -> Iterator[str]:
    """URL of a migrated PostgreSQL database that every test of a module shares."""
    name = f"tongshi_{next(_numbers)}"
    yield _run(create_database(postgres_server, name, _TEMPLATE))
    _run(drop_database(postgres_server, name))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a fresh, migrated database; the test runs once on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database; the test runs once on each engine."""
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


async def _make_template(server_url: str) -> None:
    await _migrate(await create_database(server_url, _TEMPLATE))


async def _empty(url: str) -> bool:
    if not await empty_database(url, keep="alembic_version"):
        return False
    database = await Database.open(url)
    # The one row that the first migration writes.
    chain = {"id": 1, "first_seq": 0, "first_hash": bytes(32), "last_seq": 0, "last_hash": bytes(32)}
    await database.write(lambda conn: conn.execute(insert(audit_head), chain))
    await database.close()
    return True


async def _migrate(url: str) -> None:
    await (await Database.open(url)).close()


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    # In a thread of its own: fixtures may be set up while a test's loop exists.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
