"""Our own engine, in this process, as a media node."""

from __future__ import annotations

import os

from tongshi.gateways.media.engine import AsyncEngine
from tongshi.resources.viewing.media_ports import Ingest
from tongshi.resources.viewing.model import Transport


class OwnNode:
    """The engine of this process. It is never lost: who asks is the process itself."""

    kind = "tongshi"
    complaint = ""

    def __init__(self, engine: AsyncEngine, name: str = "local") -> None:
        self.name = name
        self._engine = engine

    @property
    def open_streams(self) -> int:
        return self._engine.open_streams

    async def open(self, stream: str, transport: Transport, *, is_local: bool = False) -> Ingest:
        """As ``MediaEngine.open``."""
        return await self._engine.open(stream, transport, is_local=is_local)

    async def look(self) -> float:
        """How busy the machine's processors are, by its own average of a minute."""
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    def lose(self) -> None:
        """Nothing: see the class."""
