"""One platform and one recorder with real recordings: found, watched, steered, and every way not to."""

from __future__ import annotations

import asyncio
import urllib.request
from datetime import UTC, datetime, timedelta
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tongshi.clock import BEIJING
from tongshi.errors import InvalidRequest, NotFound, PeerTimeout, Unprocessable
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.records import RecordType
from tongshi.resources.viewing.history import Action, HistoryOpening, Steering
from tongshi.resources.viewing.model import EndReason, FileFormat, Transport
from tongshi.resources.viewing.recordings import RecordLocation, Search, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.frame_code import read_code
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.recordings import Recorded, second_of
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"
START = datetime(2026, 5, 19, 22, 0, tzinfo=BEIJING)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


# An hour in two files, an alarm after ten minutes, and after a gap over midnight another half hour.
RECORDED = (
    Recorded(at(0), at(30)),
    Recorded(at(30), at(60)),
    Recorded(at(70), at(75), "alarm"),
    Recorded(at(125), at(155)),
)


async def recorder(neighbourhood: Neighbourhood, **faults: Any) -> tuple[SmallPlatform, Any]:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    row = CameraPlan(
        id=CODE, scene="crossing-day", civil_code="310101", recorded=RECORDED, faults=Faults(**faults)
    )
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return platform, camera


async def opened(platform: SmallPlatform, start: float, end: float, **wish: Any) -> HistoryOpening:
    window = Window(at(start), at(end))
    asked = Wish(DeviceId(CODE), expire_s=10, window=window, **wish)
    return await platform.history.watch(platform.viewer, asked, RecordLocation.AUTO)


async def seen(url: str, frames: int = 5) -> list[datetime]:
    """The recorded seconds of the frames that a viewer decodes."""
    watched = await watch_http(url, frames=frames, timeout_s=10)
    assert watched.codes
    return [second_of(code.counter, START) for code in watched.codes]


async def test_recordings_of_two_days_are_found_with_their_gaps(neighbourhood: Neighbourhood) -> None:
    platform, _ = await recorder(neighbourhood)
    search = Search(DeviceId(CODE), Window(at(0), at(180)))
    found = await platform.history.search(platform.viewer, search)
    assert [(file.start, file.end) for file in found.files] == [(one.start, one.end) for one in RECORDED]
    assert {file.location for file in found.files} == {CODE}
    assert [(gap.start, gap.end) for gap in found.gaps] == [
        (at(60), at(70)),
        (at(75), at(125)),
        (at(155), at(180)),
    ]
    assert found.is_complete
    assert found.total_s == 95 * 60
    assert found.coverage == pytest.approx(95 / 180)
    alarms = await platform.history.search(
        platform.viewer, Search(DeviceId(CODE), Window(at(0), at(180), RecordType.ALARM))
    )
    assert [file.kind for file in alarms.files] == [RecordType.ALARM]


async def test_an_answer_cut_short_is_told_as_such_and_no_answer_is_an_error(
    neighbourhood: Neighbourhood,
) -> None:
    platform, camera = await recorder(neighbourhood, records_withheld=1)
    search = Search(DeviceId(CODE), Window(at(0), at(110)))
    found = await platform.history.search(platform.viewer, search)
    assert not found.is_complete
    assert len(found.files) == 2
    camera.faults = Faults(no_record_answer=True)
    with pytest.raises(PeerTimeout) as caught:
        await platform.history.search(platform.viewer, search)
    assert caught.value.code == 50401
    opening = await opened(platform, 0, 1)
    assert opening.timeline is None
    assert opening.why_unknown is not None
    assert opening.why_unknown.code == 50401
    assert (await seen(opening.opening.urls[0][1]))[0] == at(0)


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE])
async def test_a_recording_shows_the_seconds_asked_for_and_leaves_nothing(
    neighbourhood: Neighbourhood, transport: Transport
) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, 10, 20, transport=transport)
    assert opening.timeline is not None
    assert (opening.timeline.coverage, opening.timeline.gaps) == (1.0, ())
    seconds = await seen(opening.opening.urls[0][1], frames=20)
    assert seconds[0] - at(10) <= timedelta(seconds=1)
    assert seconds == sorted(seconds)
    assert seconds[-1] - seconds[0] <= timedelta(seconds=3)
    await neighbourhood.until(lambda: camera.calls.count == 0)
    await neighbourhood.nothing_left(platform)
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason is EndReason.VIEWER_LEFT
    assert view.history is not None


async def test_two_viewers_of_one_recording_do_not_disturb_each_other(neighbourhood: Neighbourhood) -> None:
    platform, camera = await recorder(neighbourhood)
    first, second = await asyncio.gather(opened(platform, 0, 30), opened(platform, 0, 30))
    assert camera.calls.count == 2
    one, other = first.opening.view.session_id, second.opening.view.session_id
    await platform.history.steer(platform.viewer, one, Steering(Action.SEEK, position_s=1200.0))
    await asyncio.sleep(0.3)
    far, near = await asyncio.gather(seen(first.opening.urls[0][1]), seen(second.opening.urls[0][1]))
    assert far[0] >= at(20)
    assert near[0] < at(1)
    state = platform.history.state
    await neighbourhood.nothing_left(platform)
    with pytest.raises(Exception, match="会话"):
        state(platform.viewer, other)


async def test_pause_stops_the_packets_and_is_no_loss(neighbourhood: Neighbourhood) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, 0, 30)
    session_id = opening.opening.view.session_id
    state = await platform.history.steer(platform.viewer, session_id, Steering(Action.PAUSE))
    assert state.state == "paused"
    (stream,) = platform.viewing.streams.streams()
    assert stream.ingest is not None
    await asyncio.sleep(0.2)
    before = await stream.ingest.figures()
    await asyncio.sleep(1.8)  # longer than the platform waits for lost media
    assert (await stream.ingest.figures()).packets == before.packets
    assert stream.end_reason is None
    assert camera.calls.count == 1
    state = await platform.history.steer(platform.viewer, session_id, Steering(Action.RESUME))
    assert (state.state, state.scale) == ("playing", 1.0)
    seconds = await seen(opening.opening.urls[0][1])
    assert seconds[0] - at(0) < timedelta(seconds=3)


@pytest.mark.parametrize("faults", [{}, {"speaks_2011": True}])
async def test_speed_and_seek_by_moment_reach_the_device(
    neighbourhood: Neighbourhood, faults: dict[str, Any]
) -> None:
    platform, _ = await recorder(neighbourhood, **faults)
    opening = await opened(platform, 0, 60)
    session_id = opening.opening.view.session_id
    url = opening.opening.urls[0][1]
    state = await platform.history.steer(platform.viewer, session_id, Steering(Action.SCALE, scale=4.0))
    assert state.scale == 4.0
    state = await platform.history.steer(platform.viewer, session_id, Steering(Action.SEEK, at=at(40)))
    assert (state.state, state.scale, state.position_s) == ("playing", 4.0, 2400.0)
    await asyncio.sleep(0.2)
    seconds = await seen(url, frames=60)
    assert seconds[0] >= at(40)
    assert seconds[-1] - seconds[0] >= timedelta(seconds=3)


async def test_backwards_goes_to_the_beginning_and_ends(neighbourhood: Neighbourhood) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, 0, 30)
    session_id = opening.opening.view.session_id
    steering = Steering(Action.PLAY, position_s=3.0, scale=-4.0)
    state = await platform.history.steer(platform.viewer, session_id, steering)
    assert state.scale == -4.0
    await neighbourhood.until(lambda: camera.calls.count == 0)
    view = platform.viewing.session(platform.viewer, session_id)
    assert view.end_reason is EndReason.FINISHED


async def test_the_end_of_a_recording_ends_the_call_and_says_so(neighbourhood: Neighbourhood) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, 154.97, 155)
    await neighbourhood.until(lambda: camera.calls.count == 0)
    await neighbourhood.nothing_left(platform)
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED


async def test_a_recorder_that_does_not_tell_its_end_is_ended_by_its_silence(
    neighbourhood: Neighbourhood,
) -> None:
    platform, camera = await recorder(neighbourhood, no_media_status=True)
    opening = await opened(platform, 154.97, 155)
    await neighbourhood.until(lambda: camera.calls.count == 0)
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED


def fetched(url: str) -> tuple[bytes, str]:
    """The whole body and its file name. Raises IncompleteRead when it was broken off."""
    with urllib.request.urlopen(url, timeout=20) as answer:  # of this test's platform
        return answer.read(), answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("transport", "kind"),
    [
        (Transport.UDP, FileFormat.MP4),
        (Transport.TCP_PASSIVE, FileFormat.MP4),
        (Transport.UDP, FileFormat.PS),
    ],
)
async def test_a_download_is_a_whole_file_with_its_true_span(
    neighbourhood: Neighbourhood, tmp_path: Path, transport: Transport, kind: FileFormat
) -> None:
    platform, camera = await recorder(neighbourhood)
    opening = await opened(platform, 5, 5 + 8 / 60, download_speed=4, transport=transport, file_format=kind)
    assert opening.file_size is not None
    ((_, url),) = opening.opening.urls
    await neighbourhood.until(lambda: camera.calls.count == 0)  # all has come before anybody asks for it
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.download is not None
    assert (view.download.state, view.download.lost_packets) == ("complete", 0)
    assert view.download.media_s == pytest.approx(8.0, abs=0.2)
    body, name = await asyncio.to_thread(fetched, url)
    assert name == f'attachment; filename="{CODE}_20260519T220500_20260519T220508.{kind.value}"'
    path = tmp_path / f"fetched.{kind.value}"
    await asyncio.to_thread(path.write_bytes, body)
    with av.open(str(path), format={"mp4": "mp4", "ps": "mpeg"}[kind.value]) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 100
    codes = [read_code(np.asarray(frame.to_ndarray(format="gray"), np.uint8)) for frame in frames]
    assert codes[0] is not None
    assert codes[-1] is not None
    assert second_of(codes[0].counter, START) == at(5)
    assert second_of(codes[-1].counter, START) == at(5) + timedelta(seconds=7)
    first, last = frames[0].time, frames[-1].time
    assert first is not None
    assert last is not None
    assert last - first == pytest.approx(99 / 12.5, abs=0.05)
    await neighbourhood.nothing_left(platform)
    await neighbourhood.until(lambda: not list(platform.folder.glob("downloads/*")))
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert (view.end_reason, view.bytes_sent) == (EndReason.FINISHED, len(body))


async def test_a_download_that_breaks_off_is_not_taken_for_a_whole_one(neighbourhood: Neighbourhood) -> None:
    platform, _ = await recorder(neighbourhood, drop_after_s=1.0)
    opening = await opened(platform, 0, 30, download_speed=4)
    ((_, url),) = opening.opening.urls
    with pytest.raises((IncompleteRead, OSError)):
        await asyncio.to_thread(fetched, url)
    await neighbourhood.nothing_left(platform)
    view = platform.viewing.session(platform.viewer, opening.opening.view.session_id)
    assert view.end_reason not in (None, EndReason.FINISHED)


async def test_what_cannot_be_played_is_refused_with_its_reason(neighbourhood: Neighbourhood) -> None:
    platform, camera = await recorder(neighbourhood, refuse_scale=True)
    with pytest.raises(NotFound) as caught:
        await opened(platform, 80, 100)
    assert caught.value.code == 40405
    assert caught.value.details["earlier"] == {
        "startTime": at(70).isoformat(),
        "endTime": at(75).isoformat(),
    }
    assert caught.value.details["later"] == {
        "startTime": at(125).isoformat(),
        "endTime": at(155).isoformat(),
    }
    assert camera.calls.count == 0
    with pytest.raises(InvalidRequest):
        await opened(platform, 10, 10)
    with pytest.raises(InvalidRequest):
        await opened(platform, 0, 25 * 60)
    opening = await opened(platform, 0, 30)
    session_id = opening.opening.view.session_id
    with pytest.raises(Unprocessable) as scale:
        await platform.history.steer(platform.viewer, session_id, Steering(Action.SCALE, scale=2.0))
    assert scale.value.details["supportedScales"]
    with pytest.raises(InvalidRequest) as position:
        await platform.history.steer(platform.viewer, session_id, Steering(Action.SEEK, position_s=1801.0))
    assert position.value.code == 40003
    await platform.history.steer(platform.viewer, session_id, Steering(Action.STOP))
    await neighbourhood.until(lambda: camera.calls.count == 0)
    await neighbourhood.nothing_left(platform)
    view = platform.viewing.session(platform.viewer, session_id)
    assert view.end_reason is EndReason.CLOSED
    assert datetime.now(UTC) > START
