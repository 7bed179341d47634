"""Device archives as JSON. Here, and in the ledger bridge, the nine identifiers of Table A.1 are spelled.

Implements: DB31DSJ/Z 001-2024 Table A.1
Implements: DB31DSJ/Z 001-2024 Table E.1

The element names of GB/T 28181 come from the codec's own table. Lists stay text joined by "/", as both
standards write them. ``Password`` has no field: what arrives is dropped.

Quirks: Z001-1, ``LWSX`` 0 means networked while 1 means yes elsewhere; Z001-2, ``SXJCJYSZP`` is a URL with
type string(20), accepted up to 512 characters; Z001-3, ``JPBH`` is optional by its column and mandatory by
its remark for types 131 and 132, so that its absence is an issue and no error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus, ItemField
from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.model import WHOLE, DeviceArchive, ExtendedAttributes, Origin, Source
from tongshi.resources.devices.provenance import whole_of
from tongshi.resources.devices.rules.model import Issue
from tongshi.shape_words import in_words
from tongshi.storage.times import from_ms

_Text = Annotated[str, Meta(max_length=1024)]
_Int = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_RANGES: dict[str, Any] = {
    # "$(?!\n)" because "$" alone lets a final line feed through.
    "device_id": Annotated[str, Meta(pattern=r"^[!-~]{1,64}$(?!\n)", description="设备编码")],
    "longitude": Annotated[float, Meta(ge=-180, le=180)] | None,
    "latitude": Annotated[float, Meta(ge=-90, le=90)] | None,
    "port": Annotated[int, Meta(ge=0, le=65535)] | None,
    "status": DeviceStatus | None,
    "install_time": Annotated[str, Meta(max_length=64)] | None,
    "register_way": _Int,
    "secrecy": _Int,
}
_KINDS: dict[str, Any] = {"text": _Text, "list": _Text, "int": _Int | None, "float": float | None}
_DEFAULTS = {f.attribute: getattr(CatalogItem(device_id=""), f.attribute) for f in ITEM_FIELDS}


def _defined(field: ItemField) -> Any:
    kind = _RANGES.get(field.attribute, _KINDS.get(field.kind))
    if field.attribute == "device_id":
        return (field.attribute, kind)
    default = "" if field.kind == "list" else _DEFAULTS[field.attribute]
    return (field.attribute, kind, default)


_OUTER = tuple(f for f in ITEM_FIELDS if not f.in_info)
_INNER = tuple(f for f in ITEM_FIELDS if f.in_info)

# Struct of element Info; attributes as in CatalogItem, names on the wire as in A.2.1.9.
DeviceInfoFields = msgspec.defstruct(
    "DeviceInfoFields",
    [_defined(f) for f in _INNER],
    rename={f.attribute: f.wire for f in _INNER},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    module=__name__,
)

_Flag = Literal["0", "1"]


class ExtFields(msgspec.Struct, frozen=True, omit_defaults=True):
    """Table A.1 as printed. An attribute that was never told is absent."""

    SFKK: _Flag | UnsetType = UNSET  # 是否可控
    JPBH: Annotated[str, Meta(pattern=r"^([0-9]{8,9})?$(?!\n)")] = ""  # 键盘编号
    DYCCSBIP: Annotated[str, Meta(max_length=30)] = ""  # 对应存储设备 IP
    DYCCSBTD: Annotated[str, Meta(max_length=20)] = ""  # 对应存储设备通道
    SXJCJYSZP: Annotated[str, Meta(max_length=512)] = ""  # 摄像机场景预设照片 URL, quirk Z001-2
    DWMK: _Flag | UnsetType = UNSET  # 定位模块
    LWSX: _Flag | UnsetType = UNSET  # 联网属性, quirk Z001-1
    SSXQGAJG: Annotated[str, Meta(pattern=r"^([0-9A-Z]{12})?$(?!\n)")] = ""  # 所属辖区公安机关, GA/T 380
    SSBMHY: Annotated[str, Meta(max_length=50)] = ""  # 所属部门/行业, joined by "/"


# Where each attribute stands on the wire: ``Name``, ``Info.PTZType``, ``ext.SFKK``, as issues name them.
PATHS: dict[str, str] = {
    **{f.attribute: f"Info.{f.wire}" if f.in_info else f.wire for f in ITEM_FIELDS},
    **{
        attribute: f"ext.{name}"
        for attribute, name in zip(
            ExtendedAttributes.__struct_fields__, ExtFields.__struct_fields__, strict=True
        )
    },
}
Version = Annotated[int, Meta(ge=0, le=2**53)]
GeoSystem = Literal["WGS84", "CGCS2000", "GCJ02", "BD09", ""]


class Provenance(msgspec.Struct, frozen=True):
    """Where a value came from: the platform, the version of its archive, when and how."""

    source: str
    version: int
    time: datetime | None
    method: Source


_LOCAL: list[Any] = [
    ("info", DeviceInfoFields, msgspec.field(name="Info", default_factory=DeviceInfoFields)),
    ("ext", ExtFields, ExtFields()),
    ("source_platform", str, msgspec.field(name="sourcePlatform", default="")),
    ("version", Version, 0),
    ("update_time", datetime | None, msgspec.field(name="updateTime", default=None)),
    ("geo_coord_sys", GeoSystem, msgspec.field(name="geoCoordSys", default="")),
    ("missing_since", datetime | None, msgspec.field(name="missingSince", default=None)),
    ("provenance", dict[str, Provenance], msgspec.field(default_factory=dict)),
    ("issues", tuple[Issue, ...], ()),
]
# Every field of the catalogue item, ``Info`` and ``ext`` within it, then what we add (annex E conventions).
DeviceFull = msgspec.defstruct(
    "DeviceFull",
    [*(_defined(f) for f in _OUTER), *_LOCAL],
    rename={f.attribute: f.wire for f in _OUTER},
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    module=__name__,
)


class DeviceTold(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an archive itself says of a device in a list."""

    DeviceID: str
    Name: str
    CivilCode: str
    sourcePlatform: str
    version: int
    Longitude: float | None = None
    Latitude: float | None = None
    PTZType: int | None = None
    pointClass: int | None = None
    SFKK: _Flag | UnsetType = UNSET
    LWSX: _Flag | UnsetType = UNSET
    SSBMHY: tuple[str, ...] = ()


class DeviceLite(DeviceTold, frozen=True, omit_defaults=True, kw_only=True):
    """A device in a list."""

    Status: Literal["ON", "OFF"] | None
    geoCoordSys: GeoCoordSys
    tagCodes: tuple[str, ...] = ()


def parse(value: Mapping[str, object]) -> DeviceArchive:
    """Read one device as a neighbour or a person wrote it, already decoded from JSON.

    Numbers may be text. Status becomes ``online``; an absent ``sourcePlatform`` leaves the owner empty.

    Raises:
        InvalidRequest: names the field as written (``Info.PTZType``) and the rule it breaks.
    """
    try:
        return from_full(msgspec.convert(value, DeviceFull, strict=False))
    except msgspec.ValidationError as error:
        raise _named(error) from None


def decode(data: bytes | msgspec.Raw) -> DeviceArchive:
    """Read one device from JSON bytes; errors as ``parse``."""
    try:
        return from_full(_decoder.decode(data))
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _named(error) from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"不是有效的 JSON：{error}") from None


def to_full(archive: DeviceArchive, issues: tuple[Issue, ...] = (), *, with_provenance: bool = True) -> Any:
    """The ``DeviceFull`` of an archive.

    In its provenance ``*`` stands for every field that is not named; what is exchanged has none.
    """
    item, ext = archive.item, archive.ext
    outer = {f.attribute: _written(item, f) for f in _OUTER}
    inner = {f.attribute: _written(item, f) for f in _INNER}
    if archive.online is not None:
        outer["status"] = DeviceStatus.ON if archive.online else DeviceStatus.OFF
    origins = {WHOLE: whole_of(archive), **archive.origins} if with_provenance else {}
    return DeviceFull(
        **outer,
        info=DeviceInfoFields(**inner),
        ext=ExtFields(
            SFKK=_flag(ext.is_controllable, "1", "0"),
            JPBH=ext.keyboard_number,
            DYCCSBIP=ext.storage_device_ip,
            DYCCSBTD=ext.storage_channel,
            SXJCJYSZP=ext.scene_photo_url,
            DWMK=_flag(ext.has_positioning_module, "1", "0"),
            LWSX=_flag(ext.is_networked, "0", "1"),
            SSXQGAJG=ext.police_jurisdiction,
            SSBMHY="/".join(ext.industries),
        ),
        source_platform=archive.owner,
        version=archive.revision,
        update_time=archive.updated_at,
        geo_coord_sys="WGS84",
        missing_since=archive.missing_since,
        provenance={PATHS.get(name, name): shown_origin(origin) for name, origin in origins.items()},
        issues=issues,
    )


def shown_origin(origin: Origin) -> Provenance:
    """An origin on the wire; a time that nobody told is null."""
    time = from_ms(origin.at_ms) if origin.at_ms else None
    return Provenance(origin.platform, origin.revision, time, origin.method)


def shown_value(attribute: str, stored: Any) -> Any:
    """A value on the wire from the form in which the history keeps it."""
    if attribute == "is_networked":
        stored = None if stored is None else not stored  # quirk Z001-1
    return ("1" if stored else "0") if isinstance(stored, bool) else stored


def from_full(full: Any) -> DeviceArchive:
    """The archive of a decoded ``DeviceFull``.

    Raises:
        InvalidRequest: control characters in text; a position in another system than WGS 84.
    """
    if full.geo_coord_sys not in ("WGS84", ""):
        raise InvalidRequest("档案的坐标须为 WGS84", field="geoCoordSys")
    values = {f.attribute: _read(getattr(full, f.attribute), f) for f in _OUTER}
    values.update((f.attribute, _read(getattr(full.info, f.attribute), f)) for f in _INNER)
    ext = full.ext
    archive = DeviceArchive(
        item=CatalogItem(**values),
        ext=ExtendedAttributes(
            is_controllable=_truth(ext.SFKK, "1"),
            keyboard_number=ext.JPBH,
            storage_device_ip=ext.DYCCSBIP,
            storage_channel=ext.DYCCSBTD,
            scene_photo_url=ext.SXJCJYSZP,
            has_positioning_module=_truth(ext.DWMK, "1"),
            is_networked=_truth(ext.LWSX, "0"),
            police_jurisdiction=ext.SSXQGAJG,
            industries=_split(ext.SSBMHY),
        ),
        owner=full.source_platform,
        revision=full.version,
        updated_at=full.update_time,
        source=Source.REST,
        missing_since=full.missing_since,
        online=None if full.status is None else full.status is DeviceStatus.ON,
    )
    _refuse_control_characters(full, full.info, ext)
    return archive


def to_lite(archive: DeviceArchive, tag_codes: tuple[str, ...] = ()) -> DeviceLite:
    """The ``DeviceLite`` of an archive."""
    item, ext = archive.item, archive.ext
    return DeviceLite(
        DeviceID=item.device_id,
        Name=item.name,
        Status=None if archive.online is None else "ON" if archive.online else "OFF",
        CivilCode=item.civil_code,
        sourcePlatform=archive.owner,
        version=archive.revision,
        geoCoordSys=GeoCoordSys.WGS84,
        Longitude=item.longitude,
        Latitude=item.latitude,
        PTZType=item.ptz_type,
        pointClass=item.point_type,
        SFKK=_flag(ext.is_controllable, "1", "0"),
        LWSX=_flag(ext.is_networked, "0", "1"),
        SSBMHY=ext.industries,
        tagCodes=tag_codes,
    )


def told_values(columns: Sequence[Any]) -> tuple[Any, ...]:
    """Values of ``DeviceTold``, in its order, from an archive's columns in that order."""
    *plain, is_controllable, is_networked, industries = columns
    return (
        *plain,
        _flag(is_controllable, "1", "0"),
        _flag(is_networked, "0", "1"),
        tuple(industries.split("/")) if industries else (),
    )


_decoder = msgspec.json.Decoder(DeviceFull, strict=False)
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _named(error: Exception) -> InvalidRequest:
    text = str(error)
    at = _PATH.search(text)
    path = at.group(1) if at else ""
    absent = _MISSING.search(text)
    if absent:
        path = f"{path}.{absent.group(1)}".lstrip(".")
    return InvalidRequest(
        f"字段 {path or '?'} 不符合要求：{in_words(_PATH.sub('', text))}", field=path or None
    )


def _refuse_control_characters(*parts: msgspec.Struct) -> None:
    # One search over all text is the fast path; only a bad archive is searched field by field.
    values = [value for part in parts for value in astuple(part) if isinstance(value, str)]
    if not _CONTROL.search("".join(values)):
        return
    for part in parts:
        for name, value in zip(part.__struct_encode_fields__, astuple(part), strict=True):
            if isinstance(value, str) and _CONTROL.search(value):
                raise InvalidRequest(f"字段 {name} 含有控制字符", field=name)


def _written(item: CatalogItem, field: ItemField) -> Any:
    value = getattr(item, field.attribute)
    return "/".join(value) if field.kind == "list" else value


def _read(value: Any, field: ItemField) -> Any:
    return _split(value) if field.kind == "list" else value


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split("/") if part)


def _flag(value: bool | None, true: _Flag, false: _Flag) -> _Flag | UnsetType:
    return UNSET if value is None else true if value else false


def _truth(value: str | UnsetType, true: str) -> bool | None:
    return None if value is UNSET else value == true
