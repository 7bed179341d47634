"""A platform's own recordings: recorded by rule, found, played, stepped, fetched, and every gap named."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tongshi.clock import BEIJING, SystemClock
from tongshi.errors import NotFound, Unavailable
from tongshi.gateways.media.recorder import Recorder, Rhythm
from tongshi.gateways.media.recording_files import Shelves
from tongshi.gateways.media.s3_files import S3Files
from tongshi.ids import DeviceId
from tongshi.protocols.media.program_stream import PackReader
from tongshi.protocols.s3_signature import Credentials
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import GapReason, Rule, Segment, SegmentState, Storage
from tongshi.resources.recordings.service import RecordingDesk
from tongshi.resources.viewing.history import Action, HistoryOpening, Steering
from tongshi.resources.viewing.model import EndReason
from tongshi.resources.viewing.recordings import RecordLocation, Search, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.sharing.model import EVERYTHING, Context
from tongshi.testing.object_store import ObjectStore
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM, CODE = "31010100002000000001", "31010100001320000001"
RULE = Rule("0" * 16, device_id=CODE, retention_days=1)
ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def place(neighbourhood: Neighbourhood, **plan: Any) -> tuple[SmallPlatform, Any]:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM, **plan))
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True)
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return platform, camera


async def record(platform: SmallPlatform, rule: Rule = RULE) -> None:
    await platform.db.write(store.put_rule, rule, platform.clock.at())
    platform.recorder.changed()


async def segments(platform: SmallPlatform, state: SegmentState | None = None) -> list[Segment]:
    found = await platform.record.segments(CODE, *ALWAYS)
    return [one for one in found if state is None or one.state is state]


async def whole(platform: SmallPlatform, count: int, timeout_s: float = 15.0) -> list[Segment]:
    """Wait for so many segments that are whole."""
    async with asyncio.timeout(timeout_s):
        while len(found := await segments(platform, SegmentState.WHOLE)) < count:  # noqa: ASYNC110  # it is in the database
            await asyncio.sleep(0.05)
    return found


async def gaps(platform: SmallPlatform) -> list[tuple[GapReason, bool]]:
    found = await platform.db.read(store.gaps, EVERYTHING, CODE, ALWAYS, 100)
    return [(gap.reason, gap.end is not None) for gap in found]


async def recorded(
    neighbourhood: Neighbourhood, count: int = 2, **plan: Any
) -> tuple[SmallPlatform, list[Segment]]:
    """A platform that has recorded a few seconds and has stopped recording."""
    platform, _ = await place(neighbourhood, **plan)
    await record(platform)
    await whole(platform, count)
    await record(platform, replace(RULE, is_enabled=False))
    await neighbourhood.until(lambda: not platform.recorder.states() and not len(platform.viewing.streams))
    return platform, await segments(platform)


async def opened(
    platform: SmallPlatform,
    found: list[Segment],
    location: RecordLocation = RecordLocation.CENTER,
    **wish: Any,
) -> HistoryOpening:
    window = Window(found[0].start, found[-1].end)
    asked = Wish(DeviceId(CODE), expire_s=10, window=window, **wish)
    return await platform.history.watch(platform.viewer, asked, location)


async def test_segments_follow_each_other_carry_sound_and_are_what_their_digest_says(
    neighbourhood: Neighbourhood,
) -> None:
    began = datetime.now(UTC)
    platform, found = await recorded(neighbourhood, 2)
    assert {one.state for one in found} == {SegmentState.WHOLE}
    for one, following in pairwise(found):
        assert one.end == following.start
        assert 1.5 <= one.length_s <= 5
    assert timedelta(seconds=-3) <= found[0].start - began <= timedelta(seconds=3)
    assert (found[0].video, found[0].audio) == ("h264", "g711a")
    for one in found:
        path = platform.shelves.path_of(one)
        data = await asyncio.to_thread(path.read_bytes)
        assert len(data) == one.size_bytes
        reader = PackReader()
        packs = reader.feed(data) + reader.finish()
        assert packs[0].is_key
        assert any(not pack.is_video for pack in packs)
        repaired = await platform.shelves.repair(one)
        assert repaired is not None
        assert repaired.key_frames == one.key_frames
        assert b"".join(pack.data for pack in packs) == data


async def test_own_recordings_are_found_beside_those_of_the_device(neighbourhood: Neighbourhood) -> None:
    platform, found = await recorded(neighbourhood, 1)
    window = Window(found[0].start - timedelta(minutes=1), found[-1].end)
    for location in (RecordLocation.CENTER, RecordLocation.AUTO):
        search = Search(DeviceId(CODE), window, location)
        answer = await platform.history.search(platform.viewer, search)
        assert [(file.start, file.location) for file in answer.files] == [
            (one.start, PLATFORM) for one in found
        ]
    of_device = Search(DeviceId(CODE), window, RecordLocation.DEVICE)
    assert (await platform.history.search(platform.viewer, of_device)).files == ()


async def test_an_own_recording_is_played_and_leaves_nothing(neighbourhood: Neighbourhood) -> None:
    platform, found = await recorded(neighbourhood, 2)
    opening = await opened(platform, found, RecordLocation.AUTO)
    assert opening.is_own
    watched = await watch_http(opening.opening.urls[0][1], frames=30, timeout_s=10)
    counters = [code.counter for code in watched.codes]
    assert counters == sorted(counters)
    assert watched.codec == "h264"
    await neighbourhood.until(lambda: not len(platform.viewing.streams))
    assert platform.carried["engine streams"] == 0


async def test_two_viewers_of_one_recording_have_each_their_own_position(
    neighbourhood: Neighbourhood,
) -> None:
    platform, found = await recorded(neighbourhood, 2)
    one, other = await asyncio.gather(opened(platform, found), opened(platform, found))
    first, second = one.opening.view.session_id, other.opening.view.session_id
    await platform.history.steer(platform.viewer, first, Steering(Action.PAUSE))
    moved = await platform.history.steer(platform.viewer, second, Steering(Action.SEEK, position_s=2.0))
    assert moved.state == "playing"
    assert platform.history.state(platform.viewer, first).state == "paused"
    watched = await watch_http(other.opening.urls[0][1], frames=5, timeout_s=10)
    assert watched.frames == 5


async def test_a_paused_own_recording_goes_on_by_one_picture(neighbourhood: Neighbourhood) -> None:
    platform, found = await recorded(neighbourhood, 1)
    opening = await opened(platform, found)
    session = opening.opening.view.session_id
    await platform.history.steer(platform.viewer, session, Steering(Action.PAUSE))
    first = await platform.history.steer(platform.viewer, session, Steering(Action.STEP))
    second = await platform.history.steer(platform.viewer, session, Steering(Action.STEP))
    assert first.state == second.state == "paused"
    assert 0.03 < second.position_s - first.position_s < 0.3  # a camera that is late leaves pictures out
    assert platform.history.state(platform.viewer, session).position_s == second.position_s


async def test_an_own_recording_goes_backward_by_key_frames_and_ends_at_its_beginning(
    neighbourhood: Neighbourhood,
) -> None:
    platform, found = await recorded(neighbourhood, 2)
    opening = await opened(platform, found)
    session = opening.opening.view.session_id
    length_s = (found[-1].end - found[0].start).total_seconds()
    await platform.history.steer(
        platform.viewer, session, Steering(Action.PLAY, position_s=length_s - 0.1, scale=-8.0)
    )
    await neighbourhood.until(lambda: not len(platform.viewing.streams), 10)
    view = platform.viewing.session(platform.viewer, session)
    assert view.end_reason is EndReason.FINISHED


async def test_a_download_has_its_true_length(neighbourhood: Neighbourhood, tmp_path: Path) -> None:
    platform, found = await recorded(neighbourhood, 2)
    opening = await opened(platform, found, download_speed=8)
    assert opening.file_size == sum(one.size_bytes for one in found)
    url = opening.opening.urls[0][1]
    path = tmp_path / "got.mp4"
    await asyncio.to_thread(lambda: path.write_bytes(urllib.request.urlopen(url).read()))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert [sound.codec_context.name for sound in container.streams.audio] == ["aac"]
        stamps = [float(frame.time) for frame in container.decode(stream) if frame.time is not None]
    length_s = (found[-1].end - found[0].start).total_seconds()
    assert stamps[-1] - stamps[0] == pytest.approx(length_s, abs=0.3)


async def test_a_device_that_is_away_is_a_gap_until_it_is_back(neighbourhood: Neighbourhood) -> None:
    platform, camera = await place(neighbourhood)
    await record(platform)
    await whole(platform, 1)
    await camera.stop()
    await neighbourhood.until(
        lambda: [state.problem for state in platform.recorder.states()] == [GapReason.OFFLINE], 10
    )
    assert (GapReason.OFFLINE, False) in await gaps(platform)
    found = await segments(platform)
    opening = await opened(platform, found, RecordLocation.AUTO)  # the device is not needed for it
    assert opening.is_own
    await platform.history.steer(platform.viewer, opening.opening.view.session_id, Steering(Action.STOP))
    await record(platform, replace(RULE, is_enabled=False))
    await neighbourhood.until(lambda: not platform.recorder.states())
    assert {is_ended for _, is_ended in await gaps(platform)} == {True}


async def test_a_full_disk_is_a_gap_with_its_reason_and_nothing_is_written(
    neighbourhood: Neighbourhood,
) -> None:
    platform, _ = await place(neighbourhood, min_free_bytes=1 << 60)
    await record(platform)
    await neighbourhood.until(
        lambda: [state.problem for state in platform.recorder.states()] == [GapReason.DISK_FULL], 10
    )
    assert await segments(platform) == []
    assert (GapReason.DISK_FULL, False) in await gaps(platform)
    live = await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE), expire_s=10))
    assert live.urls


async def test_what_a_killed_process_left_is_cut_back_or_named(neighbourhood: Neighbourhood) -> None:
    platform, found = await recorded(neighbourhood, 2)
    half, gone = found[0], found[1]
    path = platform.shelves.path_of(half)
    await asyncio.to_thread(os.truncate, path, half.size_bytes - 100)
    await asyncio.to_thread(platform.shelves.path_of(gone).unlink)
    for one in (half, gone):
        await platform.record.change(replace(one, state=SegmentState.WRITING, digest="", key_frames=()))
    shelves = Shelves(platform.folder / "recordings")
    again = Recorder(platform.viewing, platform.record, shelves, platform.clock, Rhythm())
    await again.start()
    await again.stop()
    left = {one.id: one for one in await segments(platform)}
    assert gone.id not in left
    repaired = left[half.id]
    assert repaired.state is SegmentState.REPAIRED
    assert repaired.size_bytes < half.size_bytes
    assert repaired.digest
    assert repaired.key_frames == half.key_frames
    assert (await asyncio.to_thread(path.stat)).st_size == repaired.size_bytes
    assert (GapReason.LOST, True) in await gaps(platform)


async def test_what_is_too_old_goes_with_its_file_and_what_is_held_stays(
    neighbourhood: Neighbourhood,
) -> None:
    platform, found = await recorded(neighbourhood, 2)
    desk = RecordingDesk(platform.db, platform.shelves.free_bytes)
    context = Context(platform.clock.at())
    subject = platform.viewer.subject
    between = (found[0].start, found[0].start + timedelta(milliseconds=1))
    assert await desk.hold(subject, CODE, between, "案件", context, is_held=True) == 1
    for one in found:
        await platform.record.change(replace(one, expires_at=platform.clock.at()))
    await platform.recorder.sweep()
    left = await segments(platform)
    assert [one.id for one in left] == [found[0].id]
    assert not platform.shelves.path_of(found[1]).exists()
    assert platform.shelves.path_of(found[0]).exists()
    assert await desk.hold(subject, CODE, between, "结案", context, is_held=False) == 1
    await platform.recorder.sweep()
    assert await segments(platform) == []


async def test_the_oldest_go_when_a_rule_has_used_its_quota(neighbourhood: Neighbourhood) -> None:
    platform, found = await recorded(neighbourhood, 3)
    quota = sum(one.size_bytes for one in found[1:])
    await record(platform, replace(RULE, is_enabled=False, quota_bytes=quota))
    await platform.recorder.sweep()
    assert [one.id for one in await segments(platform)] == [one.id for one in found[1:]]


async def test_a_time_without_own_recording_is_refused(neighbourhood: Neighbourhood) -> None:
    platform, found = await recorded(neighbourhood, 1)
    later = Window(found[-1].end + timedelta(minutes=1), found[-1].end + timedelta(minutes=2))
    with pytest.raises((NotFound, Unavailable)) as caught:
        await platform.history.watch(
            platform.viewer, Wish(DeviceId(CODE), window=later), RecordLocation.CENTER
        )
    assert caught.value.code == 40405
    earlier = caught.value.details["earlier"]
    assert isinstance(earlier, dict)
    assert datetime.fromisoformat(str(earlier["endTime"])) == found[-1].end.astimezone(BEIJING)


async def test_whole_segments_move_to_an_object_store_are_played_and_go_from_there(
    neighbourhood: Neighbourhood,
) -> None:
    credentials = Credentials("key", "secret", "cn-east-1")
    object_store = ObjectStore(credentials)
    await object_store.start()
    object_store.is_down = True
    remote = S3Files(object_store.endpoint, "recordings", credentials, SystemClock())
    platform, found = await recorded(neighbourhood, 2, remote_files=remote)
    await platform.recorder.sweep()
    assert {one.storage for one in await segments(platform)} == {Storage.LOCAL}  # kept until it is reached
    object_store.is_down = False
    await platform.recorder.sweep()
    moved = await segments(platform)
    assert {one.storage for one in moved} == {Storage.S3}
    assert not any(platform.shelves.path_of(one).exists() for one in moved)
    assert sorted(len(body) for body in object_store.objects.values()) == sorted(
        one.size_bytes for one in found
    )
    opening = await opened(platform, moved)
    watched = await watch_http(opening.opening.urls[0][1], frames=30, timeout_s=10)
    assert watched.frames == 30
    for one in moved:
        await platform.record.change(replace(one, expires_at=platform.clock.at()))
    await platform.recorder.sweep()
    assert (await segments(platform), object_store.objects, object_store.refused) == ([], {}, 0)
    stranger = S3Files(object_store.endpoint, "recordings", replace(credentials, secret="x"), SystemClock())
    with pytest.raises(Unavailable):
        await stranger.read(moved[0], 0, 10)
    await stranger.close()
    await object_store.stop()
