"""What plans, tags and subscriptions ask of the archive: who is there, and whether it works."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, false, func, select

from tongshi.resources.devices import query_store
from tongshi.resources.devices.reading_store import scope_clause
from tongshi.resources.devices.selection import Selection, Sort
from tongshi.sharing.model import Scope, Target
from tongshi.storage.bulk import among, chunks
from tongshi.storage.schema import device_archive, device_status

_a = device_archive.c


def presence(conn: Connection, device_ids: Sequence[str], scope: Scope) -> dict[str, bool]:
    """Ids of the scope, each with whether it is in the archive and not missing.

    An id that the archive never had is of the scope only when the scope holds everything or names it: a
    division or an owner says nothing about it.
    """
    found: dict[str, bool] = {}
    unknown = set(device_ids)
    for chunk in chunks(device_ids):
        statement = select(_a.device_id, _a.missing_since, scope_clause(scope).label("is_seen"))
        for row in conn.execute(statement.where(among(conn, _a.device_id, chunk))):
            unknown.discard(row.device_id)
            if row.is_seen:
                found[row.device_id] = row.missing_since is None
    found.update((key, False) for key in unknown if scope.holds(Target(key)))
    return found


def after(conn: Connection, scope: Scope, but_of: str, after_id: str, limit: int) -> list[tuple[str, bool]]:
    """The next devices of a scope without those of one owner, in order, each with whether it works."""
    s = device_status.c
    statement = (
        select(_a.device_id, func.coalesce(s.is_online, false()).label("is_online"))
        .select_from(device_archive.outerjoin(device_status, s.device_id == _a.device_id))
        .where(scope_clause(scope), _a.missing_since.is_(None), _a.owner_platform != but_of)
        .where(_a.device_id > after_id)
        .order_by(_a.device_id)
        .limit(limit)
    )
    return [(row.device_id, bool(row.is_online)) for row in conn.execute(statement)]


def selected(conn: Connection, selection: Selection, most: int) -> list[str]:
    """Ids of a selection in order, at most ``most``."""
    return [key for key, _ in query_store.keys(conn, selection, Sort.ID, most)]


def count(conn: Connection, selection: Selection) -> int:
    """How many devices a selection holds."""
    return query_store.count(conn, selection)
