"""Answering how devices are: from the record, or by asking them now.

Implements: DB31DSJ/Z 001-2024 Table E.2
A probe asks a few devices at once and ends in a bounded time; what a device answered lately is not asked
again. Devices outside the caller's scope are missing like those that do not exist.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from sqlalchemy import Connection

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.protocols.gb28181.response import DeviceStatusResponse
from tongshi.resources.status.model import Counts, Known, Probe
from tongshi.sharing.model import Scope, Subject
from tongshi.storage.engine import Database

PROBES_AT_ONCE: Final = 16  # of the whole platform, whoever asks
MAX_PROBES_KEPT: Final = 10_000
MAX_LISTED: Final = 5_000


class Prober(Protocol):
    """Asks a device for its status by signalling."""

    async def status(self, device_id: str, timeout_s: float) -> DeviceStatusResponse:
        """Raises NotFound, Unavailable, PeerTimeout, PeerFailed."""
        ...


class StatusStore(Protocol):
    """See ``store``."""

    def known(
        self, conn: Connection, device_ids: Sequence[str], scope: Scope, self_id: str, /
    ) -> dict[str, Known]: ...
    def known_in(
        self, conn: Connection, civil_codes: Sequence[str], scope: Scope, self_id: str, limit: int, /
    ) -> list[Known]: ...
    def count_in(
        self, conn: Connection, civil_codes: Sequence[str], scope: Scope, self_id: str, /
    ) -> Counts: ...


class PlannedDevices(Protocol):
    """The devices of plans; ``plans.members`` fulfils it."""

    def heads(self, conn: Connection, by: Subject, codes: Sequence[str], field: str, /) -> object:
        """Raises NotFound 40402 when a plan is unknown or not the caller's to know."""
        ...

    def listed(self, conn: Connection, code: str, /) -> list[str]:
        """What a plan lists, in order."""
        ...

    def missing(self, conn: Connection, codes: Sequence[str], scope: Scope, /) -> list[tuple[str, str]]:
        """``(plan, device)`` of what the archive lacks and the scope lets one know of."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing can be said of a device now."""

    device_id: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Statuses:
    """In the order asked, each with its probe when there was one."""

    found: tuple[tuple[Known, Probe | None], ...]
    failed: tuple[Failure, ...]


class DeviceStatuses:
    """Status of devices. ``at_once`` bounds the probes under way."""

    def __init__(
        self,
        db: Database,
        store: StatusStore,
        clock: Clock,
        self_id: str,
        plans: PlannedDevices,
        prober: Prober | None = None,
        at_once: int = PROBES_AT_ONCE,
    ) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._self_id = self_id
        self._plans = plans
        self._prober = prober
        self._slots = asyncio.Semaphore(at_once)
        self._probes: OrderedDict[str, Probe] = OrderedDict()

    async def cached(self, device_ids: Sequence[str], scope: Scope, max_age_s: float) -> Statuses:
        """From the record, with what a probe of no more than ``max_age_s`` found."""
        wanted, known, failed = await self._known(device_ids, scope)
        found = ((known[key], self._recent(key, max_age_s)) for key in wanted if key in known)
        return Statuses(tuple(found), failed)

    async def probe(
        self, device_ids: Sequence[str], scope: Scope, max_age_s: float, timeout_s: float
    ) -> Statuses:
        """Ask each device now, unless it answered within ``max_age_s``; ``timeout_s`` bounds one answer."""
        wanted, known, failed = await self._known(device_ids, scope)
        asked = [key for key in wanted if key in known]
        answers = await asyncio.gather(*(self._ask(key, max_age_s, timeout_s) for key in asked))
        found = tuple(
            (known[key], answer)
            for key, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Probe)
        )
        return Statuses(found, failed + tuple(a for a in answers if isinstance(a, Failure)))

    async def online(self, device_ids: Sequence[str], scope: Scope) -> tuple[list[Known], list[str]]:
        """What is known of each in the order asked, and the ids of which nothing is told."""
        wanted, known, failed = await self._known(device_ids, scope)
        return [known[key] for key in wanted if key in known], [lost.device_id for lost in failed]

    async def visible(self, device_ids: Sequence[str], scope: Scope) -> frozenset[str]:
        """Those of the devices that lie within the scope."""
        return frozenset(await self._db.read(self._store.known, device_ids, scope, self._self_id))

    async def online_of(self, by: Subject, plan_code: str, scope: Scope) -> tuple[list[Known], list[str]]:
        """What is known of a plan's devices in its order, and which of them the archive lacks.

        A device outside of the scope is in neither. Raises NotFound 40402.
        """

        def ask(conn: Connection) -> tuple[list[Known], list[str]]:
            self._plans.heads(conn, by, [plan_code], "planCode")
            listed = self._plans.listed(conn, plan_code)
            known = self._store.known(conn, listed, scope, self._self_id)
            missing = [key for _, key in self._plans.missing(conn, [plan_code], scope)]
            return [known[key] for key in listed if key in known], missing

        return await self._db.read(ask)

    async def online_in(
        self, civil_codes: Sequence[str], scope: Scope, *, is_summary: bool
    ) -> tuple[list[Known], Counts]:
        """Devices of divisions, at most MAX_LISTED, and how many there are in all."""
        counts = await self._db.read(self._store.count_in, civil_codes, scope, self._self_id)
        if is_summary:
            return [], counts
        found = await self._db.read(self._store.known_in, civil_codes, scope, self._self_id, MAX_LISTED)
        return found, counts

    async def _known(
        self, device_ids: Sequence[str], scope: Scope
    ) -> tuple[list[str], dict[str, Known], tuple[Failure, ...]]:
        wanted = list(dict.fromkeys(device_ids))
        known = await self._db.read(self._store.known, wanted, scope, self._self_id)
        failed = tuple(Failure(key, 40401, "设备不存在") for key in wanted if key not in known)
        return wanted, known, failed

    def _recent(self, device_id: str, max_age_s: float) -> Probe | None:
        probe = self._probes.get(device_id)
        is_recent = probe is not None and self._clock.at() - probe.at <= timedelta(seconds=max_age_s)
        return probe if is_recent else None

    async def _ask(self, device_id: str, max_age_s: float, timeout_s: float) -> Probe | Failure:
        recent = self._recent(device_id, max_age_s)
        if recent is not None:
            return recent
        if self._prober is None:
            return Failure(device_id, 50301, "本平台未启用信令")
        async with self._slots:
            try:
                status = await self._prober.status(device_id, timeout_s)
            except TongshiError as error:
                return Failure(device_id, error.code, error.message)
        probe = self._probes[device_id] = Probe(status, self._clock.at())
        self._probes.move_to_end(device_id)
        while len(self._probes) > MAX_PROBES_KEPT:
            self._probes.popitem(last=False)
        return probe
