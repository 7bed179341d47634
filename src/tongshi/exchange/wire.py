"""One archive between two of our platforms: every field bounded, read at once and checked by its type.

The names are the model's in lowerCamel, since no standard lists this route. What was not told is left out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from tongshi.errors import InvalidRequest
from tongshi.exchange.model import Code, Key
from tongshi.protocols.gb28181.types import MAX_LIST_ENTRIES, MAX_TEXT_CHARS, CatalogItem
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source
from tongshi.web.reading import decode

_Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
_Number = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
# A "/" inside an entry would come back from the database as two entries.
_Entry = Annotated[str, Meta(max_length=MAX_TEXT_CHARS, pattern=r"^[^/]+\Z")]
_Entries = Annotated[tuple[_Entry, ...], Meta(max_length=MAX_LIST_ENTRIES)]
_BOUNDED: dict[Any, Any] = {
    "str": _Text,
    "str | None": _Text | None,
    "int": _Number,
    "int | None": _Number | None,
    "float | None": float | None,
    "bool | None": bool | None,
    "tuple[str, ...]": _Entries,
}


def _bounded(shape: type[msgspec.Struct], skip: str = "") -> type[msgspec.Struct]:
    """The same fields in the same order, each with its bounds; unknown fields refused."""
    fields: list[tuple[str, Any, Any]] = []
    annotations = shape.__annotations__
    for field in msgspec.structs.fields(shape):
        kind = Key if field.name == "device_id" else _BOUNDED.get(annotations[field.name])
        if field.name != skip:
            assert kind is not None, f"{shape.__name__}.{field.name} has no bound"
            default = msgspec.NODEFAULT if field.default is msgspec.NODEFAULT else field.default
            fields.append((field.name, kind, default))
    return msgspec.defstruct(
        f"Wire{shape.__name__}",
        [
            (name, kind) if default is msgspec.NODEFAULT else (name, kind, default)
            for name, kind, default in fields
        ],
        kw_only=True,
        rename="camel",
        forbid_unknown_fields=True,
        omit_defaults=True,
        module=__name__,
    )


# Status is the device's state of the moment; it travels as ``online`` beside the archive.
WireItem = _bounded(CatalogItem, skip="status")
WireExt = _bounded(ExtendedAttributes)
_ITEM_NAMES = tuple(WireItem.__struct_fields__)
_EXT_NAMES = tuple(WireExt.__struct_fields__)
_STATUS = CatalogItem.__struct_fields__.index("status")

WireRecord = msgspec.defstruct(
    "WireRecord",
    [
        ("owner", Code),
        ("revision", Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]),
        ("updated_at", Annotated[datetime, Meta(tz=True)]),
        ("item", WireItem),
        ("ext", WireExt, msgspec.field(default_factory=WireExt)),
        ("online", bool | None, None),
    ],
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    module=__name__,
)
_encoder = msgspec.json.Encoder()


def encode(archive: DeviceArchive) -> msgspec.Raw:
    """One record as JSON."""
    item = list(astuple(archive.item))
    del item[_STATUS]
    record = WireRecord(
        owner=archive.owner,
        revision=archive.revision,
        updated_at=archive.updated_at,
        item=WireItem(**dict(zip(_ITEM_NAMES, item, strict=True))),
        ext=WireExt(**dict(zip(_EXT_NAMES, astuple(archive.ext), strict=True))),
        online=archive.online,
    )
    return msgspec.Raw(_encoder.encode(record))


def parse(data: msgspec.Raw) -> DeviceArchive:
    """Read one record.

    Raises:
        InvalidRequest: names the field and its rule.
    """
    record: Any = decode(data, WireRecord)
    item = CatalogItem(**dict(zip(_ITEM_NAMES, astuple(record.item), strict=True)))
    for name, limit in (("longitude", 180.0), ("latitude", 90.0)):
        value = getattr(item, name)
        if value is not None and not -limit <= value <= limit:
            raise InvalidRequest(f"item.{name} 超出范围", field=f"item.{name}")
    return DeviceArchive(
        item=item,
        ext=ExtendedAttributes(**dict(zip(_EXT_NAMES, astuple(record.ext), strict=True))),
        owner=record.owner,
        revision=record.revision,
        updated_at=record.updated_at,
        source=Source.REST,
        online=record.online,
    )
