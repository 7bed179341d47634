"""What of ours does not work, told upward at once and with every heartbeat until it works again.

Implements: GB/T 28181-2022 9.6
An upper is told only of what it may see. A heartbeat over UDP has room for ``MAX_TOLD`` codes; the rest is
told by the catalogue's status, which every answer and notification of it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping

import structlog

from tongshi.errors import TongshiError
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.upward import Upper

log = structlog.get_logger(__name__)

MAX_TOLD = 20
MAX_LOOKED_AT = 200  # of one loss: a recorder with more channels is told by itself


class Abnormalities:
    """Keeps the faulty devices of each upper and makes it beat when one is added."""

    def __init__(self, uppers: Mapping[str, Upper], archive: Archive) -> None:
        self._uppers = uppers
        self._archive = archive
        self._tasks: set[asyncio.Task[None]] = set()

    def faulty(self, device_ids: Iterable[str]) -> None:
        """These do not work any more."""
        codes = tuple(dict.fromkeys(device_ids))[:MAX_LOOKED_AT]
        for upper in self._uppers.values():
            self._begin(self._tell(upper, codes))

    def works(self, device_ids: Iterable[str]) -> None:
        """These work again."""
        codes = set(device_ids)
        for upper in self._uppers.values():
            upper.faulty = tuple(code for code in upper.faulty if code not in codes)

    def heard(self, channels: Callable[[], Iterable[str]], faulty: Iterable[str]) -> None:
        """A heartbeat of a peer: whichever of its channels it does not complain of works."""
        if any(upper.faulty for upper in self._uppers.values()):
            self.works(set(channels()) - set(faulty))

    async def stop(self) -> None:
        """Wait for nobody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self, upper: Upper, codes: tuple[str, ...]) -> None:
        shared = [
            code
            for code in codes
            if code not in upper.faulty and await self._archive.find_shared(upper.id, code) is not None
        ]
        if not shared:
            return
        upper.faulty = tuple(dict.fromkeys((*shared, *upper.faulty)))[:MAX_TOLD]
        if upper.is_registered:
            await upper.beat()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _guarded(work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except TongshiError as error:
            log.info("abnormality_untold", error=error.message)
        except Exception:
            log.exception("abnormality_crashed")
