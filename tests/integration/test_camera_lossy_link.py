"""The link with bad weather, on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tongshi.testing.lossy import LossyLink, Weather


class Box(asyncio.DatagramProtocol):
    """Keeps what arrives; echoes when told to."""

    def __init__(self, echo: bool = False) -> None:
        self.got: list[bytes] = []
        self._echo = echo
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.append(data)
        if self._echo and self._transport:
            self._transport.sendto(data, addr)

    @property
    def port(self) -> int:
        assert self._transport
        return int(self._transport.get_extra_info("sockname")[1])

    def send(self, data: bytes) -> None:
        assert self._transport
        self._transport.sendto(data)

    def close(self) -> None:
        assert self._transport
        self._transport.close()


class Road:
    """client -> link -> echo."""

    def __init__(self, weather: Weather) -> None:
        self.weather, self.client, self.echo = weather, Box(), Box(echo=True)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self.echo, local_addr=("127.0.0.1", 0))
        self.link = LossyLink(("127.0.0.1", self.echo.port), self.weather, random.Random(7))
        await self.link.start()
        await loop.create_datagram_endpoint(lambda: self.client, remote_addr=("127.0.0.1", self.link.port))

    async def send(self, count: int) -> None:
        for number in range(count):
            self.client.send(number.to_bytes(4, "big"))
            await asyncio.sleep(0)
        await self.until_quiet()

    async def until_quiet(self) -> None:
        """Wait, at most two seconds, until nothing arrived for 60 ms."""
        seen = -1
        for _ in range(30):
            if seen == (seen := len(self.echo.got) + len(self.client.got)):
                return
            await asyncio.sleep(0.06)


@pytest.fixture
async def roads() -> AsyncIterator[list[Road]]:
    opened: list[Road] = []
    yield opened
    for road in opened:
        await road.link.stop()
        road.client.close()
        road.echo.close()


async def go(roads: list[Road], weather: Weather, count: int) -> Road:
    road = Road(weather)
    await road.open()
    roads.append(road)
    await road.send(count)
    return road


async def test_fine_weather_passes_everything_in_order_both_ways(roads: list[Road]) -> None:
    road = await go(roads, Weather(), 50)
    sent = [number.to_bytes(4, "big") for number in range(50)]
    assert road.echo.got == sent
    assert road.client.got == sent


async def test_loss_loses_its_share(roads: list[Road]) -> None:
    road = await go(roads, Weather(loss=0.3), 400)
    assert 200 < len(road.echo.got) < 360
    assert road.link.toll.lost > 0


async def test_doubling_reordering_and_spoiling_happen(roads: list[Road]) -> None:
    road = await go(roads, Weather(duplicate=0.2, reorder=0.2, corrupt=0.1, reorder_ms=10.0), 200)
    assert len(road.echo.got) > 200
    assert road.echo.got != sorted(road.echo.got)
    assert road.link.toll.spoiled > 0
    assert any(data not in {n.to_bytes(4, "big") for n in range(200)} for data in road.echo.got)


async def test_stopping_with_datagrams_held_back_delivers_none_of_them(roads: list[Road]) -> None:
    road = await go(roads, Weather(delay_ms=60_000.0), 10)
    assert road.link.toll.delayed == 10
    assert road.echo.got == []
