"""Devices of plans: where the archive and the plans meet, through a port.

Implements: DB31DSJ/Z 001-2024 E.1-9
Implements: DB31DSJ/Z 001-2024 E.4-5

Each answer is read from one snapshot. A device of a plan is listed (in the archive and in the caller's
scope), missing (gone from the archive, and the caller could know of it), or only counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy import Connection

from tongshi.resources.devices import query_store as store
from tongshi.resources.devices.indexing import SearchIndex
from tongshi.resources.devices.query import BUDGET_S
from tongshi.resources.devices.query_store import Lite
from tongshi.resources.devices.selection import Narrowing, Place, Selection, Sort
from tongshi.sharing.model import Scope, Subject
from tongshi.storage import changes
from tongshi.storage.budget import within
from tongshi.storage.engine import Database

MAX_LISTED = 2_000  # devices of a plan
_LESS = "请减少预案"


@dataclass(frozen=True, slots=True)
class Part:
    """Which rows of a list: so many after a place, or after so many."""

    limit: int
    skip: int = 0
    after: Place | None = None

    @property
    def and_one(self) -> Part:
        """The same and one row more, which says whether anything follows."""
        return replace(self, limit=self.limit + 1)


@dataclass(frozen=True, slots=True)
class PlanHead:
    """A plan without its devices; ``device_count`` is what it lists, whoever may see it."""

    code: str
    name: str
    device_count: int


class PlanMembers(Protocol):
    """What questions about devices ask of plans; ``plans.members`` fulfils it."""

    def heads(self, conn: Connection, by: Subject, codes: Sequence[str], field: str, /) -> list[PlanHead]:
        """The plans in the order asked. Raises NotFound 40402 when one is unknown or not the caller's."""
        ...

    def narrowing(self, codes: Sequence[str], /) -> Narrowing:
        """Narrows to devices that one of the plans lists."""
        ...

    def listed(self, conn: Connection, code: str, /) -> list[str]:
        """What a plan lists, in order."""
        ...

    def present(self, conn: Connection, codes: Sequence[str], scope: Scope, /) -> dict[str, int]:
        """How many devices of each plan are in the archive and in the scope."""
        ...

    def missing(self, conn: Connection, codes: Sequence[str], scope: Scope, /) -> list[tuple[str, str]]:
        """``(plan, device)`` of what the archive lacks and the scope lets one know of."""
        ...

    def page(
        self, conn: Connection, codes: Sequence[str], scope: Scope, part: Part, /
    ) -> list[tuple[str, str, Place]]:
        """``(plan, device, place)`` of present devices in the scope, plan after plan as asked."""
        ...


@dataclass(frozen=True, slots=True)
class PlanPart:
    """One plan of an answer. ``denied`` counts what is neither listed nor known to be missing."""

    head: PlanHead
    rows: list[Lite]
    missing: list[str]
    denied: int


@dataclass(frozen=True, slots=True)
class PlanPage:
    """One page of the devices of plans; ``rows`` are those of a union, else each part has its own.

    ``after`` is where the next page begins; ``as_of`` is the position of the change feed.
    """

    parts: list[PlanPart]
    rows: list[Lite]
    total: int
    after: Place | None = None
    as_of: int = 0


class PlanLists:
    """Lists the devices of plans within a scope."""

    def __init__(self, db: Database, index: SearchIndex, members: PlanMembers) -> None:
        self._db = db
        self._index = index
        self._members = members

    async def narrowing(self, by: Subject, code: str) -> Narrowing:
        """Narrows to the devices of one plan. Raises NotFound 40402."""
        await self._db.read(self._members.heads, by, [code], "planCode")
        return self._members.narrowing([code])

    async def of_plans(
        self, by: Subject, scope: Scope, codes: Sequence[str], part: Part, *, is_union: bool
    ) -> PlanPage:
        """One page of the devices of plans: all in order of id, or plan after plan in the plans' order.

        Raises:
            NotFound: 40402, one of the plans is unknown or not the caller's to know.
            Unavailable: it took longer than ``BUDGET_S``.
        """

        def ask(conn: Connection) -> PlanPage:
            with within(conn, BUDGET_S, _LESS):
                return self._of_plans(conn, by, scope, codes, part, is_union)

        return await self._db.read(ask)

    async def of_plan(self, by: Subject, selection: Selection, code: str, limit: int, skip: int) -> PlanPage:
        """One page of those devices of a plan that a selection holds, in the plan's order.

        Raises:
            NotFound: 40402, as above.
        """
        if selection.needle is not None:
            await self._index.refresh()
        return await self._db.read(self._of_plan, by, selection, code, limit, skip)

    def _of_plans(
        self,
        conn: Connection,
        by: Subject,
        scope: Scope,
        codes: Sequence[str],
        part: Part,
        is_union: bool,
    ) -> PlanPage:
        heads = self._members.heads(conn, by, codes, "planCodes")
        present = self._members.present(conn, codes, scope)
        if is_union:
            selection = Selection(scope, narrowings=(self._members.narrowing(codes),))
            keys = store.keys(conn, selection, Sort.ID, part.limit + 1, part.after, part.skip)
            further = keys[part.limit - 1][1] if len(keys) > part.limit else None
            rows = store.lite(conn, [key for key, _ in keys[: part.limit]])
            total = store.count(conn, selection)
            parts = self._parts(conn, heads, scope, present, {})
            return PlanPage(parts, rows, total, further, changes.head(conn))
        found = self._members.page(conn, codes, scope, part.and_one)
        further = found[part.limit - 1][2] if len(found) > part.limit else None
        ids = list(dict.fromkeys(key for _, key, _ in found[: part.limit]))
        known = {row.device_id: row for row in store.lite(conn, ids)}
        of_plan: defaultdict[str, list[Lite]] = defaultdict(list)
        for code, key, _ in found[: part.limit]:
            of_plan[code].append(known[key])
        parts = self._parts(conn, heads, scope, present, of_plan)
        return PlanPage(parts, [], sum(present.values()), further, changes.head(conn))

    def _of_plan(
        self, conn: Connection, by: Subject, selection: Selection, code: str, limit: int, skip: int
    ) -> PlanPage:
        heads = self._members.heads(conn, by, [code], "planCode")
        narrowed = replace(selection, narrowings=(*selection.narrowings, self._members.narrowing([code])))
        fitting = {key for key, _ in store.keys(conn, narrowed, Sort.ID, MAX_LISTED)}
        ids = [key for key in self._members.listed(conn, code) if key in fitting]
        rows = store.lite(conn, ids[skip : skip + limit])
        present = self._members.present(conn, [code], selection.scope)
        parts = self._parts(conn, heads, selection.scope, present, {})
        return PlanPage(parts, rows, len(ids))

    def _parts(
        self,
        conn: Connection,
        heads: Sequence[PlanHead],
        scope: Scope,
        present: dict[str, int],
        rows: dict[str, list[Lite]],
    ) -> list[PlanPart]:
        missing: defaultdict[str, list[str]] = defaultdict(list)
        for code, key in self._members.missing(conn, [head.code for head in heads], scope):
            missing[code].append(key)
        return [
            PlanPart(
                head,
                rows.get(head.code, []),
                missing[head.code],
                head.device_count - present.get(head.code, 0) - len(missing[head.code]),
            )
            for head in heads
        ]
