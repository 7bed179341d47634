"""A UDP link with bad weather: it loses, delays, reorders, doubles and spoils datagrams, by a seed."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

MAX_FLOWS = 64  # distinct clients; datagrams of further ones are dropped
MAX_IN_FLIGHT = 10_000  # delayed datagrams held back at once
RECEIVE_BYTES = 4 << 20  # wanted; the system may give less

Address = tuple[str, int]
_Send = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Weather:
    """Shares are 0 to 1 of all datagrams. A reordered one is held back ``reorder_ms`` beyond its delay."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 20.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0


@dataclass(slots=True)
class Toll:
    """What the weather did so far."""

    passed: int = 0
    lost: int = 0
    doubled: int = 0
    spoiled: int = 0
    delayed: int = 0


class LossyLink:
    """Listens on ``port`` and passes to ``target``; answers go back to whoever sent.

    Args:
        target: numeric address and port. weather: may be replaced while running. rng: decides everything.
    """

    def __init__(
        self, target: Address, weather: Weather, rng: random.Random, host: str = "127.0.0.1"
    ) -> None:
        self.weather, self.toll, self.port = weather, Toll(), 0
        self._target, self._rng, self._host = target, rng, host
        self._flows: dict[Address, _Flow] = {}
        self._front: asyncio.DatagramTransport | None = None
        self._held: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        """Bind. Raises OSError."""
        loop = asyncio.get_running_loop()
        front, _ = await loop.create_datagram_endpoint(lambda: _Front(self), local_addr=(self._host, 0))
        self._front, self.port = front, front.get_extra_info("sockname")[1]
        # A burst is to be lost by the weather and not by the default buffer.
        front.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)

    async def stop(self) -> None:
        """Close every socket and forget what was held back."""
        for handle in self._held:
            handle.cancel()
        self._held.clear()
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        if self._front is not None:
            self._front.close()
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    def arrived(self, data: bytes, client: Address) -> None:
        """A datagram of a client."""
        flow = self._flows.get(client)
        if flow is None:
            if len(self._flows) >= MAX_FLOWS:
                return
            flow = self._flows[client] = _Flow(self, client)
            flow.opening = asyncio.ensure_future(flow.open(self._target, self._host))
        self._cross(data, flow.send)

    def answered(self, data: bytes, client: Address) -> None:
        """A datagram of the target for a client."""
        if self._front is not None and not self._front.is_closing():
            front = self._front
            self._cross(data, lambda part: front.sendto(part, client))

    def _cross(self, data: bytes, send: _Send) -> None:
        weather, rng, toll = self.weather, self._rng, self.toll
        if rng.random() < weather.loss:
            toll.lost += 1
            return
        if data and rng.random() < weather.corrupt:
            place = rng.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :]
            toll.spoiled += 1
        copies = 1
        if rng.random() < weather.duplicate:
            copies, toll.doubled = 2, toll.doubled + 1
        for _ in range(copies):
            self._pass(data, send)

    def _pass(self, data: bytes, send: _Send) -> None:
        delay_ms = self.weather.delay_ms + self._rng.uniform(0.0, self.weather.jitter_ms)
        if self._rng.random() < self.weather.reorder:
            delay_ms += self.weather.reorder_ms
        self.toll.passed += 1
        if delay_ms <= 0:
            send(data)
        elif len(self._held) < MAX_IN_FLIGHT:
            self.toll.delayed += 1
            self._hold(delay_ms / 1000, data, send)

    def _hold(self, delay_s: float, data: bytes, send: _Send) -> None:
        def release() -> None:
            self._held.discard(handle)
            send(data)

        handle: asyncio.TimerHandle = asyncio.get_running_loop().call_later(delay_s, release)
        self._held.add(handle)


class _Front(asyncio.DatagramProtocol):
    def __init__(self, link: LossyLink) -> None:
        self._link = link

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._link.arrived(data, addr)


class _Flow(asyncio.DatagramProtocol):
    """One client's own socket towards the target; at most 100 datagrams wait for it to open."""

    def __init__(self, link: LossyLink, client: Address) -> None:
        self._link, self._client = link, client
        self._transport: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []
        self._is_closed = False
        self.opening: asyncio.Future[None] | None = None

    async def open(self, target: Address, host: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0), remote_addr=target)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        if self._is_closed:
            self._transport.close()
        for data in self._early:
            self._transport.sendto(data)
        self._early.clear()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._link.answered(data, self._client)

    def send(self, data: bytes) -> None:
        if self._transport is None:
            if len(self._early) < 100:
                self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.sendto(data)

    def close(self) -> None:
        self._is_closed = True
        if self.opening is not None:
            self.opening.cancel()
        if self._transport is not None:
            self._transport.close()
