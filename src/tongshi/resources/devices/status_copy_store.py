"""What the copy of statuses in memory reads: it follows the change feed, and is never older than a snapshot.

A status is copied by the number that the place index gave its device. ``fetch`` reads the next step from one
snapshot; ``turned`` tells, in the snapshot of a question, what has turned since the copy's position, so that
copy and ``turned`` together are at least as new as what the snapshot shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, Integer, bindparam, literal, select, true

from tongshi.resources.devices.query_store import numbered
from tongshi.resources.devices.store import KIND_STATUS
from tongshi.storage import changes
from tongshi.storage.bulk import among
from tongshi.storage.schema import change, device_search, device_status

# Turned or copied in one step.
BATCH = 5_000
_s, _t = device_search.c, device_status.c
_NUMBERED = device_search.outerjoin(device_status, _s.device_id == _t.device_id)
_NEWER = (
    select(change.c.key)
    .where(change.c.seq > bindparam("position", type_=BigInteger), change.c.kind == KIND_STATUS)
    .order_by(change.c.seq)
    .limit(bindparam("most", type_=Integer))
    .subquery()
)
# One row at least, so that the floor is told when nothing turned. Put together once: that took longer than
# to ask.
_TURNED = select(changes.floor_value(), _NEWER.c.key).select_from(
    select(literal(1)).subquery().outerjoin(_NEWER, true())
)
_STATUS = select(_s.number, _t.is_online).select_from(_NUMBERED)

# Number of a device in the place index, and its status: None for a device whose status nobody told.
Status = tuple[int, bool | None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One step, from one snapshot: the copy is current to ``position`` and whole up to number ``reached``.

    ``has_more`` says that another step is due at once.
    """

    position: int
    reached: int
    statuses: list[Status]
    has_more: bool


def fetch(conn: Connection, position: int | None, reached: int) -> Fetched:
    """The next step of a copy that stands at ``position`` (None: at nothing) and ``reached``.

    Raises:
        Gone: the feed was compacted past ``position``; the copy must begin anew.
    """
    if position is None:
        return Fetched(changes.head(conn), 0, [], has_more=True)
    noted = changes.read_after(conn, position, BATCH, {KIND_STATUS})
    has_more = len(noted) == BATCH
    head = noted[-1].seq if has_more else max(position, changes.head(conn))
    turned = _by_id(conn, sorted({one.key for one in noted})) if noted else []
    page = _STATUS.where(_s.number > reached).order_by(_s.number).limit(BATCH)
    fresh: list[Status] = [(row[0], row[1]) for row in conn.execute(page)]
    if fresh:
        reached = fresh[-1][0]
    return Fetched(head, reached, turned + fresh, has_more or len(fresh) == BATCH)


def turned(conn: Connection, position: int, most: int) -> dict[int, bool | None] | None:
    """Statuses that turned after a position, as this snapshot shows them.

    None when they are more than ``most``, or when the feed no longer tells all of them. Without the feed's
    fence: what is visible here and cannot be followed yet is told as well.
    """
    rows = conn.execute(_TURNED, {"position": position, "most": most + 1}).all()
    if len(rows) > most or position < int(rows[0][0] or 0):
        return None
    return dict(_by_id(conn, [key for _, key in rows])) if rows[0][1] is not None else {}


def of_numbers(conn: Connection, numbers: Sequence[int]) -> dict[int, bool | None]:
    """Statuses by number, as this snapshot shows them."""
    return {row[0]: row[1] for row in conn.execute(_STATUS.where(numbered(conn, _s.number, numbers)))}


def _by_id(conn: Connection, device_ids: Sequence[str]) -> list[Status]:
    """Those of the devices that have a number; the others are copied when they get one."""
    rows = conn.execute(_STATUS.where(among(conn, _s.device_id, device_ids)))
    return [(row[0], row[1]) for row in rows]
