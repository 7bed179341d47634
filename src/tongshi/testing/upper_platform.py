"""A simulated upper platform: lets lower platforms register, asks for their catalogues, and counts.

Of what comes only codes are kept, so that a hundred thousand items can be counted beside who sends them.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from tongshi.clock import Clock
from tongshi.errors import RemoteViolation
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.protocols.gb28181.catalogue import CatalogueCollector
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.message import next_sn
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.testing.lossy_sockets import lossy
from tongshi.testing.registrar import PlatformDouble


@dataclass(frozen=True, slots=True)
class Counted:
    """One answer as it came.

    Attributes:
        state: complete, incomplete, or refused with ``sip_status``.
        received: items with repetitions. parts: messages. largest_part: items in the largest.
        passwords: items that carried a Password; there must be none.
    """

    state: str
    sip_status: int
    announced: int = 0
    distinct: int = 0
    received: int = 0
    parts: int = 0
    largest_part: int = 0
    bad: int = 0
    passwords: int = 0
    by_tcp: int = 0
    wall_s: float = 0.0
    codes: frozenset[str] = frozenset()


class UpperPlatform(PlatformDouble):
    """A platform above, as small as it can be and count.

    Args:
        loss: share of datagrams lost each way.
    """

    def __init__(
        self,
        platform_id: str,
        secret: str,
        clock: Clock | None = None,
        *,
        port: int = 0,
        allow_tcp: bool = True,
        loss: float = 0.0,
        seed: int = 1,
    ) -> None:
        super().__init__(
            platform_id,
            secret,
            clock,
            port=port,
            allow_tcp=allow_tcp,
            sockets=lossy(loss, random.Random(seed)),
        )
        self._sn = 0
        self._collectors: dict[tuple[str, str], _Count] = {}

    async def ask_catalogue(
        self,
        code: str,
        node: str = "",
        *,
        start_time: str = "",
        end_time: str = "",
        idle_s: float = 15.0,
        total_s: float = 600.0,
    ) -> Counted:
        """Ask a registered platform for its catalogue, or a node's, and count until it is proved or ends.

        Raises:
            PeerTimeout: the query was not answered.
        """
        node = node or code
        self._sn = next_sn(self._sn)
        now = time.monotonic()
        count = _Count(CatalogueCollector(self._sn, node, now, idle_s, total_s, max_items=1_000_000))
        self._collectors[code, node] = count
        try:
            status = await self.send(code, CatalogQuery(self._sn, node, start_time, end_time))
            if not 200 <= status < 300:
                return Counted("refused", status)
            await count.end()
        finally:
            del self._collectors[code, node]
        return count.told(status, time.monotonic() - now)

    def take(self, incoming: IncomingRequest) -> None:
        body = incoming.request.body
        try:
            message = decode(body)
        except RemoteViolation:
            incoming.respond(400)
            return
        if not isinstance(message, CatalogResponse):
            super().take(incoming)
            return
        incoming.respond(200)
        count = self._collectors.get((incoming.request.from_.uri.user, message.device_id))
        if count is not None:
            count.add(message, body, by_tcp=incoming.remote.transport == "tcp")


class _Count:
    """One answer under way."""

    def __init__(self, collector: CatalogueCollector) -> None:
        self.collector = collector
        self._bell = asyncio.Event()
        self._parts = self._largest = self._passwords = self._by_tcp = 0

    def add(self, message: CatalogResponse, body: bytes, *, by_tcp: bool) -> None:
        if self.collector.add(message, time.monotonic()):
            self.collector.take()  # only the codes are kept
            self._parts += 1
            self._by_tcp += by_tcp
            self._largest = max(self._largest, len(message.items))
            self._passwords += body.lower().count(b"<password>")
            self._bell.set()

    async def end(self) -> None:
        """Wait until the answer is proved or over."""
        while (due := self.collector.next_timer()) is not None:
            self._bell.clear()
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._bell.wait()
            except TimeoutError:
                self.collector.handle_timer(time.monotonic())

    def told(self, status: int, wall_s: float) -> Counted:
        of = self.collector
        return Counted(
            state=of.state,
            sip_status=status,
            announced=of.sum_num,
            distinct=of.distinct,
            received=of.received,
            parts=self._parts,
            largest_part=self._largest,
            bad=of.bad_count,
            passwords=self._passwords,
            by_tcp=self._by_tcp,
            wall_s=wall_s,
            codes=of.codes,
        )
