"""Where each field of an archive came from, and what becomes of it when somebody tells it again.

Implements: DB31DSJ/Z 001-2024 6.2.2

The rule. Everybody who tells something makes a *contribution*: values by field, with one origin. Of two
contributions to a field the heavier stays, and with it its origin. The weight is, in this order: the strength
of the method (a lower platform's catalogue, a device of ours, the owner's record over REST, a person's word
by file or by hand), the version, the time, and a fixed tie-break. Taking the heavier of two is commutative,
associative and idempotent, so contributions may come late, twice and in any order. A catalogue counts no
versions: its version weighs nothing. A person's word carries the version that it makes, so that it outweighs
what it was made over even if the clock was set back.

What is no word: a catalogue does not carry Table A.1; and the fields that a person left empty in a new record
may be filled by anybody. Emptying a field that held something is a word.

Whose record it is, is not decided here but in ``service`` and ``store``: only the owner contributes, hearsay
gives way to the owner's own record, and otherwise who came first stays.

How it is kept: a row that was told as a whole keeps nothing but its own owner, revision, time and source.
What differs stands in ``DeviceArchive.origins``, under ``WHOLE`` the origin of the fields not named there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tongshi.protocols.gb28181.types import ITEM_FIELDS as CODEC_FIELDS
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.model import (
    WHOLE,
    DeviceArchive,
    ExtendedAttributes,
    Origin,
    Source,
)
from tongshi.storage.times import to_ms

ITEM_FIELDS: Final = tuple(
    name for name in CatalogItem.__struct_fields__ if name not in ("device_id", "status")
)
EXT_FIELDS: Final = tuple(ExtendedAttributes.__struct_fields__)
FIELDS: Final = ITEM_FIELDS + EXT_FIELDS

_STRENGTH: Final = {
    Source.CASCADE: 0,
    Source.SIGNALLING: 1,
    Source.REST: 2,
    Source.FILE: 3,
    Source.MANUAL: 3,
}
CATALOGUES: Final = frozenset({Source.CASCADE, Source.SIGNALLING})
PERSONS: Final = frozenset({Source.FILE, Source.MANUAL})
_ITEM = frozenset(ITEM_FIELDS)
_EXT = frozenset(EXT_FIELDS)
_LISTS = frozenset({f.attribute for f in CODEC_FIELDS if f.kind == "list"} | {"industries"})
# What a field holds that nobody told.
_UNTOLD = {
    **{name: getattr(CatalogItem(device_id=""), name) for name in ITEM_FIELDS},
    **{name: getattr(ExtendedAttributes(), name) for name in EXT_FIELDS},
}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Contribution:
    """What somebody tells of one device: values by the model's names of fields."""

    origin: Origin
    values: Mapping[str, Any]


def outweighs(told: Origin, value: object, held: Origin | None, held_value: object) -> bool:
    """Whether a value that is told replaces one that is held."""
    if held is None:
        return True
    new, old = _weight(told), _weight(held)
    return new > old or (new == old and _encode(value) > _encode(held_value))


def values_of(archive: DeviceArchive) -> dict[str, Any]:
    """Every field of an archive but its code and its status."""
    values = {name: getattr(archive.item, name) for name in ITEM_FIELDS}
    values.update((name, getattr(archive.ext, name)) for name in EXT_FIELDS)
    return values


def whole_of(archive: DeviceArchive) -> Origin:
    """Where the fields came from that have no origin of their own."""
    return archive.origins.get(WHOLE) or _own(archive)


def origins_of(archive: DeviceArchive) -> dict[str, Origin | None]:
    """Where each field came from; None for one that nobody told."""
    whole = whole_of(archive)
    return {
        name: archive.origins.get(name) or implied(whole, name, value)
        for name, value in values_of(archive).items()
    }


def merged(archive: DeviceArchive, told: Contribution) -> DeviceArchive:
    """The archive with what is heavier in a contribution; the same archive when nothing is.

    ``revision`` and ``updated_at`` stay: counting is the store's.
    """
    values, origins = values_of(archive), origins_of(archive)
    taken = {
        name: value
        for name, value in told.values.items()
        if outweighs(told.origin, value, origins[name], values[name])
    }
    whole = _whole(whole_of(archive), told)
    if not taken and whole == whole_of(archive):
        return archive
    values.update(taken)
    origins.update(dict.fromkeys(taken, told.origin))
    return assembled(archive, values, origins, whole)


def _whole(held: Origin, told: Contribution) -> Origin:
    """Where the record as a whole comes from: the newest catalogue, or without one a person's first word.

    Chosen by weight alone, so that here too the order of arrival does not matter.
    """
    new = told.origin
    if new.method in CATALOGUES and told.values.keys() >= _ITEM:
        is_better = held.method in PERSONS or (held.method in CATALOGUES and _weight(new) > _weight(held))
        return new if is_better else held
    is_earlier = new.method in PERSONS and held.method in PERSONS and _weight(new) < _weight(held)
    return new if is_earlier else held


def assembled(
    archive: DeviceArchive,
    values: Mapping[str, Any],
    origins: Mapping[str, Origin | None],
    whole: Origin,
) -> DeviceArchive:
    """The archive with these values and origins in place of its own."""
    kept = {
        name: origin
        for name, origin in origins.items()
        if origin is not None and origin != implied(whole, name, values[name])
    }
    return settled(
        replace(
            archive,
            item=replace(archive.item, **{name: values[name] for name in ITEM_FIELDS}),
            ext=ExtendedAttributes(**{name: values[name] for name in EXT_FIELDS}),
            source=whole.method,
            origins={WHOLE: whole, **kept},
        )
    )


def settled(archive: DeviceArchive) -> DeviceArchive:
    """The same archive, ``WHOLE`` named only where it is not the row's own origin."""
    if archive.origins.get(WHOLE) != _own(archive):
        return archive
    return replace(archive, origins={k: v for k, v in archive.origins.items() if k != WHOLE})


def numbered(archive: DeviceArchive, revision: int, at: datetime) -> DeviceArchive:
    """The archive as a version of its own, every field with the origin that it has."""
    origins = {**archive.origins, WHOLE: whole_of(archive)}
    return settled(replace(archive, revision=revision, updated_at=at, origins=origins))


def changed(before: DeviceArchive, after: DeviceArchive) -> list[str]:
    """Names of the fields whose values differ, in order."""
    old, new = values_of(before), values_of(after)
    return [name for name in FIELDS if old[name] != new[name]]


def person_told(held: DeviceArchive, wanted: DeviceArchive, method: Source, at_ms: int) -> Contribution:
    """What a person says who saw ``held`` and wants ``wanted``: the fields that differ, as a next version."""
    values = values_of(wanted)
    origin = Origin(held.owner, held.revision + 1, at_ms, method)
    return Contribution(origin, {name: values[name] for name in changed(held, wanted)})


def by_person(
    held: DeviceArchive | None, wanted: DeviceArchive, method: Source, at: datetime
) -> DeviceArchive:
    """What to store when a person wants ``wanted`` in place of ``held``: the store counts the version.

    Fields that the person did not change keep their origin, so that whoever told them may go on telling.
    """
    if held is None:
        return replace(wanted, source=method, revision=0, updated_at=None, origins={})
    return renewed(merged(held, person_told(held, wanted, method, to_ms(at))))


def renewed(archive: DeviceArchive) -> DeviceArchive:
    """The archive to be stored as a new version that the store counts, every field with its origin."""
    origins = {**archive.origins, WHOLE: whole_of(archive)}
    return replace(archive, revision=0, updated_at=None, missing_since=None, origins=origins)


def stored(value: Any) -> Any:
    """A value as it is kept in the history: lists joined by "/", as both standards write them."""
    return "/".join(value) if isinstance(value, tuple) else value


def restored(name: str, value: Any) -> Any:
    """The value of a field from what the history keeps."""
    if name not in _LISTS:
        return value
    return tuple(value.split("/")) if value else ()


def implied(whole: Origin, name: str, value: object) -> Origin | None:
    """The origin of a field that names none, from that of the whole; None when nobody told it."""
    may_be_silent = whole.method in PERSONS or (whole.method in CATALOGUES and name in _EXT)
    if may_be_silent and (value == _UNTOLD[name] or value in ("", None)):
        return None
    return whole


@lru_cache(maxsize=1024)
def _weight(origin: Origin) -> tuple[object, ...]:
    version = 0 if origin.method in CATALOGUES else origin.revision
    return (_STRENGTH[origin.method], version, origin.at_ms, origin.method.value, origin.platform)


def _own(archive: DeviceArchive) -> Origin:
    at_ms = 0 if archive.updated_at is None else to_ms(archive.updated_at)
    return Origin(archive.owner, archive.revision, at_ms, archive.source)
