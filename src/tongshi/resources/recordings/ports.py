"""What own recordings need of others: somewhere that whole segments are moved to, beside the local disk."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tongshi.resources.recordings.model import Segment


class RemoteFiles(Protocol):
    """Keeps segments elsewhere. Every call may raise Unavailable: not to be reached (50302)."""

    async def put(self, segment: Segment, written: Path) -> None:
        """Keep a copy of a file that was written whole."""
        ...

    async def read(self, segment: Segment, offset: int, size: int) -> bytes:
        """Bytes of a segment, fewer at its end. Raises NotFound: it is gone."""
        ...

    async def delete(self, segment: Segment) -> None:
        """Delete; nothing happens when it is gone."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
