"""What an upper platform is told instead of our codes and names, where the configuration says so.

Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 9.5
A mapping for one upper, small, closed and reversible: each code has one code that is shown, no two the same.
It is applied where messages enter and leave, so that no flow knows of it. A device that is shown under
another code does not exist under its own; one whose own code is shown for another is not shown at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import msgspec

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.gb28181.types import CatalogItem

MAX_ALIASES: Final = 10_000

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Alias:
    """One device as an upper sees it; an empty code or name is left as it is."""

    id: str
    shown_id: str = ""
    name: str = ""


class Names:
    """Both directions of the mapping for one upper."""

    def __init__(self, aliases: Iterable[Alias] = (), own_id: str = "") -> None:
        rows = tuple(aliases)
        if len(rows) > MAX_ALIASES:
            raise InvalidRequest(f"一个上级最多 {MAX_ALIASES} 条编码映射", field="aliases")
        if len({row.id for row in rows}) < len(rows):
            raise InvalidRequest("同一设备有多条编码映射", field="aliases")
        self._shown = {row.id: row.shown_id for row in rows if row.shown_id and row.shown_id != row.id}
        self._real = {shown: real for real, shown in self._shown.items()}
        self._names = {row.id: row.name for row in rows if row.name}
        if len(self._real) < len(self._shown):
            raise InvalidRequest("两台设备映射到同一编码", field="aliases")
        if own_id and (own_id in self._shown or own_id in self._real):
            raise InvalidRequest("不能映射平台自身的编码", field="aliases")

    def __bool__(self) -> bool:
        return bool(self._shown or self._names)

    def shown(self, code: str) -> str:
        """The code as the upper knows it."""
        return self._shown.get(code, code)

    def real(self, code: str) -> str | None:
        """Our code for one that the upper said; None when it cannot know a device by that code."""
        found = self._real.get(code)
        if found is not None:
            return found
        return None if code in self._shown else code

    def hides(self, code: str) -> bool:
        """Whether a device of ours cannot be shown, because its code is shown for another."""
        return code in self._real and code not in self._shown

    def item(self, item: CatalogItem) -> CatalogItem:
        """An item of a catalogue as the upper sees it."""
        if not self:
            return item
        name = self._names.get(item.device_id, item.name)
        return msgspec.structs.replace(self._outward(item), name=name)

    def outward(self, message: S) -> S:
        """A message to the upper: every code in it that is mapped is replaced, and the names with them."""
        if not self:
            return message
        if isinstance(message, DeviceInfoResponse) and message.device_id in self._names:
            name = self._names[message.device_id]
            return cast(S, msgspec.structs.replace(self._outward(message), device_name=name))
        return self._outward(message)

    def inward(self, message: S) -> S | None:
        """A message of the upper with our codes; None when it names a device by a code it cannot know."""
        code = getattr(message, "device_id", "")
        if not self or not code:
            return message
        real = self.real(code)
        return None if real is None else msgspec.structs.replace(message, device_id=real)

    def _outward(self, message: S) -> S:
        changed = {
            name: new
            for name in message.__struct_fields__
            if (new := self._mapped(old := getattr(message, name))) is not old
        }
        return msgspec.structs.replace(message, **changed) if changed else message

    def _mapped(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._shown.get(value, value)
        if isinstance(value, CatalogItem):
            return self.item(value)
        if isinstance(value, msgspec.Struct):
            return self._outward(value)
        if isinstance(value, tuple) and value:
            new = tuple(self._mapped(one) for one in value)
            return value if all(a is b for a, b in zip(new, value, strict=True)) else new
        return value


NO_NAMES: Final = Names()
