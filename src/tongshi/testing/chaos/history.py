"""One random history: two or three platforms, a storm, then calm, then the question whether all is equal.

The oracle is a plain dictionary for each owner, changed only by operations that the owner's database
accepted. While the storm lasts: nothing that its owner never gave up is marked missing above, positions do
not go back but by a full, and no position that was acknowledged is forgotten. After it: every platform above
holds just what the owners hold.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from sqlalchemy import Connection

from tongshi.errors import TongshiError
from tongshi.exchange import store
from tongshi.exchange.model import Equality, Peer
from tongshi.exchange.sender import Sender
from tongshi.resources.platforms.model import Relation
from tongshi.storage import changes
from tongshi.testing.chaos.journal import Broken, Journal
from tongshi.testing.chaos.link import ChaosLink
from tongshi.testing.chaos.node import Node
from tongshi.testing.chaos.oracle import Oracle, missing_devices
from tongshi.testing.chaos.storm import Died

CITY, DISTRICT, BUREAU = "31000000002000000001", "31010400002000000001", "31010400002000000002"
THREE_SHARE = 0.4
CALM_ROUNDS = 30
# Longer than the sender waits between two fulls.
CALM_STEP_S = 660.0
STORMS = (
    "killed",
    "database away",
    "disk full",
    "clock back",
    "clock ahead",
    "restart",
    "feed compacted",
    "sender forgot",
)


@dataclass(slots=True)
class Hop:
    """One platform telling the next, and what is remembered of it from outside."""

    lower: Node
    upper: Node
    link: ChaosLink
    fulls: int = 0
    position: int = 0


class History:
    """Built over opened nodes, lowest first; ``run`` it once."""

    def __init__(self, nodes: list[Node], rng: random.Random) -> None:
        self.round = 0
        self.journal = Journal(lambda: self.round)
        self._nodes = nodes
        self._rng = rng
        self._hops = [
            Hop(lower, upper, ChaosLink(lower.id, upper, rng, self.journal))
            for lower, upper in pairwise(nodes)
        ]
        self._oracle = Oracle(nodes, rng, self.journal)
        self._batch_items = rng.choice((3, 7, 5_000))

    async def run(self) -> None:
        """Storm, calm, verdict. Raises Broken."""
        for lower, upper in pairwise(self._nodes):
            await lower.introduce({upper.id: Relation.UPPER})
            await upper.introduce({lower.id: Relation.LOWER})
        for _ in range(self._rng.randint(4, 10)):
            self.round += 1
            await self._storm_round()
        await self._calm_down()
        for _ in range(CALM_ROUNDS):
            if await self._is_quiet() and not await self._oracle.differences():
                return
        self._oracle.give_up(await self._oracle.differences())

    async def _storm_round(self) -> None:
        for hop in self._hops:
            hop.link.odds = self._rng.choice((0.0, 0.1, 0.4))
        for _ in range(self._rng.randint(1, 3)):
            await self._quietly(self._oracle.operate(self._rng.choice(self._nodes[:-1])))
        if self._rng.random() < 0.6:
            await self._strike(self._rng.choice(self._nodes), self._rng.choice(STORMS))
        for hop in self._rng.sample(self._hops, len(self._hops)):
            if self._rng.random() < 0.8:
                await self._turn(hop)
                await self._revive()
                await self._check(hop)
        for node in self._nodes:
            node.clock.advance(self._rng.choice((1.0, 60.0, CALM_STEP_S)))

    async def _strike(self, node: Node, what: str) -> None:
        self.journal.note(what, node.id)
        if what == "killed":
            node.storm.dies_in = self._rng.randint(1, 80)
        elif what == "database away":
            node.storm.away_for = self._rng.randint(1, 30)
        elif what == "disk full":
            await self._quietly(node.limit_disk(self._rng.randint(0, 2)))
        elif what == "restart":
            await node.close()
            await node.open()
        elif what == "feed compacted":
            await self._quietly(node.db.write(changes.compact, node.clock.at() + timedelta(hours=2)))
        elif what == "sender forgot":
            hop = self._rng.choice(self._hops)
            blank = Peer(hop.upper.id, store.OUT)
            await self._quietly(hop.lower.db.write(store.put_peer, blank, hop.lower.clock.at()))
        else:
            node.step_clock(-1 if what == "clock back" else 1)

    async def _turn(self, hop: Hop) -> Peer | None:
        """One step of a sender without memory, and now and then a person who confirms."""
        sender = Sender(hop.lower.db, hop.lower.clock, hop.link, hop.upper.id, batch_items=self._batch_items)
        try:
            peer = await sender.step()
            if peer.waiting and self._rng.random() < 0.5:
                self.journal.note("person confirmed", hop.upper.id)
                await hop.upper.exchange.confirm_vanishing(hop.lower.id)
            return peer
        except (TongshiError, Died) as error:
            self.journal.note(f"turn ended by {type(error).__name__}", hop.lower.id)
            return None

    async def _quietly(self, operation: object) -> None:
        """Run an operation; one that the storm ended has had no effect."""
        try:
            await operation  # type: ignore[misc]  # one of the coroutines below
        except (TongshiError, Died):
            self.journal.note("operation refused")
            await self._revive()

    async def _revive(self) -> None:
        for node in self._nodes:
            if node.storm.is_dead:
                self.journal.note("revived", node.id)
                await node.revive()

    async def _check(self, hop: Hop) -> None:
        """What must hold in the middle of the storm."""
        for node in (hop.lower, hop.upper):
            node.storm.away_for = 0
        due, hop.upper.storm.dies_in = hop.upper.storm.dies_in, None
        try:
            peer, missing = await hop.upper.db.read(_peer_and_missing, hop.lower.id)
        finally:
            hop.upper.storm.dies_in = due
        if peer.position < hop.position and hop.link.fulls == hop.fulls:
            raise Broken(f"position of {hop.lower.id} went back from {hop.position} to {peer.position}")
        if peer.position < hop.link.acknowledged:
            raise Broken(f"acknowledged {hop.link.acknowledged}, remembered {peer.position}")
        hop.position, hop.fulls = peer.position, hop.link.fulls
        self._oracle.check_missing(hop.upper.id, missing)

    async def _calm_down(self) -> None:
        for node in self._nodes:
            node.storm.dies_in, node.storm.away_for = None, 0
            await node.limit_disk(None)
        for hop in self._hops:
            hop.link.heal()

    async def _is_quiet(self) -> bool:
        """Whether a round of turns found everything told and equal."""
        is_quiet = True
        for hop in self._hops:
            peer = await self._turn(hop)
            is_quiet = is_quiet and peer is not None and peer.equality is Equality.EQUAL and not peer.waiting
        for node in self._nodes:
            node.clock.advance(CALM_STEP_S)
        return is_quiet


def _peer_and_missing(conn: Connection, lower: str) -> tuple[Peer, dict[str, str]]:
    return store.get_peer(conn, lower, store.IN), missing_devices(conn)
