"""The indexes of search and place, in the database; they follow the change feed.

An index is no part of an archive: writing it with each archive would make every exchange several times
slower. So the feed is followed from a stored position, in batches; whoever searches brings the index up to
date (``indexing.SearchIndex``). An index that was never made, or that fell behind the feed's compaction,
begins with all archives. On SQLite the words' index keeps no text, so that a change must name the pieces
that go; they follow from the folded text that ``device_search`` keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from tongshi.resources.devices.search_terms import Document, document, pieces
from tongshi.storage import changes
from tongshi.storage.bulk import bulk_upsert, chunks
from tongshi.storage.schema import device_archive, device_search, setting

# Device id, name, address, longitude, latitude.
Entry = tuple[str, str | None, str | None, float | None, float | None]
Row = Any

KIND = "device"
BATCH = 2_000
POSITION, STARTED, REACHED = "search_position", "search_started", "search_reached"
_COLUMNS = ("number", "device_id", "text", "initials", "longitude", "latitude")
_LOCK = text("SELECT pg_advisory_xact_lock(7311003)")
_s = device_search.c
_a = device_archive.c


def write(conn: Connection, entries: Sequence[Entry]) -> None:
    """Index archives anew, at most a few thousand, each id once; one writer at a time."""
    known = _known(conn, [entry[0] for entry in entries])
    number = conn.execute(select(func.coalesce(func.max(_s.number), 0))).scalar_one()
    rows: list[Row] = []
    worded: list[tuple[int, Document, Document | None]] = []
    placed: list[tuple[int, float | None, float | None, Row | None]] = []
    for device_id, name, address, longitude, latitude in entries:
        held = known.get(device_id)
        if held is None:
            number += 1
        own = number if held is None else held.number
        told = document(device_id, name or "", address or "")
        lon, lat = _place(longitude, latitude)
        before = None if held is None else Document(held.text, held.initials)
        if told != before:
            worded.append((own, told, before))
        if held is None or (held.longitude, held.latitude) != (lon, lat):
            placed.append((own, lon, lat, held))
        elif told == before:
            continue
        rows.append((own, device_id, told.text, told.initials, lon, lat))
    bulk_upsert(conn, device_search, _COLUMNS, rows)
    if conn.dialect.name == "sqlite":
        _write_sqlite(conn, worded, placed)
    else:
        _write_postgresql(conn, worded, placed)


def is_current(conn: Connection) -> bool:
    """Whether every archive that can be seen is indexed as it is."""
    position = _position(conn)
    return position is not None and not changes.read_after(conn, position, 1, {KIND})


def catch_up(conn: Connection) -> bool:
    """Take the next step towards the feed's end. Returns whether more is to be done."""
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)
    position = _position(conn)
    if position is None:
        return _begin(conn)
    noted = changes.read_after(conn, position, BATCH, {KIND})
    write(conn, _entries(conn, sorted({change.key for change in noted})))
    _set(conn, POSITION, str(noted[-1].seq if noted else changes.head(conn)))
    return len(noted) == BATCH


def _begin(conn: Connection) -> bool:
    """Index the next archives in order of id; the position is that of the feed before the first of them."""
    started = _get(conn, STARTED)
    if started is None:
        _set(conn, STARTED, started := str(changes.head(conn)))
        _set(conn, REACHED, "")
    after = _get(conn, REACHED) or ""
    ids = list(
        conn.execute(
            select(_a.device_id).where(_a.device_id > after).order_by(_a.device_id).limit(BATCH)
        ).scalars()
    )
    write(conn, _entries(conn, ids))
    if ids:
        _set(conn, REACHED, ids[-1])
        return True
    _set(conn, POSITION, started)
    conn.execute(delete(setting).where(setting.c.name.in_((STARTED, REACHED))))
    return True


def _position(conn: Connection) -> int | None:
    """Where the index stands; None when it must begin anew."""
    text_ = _get(conn, POSITION)
    if text_ is None or int(text_) < changes.floor(conn):
        return None
    return int(text_)


def _get(conn: Connection, name: str) -> str | None:
    return conn.execute(select(setting.c.value).where(setting.c.name == name)).scalar_one_or_none()


def _set(conn: Connection, name: str, value: str) -> None:
    bulk_upsert(conn, setting, ("name", "value"), [(name, value)])


def _entries(conn: Connection, device_ids: Sequence[str]) -> list[Entry]:
    columns = (_a.device_id, _a["name"], _a.address, _a.longitude, _a.latitude)
    found: list[Entry] = []
    for chunk in chunks(device_ids):
        rows = conn.execute(select(*columns).where(_a.device_id.in_(chunk)))
        found += [(row[0], row[1], row[2], row[3], row[4]) for row in rows]
    return found


def _place(longitude: float | None, latitude: float | None) -> tuple[float | None, float | None]:
    """A position, or none: both numbers, on the globe, and not the 0, 0 of devices that know none."""
    if longitude is None or latitude is None or (longitude == 0 and latitude == 0):
        return None, None
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        return None, None
    return longitude, latitude


def _known(conn: Connection, device_ids: Sequence[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for chunk in chunks(device_ids):
        found.update(
            (row.device_id, row) for row in conn.execute(select(device_search).where(_s.device_id.in_(chunk)))
        )
    return found


def _write_sqlite(
    conn: Connection,
    worded: Iterable[tuple[int, Document, Document | None]],
    placed: Iterable[tuple[int, float | None, float | None, Row | None]],
) -> None:
    gone, come = [], []
    for number, told, before in worded:
        if before is not None:
            gone.append((number, " ".join(pieces(before))))
        come.append((number, " ".join(pieces(told))))
    if gone:
        conn.exec_driver_sql(
            "INSERT INTO device_terms (device_terms, rowid, terms) VALUES ('delete', ?, ?)", gone
        )
    if come:
        conn.exec_driver_sql("INSERT INTO device_terms (rowid, terms) VALUES (?, ?)", come)
    left = [(number,) for number, _, _, held in placed if held is not None]
    if left:
        conn.exec_driver_sql("DELETE FROM device_box WHERE number = ?", left)
    points = [(number, lon, lon, lat, lat) for number, lon, lat, _ in placed if lon is not None]
    if points:
        conn.exec_driver_sql("INSERT INTO device_box VALUES (?, ?, ?, ?, ?)", points)


def _write_postgresql(
    conn: Connection,
    worded: Iterable[tuple[int, Document, Document | None]],
    placed: Iterable[tuple[int, float | None, float | None, Row | None]],
) -> None:
    words = [{"number": number, "pieces": pieces(told)} for number, told, _ in worded]
    if words:
        conn.execute(_PUT_WORDS, words)
    for chunk in chunks([str(number) for number, _, _, held in placed if held is not None]):
        conn.execute(_DROP_PLACES, {"numbers": [int(number) for number in chunk]})
    points = [{"number": number, "lon": lon, "lat": lat} for number, lon, lat, _ in placed if lon is not None]
    if points:
        conn.execute(_PUT_PLACES, points)


_PUT_WORDS = text(
    "INSERT INTO device_terms (number, terms) VALUES (:number, array_to_tsvector(CAST(:pieces AS text[]))) "
    "ON CONFLICT (number) DO UPDATE SET terms = excluded.terms"
)
_DROP_PLACES = text("DELETE FROM device_box WHERE number = ANY(CAST(:numbers AS integer[]))")
_PUT_PLACES = text(
    "INSERT INTO device_box (number, place) "
    "VALUES (:number, point(CAST(:lon AS double precision), CAST(:lat AS double precision)))"
)
