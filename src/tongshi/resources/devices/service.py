"""Device archives: what a catalogue or a neighbour tells is merged by provenance; nothing is deleted here.

Implements: DB31DSJ/Z 001-2024 6.2.2
Implements: DB31DSJ/Z 001-2024 6.3.2

Who may tell, in one table; a row is what we hold, a column what arrives. "Cascade" is a lower platform's
catalogue, "signalling" a device registered here:

| held | cascade | signalling | rest | file, manual |
|---|---|---|---|---|
| nothing | taken | taken | taken | taken |
| its owner's | merged field by field | merged field by field | taken if not older | merged field by field |
| another's, by cascade | status only | merged, owner too | taken, owner too | refused |
| another's, firmer | status only | status only | left alone | refused |

Field by field the heavier word stays (``provenance``): of a record by REST a catalogue changes the status
only, what a person wrote is filled and not overwritten, and the attributes of Table A.1, which no catalogue
carries, stay. Status counts from whoever stands nearest to the device; another platform's word does not
change that of a device of ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Protocol

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import InvalidRequest, NotFound
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.devices.model import (
    NOBODY,
    WHOLE,
    Act,
    DeviceArchive,
    Filters,
    Origin,
    Placed,
    Source,
    UpsertResult,
    Word,
    digest,
)
from tongshi.resources.devices.provenance import (
    CATALOGUES,
    ITEM_FIELDS,
    PERSONS,
    Contribution,
    changed,
    merged,
    numbered,
    origins_of,
    whole_of,
)
from tongshi.sharing.model import Scope
from tongshi.storage.engine import Database
from tongshi.storage.times import to_ms

BATCH = 5_000
_WIDEST_INT = 2**53


class ArchiveStore(Protocol):
    """The rows this service works on; ``store`` is one."""

    def lock(self, conn: Connection, /) -> None: ...

    def upsert_many(
        self,
        conn: Connection,
        archives: Iterable[DeviceArchive],
        origin: str,
        at: datetime,
        act: Act = ...,
        /,
    ) -> UpsertResult: ...

    def restamp(self, conn: Connection, archives: Sequence[DeviceArchive], /) -> None: ...

    def get(self, conn: Connection, device_id: str, /) -> DeviceArchive | None: ...

    def get_many(
        self, conn: Connection, device_ids: Sequence[str], scope: Scope | None = None, /
    ) -> dict[str, DeviceArchive]: ...

    def page(
        self, conn: Connection, scope: Scope, filters: Filters, page_no: int, page_size: int, /
    ) -> tuple[list[DeviceArchive], int]: ...

    def placed(
        self, conn: Connection, scope: Scope, after_key: str, limit: int, named: str = "", /
    ) -> list[Placed]: ...

    def mark_missing(
        self, conn: Connection, owner: str, device_ids: Sequence[str], at: datetime, origin: str = "", /
    ) -> int: ...

    def words(self, conn: Connection, device_ids: Sequence[str], /) -> dict[str, dict[str, Word]]: ...

    def put_words(
        self, conn: Connection, told: Mapping[str, Mapping[str, Word]], at: datetime, /
    ) -> None: ...

    def forget_words(self, conn: Connection, teller: str, device_ids: Sequence[str], /) -> None: ...

    def set_statuses(
        self,
        conn: Connection,
        online: dict[str, bool],
        source: str,
        at: datetime,
        reason: str = "",
        origin: str = "",
        /,
    ) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a catalogue changed. ``rejected`` are items that cannot be kept, with the reason."""

    stored: UpsertResult
    turned: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]


class DeviceArchives:
    """Archives of all platforms. ``self_id`` is this platform: it owns what registers here."""

    def __init__(self, db: Database, store: ArchiveStore, clock: Clock, self_id: str) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._self_id = self_id

    async def merge_catalogue(
        self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool
    ) -> MergeResult:
        """Take in a catalogue that a peer answered, whole or in part: absence proves nothing.

        Args:
            peer_id: who answered.
            items: any number; merged in bounded transactions.
            is_platform: the peer is a lower platform and owns what it tells, else a device of ours.
        """
        owner = peer_id if is_platform else self._self_id
        source = Source.CASCADE if is_platform else Source.SIGNALLING
        # A platform lists itself first (Annex H.2.1); here it is a neighbour, no device of its own archive.
        kept, rejected = _sort_out(item for item in items if not is_platform or item.device_id != peer_id)
        results: list[tuple[UpsertResult, list[str]]] = []
        for start in range(0, len(kept), BATCH):
            batch = kept[start : start + BATCH]
            results.append(await self._db.write(self._merge, peer_id, owner, source, batch, self._clock.at()))
        stored = UpsertResult(
            **{
                name: tuple(key for result, _ in results for key in getattr(result, name))
                for name in UpsertResult.__slots__
            }
        )
        return MergeResult(stored, tuple(key for _, turned in results for key in turned), rejected)

    async def put(self, archives: Sequence[DeviceArchive], origin: str, act: Act = NOBODY) -> UpsertResult:
        """Store archives as their owner wrote them (exchange, import), at most ``BATCH``, in one transaction.

        The caller has checked that ``origin`` may speak for the owners; ``act`` says on whose behalf.
        """
        if len(archives) > BATCH:
            raise InvalidRequest(f"一批最多 {BATCH} 条", field="items")
        return await self._db.write(self._store.upsert_many, archives, origin, self._clock.at(), act)

    async def get(self, device_id: str) -> DeviceArchive:
        """One archive, missing ones too. Raises NotFound 40401."""
        found = await self._db.read(self._store.get, device_id)
        if found is None:
            raise NotFound("设备不存在")
        return found

    async def find(self, device_id: str) -> DeviceArchive | None:
        """One archive or None."""
        return await self._db.read(self._store.get, device_id)

    async def get_many(self, device_ids: Sequence[str], scope: Scope) -> dict[str, DeviceArchive]:
        """Those that exist within the caller's scope, by id."""
        return await self._db.read(self._store.get_many, device_ids, scope)

    async def page(
        self, scope: Scope, filters: Filters, page_no: int, page_size: int
    ) -> tuple[list[DeviceArchive], int]:
        """One page of what the caller may see, and how many that is in all."""
        return await self._db.read(self._store.page, scope, filters, page_no, page_size)

    async def placed(self, scope: Scope, after: str, limit: int, named: str = "") -> list[Placed]:
        """The next present devices in order of id; with ``named`` that one and what names it as parent."""
        return await self._db.read(self._store.placed, scope, after, limit, named)

    async def note_status(self, online: dict[str, bool], source: str, reason: str = "") -> list[str]:
        """Note the status of devices. Returns those that turned."""
        return await self._db.write(self._note_status, online, source, reason, self._clock.at())

    async def words(self, device_ids: Sequence[str]) -> dict[str, dict[str, Word]]:
        """What each of several lower platforms says of a device, by device and platform (H.2.1)."""
        return await self._db.read(self._store.words, device_ids)

    async def take_away(self, teller: str, device_ids: Sequence[str], proof: str) -> int:
        """A lower platform has these no longer. What another still tells of is that one's from now on.

        Returns how many are missing now.
        """
        return await self._db.write(self._take_away, teller, device_ids, proof, self._clock.at())

    async def mark_missing(self, owner: str, device_ids: Sequence[str], origin: str, proof: str) -> int:
        """Mark devices that a proven complete snapshot of their owner lacks; ``proof`` goes into the audit.

        Only for a caller that holds that proof: a full snapshot ended by ``complete`` with equal count and
        digest.
        """
        return await self._db.write(self._mark_missing, owner, device_ids, origin, proof, self._clock.at())

    def _merge(
        self,
        conn: Connection,
        peer_id: str,
        owner: str,
        source: Source,
        items: Sequence[CatalogItem],
        at: datetime,
    ) -> tuple[UpsertResult, list[str]]:
        self._store.lock(conn)
        known = self._store.get_many(conn, [item.device_id for item in items])
        words = self._store.words(conn, list(known)) if source is Source.CASCADE else {}
        told: dict[str, dict[str, Word]] = {}
        archives: list[DeviceArchive] = []
        confirmed: list[DeviceArchive] = []
        same: list[str] = []
        online: dict[str, bool] = {}
        for item in items:
            held = known.get(item.device_id)
            is_again = held is not None and _is_told_again(held, item, owner, source)
            taken = None if is_again else merge(held, item, owner, source, at)
            if is_again:
                same.append(item.device_id)
            if taken is not None:
                is_said = held is not None and held.missing_since is None and digest(held) == digest(taken)
                (confirmed if is_said else archives).append(taken)
            is_nearest = (
                held is None or taken is not None or held.owner == owner or held.source is Source.REST
            )
            if item.status is not None and is_nearest:
                online[item.device_id] = item.status is DeviceStatus.ON
            is_other = held is not None and held.owner != owner and taken is None
            if held is not None and source is Source.CASCADE and (is_other or item.device_id in words):
                said = _said(words.get(item.device_id, {}), held, item, owner)
                told[item.device_id] = said
                if item.status is not None and held.source is Source.CASCADE:
                    online[item.device_id] = any(word.is_online for word in said.values())
        stored = self._store.upsert_many(conn, archives, peer_id, at, Act(method=source))
        self._store.restamp(conn, confirmed)
        self._store.put_words(conn, {key: said for key, said in told.items() if said != words.get(key)}, at)
        same += [archive.device_id for archive in confirmed]
        stored = dataclasses.replace(stored, unchanged=(*stored.unchanged, *same))
        turned = self._store.set_statuses(conn, online, peer_id, at, "catalogue", peer_id)
        return stored, turned

    def _note_status(
        self, conn: Connection, online: dict[str, bool], source: str, reason: str, at: datetime
    ) -> list[str]:
        """Of a device that several tell of, one that says it works is enough (H.2.1)."""
        told: dict[str, dict[str, Word]] = {}
        for key, by_teller in self._store.words(conn, list(online)).items():
            if source in by_teller:
                told[key] = {**by_teller, source: Word(by_teller[source].parent_ids, online[key])}
        self._store.put_words(conn, told, at)
        any_on = {key: any(word.is_online for word in said.values()) for key, said in told.items()}
        return self._store.set_statuses(conn, {**online, **any_on}, source, at, reason, self._self_id)

    def _take_away(
        self, conn: Connection, teller: str, device_ids: Sequence[str], proof: str, at: datetime
    ) -> int:
        self._store.lock(conn)
        words = self._store.words(conn, device_ids)
        self._store.forget_words(conn, teller, device_ids)
        held = self._store.get_many(conn, list(words))
        heirs: dict[str, tuple[str, Word]] = {}
        online: dict[str, bool] = {}
        for key, by_teller in words.items():
            others = {name: word for name, word in by_teller.items() if name not in (teller, self._self_id)}
            archive = held.get(key)
            if archive is None or not others:
                continue
            if archive.source is Source.CASCADE:
                online[key] = any(word.is_online for word in others.values())
            if archive.owner == teller:
                heirs[key] = next(iter(others.items()))
        self._hand_over(conn, teller, heirs, at)
        self._store.set_statuses(conn, online, teller, at, "catalogue", teller)
        gone = [key for key in device_ids if key not in heirs]
        return self._mark_missing(conn, teller, gone, teller, proof, at)

    def _hand_over(
        self, conn: Connection, teller: str, heirs: Mapping[str, tuple[str, Word]], at: datetime
    ) -> None:
        """As if the heirs told of them right after the owner took them away."""
        self._store.mark_missing(conn, teller, list(heirs), at, teller)
        for key, archive in self._store.get_many(conn, list(heirs)).items():
            heir, word = heirs[key]
            item = replace(archive.item, parent_ids=word.parent_ids)
            taken = merge(archive, item, heir, Source.CASCADE, at)
            if taken is not None:
                self._store.upsert_many(conn, [taken], heir, at, Act(method=Source.CASCADE))

    def _mark_missing(
        self,
        conn: Connection,
        owner: str,
        device_ids: Sequence[str],
        origin: str,
        proof: str,
        at: datetime,
    ) -> int:
        marked = self._store.mark_missing(conn, owner, device_ids, at, origin)
        if marked:
            audit.append(
                conn,
                audit.AuditEntry(
                    at,
                    AuditTag.ARCHIVE_MISSING,
                    Outcome.DONE,
                    subject_kind="platform",
                    subject_id=origin,
                    object_kind="platform",
                    object_id=owner,
                    details={"count": marked, "proof": proof},
                ),
            )
        return marked


def merge(
    held: DeviceArchive | None, item: CatalogItem, owner: str, source: Source, at: datetime
) -> DeviceArchive | None:
    """What to keep when a catalogue item arrives, by the table above; None when only its status counts."""
    if held is None:
        return DeviceArchive(item=item, owner=owner, source=source)
    is_gone = held.missing_since is not None
    if held.owner != owner and not is_gone and (held.source, source) != (Source.CASCADE, Source.SIGNALLING):
        return None
    base = _returned(held, owner, source) if is_gone else held
    values = {name: getattr(item, name) for name in ITEM_FIELDS}
    told = Origin(owner, held.revision, _moment(base, owner, source, at), source)
    taken = merged(base, Contribution(told, values))
    if taken is base and not is_gone:
        return None
    if is_gone or held.owner != owner or changed(held, taken):
        told = Origin(owner, held.revision + 1, told.at_ms, source)
        taken = replace(merged(base, Contribution(told, values)), owner=owner)
        taken = numbered(taken, held.revision + 1, at)
    return taken


def _said(words: Mapping[str, Word], held: DeviceArchive, item: CatalogItem, teller: str) -> dict[str, Word]:
    """What each says of a device when one more, or one of them again, has told of it."""
    before = words or {held.owner: Word(held.item.parent_ids, held.online)}
    known = before.get(teller)
    is_online = known.is_online if known is not None else None
    if item.status is not None:
        is_online = item.status is DeviceStatus.ON
    said = {**before, teller: Word(item.parent_ids, is_online)}
    return dict(sorted(said.items()))


def _is_told_again(held: DeviceArchive, item: CatalogItem, owner: str, source: Source) -> bool:
    """Whether the same teller tells just what it told before: then its word keeps the time of the first.

    A catalogue is told now and is never older than the one before it, so nothing can come between the two.
    """
    return (
        held.owner == owner
        and held.source is source
        and held.missing_since is None
        and not held.origins
        and replace(held.item, status=item.status) == item
    )


def _returned(held: DeviceArchive, owner: str, source: Source) -> DeviceArchive:
    """What is left to build on when a device that was missing is told again by a catalogue.

    Its owner's record no longer has it, so that record's words on the item weigh nothing; Table A.1 and what
    a person wrote in the same owner's name stay.
    """
    kept = {
        name: origin
        for name, origin in origins_of(held).items()
        if origin is not None
        and (name not in ITEM_FIELDS or (held.owner == owner and origin.method in PERSONS))
    }
    return replace(held, owner=owner, source=source, origins={WHOLE: Origin(owner, 0, 0, source), **kept})


def _moment(held: DeviceArchive, owner: str, source: Source, at: datetime) -> int:
    """When a catalogue was told: now, but later than what the same source told before.

    Our clock may have been set back; a device must not wait until it has caught up.
    """
    told = [
        origin.at_ms
        for origin in (whole_of(held), *held.origins.values())
        if (origin.platform, origin.method) == (owner, source) and origin.method in CATALOGUES
    ]
    return max([to_ms(at), *(at_ms + 1 for at_ms in told)])


def _sort_out(items: Iterable[CatalogItem]) -> tuple[list[CatalogItem], tuple[tuple[str, str], ...]]:
    """Items that the database can keep, the last of each id; and those it cannot, with the reason."""
    kept: dict[str, CatalogItem] = {}
    rejected: list[tuple[str, str]] = []
    for item in items:
        reason = _fault(item)
        if reason:
            rejected.append((item.device_id[:64], reason))
        else:
            kept[item.device_id] = item
    return list(kept.values()), tuple(rejected)


def _fault(item: CatalogItem) -> str:
    if not item.device_id:
        return "DeviceID is empty"
    for name, value in msgspec.structs.asdict(item).items():
        if isinstance(value, float) and not isfinite(value):
            return f"{name} is no number"
        if isinstance(value, int) and abs(value) > _WIDEST_INT:
            return f"{name} is too large"
        text = "".join(value) if isinstance(value, tuple) else value
        if isinstance(text, str) and ("\0" in text or (not text.isprintable() and _has_surrogate(text))):
            return f"{name} holds characters that are no text"
        if isinstance(value, tuple) and any(not part or "/" in part for part in value):
            return f"{name} holds an empty entry"
    return ""


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
