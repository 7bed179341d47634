"""The device archive: a catalogue item, the extended attributes, and where they came from.

Implements: GB/T 28181-2022 A.2.1.9
Implements: DB31DSJ/Z 001-2024 Table A.1
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import astuple

from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem
from tongshi.storage.times import to_ms


class Source(StrEnum):
    """How a value reached us, weakest first; a weaker source does not overwrite a stronger one.

    ``cascade`` is a lower platform's catalogue by signalling, ``signalling`` a device that registered with
    us. ``file`` and ``manual`` are a person's word and equally strong.
    """

    CASCADE = "cascade"
    SIGNALLING = "signalling"
    REST = "rest"
    FILE = "file"
    MANUAL = "manual"


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who told a value, in which version of the archive, when (milliseconds since 1970 UTC), and how."""

    platform: str
    revision: int
    at_ms: int
    method: Source


class Act(msgspec.Struct, frozen=True):
    """On whose behalf archives are written: what the history says of it.

    Attributes:
        actor: who did it, ``user:3``; empty when a platform did.
        method: how the values came; None when the archives say that themselves.
        kind: ``edit`` or ``undo`` by a person; empty for what the merge makes of it.
    """

    actor: str = ""
    method: Source | None = None
    kind: str = ""


# A platform's own doing.
NOBODY = Act()
# Stands for every field that ``DeviceArchive.origins`` does not name.
WHOLE = "*"


class ExtendedAttributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The nine attributes of Table A.1. A flag that was never told is None, which is not "no"."""

    is_controllable: bool | None = None
    keyboard_number: str = ""
    storage_device_ip: str = ""
    storage_channel: str = ""
    scene_photo_url: str = ""
    has_positioning_module: bool | None = None
    is_networked: bool | None = None
    police_jurisdiction: str = ""
    industries: tuple[str, ...] = ()


class DeviceArchive(msgspec.Struct, frozen=True, kw_only=True):
    """One device as its owner describes it, with our local knowledge of it.

    Attributes:
        item: the catalogue item; its ``status`` is no part of the archive and is not kept (see ``online``).
        ext: the extended attributes.
        owner: id of the platform whose record this is; only that platform changes it.
        revision: the owner's count of changes; 0 lets the store count.
        updated_at: when the owner's record last changed; None lets the store say.
        source: how it reached us as a whole.
        origins: where fields came from that did not come with the whole, by name; ``WHOLE`` names where the
            whole came from when that is not what ``owner``, ``revision``, ``updated_at`` and ``source`` say.
            Local knowledge: never exchanged, never digested. ``provenance`` reads it.
        missing_since: since when a complete catalogue of its owner has lacked it; None while it is there.
        online: last known status; None when nobody has told.
    """

    item: CatalogItem
    owner: str
    ext: ExtendedAttributes = ExtendedAttributes()
    revision: int = 0
    updated_at: datetime | None = None
    source: Source = Source.SIGNALLING
    origins: dict[str, Origin] = {}
    missing_since: datetime | None = None
    online: bool | None = None

    @property
    def device_id(self) -> str:
        return self.item.device_id

    @property
    def shard(self) -> str:
        """Leaf of the digest tree: the first six digits of the civil code, or what there is of it."""
        return self.item.civil_code[:6]


@dataclass(frozen=True, slots=True)
class Word:
    """What one of several platforms says of a device; ``is_online`` None is untold."""

    parent_ids: tuple[str, ...]
    is_online: bool | None


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a device is and since when, without the rest of its archive."""

    device_id: str
    owner: str
    civil_code: str
    parent_ids: tuple[str, ...]
    revision: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed by; an empty filter narrows nothing."""

    keyword: str = ""
    civil_code: str = ""
    online: bool | None = None
    owner: str = ""
    include_missing: bool = False


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What an upsert did, by device id.

    ``stale`` had a revision older than ours; ``foreign`` belong to another platform and were left alone.
    """

    inserted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shard:
    """One leaf of an owner's digest tree."""

    civil_code: str
    count: int
    digest: bytes


class FlatArchive(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An archive as it is stored and digested, for work on many at a time.

    Attributes:
        line: ``values`` as JSON without the brackets, just as they are digested. One value instead of
            fifty, for most ways from a wire to a table look at none of them.
        updated_at_ms: milliseconds since 1970-01-01 UTC, or None to let the store say.
        digest: SM3 of the canonical bytes, 32 bytes.
        origins: of an archive as JSON; None for one that came as a whole.
    """

    device_id: str
    line: bytes
    owner: str
    revision: int
    updated_at_ms: int | None
    source: Source
    shard: str
    digest: bytes
    online: bool | None = None
    origins: str | None = None

    @property
    def values(self) -> tuple[Any, ...]:
        """The item without Status, then the extended attributes, in order; lists joined by "/"."""
        return _values(b"[%b]" % self.line)


def flatten(archive: DeviceArchive) -> FlatArchive:
    """The stored form of an archive."""
    line, row_digest = digested(archive.owner, (*flat_item(archive.item), *flat_ext(archive.ext)))
    return FlatArchive(
        device_id=archive.device_id,
        line=line,
        owner=archive.owner,
        revision=archive.revision,
        updated_at_ms=None if archive.updated_at is None else to_ms(archive.updated_at),
        source=archive.source,
        shard=archive.shard,
        digest=row_digest,
        online=archive.online,
        origins=encode_origins(archive.origins),
    )


def encode_origins(origins: dict[str, Origin]) -> str | None:
    """Origins as they are stored: JSON, or None when the whole row has one."""
    return _encode(origins).decode() if origins else None


def decode_origins(stored: str | None) -> dict[str, Origin]:
    """Origins from their stored form."""
    return {} if stored is None else _origins.decode(stored)


def flat_item(item: CatalogItem) -> list[Any]:
    """The item's values as they are stored, in order, without Status: lists joined by "/", floats as floats.

    Status is left out because it is the state of the moment and not the owner's archive.
    """
    values = list(astuple(item))
    for index in _LISTS:
        values[index] = "/".join(values[index])
    for index in _FLOATS:
        if values[index] is not None:
            # Zero has two signs and a whole number may come as an int; a database returns one form.
            values[index] = float(values[index]) + 0.0
    del values[_STATUS]
    return values


def flat_ext(ext: ExtendedAttributes) -> list[Any]:
    """The values of Table A.1 as they are stored, in order."""
    values = list(astuple(ext))
    values[-1] = "/".join(values[-1])
    return values


def canonical(archive: DeviceArchive) -> bytes:
    """The bytes that two platforms compare: owner, item without status, extended attributes; nothing local.

    A JSON array in the order of A.2.1.9 and Table A.1, UTF-8, floats in shortest form, lists as text joined
    by "/", so that equal archives give equal bytes on every platform, whatever the source and revision.
    """
    return _encode((archive.owner, flat_item(archive.item), flat_ext(archive.ext)))


def digest(archive: DeviceArchive) -> bytes:
    """SM3 of ``canonical``, 32 bytes."""
    return hashlib.new("sm3", canonical(archive)).digest()


def digested(owner: str, values: tuple[Any, ...]) -> tuple[bytes, bytes]:
    """``FlatArchive.line`` and ``digest`` from the stored values."""
    item, ext = _encode(values[:_ITEM_END])[1:-1], _encode(values[_ITEM_END:])[1:-1]
    row = _SM3.copy()
    row.update(b"[%b,[%b],[%b]]" % (_encode(owner), item, ext))
    return b"%b,%b" % (item, ext), row.digest()


# Looking the algorithm up costs as much as digesting a row.
_SM3 = hashlib.new("sm3")
_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder(tuple[Any, ...]).decode
_origins = msgspec.json.Decoder(dict[str, Origin])
_STATUS = next(i for i, f in enumerate(ITEM_FIELDS) if f.attribute == "status")
_ITEM_END = len(ITEM_FIELDS) - 1
_LISTS = tuple(i for i, f in enumerate(ITEM_FIELDS) if f.kind == "list")
_FLOATS = tuple(i for i, f in enumerate(ITEM_FIELDS) if f.kind == "float")
assert tuple(f.attribute for f in ITEM_FIELDS) == CatalogItem.__struct_fields__, "one table drives both"
