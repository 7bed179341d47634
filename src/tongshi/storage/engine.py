"""The database as the rest of the program sees it: units of plain synchronous code over a connection.

A unit of work is an ordinary function ``work(conn, *args)``. ``write`` runs it in one transaction and answers
only after the commit; an exception rolls back this unit and no other. ``read`` runs it on a consistent
snapshot that cannot write. On SQLite one writer thread and several reader threads do the work
(``sqlite.py``), on PostgreSQL asyncpg under ``run_sync`` (``postgresql.py``). One hop a unit, not one a
statement.

A unit may run twice on PostgreSQL (deadlock, serialisation failure), so it must do nothing but database work.
All times in the database are milliseconds since 1970-01-01 UTC in BIGINT columns, on both engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.util import await_only

from tongshi.errors import InvalidRequest, Unavailable
from tongshi.storage import migrate as migration
from tongshi.storage.postgresql import AWAY, PostgresqlRunner
from tongshi.storage.runner import Limits, Runner
from tongshi.storage.sqlite import SqliteRunner

P = ParamSpec("P")
T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql"]
_URLS = "应为 sqlite:///文件 或 postgresql://用户@主机:端口/库名"
# What SQLite says of a file -> words with the way out.
_FILE_FAULTS = {
    "unable to open": "所在目录不存在，或没有读写权限",
    "not a database": "它不是 SQLite 数据库，请检查 storage.url",
    "readonly": "没有写权限",
    "malformed": "文件已损坏，请从备份恢复",
}


class Database:
    """An open database. Made by ``open``; ended by ``close``."""

    def __init__(self, url: str, dialect: Dialect, runner: Runner) -> None:
        self.url = url
        self.dialect: Dialect = dialect
        self._runner = runner

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True, limits: Limits | None = None) -> Database:
        """Connect, and bring the schema to this program's version.

        Args:
            url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or
            ``postgresql://user@host:port/name``.
            migrate: run outstanding migrations; when false they must have been run.
            limits: bounds of queues and waiting.

        Raises:
            Unavailable: the database cannot be reached or opened; the message says which and what to do.
            InvalidRequest: the URL is none, or names another kind of database.
            LocalViolation: the schema is newer than this program.
        """
        limits = limits or Limits()
        backend = _target(url).get_backend_name()
        runner: Runner
        if backend == "sqlite":
            runner, dialect = SqliteRunner(url, limits), "sqlite"
        elif backend == "postgresql":
            runner, dialect = PostgresqlRunner(url, limits), "postgresql"
        else:
            raise InvalidRequest(f"不支持的数据库 {backend}；storage.url {_URLS}", field="storage.url")
        database = cls(url, "sqlite" if dialect == "sqlite" else "postgresql", runner)
        try:
            with _opening(url):
                await database.write(migration.upgrade if migrate else migration.check)
        except BaseException:
            await runner.close()
            raise
        return database

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` on one consistent snapshot, read-only. Raises Unavailable when too many wait."""
        with _values_refused():
            return await self._runner.read(lambda conn: work(conn, *args, **kwargs))

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` in one transaction; return after its commit. Raises Unavailable when too many wait."""
        with _values_refused():
            return await self._runner.write(lambda conn: work(conn, *args, **kwargs))

    async def close(self) -> None:
        """Finish what was accepted, then let go of every connection and thread."""
        await self._runner.close()


def offload(conn: Connection, work: Callable[[], T]) -> T:
    """Run pure work in the middle of a unit without holding up the loop.

    A unit on SQLite runs in a thread of its own already; on PostgreSQL it runs in the loop between two
    answers of the server, so that seconds of Python there would stop everybody.
    """
    if conn.dialect.name == "postgresql":
        return await_only(asyncio.to_thread(work))
    return work()


def _target(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise InvalidRequest(f"storage.url 不是数据库地址，{_URLS}", field="storage.url") from error


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Name the database that could not be opened, and what may be the matter; never its password."""
    target = _target(url)
    try:
        yield
    except DBAPIError as error:
        words = next((words for mark, words in _FILE_FAULTS.items() if mark in str(error.orig)), "")
        if target.get_backend_name() != "sqlite" or not words:
            raise
        raise Unavailable(f"无法打开数据库文件 {target.database}：{words}") from error
    except Unavailable as error:
        if error.message != AWAY:
            raise
        where = f"{target.host or 'localhost'}:{target.port or 5432}"
        raise Unavailable(f"连接不上数据库 {where}，请确认它已启动，或改正 storage.url") from error


@contextmanager
def _values_refused() -> Iterator[None]:
    """A value that no column can hold came from outside: NUL, half a surrogate, an integer past 64 bits."""
    try:
        yield
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidRequest("含有无法存储的字符或数值") from error
    except DBAPIError as error:
        # SQLSTATE class 22 is "data exception".
        if str(getattr(error.orig, "sqlstate", "")).startswith("22"):
            raise InvalidRequest("含有无法存储的字符或数值") from error
        raise
