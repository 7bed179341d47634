"""The indexes of search and place, in the database; they follow the change feed.

An index is no part of an archive: writing it with each archive would make every exchange several times
slower. So the feed is followed from a stored position, in steps: a reader fetches what the next step needs
(``fetch``), the pieces are cut outside of any transaction (``make``), and a short transaction writes them
(``apply``), so that the one writer of SQLite is held for some tens of milliseconds at most. A step that
another process has taken meanwhile is dropped. An index that was never made, or that fell behind the feed's
compaction, begins with all archives. On SQLite the words' index keeps no text, so that a change must name the
pieces that go; they follow from the folded text that ``device_search`` keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Connection, cast, delete, func, literal, select, text

from tongshi.resources.devices.search_terms import Document, document, pieces
from tongshi.resources.devices.wire import DeviceTold, told_values
from tongshi.storage import changes
from tongshi.storage.bulk import among, bulk_upsert, stage
from tongshi.storage.schema import COPIED_COLUMNS, change, device_archive, device_search, setting

Row = Any

KIND = "device"
BATCH = 2_000
# The feed holds other changes too (status); past so many the position moves on although nothing is indexed.
TRAILING = 500
# Remaining changes are counted no further than this.
MAX_COUNTED = 5_000_000
POSITION, STARTED, REACHED = "search_position", "search_started", "search_reached"
_COPIED = tuple(name for name, _ in COPIED_COLUMNS)
_COLUMNS = ("number", "device_id", "text", "initials", "longitude", "latitude", *_COPIED)
_LOCK = text("SELECT pg_advisory_xact_lock(7311003)")
_s = device_search.c
_a = device_archive.c


class Entry(NamedTuple):
    """What an archive says that is indexed, copied or shown; named as its columns, its own id first."""

    device_id: str
    name: str
    civil_code: str
    owner_platform: str
    revision: int
    longitude: float | None
    latitude: float | None
    ptz_type: int | None
    point_type: int | None
    is_controllable: bool | None
    is_networked: bool | None
    industries: str
    address: str
    missing_since: int | None

    @property
    def shown(self) -> str:
        """``DeviceTold`` as JSON without its braces; a list adds status and coordinate system before it."""
        return msgspec.json.encode(DeviceTold(*told_values(self[:_TOLD])))[1:-1].decode()


_TOLD = len(DeviceTold.__struct_fields__)


class State(NamedTuple):
    """Where the index stands: followed up to ``position``, or being made anew from ``started``."""

    position: str | None
    started: str | None
    reached: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one step needs, from one snapshot."""

    before: State
    after: State
    entries: list[Entry]
    known: dict[str, Row]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Word:
    """Text of one archive as it is indexed from now on; ``gone`` are the pieces that it had."""

    device_id: str
    told: Document
    come: list[str]
    gone: list[str] | None


@dataclass(frozen=True, slots=True)
class Step:
    """What one step writes. ``rows`` are those of ``device_search``, None for a number to be given."""

    before: State
    after: State
    rows: list[Row]
    words: list[Word]
    places: list[tuple[str, float | None, float | None, bool]]  # the last says whether one is held
    has_more: bool


def is_current(conn: Connection) -> bool:
    """Whether every archive that this snapshot shows is indexed as it is."""
    return current_to(conn) is not None


def current_to(conn: Connection) -> int | None:
    """The change to which the index followed, if it knows every archive as this snapshot shows it."""
    position, floor, newer = conn.execute(_STANDING).one()
    if position is None or int(position) < int(floor or 0) or newer is not None:
        return None
    return int(position)


def is_trailing(conn: Connection) -> bool:
    """Whether a step is due: something to index, or many other changes to step past."""
    position = _position(conn, _state(conn))
    if position is None or not is_current(conn):
        return True
    newer = select(change.c.seq).where(change.c.seq > position).order_by(change.c.seq)
    return conn.execute(newer.offset(TRAILING - 1).limit(1)).first() is not None


def remaining(conn: Connection) -> int:
    """How many archives (or changes of archives) are not indexed yet."""
    state = _state(conn)
    position = _position(conn, state)
    if position is None:
        left = select(literal(1)).where(_a.device_id > (state.reached or ""))
    else:
        left = select(literal(1)).where(change.c.seq > position, change.c.kind == KIND)
    return int(
        conn.execute(select(func.count()).select_from(left.limit(MAX_COUNTED).subquery())).scalar_one()
    )


def fetch(conn: Connection) -> Fetched:
    """What the next step towards the feed's end needs."""
    before = _state(conn)
    position = _position(conn, before)
    if position is None:
        return _fetch_anew(conn, before)
    noted = changes.read_after(conn, position, BATCH, {KIND})
    reached = noted[-1].seq if noted else changes.head(conn)
    after = State(str(reached), None, None)
    return _fetched(conn, before, after, sorted({one.key for one in noted}), len(noted) == BATCH)


def make(fetched: Fetched) -> Step:
    """Cut the pieces of what was fetched; no database in here."""
    rows: list[Row] = []
    words: list[Word] = []
    places: list[tuple[str, float | None, float | None, bool]] = []
    for entry in fetched.entries:
        device_id = entry.device_id
        held = fetched.known.get(device_id)
        told = document(device_id, entry.name or "", entry.address or "")
        lon, lat = _place(entry.longitude, entry.latitude)
        before = None if held is None else Document(held.text, held.initials)
        if told != before:
            words.append(Word(device_id, told, pieces(told), None if before is None else pieces(before)))
        if held is None or (held.longitude, held.latitude) != (lon, lat):
            places.append((device_id, lon, lat, held is not None))
        copied = (getattr(entry, name) for name in _COPIED)
        row = (None if held is None else held.number, device_id, told.text, told.initials, lon, lat, *copied)
        if held is None or tuple(held) != row:
            rows.append(row)
    return Step(fetched.before, fetched.after, rows, words, places, fetched.has_more)


def apply(conn: Connection, step: Step) -> bool:
    """Write one step. Returns False, and writes nothing, when the index has moved since it was fetched."""
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)
    if _state(conn) != step.before:
        return False
    last = conn.execute(select(func.coalesce(func.max(_s.number), 0))).scalar_one()
    numbers: dict[str, int] = {}
    for number, device_id, *_ in step.rows:
        if number is None:
            number = last = last + 1
        numbers[device_id] = number
    bulk_upsert(conn, device_search, _COLUMNS, [(numbers[row[1]], *row[1:]) for row in step.rows])
    write = _write_sqlite if conn.dialect.name == "sqlite" else _write_postgresql
    write(conn, step, numbers)
    told = [(name, value) for name, value in zip(_NAMES, step.after, strict=True) if value is not None]
    bulk_upsert(conn, setting, ("name", "value"), told)
    gone = [name for name, value in zip(_NAMES, step.after, strict=True) if value is None]
    conn.execute(delete(setting).where(setting.c.name.in_(gone)))
    return True


def _fetch_anew(conn: Connection, before: State) -> Fetched:
    """The next archives in order of id; the position will be that of the feed before the first of them."""
    started = before.started if before.started is not None else str(changes.head(conn))
    after = (before.reached or "") if before.started is not None else ""
    page = select(_a.device_id).where(_a.device_id > after).order_by(_a.device_id).limit(BATCH)
    ids = list(conn.execute(page).scalars())
    if not ids:
        return _fetched(conn, before, State(started, None, None), [], has_more=True)
    return _fetched(conn, before, State(before.position, started, ids[-1]), ids, has_more=True)


def _fetched(
    conn: Connection, before: State, after: State, device_ids: Sequence[str], has_more: bool
) -> Fetched:
    return Fetched(before, after, _entries(conn, device_ids), _known(conn, device_ids), has_more)


_NAMES = (POSITION, STARTED, REACHED)
_STATE = select(setting.c.name, setting.c.value).where(setting.c.name.in_(_NAMES))


_FOLLOWED = select(setting.c.value).where(setting.c.name == POSITION).scalar_subquery()
# Without the feed's fence: what is visible and cannot be followed yet counts as not indexed. In order,
# because PostgreSQL would otherwise look at every change when it does not know the number.
_NEWER = (
    select(change.c.seq)
    .where(change.c.seq > cast(_FOLLOWED, BigInteger), change.c.kind == KIND)
    .order_by(change.c.seq)
    .limit(1)
)
_STANDING = select(_FOLLOWED, changes.floor_value(), _NEWER.scalar_subquery())


def _state(conn: Connection) -> State:
    found = {row[0]: row[1] for row in conn.execute(_STATE)}
    return State(*(found.get(name) for name in _NAMES))


def _position(conn: Connection, state: State) -> int | None:
    """The number up to which the feed was followed; None when the index must begin anew."""
    if state.position is None or int(state.position) < changes.floor(conn):
        return None
    return int(state.position)


def _entries(conn: Connection, device_ids: Sequence[str]) -> list[Entry]:
    columns = (_a[name] for name in Entry._fields)
    rows = conn.execute(select(*columns).where(among(conn, _a.device_id, device_ids)))
    return [Entry._make(row) for row in rows]


def _known(conn: Connection, device_ids: Sequence[str]) -> dict[str, Row]:
    rows = conn.execute(select(device_search).where(among(conn, _s.device_id, device_ids)))
    return {row.device_id: row for row in rows}


def _place(longitude: float | None, latitude: float | None) -> tuple[float | None, float | None]:
    """A position, or none: both numbers, on the globe, and not the 0, 0 of devices that know none."""
    if longitude is None or latitude is None or (longitude == 0 and latitude == 0):
        return None, None
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        return None, None
    return longitude, latitude


def _write_sqlite(conn: Connection, step: Step, numbers: dict[str, int]) -> None:
    gone = [(numbers[word.device_id], " ".join(word.gone)) for word in step.words if word.gone is not None]
    if gone:
        conn.exec_driver_sql(
            "INSERT INTO device_terms (device_terms, rowid, terms) VALUES ('delete', ?, ?)", gone
        )
    come = [(numbers[word.device_id], " ".join(word.come)) for word in step.words]
    if come:
        conn.exec_driver_sql("INSERT INTO device_terms (rowid, terms) VALUES (?, ?)", come)
    left = [(numbers[device_id],) for device_id, _, _, is_held in step.places if is_held]
    if left:
        conn.exec_driver_sql("DELETE FROM device_box WHERE number = ?", left)
    points = [(numbers[key], lon, lon, lat, lat) for key, lon, lat, _ in step.places if lon is not None]
    if points:
        conn.exec_driver_sql("INSERT INTO device_box VALUES (?, ?, ?, ?, ?)", points)


def _write_postgresql(conn: Connection, step: Step, numbers: dict[str, int]) -> None:
    if step.words:
        words = [(numbers[word.device_id], word.come) for word in step.words]
        staging = stage(conn, "terms", {"number": "integer", "pieces": "text[]"}, words)
        conn.exec_driver_sql(_PUT_WORDS.format(staging=staging))


_PUT_WORDS = (
    "INSERT INTO device_terms (number, terms) SELECT number, array_to_tsvector(pieces) FROM {staging} "
    "ON CONFLICT (number) DO UPDATE SET terms = excluded.terms"
)
