"""Media nodes over REST: who may drain them, that it is recorded, and that it lasts over a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tongshi.audit import store as audit_store
from tongshi.audit.tags import AuditTag
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.gateways.media.nodes.pool import MediaNodes, Seat
from tongshi.resources.viewing import node_drain_store, nodes_http
from tongshi.resources.viewing.media_ports import Ingest
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.node_drains import NodeDrains
from tongshi.resources.viewing.nodes import NodeState
from tongshi.sharing.permissions import ROLES, Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform
from tongshi.web.operations import AnyOperation

HOME = "31010400002000000001"
BASE = "/api/v1/media/nodes"


class Node:
    """A node that is there and carries nothing."""

    kind = "tongshi"
    open_streams = 0
    complaint = ""

    def __init__(self, name: str) -> None:
        self.name = name

    async def open(self, stream: str, transport: Transport, *, is_local: bool = False) -> Ingest:
        raise NotImplementedError

    async def look(self) -> float:
        return 0.0

    def lose(self) -> None:
        return


class Callers:
    """One platform with two nodes, and keys of different rights."""

    def __init__(self, database: Database, names: Sequence[str] = ("local", "east")) -> None:
        self.db, self.clock = database, ManualClock()
        nodes = MediaNodes([Seat(Node(name)) for name in names], self.clock)
        self.drains = NodeDrains(database, node_drain_store, nodes)
        self.platform: RestPlatform

    async def open(self) -> Callers:
        table: list[AnyOperation] = nodes_http.operations(self.drains)
        self.platform = await RestPlatform.open(HOME, self.db, self.clock, lambda _: table)
        rights = {"admin": frozenset(Permission), "viewer": ROLES["viewer"][1]}
        for name, permissions in rights.items():
            await self.platform.grants.put_key(name, name, name[0] * 32, permissions)
        return self

    async def call(self, who: str, method: str, path: str) -> Any:
        self.clock.advance(1)
        headers = Signer(who, who[0] * 32, HOME, self.clock).headers(method, path, "", b"")
        async with self.platform.http() as client:
            return await client.request(method, path, headers=headers)

    async def deeds(self) -> list[tuple[str, object]]:
        tag = AuditTag.MEDIA_NODE_CHANGE
        rows, _ = await self.db.read(lambda conn: audit_store.page(conn, 1, 10, event=tag))
        return [(row.entry.object_id, row.entry.details.get("action")) for row in rows]

    def states(self) -> list[NodeState]:
        return [view.state for view in self.drains.views()]


@pytest.fixture
async def callers(database: Database) -> Callers:
    return await Callers(database).open()


async def test_only_who_administers_the_platform_drains(callers: Callers) -> None:
    async with callers.platform.http() as client:
        assert (await client.get(BASE)).status_code == 401
        assert (await client.post(f"{BASE}/east/drain")).status_code == 401
    for action in ("drain", "resume"):
        assert (await callers.call("viewer", "POST", f"{BASE}/east/{action}")).status_code == 403
        assert (await callers.call("admin", "POST", f"{BASE}/west/{action}")).status_code == 404
    assert callers.states() == [NodeState.ACTIVE, NodeState.ACTIVE]


async def test_a_drain_is_recorded_and_lasts_over_a_restart_until_it_is_taken_back(
    callers: Callers, database: Database
) -> None:
    drained = (await callers.call("admin", "POST", f"{BASE}/east/drain")).json()["data"]
    assert drained["state"] == "drained"
    again = (await callers.call("admin", "POST", f"{BASE}/east/drain")).json()["data"]
    assert again["since"] == drained["since"]
    anew = await Callers(database).open()
    await anew.drains.prepare()
    assert anew.states() == [NodeState.ACTIVE, NodeState.DRAINED]
    listed = (await anew.call("admin", "GET", BASE)).json()["data"]["nodes"]
    assert listed[1]["since"] == drained["since"]
    await anew.call("admin", "POST", f"{BASE}/east/resume")
    assert anew.states() == [NodeState.ACTIVE, NodeState.ACTIVE]
    third = await Callers(database).open()
    await third.drains.prepare()
    assert third.states() == [NodeState.ACTIVE, NodeState.ACTIVE]
    assert sorted(await callers.deeds(), key=str) == [
        ("east", "drain"),
        ("east", "drain"),
        ("east", "resume"),
    ]


async def test_a_drain_of_a_node_that_is_configured_no_more_is_forgotten(
    callers: Callers, database: Database
) -> None:
    await callers.call("admin", "POST", f"{BASE}/east/drain")
    without = Callers(database, ("local",))
    await without.drains.prepare()
    assert await database.read(node_drain_store.drained) == {}
