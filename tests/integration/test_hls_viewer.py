"""HLS end to end: a real camera, a player that asks again and again, and one ticket for all it asks."""

from __future__ import annotations

import asyncio
import io
import re
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urljoin

import av
import pytest

from tongshi.clock import BEIJING
from tongshi.gateways.media import hls
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening, Step, Timeouts
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.small_platform import QUICK, PlatformPlan, SmallPlatform

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def fetch(url: str) -> tuple[int, bytes]:
    """Status and body."""
    host, _, rest = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"GET /{rest} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"Content-Length: %d" % len(body) in head
    return int(head.split(b" ")[1]), body


async def text(url: str) -> str:
    status, body = await fetch(url)
    assert status == 200, body
    return body.decode()


async def opened(
    neighbourhood: Neighbourhood, codec: Literal["h264", "h265"] = "h264", **timeouts: float
) -> tuple[Any, Opening]:
    waits = Timeouts(**{**{name: getattr(QUICK, name) for name in QUICK.__slots__}, **timeouts})
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM, timeouts=waits))
    await neighbourhood.camera(
        platform, CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", codec=codec)
    )
    await neighbourhood.known(platform, CODE)
    wish = Wish(DeviceId(CODE), deliveries=(Delivery.LL_HLS,), expire_s=5)
    return platform, await platform.viewing.watch(platform.viewer, wish)


@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_parts_are_waited_for_and_decode_behind_their_init_segment(
    neighbourhood: Neighbourhood, codec: Literal["h264", "h265"]
) -> None:
    platform, opening = await opened(neighbourhood, codec)
    ((_, url),) = opening.urls
    playlist = await text(url)
    for _ in range(2):
        number, part = re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([0-9]+)\.([0-9]+)\.m4s', playlist)[0]
        playlist = await text(f"{url}&_HLS_msn={number}&_HLS_part={part}")
    init, *parts = re.findall(r'(?:MAP|PART:).*?URI="([^"]+)"', playlist)
    hinted = re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', playlist)[0]
    (_, head), *media = await asyncio.gather(*(fetch(urljoin(url, one)) for one in [init, *parts, hinted]))
    data = head + b"".join(body for status, body in media if status == 200)
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        pictures = [frame.time for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == {"h264": "h264", "h265": "hevc"}[codec]
    told_s = sum(float(one) for one in re.findall(r"PART:DURATION=([0-9.]+)", playlist))
    assert pictures == sorted(pictures)
    assert pictures[-1] - pictures[0] >= told_s - 0.1
    session = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert session.end_reason is None
    assert Step.OPENED in {mark.step for mark in session.marks}
    assert session.bytes_sent > len(data)


async def test_ffmpeg_plays_the_segments(neighbourhood: Neighbourhood) -> None:
    """A player that knows nothing of parts."""
    _, opening = await opened(neighbourhood)
    url = opening.urls[0][1]
    while "#EXTINF" not in (playlist := await text(url)):
        number, part = re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([0-9]+)\.([0-9]+)\.m4s', playlist)[0]
        await text(f"{url}&_HLS_msn={number}&_HLS_part={part}")

    def play() -> list[float]:
        with av.open(url, "r", format="hls", timeout=8.0) as container:
            frames = container.decode(video=0)
            return [next(frames).time or 0.0 for _ in range(20)]

    times = await asyncio.to_thread(play)
    assert times == sorted(times)


async def test_a_ticket_lasts_for_one_viewer_until_he_asks_no_more(neighbourhood: Neighbourhood) -> None:
    platform, opening = await opened(neighbourhood, asking_s=1.2)
    url = opening.urls[0][1]
    for _ in range(3):
        await text(url)
        await asyncio.sleep(0.5)
    assert (await fetch(url.replace("index.m3u8", "99.m4s")))[0] == 404
    assert (await fetch(url.replace("index.m3u8", "x.m4s")))[0] == 404
    assert (await fetch(f"{url}&_HLS_msn=99"))[0] == 400
    assert (await fetch(f"{url}&_HLS_part=1"))[0] == 400
    assert (await fetch(url.partition("?")[0]))[0] == 401
    # What was opened by asking is no ticket for one long answer.
    assert (await fetch(url.replace("/index.m3u8", ".flv")))[0] == 410
    await neighbourhood.until(
        lambda: platform.viewing.session(platform.viewer, opening.view.session_id).end_reason is not None
    )
    ended = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert ended.end_reason is EndReason.VIEWER_LEFT
    assert (await fetch(url))[0] == 410


async def test_a_closed_session_is_served_nothing_more_and_the_feed_ends_when_nobody_asks(
    neighbourhood: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hls, "FEED_IDLE_S", 1.0)
    platform, opening = await opened(neighbourhood)
    url = opening.urls[0][1]
    await text(url)
    native = platform.engine.native
    assert native.stats(opening.view.stream_id)["viewers"] == 1
    await neighbourhood.until(lambda: native.stats(opening.view.stream_id)["viewers"] == 0)
    await text(url)  # and begins again
    await platform.viewing.stop(platform.viewer, opening.view.session_id)
    assert (await fetch(url))[0] == 410


async def test_a_ticket_taken_for_one_connection_does_not_last(neighbourhood: Neighbourhood) -> None:
    platform, opening = await opened(neighbourhood)
    url = opening.urls[0][1]
    platform.viewing.tickets.admit(
        opening.view.stream_id, url.partition("ticket=")[2], platform.viewer.client_host
    )
    assert (await fetch(url))[0] == 410


async def played_to_its_end(neighbourhood: Neighbourhood) -> tuple[Any, Opening, str]:
    """Three seconds of a recording, asked for by a player until it ends; and the playlist that says so."""
    end = datetime(2026, 5, 19, 22, 30, tzinfo=BEIJING)
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    recorded = (Recorded(end - timedelta(minutes=30), end),)
    await neighbourhood.camera(
        platform, CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", recorded=recorded)
    )
    await neighbourhood.known(platform, CODE)
    window = Window(end - timedelta(seconds=3), end)
    wish = Wish(DeviceId(CODE), deliveries=(Delivery.LL_HLS,), expire_s=5, window=window)
    opening = (await platform.history.watch(platform.viewer, wish, RecordLocation.AUTO)).opening
    playlist = await text(opening.urls[0][1])
    async with asyncio.timeout(20):
        while "#EXT-X-ENDLIST" not in playlist:
            hint = re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([0-9]+)\.([0-9]+)\.m4s', playlist)[0]
            playlist = await text(f"{opening.urls[0][1]}&_HLS_msn={hint[0]}&_HLS_part={hint[1]}")
    return platform, opening, playlist


async def test_a_recording_that_is_over_is_played_to_its_last_picture(neighbourhood: Neighbourhood) -> None:
    platform, opening, playlist = await played_to_its_end(neighbourhood)
    url = opening.urls[0][1]
    names = re.findall(r'MAP:URI="([^"]+)"', playlist) + re.findall(
        r"^[0-9]+\.m4s.*$", playlist, re.MULTILINE
    )
    await neighbourhood.until(
        lambda: not len(platform.viewing.streams)
    )  # the call is over, the player is not
    media = [await fetch(urljoin(url, name)) for name in names]
    assert {status for status, _ in media} == {200}
    with av.open(io.BytesIO(b"".join(body for _, body in media)), "r", format="mp4") as container:
        times = [frame.time or 0.0 for frame in container.decode(video=0)]
    assert 2.7 <= times[-1] - times[0] <= 3.3
    told_s = sum(float(one) for one in re.findall(r"EXTINF:([0-9.]+)", playlist))
    assert abs(told_s - (times[-1] - times[0])) < 0.1
    assert "PRELOAD-HINT" not in playlist
    assert await text(f"{url}&_HLS_msn=1&_HLS_part=90") == playlist  # nothing is waited for
    view = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert view.end_reason is None
    session = platform.viewing._sessions.get(opening.view.session_id)
    platform.viewing._running.left(session, "asks no more")
    view = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert view.end_reason is EndReason.FINISHED
    assert (await fetch(url))[0] == 410


async def test_who_lost_his_right_gets_nothing_of_what_is_over_either(neighbourhood: Neighbourhood) -> None:
    platform, opening, _ = await played_to_its_end(neighbourhood)
    assert platform.viewing.end_where(lambda session: True, EndReason.REVOKED) == 1
    assert (await fetch(opening.urls[0][1]))[0] == 410
    assert (await fetch(opening.urls[0][1].replace("index.m3u8", "0.m4s")))[0] == 410


async def test_who_waits_for_a_part_when_his_right_is_taken_gets_none(neighbourhood: Neighbourhood) -> None:
    platform, opening = await opened(neighbourhood)
    url = opening.urls[0][1]
    number, part = re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([0-9]+)\.([0-9]+)\.m4s', await text(url))[0]
    waiting = asyncio.create_task(fetch(f"{url}&_HLS_msn={int(number) + 1}&_HLS_part={part}"))
    await asyncio.sleep(0.1)
    assert platform.viewing.end_where(lambda session: True, EndReason.REVOKED) == 1
    assert (await waiting)[0] == 410
