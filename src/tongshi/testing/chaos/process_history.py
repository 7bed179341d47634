"""One random history of two platforms in processes of their own, with sockets between them and real faults.

The storm is that of ``history.py``, in real time: SIGKILL at any moment, a database that is stopped or held,
a full disk, a stepped clock, and a network that does what networks do. The seed gives the plan of faults and
of changes; when they meet is the machine's to decide, so that a replay is alike and not the same.

A change is the owner's once its platform said so; one that a death left in doubt is made again, as a person
would. The oracle is told of it after that.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from os import kill

from sqlalchemy import Connection

from tongshi.errors import Conflict
from tongshi.exchange import store
from tongshi.exchange.model import Equality, Peer
from tongshi.exchange.signing import Signer
from tongshi.ids import PlatformId
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.storage import changes
from tongshi.testing.chaos.history import CALM_STEP_S, CITY, DISTRICT
from tongshi.testing.chaos.journal import Journal
from tongshi.testing.chaos.oracle import Oracle, missing_devices
from tongshi.testing.chaos.process_node import PATIENCE_S, ProcessNode
from tongshi.testing.chaos.proxy import Proxy
from tongshi.testing.postgres import PostgresFailed, PrivatePostgres

_SECRET = "chaos" * 8
HOUR_S = 3600.0
_CALM_ROUNDS = 20
_QUIET_WITHIN_S = 4.0
# Past this, SQLite's writer stops waiting for the lock and says that the database is away.
_LONG_HOLD_S = 5.5
_Fault = tuple[str, Callable[[ProcessNode, random.Random], Awaitable[None]]]


class ProcessHistory:
    """Over two nodes that are open; ``run`` it once."""

    def __init__(self, nodes: list[ProcessNode], rng: random.Random, server: PrivatePostgres | None) -> None:
        self._district, self._city = nodes
        self._server = server
        self._began_now = time.monotonic()
        self._rng = rng
        self.journal = Journal(lambda: time.monotonic() - self._began_now)
        self._oracle = Oracle(nodes, self._own_rng(), self.journal)
        signer = Signer(f"key-{DISTRICT}", _SECRET, CITY, self._district.clock)
        self._proxy = Proxy(self._district, self._city, signer, self._own_rng(), self.journal)
        self._is_storm = True
        # One hand at the database's switch at a time.
        self._operator = asyncio.Lock()

    async def run(self) -> None:
        """Storm, calm, verdict. Raises Broken."""
        await self._proxy.start()
        try:
            await self._city.ask("admit", DISTRICT, Relation.LOWER, _SECRET)
            upper = Platform(
                PlatformId(CITY),
                CITY[:6],
                Relation.UPPER,
                rest_url=self._proxy.url,
                rest_key=f"key-{DISTRICT}",
                rest_secret=_SECRET,
            )
            await self._district.ask("platforms.put", upper)
            strikes = [self._strikes(node, self._own_rng()) for node in (self._district, self._city)]
            async with asyncio.TaskGroup() as group:
                for strike in strikes:
                    group.create_task(strike)
                group.create_task(self._changes())
            await self._after_the_storm()
        finally:
            await self._proxy.stop()

    def _own_rng(self) -> random.Random:
        # Tasks that draw from one source would depend on who comes first.
        return random.Random(self._rng.random())  # a history, not a secret

    async def _changes(self) -> None:
        await self._oracle.add(self._district, self._rng.choice((0, 100, 1_000)))
        for _ in range(self._rng.randint(5, 9)):
            self._proxy.odds = self._rng.choice((0.0, 0.1, 0.4))
            for _ in range(self._rng.randint(1, 3)):
                await self._oracle.operate(self._district)
            # Else it would rest for longer and longer after each failure.
            await self._district.ask("worker.take_up", CITY)
            await asyncio.sleep(self._rng.uniform(0.1, 0.8))
            if self._rng.random() < 0.1:
                self.journal.note("feed compacted", DISTRICT)
                await self._district.db.write(changes.compact, self._district.clock.at())
            await self._confirm(self._rng.random() < 0.5)
            self._oracle.check_missing(CITY, await self._city.db.read(missing_devices))
        self._is_storm = False

    async def _confirm(self, does: bool) -> None:
        """A person at the city allows what waits to vanish."""
        peer: Peer = await self._city.db.read(store.get_peer, DISTRICT, store.IN)
        if peer.waiting and does:
            self.journal.note("person confirmed", CITY)
            with suppress(Conflict):
                await self._city.ask("exchange.confirm_vanishing", DISTRICT)

    async def _strikes(self, node: ProcessNode, rng: random.Random) -> None:
        """Faults of one platform, one after the other until the storm is over."""
        faults: list[_Fault] = [
            ("killed", self._kill),
            ("killed", self._kill),
            ("killed", self._kill),
            ("disk full", self._fill_disk),
            ("clock back an hour", self._clock_back),
            ("clock ahead an hour", self._clock_ahead),
            *self._database_faults(),
        ]
        while self._is_storm:
            await asyncio.sleep(rng.uniform(0.05, 1.5))
            what, strike = rng.choice(faults)
            self.journal.note(what, node.id)
            await strike(node, rng)

    def _database_faults(
        self,
    ) -> list[_Fault]:
        if self._server is None:
            return [("database held", self._hold_database)]
        return [("database stopped", self._stop_database), ("database frozen", self._freeze_database)]

    async def _kill(self, node: ProcessNode, rng: random.Random) -> None:
        await node.kill()
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        await node.open()
        self.journal.note("started again", node.id)

    async def _fill_disk(self, node: ProcessNode, rng: random.Random) -> None:
        await asyncio.to_thread(node.limit_disk, is_full=True)
        await asyncio.sleep(rng.uniform(0.1, 0.6))
        await asyncio.to_thread(node.limit_disk, is_full=False)
        if self._server is not None:
            # PostgreSQL gives up when it cannot write its log; its operator makes room and starts it.
            async with self._operator:
                await self._start_database()

    async def _clock_back(self, node: ProcessNode, rng: random.Random) -> None:
        await self._step(node, -HOUR_S, rng)

    async def _clock_ahead(self, node: ProcessNode, rng: random.Random) -> None:
        await self._step(node, HOUR_S, rng)

    async def _step(self, node: ProcessNode, offset_s: float, rng: random.Random) -> None:
        await node.step_clock(offset_s)
        await asyncio.sleep(rng.uniform(0.1, 1.0))
        await node.step_clock(0.0)

    async def _hold_database(self, node: ProcessNode, rng: random.Random) -> None:
        await node.hold_database(_LONG_HOLD_S if rng.random() < 0.1 else rng.uniform(0.05, 0.8))

    async def _stop_database(self, _: ProcessNode, rng: random.Random) -> None:
        assert self._server is not None
        async with self._operator:
            await asyncio.to_thread(self._server.stop)
            await asyncio.sleep(rng.uniform(0.1, 0.8))
            await self._start_database()

    async def _freeze_database(self, _: ProcessNode, rng: random.Random) -> None:
        assert self._server is not None
        frozen = self._server.pids()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in frozen:
                with suppress(ProcessLookupError):
                    kill(pid, number)
            if number is signal.SIGSTOP:
                await asyncio.sleep(rng.uniform(0.1, 0.8))

    async def _start_database(self) -> None:
        """Start it unless it runs; again when something of the one before is still in the way."""
        assert self._server is not None
        ends_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                await asyncio.to_thread(self._server.start)
                return
            except PostgresFailed:
                if time.monotonic() > ends_at:
                    raise
                await asyncio.sleep(0.2)

    async def _after_the_storm(self) -> None:
        """Calm, until both hold the same; a person presses the button now and then, and time passes."""
        self._proxy.heal()
        for calm in range(_CALM_ROUNDS):
            for node in (self._district, self._city):
                await node.step_clock(calm * CALM_STEP_S)
            await self._district.ask("worker.take_up", CITY)
            ends_at = time.monotonic() + _QUIET_WITHIN_S
            while time.monotonic() < ends_at:
                await self._confirm(does=True)
                if await self._is_told() and not await self._oracle.differences():
                    return
                await asyncio.sleep(0.1)
        self._oracle.give_up(await self._oracle.differences())

    async def _is_told(self) -> bool:
        peer, is_news = await self._district.db.read(_peer_and_news)
        return not is_news and peer.equality is Equality.EQUAL and not peer.waiting


def _peer_and_news(conn: Connection) -> tuple[Peer, bool]:
    peer = store.get_peer(conn, CITY, store.OUT)
    return peer, changes.head(conn) > peer.position
