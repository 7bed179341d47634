"""Admission of a whole gateway: the parts joined, kept in the record, told to the metrics and to people.

Implements: GB/T 28181-2022 8.1
What is new is written once a second at most, many at once: a flood makes no flood of writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.admission.bans import Bans
from tongshi.gateways.signalling.admission.bindings import Binding, Bindings
from tongshi.gateways.signalling.admission.door import Door, Limits, Verdict
from tongshi.gateways.signalling.admission.fingerprints import Fingerprints, Policy
from tongshi.gateways.signalling.admission.judgement import Admission
from tongshi.gateways.signalling.admission.strangers import Strangers
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import Admissions
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.sip.message import Remote, Request
from tongshi.resources.admission.model import Ban, BanReason, Fingerprint, Stranger

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 1.0
MAX_UNWRITTEN_BANS = 1_000
MAX_ASKED_AT_ONCE = 16
MAX_WAITING = 20_000


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """How strangers are met and devices recognised."""

    limits: Limits = field(default_factory=Limits)
    bindings: tuple[Binding, ...] = ()
    fingerprints: Policy = Policy.OFF


class AdmissionDesk:
    """Fulfils ``resources.admission.service.Gatekeeper``; what the gateway asks is its parts.

    Args:
        is_home, lives_at, challenge: see ``door``.
        ask: ask a registered peer who made it.
        end: end a registration, with the reason.
        shut_out: hear nothing of these hosts any more.
    """

    def __init__(
        self,
        config: AdmissionConfig,
        record: Admissions,
        clock: Clock,
        *,
        is_home: Callable[[str], bool],
        lives_at: Callable[[str, Remote], bool],
        challenge: Callable[[Request, Remote], Verdict | None],
        ask: Callable[[Peer], Awaitable[DeviceInfoResponse]],
        end: Callable[[str, str], None],
        shut_out: Callable[[Iterable[str]], None],
    ) -> None:
        self._config = config
        self._record = record
        self._clock = clock
        self._ask = ask
        self._shut_out = shut_out
        self._shut: frozenset[str] = frozenset()
        self._unwritten_bans: list[Ban] = []
        self._unwritten: dict[str, Fingerprint] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_ASKED_AT_ONCE)
        self._writing: asyncio.Task[None] | None = None
        self.stranger_table = Strangers(clock)
        self.ban_table = Bans(self._banned)
        self._fingerprints = Fingerprints(
            config.fingerprints,
            clock,
            on_change=self._changed,
            on_block=lambda code: end(code, "fingerprintChanged"),
        )
        self.door = Door(
            config.limits,
            self.ban_table,
            self.stranger_table,
            clock,
            is_home=is_home,
            lives_at=lives_at,
            challenge=challenge,
        )
        self.judge = Admission(self.door, Bindings(config.bindings), self._fingerprints)

    async def restore(self) -> None:
        """Take up what was in force before a restart."""
        bans, fingerprints = await self._record.admissions(self._clock.at())
        self.ban_table.restore(bans)
        self._fingerprints.restore(fingerprints)

    def start(self) -> None:
        """Begin to write what is new; the sockets are open."""
        self._close_to_floods()
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def stop(self) -> None:
        """Write what is left and end."""
        tasks = [*self._asking, *((self._writing,) if self._writing is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._writing is not None:
            await self._flush()

    def identify(self, peer: Peer) -> None:
        """Ask a peer that registered who made it, in the background."""
        if self._config.fingerprints is Policy.OFF or len(self._asking) >= MAX_WAITING:
            return
        task = asyncio.get_running_loop().create_task(self._identify(peer))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def catalogued(self, peer: Peer, items: Sequence[CatalogItem]) -> None:
        """A part of a peer's catalogue came: its own entry may tell its hardware address."""
        for item in items:
            if item.device_id == peer.id and item.mac:
                self.judge.told(peer.id, {"mac": item.mac})

    # For people.

    def bans(self) -> Sequence[Ban]:
        return self.ban_table.running(self._clock.at())

    def strangers(self) -> Sequence[Stranger]:
        return self.stranger_table.latest()

    def lift(self, subject: str) -> None:
        self.ban_table.lift(subject)
        self.stranger_table.forget(subject)
        self._close_to_floods()

    def confirmed(self, fingerprint: Fingerprint) -> None:
        self._unwritten.pop(fingerprint.code, None)
        self._fingerprints.confirmed(fingerprint)

    # Private.

    def _banned(self, ban: Ban) -> None:
        log.warning("source_banned", subject=ban.subject, reason=ban.reason.value, level=ban.level)
        if len(self._unwritten_bans) < MAX_UNWRITTEN_BANS:
            self._unwritten_bans.append(ban)
        if ban.reason is BanReason.FLOOD:
            self._close_to_floods()

    def _changed(self, fingerprint: Fingerprint) -> None:
        self._unwritten[fingerprint.code] = fingerprint

    async def _identify(self, peer: Peer) -> None:
        async with self._slots:
            try:
                told = await self._ask(peer)
            except TongshiError:
                return  # it does not say; that is no change
        self.judge.told(
            peer.id,
            {"manufacturer": told.manufacturer, "model": told.model, "firmware": told.firmware},
        )

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            self._close_to_floods()
            await self._flush()

    def _close_to_floods(self) -> None:
        """Who floods is not heard until the ban ends; who merely guesses is still told that it is refused."""
        shut = frozenset(ban.subject for ban in self.bans() if ban.reason is BanReason.FLOOD)
        if shut != self._shut:
            self._shut = shut
            self._shut_out(shut)

    async def _flush(self) -> None:
        bans, self._unwritten_bans = self._unwritten_bans, []
        changed, self._unwritten = self._unwritten, {}
        if not bans and not changed:
            return
        try:
            await self._record.note_admissions(bans, list(changed.values()))
        except TongshiError as error:
            log.warning("admissions_not_written", bans=len(bans), fingerprints=len(changed), error=str(error))
            self._unwritten = {**changed, **self._unwritten}
