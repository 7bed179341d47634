"""The trees, opened branch by branch. An extension; no row of Annex E lists it.

Implements: GB/T 28181-2022 Annex J
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.resources.devices import wire
from tongshi.resources.devices.rules.model import Issue
from tongshi.resources.trees.model import FAULTS, Branch, TreeKind
from tongshi.resources.trees.service import Trees
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request


class TreeQuery(Request, frozen=True):
    """Where to look: the roots, or below ``parent``; ``after`` is the last device of the page before."""

    parent: Annotated[str, Meta(max_length=64)] = ""
    with_counts: bool = False
    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class TreeNode(Answer, frozen=True, omit_defaults=True):
    """A branch. Counts are of the devices below it that the caller may see."""

    id: str
    name: str
    kind: str
    has_children: bool
    owner: str = ""
    count: int | None = None
    online: int | None = None
    issues: tuple[Issue, ...] = ()


class TreeLevel(Answer, frozen=True):
    """What hangs directly below: branches with the first page, devices in pages."""

    rows: list[TreeNode] = field(name="list")
    devices: list[wire.DeviceLite]
    next_after: str


def operations(trees: Trees, access: Access) -> list[AnyOperation]:
    """The operation on trees."""

    async def expand(call: Call[Nothing, TreeQuery]) -> TreeLevel:
        query = call.query
        scope = await access.scope(subject_of(call), Permission.ARCHIVE_READ, context_of(call))
        level = await trees.expand(_kind(call.path["kind"]), scope, query.parent, query.after, query.limit)
        rows = [_node(branch, query.with_counts) for branch in level.branches]
        return TreeLevel(rows, [wire.to_lite(device) for device in level.devices], level.next_after)

    return [
        Operation(
            name="expandTree",
            method="GET",
            path="/api/v1/archive/trees/{kind}",
            summary="逐级展开行政区划、业务分组或平台目录树",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.ARCHIVE_QUERY,
            body=Nothing,
            query=TreeQuery,
            response=TreeLevel,
            handler=expand,
        )
    ]


def _kind(text: str) -> TreeKind:
    try:
        return TreeKind(text)
    except ValueError:
        raise NotFound("目录树只有 division、group、platform") from None


def _node(branch: Branch, with_counts: bool) -> TreeNode:
    fault = branch.fault
    return TreeNode(
        branch.id,
        branch.name,
        branch.kind,
        bool(branch.children or branch.direct),
        branch.owner,
        branch.count if with_counts else None,
        branch.online if with_counts else None,
        () if fault is None else (Issue(fault.value, "ParentID", "error", FAULTS[fault]),),
    )
