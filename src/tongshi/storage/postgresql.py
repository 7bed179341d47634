"""PostgreSQL 15 and later: asyncpg under SQLAlchemy, units of work by ``run_sync``.

Readers see one snapshot (REPEATABLE READ, READ ONLY), as they do on SQLite. Writers run READ COMMITTED and
take locks where order matters. A deadlock or serialisation failure, and a connection lost before the commit
was sent, are tried again within ``patience_s``; a connection lost while committing is reported, because
nobody knows how it ended.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TypeVar

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tongshi.errors import Unavailable
from tongshi.storage.runner import Limits, Unit

T = TypeVar("T")
_RETRY_STATES = frozenset({"40001", "40P01"})
_AWAY = (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError)


class PostgresqlRunner:
    """Runner for ``postgresql://`` URLs."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self._engine = _engine(url, limits)
        self._reading_engine = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._waiting = 0
        self._closed = False

    async def read(self, unit: Unit[T]) -> T:
        return await self._bounded(self._reading_engine, unit, self._limits.queued_reads)

    async def write(self, unit: Unit[T]) -> T:
        return await self._bounded(self._engine, unit, self._limits.queued_writes)

    async def close(self) -> None:
        self._closed = True
        await self._engine.dispose()

    async def _bounded(self, engine: AsyncEngine, unit: Unit[T], bound: int) -> T:
        if self._closed or self._waiting >= bound:
            raise Unavailable("数据库繁忙，请稍后重试", retry_after_s=self._limits.retry_after_s)
        self._waiting += 1
        try:
            return await self._patiently(engine, unit)
        finally:
            self._waiting -= 1

    async def _patiently(self, engine: AsyncEngine, unit: Unit[T]) -> T:
        ends_at = time.monotonic() + self._limits.patience_s
        pause_s = 0.02
        while True:
            committing = False
            try:
                async with engine.connect() as conn:
                    result = await conn.run_sync(unit)
                    committing = True
                    await conn.commit()
                    return result
            except (*_AWAY, DBAPIError, PoolTimeout) as error:
                if not _may_pass(error):
                    refusal = _refusal(error)
                    if refusal:
                        raise Unavailable(refusal) from error
                    raise
                lost = committing and not _is_conflict(error)
                if lost or time.monotonic() + pause_s > ends_at:
                    raise Unavailable(AWAY, retry_after_s=self._limits.retry_after_s) from error
            # Jitter, so that two units that met in a deadlock do not meet again.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
            pause_s = min(pause_s * 2, 0.5)


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _RETRY_STATES


def _may_pass(error: BaseException) -> bool:
    """Whether waiting can help: a conflict, an empty pool, or a server that is away."""
    if not isinstance(error, DBAPIError):
        return True
    if _is_conflict(error) or error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    return state.startswith("08") or state in {"57P01", "57P02", "57P03", "53300"}


AWAY = "数据库暂不可用，请稍后重试"
# What an administrator has to mend: SQLSTATE -> words with the way out.
_REFUSALS = {
    "3D000": "数据库不存在，请先创建（createdb），或改正 storage.url",
    "28P01": "数据库口令不正确，请检查 storage.url",
    "28000": "数据库拒绝该用户，请检查 storage.url 与 pg_hba.conf",
    "42501": "数据库用户权限不足，请授予建表权限",
}


def _refusal(error: BaseException) -> str:
    """Words for a refusal that waiting does not mend; empty for any other fault."""
    return _REFUSALS.get(getattr(getattr(error, "orig", None), "sqlstate", None) or "", "")


def _engine(url: str, limits: Limits) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        # None beyond the pool: those would be opened and closed again for every unit when many ask.
        pool_size=max(2, 2 * limits.readers),
        max_overflow=0,
        # The connection used last has its statements prepared; the others may rest.
        pool_use_lifo=True,
        pool_timeout=limits.patience_s,
        connect_args={
            "timeout": limits.patience_s,
            "server_settings": {
                "application_name": "tongshi",
                "timezone": "UTC",
                # After five times the server would plan a prepared statement for any box and any scope, and a
                # small box among a million archives would take three times as long as with its planning.
                "plan_cache_mode": "force_custom_plan",
            },
        },
    )
