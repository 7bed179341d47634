"""Work of a flow that nobody waits for: held until it ends, its failure told, ended with the flow."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog

from tongshi.errors import TongshiError

log = structlog.get_logger(__name__)


class Background:
    """Tasks of one flow; whoever begins them keeps their number in bounds by ``len``.

    Args:
        flow: whose they are, for the log.
    """

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin; a peer's failure is logged as such, any other as a fault of ours."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it never began when it was cancelled at once
        return task

    async def stop(self) -> None:
        """Cancel what runs and wait for it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except TongshiError as error:
            log.warning("background_failed", flow=self._flow, error=error.message)
        except Exception:
            log.exception("background_crashed", flow=self._flow)
