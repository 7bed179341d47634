"""Debian's Chromium watches a simulated camera by WHEP: pictures, sound, and its goodbye."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.node_process import NodeProcess
from tongshi.testing.node_world import CODE, PLATFORM, ROW, world_of
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--autoplay-policy=no-user-gesture-required"]

Neighbourhood = Any  # the class lives in conftest, which cannot be imported

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="SKIPPED ALOUD: Debian's chromium is not installed"),
]

PLAY = """async (url) => {
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' }), stream = new MediaStream()
    const video = document.querySelector('video')
    window.peer = peer
    peer.ontrack = (event) => stream.addTrack(event.track)
    peer.addTransceiver('video', { direction: 'recvonly' })
    peer.addTransceiver('audio', { direction: 'recvonly' })
    await peer.setLocalDescription(await peer.createOffer())
    const headers = { 'Content-Type': 'application/sdp' }
    const answer = await fetch(url, { method: 'POST', headers, body: peer.localDescription.sdp })
    if (answer.status !== 201) return [answer.status, await answer.text()]
    window.place = new URL(answer.headers.get('Location'), url).href
    await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() })
    video.srcObject = stream
    await video.play()
    return [answer.status, '']
}"""
FIGURES = """async () => {
    const found = { state: window.peer.connectionState }
    for (const one of (await window.peer.getStats()).values())
        if (one.type === 'inbound-rtp') found[one.kind] = { ...one }
    const video = document.querySelector('video')
    found.shown = video.getVideoPlaybackQuality().totalVideoFrames
    found.size = [video.videoWidth, video.videoHeight]
    return found
}"""


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    await neighbourhood.camera(made, ROW)
    await neighbourhood.known(made, CODE)
    return made


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    made = NodeProcess(tmp_path, PLATFORM)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.set_content("<video muted playsinline></video>")
        yield page
        await browser.close()


async def watch(platform: SmallPlatform) -> Opening:
    wish = Wish(device_id=DeviceId(CODE), expire_s=60, deliveries=(Delivery.WEBRTC,))
    return await platform.viewing.watch(platform.viewer, wish)


async def figures_when(page: Page, is_so: Any, timeout_s: float = 15.0) -> dict[str, Any]:
    end = time.monotonic() + timeout_s
    while True:
        found: dict[str, Any] = await page.evaluate(FIGURES)
        if is_so(found):
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


async def test_pictures_are_decoded_sound_arrives_and_leaving_is_noticed(
    neighbourhood: Neighbourhood, platform: SmallPlatform, page: Page
) -> None:
    await watched_and_left(neighbourhood, platform, page)


async def test_it_is_the_same_where_another_process_carries_the_stream(
    neighbourhood: Neighbourhood, node: NodeProcess, page: Page
) -> None:
    world = await world_of(neighbourhood, node.account())
    opening = await watched_and_left(neighbourhood, world.platform, page)
    assert opening.urls[0][1].startswith(f"{node.viewer_url}/whep/")
    assert world.platform.engine.open_streams == 0


async def watched_and_left(neighbourhood: Neighbourhood, platform: SmallPlatform, page: Page) -> Opening:
    opening = await watch(platform)
    assert await page.evaluate(PLAY, opening.urls[0][1]) == [201, ""]
    first = await figures_when(
        page, lambda f: f.get("video", {}).get("framesDecoded", 0) > 0 and f["shown"] > 0
    )
    later = await figures_when(
        page,
        lambda f: (
            f["video"]["framesDecoded"] > first["video"]["framesDecoded"] + 25
            and f.get("audio", {}).get("packetsReceived", 0) > 25
        ),
    )
    assert (later["state"], later["video"]["packetsLost"]) == ("connected", 0)
    assert later["size"][0] > 0
    delay_s = later["video"]["jitterBufferDelay"] / later["video"]["jitterBufferEmittedCount"]
    assert delay_s < 1.0, later
    session = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert session.end_reason is None
    # Its goodbye is enough; deleting the session would end it too.
    await page.evaluate("window.peer.close()")
    await neighbourhood.until(
        lambda: (
            platform.viewing.session(platform.viewer, opening.view.session_id).end_reason
            is EndReason.VIEWER_LEFT
        )
    )
    return opening
