"""One archive between two of our platforms as a row: its stored values in their order, nothing else.

Half as long as the named form of ``wire.py`` and read straight into what the database takes, which is what
lets a full keep pace with a bulk load. The order is that of GB/T 28181-2022 A.2.1.9 and Table A.1; whoever
adds a column names a new form.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from tongshi.errors import InvalidRequest
from tongshi.exchange.model import Key
from tongshi.protocols.gb28181.types import ITEM_FIELDS, MAX_LIST_ENTRIES, MAX_TEXT_CHARS, CatalogItem
from tongshi.resources.devices.model import FlatArchive, Source, digested
from tongshi.storage.schema import EXT_COLUMNS
from tongshi.web.reading import decode

_Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
# Entries and the strokes between them.
_List = Annotated[str, Meta(max_length=MAX_LIST_ENTRIES * (MAX_TEXT_CHARS + 1))]
_Number = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
_DEGREES = {"longitude": 180, "latitude": 90}
_ITEM = tuple(field for field in ITEM_FIELDS if field.attribute != "status")


def _item_kind(kind: str, name: str) -> Any:
    annotation = CatalogItem.__annotations__[name]
    is_optional = "None" in str(annotation)
    if name == "device_id":
        return Key
    if kind == "list":
        return _List
    if name in _DEGREES:
        return Annotated[float, Meta(ge=-_DEGREES[name], le=_DEGREES[name])] | None
    base: Any = {"text": _Text, "int": _Number, "float": float}[kind]
    return base | None if is_optional else base


def _ext_kind(name: str, kind: object) -> Any:
    if name == "industries":
        return _List
    return _Text if getattr(kind, "__name__", "") == "Text" else bool | None


_WireRow = msgspec.defstruct(
    "_WireRow",
    [
        *((field.attribute, _item_kind(field.kind, field.attribute)) for field in _ITEM),
        *((name, _ext_kind(name, kind)) for name, kind in EXT_COLUMNS),
        ("owner", Annotated[str, Meta(min_length=20, max_length=20)]),
        ("revision", Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]),
        ("updated_at_ms", Annotated[int, Meta(ge=0, le=(1 << 47) - 1)]),
        ("online", bool | None),
    ],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
    module=__name__,
)
NAMES = tuple(_WireRow.__struct_fields__)
_KINDS = tuple(field.type for field in msgspec.structs.fields(_WireRow))
_END = len(_ITEM) + len(EXT_COLUMNS)
_LISTS = (*(i for i, field in enumerate(_ITEM) if field.kind == "list"), _END - 1)
_FLOATS = tuple(i for i, field in enumerate(_ITEM) if field.kind == "float")
_CIVIL_CODE = next(i for i, field in enumerate(_ITEM) if field.attribute == "civil_code")
_lists_of = itemgetter(*_LISTS)
# The same as a tuple, which is what is stored; the struct knows the names for a message.
_decode = msgspec.json.Decoder(tuple.__class_getitem__(_KINDS)).decode
_first = msgspec.json.Decoder(list[Any]).decode
_REST = Source.REST
_encode = msgspec.json.Encoder().encode


def encode(row: Sequence[Any]) -> msgspec.Raw:
    """A row of ``devices.reading_store.wire_rows``."""
    return msgspec.Raw(_encode(row[: _END + 4]))


def key_of(data: msgspec.Raw) -> str:
    """The device a row of ours is of."""
    key: str = _first(data)[0]
    return key


def parse(data: msgspec.Raw) -> FlatArchive:
    """Read one row.

    Raises:
        InvalidRequest: names the field and its rule.
    """
    told = bytes(data)
    try:
        # Without a backslash there is no escaped NUL either; looking for one byte costs nothing.
        values: tuple[Any, ...] = _slowly(told) if b"\\" in told else _decode(told)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        values = _slowly(told)
    stored = values[:_END]
    owner, revision, updated_at_ms, online = values[_END:]
    line, digest = digested(owner, stored)
    if _may_break(_lists_of(stored)):
        _check_lists(stored)
    if b"-0.0" in line:
        line, digest = digested(owner, _with_one_zero(stored))
    shard = stored[_CIVIL_CODE][:6]
    return FlatArchive(stored[0], line, owner, revision, updated_at_ms, _REST, shard, digest, online)


def _slowly(told: bytes) -> tuple[Any, ...]:
    """Once more, slower, to name what is wrong."""
    row: Any = decode(told, _WireRow)
    return astuple(row)


def _may_break(lists: Sequence[str]) -> bool:
    """Whether one could hold an empty, a long or one entry too many: some looks at all of them at once."""
    told = "|" + "|".join(lists) + "|"
    return (
        "//" in told
        or "|/" in told
        or "/|" in told
        or len(told) > MAX_TEXT_CHARS
        or told.count("/") >= MAX_LIST_ENTRIES
    )


def _with_one_zero(stored: tuple[Any, ...]) -> tuple[Any, ...]:
    """Zero has two signs; a database returns one."""
    values = list(stored)
    for index in _FLOATS:
        if values[index] is not None:
            values[index] += 0.0
    return tuple(values)


def _check_lists(stored: tuple[Any, ...]) -> None:
    """A list holds no empty entry, and no more entries than any other reader takes."""
    for index in _LISTS:
        entries = stored[index].split("/") if stored[index] else ["-"]
        if len(entries) > MAX_LIST_ENTRIES or "" in entries or max(map(len, entries)) > MAX_TEXT_CHARS:
            name = NAMES[index]
            raise InvalidRequest(f"item.{name} 的条目为空、过长或过多", field=f"item.{name}")
