"""What each of several lower platforms says of one device.

Implements: GB/T 28181-2022 Annex H
A device that one platform alone tells of has no row here. At most ``MAX_TELLERS`` are kept of a device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from tongshi.resources.devices.model import Word
from tongshi.storage.bulk import among, bulk_upsert, chunks
from tongshi.storage.schema import device_teller
from tongshi.storage.text import storable
from tongshi.storage.times import to_ms

MAX_TELLERS = 8

_t = device_teller.c
_COLUMNS = ("device_id", "teller", "parent_ids", "is_online", "updated_at")


def words(conn: Connection, device_ids: Sequence[str]) -> dict[str, dict[str, Word]]:
    """Of those that several tell of: what each says, by teller, in order of tellers."""
    found: dict[str, dict[str, Word]] = defaultdict(dict)
    for chunk in chunks(device_ids):
        statement = select(_t.device_id, _t.teller, _t.parent_ids, _t.is_online)
        for row in conn.execute(statement.where(among(conn, _t.device_id, chunk)).order_by(_t.teller)):
            parents = tuple(row.parent_ids.split("/")) if row.parent_ids else ()
            found[row.device_id][row.teller] = Word(parents, row.is_online)
    return dict(found)


def put_words(conn: Connection, told: Mapping[str, Mapping[str, Word]], at: datetime) -> None:
    """Write what was told, by device and teller."""
    rows = [
        (device_id, teller, storable("/".join(word.parent_ids)), word.is_online, to_ms(at))
        for device_id, by_teller in told.items()
        for teller, word in list(by_teller.items())[:MAX_TELLERS]
    ]
    bulk_upsert(conn, device_teller, _COLUMNS, rows)


def forget_words(conn: Connection, teller: str, device_ids: Sequence[str]) -> None:
    """One of them says nothing of these any more."""
    for chunk in chunks(device_ids):
        conn.execute(delete(device_teller).where(_t.teller == teller, among(conn, _t.device_id, chunk)))
