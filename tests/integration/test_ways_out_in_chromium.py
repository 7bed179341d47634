"""What the engine serves, shown by a real browser: FLV and fMP4 by WebSocket, HLS put together by hand, and
a recording that is coded anew.

Needs Debian's Chromium; without it the test is skipped aloud. Debian's Chromium has no H.265.
"""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tongshi.clock import BEIJING
from tongshi.ids import DeviceId
from tongshi.resources.viewing.history import Action, Steering
from tongshi.resources.viewing.model import Delivery, Transcoding
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MPEGTS = Path(__file__).parents[2] / "console" / "node_modules" / "mpegts.js" / "dist" / "mpegts.js"
PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"
FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]

Neighbourhood = Any  # the class lives in conftest, which cannot be imported

SCRIPT = """
window.video = document.body.appendChild(document.createElement('video'));
video.muted = true;
window.feed = () => new Promise((resolve) => {
  const source = new MediaSource();
  source.onsourceopen = () => {
    const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.42C01E"');
    const waiting = [];
    const next = () => {
      if (!buffer.updating && waiting.length) buffer.appendBuffer(waiting.shift());
      if (buffer.buffered.length && video.paused) {
        video.currentTime = buffer.buffered.start(0);
        video.play();
      }
    };
    buffer.onupdateend = next;
    resolve((data) => { waiting.push(data); next(); });
  };
  video.src = URL.createObjectURL(source);
});
window.play_messages = async (url) => {
  const take = await feed();
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  socket.onmessage = (event) => take(event.data);
};
window.play_flv = async (url) => {
  const player = mpegts.createPlayer({ type: 'flv', isLive: true, hasAudio: false, url }, {});
  player.attachMediaElement(video);
  player.load();
  player.play();
};
window.play_parts = async (url) => {
  const take = await feed();
  const seen = new Set();
  let reload = url;
  for (let round = 0; round < 8; round += 1) {
    const text = await (await fetch(reload)).text();
    for (const [, uri] of text.matchAll(/(?:MAP:|PART:DURATION=[0-9.]+,)URI="([^"]+)"/g)) {
      if (!seen.has(uri)) take(await (await fetch(new URL(uri, url))).arrayBuffer());
      seen.add(uri);
    }
    const [, segment, part] = text.match(/TYPE=PART,URI="([0-9]+)[.]([0-9]+)[.]m4s/);
    reload = `${url}&_HLS_msn=${segment}&_HLS_part=${part}`;
  }
};
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    ("delivery", "way"),
    [
        (Delivery.WS_FMP4, "play_messages"),
        (Delivery.WS_FLV, "play_flv"),
        (Delivery.LL_HLS, "play_parts"),
    ],
)
async def test_a_browser_shows_it(neighbourhood: Neighbourhood, delivery: Delivery, way: str) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    await neighbourhood.camera(platform, CameraPlan(id=CODE, scene="crossing-day", civil_code="310101"))
    await neighbourhood.known(platform, CODE)
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        if way == "play_flv":
            if not MPEGTS.exists():
                pytest.skip("mpegts.js is not installed: make setup")
            await page.add_script_tag(path=str(MPEGTS))
        await page.add_script_tag(content=SCRIPT)
        wish = Wish(DeviceId(CODE), deliveries=(delivery,), expire_s=120)
        opening = await platform.viewing.watch(platform.viewer, wish)
        await page.evaluate("([way, url]) => { window[way](url) }", [way, opening.urls[0][1]])
        await page.wait_for_function(
            "video.videoWidth === 640 && video.getVideoPlaybackQuality().totalVideoFrames > 8", timeout=15_000
        )
        assert await page.evaluate("video.error") is None
        await browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_a_browser_shows_a_recording_in_h265_that_is_coded_anew_also_after_a_jump(
    neighbourhood: Neighbourhood,
) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    start = datetime(2026, 5, 19, 22, 0, tzinfo=BEIJING)
    window = Window(start, start + timedelta(hours=1))
    row = CameraPlan(
        id=CODE,
        scene="crossing-day",
        civil_code="310101",
        codec="h265",
        recorded=(Recorded(window.start, window.end),),
    )
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    wish = Wish(
        DeviceId(CODE),
        deliveries=(Delivery.WS_FMP4,),
        expire_s=30,
        window=window,
        transcoding=Transcoding("h264"),
    )
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.add_script_tag(content=SCRIPT)
        opening = (await platform.history.watch(platform.viewer, wish, RecordLocation.AUTO)).opening
        await page.evaluate("(url) => { play_messages(url) }", opening.urls[0][1])
        shown = "video.videoWidth === 640 && video.getVideoPlaybackQuality().totalVideoFrames > {}"
        await page.wait_for_function(shown.format(8), timeout=15_000)
        jump = Steering(Action.PLAY, position_s=1200.0, scale=2.0)
        await platform.history.steer(platform.viewer, opening.view.session_id, jump)
        before = await page.evaluate("video.getVideoPlaybackQuality().totalVideoFrames")
        await page.wait_for_function(shown.format(before + 25), timeout=15_000)
        assert await page.evaluate("video.error") is None
        await browser.close()
