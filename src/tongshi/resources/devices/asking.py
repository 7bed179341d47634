"""From what a caller asks to the devices that are meant: his scope, his filter, and what plans and tags lend.

Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tongshi.resources.devices.plan_lists import PlanLists
from tongshi.resources.devices.query_store import Lite
from tongshi.resources.devices.selection import Narrowing
from tongshi.resources.tags.wire import DeviceTagShown, TagExpr
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope, Subject
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Call


class Tagging(Protocol):
    """What questions about devices ask of tags; ``tags.lending`` fulfils it."""

    async def narrowing(self, asked: TagExpr, field: str, /) -> Narrowing:
        """Narrows to devices whose tags a condition holds for.

        Raises:
            InvalidRequest: too deep, too many terms, or empty; names ``field``.
            NotFound: 40403, a definition or value is unknown.
        """
        ...

    async def codes(self, device_ids: Sequence[str], /) -> dict[str, tuple[str, ...]]:
        """The codes of the values that devices bear."""
        ...

    async def of_devices(self, device_ids: Sequence[str], /) -> dict[str, list[DeviceTagShown]]:
        """What devices bear."""
        ...


class Asking:
    """Makes the parts of a selection. Who may not see a plan hears that it is unknown."""

    def __init__(self, access: Access, plans: PlanLists, tags: Tagging) -> None:
        self._access = access
        self._plans = plans
        self._tags = tags

    async def on_behalf(self, call: Call[Any, Any], user_id: str) -> Subject:
        """The caller, or the person about whom he asks. Raises as ``Access.on_behalf``."""
        subject = subject_of(call)
        return await self._access.on_behalf(subject, user_id, context_of(call)) if user_id else subject

    async def scope_of(self, subject: Subject, call: Call[Any, Any], action: Permission) -> Scope:
        """The devices on which somebody may act now."""
        return await self._access.scope(subject, action, context_of(call))

    async def scope(self, call: Call[Any, Any], action: Permission = Permission.ARCHIVE_READ) -> Scope:
        """The devices on which the caller may act now."""
        return await self._access.scope(subject_of(call), action, context_of(call))

    async def narrowings(
        self, call: Call[Any, Any], plan_code: str, expr: TagExpr | None
    ) -> tuple[Narrowing, ...]:
        """The conditions of a plan and of tags. Raises NotFound 40402, and as ``Tagging.narrowing``."""
        found: list[Narrowing] = []
        if plan_code:
            found.append(await self._plans.narrowing(subject_of(call), plan_code))
        if expr is not None:
            found.append(await self._tags.narrowing(expr, "tagExpr"))
        return tuple(found)

    async def tag_codes(self, device_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The codes of the tags that devices bear."""
        return await self._tags.codes(device_ids)

    async def labelled(self, rows: Sequence[Lite]) -> list[Lite]:
        """Rows of a list with the codes of their tags."""
        codes = await self._tags.codes([row.device_id for row in rows])
        return [row._replace(tag_codes=codes.get(row.device_id, ())) for row in rows]
