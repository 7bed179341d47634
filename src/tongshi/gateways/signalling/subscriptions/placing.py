"""Whether a device belongs to what a subscription names.

Implements: GB/T 28181-2022 Annex N
The subscribed code is our own (everything), a device, or a node of the tree with all that lies below it: the
same rule by which a catalogue query is answered (Annex J).
"""

from __future__ import annotations

from collections.abc import Sequence

from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.types import CatalogItem


class Place:
    """The subscribed node with what hangs below it; nodes stand after their parents."""

    def __init__(self, code: str, own_id: str, nodes: Sequence[CatalogItem] = ()) -> None:
        self.code = code
        self.is_everything = code == own_id
        self._division = code if kind_of(code) is ItemKind.DIVISION else ""
        self._below = {code}
        for node in nodes:
            if node.business_group_id in self._below or not self._below.isdisjoint(node.parent_ids):
                self._below.add(node.device_id)

    def has(self, item: CatalogItem) -> bool:
        """Whether this device is meant."""
        if self.is_everything:
            return True
        if self._division:
            return item.civil_code.startswith(self._division)
        return item.device_id in self._below or not self._below.isdisjoint(item.parent_ids)
