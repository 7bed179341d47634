"""Recordings for who cannot play what was recorded: coded anew, and steered all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tongshi.clock import BEIJING
from tongshi.errors import PeerFailed, Unavailable
from tongshi.ids import DeviceId
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import Rule, SegmentState
from tongshi.resources.viewing.history import Action, HistoryOpening, Steering
from tongshi.resources.viewing.model import EndReason, Transcoding
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.recordings import Recorded, second_of
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM, CODE = "31010100002000000001", "31010100001320000001"
START = datetime(2026, 5, 19, 22, 0, tzinfo=BEIJING)
WANTED = Transcoding("h264", "aac")
ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


async def recorder(neighbourhood: Neighbourhood, **faults: Any) -> tuple[SmallPlatform, Any]:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    row = CameraPlan(
        id=CODE,
        scene="crossing-day",
        civil_code="310101",
        codec="h265",
        audio=True,
        recorded=(Recorded(at(0), at(60)),),
        faults=Faults(**faults),
    )
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return platform, camera


async def opened(
    platform: SmallPlatform, window: Window, location: RecordLocation = RecordLocation.AUTO
) -> HistoryOpening:
    wish = Wish(DeviceId(CODE), expire_s=30, window=window, transcoding=WANTED)
    opening = await platform.history.watch(platform.viewer, wish, location)
    view = opening.opening.view
    assert view.codec is not None
    assert view.transcoded_from is not None
    assert (view.codec.video, view.transcoded_from.video) == ("h264", "h265")
    return opening


@pytest.mark.parametrize("faults", [{}, {"keeps_stamps": True}])
async def test_pause_step_seek_and_speed_go_through_the_coder(
    neighbourhood: Neighbourhood, faults: dict[str, Any]
) -> None:
    platform, camera = await recorder(neighbourhood, **faults)
    opening = await opened(platform, Window(at(0), at(60)))
    session_id = opening.opening.view.session_id

    async def steer(action: Action, **changes: Any) -> Any:
        return await platform.history.steer(platform.viewer, session_id, Steering(action, **changes))

    assert (await steer(Action.PAUSE)).state == "paused"
    await asyncio.sleep(1.8)  # longer than the platform waits for lost media
    assert platform.viewing.session(platform.viewer, session_id).end_reason is None
    assert (camera.calls.count, platform.transcoders.running) == (1, 1)
    stepped = await steer(Action.STEP)
    assert stepped.state == "paused"
    assert (await steer(Action.STEP)).position_s > stepped.position_s
    assert (await steer(Action.RESUME)).position_s < 10
    assert (await steer(Action.SCALE, scale=4.0)).scale == 4.0
    assert (await steer(Action.SEEK, position_s=1200.0)).position_s == 1200.0
    watched = await watch_http(opening.opening.urls[0][1], frames=90, timeout_s=20)
    assert watched.codec == "h264"
    seconds = [second_of(code.counter, START) for code in watched.codes]
    beyond = [second for second in seconds if second >= at(20)]
    assert beyond == sorted(beyond)
    assert beyond[-1] - beyond[0] >= timedelta(seconds=3)
    assert all(second < at(1) for second in seconds if second < at(20)), "nothing of what was jumped over"
    await neighbourhood.nothing_left(platform)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_a_second_is_refused_at_the_cap_and_leaves_the_device_alone(
    neighbourhood: Neighbourhood,
) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, Window(at(0), at(60)))
    with pytest.raises(Unavailable) as refusal:
        await opened(platform, Window(at(0), at(60)))
    assert (refusal.value.code, refusal.value.details["limit"]) == (50302, 1)
    await neighbourhood.until(lambda: camera.calls.count == 1)
    await platform.history.close(platform.viewer, opening.opening.view.session_id)
    await neighbourhood.nothing_left(platform)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_it_is_shown_to_its_last_picture_and_its_end_is_said(neighbourhood: Neighbourhood) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, Window(at(60) - timedelta(seconds=4), at(60)))
    with pytest.raises(PeerFailed) as over:
        await watch_http(opening.opening.urls[0][1], frames=1_000, timeout_s=20)
    frames = over.value.details["frames"]
    assert isinstance(frames, int)
    assert frames >= 25, "of fifty, those before the viewer came are left out"
    await neighbourhood.nothing_left(platform)
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_our_own_recording_is_coded_anew_and_stepped_through(neighbourhood: Neighbourhood) -> None:
    platform, _ = await recorder(neighbourhood)
    rule = Rule("0" * 16, device_id=CODE, retention_days=1)
    await platform.db.write(store.put_rule, rule, platform.clock.at())
    platform.recorder.changed()
    async with asyncio.timeout(20):
        while True:
            found = await platform.record.segments(CODE, *ALWAYS)
            if sum(one.state is SegmentState.WHOLE for one in found) >= 2:
                break
            await asyncio.sleep(0.05)
    await platform.db.write(store.put_rule, replace(rule, is_enabled=False), platform.clock.at())
    platform.recorder.changed()
    await neighbourhood.until(lambda: not platform.recorder.states() and not len(platform.viewing.streams))
    opening = await opened(platform, Window(found[0].start, found[-1].end), RecordLocation.CENTER)
    assert opening.is_own
    session_id, stream_id = opening.opening.view.session_id, opening.opening.view.stream_id

    async def pictures() -> int:
        stats = await platform.engine.run(platform.engine.native.stats, stream_id)
        return int(stats["frames"])

    async def steer(action: Action) -> Any:
        return await platform.history.steer(platform.viewer, session_id, Steering(action))

    await steer(Action.PAUSE)
    before = await settled(pictures)
    stepped = await steer(Action.STEP)
    assert stepped.state == "paused"
    async with asyncio.timeout(10):
        while await pictures() <= before:  # noqa: ASYNC110  # the engine counts them
            await asyncio.sleep(0.02)
    assert (await steer(Action.STEP)).position_s > stepped.position_s
    await platform.history.close(platform.viewer, session_id)
    await neighbourhood.nothing_left(platform)


async def settled(count: Any) -> int:
    """What a count is when it does not change any more for half a second."""
    last = -1
    async with asyncio.timeout(10):
        while (now := int(await count())) != last:
            last = now
            await asyncio.sleep(0.5)
    return last
