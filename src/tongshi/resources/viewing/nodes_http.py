"""Media nodes over REST: the list, drain, resume.

Implements: DB31DSJ/Z 001-2024 5.2
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tongshi.audit.tags import AuditTag
from tongshi.resources.viewing.node_drains import NodeDrains
from tongshi.resources.viewing.nodes import NodeState, NodeView
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota

_BASE = "/api/v1/media/nodes"


class NodeRow(Answer, frozen=True):
    """One media node; see ``NodeView`` for units."""

    name: str
    kind: str
    state: NodeState
    streams: int
    capacity: int
    load: float
    places: tuple[str, ...]
    trouble: str
    since: datetime


class NodeList(Answer, frozen=True):
    """All media nodes of this platform."""

    nodes: tuple[NodeRow, ...]


def operations(desk: NodeDrains) -> list[AnyOperation]:
    """The operations on media nodes."""

    async def nodes(call: Call[Nothing, Nothing]) -> NodeList:
        return NodeList(tuple(_row(view) for view in desk.views()))

    async def drain(call: Call[Nothing, Nothing]) -> NodeRow:
        return _row(await desk.drain(subject_of(call), call.path["name"], context_of(call)))

    async def resume(call: Call[Nothing, Nothing]) -> NodeRow:
        return _row(await desk.resume(subject_of(call), call.path["name"], context_of(call)))

    return [
        _operation("listMediaNodes", "GET", "", "查询媒体节点", NodeList, nodes),
        _operation("drainMediaNode", "POST", "/{name}/drain", "停止向媒体节点分配视频", NodeRow, drain),
        _operation("resumeMediaNode", "POST", "/{name}/resume", "恢复向媒体节点分配视频", NodeRow, resume),
    ]


def _operation(
    name: str, method: str, path: str, summary: str, response: type[Any], handler: Any
) -> AnyOperation:
    is_look = method == "GET"
    return Operation(
        name=name,
        method=method,
        path=_BASE + path,
        summary=summary,
        permission=Permission.PLATFORM_READ if is_look else Permission.PLATFORM_ADMIN,
        quota=Quota.QUERY if is_look else Quota.ADMIN,
        audit=AuditTag.MEDIA_NODE_QUERY if is_look else AuditTag.MEDIA_NODE_CHANGE,
        body=Nothing,
        query=Nothing,
        response=response,
        handler=handler,
        is_audited_within=not is_look,
    )


def _row(view: NodeView) -> NodeRow:
    return NodeRow(
        view.name,
        view.kind,
        view.state,
        view.streams,
        view.capacity,
        round(view.load, 3),
        view.places,
        view.trouble,
        view.since,
    )
