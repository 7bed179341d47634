"""What the two runners share: the limits of waiting, and the port that ``Database`` drives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Unit = Callable[[Connection], T]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the storage engine; a full queue or a database that stays away is answered, never waited out.

    Attributes:
        readers: reader threads (SQLite), or half of the pooled connections for reading and writing
            (PostgreSQL).
        queued_writes: units of work waiting for the writer before ``Unavailable``.
        queued_reads: reads waiting for a reader before ``Unavailable``.
        group_units: most units in one commit of the SQLite writer.
        group_s: the writer takes no further unit into a commit after this long.
        patience_s: how long a unit waits for a database that is away or a pool that is empty.
        retry_after_s: what a refused caller is told.
    """

    readers: int = 4
    queued_writes: int = 2_000
    queued_reads: int = 2_000
    group_units: int = 256
    group_s: float = 0.02
    patience_s: float = 5.0
    retry_after_s: float = 1.0


class Runner(Protocol):
    """One implementation for each kind of database."""

    async def read(self, unit: Unit[T]) -> T: ...

    async def write(self, unit: Unit[T]) -> T: ...

    async def close(self) -> None: ...
