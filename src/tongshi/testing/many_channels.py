"""The catalogue of a large platform, made up item by item: nothing of it stands in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from msgspec.structs import replace as but

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.codes import normalise_civil_code
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.testing.shanghai import make_item

MAX_CHANNELS = 1_000_000


@dataclass(frozen=True, slots=True)
class ManyChannels:
    """``systems`` lower systems share ``channels`` cameras evenly; without systems all hang at the platform.

    A camera's code, name and fields follow from its number and the seed.
    """

    platform_id: str
    channels: int
    systems: int = 0
    name: str = "仿真平台"
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.channels <= MAX_CHANNELS or not 0 <= self.systems < 1_000:
            raise InvalidRequest(f"通道数应在 0 到 {MAX_CHANNELS} 之间，下级系统少于 1000", field="channels")

    @property
    def civil_code(self) -> str:
        """The division in the platform's own code."""
        return normalise_civil_code(self.platform_id[:10])

    @property
    def own(self) -> CatalogItem:
        """The platform itself."""
        return self._system(self.platform_id, self.name)

    def total(self, node: str = "") -> int:
        """How many items an answer about ``node`` has; the whole when it is empty, 0 when it is unknown."""
        if node in ("", self.platform_id):
            return 1 + self.systems + self.channels
        if node in self._system_codes:
            return 1 + len(range(self._system_codes.index(node), self.channels, self.systems))
        return 1 if self._number_of(node) is not None else 0

    def items(self, node: str = "") -> Iterator[CatalogItem]:
        """The items of such an answer in the order of Annex J, and then more of the same kind without end."""
        codes = self._system_codes
        if node in ("", self.platform_id):
            yield self.own
            for number, code in enumerate(codes):
                yield self._system(code, f"{self.name}下级{number + 1}", self.platform_id)
            yield from map(self._camera, range(MAX_CHANNELS))
        elif node in codes:
            number = codes.index(node)
            yield self._system(node, f"{self.name}下级{number + 1}", self.platform_id)
            yield from map(self._camera, range(number, MAX_CHANNELS, self.systems))
        elif (found := self._number_of(node)) is not None:
            yield self._camera(found)

    def code(self, number: int) -> str:
        """The code of a camera."""
        return f"{self.platform_id[:8]}00132{number // 1_000_000:01d}{number % 1_000_000:06d}"

    def resized(self, channels: int) -> ManyChannels:
        """The same platform with another number of cameras."""
        return replace(self, channels=channels)

    @property
    def _system_codes(self) -> list[str]:
        return [f"{self.platform_id[:8]}00200{9}{number:06d}" for number in range(self.systems)]

    def _number_of(self, code: str) -> int | None:
        if len(code) != 20 or not code.isdigit() or code[:13] != self.code(0)[:13]:
            return None
        number = int(code[13:])
        return number if number < self.channels else None

    def _camera(self, number: int) -> CatalogItem:
        parent = self._system_codes[number % self.systems] if self.systems else self.platform_id
        rng = random.Random(self.seed * 1_000_003 + number)
        made = make_item(
            self.code(number),
            number,
            civil_code=self.civil_code,
            parent_id=parent,
            rng=rng,
            is_ptz=number % 3 == 0,
        )
        return but(made, status=DeviceStatus.OFF) if number % 10 == 9 else made

    def _system(self, code: str, name: str, parent: str = "") -> CatalogItem:
        return CatalogItem(
            device_id=code,
            name=name,
            manufacturer="通视仿真",
            model="TS-SIM",
            civil_code=self.civil_code,
            address=name,
            parent_ids=(parent,) if parent else (),
            status=DeviceStatus.ON,
        )
