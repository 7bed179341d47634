"""Media nodes: place before load, refusals passed over, drained without cutting, lost with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tongshi._media import Engine
from tongshi.clock import ManualClock
from tongshi.errors import NotFound, PeerTimeout, Unavailable
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.own import OwnNode
from tongshi.gateways.media.nodes.pool import LOOKS_TO_LOSE, MediaNodes, Seat
from tongshi.resources.viewing.media_ports import Ingest
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.nodes import NodeState

AT = ManualClock().at()
HUANGPU, PUDONG = "31010100001320000001", "31011500001320000001"


class Node(OwnNode):
    """A node over a real engine that a test can make silent or unwilling."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        super().__init__(engine, name)
        self.load, self.is_silent, self.is_unwilling = 0.0, False, False
        self.lost = 0

    async def open(self, stream: str, transport: Transport, *, is_local: bool = False) -> Ingest:
        if self.is_unwilling:
            raise Unavailable("端口已用完")
        return await super().open(stream, transport)

    async def look(self) -> float:
        if self.is_silent:
            raise PeerTimeout("没有应答")
        return self.load

    def lose(self) -> None:
        self.lost += 1


class World:
    """Two nodes: ``one`` stands near Huangpu, ``two`` is anywhere."""

    def __init__(self) -> None:
        self.engines = [AsyncEngine(Engine(), "127.0.0.1") for _ in range(2)]
        self.one, self.two = (
            Node(engine, name) for engine, name in zip(self.engines, ("one", "two"), strict=True)
        )
        seats = [Seat(self.one, ("310101",), capacity=2), Seat(self.two, capacity=3)]
        self.nodes = MediaNodes(seats, ManualClock())

    async def opened(self, stream: str, device_id: str = HUANGPU) -> str:
        """Open a stream; the name of the node that took it."""
        before = self.one.open_streams
        await self.nodes.open(stream, Transport.UDP, device_id)
        return "one" if self.one.open_streams > before else "two"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    for engine in made.engines:
        engine.start()
    yield made
    for engine in made.engines:
        await engine.stop()


async def test_the_nearest_node_is_taken_until_it_is_full(world: World) -> None:
    assert [await world.opened(f"s{i}") for i in range(3)] == ["one", "one", "two"]


async def test_a_device_of_elsewhere_goes_to_the_node_without_a_place(world: World) -> None:
    assert await world.opened("s", PUDONG) == "two"


async def test_a_node_of_another_place_is_better_than_none(world: World) -> None:
    world.two.is_unwilling = True
    assert await world.opened("s", PUDONG) == "one"
    (_, two) = world.nodes.views()
    assert two.trouble == "端口已用完"


async def test_among_equals_the_least_loaded_is_taken() -> None:
    engines = [AsyncEngine(Engine(), "127.0.0.1") for _ in range(2)]
    busy, idle = Node(engines[0], "busy"), Node(engines[1], "idle")
    busy.load = 0.8
    nodes = MediaNodes([Seat(busy), Seat(idle)], ManualClock())
    await nodes.look_at_all()
    for engine in engines:
        engine.start()
    await nodes.open("s", Transport.UDP, HUANGPU)
    assert (busy.open_streams, idle.open_streams) == (0, 1)
    for engine in engines:
        await engine.stop()


async def test_draining_keeps_what_runs_and_is_done_when_it_has_ended(world: World) -> None:
    ingest = await world.nodes.open("kept", Transport.UDP, HUANGPU)
    assert world.nodes.drain("one", AT).state is NodeState.DRAINING
    assert await world.opened("new") == "two"
    assert not ingest.ended.is_set()
    await ingest.close()
    assert world.nodes.views()[0].state is NodeState.DRAINED
    assert world.nodes.resume("one", AT).state is NodeState.ACTIVE
    assert await world.opened("again") == "one"


async def test_a_silent_node_is_lost_after_two_looks_and_taken_back_when_it_answers(world: World) -> None:
    world.one.is_silent = True
    for _ in range(LOOKS_TO_LOSE - 1):
        await world.nodes.look_at_all()
    assert (world.nodes.views()[0].state, world.one.lost) == (NodeState.ACTIVE, 0)
    for _ in range(3):
        await world.nodes.look_at_all()
    assert (world.nodes.views()[0].state, world.one.lost) == (NodeState.LOST, 1)
    assert world.nodes.views()[0].trouble == "没有应答"
    assert await world.opened("s") == "two"
    world.one.is_silent = False
    await world.nodes.look_at_all()
    assert world.nodes.views()[0].state is NodeState.ACTIVE


async def test_a_look_that_was_missed_is_no_trouble_any_more_when_the_next_is_answered(world: World) -> None:
    world.one.is_silent = True
    await world.nodes.look_at_all()
    assert world.nodes.views()[0].trouble == "没有应答"
    world.one.is_silent = False
    await world.nodes.look_at_all()
    assert (world.nodes.views()[0].state, world.nodes.views()[0].trouble) == (NodeState.ACTIVE, "")


async def test_when_no_node_takes_it_each_says_why(world: World) -> None:
    world.nodes.drain("one", AT)
    world.two.is_unwilling = True
    with pytest.raises(Unavailable) as caught:
        await world.nodes.open("s", Transport.UDP, HUANGPU)
    assert caught.value.code == 50302
    assert caught.value.message == "媒体资源不足：one 已停止分配；two 端口已用完"


async def test_an_unknown_node_cannot_be_drained(world: World) -> None:
    with pytest.raises(NotFound):
        world.nodes.drain("three", AT)
