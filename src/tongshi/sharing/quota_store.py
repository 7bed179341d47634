"""Quotas and their counters in the database, and the keys that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from tongshi.sharing import store
from tongshi.sharing.quota_model import Limit, Measure, Period, Use, began, ends
from tongshi.storage.schema import api_key, key_quota, quota_use
from tongshi.storage.times import to_ms

# What was used is shown no longer than that after its day or month.
KEPT = timedelta(days=62)


def limits_of(conn: Connection, key_id: str) -> tuple[Limit, ...]:
    """The limits of one key, in a fixed order."""
    return limits_of_many(conn, [key_id]).get(key_id, ())


def limits_of_many(conn: Connection, key_ids: Iterable[str]) -> dict[str, tuple[Limit, ...]]:
    """The limits of keys that have some."""
    q = key_quota.c
    found: dict[str, tuple[Limit, ...]] = {}
    rows = conn.execute(
        select(key_quota)
        .where(q.key_id.in_(list(key_ids)))
        .order_by(q.key_id, q.measure, q.quota_class, q.period)
    )
    for row in rows:
        limit = Limit(Measure(row.measure), row.quota_class, Period(row.period), row.most)
        found[row.key_id] = (*found.get(row.key_id, ()), limit)
    return found


def put_limits(conn: Connection, key_id: str, limits: Iterable[Limit], by: str, at: datetime) -> None:
    """Replace the limits of a key; what was used already stays used."""
    conn.execute(delete(key_quota).where(key_quota.c.key_id == key_id))
    rows = [
        {
            "key_id": key_id,
            "measure": limit.measure.value,
            "quota_class": limit.quota_class,
            "period": limit.period.value,
            "most": limit.most,
            "set_by": by,
            "set_at": to_ms(at),
        }
        for limit in limits
    ]
    if rows:
        conn.execute(insert(key_quota), rows)


def take(
    conn: Connection, key_id: str, limit: Limit, wanted: int, beyond: int, at: datetime
) -> tuple[int, int]:
    """Take ``wanted`` of a limit and up to ``beyond`` more to spend later, or nothing.

    What is taken counts as used from here on, so that no process can spend it twice and none that is killed
    gives it back. Of what is left one part in twenty is the most that is taken beyond.

    Returns:
        What was taken (0 when less than ``wanted`` is left), and how much is used now.
    """
    u = quota_use.c
    name = {
        "key_id": key_id,
        "measure": limit.measure.value,
        "quota_class": limit.quota_class,
        "period": limit.period.value,
        "began": began(limit.period, at),
    }
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert
    else:
        from sqlalchemy.dialects.sqlite import insert as upsert  # type: ignore[assignment]
    first = upsert(quota_use).values(**name, used=0, ends_at=to_ms(ends(limit.period, at)))
    conn.execute(first.on_conflict_do_nothing())
    here = and_(*(u[column] == value for column, value in name.items()))
    used: int = conn.execute(select(u.used).where(here).with_for_update()).scalar_one()
    left = limit.most - used
    if wanted > left:
        return 0, used
    taken = wanted + min(beyond, (left - wanted) // 20)
    conn.execute(update(quota_use).where(here).values(used=used + taken))
    return taken, used + taken


def give_back(
    conn: Connection, key_id: str, counter: tuple[Measure, str, Period], began_: str, n: int
) -> None:
    """What a process took and did not spend before it ended in order."""
    u = quota_use.c
    measure, quota_class, period = counter
    conn.execute(
        update(quota_use)
        .where(
            u.key_id == key_id,
            u.measure == measure.value,
            u.quota_class == quota_class,
            u.period == period.value,
            u.began == began_,
            u.used >= n,
        )
        .values(used=u.used - n)
    )


def uses_of(
    conn: Connection, limits: dict[str, tuple[Limit, ...]], at: datetime
) -> dict[str, tuple[Use, ...]]:
    """How the limits of keys stand now."""
    u = quota_use.c
    now = [and_(u.period == period.value, u.began == began(period, at)) for period in Period]
    rows = conn.execute(select(quota_use).where(u.key_id.in_(list(limits)), or_(*now)))
    used = {(row.key_id, row.measure, row.quota_class, row.period): row.used for row in rows}
    return {
        key_id: tuple(
            Use(limit, used.get((key_id, *limit.counter), 0), ends(limit.period, at)) for limit in held
        )
        for key_id, held in limits.items()
    }


def list_keys(conn: Connection, page_no: int, page_size: int) -> tuple[list[store.ApiKey], int]:
    """One page of keys in order of their ids, and how many there are."""
    total = conn.execute(select(func.count()).select_from(api_key)).scalar_one()
    page = select(api_key.c.id).order_by(api_key.c.id)
    ids = conn.execute(page.limit(page_size).offset((page_no - 1) * page_size)).scalars().all()
    keys = [store.find_key(conn, key_id) for key_id in ids]
    return [key for key in keys if key is not None], total


def forget(conn: Connection, before: datetime, most: int) -> int:
    """Delete counters of days and months that ended before a time. Returns how many went."""
    u = quota_use.c
    wanted = select(u.key_id, u.measure, u.quota_class, u.period, u.began)
    rows = conn.execute(wanted.where(u.ends_at <= to_ms(before)).order_by(u.ends_at).limit(most)).all()
    for row in rows:
        names = row._asdict().items()
        conn.execute(delete(quota_use).where(and_(*(u[name] == value for name, value in names))))
    return len(rows)
