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

from tongshi.storage.engine import Database
from tongshi.testing.postgres import PostgresMissing, create_database, drop_database, private_postgres

_TEMPLATE = "tongshi_template"
_numbers = itertools.count(1)


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


@pytest.fixture
def postgresql_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, migrated PostgreSQL database."""
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


async def _migrate(url: str) -> None:
    await (await Database.open(url)).close()


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    # In a thread of its own: fixtures may be set up while a test's loop exists.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
