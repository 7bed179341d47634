"""A device's recording, one picture at a time: over real sockets, as a viewer sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from tongshi.clock import BEIJING
from tongshi.errors import Unavailable
from tongshi.ids import DeviceId
from tongshi.resources.viewing.history import Action, HistoryOpening, PlayState, Steering
from tongshi.resources.viewing.model import EndReason, Transport
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.stream import FRAME_S

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"
START = datetime(2026, 5, 19, 22, 0, tzinfo=BEIJING)
MINUTE = Recorded(START, START + timedelta(minutes=1))
VIDEO, PICTURE = 9, 1

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


class Screen:
    """Reads HTTP-FLV; ``shown`` are the times of its pictures in milliseconds."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    async def read(self, reader: asyncio.StreamReader) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(9 + 4)
        while True:
            head = await reader.readexactly(11)
            body = await reader.readexactly(int.from_bytes(head[1:4]) + 4)
            if head[0] == VIDEO and body[1] == PICTURE:
                self.shown.append(int.from_bytes(head[7:8] + head[4:7]))


@asynccontextmanager
async def screen(opening: HistoryOpening) -> AsyncIterator[Screen]:
    url = urlsplit(opening.opening.urls[0][1])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
    made = Screen()
    reading = asyncio.create_task(made.read(reader))
    yield made
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    writer.close()


async def recorder(neighbourhood: Neighbourhood) -> tuple[SmallPlatform, Any]:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", recorded=(MINUTE,))
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return platform, camera


async def opened(
    platform: SmallPlatform, seconds: float = 60, transport: Transport = Transport.UDP
) -> HistoryOpening:
    window = Window(MINUTE.end - timedelta(seconds=seconds), MINUTE.end)
    wish = Wish(DeviceId(CODE), expire_s=10, window=window, transport=transport)
    return await platform.history.watch(platform.viewer, wish, RecordLocation.AUTO)


async def steer(platform: SmallPlatform, opening: HistoryOpening, action: Action, **how: Any) -> PlayState:
    session = opening.opening.view.session_id
    return await platform.history.steer(platform.viewer, session, Steering(action, **how))


def gaps_s(shown: list[int]) -> list[float]:
    return [(after - before) / 1000 for before, after in pairwise(shown)]


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE])
async def test_each_step_shows_one_picture_and_nothing_is_left_out_on_the_way(
    neighbourhood: Neighbourhood, transport: Transport
) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, transport=transport)
    async with screen(opening) as seen:
        await neighbourhood.until(lambda: len(seen.shown) >= 3)
        states = [await steer(platform, opening, Action.STEP) for _ in range(12)]
        assert {state.state for state in states} == {"paused"}
        positions = [state.position_s for state in states]
        assert [after - before for before, after in pairwise(positions)] == pytest.approx(
            [FRAME_S] * 11, abs=0.01
        )
        # The sender stands: what was shown by now is all there is, and the last steps were a picture each.
        (call,) = camera.calls._active
        assert call.stream._is_paused
        tail = list(seen.shown)
        assert gaps_s(tail) == pytest.approx([FRAME_S] * (len(tail) - 1), abs=0.01)
        await steer(platform, opening, Action.STEP)
        await neighbourhood.until(lambda: len(seen.shown) > len(tail))
        before = len(seen.shown)
        state = await steer(platform, opening, Action.RESUME)
        assert (state.state, state.scale) == ("playing", 1.0)
        await neighbourhood.until(lambda: len(seen.shown) > before + 12)
        # From the first picture to the last: none twice, none missing.
        assert gaps_s(seen.shown) == pytest.approx([FRAME_S] * (len(seen.shown) - 1), abs=0.01)


async def test_who_steps_does_not_disturb_another_viewer_of_the_recording(
    neighbourhood: Neighbourhood,
) -> None:
    platform, _ = await recorder(neighbourhood)
    one, other = await opened(platform), await opened(platform)
    async with screen(one) as stepped, screen(other) as playing:
        await neighbourhood.until(lambda: bool(stepped.shown) and bool(playing.shown))
        await steer(platform, one, Action.STEP)
        count = len(playing.shown)
        await neighbourhood.until(lambda: len(playing.shown) > count + 6)
        session = other.opening.view.session_id
        assert platform.history.state(platform.viewer, session).state == "playing"
        stood = len(stepped.shown)
        await steer(platform, one, Action.STEP)
        await neighbourhood.until(lambda: len(stepped.shown) > stood)


async def test_a_step_out_of_fast_play_goes_on_from_there_at_speed_one(neighbourhood: Neighbourhood) -> None:
    platform, _ = await recorder(neighbourhood)
    opening = await opened(platform)
    async with screen(opening) as seen:
        await neighbourhood.until(lambda: bool(seen.shown))
        fast = await steer(platform, opening, Action.PLAY, position_s=20.0, scale=4.0)
        stood = await steer(platform, opening, Action.STEP)
        assert (stood.state, stood.scale) == ("paused", 1.0)
        assert fast.position_s <= stood.position_s < fast.position_s + 8
        count = len(seen.shown)
        again = await steer(platform, opening, Action.STEP)
        assert again.position_s - stood.position_s == pytest.approx(FRAME_S, abs=0.01)
        await neighbourhood.until(lambda: len(seen.shown) > count)


async def test_the_last_pictures_are_stepped_through_before_the_recording_ends(
    neighbourhood: Neighbourhood,
) -> None:
    platform, _ = await recorder(neighbourhood)
    opening = await opened(platform, seconds=2)
    async with screen(opening) as seen:
        await neighbourhood.until(lambda: bool(seen.shown))
        with pytest.raises(Unavailable):
            for _ in range(60):
                state = await steer(platform, opening, Action.STEP)
        assert state.position_s == pytest.approx(2.0, abs=0.35)
        await steer(platform, opening, Action.RESUME)
        await neighbourhood.until(lambda: not len(platform.viewing.streams))
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED
