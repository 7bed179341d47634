"""Draining media nodes, so that it lasts: kept in the record, and done again when the platform starts.

Implements: DB31DSJ/Z 001-2024 5.2
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.resources.viewing.nodes import NodeDesk, NodeView
from tongshi.sharing.model import Context, Subject
from tongshi.storage.engine import Database


class DrainStore(Protocol):
    """``node_drain_store``."""

    def drained(self, conn: Connection) -> dict[str, datetime]: ...

    def keep(self, conn: Connection, name: str, since: datetime) -> None: ...

    def forget(self, conn: Connection, names: Collection[str]) -> None: ...


class NodeDrains:
    """Media nodes for those who administer the platform."""

    def __init__(self, db: Database, store: DrainStore, nodes: NodeDesk) -> None:
        self._db, self._store, self._nodes = db, store, nodes

    async def prepare(self) -> None:
        """Drain what was drained before; what is no longer configured is forgotten, so that rows are few."""
        drained = await self._db.read(self._store.drained)
        known = {view.name for view in self._nodes.views()}
        if gone := drained.keys() - known:
            await self._db.write(self._store.forget, gone)
        for name in drained.keys() & known:
            self._nodes.drain(name, drained[name])

    def views(self) -> Sequence[NodeView]:
        """All of them, in the order of the configuration."""
        return self._nodes.views()

    async def drain(self, caller: Subject, name: str, context: Context) -> NodeView:
        """Open nothing more there, also after a restart. Raises NotFound: no such node (40404)."""
        self._known(name)
        await self._db.write(self._keep, caller, name, context)
        return self._nodes.drain(name, context.at)

    async def resume(self, caller: Subject, name: str, context: Context) -> NodeView:
        """Open streams there again. Raises NotFound: no such node (40404)."""
        self._known(name)
        await self._db.write(self._forget, caller, name, context)
        return self._nodes.resume(name, context.at)

    def _known(self, name: str) -> None:
        if all(view.name != name for view in self._nodes.views()):
            raise NotFound("没有这个媒体节点", code=40404)

    def _keep(self, conn: Connection, caller: Subject, name: str, context: Context) -> None:
        if name not in self._store.drained(conn):
            self._store.keep(conn, name, context.at)
        self._record(conn, caller, name, context, "drain")

    def _forget(self, conn: Connection, caller: Subject, name: str, context: Context) -> None:
        self._store.forget(conn, (name,))
        self._record(conn, caller, name, context, "resume")

    def _record(self, conn: Connection, caller: Subject, name: str, context: Context, action: str) -> None:
        details: dict[str, object] = {"action": action}
        audit.append(conn, deed(caller, context, AuditTag.MEDIA_NODE_CHANGE, "mediaNode", name, details))
