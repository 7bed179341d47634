"""How far one caller's view reaches when it pulls: owners, and divisions within them. No database here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Reach:
    """What a caller is told.

    Attributes:
        peer: the platform that asks, which is not told what it told us; empty for others.
        owners: owners that are told whole; None for all.
        divisions: administrative divisions that are told whoever the owner is.
        devices: single devices that are told wherever they stand.
        asked: divisions to which the caller narrows by itself; empty for no narrowing.
    """

    peer: str = ""
    owners: frozenset[str] | None = None
    divisions: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()

    @property
    def narrowed_to(self) -> frozenset[str]:
        """``asked`` as prefixes."""
        return self.asked or frozenset({""})

    def narrowed(self, civil_codes: Collection[str]) -> Reach:
        """The same, narrowed to divisions."""
        return replace(self, asked=frozenset(civil_codes))

    def granted(self, owner: str) -> tuple[str, ...]:
        """Prefixes of the civil codes that the caller may see of an owner; ``("",)`` for all, () for none."""
        if self.owners is None or owner in self.owners:
            return ("",)
        return _outermost(self.divisions)

    def within(self, owner: str) -> tuple[str, ...]:
        """``granted``, as far as it was asked for."""
        granted = self.granted(owner)
        if not self.asked:
            return granted
        longer = {
            max(one, other, key=len)
            for one in granted
            for other in self.asked
            if one.startswith(other) or other.startswith(one)
        }
        return _outermost(longer)

    def is_granted(self, device_id: str, owner: str, civil_code: str) -> bool:
        """Whether the caller may know of a device."""
        return device_id in self.devices or is_in(civil_code, self.granted(owner))

    def is_told(self, device_id: str, owner: str, civil_code: str) -> bool:
        """Whether a device lies in what was asked for."""
        is_asked = is_in(civil_code, self.narrowed_to)
        return is_asked and self.is_granted(device_id, owner, civil_code)


def is_in(civil_code: str, prefixes: Collection[str]) -> bool:
    """Whether a code lies below one of the prefixes."""
    return any(civil_code.startswith(prefix) for prefix in prefixes)


def _outermost(prefixes: Collection[str]) -> tuple[str, ...]:
    """Without those that lie in another, in order."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)
