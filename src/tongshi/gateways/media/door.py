"""Who lets viewers in at a listener: the platform's tickets, or on a media node the platform that it asks."""

from __future__ import annotations

from typing import Protocol, TypeVar

from tongshi.resources.viewing.media_ports import Datagrams, Ingest, Spool


class Admitted(Protocol):
    """A viewer's request that may be served now."""

    @property
    def session_id(self) -> str: ...

    @property
    def file_name(self) -> str:
        """What a download is called."""
        ...


A = TypeVar("A", bound=Admitted)


class Door(Protocol[A]):
    """See ``resources.viewing.tickets.Tickets``, which is one."""

    async def enter(
        self,
        stream_id: str,
        ticket: str,
        client_host: str,
        *,
        is_lasting: bool = False,
        container: str = "",
    ) -> A: ...

    async def inspect(self, stream_id: str, ticket: str, client_host: str) -> None: ...

    def ingest_of(self, admission: A) -> Ingest: ...

    async def is_over(self, admission: A) -> bool: ...

    def add_bytes(self, admission: A, sent: int) -> None: ...

    async def serve(
        self,
        admission: A,
        container: str,
        fd: int,
        head: bytes,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> None: ...

    async def connect(self, admission: A, offer: str) -> str: ...

    def leave(self, stream_id: str, session_id: str, ticket: str, client_host: str) -> None: ...

    def download(self, admission: A) -> Spool: ...

    def delivered(self, admission: A, sent: int, *, is_whole: bool) -> None: ...
