"""Media nodes as an administrator sees them: where streams may be opened, how full they are, and why not.

Implements: DB31DSJ/Z 001-2024 5.2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class NodeState(StrEnum):
    """``draining`` takes no new stream and keeps what it has; ``drained`` has none left, may be stopped."""

    ACTIVE = "active"
    DRAINING = "draining"
    DRAINED = "drained"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class NodeView:
    """One media node now.

    ``load`` is the fuller of the two: streams against ``capacity``, and what the node says of its processor
    (0 to 1). ``places`` are the first digits of device codes it stands nearest to; none is anywhere.
    ``trouble`` says why it is lost, or why it last refused a stream, and what is to be mended there.
    """

    name: str
    kind: str
    state: NodeState
    streams: int
    capacity: int
    load: float
    places: tuple[str, ...]
    trouble: str
    since: datetime


class NodeDesk(Protocol):
    """The media nodes of this process; ``at`` is when somebody asked for it."""

    def views(self) -> Sequence[NodeView]:
        """All of them, in the order of the configuration."""
        ...

    def drain(self, name: str, at: datetime) -> NodeView:
        """Open nothing more there. Raises NotFound: no such node."""
        ...

    def resume(self, name: str, at: datetime) -> NodeView:
        """Open streams there again. Raises NotFound: no such node."""
        ...
