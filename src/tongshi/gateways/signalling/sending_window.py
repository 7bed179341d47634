"""How many parts of one answer may be on their way at once: paced by the answers of who receives.

Implements: GB/T 28181-2022 Annex M
The first parts go one after another, each after the answer to the one before, as Annex M wishes; an answer
with no more parts than those never does otherwise. Of a large one the window opens by one with each answer,
for over UDP every lost datagram would hold up all that follow by half a second. A receiver that is overloaded
or silent closes it by half.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from tongshi.errors import TongshiError

SERIAL_PARTS = 20
WIDEST = 128  # at T1 of half a second and a tenth to repeat that is 2,300 parts a second
WIDEST_TCP = 4  # parts of a quarter of a megabyte; a connection with four unsent megabytes is given up


class SendingWindow:
    """Runs the sending of parts; ``put`` returns when there is room for the next."""

    def __init__(self, serial_parts: int = SERIAL_PARTS, widest: int = WIDEST) -> None:
        self._serial_parts = serial_parts
        self._widest = widest
        self._answered = 0
        self._running: set[asyncio.Task[None]] = set()
        self.width = 1

    async def put(self, sending: Coroutine[None, None, None]) -> None:
        """Begin to send one part. Raises what an earlier part failed with."""
        try:
            while len(self._running) >= self.width:
                await self._some()
        except BaseException:
            sending.close()
            raise
        self._running.add(asyncio.get_running_loop().create_task(sending))

    async def drain(self) -> None:
        """Wait for all. Raises what a part failed with."""
        while self._running:
            await self._some()

    async def close(self) -> None:
        """Give up what is on its way."""
        running, self._running = tuple(self._running), set()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def narrow(self) -> None:
        """The receiver is overloaded or silent."""
        self.width = max(1, self.width // 2)

    async def _some(self) -> None:
        done, self._running = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        failed = [error for task in done if (error := task.exception()) is not None]
        if failed:
            raise next((one for one in failed if isinstance(one, TongshiError)), failed[0])
        self._answered += len(done)
        if self._answered >= self._serial_parts:
            self.width = min(self._widest, self.width + len(done))
