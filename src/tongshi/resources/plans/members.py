"""What plans lend to questions about devices (the port ``devices.plan_lists.PlanMembers``).

Implements: DB31DSJ/Z 001-2024 E.1-9
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection

from tongshi.errors import NotFound
from tongshi.resources.devices.plan_lists import Part, PlanHead
from tongshi.resources.devices.selection import Place
from tongshi.resources.plans import member_store, store
from tongshi.resources.plans.service import viewer_of
from tongshi.sharing.model import Scope, Subject
from tongshi.sharing.permissions import Permission


@dataclass(frozen=True, slots=True)
class InPlans:
    """Narrows to devices that one of the plans lists."""

    codes: tuple[str, ...]

    def clause(self, conn: Connection, device_id: ColumnElement[str]) -> ColumnElement[bool]:
        """See ``devices.selection.Narrowing``."""
        return member_store.holds(self.codes, device_id)


class Members:
    """``devices.plan_lists.PlanMembers``."""

    def heads(self, conn: Connection, by: Subject, codes: Sequence[str], field: str) -> list[PlanHead]:
        """The plans in the order asked. Raises NotFound 40402 when one is unknown or not the caller's."""
        known = store.heads(conn, codes, viewer_of(conn, by)) if by.may(Permission.PLAN_READ) else {}
        if any(code not in known for code in codes):
            raise NotFound("预案不存在", code=40402, field=field)
        return [PlanHead(code, known[code].name, known[code].device_count) for code in codes]

    def narrowing(self, codes: Sequence[str]) -> InPlans:
        return InPlans(tuple(codes))

    def listed(self, conn: Connection, code: str) -> list[str]:
        return store.device_ids(conn, code)

    def present(self, conn: Connection, codes: Sequence[str], scope: Scope) -> dict[str, int]:
        return member_store.present(conn, codes, scope)

    def missing(self, conn: Connection, codes: Sequence[str], scope: Scope) -> list[tuple[str, str]]:
        return member_store.missing(conn, codes, scope)

    def page(
        self, conn: Connection, codes: Sequence[str], scope: Scope, part: Part
    ) -> list[tuple[str, str, Place]]:
        return member_store.page(conn, codes, scope, part)
