"""Questions about many devices: by place, by words, by division, page by page.

Implements: DB31DSJ/Z 001-2024 E.1-1
Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7
Implements: DB31DSJ/Z 001-2024 E.1-8

Each answer is read from one snapshot of the database. Scope and filters narrow before anything is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from tongshi.errors import InvalidRequest, Unavailable
from tongshi.resources.devices import clusters, index_store
from tongshi.resources.devices import query_store as store
from tongshi.resources.devices import store as archives
from tongshi.resources.devices.clusters import Cluster
from tongshi.resources.devices.coordinates import MAX_SHIFT_DEG, GeoCoordSys, from_wgs84
from tongshi.resources.devices.geometry import Box, Shape
from tongshi.resources.devices.indexing import Lag, SearchIndex
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.devices.query_store import BoxPlan, Group, Lite, Shown, Spot
from tongshi.resources.devices.search_terms import Needle
from tongshi.resources.devices.selection import UNASSIGNED, Cursors, Place, Selection, Sort
from tongshi.resources.devices.shown_store import ShownInBox
from tongshi.sharing import store as sharing
from tongshi.sharing.model import Context, Decision, Grant, Subject, SubjectKind, Target, judge
from tongshi.sharing.permissions import Permission
from tongshi.storage import changes
from tongshi.storage.budget import Overlong, within
from tongshi.storage.engine import Database, offload

# Candidates of a shape that is decided position by position; more are refused instead of waited for.
MAX_EXAMINED = 50_000
# Past so many proposals of an index a question begins with something else.
MANY = 10_000
# The same for words, whose proposals are fetched.
MANY_PROPOSED = 3_000
# So many devices are looked at one by one before the index is asked for a very short keyword.
GLIMPSE = 1_000
# Counts of selections, and words with what is proposed for them, that are kept for all questions.
MAX_REMEMBERED, MAX_NEEDLES = 256, 128
# Seconds that one question may take in the database, or for its shape. Past the first a question is begun
# anew as one of few at a time, so that who asks for little need not wait for those who ask for everything.
QUICK_S, BUDGET_S = 0.5, 5.0
MAX_HEAVY, MAX_HEAVY_WAITING = 2, 16
_LESS_AREA = "请缩小范围、增加条件，或使用 totalMode=none"
_LESS_GROUPS = "请逐个区划查询"
_LESS = "请增加条件、改用按编号排序，或使用 totalMode=none"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """One page. ``total`` is None when it was not asked for; ``after`` is where the next page begins.

    ``lag`` is there when the index of words did not know every archive yet.
    """

    rows: list[Lite]
    total: int | None
    after: Place | None
    as_of: int
    lag: Lag | None = None


@dataclass(frozen=True, slots=True)
class FoundInArea:
    """Devices in a shape. ``placeless`` counts those that fit the filter and have no position.

    What a map shows of them is in ``shown`` when the index had it ready, otherwise in ``rows``.
    ``clusters`` is None when the devices are listed one by one. Both counts are None when they were not asked
    for. ``lag`` is there when the index of places did not know every archive yet.
    """

    ids: list[str]
    rows: list[Lite]
    clusters: list[Cluster] | None
    total: int | None
    placeless: int | None
    after: Place | None
    archives: list[DeviceArchive] = field(default_factory=list)
    lag: Lag | None = None
    shown: Shown | None = None


class Show(Enum):
    """What is shown of each device."""

    ID = "id"
    LITE = "lite"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Area:
    """A shape in its coordinate system.

    ``cell_deg`` asks for clusters on a grid of that width: always, or with ``is_auto`` when there are more
    devices than the limit.
    """

    shape: Shape
    system: GeoCoordSys = GeoCoordSys.WGS84
    cell_deg: float | None = None
    is_auto: bool = False
    show: Show = Show.LITE
    with_total: bool = True


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a subject may do with one device, and the grants that say so."""

    decisions: dict[Permission, Decision]
    grants: tuple[Grant, ...]


class Counts:
    """Counts of selections that are asked again and again, remembered until an archive changes.

    Whoever moves a map asks each time how many have no position, and each search whether the scope holds
    much. What depends on more than archives (status, members of a plan, tags, words) is counted each time.
    What the index of words proposes changes with archives only, so that whoever turns a page, or types what
    others typed before, does not have it looked up again.
    """

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._limit = limit
        self._known: dict[tuple[Selection, int | None], tuple[int, int]] = {}
        self._proposed: dict[Needle, tuple[int, tuple[int, ...] | None]] = {}

    def proposed(self, conn: Connection, needle: Needle, position: int | None) -> tuple[int, ...] | None:
        """See ``query_store.proposed``; the position as for ``placeless``."""
        known = self._proposed.get(needle)
        if known is not None and known[0] == position:
            return known[1]
        numbers = store.proposed(conn, needle, MANY_PROPOSED)
        if position is not None:
            if len(self._proposed) >= MAX_NEEDLES:
                self._proposed.clear()
            self._proposed[needle] = position, numbers
        return numbers

    def placeless(self, conn: Connection, selection: Selection, position: int | None) -> int:
        """Devices without a position, in this snapshot.

        It shows archives up to ``position``, None when that is not known.
        """
        return self._count((selection, None), position, partial(store.count_placeless, conn, selection))

    def is_much(self, conn: Connection, selection: Selection, position: int | None) -> bool:
        """Whether a selection holds ``MANY`` devices; the position as for ``placeless``."""
        counted = partial(store.count, conn, selection, MANY)
        return self._count((selection, MANY), position, counted) >= MANY

    def _count(
        self, key: tuple[Selection, int | None], position: int | None, counted: Callable[[], int]
    ) -> int:
        selection = key[0]
        if position is None or selection.online is not None or selection.narrowings or selection.needle:
            return counted()
        known_to, count = self._known.get(key, (-1, 0))
        if known_to != position:
            count = counted()
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[key] = position, count
        return count


class DeviceQueries:
    """Answers questions about the archive. ``index`` is brought up to date before words and places."""

    def __init__(self, db: Database, index: SearchIndex, cursors: Cursors | None = None) -> None:
        self._db = db
        self._index = index
        self.cursors = cursors or Cursors()
        self._counts = Counts()
        self._shown = ShownInBox(index.statuses)
        self._heavy = asyncio.Semaphore(MAX_HEAVY)
        self._heavy_waiting = 0

    async def in_area(
        self, selection: Selection, area: Area, limit: int, after: Place | None = None
    ) -> FoundInArea:
        """Devices in a shape in order of the place index.

        Raises:
            InvalidRequest: 40002, more positions to decide than ``MAX_EXAMINED``.
            Unavailable: it took longer than ``BUDGET_S``.
        """

        def ask(conn: Connection, position: int | None) -> FoundInArea:
            is_current = position is not None
            found = _in_area(conn, self._shown, selection, area, limit, after, is_current=is_current)
            if not area.with_total:
                return found
            return replace(found, placeless=self._counts.placeless(conn, selection, position))

        found, lag = await self._indexed(ask, _LESS_AREA)
        return replace(found, lag=lag)

    async def page(
        self,
        selection: Selection,
        sort: Sort,
        limit: int,
        *,
        after: Place | None = None,
        skip: int = 0,
        with_total: bool = True,
        with_rows: bool = True,
    ) -> tuple[list[str], Found]:
        """Ids and rows of one page in order, by cursor (``after``) or by offset (``skip``).

        Raises:
            Unavailable: it took longer than ``BUDGET_S``.
        """

        def ask(conn: Connection, position: int | None) -> tuple[list[str], Found]:
            bare = replace(selection, needle=None)
            is_much = partial(self._counts.is_much, conn, bare, position)
            propose = partial(self._proposed, conn, position)
            return _page(conn, selection, sort, limit, after, skip, with_total, with_rows, is_much, propose)

        if selection.needle is None:
            return await self._read(lambda conn: ask(conn, None), _LESS)
        (ids, found), lag = await self._indexed(ask, _LESS)
        return ids, replace(found, lag=lag)

    def _proposed(self, conn: Connection, position: int | None, selection: Selection) -> Selection:
        """The selection with what the index of words proposes for it, when that is not much."""
        if selection.needle is None or selection.proposed is not None:
            return selection
        numbers = self._counts.proposed(conn, selection.needle, position)
        return selection if numbers is None else replace(selection, proposed=numbers)

    async def groups(self, selection: Selection, codes: Sequence[str], by: str) -> list[Group]:
        """Counts of a selection below each division: ``child`` divisions, ``street`` or ``department``.

        Raises:
            Unavailable: it took longer than ``BUDGET_S``.
        """

        def ask(conn: Connection) -> list[Group]:
            return _groups(conn, selection, codes, by)

        if selection.needle is None:
            return await self._read(ask, _LESS_GROUPS)
        return (await self._indexed(lambda conn, _: ask(conn), _LESS_GROUPS))[0]

    async def _indexed(
        self, ask: Callable[[Connection, int | None], T], way_out: str
    ) -> tuple[T, Lag | None]:
        """Ask the indexes; what the answer's own snapshot shows and they do not know yet comes beside it.

        ``ask`` is told to which change of the archive they are current, None when they are not.
        """

        def if_current(conn: Connection) -> tuple[T] | None:
            position = index_store.current_to(conn)
            return None if position is None else (ask(conn, position),)

        def as_it_is(conn: Connection) -> tuple[T, bool]:
            position = index_store.current_to(conn)
            return ask(conn, position), position is not None

        first = await self._read(if_current, way_out)
        if first is not None:
            return first[0], None
        await self._index.refresh()
        found, is_current = await self._read(as_it_is, way_out)
        return found, None if is_current else await self._index.lag()

    async def _read(self, ask: Callable[[Connection], T], way_out: str) -> T:
        """Ask quickly, or else as one of few. Raises Unavailable past the budget, or when too many wait."""

        def within_budget(conn: Connection, budget_s: float) -> T:
            with within(conn, budget_s, way_out):
                return ask(conn)

        try:
            return await self._db.read(within_budget, QUICK_S)
        except Overlong:
            if self._heavy_waiting >= MAX_HEAVY_WAITING:
                raise Unavailable(
                    f"同时进行的大查询过多，请稍后重试。{way_out}", retry_after_s=BUDGET_S
                ) from None
        self._heavy_waiting += 1
        try:
            async with self._heavy:
                return await self._db.read(within_budget, BUDGET_S)
        finally:
            self._heavy_waiting -= 1

    async def allowed(
        self, subject: Subject, context: Context, actions: Sequence[Permission], rows: Sequence[Lite]
    ) -> list[Allowed]:
        """What the subject may do with each device, by the rules of the one access decision."""
        targets = [Target(row.device_id, row.civil_code or "", row.owner) for row in rows]
        return await self.allowed_on(subject, context, actions, targets)

    async def allowed_on(
        self, subject: Subject, context: Context, actions: Sequence[Permission], targets: Sequence[Target]
    ) -> list[Allowed]:
        """``allowed`` for devices that are known otherwise."""
        return await self._db.read(_allowed, subject, context, actions, targets)


def _page(
    conn: Connection,
    selection: Selection,
    sort: Sort,
    limit: int,
    after: Place | None,
    skip: int,
    with_total: bool,
    with_rows: bool,
    is_scope_much: Callable[[], bool],
    propose: Callable[[Selection], Selection],
) -> tuple[list[str], Found]:
    if with_total:
        selection = propose(selection)
    total = store.count(conn, selection) if with_total else None
    found = _keys(conn, selection, sort, limit + 1, after, skip, total, is_scope_much, propose)
    kept = found[:limit]
    ids = [key for key, _ in kept]
    rows = store.lite(conn, ids) if with_rows else []
    further = kept[-1][1] if len(found) > limit else None
    return ids, Found(rows, total, further, changes.head(conn))


def _keys(
    conn: Connection,
    selection: Selection,
    sort: Sort,
    limit: int,
    after: Place | None,
    skip: int,
    total: int | None,
    is_scope_much: Callable[[], bool],
    propose: Callable[[Selection], Selection],
) -> list[tuple[str, Place]]:
    """Keys of a page by the plan that fits how much there is; in order of id much is not found first."""
    if sort not in (Sort.ID, Sort.ID_DOWN):
        return store.keys(conn, propose(selection), sort, limit, after, skip)
    needle = selection.needle
    if total is not None:
        is_much = total >= MANY
    else:
        if needle is not None and needle.is_short:
            # The words' index is slow for the beginning of a piece: what is everywhere shows at once.
            few = GLIMPSE + skip + limit
            seen = store.keys(conn, selection, sort, limit, after, skip, is_walk=True, among_next=few)
            if len(seen) == limit:
                return seen
        selection = propose(selection)
        is_much = selection.proposed is None and is_scope_much()
    return store.keys(conn, selection, sort, limit, after, skip, is_walk=is_much)


def _in_area(
    conn: Connection,
    ready: ShownInBox,
    selection: Selection,
    area: Area,
    limit: int,
    after: Place | None,
    *,
    is_current: bool,
) -> FoundInArea:
    beyond = int(after[0]) if after else 0
    is_exact = isinstance(area.shape, Box) and area.system in (GeoCoordSys.WGS84, GeoCoordSys.CGCS2000)
    find = partial(_in_box, ready) if is_exact else _in_shape
    found = find(conn, selection, area, limit, beyond, is_current=is_current)
    if area.show is Show.FULL:
        known = archives.get_many(conn, found.ids, selection.scope)
        found = replace(found, archives=[known[key] for key in found.ids])
    return found


def _plan(conn: Connection, box: Box, *, is_current: bool) -> BoxPlan:
    """What a question about a box begins with. Copies are read only when each is as the snapshot shows it."""
    if store.count_near(conn, box, MANY) >= MANY:
        return BoxPlan.SELECTION
    return BoxPlan.PLACE if is_current else BoxPlan.TRAILING


def _in_box(
    ready: ShownInBox,
    conn: Connection,
    selection: Selection,
    area: Area,
    limit: int,
    beyond: int,
    *,
    is_current: bool,
) -> FoundInArea:
    """A box in our own coordinates: all of it is SQL."""
    box = area.shape.box
    is_shown = is_current and area.show is Show.LITE and area.cell_deg is None
    if is_shown:
        found = _shown(ready, conn, selection, area, limit, beyond)
        if found.ids:
            return found
    plan = _plan(conn, box, is_current=is_current)
    if is_shown and plan is BoxPlan.PLACE:
        return found
    if plan is not BoxPlan.SELECTION and area.cell_deg is not None:
        return _in_shape(conn, selection, area, limit, beyond, is_current=is_current)
    total = None
    if plan is BoxPlan.SELECTION:
        if area.cell_deg is not None:
            cells = store.cells_in_box(conn, selection, box, clusters.coarse(box, area.cell_deg))
            total = sum(cell.total for cell in cells)
            if not area.is_auto or total > limit:
                return FoundInArea([], [], clusters.clusters(cells), total, None, None)
        else:
            total = store.count_in_box(conn, selection, box, plan, None if area.with_total else MANY)
        if total >= MANY:
            plan = BoxPlan.WALK
    page: Sequence[tuple[int, Lite | str]]
    if area.show is Show.LITE:
        page = store.rows_in_box(conn, selection, box, plan, limit + 1, beyond)
    else:
        page = store.ids_in_box(conn, selection, box, plan, limit + 1, beyond)
    if not area.with_total:
        total = None
    elif total is None:
        # A page that is not full is all there is; what lies before a cursor is not on it.
        is_all = not beyond and len(page) <= limit
        total = len(page) if is_all else store.count_in_box(conn, selection, box, plan)
    kept = page[:limit]
    rows = [row for _, row in kept if not isinstance(row, str)]
    ids = [row if isinstance(row, str) else row.device_id for _, row in kept]
    further: Place | None = [kept[-1][0]] if len(page) > limit else None
    return FoundInArea(ids, rows, None, total, None, further)


def _shown(
    ready: ShownInBox, conn: Connection, selection: Selection, area: Area, limit: int, beyond: int
) -> FoundInArea:
    """A box that holds little, while the copies are current: what a map shows comes ready from the index.

    One that holds much looks empty.
    """
    box = area.shape.box
    shown = ready.ask(conn, selection, box, area.system, limit, beyond, MANY)
    total = None
    if area.with_total:
        is_all = not beyond and shown.more_from is None
        total = len(shown.ids) if is_all else store.count_in_box(conn, selection, box, BoxPlan.PLACE)
    further: Place | None = None if shown.more_from is None else [shown.more_from]
    return FoundInArea(shown.ids, [], None, total, None, further, shown=shown)


def _in_shape(
    conn: Connection, selection: Selection, area: Area, limit: int, beyond: int, *, is_current: bool
) -> FoundInArea:
    """Any shape in any coordinates: each position that may lie in it is looked at."""
    near = _spots(conn, selection, area, is_current=is_current)
    spots = offload(conn, partial(_held, near, area))
    if area.cell_deg is not None and (not area.is_auto or len(spots) > limit):
        cells = offload(conn, partial(clusters.cells, spots, area.cell_deg))
        return FoundInArea([], [], clusters.clusters(cells), len(spots), None, None)
    page = sorted(spot[:2] for spot in spots if spot.number > beyond)[: limit + 1]
    ids = [key for _, key in page[:limit]]
    rows = store.lite(conn, ids) if area.show is Show.LITE else []
    further: Place | None = [page[limit - 1][0]] if len(page) > limit else None
    return FoundInArea(ids, rows, None, len(spots), None, further)


def _spots(conn: Connection, selection: Selection, area: Area, *, is_current: bool) -> list[Spot]:
    """Every position that may lie in the shape, in WGS 84."""
    box = area.shape.box
    if area.system not in (GeoCoordSys.WGS84, GeoCoordSys.CGCS2000):
        box = box.widened(MAX_SHIFT_DEG)
    plan = _plan(conn, box, is_current=is_current)
    near = store.spots_in_box(conn, selection, box, plan, MAX_EXAMINED + 1)
    if len(near) > MAX_EXAMINED:
        raise InvalidRequest(f"范围内点位超过 {MAX_EXAMINED} 个，请缩小范围", code=40002, field="shape")
    return near


def _held(near: Sequence[Spot], area: Area) -> list[Spot]:
    """Those in the shape, in the shape's own coordinate system. Raises Unavailable past the budget."""
    ends_at = time.monotonic() + BUDGET_S
    found = []
    for number, spot in enumerate(near):
        if number % 256 == 0 and time.monotonic() > ends_at:
            raise Unavailable(
                f"查询超过 {BUDGET_S:g} 秒，已中止。请缩小范围或减少图形的顶点", retry_after_s=BUDGET_S
            )
        lon, lat = from_wgs84((spot.longitude, spot.latitude), area.system)
        if area.shape.holds(lon, lat):
            found.append(spot._replace(longitude=lon, latitude=lat))
    return found


def _groups(conn: Connection, selection: Selection, codes: Sequence[str], by: str) -> list[Group]:
    """A device counts once although codes that contain each other are asked together."""
    found: dict[str, Group] = {}
    plain = sorted({code for code in codes if code != UNASSIGNED})
    outer = [c for c in plain if not any(c != o and c.startswith(o) for o in plain)]
    for code in outer:
        digits = {"child": len(code) + 2, "street": 8, "department": None}[by]
        for group in store.group(conn, replace(selection, civil_codes=(code,)), digits):
            held = found.get(group.key, Group(group.key, 0, 0, 0))
            sums = (
                held.total + group.total,
                held.online + group.online,
                held.networked + group.networked,
            )
            found[group.key] = Group(group.key, *sums)
    nowhere = store.tally(conn, replace(selection, civil_codes=(UNASSIGNED,)))
    return [*(found[key] for key in sorted(found)), nowhere._replace(key=UNASSIGNED)]


def _allowed(
    conn: Connection,
    subject: Subject,
    context: Context,
    actions: Sequence[Permission],
    targets: Sequence[Target],
) -> list[Allowed]:
    grants = sharing.grants_of(conn, subject)
    by_number = {grant.number: grant for grant in grants}
    found = []
    for target in targets:
        decisions = {
            action: judge(subject, action, target, grants, context, is_device_action=True)
            for action in actions
        }
        used = dict.fromkeys(d.grant for d in decisions.values() if d.allow and d.grant)
        found.append(Allowed(decisions, tuple(by_number[number] for number in used)))
    return found


def role_of(grant: Grant) -> str:
    """The role through which a grant reached the subject; empty when it was given to the subject itself."""
    return grant.subject_id if grant.subject_kind is SubjectKind.ROLE else ""
