"""Taking alarms in, showing them to those who may see them, and saying whom they go on to.

Implements: GB/T 28181-2022 9.4
Nothing that was told is lost without a word: what breaks a rule is kept and marked, what floods is merged and
counted, and only a teller that is over its bound has its alarms counted on one of our own that says so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import InvalidRequest, NotFound, TongshiError
from tongshi.protocols.gb28181.alarm_types import OTHER
from tongshi.protocols.gb28181.codes import normalise_civil_code
from tongshi.resources.alarms import store
from tongshi.resources.alarms.flood import Bounds, Flood
from tongshi.resources.alarms.model import (
    CLOCK_TOLERANCE,
    MAX_TARGETS,
    Acknowledgement,
    Alarm,
    Delivery,
    Filters,
    Place,
    Route,
    Seen,
    Source,
    SourceKind,
    Taken,
    Told,
    Verdict,
)
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Scope, Subject, SubjectKind, Target
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

FLUSH_S = 1.0
MAX_UNWRITTEN = 20_000
PASS_ON_WITHIN = timedelta(hours=1)  # after a restart; an older alarm is history
MAX_RESUMED = 5_000
FLOOD_TEXT = "报警过于频繁，超出部分已合并计数"
_MAY_READ = frozenset({Permission.ALARM_READ})


class Neighbours(Protocol):
    """The platforms in the record."""

    def get(self, conn: Connection, platform_id: str) -> object | None:
        """None when this is no platform that we know."""
        ...


class Alarms:
    """Alarms of this platform."""

    def __init__(
        self, db: Database, neighbours: Neighbours, clock: Clock, self_id: str, bounds: Bounds | None = None
    ) -> None:
        self._db = db
        self._neighbours = neighbours
        self._clock = clock
        self._self_id = self_id
        self._flood = Flood(bounds)
        self._repeats: dict[str, tuple[int, datetime]] = {}
        self._uncounted = 0
        self._flushing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write down what was merged."""
        self._flushing = asyncio.get_running_loop().create_task(self._flush_for_ever())

    async def stop(self) -> None:
        """Write down the last of it."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
            self._flushing = None
        await self.flush()

    async def take(self, told: Told, source: Source) -> Taken:
        """Keep an alarm, unless it was told before or is one of a flood.

        Raises:
            Unavailable: the record cannot take it now; the teller should say it again.
        """
        now, at = self._clock.now(), self._clock.at()
        if abs(told.raised_at - at) > CLOCK_TOLERANCE:
            told = replace(told, faults=(*told.faults, "clock"))
        into = self._flood.into(source.id, told.kind, now)
        if into == "":
            into = await self._flood_alarm(source, now, at)
        if into is not None:
            self._count(into, at)
            return Taken(Verdict.MERGED)
        new = Alarm(told.number(), told, Place(), source, at, at)
        taken = await self._db.write(_add, new, self._self_id, self._neighbours)
        self._flood.kept(source.id, told.kind, new.id, now)
        return taken

    async def page(
        self, subject: Subject, filters: Filters, page_no: int, page_size: int, context: Context
    ) -> tuple[list[Alarm], int]:
        """One page of what the subject may see, the latest first."""
        return await self._db.read(_page, subject, filters, page_no, page_size, context)

    async def get(self, subject: Subject, alarm_id: str, context: Context) -> tuple[Alarm, list[Delivery]]:
        """One alarm and how passing it on went. Raises NotFound."""
        found = await self._db.read(_get, subject, alarm_id, context)
        if found is None:
            raise NotFound("报警不存在", code=40400)
        return found

    async def acknowledge(self, subject: Subject, ids: Sequence[str], note: str, context: Context) -> Seen:
        """Say that these were seen to; what was acknowledged before keeps its first acknowledgement."""
        return await self._db.write(_acknowledge, subject, list(dict.fromkeys(ids)), note, context)

    async def routes(self) -> list[Route]:
        """Whom alarms are passed on to."""
        return await self._db.read(store.routes)

    async def add_route(self, subject: Subject, wanted: Route, context: Context) -> Route:
        """Pass alarms on to a target from now on. Raises InvalidRequest, LimitExceeded."""
        if wanted.target_id == self._self_id:
            raise InvalidRequest("分发目标不能是本平台", field="targetId")
        named = replace(wanted, id=secrets.token_hex(8), created_by=subject.name, created_at=context.at)
        await self._db.write(_add_route, subject, named, context)
        return named

    async def remove_route(self, subject: Subject, route_id: str, context: Context) -> None:
        """Pass alarms on no longer. Raises NotFound."""
        if not await self._db.write(_remove_route, subject, route_id, context):
            raise NotFound("分发规则不存在", code=40400)

    async def waiting(self) -> list[tuple[Alarm, str]]:
        """What a process before this one did not pass on to the end."""
        since = self._clock.at() - PASS_ON_WITHIN
        return await self._db.read(store.waiting, since, MAX_RESUMED)

    async def note_delivery(self, done: Delivery) -> None:
        """Note how it went with one target."""
        await self._db.write(store.note_delivery, replace(done, at=self._clock.at()))

    async def flush(self) -> None:
        """Write down what was merged since the last time."""
        repeats, self._repeats = self._repeats, {}
        if not repeats:
            return
        try:
            await self._db.write(store.count_repeats, repeats)
        except TongshiError as error:
            log.warning("alarm_repeats_not_written", alarms=len(repeats), error=error.message)

    async def _flood_alarm(self, source: Source, now: float, at: datetime) -> str:
        """Our own alarm that says that a source is over its bound, one a window."""
        began = at - timedelta(seconds=now - self._flood.window_of(source.id, now))
        told = Told(source.id, began.replace(microsecond=0), 4, OTHER, description=FLOOD_TEXT)
        alarm_id = told.number()
        if alarm_id not in self._repeats:
            ours = Source(self._self_id, SourceKind.OURSELVES)
            new = Alarm(alarm_id, told, Place(), ours, at, at)
            taken = await self._db.write(_add, new, self._self_id, self._neighbours)
            if taken.verdict is Verdict.KEPT:
                log.warning("alarm_source_floods", source_id=source.id)
        return alarm_id

    def _count(self, alarm_id: str, at: datetime) -> None:
        held = self._repeats.get(alarm_id)
        if held is None and len(self._repeats) >= MAX_UNWRITTEN:
            self._uncounted += 1
            log.warning("alarm_repeats_uncounted", total=self._uncounted)
            return
        self._repeats[alarm_id] = ((held[0] if held else 0) + 1, at)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except Exception:
                log.exception("alarm_flush_failed")


def _add(conn: Connection, new: Alarm, self_id: str, neighbours: Neighbours) -> Taken:
    placed = replace(new, place=_place(conn, new, self_id))
    targets = _targets(conn, placed, neighbours)
    is_new = store.add(conn, placed, targets)
    return Taken(Verdict.KEPT, placed, targets) if is_new else Taken(Verdict.REPEATED, placed)


def _place(conn: Connection, new: Alarm, self_id: str) -> Place:
    """The device's; of a device without archive (an alarm input) the teller's; else what its digits say."""
    for code in (new.told.device_id, new.source.id):
        found = store.place_of(conn, code)
        if found is not None:
            return found if code == new.told.device_id else replace(found, name="")
    owner = self_id if new.source.kind in (SourceKind.DEVICE, SourceKind.OURSELVES) else new.source.id
    return Place("", normalise_civil_code(new.told.device_id[:10]), owner)


def _targets(conn: Connection, new: Alarm, neighbours: Neighbours) -> tuple[str, ...]:
    """Who gets it: by the routes, never back to its teller.

    A device that was named gets it; a platform needs a grant besides.
    """
    asked = dict.fromkeys(
        route.target_id
        for route in store.routes(conn)
        if route.takes(new.told, new.place) and route.target_id != new.source.id
    )
    context = Context(new.received_at)
    about = Target(new.told.device_id, new.place.civil_code, new.place.owner)
    may_get = (
        one for one in asked if neighbours.get(conn, one) is None or _is_granted(conn, one, about, context)
    )
    return tuple(may_get)[:MAX_TARGETS]


def _is_granted(conn: Connection, platform_id: str, about: Target, context: Context) -> bool:
    subject = Subject(SubjectKind.PLATFORM, platform_id, permissions=_MAY_READ)
    return scope_of(conn, subject, Permission.ALARM_READ, context).holds(about)


def _page(
    conn: Connection, subject: Subject, filters: Filters, page_no: int, page_size: int, context: Context
) -> tuple[list[Alarm], int]:
    return store.page(conn, _scope(conn, subject, context), filters, page_no, page_size)


def _get(
    conn: Connection, subject: Subject, alarm_id: str, context: Context
) -> tuple[Alarm, list[Delivery]] | None:
    found = store.find(conn, _scope(conn, subject, context), alarm_id)
    return None if found is None else (found, store.deliveries(conn, alarm_id))


def _scope(conn: Connection, subject: Subject, context: Context) -> Scope:
    return scope_of(conn, subject, Permission.ALARM_READ, context)


def _acknowledge(conn: Connection, subject: Subject, ids: Sequence[str], note: str, context: Context) -> Seen:
    scope = scope_of(conn, subject, Permission.ALARM_HANDLE, context)
    fresh, before = store.acknowledge(conn, scope, ids, Acknowledgement(subject.name, context.at, note))
    for alarm_id in fresh:
        _audit(conn, subject, AuditTag.ALARM_HANDLE, "alarm", alarm_id, context, {"note": note})
    missing = [one for one in ids if one not in fresh and one not in before]
    return Seen(tuple(fresh), tuple(before), tuple(missing))


def _add_route(conn: Connection, subject: Subject, route: Route, context: Context) -> None:
    store.add_route(conn, route, context.at)
    details = {"target": route.target_id, "device": route.device_id, "civilCode": route.civil_code}
    _audit(conn, subject, AuditTag.ALARM_ROUTE, "alarm_route", route.id, context, details)


def _remove_route(conn: Connection, subject: Subject, route_id: str, context: Context) -> bool:
    if not store.remove_route(conn, route_id):
        return False
    _audit(conn, subject, AuditTag.ALARM_ROUTE, "alarm_route", route_id, context, {"removed": True})
    return True


def _audit(
    conn: Connection,
    subject: Subject,
    tag: AuditTag,
    kind: str,
    key: str,
    context: Context,
    details: Mapping[str, object],
) -> None:
    audit.append(conn, deed(subject, context, tag, kind, key, details))
