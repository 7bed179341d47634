"""The platform that ``tongshi bench sip`` measures: signalling and its record in a process of its own.

It answers one word over its pipe, ``figures``, and ends when the pipe is closed.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

HOST = "127.0.0.1"
PLATFORM = "31010100002000000001"
REALM = PLATFORM[:10]
SECRET = "bench-secret"  # noqa: S105  # of a platform that lives for seconds
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What the platform is told at its start. Uppers are (code, port)."""

    lowers: tuple[str, ...] = ()
    uppers: tuple[tuple[str, int], ...] = ()
    idle_s: float = 15.0
    retries: int = 2
    trace_bytes: int = 32 << 20


@dataclass(frozen=True, slots=True)
class Running:
    """A server in its own process."""

    pid: int
    port: int
    pipe: Connection = field(repr=False)

    def figures(self) -> dict[str, Any]:
        """What the platform says of itself now."""
        self.pipe.send("figures")
        if not self.pipe.poll(START_S):
            raise TimeoutError("the platform does not answer")
        told: dict[str, Any] = self.pipe.recv()
        return told


@contextmanager
def child(target: Callable[..., None], core: int, *words: object) -> Iterator[Running]:
    """Run one server in a process pinned to a core, until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, core, *words), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_S):
            raise TimeoutError("the server did not start")
        assert process.pid is not None  # it has started
        yield Running(process.pid, ours.recv(), ours)
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def platform(pipe: Connection, core: int, folder: str, setup: Setup) -> None:
    """Entry of the process."""
    os.sched_setaffinity(0, {core})
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    import uvloop

    uvloop.run(_serve(pipe, folder, setup))


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_mib(pid: int) -> int:
    """Memory of its own: without the pages of files that it maps."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) // 1024
    return 0


async def _serve(pipe: Connection, folder: str, setup: Setup) -> None:
    from tongshi.clock import SystemClock
    from tongshi.gateways.signalling.catalogues import Patience
    from tongshi.gateways.signalling.config import GatewayConfig
    from tongshi.gateways.signalling.endpoint import Remote
    from tongshi.gateways.signalling.gateway import SignallingGateway
    from tongshi.gateways.signalling.record import RecordedRegistrations
    from tongshi.gateways.signalling.recorded_archive import RecordedArchive
    from tongshi.gateways.signalling.subscriptions.record import RecordedNewsroom
    from tongshi.gateways.signalling.upward import UpperAccount
    from tongshi.ids import PlatformId
    from tongshi.observe import collector
    from tongshi.resources.devices import store as device_store
    from tongshi.resources.devices.service import DeviceArchives
    from tongshi.resources.platforms import store as platform_store
    from tongshi.resources.platforms.model import Platform, Relation
    from tongshi.resources.registrations import store as registration_store
    from tongshi.resources.registrations.model import SipAccount
    from tongshi.resources.trees.service import Trees
    from tongshi.sharing import store as sharing_store
    from tongshi.sharing.decision import Access
    from tongshi.sharing.model import Grant, ScopeKind, SubjectKind
    from tongshi.sharing.permissions import Permission
    from tongshi.storage.engine import Database

    class CountingRecord(RecordedRegistrations):
        """Counts those that were taken for gone."""

        removed = 0

        async def remove(self, peer_id: str, channel_ids: Sequence[str], at: datetime, reason: str) -> None:
            self.removed += 1
            await super().remove(peer_id, channel_ids, at, reason)

    async def no_names() -> dict[str, str]:
        return {}

    clock = SystemClock()
    db = await Database.open(f"sqlite:///{Path(folder) / f'bench-{setup.trace_bytes}.db'}")
    at = clock.at()
    await db.write(registration_store.put_account, SipAccount("domain", REALM, "", SECRET), at)
    for code in setup.lowers:
        row = Platform(PlatformId(code), code, Relation.LOWER, secret=SECRET)
        await db.write(platform_store.put, row, at)
    for code, _ in setup.uppers:
        row = Platform(PlatformId(code), code, Relation.UPPER, secret=SECRET)
        await db.write(platform_store.put, row, at)
        actions = frozenset({Permission.ARCHIVE_READ})
        grant = Grant(f"bench-{code}", SubjectKind.PLATFORM, code, actions, ScopeKind.ALL)
        await db.write(sharing_store.add_grant, grant, at)
    devices = DeviceArchives(db, device_store, clock, PLATFORM)
    config = GatewayConfig(
        PlatformId(PLATFORM),
        "bench",
        "310101",
        HOST,
        0,
        uppers=tuple(
            UpperAccount(code, Remote(HOST, port, "udp"), PLATFORM, SECRET, retry_s=1.0)
            for code, port in setup.uppers
        ),
        patience=Patience(retries=setup.retries, idle_s=setup.idle_s, total_s=900.0, retry_s=1.0),
        trace_bytes=setup.trace_bytes,
    )
    record = CountingRecord(db, clock, PLATFORM)
    trees = Trees(db, clock, devices.get_many, no_names)
    archive = RecordedArchive(devices, Access(db), clock, PLATFORM, trees)
    newsroom = RecordedNewsroom(db, devices, archive, clock, PLATFORM)
    gateway = SignallingGateway(config, record, archive, newsroom, clock)
    await gateway.start()
    collector.settle()
    pipe.send(gateway.port)
    while await asyncio.to_thread(_asked, pipe):
        standings = gateway.catalogues.standings.all()
        pipe.send(
            {
                "peers": len(gateway.peers),
                "removed": record.removed,
                "catalogues": len(standings),
                "complete": sum(one.state == "complete" for one in standings),
                "received": max((one.received for one in standings), default=0),
                "asked": max((one.asked for one in standings), default=0),
                "state": str(standings[0].state) if standings else "",
                "reason": standings[0].reason if standings else "",
                "at": time.time(),
                "memory_mib": memory_mib(os.getpid()),
            }
        )
    await gateway.stop()
    await db.close()


def _asked(pipe: Connection) -> bool:
    """Wait for the next word; False when the other end is closed."""
    try:
        pipe.recv()
    except EOFError:
        return False
    return True
