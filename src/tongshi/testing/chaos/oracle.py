"""What the owners have, in plain dictionaries, and where a platform above holds something else.

The dictionaries change only by operations that the owner's database accepted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import msgspec
from sqlalchemy import Connection, select

from tongshi.clock import Clock
from tongshi.resources.devices import digest_store, reading_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import DeviceArchive, flatten
from tongshi.storage.schema import device_archive
from tongshi.testing.chaos.journal import Broken, Journal
from tongshi.testing.chaos.lies import LIES
from tongshi.testing.rest_platform import sample_archives


class _Database(Protocol):
    async def read(self, work: Callable[..., Any], *arguments: Any) -> Any: ...
    async def write(self, work: Callable[..., Any], *arguments: Any) -> Any: ...


class Owner(Protocol):
    """A platform, near or in another process."""

    @property
    def id(self) -> str: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def db(self) -> _Database: ...


@dataclass(slots=True)
class Truth:
    """What one owner has, as its own database accepted it."""

    present: dict[str, DeviceArchive] = field(default_factory=dict)
    gone: dict[str, DeviceArchive] = field(default_factory=dict)
    ever_gone: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Difference:
    """Devices that one platform holds otherwise than their owner."""

    where: str
    kind: str
    keys: list[str]


class Oracle:
    """Knows what every owner has. ``nodes`` are the platforms of a history, lowest first."""

    def __init__(self, nodes: Sequence[Owner], rng: random.Random, journal: Journal) -> None:
        self._nodes = nodes
        self._rng = rng
        self._journal = journal
        self._truth = {node.id: Truth() for node in nodes[:-1]}
        self._numbers = 0

    async def operate(self, node: Owner) -> None:
        """One random change by one owner; remembered once the owner's database took it."""
        truth = self._truth[node.id]
        operation = self._rng.choice(
            (self._add, self._add, self._change, self._delete, self._reappear, self._move, self._turn_status)
        )
        await operation(node, truth)

    async def add(self, node: Owner, count: int) -> None:
        """So many new devices of one owner."""
        first, self._numbers = self._numbers + 1, self._numbers + count
        await self._put(node, self._truth[node.id], sample_archives(node.id, count, first))

    def check_missing(self, where: str, missing: dict[str, str]) -> None:
        """Nothing that its owner never gave up may be in quarantine."""
        for owner, truth in self._truth.items():
            wrong = {key for key, of in missing.items() if of == owner and key in truth.present}
            wrong -= truth.ever_gone
            if wrong:
                text = f"{where} of {owner} wrongly deleted {sorted(wrong)[:3]} ({len(wrong)})"
                raise Broken(text, Counter({"wrongly deleted": len(wrong)}))

    def give_up(self, differences: list[Difference]) -> NoReturn:
        """Raise Broken, with what differs."""
        found = Counter[str]()
        for difference in differences:
            found[difference.kind] += len(difference.keys)
        told = "; ".join(f"{d.where} {d.kind} {d.keys[:3]} ({len(d.keys)})" for d in differences)
        raise Broken(told, found) if told else Broken("no quiet after the storm")

    async def differences(self) -> list[Difference]:
        """Where a platform above holds something else than the owners."""
        found: list[Difference] = []
        may_status_differ = any(self._journal.counts[lie] for lie in LIES)
        for level, upper in enumerate(self._nodes[1:], start=1):
            rows, missing = await upper.db.read(_rows), await upper.db.read(missing_devices)
            for node in self._nodes[:level]:
                wanted = {key: flatten(a).values for key, a in self._truth[node.id].present.items()}
                held = {key: values for key, (owner, values, _) in rows.items() if owner == node.id}
                where = f"{upper.id} of {node.id}"
                found += _compare(where, wanted, held, missing)
                if not may_status_differ:
                    # A lie may swallow a status, which is the moment's and no part of the digest.
                    below = await node.db.read(_rows)
                    both = wanted.keys() & below.keys() & held.keys()
                    told, known = {k: (below[k][2],) for k in both}, {k: (rows[k][2],) for k in both}
                    found += _compare(f"status at {where}", told, known, missing)
        return found

    async def _add(self, node: Owner, _: Truth) -> None:
        await self.add(node, self._rng.randint(1, 12))

    async def _change(self, node: Owner, truth: Truth) -> None:
        await self._put(node, truth, [self._changed(archive) for archive in self._some(truth.present)])

    async def _reappear(self, node: Owner, truth: Truth) -> None:
        await self._put(node, truth, self._some(truth.gone))

    async def _delete(self, node: Owner, truth: Truth) -> None:
        keys = [archive.device_id for archive in self._some(truth.present)]
        await node.db.write(devices.mark_missing, node.id, keys, node.clock.at())
        truth.ever_gone.update(keys)
        truth.gone.update((key, truth.present.pop(key)) for key in keys)

    async def _move(self, node: Owner, truth: Truth) -> None:
        """Take over what the platform below gave up; refused while we still hold it of that one."""
        below = self._truth[self._nodes[0].id]
        if below is truth:
            return
        taken = [msgspec.structs.replace(archive, owner=node.id) for archive in self._some(below.gone)]
        for key in await self._put(node, truth, taken):
            # Its old owner does not claim it any more.
            below.gone.pop(key, None)

    async def _turn_status(self, node: Owner, truth: Truth) -> None:
        online = {archive.device_id: self._rng.random() < 0.5 for archive in self._some(truth.present)}
        await node.db.write(devices.set_statuses, online, "chaos", node.clock.at(), "", node.id)

    async def _put(self, node: Owner, truth: Truth, archives: list[DeviceArchive]) -> list[str]:
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


def _compare(
    where: str,
    wanted: Mapping[str, tuple[object, ...]],
    held: Mapping[str, tuple[object, ...]],
    quarantined: dict[str, str],
) -> list[Difference]:
    lacking = wanted.keys() - held.keys()
    deleted = lacking & quarantined.keys()
    other = held.keys() - wanted.keys()
    other |= {key for key in wanted.keys() & held.keys() if wanted[key] != held[key]}
    kinds = {"wrongly deleted": deleted, "missing": lacking - deleted, "different": other}
    return [Difference(where, kind, sorted(keys)) for kind, keys in kinds.items() if keys]


def _rows(conn: Connection) -> dict[str, tuple[str, tuple[object, ...], bool | None]]:
    owners = list(digest_store.owners(conn))
    rows = reading_store.wire_rows(conn, "", 100_000, owners) if owners else ()
    return {row[0]: (row[-6], tuple(row[:-6]), row[-3]) for row in rows}


def missing_devices(conn: Connection) -> dict[str, str]:
    """Owners of what is in quarantine."""
    a = device_archive.c
    missing = conn.execute(select(a.device_id, a.owner_platform).where(a.missing_since.is_not(None)))
    return {row[0]: row[1] for row in missing}
