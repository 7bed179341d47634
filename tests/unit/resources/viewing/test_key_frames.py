"""One command for a key frame, whoever wants it, and a note of what became of it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import PeerTimeout, TongshiError
from tongshi.ids import DeviceId
from tongshi.resources.viewing.key_frames import EVERY_S, KeyFrames
from tongshi.resources.viewing.ports import NoTimeline, Signalling

CODE, OTHER = DeviceId("31010100001320000001"), DeviceId("31010100001320000002")


class Far:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: TongshiError | None = None

    async def ask_key_frame(self, device_id: DeviceId) -> None:
        self.asked.append(device_id)
        if self.error is not None:
            raise self.error


class Notes(NoTimeline):
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def note(self, trace_id: str, step: str, text: str = "", /, *, is_trouble: bool = False) -> None:
        self.said.append((trace_id, step, text, is_trouble))


class World:
    def __init__(self) -> None:
        self.far, self.clock, self.notes = Far(), ManualClock(), Notes()
        self.key_frames = KeyFrames(cast(Signalling, self.far), self.clock, self.notes)

    async def settle(self) -> None:
        while tasks := self.key_frames._tasks:
            await asyncio.gather(*tasks)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_device_is_asked_once_in_a_while_however_many_want_it(world: World) -> None:
    for _ in range(100):
        world.key_frames.want(CODE, "t", "asked")
        await world.key_frames.relay(CODE, ("u",))
    world.key_frames.want(OTHER, "v", "dark")
    await world.settle()
    assert sorted(world.far.asked) == [CODE, OTHER]
    assert [note[0] for note in world.notes.said] == ["t", "v"]
    world.clock.advance(EVERY_S - 0.01)
    await world.key_frames.relay(CODE, ())
    assert len(world.far.asked) == 2
    world.clock.advance(0.01)
    await world.key_frames.relay(CODE, ("t", "u"))
    assert world.far.asked[2:] == [CODE]
    assert [note[0] for note in world.notes.said[2:]] == ["t", "u"]
    assert list(world.key_frames._asked) == [CODE], "who was asked long ago is forgotten"


async def test_a_device_that_refuses_is_noted_told_above_and_not_pressed(world: World) -> None:
    world.far.error = PeerTimeout("没有应答", code=50401)
    world.key_frames.want(CODE, "t", "first")
    world.key_frames.want(CODE, "t", "first")
    await world.settle()
    assert len(world.far.asked) == 1
    ((trace_id, step, text, is_trouble),) = world.notes.said
    assert (trace_id, step, is_trouble) == ("t", "keyFrameAsked", True)
    assert "没有应答（50401）" in text
    world.clock.advance(EVERY_S)
    with pytest.raises(PeerTimeout):
        await world.key_frames.relay(CODE, ("t",))
    assert world.notes.said[-1][3]


async def test_stopping_leaves_nothing_that_waits(world: World) -> None:
    async def never(device_id: DeviceId) -> None:
        await asyncio.Event().wait()

    world.far.ask_key_frame = never  # type: ignore[method-assign]
    world.key_frames.want(CODE, "t", "asked")
    await asyncio.sleep(0)
    await world.key_frames.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
