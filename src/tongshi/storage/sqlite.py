"""SQLite: one writer thread with a queue and group commit, and reader threads on WAL snapshots.

A second writing connection would starve (its busy handler polls, there is no queue), so the whole process
writes through one thread. That thread opens a transaction, gives each waiting unit a savepoint, commits once
for all of them, and only then tells the callers. A unit that raises loses its savepoint and nothing else.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from tongshi.errors import LocalViolation, Unavailable
from tongshi.storage.runner import Limits, Unit

T = TypeVar("T")
# Of the file, from its beginning; a larger file is read beyond that as before. Addresses, not memory.
MAP_BYTES = 2**31


class _Job:
    """One unit on its way: what to run, and whom to tell."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Callable[[Connection], object]) -> None:
        self.unit = unit
        self.future: Future[Any] = Future()
        self.result: object = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class SqliteRunner:
    """Runner for ``sqlite:///file`` URLs. Threads end in ``close``."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self._write_engine = _engine(url, "BEGIN IMMEDIATE", query_only=False, size=1)
        self._read_engine = _engine(url, "BEGIN", query_only=True, size=limits.readers)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(limits.queued_writes)
        self._readers = ThreadPoolExecutor(limits.readers, "tongshi-read")
        self._reading = 0
        self._closed = False
        self._writer = threading.Thread(target=self._write_loop, name="tongshi-write", daemon=True)
        self._writer.start()

    async def read(self, unit: Unit[T]) -> T:
        if self._closed or self._reading >= self._limits.queued_reads:
            raise Unavailable("数据库读取繁忙，请稍后重试", retry_after_s=self._limits.retry_after_s)
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, unit)
        finally:
            self._reading -= 1

    async def write(self, unit: Unit[T]) -> T:
        job = _Job(unit)
        if self._closed:
            raise Unavailable("数据库已关闭", retry_after_s=self._limits.retry_after_s)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Unavailable(
                "数据库写入繁忙，请稍后重试", retry_after_s=self._limits.retry_after_s
            ) from None
        result: T = await asyncio.wrap_future(job.future)
        return result

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._jobs.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True)
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _read(self, unit: Unit[T]) -> T:
        with self._read_engine.connect() as conn, _translated():
            return unit(conn)

    def _write_loop(self) -> None:
        job = self._jobs.get()
        while job is not None:
            job = self._commit_group(job)

    def _commit_group(self, first: _Job) -> _Job | None:
        """Run waiting units in one transaction. Returns the next job, or None when the loop must end."""
        done: list[_Job] = []
        job: _Job | None = first
        ends_at = time.monotonic() + self._limits.group_s
        stop = False
        try:
            with self._write_engine.connect() as conn, _translated(), conn.begin():
                while job is not None:
                    # A caller that was cancelled before its unit began gets no effect at all.
                    if job.future.set_running_or_notify_cancel():
                        done.append(job)
                        _run_in_savepoint(conn, job)
                    job = None
                    if len(done) < self._limits.group_units and time.monotonic() < ends_at:
                        job, stop = self._next_waiting()
        except BaseException as error:  # noqa: BLE001 - the thread must survive; every caller is told.
            for failed in done:
                failed.error = failed.error or error
            # Its caller may have given up meanwhile; who tells a cancelled future would end this thread.
            if job is not None and job not in done and job.future.set_running_or_notify_cancel():
                job.error = error
                done.append(job)
        for told in done:
            told.tell()
        return None if stop else self._jobs.get()

    def _next_waiting(self) -> tuple[_Job | None, bool]:
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None, False
        return job, job is None


def _run_in_savepoint(conn: Connection, job: _Job) -> None:
    savepoint = conn.begin_nested()
    try:
        with _translated():
            job.result = job.unit(conn)
    except BaseException as error:
        job.error = error
        # SQLite ends the whole transaction by itself on a full disk or an I/O error; then the group has
        # failed.
        if not _driver(conn).in_transaction:
            raise
        savepoint.rollback()
    else:
        savepoint.commit()


def _driver(conn: Connection) -> Any:
    return conn.connection.driver_connection


class _translated:
    """Turns "locked", "full" and "cannot open" into Unavailable; leaves wrong SQL as the bug it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        text = _fault(error)
        if any(word in text for word in ("locked", "full", "unable to open", "I/O", "readonly")):
            raise Unavailable(f"数据库不可用：{text}", retry_after_s=1.0) from error


def _fault(error: BaseException | None) -> str:
    """What SQLite says is the matter; empty for other errors.

    A full disk within a savepoint of the unit's own ends the transaction, and with it the savepoint that the
    unit then wants to go back to: the matter is what happened before.
    """
    while error is not None and "no such savepoint" in str(error):
        error = error.__context__
    if isinstance(error, DBAPIError) and type(error.orig).__name__ == "OperationalError":
        return str(error.orig)
    return ""


def _engine(url: str, begin: str, *, query_only: bool, size: int) -> Engine:
    if url in ("sqlite://", "sqlite:///:memory:"):
        raise LocalViolation("an in-memory SQLite database cannot be shared by threads; give a file")
    engine = create_engine(url, pool_size=size, max_overflow=0, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(dbapi_connection: Any, _record: object) -> None:
        # The driver's own BEGIN guessing is switched off: it would break savepoints and snapshots.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # An acknowledged write survives a power cut; group commit pays for it.
            "foreign_keys=ON",
            "busy_timeout=5000",
            "cache_size=-16384",
            "temp_store=MEMORY",
            # Readers look into the kernel's page cache instead of copying each page out of it: a question
            # that visits thousands of rows takes half the time. Writes do not go through the map.
            f"mmap_size={MAP_BYTES if query_only else 0}",
            f"query_only={'ON' if query_only else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine
