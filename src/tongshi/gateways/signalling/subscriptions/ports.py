"""What subscriptions need of the record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tongshi.protocols.gb28181.types import CatalogItem


@dataclass(frozen=True, slots=True)
class News:
    """What changed behind a position of the change feed, and where the feed now stands.

    ``rows`` are devices whose archive changed or that went missing, ``states`` those whose state turned.
    """

    position: int
    rows: tuple[str, ...]
    states: tuple[str, ...]
    is_last: bool


class Newsroom(Protocol):
    """The archive as notifications read and change it."""

    async def news_position(self) -> int:
        """Where the change feed stands now."""
        ...

    async def news_after(self, position: int) -> News:
        """A bounded piece of what changed since. Raises Gone when that is no longer kept."""
        ...

    async def told_codes(self, upper_id: str, after: str) -> Sequence[tuple[str, bool]]:
        """The next devices in order that an upper may see, each with whether it works; empty at the end."""
        ...

    async def told_items(self, upper_id: str, codes: Collection[str]) -> Mapping[str, CatalogItem]:
        """Those of the codes that an upper may see now, as it is told them."""
        ...

    async def shared_nodes(self, upper_id: str) -> Sequence[CatalogItem]:
        """Systems, divisions, groups and organisations above what it may see, each after its parent."""
        ...

    async def told_by(self, peer_id: str, codes: Collection[str], *, is_platform: bool) -> Collection[str]:
        """Those of the codes that a peer may speak of: its own, or reached through it."""
        ...

    async def mark_gone(self, peer_id: str, codes: Sequence[str], *, is_platform: bool) -> int:
        """Note that a peer says that devices are gone. Nothing is deleted. Returns how many were marked."""
        ...
