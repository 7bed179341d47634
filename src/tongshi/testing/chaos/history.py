"""One random history: two or three platforms, a storm, then calm, then the question whether all is equal.

The oracle is a plain dictionary for each owner, changed only by operations that the owner's database
accepted. While the storm lasts: nothing that its owner never gave up is marked missing above, positions do
not go back but by a full, and no position that was acknowledged is forgotten. After it: every platform above
holds just what the owners hold.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import msgspec
from sqlalchemy import Connection, select

from tongshi.errors import TongshiError
from tongshi.exchange import store
from tongshi.exchange.model import Equality, Peer
from tongshi.exchange.sender import Sender
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import DeviceArchive, flatten
from tongshi.resources.platforms.model import Relation
from tongshi.storage import changes
from tongshi.storage.schema import device_archive
from tongshi.testing.chaos.link import LIES, ChaosLink
from tongshi.testing.chaos.node import Node
from tongshi.testing.chaos.storm import Died
from tongshi.testing.rest_platform import sample_archives

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


class Broken(Exception):
    """A promise was not kept; the text says which."""


@dataclass(slots=True)
class Truth:
    """What one owner has, as its own database accepted it."""

    present: dict[str, DeviceArchive] = field(default_factory=dict)
    gone: dict[str, DeviceArchive] = field(default_factory=dict)
    ever_gone: set[str] = field(default_factory=set)


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
        self.injected: Counter[str] = Counter()
        self._nodes = nodes
        self._rng = rng
        self._hops = [
            Hop(lower, upper, ChaosLink(lower.id, upper, rng, self.injected))
            for lower, upper in pairwise(nodes)
        ]
        self._truth = {node.id: Truth() for node in nodes[:-1]}
        self._numbers = 0
        self._batch_items = rng.choice((3, 7, 5_000))

    async def run(self) -> None:
        """Storm, calm, verdict. Raises Broken."""
        for lower, upper in pairwise(self._nodes):
            await lower.introduce({upper.id: Relation.UPPER})
            await upper.introduce({lower.id: Relation.LOWER})
        for _ in range(self._rng.randint(4, 10)):
            await self._storm_round()
        await self._calm_down()
        for _ in range(CALM_ROUNDS):
            if await self._is_quiet() and not await self._differences():
                return
        raise Broken("; ".join(await self._differences()) or "no quiet after the storm")

    async def _storm_round(self) -> None:
        for hop in self._hops:
            hop.link.odds = self._rng.choice((0.0, 0.1, 0.4))
        for _ in range(self._rng.randint(1, 3)):
            await self._operate(self._rng.choice(self._nodes[:-1]))
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
        self.injected[what] += 1
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
                self.injected["person confirmed"] += 1
                await hop.upper.exchange.confirm_vanishing(hop.lower.id)
            return peer
        except (TongshiError, Died) as error:
            self.injected[f"turn ended by {type(error).__name__}"] += 1
            return None

    async def _operate(self, node: Node) -> None:
        truth = self._truth[node.id]
        operation = self._rng.choice(
            (self._add, self._add, self._change, self._delete, self._reappear, self._move, self._turn_status)
        )
        await self._quietly(operation(node, truth))

    async def _quietly(self, operation: object) -> None:
        """Run an operation; one that the storm ended has had no effect."""
        try:
            await operation  # type: ignore[misc]  # one of the coroutines below
        except (TongshiError, Died):
            self.injected["operation refused"] += 1
            await self._revive()

    async def _add(self, node: Node, truth: Truth) -> None:
        count = self._rng.randint(1, 12)
        first, self._numbers = self._numbers + 1, self._numbers + count
        await self._put(node, truth, sample_archives(node.id, count, first))

    async def _change(self, node: Node, truth: Truth) -> None:
        await self._put(node, truth, [self._changed(archive) for archive in self._some(truth.present)])

    async def _reappear(self, node: Node, truth: Truth) -> None:
        await self._put(node, truth, self._some(truth.gone))

    async def _delete(self, node: Node, truth: Truth) -> None:
        keys = [archive.device_id for archive in self._some(truth.present)]
        await node.db.write(devices.mark_missing, node.id, keys, node.clock.at())
        truth.ever_gone.update(keys)
        truth.gone.update((key, truth.present.pop(key)) for key in keys)

    async def _move(self, node: Node, truth: Truth) -> None:
        """Take over what the platform below gave up; refused while we still hold it of that one."""
        below = self._truth[self._nodes[0].id]
        if below is truth:
            return
        taken = [msgspec.structs.replace(archive, owner=node.id) for archive in self._some(below.gone)]
        for key in await self._put(node, truth, taken):
            # Its old owner does not claim it any more.
            below.gone.pop(key, None)

    async def _turn_status(self, node: Node, truth: Truth) -> None:
        online = {archive.device_id: self._rng.random() < 0.5 for archive in self._some(truth.present)}
        await node.db.write(devices.set_statuses, online, "chaos", node.clock.at(), "", node.id)

    async def _put(self, node: Node, truth: Truth, archives: list[DeviceArchive]) -> list[str]:
        """Returns the ids that the owner's database took."""
        result = await node.db.write(devices.upsert_many, archives, node.id, node.clock.at())
        taken = [archive for archive in archives if archive.device_id not in result.foreign]
        for archive in taken:
            truth.present[archive.device_id] = archive
            truth.gone.pop(archive.device_id, None)
        return [archive.device_id for archive in taken]

    def _some(self, archives: dict[str, DeviceArchive]) -> list[DeviceArchive]:
        keys = sorted(archives)
        return [archives[key] for key in self._rng.sample(keys, min(len(keys), self._rng.randint(1, 6)))]

    def _changed(self, archive: DeviceArchive) -> DeviceArchive:
        # Another division too, now and then: the device moves from leaf to leaf of the digest tree.
        code = self._rng.choice((archive.item.civil_code, "310105", ""))
        item = msgspec.structs.replace(archive.item, name=f"改{self._rng.randrange(1000)}号", civil_code=code)
        return msgspec.structs.replace(archive, item=item)

    async def _revive(self) -> None:
        for node in self._nodes:
            if node.storm.is_dead:
                self.injected["revived"] += 1
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
        for owner, truth in self._truth.items():
            wrong = {key for key, of in missing.items() if of == owner and key in truth.present}
            if wrong - truth.ever_gone:
                raise Broken(f"wrongly missing at {hop.upper.id}: {sorted(wrong - truth.ever_gone)}")

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

    async def _differences(self) -> list[str]:
        """Where a platform above holds something else than the owners."""
        found: list[str] = []
        may_status_differ = any(self.injected[lie] for lie in LIES)
        for level, upper in enumerate(self._nodes[1:], start=1):
            rows = await upper.db.read(_rows)
            for node in self._nodes[:level]:
                wanted = {key: flatten(a).values for key, a in self._truth[node.id].present.items()}
                held = {key: values for key, (owner, values, _) in rows.items() if owner == node.id}
                found += _compare(f"{upper.id} of {node.id}", wanted, held)
                if not may_status_differ:
                    # A lie may swallow a status, which is the moment's and no part of the digest.
                    below = await node.db.read(_rows)
                    found += _compare(
                        f"status at {upper.id} of {node.id}",
                        {key: (below[key][2],) for key in wanted if key in below},
                        {key: (rows[key][2],) for key in held},
                    )
        return found


def _compare(
    where: str, wanted: dict[str, tuple[object, ...]], held: dict[str, tuple[object, ...]]
) -> list[str]:
    lacking, surplus = sorted(wanted.keys() - held.keys()), sorted(held.keys() - wanted.keys())
    different = sorted(key for key in wanted.keys() & held.keys() if wanted[key] != held[key])
    kinds = {"lacks": lacking, "still has": surplus, "differs in": different}
    return [f"{where} {kind} {keys[:3]} ({len(keys)})" for kind, keys in kinds.items() if keys]


def _rows(conn: Connection) -> dict[str, tuple[str, tuple[object, ...], bool | None]]:
    owners = list(devices.owners(conn))
    return {
        row[0]: (row[-6], tuple(row[:-6]), row[-3]) for row in devices.wire_rows(conn, "", 100_000, owners)
    }


def _peer_and_missing(conn: Connection, lower: str) -> tuple[Peer, dict[str, str]]:
    a = device_archive.c
    missing = conn.execute(select(a.device_id, a.owner_platform).where(a.missing_since.is_not(None)))
    return store.get_peer(conn, lower, store.IN), {row[0]: row[1] for row in missing}
