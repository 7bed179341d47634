"""A bound on the time that questions may take in the database.

SQLite asks us now and then while a statement runs, PostgreSQL has a time-out of its own for each statement.
Either way the statement ends, and the caller is told how to ask for less.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tongshi.errors import Unavailable


class Overlong(Unavailable):
    """A question took longer than its budget and was ended."""


# Steps of SQLite's machine between two looks at the clock: some milliseconds.
_STEPS = 100_000
_CANCELLED = "57014"


@contextmanager
def within(conn: Connection, budget_s: float, way_out: str) -> Iterator[None]:
    """Statements of the block may take so long: together on SQLite, each of them on PostgreSQL.

    On PostgreSQL that holds until the transaction ends, which saves a round trip.

    Args:
        conn: connection in a transaction.
        budget_s: seconds.
        way_out: what the caller is told to do instead, in Chinese.

    Raises:
        Overlong: it took longer.
    """
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(f"SET LOCAL statement_timeout = {int(budget_s * 1000)}")
        try:
            yield
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _CANCELLED:
                raise _overlong(budget_s, way_out) from error
            raise
        return
    driver = conn.connection.driver_connection
    assert driver is not None
    ends_at = time.monotonic() + budget_s
    driver.set_progress_handler(lambda: time.monotonic() > ends_at, _STEPS)
    try:
        yield
    except DBAPIError as error:
        if str(error.orig) == "interrupted":
            raise _overlong(budget_s, way_out) from error
        raise
    finally:
        driver.set_progress_handler(None, 0)


def _overlong(budget_s: float, way_out: str) -> Overlong:
    return Overlong(f"查询超过 {budget_s:g} 秒，已中止。{way_out}", retry_after_s=budget_s)
