"""One device in full, as the caller wants it: chosen fields, coordinate system, rights, history; and edits.

Implements: DB31DSJ/Z 001-2024 E.1-2
Implements: DB31DSJ/Z 001-2024 E.1-5

The history keeps positions as they are stored, in WGS 84, and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import fields, replace

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import ITEM_FIELDS
from tongshi.resources.devices import wire
from tongshi.resources.devices.coordinates import GeoCoordSys, from_wgs84, to_wgs84
from tongshi.resources.devices.history_store import OWNER, Difference, Entry
from tongshi.resources.devices.model import WHOLE, DeviceArchive
from tongshi.resources.devices.permitted import Perm
from tongshi.resources.devices.provenance import EXT_FIELDS, origins_of, whole_of
from tongshi.resources.devices.rules.model import Issue
from tongshi.web.operations import Answer, Request

Scalar = str | int | float | bool | None


class FieldChange(Answer, frozen=True, omit_defaults=True):
    """One field before and after, and where the former value came from."""

    field: str
    before: Scalar
    after: Scalar
    provenance: wire.Provenance | None = None


class HistoryEntry(Answer, frozen=True):
    """One change of a record; positions are WGS 84.

    ``kind``: update, missing, return (it was missing), edit, undo. ``sourcePlatform`` wrote it, ``actor`` is
    the person or key behind it.
    """

    number: int
    version: int
    version_before: int
    time: datetime
    kind: str
    method: str
    source_platform: str
    actor: str
    changes: list[FieldChange]
    geo_coord_sys: str = GeoCoordSys.WGS84.value


# ``DeviceFull`` with what was asked for beside it; every told field is named in its provenance.
DeviceDetail = msgspec.defstruct(
    "DeviceDetail",
    [
        ("tag_codes", tuple[str, ...], msgspec.field(name="tagCodes", default=())),
        ("perm", Perm | UnsetType, UNSET),
        ("history", list[HistoryEntry] | UnsetType, UNSET),
    ],
    bases=(wire.DeviceFull,),
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    module=__name__,
)

_INNER = {f.wire for f in ITEM_FIELDS if f.in_info}
_EXT = frozenset(wire.ExtFields.__struct_fields__)
_TOP = frozenset({"tagCodes", *(f.encode_name for f in fields(wire.DeviceFull))})
_ALWAYS = ("DeviceID", "geoCoordSys")


class Choice:
    """Which fields are shown. Names are those of ``DeviceFull``; within it ``Info.PTZType`` or ``PTZType``.

    Raises:
        InvalidRequest: names what it does not know.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._top: set[str] = set()
        self._within: dict[str, set[str]] = {"Info": set(), "ext": set()}
        for name in names:
            part, dot, inner = name.partition(".")
            if not dot and name in _TOP:
                self._top.add(name)
            elif (name in _INNER) or (part == "Info" and inner in _INNER):
                self._within["Info"].add(inner or name)
            elif (name in _EXT) or (part == "ext" and inner in _EXT):
                self._within["ext"].add(inner or name)
            else:
                raise InvalidRequest(
                    f"不认识的字段 {name[:64]}", field="fields", details={"unknown": name[:64]}
                )
        self._is_all = not names

    def of(self, whole: dict[str, Any]) -> dict[str, Any]:
        """What was chosen of a device; its code and coordinate system always."""
        if self._is_all:
            return whole
        chosen = {key: whole[key] for key in whole if key in self._top or key in _ALWAYS}
        for part, names in self._within.items():
            if names and part not in chosen:
                chosen[part] = {key: value for key, value in whole.get(part, {}).items() if key in names}
        return chosen


EVERY_FIELD = Choice(())


def detail(
    archive: DeviceArchive,
    issues: tuple[Issue, ...],
    system: GeoCoordSys,
    choice: Choice,
    perm: Perm | None = None,
    history: Sequence[Entry] | None = None,
    tag_codes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The ``DeviceDetail`` of an archive, as JSON values."""
    full = wire.to_full(archive, issues)
    item = archive.item
    position: dict[str, object] = {"geo_coord_sys": system.value}
    if item.longitude is not None and item.latitude is not None:
        longitude, latitude = from_wgs84((item.longitude, item.latitude), system)
        position |= {"longitude": longitude, "latitude": latitude}
    full = replace(full, provenance=_provenance(archive), **position)
    whole: dict[str, Any] = msgspec.to_builtins(full)
    shown = choice.of({**whole, "tagCodes": list(tag_codes)})
    if perm is not None:
        shown["perm"] = msgspec.to_builtins(perm)
    if history is not None:
        shown["history"] = [msgspec.to_builtins(shown_entry(entry)) for entry in history]
    return shown


def etag(version: int, shown: dict[str, Any]) -> str:
    """The version with a digest of all that is shown: status, issues and rights change without a version."""
    data = msgspec.json.encode(shown, order="deterministic")
    return f'"{version}-{hashlib.new("sm3", data).hexdigest()[:16]}"'


def is_held(if_none_match: str, tag: str) -> bool:
    """Whether a caller says that it has this very answer (RFC 9110 13.1.2; weak comparison)."""
    held = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in held or tag in held


def shown_entry(entry: Entry) -> HistoryEntry:
    """A history row on the wire."""
    return HistoryEntry(
        entry.number,
        entry.revision,
        entry.revision_before,
        entry.at,
        entry.kind,
        entry.method,
        entry.platform,
        entry.actor,
        [shown_change(change) for change in entry.changes],
    )


def shown_change(change: Difference) -> FieldChange:
    """A difference on the wire."""
    if change.field == OWNER:
        return FieldChange("sourcePlatform", change.before, change.after)
    before, after = (wire.shown_value(change.field, value) for value in (change.before, change.after))
    origin = None if change.origin is None else wire.shown_origin(change.origin)
    return FieldChange(wire.PATHS[change.field], before, after, origin)


def _provenance(archive: DeviceArchive) -> dict[str, wire.Provenance]:
    """Of the record as a whole, and of each field that somebody told and that says something."""
    found = {WHOLE: wire.shown_origin(whole_of(archive))}
    for name, origin in origins_of(archive).items():
        holder = archive.ext if name in EXT_FIELDS else archive.item
        if origin is not None and (name in archive.origins or getattr(holder, name) not in ("", None, ())):
            found[wire.PATHS[name]] = wire.shown_origin(origin)
    return found


def _asked(name: str, kind: type[msgspec.Struct], skip: tuple[str, ...], *, is_nullable: bool = False) -> Any:
    """A structure of the same fields, each of which may be left out."""
    found = [field for field in fields(kind) if field.name not in skip]
    nullable = type(None) if is_nullable else UnsetType
    return msgspec.defstruct(
        name,
        [(field.name, field.type | nullable | UnsetType, UNSET) for field in found],
        rename={field.name: field.encode_name for field in found},
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        module=__name__,
    )


_OURS = tuple(f.name for f in fields(wire.DeviceFull) if f.encode_name not in wire.PATHS.values())
InfoAsked = _asked("InfoAsked", wire.DeviceInfoFields, ())
ExtAsked = _asked("ExtAsked", wire.ExtFields, (), is_nullable=True)
_ItemAsked = _asked("ItemAsked", wire.DeviceFull, ("device_id", "status", *_OURS))

# The fields of ``DeviceFull`` that an edit may tell. What is left out stays; "" or null empties.
EditAsked = msgspec.defstruct(
    "EditAsked",
    [
        *((f.name, f.type, msgspec.field(name=f.encode_name, default=UNSET)) for f in fields(_ItemAsked)),
        ("info", InfoAsked | UnsetType, msgspec.field(name="Info", default=UNSET)),
        ("ext", ExtAsked | UnsetType, UNSET),
        ("geo_coord_sys", GeoCoordSys, msgspec.field(name="geoCoordSys", default=GeoCoordSys.WGS84)),
        ("if_version", wire.Version | None, msgspec.field(name="ifVersion", default=None)),
        ("dry_run", bool, msgspec.field(name="dryRun", default=False)),
    ],
    bases=(Request,),
    kw_only=True,
    frozen=True,
    module=__name__,
)


def wanted(asked: Any, held: DeviceArchive) -> DeviceArchive:
    """What a record becomes by an edit.

    Raises:
        InvalidRequest: control characters; half a position in another coordinate system than WGS 84.
    """
    outer = {f.name: v for f in fields(_ItemAsked) if (v := getattr(asked, f.name)) is not UNSET}
    inner, ext = _told(asked.info), _told(asked.ext)
    _place(outer, asked.geo_coord_sys)
    read = wire.from_full(
        wire.DeviceFull(
            device_id=held.device_id,
            **outer,
            info=wire.DeviceInfoFields(**inner),
            ext=wire.ExtFields(**{name: value for name, value in ext.items() if value is not None}),
        )
    )
    names = dict(zip(wire.ExtFields.__struct_fields__, EXT_FIELDS, strict=True))
    return replace(
        held,
        item=replace(held.item, **{name: getattr(read.item, name) for name in (*outer, *inner)}),
        ext=replace(held.ext, **{names[name]: getattr(read.ext, names[name]) for name in ext}),
    )


def _told(part: Any) -> dict[str, Any]:
    if part is UNSET:
        return {}
    return {f.name: v for f in fields(type(part)) if (v := getattr(part, f.name)) is not UNSET}


def _place(outer: dict[str, Any], system: GeoCoordSys) -> None:
    """Turn a position that is told in another system into WGS 84."""
    if system in (GeoCoordSys.WGS84, GeoCoordSys.CGCS2000):
        return
    told = [name for name in ("longitude", "latitude") if outer.get(name) is not None]
    if len(told) == 1:
        raise InvalidRequest(f"以 {system.value} 填写时经度和纬度须同时给出", field=told[0].capitalize())
    if told:
        outer["longitude"], outer["latitude"] = to_wgs84((outer["longitude"], outer["latitude"]), system)
