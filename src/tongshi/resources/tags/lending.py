"""What tags lend to questions about devices (the port ``devices.asking.Tagging``)."""

from __future__ import annotations

from collections.abc import Sequence

from tongshi.resources.tags import wire
from tongshi.resources.tags.annotation import Annotations
from tongshi.resources.tags.expression_store import Bearing
from tongshi.resources.tags.service import TagDictionary


class LentTags:
    """``devices.asking.Tagging``."""

    def __init__(self, dictionary: TagDictionary, annotations: Annotations) -> None:
        self._dictionary = dictionary
        self._annotations = annotations

    async def narrowing(self, asked: wire.TagExpr, field: str) -> Bearing:
        expression = wire.expression(asked, field)
        await self._dictionary.check(expression, field)
        return Bearing(expression)

    async def codes(self, device_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return await self._annotations.codes(device_ids)

    async def of_devices(self, device_ids: Sequence[str]) -> dict[str, list[wire.DeviceTagShown]]:
        found, values = await self._annotations.of_devices(device_ids)
        return {key: [wire.device_tag(tag, values) for tag in tags] for key, tags in found.items()}
