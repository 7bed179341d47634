"""A real H.265 camera for who cannot play it, and a still of its stream: decoded in a process of its own."""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import os
import re
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from tongshi._media import Engine, PsSender
from tongshi.errors import NotFound, PeerFailed, Unavailable, Unprocessable
from tongshi.gateways.media.transcoder import pool as transcoder_pool
from tongshi.gateways.signalling.trace.ring import Note
from tongshi.ids import DeviceId
from tongshi.protocols.media import flv
from tongshi.protocols.media.jpeg import measure
from tongshi.resources.snapshots.model import Origin, State
from tongshi.resources.viewing.media_ports import Promise
from tongshi.resources.viewing.model import (
    SILENT,
    Codec,
    Coding,
    Delivery,
    EndReason,
    StreamType,
    Transcoding,
    Transport,
)
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.sessions import Wish
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.testing import small_platform
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import QUICK, PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM = "31010100002000000001"
CODE, OTHER = DeviceId("31010100001320000001"), DeviceId("31010100001320000002")
WANTED = Transcoding("h264", "aac")
Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def wish(device_id: DeviceId = CODE, transcoding: Transcoding = WANTED, **changes: Any) -> Wish:
    return Wish(device_id, transcoding=transcoding, expire_s=15, **changes)


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    return made


async def camera(neighbourhood: Neighbourhood, platform: SmallPlatform, **changes: Any) -> Any:
    row = CameraPlan(**{"id": CODE, "scene": "crossing-day", "civil_code": "310101", **changes})
    made = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, row.id)
    return made


async def test_h265_with_g711_is_shown_as_h264_with_aac_by_one_process(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    made = await camera(neighbourhood, platform, codec="h265", audio=True)
    first = await platform.viewing.watch(platform.viewer, wish())
    assert first.view.codec is not None
    assert first.view.transcoded_from is not None
    assert (first.view.codec.video, first.view.transcoded_from.video) == ("h264", "h265")
    second = await platform.viewing.watch(platform.viewer, wish(deliveries=(Delivery.HTTP_FMP4,)))
    assert second.view.stream_id == first.view.stream_id
    assert (platform.transcoders.running, made.calls.count) == (1, 1)
    flv, fmp4 = await asyncio.gather(
        watch_http(first.urls[0][1], frames=40, timeout_s=20),
        watch_http(second.urls[0][1], frames=40, timeout_s=20),
    )
    for watched in (flv, fmp4):
        assert (watched.codec, watched.width, watched.height) == ("h264", 640, 360)
        assert watched.codes, "what is shown is the camera's own picture"
    await neighbourhood.nothing_left(platform)


async def test_sound_alone_is_coded_anew_and_pictures_stay(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform, audio=True)
    plain = await platform.viewing.watch(platform.viewer, Wish(CODE))
    opening = await platform.viewing.watch(platform.viewer, wish())
    assert opening.view.transcoded_from is not None
    assert (opening.view.transcoded_from.video, opening.view.transcoded_from.audio) == ("h264", "g711a")
    assert opening.view.stream_id != plain.view.stream_id
    anew = platform.viewing.streams.find(opening.view.stream_id)
    assert anew is not None
    assert anew.ingest is not None
    async with asyncio.timeout(8):
        while (await anew.ingest.figures()).codec.audio != "aac":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    watched = await watch_http(opening.urls[0][1], frames=10, timeout_s=15)
    assert (watched.codec, bool(watched.codes)) == ("h264", True)
    await platform.viewing.stop(platform.viewer, plain.view.session_id)
    await neighbourhood.nothing_left(platform)


async def sound_of(platform: SmallPlatform, stream_id: str) -> str:
    """The sound of a running stream, once it has some."""
    stream = platform.viewing.streams.find(stream_id)
    assert stream is not None
    assert stream.ingest is not None
    async with asyncio.timeout(15):
        while not (found := (await stream.ingest.figures()).codec.audio):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_sound_that_is_not_to_be_coded_passes_beside_pictures_that_are(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform, codec="h265", audio=True)
    opening = await platform.viewing.watch(platform.viewer, wish(transcoding=Transcoding("h264")))
    assert opening.view.codec is not None
    assert opening.view.codec.video == "h264"
    assert await sound_of(platform, opening.view.stream_id) == "g711a"
    await platform.viewing.stop(platform.viewer, opening.view.session_id)
    await neighbourhood.nothing_left(platform)


async def test_who_wants_no_sound_gets_a_stream_that_has_none(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform, audio=True)
    heard = await platform.viewing.watch(platform.viewer, Wish(CODE))
    assert await sound_of(platform, heard.view.stream_id) == "g711a"
    mute = await platform.viewing.watch(platform.viewer, wish(transcoding=Transcoding("", SILENT)))
    assert mute.view.transcoded_from is not None
    assert mute.view.transcoded_from.audio == "g711a"
    kinds = await tags_of(mute.urls[0][1], pictures=50)
    assert kinds[flv.VIDEO] >= 50
    assert not kinds[flv.SOUND], kinds
    kinds = await tags_of(heard.urls[0][1], pictures=50)
    assert kinds[flv.SOUND] > 0, "the same camera is heard by who did not say so"
    await neighbourhood.nothing_left(platform)


async def tags_of(url: str, *, pictures: int) -> Counter[int]:
    """How many tags of each kind come until so many pictures have come."""
    at = urlsplit(url)
    reading, writing = await asyncio.open_connection(at.hostname, at.port)
    writing.write(f"GET {at.path}?{at.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    found: Counter[int] = Counter()
    reader = flv.FlvReader()
    async with asyncio.timeout(15):
        await reading.readuntil(b"\r\n\r\n")
        while found[flv.VIDEO] < pictures:
            data = await reading.read(65_536)
            assert data, found
            found.update(kind for kind, _, _ in reader.feed(data))
    writing.close()
    return found


async def test_what_can_be_played_already_is_not_coded_anew(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform)
    opening = await platform.viewing.watch(platform.viewer, wish())
    assert opening.view.transcoded_from is None
    assert platform.transcoders.running == 0
    again = await platform.viewing.watch(platform.viewer, wish())
    assert (opening.view.reused, again.view.reused) == (False, True), "who came first shared it with nobody"
    for one in (opening, again):
        await platform.viewing.stop(platform.viewer, one.view.session_id)


async def test_a_request_that_is_given_up_while_the_codec_is_learnt_holds_nothing(
    neighbourhood: Neighbourhood, platform: SmallPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    await camera(neighbourhood, platform)
    begun = asyncio.Event()

    async def endless(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(platform.viewing.streams, "learn_codec", endless)
    asking = asyncio.create_task(platform.viewing.watch(platform.viewer, wish()))
    await asyncio.wait_for(begun.wait(), 15)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await neighbourhood.nothing_left(platform)


async def test_a_full_house_is_refused_with_a_way_out_and_shared_all_the_same(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform, codec="h265")
    await camera(neighbourhood, platform, id=OTHER, codec="h265")
    first = await platform.viewing.watch(platform.viewer, wish())
    with pytest.raises(Unavailable) as refusal:
        await platform.viewing.watch(platform.viewer, wish(OTHER))
    assert refusal.value.code == 50302
    assert "子码流" in refusal.value.message
    assert refusal.value.details["limit"] == 1
    again = await platform.viewing.watch(platform.viewer, wish())
    assert again.view.codec is not None
    assert again.view.codec.audio == "", "sound that there is none of is not announced"
    assert again.view.stream_id == first.view.stream_id
    for opening in (first, again):
        await platform.viewing.stop(platform.viewer, opening.view.session_id)
    await neighbourhood.nothing_left(platform)


async def test_a_process_that_dies_ends_its_viewers_with_the_reason(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform, codec="h265")
    opening = await platform.viewing.watch(platform.viewer, wish())
    (job,) = platform.transcoders._jobs
    assert job._process is not None
    os.kill(job._process.pid, signal.SIGKILL)
    await neighbourhood.until(
        lambda: (
            platform.viewing.session(platform.viewer, opening.view.session_id).end_reason
            is EndReason.TRANSCODE_FAILED
        )
    )
    await neighbourhood.nothing_left(platform)


async def test_a_process_that_hangs_is_ended_like_a_silent_stream(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform, codec="h265")
    opening = await platform.viewing.watch(platform.viewer, wish())
    (job,) = platform.transcoders._jobs
    assert job._process is not None
    os.kill(job._process.pid, signal.SIGSTOP)
    await neighbourhood.until(
        lambda: (
            platform.viewing.session(platform.viewer, opening.view.session_id).end_reason
            is EndReason.MEDIA_LOST
        )
    )
    await neighbourhood.nothing_left(platform)
    assert job._process.returncode is not None


async def test_the_camera_s_end_is_the_reason_of_those_who_watch_it_coded_anew(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    made = await camera(neighbourhood, platform, codec="h265")
    opening = await platform.viewing.watch(platform.viewer, wish())
    await made.vanish()
    await neighbourhood.until(
        lambda: (
            platform.viewing.session(platform.viewer, opening.view.session_id).end_reason
            in (EndReason.MEDIA_LOST, EndReason.DEVICE_OFFLINE, EndReason.DEVICE_ENDED)
        )
    )
    await neighbourhood.nothing_left(platform)


async def test_a_coder_that_is_behind_says_what_it_left_out(
    neighbourhood: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_platform, "Engine", partial(Engine, viewer_queue_bytes=64 << 10))
    patient = replace(QUICK, media_lost_s=60.0)  # the coder stands still for a while
    platform = await neighbourhood.platform(PlatformPlan(PLATFORM, timeouts=patient))
    await camera(neighbourhood, platform, codec="h265", rate_kbps=8_000)
    opening = await platform.viewing.watch(platform.viewer, wish())

    def coding() -> Coding:
        view = platform.viewing.session(platform.viewer, opening.view.session_id)
        return view.coding or Coding()

    await neighbourhood.until(lambda: coding().made > 0 and coding().speed is not None)
    before = coding()  # so small a queue may be full before the process has begun
    (job,) = platform.transcoders._jobs
    assert job._process is not None
    os.kill(job._process.pid, signal.SIGSTOP)
    await neighbourhood.until(lambda: coding().skipped > before.skipped)
    os.kill(job._process.pid, signal.SIGCONT)
    assert "已跳过" in coding().trouble
    behind = coding()
    await neighbourhood.until(lambda: coding().taken > behind.taken and coding().made > behind.made)
    noted = platform.gateway.timeline.find(opening.view.trace_id)
    assert noted is not None
    (words,) = [one.text for one in noted.all() if isinstance(one, Note) and one.step == "transcoding"]
    assert "转码跟不上" in words
    await platform.viewing.stop(platform.viewer, opening.view.session_id)
    await neighbourhood.nothing_left(platform)
    assert platform.transcoders.sums.skipped >= behind.skipped
    assert math.isnan(platform.transcoders.least_speed)


async def test_without_the_extra_it_is_refused_in_words(
    neighbourhood: Neighbourhood, platform: SmallPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcoder_pool, "is_installed", lambda: False)
    await camera(neighbourhood, platform, codec="h265")
    with pytest.raises(Unprocessable) as refusal:
        await platform.viewing.watch(platform.viewer, wish())
    assert (refusal.value.code, "tongshi[media]" in refusal.value.message) == (42203, True)
    with pytest.raises(Unprocessable):
        await platform.snapshots.capture(platform.viewer, CODE, StreamType.MAIN, "")


@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_a_still_of_a_cold_stream_is_kept_and_the_stream_given_back(
    neighbourhood: Neighbourhood, platform: SmallPlatform, codec: str
) -> None:
    made = await camera(neighbourhood, platform, codec=codec)
    order, picture = await platform.snapshots.capture(platform.viewer, CODE, StreamType.MAIN, "核查")
    assert (order.origin, order.state) == (Origin.STREAM, State.COMPLETE)
    _, data = await platform.snapshots.show(platform.viewer, picture.id)
    assert (measure(data).width, measure(data).height) == (640, 360)
    await neighbourhood.until(lambda: made.calls.count == 0)
    await neighbourhood.nothing_left(platform)


async def test_a_still_is_a_view_and_nothing_comes_of_noise(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await camera(neighbourhood, platform)
    stranger = Viewer(Subject(SubjectKind.USER, "9", "x", permissions=frozenset(Permission)), "127.0.0.1")
    with pytest.raises(NotFound):
        await platform.snapshots.capture(stranger, CODE, StreamType.MAIN, "")
    with pytest.raises(PeerFailed):
        await platform.transcoders.still(b"\0\0\0\1noise" * 50, "h264")
    with pytest.raises(Unprocessable):
        await platform.transcoders.still(b"", "svac")


def group_of(width: int, height: int) -> list[bytes]:
    """A key frame of H.265 and three pictures after it, in which something moves."""
    container = av.open(io.BytesIO(), "w", format="hevc")
    stream = container.add_stream("libx265", rate=25)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {
        "preset": "ultrafast",
        "x265-params": "keyint=50:bframes=0:rc-lookahead=0:log-level=none",
    }
    shades = np.linspace(16, 235, width, dtype=np.uint8)
    units: list[bytes] = []
    for number in range(4):
        picture = np.full((height * 3 // 2, width), 128, np.uint8)
        picture[:height] = np.roll(shades, number * 16)
        units += [bytes(one) for one in stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p"))]
    return units + [bytes(one) for one in stream.encode()]


@pytest.mark.parametrize(
    ("size", "wish", "made"),
    [
        ((1920, 1080), Transcoding("h264"), (1280, 720)),
        ((1920, 1080), Transcoding("h264", width=1920), (1920, 1080)),
        ((3840, 2160), Transcoding("h264", width=640, fps=5, bitrate_kbps=300), (640, 360)),
    ],
)
async def test_large_pictures_are_made_smaller_within_memory_and_time(
    platform: SmallPlatform, size: tuple[int, int], wish: Transcoding, made: tuple[int, int]
) -> None:
    group = await asyncio.to_thread(group_of, *size)
    source = await platform.engine.open("large", Transport.TCP_PASSIVE, is_local=True)
    target = await platform.engine.open("made", Transport.TCP_PASSIVE, is_local=True)
    await target.expect(Promise(9))
    sender = PsSender("tcp-active", "127.0.0.1", 0, 7, "h265")
    sender.connect("127.0.0.1", source.port)
    job = await platform.transcoders.begin(
        source, Codec("h265", "", *size), wish, "127.0.0.1", target.port, 9
    )
    assert job._process is not None
    most = 0
    async with asyncio.timeout(30):
        for number in itertools.count():
            figures = await target.figures()
            if figures.codec.width and figures.packets > 20:
                break
            unit = group[number % len(group)]
            await asyncio.to_thread(sender.send_video, unit, number * 3_600, number % len(group) == 0)
            most = max(most, peak_bytes(job._process.pid))
            await asyncio.sleep(0.04)
    assert (figures.codec.video, figures.codec.width, figures.codec.height) == ("h264", *made)
    assert 0 < most < 700 << 20, f"{most >> 20} MiB"
    still = await platform.transcoders.still(group[0], "h265")
    assert (measure(still).width, measure(still).height) == size
    sender.close()
    await job.end()
    await source.close()
    await target.close()
    assert job._process.returncode is not None


def peak_bytes(pid: int) -> int:
    """The most memory that a process had in use."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 0 if found is None else int(found[1]) << 10
