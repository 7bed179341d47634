"""Debian's Chromium watches a simulated camera by WHEP: pictures, sound, its goodbye, and what it lost."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
from playwright.async_api import Page, async_playwright

from tongshi.gateways.signalling.trace.ring import Note
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.node_process import NodeProcess
from tongshi.testing.node_world import CODE, PLATFORM, ROW, world_of
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

OTHER = "31010100001320000002"
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
OFFER = """async (url) => {
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' })
    const video = document.querySelector('video')
    window.peer = peer
    peer.ontrack = (event) => { video.srcObject = new MediaStream([event.track]) }
    peer.addTransceiver('video', { direction: 'recvonly' })
    await peer.setLocalDescription(await peer.createOffer())
    const headers = { 'Content-Type': 'application/sdp' }
    const answer = await fetch(url, { method: 'POST', headers, body: peer.localDescription.sdp })
    return await answer.text()
}"""
ACCEPT = """async (sdp) => {
    await window.peer.setRemoteDescription({ type: 'answer', sdp })
    document.querySelector('video').play()
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
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.set_content("<video muted playsinline></video>")
        yield page
        await browser.close()


async def watch(platform: SmallPlatform, code: str = CODE) -> Opening:
    wish = Wish(device_id=DeviceId(code), expire_s=60, deliveries=(Delivery.WEBRTC,))
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
    neighbourhood: Neighbourhood, mortal: NodeProcess, page: Page
) -> None:
    world = await world_of(neighbourhood, mortal.account())
    opening = await watched_and_left(neighbourhood, world.platform, page)
    assert opening.urls[0][1].startswith(f"{mortal.viewer_url}/whep/")
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


class LossyPath(asyncio.DatagramProtocol):
    """Stands between a browser and the engine. While it loses, no picture arrives whole.

    The first packet of each picture is dropped (it follows one with the marker bit), and so is whatever is
    sent once more, by its number or on a stream of its own.
    """

    def __init__(self, engine: tuple[str, int]) -> None:
        self.is_losing = True
        self.dropped = 0
        self._engine = engine
        self._browser: tuple[str, int] | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._ssrc = b""
        self._last: int | None = None  # the newest packet's number
        self._is_end = True  # of a picture

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._transport is not None
        if addr != self._engine:
            self._browser = addr
            self._transport.sendto(data, self._engine)
        elif self._browser is not None:
            if self.is_losing and self._is_lost(data):
                self.dropped += 1
            else:
                self._transport.sendto(data, self._browser)

    def _is_lost(self, data: bytes) -> bool:
        if not 128 <= data[0] < 192 or 192 <= data[1] < 224 or len(data) < 12:
            return False  # STUN, DTLS and RTCP pass (RFC 7983, RFC 5761)
        self._ssrc = self._ssrc or data[8:12]
        number = int.from_bytes(data[2:4], "big")
        is_new = self._last is None or 0 < (number - self._last) & 0xFFFF < 1 << 15
        if data[8:12] != self._ssrc or not is_new:
            return True
        was_end, self._is_end, self._last = self._is_end, bool(data[1] & 0x80), number
        return was_end


async def test_a_browser_that_lost_its_pictures_gets_a_key_frame_from_the_camera(
    neighbourhood: Neighbourhood, platform: SmallPlatform, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = await neighbourhood.camera(platform, msgspec.structs.replace(ROW, id=OTHER))
    await neighbourhood.known(platform, OTHER)
    asked: list[str] = []
    make = camera.calls.ask_key_frame

    def ask(code: str) -> None:
        asked.append(code)
        make(code)

    monkeypatch.setattr(camera.calls, "ask_key_frame", ask)
    opening = await watch(platform, OTHER)
    answer = await page.evaluate(OFFER, opening.urls[0][1])
    found = re.search(r"127\.0\.0\.1 (\d+) typ host", answer)
    assert found is not None, answer
    engine = ("127.0.0.1", int(found[1]))
    loop = asyncio.get_running_loop()
    transport, path = await loop.create_datagram_endpoint(
        lambda: LossyPath(engine), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        await page.evaluate(ACCEPT, answer.replace(f" {engine[1]} typ host", f" {port} typ host"))
        await neighbourhood.until(
            lambda: OTHER in asked and "播放端请求关键帧，已向设备索要" in key_frames_asked(platform, opening)
        )
        assert path.dropped > 0
        assert (await page.evaluate(FIGURES))["video"]["framesDecoded"] == 0
        path.is_losing = False
        shown = await figures_when(page, lambda f: f["video"]["framesDecoded"] > 0)
        assert shown["video"]["pliCount"] > 0
    finally:
        transport.close()


def key_frames_asked(platform: SmallPlatform, opening: Opening) -> list[str]:
    """What the session's timeline says of key frames that were asked for."""
    noted = platform.gateway.timeline.find(opening.view.trace_id)
    assert noted is not None
    return [one.text for one in noted.all() if isinstance(one, Note) and one.step == "keyFrameAsked"]
