"""E.2-12 *listen* end to end: a real camera's sound without its picture, as it is coded or as AAC."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import av
import pytest

from tongshi.errors import Unprocessable
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason
from tongshi.resources.viewing.voice import Mode, VoiceOpening, VoiceWish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
PLATFORM, CODE = "31010100002000000001", DeviceId("31010100001320000001")
MPEGTS = Path(__file__).parents[2] / "console" / "node_modules" / "mpegts.js" / "dist" / "mpegts.js"
PLAY_FLV = """
(url) => {
  window.sound = document.body.appendChild(document.createElement('video'));
  sound.muted = true;
  const player = mpegts.createPlayer({ type: 'flv', isLive: true, hasAudio: true, hasVideo: false, url }, {});
  player.attachMediaElement(sound);
  player.load();
  player.play();
}
"""
Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    await neighbourhood.camera(
        made, CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True)
    )
    await neighbourhood.known(made, CODE)
    return made


async def listening(platform: SmallPlatform, **wish: Any) -> VoiceOpening:
    return await platform.voice.start(platform.viewer, VoiceWish(CODE, Mode.LISTEN, expire_s=15, **wish))


def url_of(opening: VoiceOpening) -> str:
    assert opening.listening is not None
    return opening.listening.urls[0][1]


async def heard(url: str, kind: str) -> tuple[list[str], str, int, int]:
    """The kinds of track that FFmpeg finds, the sound's codec and rate, and how many samples were decoded."""

    def play() -> tuple[list[str], str, int, int]:
        with av.open(url, "r", format=kind, timeout=8.0) as container:
            sound = container.streams.audio[0].codec_context
            frames = container.decode(audio=0)
            samples = sum(next(frames).samples for _ in range(12))
            return [one.type for one in container.streams], sound.name, sound.sample_rate, samples

    return await asyncio.to_thread(play)


async def test_the_sound_comes_as_the_device_codes_it_and_no_picture_with_it(platform: SmallPlatform) -> None:
    opening = await listening(platform)
    assert opening.heard is not None
    assert (opening.heard.audio, opening.heard.audio_rate_hz) == ("g711a", 8000)
    tracks, codec, rate_hz, samples = await heard(url_of(opening), "flv")
    assert (tracks, codec, rate_hz) == (["audio"], "pcm_alaw", 8000)
    assert samples > 1000
    await platform.voice.stop(platform.viewer, opening.session_id)


@pytest.mark.parametrize(
    ("wish", "kind"),
    [
        ({"sound": "aac"}, "flv"),
        ({"sound": "aac", "delivery": Delivery.HTTP_FMP4}, "mp4"),
        ({"delivery": Delivery.HTTP_FMP4}, "mp4"),  # carries nothing else
    ],
)
async def test_who_wants_aac_is_given_it_by_the_transcoder(
    platform: SmallPlatform, wish: dict[str, Any], kind: str
) -> None:
    opening = await listening(platform, **wish)
    assert opening.heard is not None
    tracks, codec, rate_hz, samples = await heard(url_of(opening), kind)
    assert (tracks, codec) == (["audio"], "aac")
    assert ("aac", rate_hz) == (opening.heard.audio, opening.heard.audio_rate_hz)
    assert samples > 10_000
    await platform.voice.stop(platform.viewer, opening.session_id)


@pytest.mark.parametrize(
    ("wish", "transcoder", "supported"),
    [
        ({"sound": "g711u"}, True, ["g711a", "aac"]),
        ({"sound": "aac"}, False, ["g711a"]),
        ({"delivery": Delivery.WS_FMP4}, False, ["g711a"]),
    ],
)
async def test_sound_that_cannot_be_had_so_is_refused_with_what_can(
    neighbourhood: Neighbourhood,
    platform: SmallPlatform,
    wish: dict[str, Any],
    transcoder: bool,
    supported: list[str],
) -> None:
    if not transcoder:
        platform.viewing._transcoder = None
    with pytest.raises(Unprocessable) as caught:
        await listening(platform, **wish)
    assert (caught.value.code, caught.value.details["supported"]) == (42203, supported)
    assert f"可选 {'、'.join(supported)}" in caught.value.message
    await neighbourhood.until(lambda: not len(platform.viewing._sessions))


async def test_a_ticket_of_sound_opens_no_picture(platform: SmallPlatform) -> None:
    url = url_of(await listening(platform))
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")

    async def status(target: str) -> bytes:
        reader, writer = await asyncio.open_connection(name, int(port))
        writer.write(f"GET /{target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await reader.read(200)
        writer.close()
        return answer.split(b" ")[1]

    assert await status(path.replace(".flv", ".ps")) == b"422"
    assert await status(path.replace(".flv", "/index.m3u8")) == b"422"
    assert (await heard(url, "flv"))[0] == ["audio"]  # it is still good for what it was given for


async def test_the_session_of_the_picture_ends_with_the_voice(platform: SmallPlatform) -> None:
    opening = await listening(platform)
    assert opening.listening is not None
    await platform.voice.stop(platform.viewer, opening.session_id)
    while platform.voice._tasks:
        await asyncio.gather(*platform.voice._tasks)
    view = platform.viewing.session(platform.viewer, opening.listening.view.session_id)
    assert view.end_reason is EndReason.CLOSED


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    ("delivery", "script"),
    [
        (Delivery.HTTP_FMP4, "(url) => { window.sound = new Audio(url); sound.muted = true; sound.play() }"),
        (Delivery.WS_FLV, PLAY_FLV),
    ],
)
async def test_a_browser_plays_it(platform: SmallPlatform, delivery: Delivery, script: str) -> None:
    opening = await listening(platform, sound="aac", delivery=delivery)
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        if script is PLAY_FLV:
            if not MPEGTS.exists():
                pytest.skip("mpegts.js is not installed: make setup")
            await page.add_script_tag(path=str(MPEGTS))
        await page.evaluate(script, url_of(opening))
        await page.wait_for_function(
            "sound.played.length && sound.played.end(0) - sound.played.start(0) > 0.5", timeout=15_000
        )
        assert await page.evaluate("[sound.error, sound.videoWidth ?? 0]") == [None, 0]
        await browser.close()
    await platform.voice.stop(platform.viewer, opening.session_id)
