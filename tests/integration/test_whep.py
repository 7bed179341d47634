"""WHEP without a browser: what is answered, what is refused, and what a ticket is good for."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening, Step
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"
SDP = {"Content-Type": "application/sdp"}
OFFER = (Path(__file__).parents[1] / "data" / "webrtc" / "chromium-offer.sdp").read_bytes().decode()

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def watch(platform: SmallPlatform, **changes: Any) -> Opening:
    ways = (Delivery.WEBRTC, Delivery.HTTP_FLV)
    wish = Wish(**{"device_id": DeviceId(CODE), "expire_s": 60, "deliveries": ways, **changes})
    return await platform.viewing.watch(platform.viewer, wish)


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    return made


@pytest.fixture
async def camera(neighbourhood: Neighbourhood, platform: SmallPlatform) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True)
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)


@pytest.mark.usefixtures("camera")
async def test_an_offer_is_answered_once_and_deleting_ends_the_session(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    opening = await watch(platform)
    (way, url), _ = opening.urls
    assert way is Delivery.WEBRTC
    async with httpx.AsyncClient() as http:
        answer = await http.post(url, content=OFFER, headers={**SDP, "Origin": "https://console"})
        assert (answer.status_code, answer.headers["content-type"]) == (201, "application/sdp")
        assert "location" in answer.headers["access-control-expose-headers"].lower()
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "a=ice-lite" in answer.text
        assert re.search(r"a=candidate:.* udp .* 127\.0\.0\.1 \d+ typ host", answer.text)
        assert answer.text.count("a=sendonly") == 2
        assert "a=rtpmap:8 PCMA/8000" in answer.text
        assert "PCMU" not in answer.text
        place = str(httpx.URL(url).join(answer.headers["location"]))
        again = await http.post(url, content=OFFER, headers=SDP)
        assert (again.status_code, again.json()["code"]) == (410, 41002)
        assert (await http.request("PATCH", place, content="a=candidate")).status_code == 405
        assert (await http.delete(place.replace("ticket=", "ticket=x"))).status_code == 404
        session = platform.viewing.session(platform.viewer, opening.view.session_id)
        assert (session.end_reason, session.marks[-1].step) == (None, Step.OPENED)
        assert (await http.delete(place)).status_code == 200
        assert (await http.delete(place)).status_code == 404
    session = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert session.end_reason is EndReason.VIEWER_LEFT
    await neighbourhood.until(lambda: not len(platform.viewing.streams))


@pytest.mark.usefixtures("camera")
async def test_a_refused_offer_says_why_and_leaves_the_ticket_good_for_another_way(
    platform: SmallPlatform,
) -> None:
    opening = await watch(platform)
    (_, url), (_, flv) = opening.urls
    async with httpx.AsyncClient() as http:
        for body, status, words in (
            (OFFER.replace("H264/", "H263/"), 422, "H264"),
            (OFFER.replace("recvonly", "sendonly"), 422, "只收"),
            ("v=0\r\nno SDP", 422, "只收"),
            ("hello", 400, "SDP"),
            (b"v=0\xff", 400, "UTF-8"),
            (OFFER.replace("fingerprint", "finger"), 400, "SDP"),
        ):
            refused = await http.post(url, content=body, headers=SDP)
            assert refused.status_code == status, (body, refused.text)
            assert words in refused.json()["msg"]
    assert (await watch_http(flv, frames=2, timeout_s=10)).codec == "h264"


async def test_h265_is_refused_with_its_name_and_the_other_ways(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", codec="h265")
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    opening = await watch(platform)
    async with httpx.AsyncClient() as http:
        refused = await http.post(opening.urls[0][1], content=OFFER, headers=SDP)
    assert (refused.status_code, refused.json()["code"]) == (422, 42203)
    assert "H265" in refused.json()["msg"]
    assert "fMP4" in refused.json()["msg"]


async def test_what_is_no_offer_is_refused_before_its_ticket_is_looked_at(platform: SmallPlatform) -> None:
    base = f"http://127.0.0.1:{platform.server.port}/whep/abc"
    async with httpx.AsyncClient() as http:
        assert (await http.get(base)).headers["allow"] == "POST, OPTIONS"
        assert (await http.get(base)).status_code == 405
        assert (
            await http.post(base, content="v=0", headers={"Content-Type": "text/plain"})
        ).status_code == 415
        assert (await http.post(base, content=b"x" * 65_537, headers=SDP)).status_code == 413
        assert (await http.post(base, content=OFFER, headers=SDP)).status_code == 401
        assert (await http.post(f"{base}/x", headers=SDP)).status_code == 404
        asked = await http.request("OPTIONS", base, headers={"Origin": "https://console"})
        assert (asked.status_code, asked.headers["access-control-allow-methods"]) == (204, "POST, OPTIONS")
        place = await http.request("OPTIONS", f"{base}/{'0' * 32}")
        assert place.headers["access-control-allow-methods"] == "DELETE, OPTIONS"


@pytest.mark.usefixtures("camera")
async def test_strangers_datagrams_change_nothing(platform: SmallPlatform) -> None:
    opening = await watch(platform)
    async with httpx.AsyncClient() as http:
        answer = await http.post(opening.urls[0][1], content=OFFER, headers=SDP)
    found = re.search(r"a=candidate:.* 127\.0\.0\.1 (\d+) typ host", answer.text)
    name = re.search(r"a=ice-ufrag:(\S+)", answer.text)
    assert found is not None
    assert name is not None
    chance = random.Random(7)
    username = f"{name[1]}:abcd".encode()
    attribute = b"\0\6" + len(username).to_bytes(2, "big") + username + b"\0" * (-len(username) % 4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", int(found[1])))
        for number in range(2_000):
            noise = chance.randbytes(chance.randrange(0, 600))
            first = bytes([chance.choice((0, 1, 20, 22, 23, 63, 128, 191))])
            # One of three names the peer without its password, in a message that is whole or broken.
            length = (len(attribute) + chance.choice((0, 0, 4, 4_000))).to_bytes(2, "big")
            stun = (
                b"\0\1" + length + b"\x21\x12\xa4\x42" + noise[:12].ljust(12, b"x") + attribute + noise[:40]
            )
            stranger.send(stun if number % 3 == 0 else first + noise)
            if number % 200 == 0:
                await asyncio.sleep(0.01)
    other = await platform.viewing.watch(platform.viewer, Wish(device_id=DeviceId(CODE), expire_s=60))
    assert other.view.reused
    assert (await watch_http(other.urls[0][1], frames=4, timeout_s=10)).codec == "h264"
    session = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert session.end_reason is None
