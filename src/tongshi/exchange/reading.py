"""What a batch or page of a neighbour holds, read and digested; no database in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from tongshi.errors import TongshiError
from tongshi.exchange import rows, wire
from tongshi.exchange.model import Form, Rejection
from tongshi.resources.devices import wire as device_wire
from tongshi.resources.devices.model import FlatArchive, flatten

# ``row`` and ``record`` are our own short forms; ``full`` has the identifiers of the standard, for platforms
# that are not ours.
_PARSERS: dict[str, Callable[[msgspec.Raw], FlatArchive]] = {
    "row": rows.parse,
    "record": lambda item: flatten(wire.parse(item)),
    "full": lambda item: flatten(device_wire.decode(item)),
}


@dataclass(frozen=True, slots=True)
class Items:
    """What a batch or page holds, read: the good ones with their place in it, the bad ones named."""

    archives: list[tuple[int, FlatArchive]]
    rejected: list[Rejection]


def read_items(items: Sequence[msgspec.Raw], form: Form) -> Items:
    """Read and digest every item. The writer of the database is kept for writing."""
    parse = _PARSERS[form]
    read = Items([], [])
    for index, item in enumerate(items):
        try:
            read.archives.append((index, parse(item)))
        except TongshiError as error:
            read.rejected.append(Rejection(index, _id_of(item), error.code, error.message, error.field))
    return read


def _id_of(item: msgspec.Raw) -> str:
    """The id a broken item claims, for the person who repairs it."""

    try:
        named = msgspec.json.decode(item, type=_Named)
        return (named.DeviceID or named.item.device_id)[:64]
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ""


class _Inner(msgspec.Struct, rename="camel"):
    device_id: str = ""


class _Named(msgspec.Struct):
    """The id of an item in either form, whatever else it holds."""

    item: _Inner = msgspec.field(default_factory=_Inner)
    DeviceID: str = ""
