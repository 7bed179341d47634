"""Elements read and written by their declaration: a field says its name, its type and its bound, once.

Implements: GB/T 28181-2022 A.2.1
A `Part` is a complex element, a `Shaped` a whole message. The element of a field is its name in capitals
(``reset_time`` is ``ResetTime``) unless ``NAMES`` says otherwise; ``ALIASES`` are also read;
``LISTS`` says which element wraps a list ("" for none) and how an entry is called; a list that is not named
there is one element joined by "/". Types, bounds and enumerations stand in the annotations and are checked
when a message is read and before one is sent.

A command is read strictly: one value out of range and the whole is refused. What a device tells of itself is
read tolerantly where the message has an attribute ``bad``: a value that cannot be used is left out and named
there, so that it is neither believed nor hidden.
"""

from __future__ import annotations

import typing
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

import msgspec
from lxml import etree

from tongshi.errors import InvalidRequest, RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.message import BaseMessage, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.version import Edition

MAX_ENTRIES: Final = 1_024  # of any list here; the longest real one has 300 presets
_HEAD: Final = frozenset({"sn", "device_id", "bad", "result_ok"})

Kind = Literal["leaf", "part", "parts", "texts", "joined"]
S = TypeVar("S", bound=msgspec.Struct)


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A complex element. In JSON its fields are lowerCamel, on the wire as the standard spells them."""

    NAMES: ClassVar[dict[str, str]] = {}
    ALIASES: ClassVar[dict[str, tuple[str, ...]]] = {}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {}


class Shaped(BaseMessage, frozen=True, kw_only=True):
    """A message that is read and written by its declaration.

    An attribute ``result_ok`` is the element Result; where the schema has none (``RESULT_IN_SCHEMA``) it is
    written for an error only, as devices do (dossier 5.5).
    """

    NAMES: ClassVar[dict[str, str]] = {}
    ALIASES: ClassVar[dict[str, tuple[str, ...]]] = {}
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {}
    RESULT_IN_SCHEMA: ClassVar[bool] = False

    def content(self, edition: Edition) -> str:
        result_ok = getattr(self, "result_ok", None)
        is_told = result_ok is False or (result_ok is True and self.RESULT_IN_SCHEMA)
        result = xml.element("Result", "OK" if result_ok else "ERROR") if is_told else ""
        return result + render_fields(self, with_empty_lists=True)

    @classmethod
    def read(cls, document: xml.Document) -> Self:
        reader = document.root
        names = cls.__struct_fields__
        bad: list[str] | None = [] if "bad" in names else None
        found = read_fields(cls, reader, bad)
        found.update(sn=read_sn(reader), device_id=read_device_id(reader))
        if "result_ok" in names:
            found["result_ok"] = not read_flag(reader.text("result"), "error", "err", "fail", "failed")
        if bad is not None:
            found["bad"] = tuple(bad)
        return _convert(found, cls)


def check(value: S) -> S:
    """The value itself, when all its bounds hold: what a person asks for is checked before it is sent.

    Raises:
        InvalidRequest: names the field.
    """
    try:
        msgspec.convert(msgspec.to_builtins(value), type(value))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"参数超出范围：{error}", field=_path(error)) from error
    return value


class _Plan(NamedTuple):
    """How one field is read and written."""

    attribute: str
    key: str
    element: str
    names: tuple[str, ...]
    kind: Kind
    inner: type[Part] | None
    wrapper: str
    entry: str
    is_required: bool
    type: Any


@cache
def _plans(cls: type[msgspec.Struct]) -> tuple[_Plan, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    lists: dict[str, tuple[str, str]] = getattr(cls, "LISTS", {})
    made = []
    for info in msgspec.structs.fields(cls):
        if info.name in _HEAD:
            continue
        kind, inner = _kind(hints[info.name], info.name in lists)
        element = getattr(cls, "NAMES", {}).get(info.name) or _pascal(info.name)
        wrapper, entry = lists.get(info.name, ("", ""))
        names = (element.lower(), *getattr(cls, "ALIASES", {}).get(info.name, ()))
        made.append(
            _Plan(
                info.name,
                info.encode_name,
                element,
                names,
                kind,
                inner,
                wrapper,
                entry,
                info.required,
                hints[info.name],
            )
        )
    return tuple(made)


def _kind(annotation: Any, is_listed: bool) -> tuple[Kind, type[Part] | None]:
    bare = _bare(annotation)
    if get_origin(bare) is tuple:
        inner = _bare(get_args(bare)[0])
        if isinstance(inner, type) and issubclass(inner, Part):
            return "parts", inner
        return ("texts" if is_listed else "joined"), None
    if isinstance(bare, type) and issubclass(bare, Part):
        return "part", bare
    return "leaf", None


def _bare(annotation: Any) -> Any:
    """The type without None and without its bounds."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, UnionType):
        kinds = [_bare(kind) for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


# --- Reading ----------------------------------------------------------------------------------------


def read_part(cls: type[S], reader: xml.Reader) -> S:
    """A complex element, strictly.

    Raises:
        RemoteViolation: a field is missing or out of range.
    """
    return _convert(read_fields(cls, reader, None), cls)


def read_fields(cls: type[msgspec.Struct], reader: xml.Reader, bad: list[str] | None) -> dict[str, Any]:
    """The fields as plain values by their JSON names; with ``bad``, unusable ones are left out and named."""
    found: dict[str, Any] = {}
    for plan in _plans(cls):
        if plan.kind == "parts" and bad is not None:
            value: Any = _usable_entries(plan, reader, bad)
        else:
            value = _raw(plan, reader)
        if value is None or value == "":
            continue
        if bad is not None and plan.kind != "parts" and not plan.is_required and not _fits(value, plan.type):
            bad.append(plan.element)
            continue
        found[plan.key] = value
    return found


def _raw(plan: _Plan, reader: xml.Reader) -> Any:
    if plan.kind == "leaf":
        return reader.text(*plan.names)
    if plan.kind == "joined":
        return xml.to_list(reader.text(*plan.names)) or None
    if plan.kind == "part":
        child = reader.child(*plan.names)
        assert plan.inner is not None  # a part has its class
        return None if child is None else read_fields(plan.inner, child, None)
    entries = _entries(plan, reader)
    if plan.kind == "texts":
        return tuple(text for entry in entries if (text := xml.clean(entry.text))) or None
    assert plan.inner is not None  # as above
    return tuple(read_fields(plan.inner, xml.Reader(entry), None) for entry in entries) or None


def _entries(plan: _Plan, reader: xml.Reader) -> list[etree._Element]:
    """The entries of a list; what is counted counts, not what ``Num`` says (24 no. 14)."""
    holder = reader.child(plan.wrapper.lower()) if plan.wrapper else reader
    if holder is None:
        return []
    found = list(holder.each(plan.entry.lower()))
    if len(found) > MAX_ENTRIES:
        raise RemoteViolation(f"more than {MAX_ENTRIES} entries of {plan.entry}", field=plan.entry)
    return found


def _usable_entries(plan: _Plan, reader: xml.Reader, bad: list[str]) -> tuple[dict[str, Any], ...] | None:
    assert plan.inner is not None  # a list of parts
    usable = []
    for index, entry in enumerate(_entries(plan, reader)):
        fields = read_fields(plan.inner, xml.Reader(entry), None)
        if _fits(fields, plan.inner):
            usable.append(fields)
        else:
            bad.append(f"{plan.entry}[{index}]")
    return tuple(usable) or None


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def _convert(found: dict[str, Any], cls: type[S]) -> S:
    try:
        return msgspec.convert(found, cls, strict=False)
    except msgspec.ValidationError as error:
        raise RemoteViolation(f"{cls.__name__}: {error}", field=_path(error)) from error


def _path(error: msgspec.ValidationError) -> str:
    return str(error).rpartition("`$")[2].strip("`.") or str(error).rpartition("field `")[2].strip("`")


# --- Writing ----------------------------------------------------------------------------------------


def render_fields(value: msgspec.Struct, *, with_empty_lists: bool = False) -> str:
    """The fields that are set, in the order of their declaration, which is the schema's.

    Lists of an answer stand there with ``Num`` 0 when they are empty (A.2.6.10); inside a configuration they
    are optional and absent.
    """
    return "".join(
        _rendered(plan, getattr(value, plan.attribute), with_empty_lists) for plan in _plans(type(value))
    )


def _rendered(plan: _Plan, value: Any, with_empty_lists: bool) -> str:
    if value is None or value == "" or (value == () and not with_empty_lists):
        return ""
    if plan.kind == "part":
        return f"<{plan.element}>{render_fields(value)}</{plan.element}>"
    if plan.kind == "joined":
        return xml.optional(plan.element, "/".join(value))
    if plan.kind == "leaf":
        return xml.element(plan.element, _word(value))
    if plan.kind == "texts":
        entries = "".join([xml.element(plan.entry, text) for text in value])
    else:
        entries = "".join([f"<{plan.entry}>{render_fields(part)}</{plan.entry}>" for part in value])
    return f'<{plan.wrapper} Num="{len(value)}">{entries}</{plan.wrapper}>' if plan.wrapper else entries


def _word(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Enum):
        return str(value.value)
    return value  # type: ignore[no-any-return]  # text or a number by its annotation
