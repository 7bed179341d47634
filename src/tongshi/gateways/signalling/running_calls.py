"""Running calls kept in the record, and ended at the peers by the process that comes after a crash.

A sender over UDP notices nothing of a platform that is back within seconds: its heartbeats are answered, and
it would send to a closed port for ever. Opening waits a moment only for its row: a picture is not held up by
a slow disk, at the price of a few milliseconds in which a crash forgets the call. Whatever changes while one
transaction runs goes into the next, so that a thousand calls are a few transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Literal

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.calls import Call
from tongshi.gateways.signalling.endpoint import SipEndpoint
from tongshi.gateways.signalling.ports import OpenCalls
from tongshi.protocols.sip.address import transport_of
from tongshi.protocols.sip.message import Remote
from tongshi.resources.registrations.model import OpenCall

log = structlog.get_logger(__name__)

ROW_WAIT_S = 0.005
MAX_CALL_ID = 512  # characters; a longer one is no honest peer's and would not fit an index
LEFT_FOR = timedelta(days=30)
BYE_WAIT_S = 4.0
BYES_AT_ONCE = 200
BYES_TOTAL_S = 60.0


class RunningCalls:
    """Notes calls as they open and end; bounded by the endpoint's bound of calls."""

    def __init__(self, endpoint: SipEndpoint, record: OpenCalls, clock: Clock) -> None:
        self._endpoint = endpoint
        self._record = record
        self._clock = clock
        self._opened: dict[str, OpenCall] = {}
        self._ended: set[str] = set()
        self._running: set[str] = set()
        self._written = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def note(self, call: Call, direction: Literal["down", "up"], peer_id: str) -> Callable[[], None]:
        """Like ``begin``, and wait a moment for the row."""
        forget = self.begin(call, direction, peer_id)
        written = asyncio.ensure_future(self._written.wait())
        try:
            await asyncio.wait((written,), timeout=ROW_WAIT_S)
        except asyncio.CancelledError:
            forget()
            raise
        finally:
            written.cancel()
        return forget

    def begin(
        self, call: Call, direction: Literal["down", "up"], peer_id: str, own_id: str = ""
    ) -> Callable[[], None]:
        """Note an answered call; call what is returned once it is over."""
        if len(call.call_id) > MAX_CALL_ID:
            return lambda: None
        dialog = call.dialog
        self._opened[call.call_id] = OpenCall(
            call_id=call.call_id,
            direction=direction,
            from_id=own_id,
            to_id=peer_id,
            host=call.remote.host,
            port=call.remote.port,
            transport=call.remote.transport,
            target=dialog.target,
            from_tag=dialog.local.tag,
            to_tag=dialog.remote.tag,
            cseq=dialog.local_cseq + 1,
            opened_at=self._clock.at(),
        )
        self._running.add(call.call_id)
        self._write_soon()
        return partial(self._forget, call.call_id)

    async def left(self) -> Sequence[OpenCall]:
        """What a process before this one left open."""
        return await self._record.left_open(self._clock.at() - LEFT_FOR)

    async def end_left(self, left: Sequence[OpenCall]) -> None:
        """Send BYE for each and forget it, whatever the peer says."""
        if not left:
            return
        log.info("calls_left_open", calls=len(left))
        gate = asyncio.Semaphore(BYES_AT_ONCE)
        try:
            async with asyncio.timeout(BYES_TOTAL_S):
                await asyncio.gather(*(self._end_one(call, gate) for call in left))
        except TimeoutError:
            log.warning("calls_left_unanswered")
            self._ended.update(call.call_id for call in left)
            self._write_soon()

    async def stop(self) -> None:
        """Wait for the last row."""
        while self._writing is not None:
            await asyncio.wait((self._writing,))

    async def _end_one(self, call: OpenCall, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await self._endpoint.request(
                    "BYE",
                    to_id=call.to_id,
                    remote=Remote(call.host, call.port, transport_of(call.transport)),
                    from_id=call.from_id,
                    request_uri=call.target,
                    call_id=call.call_id,
                    cseq=call.cseq,
                    from_tag=call.from_tag,
                    to_tag=call.to_tag,
                    timeout_s=BYE_WAIT_S,
                )
            except TongshiError as error:
                log.info("call_left_unanswered", peer_id=call.to_id, error=error.message)
            self._ended.add(call.call_id)
            self._write_soon()

    def _forget(self, call_id: str) -> None:
        if call_id not in self._running:
            return
        self._running.discard(call_id)
        self._opened.pop(call_id, None)
        self._ended.add(call_id)
        self._write_soon()

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._opened or self._ended:
                opened, ended, written = list(self._opened.values()), list(self._ended), self._written
                self._opened.clear()
                self._ended.clear()
                self._written = asyncio.Event()  # whoever comes now waits for the next transaction
                try:
                    await self._record.note_calls(opened, ended)
                except TongshiError as error:
                    # A picture is worth more than its row; a row too many costs one BYE at the next start.
                    log.warning("calls_not_recorded", opened=len(opened), error=error.message)
                written.set()
        except Exception:
            log.exception("calls_not_recorded")
        finally:
            self._writing = None
