"""Taking a ledger into the archive of this platform, and giving it back.

Implements: DB31DSJ/Z 001-2024 6.2.2
A ledger knows a part of a record: what it tells replaces, what it leaves empty stays. A dry run says the same
as the run itself and writes nothing. A device of another platform is left alone: only its owner changes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from tongshi.clock import Clock
from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.ledger import reading
from tongshi.resources.devices.ledger.columns import ID
from tongshi.resources.devices.ledger.model import Findings, Flags, Kind, LedgerRow
from tongshi.resources.devices.ledger.options import Option
from tongshi.resources.devices.model import NOBODY, Act, DeviceArchive, Source, UpsertResult, digest
from tongshi.resources.devices.provenance import by_person
from tongshi.sharing.model import EVERYTHING, Scope

MAX_ROWS = 200_000
# Devices stored in one transaction.
BATCH = 5_000


class Archives(Protocol):
    """What this service needs of the device archive."""

    async def get_many(self, device_ids: Sequence[str], scope: Scope) -> Mapping[str, DeviceArchive]: ...

    async def put(self, archives: Sequence[DeviceArchive], origin: str, act: Act = ...) -> UpsertResult: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a table. Counts of a dry run are what would become of it."""

    rows: int
    inserted: int
    updated: int
    unchanged: int
    refused: int
    findings: Findings


class Ledger:
    """Imports ledgers as this platform's own archive."""

    def __init__(self, archives: Archives, self_id: str, clock: Clock) -> None:
        self._archives = archives
        self._self_id = self_id
        self._clock = clock

    async def take(
        self,
        rows: Sequence[reading.Row],
        *,
        is_dry_run: bool = True,
        flags: Flags = "auto",
        dictionaries: Mapping[str, Sequence[Option]] | None = None,
        act: Act = NOBODY,
    ) -> Taken:
        """Read a table, say what it means, and unless it is a dry run store it, ``BATCH`` devices at once.

        ``act`` says on whose behalf.

        Raises:
            InvalidRequest: more than ``MAX_ROWS`` rows.
        """
        if len(rows) > MAX_ROWS:
            raise InvalidRequest(f"一次最多 {MAX_ROWS} 行", field="rows")
        findings = Findings()
        read = await asyncio.to_thread(reading.read, rows, findings, flags, dictionaries)
        held = await self._archives.get_many([row.device_id for row in read], EVERYTHING)
        wanted: list[DeviceArchive] = []
        inserted = unchanged = 0
        for row in read:
            old = held.get(row.device_id)
            if old is not None and old.owner != self._self_id:
                findings.add(row.number, ID, "L-23", Kind.REFUSED, row.device_id, old.owner)
                continue
            new = self._merged(row, old)
            if old is None:
                inserted += 1
            elif old.missing_since is not None:
                findings.add(row.number, ID, "L-24", Kind.NOTE, row.device_id)
            elif digest(old) == digest(new):
                unchanged += 1
                continue
            wanted.append(new)
        if not is_dry_run:
            for start in range(0, len(wanted), BATCH):
                await self._archives.put(wanted[start : start + BATCH], self._self_id, act)
        updated = len(wanted) - inserted
        refused = len(rows) - inserted - updated - unchanged
        return Taken(len(rows), inserted, updated, unchanged, refused, findings)

    def _merged(self, row: LedgerRow, old: DeviceArchive | None) -> DeviceArchive:
        base = old or DeviceArchive(item=CatalogItem(device_id=row.device_id), owner=self._self_id)
        told = replace(base, item=replace(base.item, **row.item), ext=replace(base.ext, **row.ext))
        return by_person(old, told, Source.FILE, self._clock.at())
