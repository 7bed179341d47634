"""A media node of our own in a second process: pictures through it, killed and taken back, nothing left."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tongshi.clock import SystemClock
from tongshi.errors import PeerFailed, Unprocessable
from tongshi.exchange.signing import Signer
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.model import Delivery, EndReason, Transport
from tongshi.resources.viewing.nodes import NodeState
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.node_process import SECRET, NodeProcess
from tongshi.testing.node_world import CITY, CODE, PLATFORM, NodeWorld, world_of
from tongshi.testing.small_platform import Neighbour, PlatformPlan
from tongshi.testing.viewer import watch_http

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One process for many tests: each platform that comes takes it over."""
    made = NodeProcess(tmp_path_factory.mktemp("node"), PLATFORM)
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[NodeProcess]:
    """A process for one test."""
    made = NodeProcess(tmp_path, PLATFORM)
    made.start()
    yield made
    if made.is_running:
        made.stop()


@pytest.fixture
async def world(neighbourhood: Neighbourhood, node: NodeProcess) -> NodeWorld:
    return await world_of(neighbourhood, node.account())


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE, Transport.TCP_ACTIVE])
async def test_a_picture_comes_through_the_node_and_everything_is_given_back(
    world: NodeWorld, node: NodeProcess, transport: Transport
) -> None:
    opening = await world.watch(transport=transport)
    assert opening.urls[0][1].startswith(f"{node.viewer_url}/live/{opening.view.stream_id}.flv?ticket=")
    assert opening.view.codec is not None
    assert opening.view.codec.video == "h264"
    assert (world.seat().streams, world.platform.engine.open_streams) == (1, 0)
    watched = await watch_http(opening.urls[0][1], frames=4, timeout_s=10)
    assert watched.codec == "h264"
    await world.until_ended(opening, EndReason.VIEWER_LEFT)
    await world.neighbourhood.until(lambda: world.seat().streams == 0)


async def test_a_ticket_opens_one_connection_and_a_wrong_one_none(world: NodeWorld) -> None:
    opening = await world.watch(Delivery.HTTP_FMP4)
    url = opening.urls[0][1]
    with pytest.raises(PeerFailed):
        await watch_http(url[:-4] + "0000", frames=1, timeout_s=5)
    await watch_http(url, frames=2, timeout_s=10)
    with pytest.raises(PeerFailed):
        await watch_http(url, frames=1, timeout_s=5)


async def test_a_closed_session_ends_its_viewer_at_the_node_and_counts_his_bytes(world: NodeWorld) -> None:
    opening = await world.watch()
    url, viewing = opening.urls[0][1], world.platform.viewing
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as http, http.stream("GET", url) as response:
        pictures = response.aiter_bytes()
        first = await anext(pictures)
        closing = await viewing.stop(world.platform.viewer, opening.view.session_id)
        async for _ in pictures:
            continue  # to the end, which comes
    assert closing.closed
    assert closing.bytes_sent >= len(first) > 0


async def test_a_node_serves_what_our_engine_serves_but_rtsp(world: NodeWorld) -> None:
    opening = await world.watch(Delivery.HLS, Delivery.WEBRTC, Delivery.WS_FLV, Delivery.RTSP)
    assert [delivery for delivery, _ in opening.urls] == [Delivery.HLS, Delivery.WEBRTC, Delivery.WS_FLV]
    with pytest.raises(Unprocessable):
        await world.watch(Delivery.RTSP)
    async with httpx2.AsyncClient(trust_env=False) as http:
        playlist = await http.get(opening.urls[0][1])
        assert playlist.status_code == 200
        part = re.search(r'EXT-X-PART:.*URI="([^"]+)"', playlist.text)
        assert part is not None
        base = opening.urls[0][1].partition("index.m3u8")[0]
        answer = await http.get(base + part[1])
    assert (answer.status_code, answer.content[4:8]) == (200, b"moof")
    expected = len(playlist.content) + len(answer.content)
    await world.neighbourhood.until(lambda: world.view(opening).bytes_sent == expected)


async def test_the_sound_alone_is_refused_at_a_node_with_the_reason(world: NodeWorld) -> None:
    wish = Wish(DeviceId(CODE), deliveries=(Delivery.HTTP_FLV,), expire_s=5, is_sound_alone=True)
    with pytest.raises(Unprocessable, match="不单独提供声音"):
        await world.platform.viewing.watch(world.platform.viewer, wish)


async def test_a_refused_webrtc_offer_leaves_the_ticket_good(world: NodeWorld) -> None:
    opening = await world.watch(Delivery.WEBRTC, Delivery.HTTP_FLV)
    urls = dict(opening.urls)
    async with httpx2.AsyncClient(trust_env=False) as http:
        headers = {"Content-Type": "application/sdp"}
        answer = await http.post(urls[Delivery.WEBRTC], content=b"v=0\r\n", headers=headers)
    assert answer.status_code == 422
    assert (await watch_http(urls[Delivery.HTTP_FLV], frames=2, timeout_s=10)).codec == "h264"


async def test_a_still_is_made_of_what_the_node_has(world: NodeWorld) -> None:
    opening = await world.watch()
    key = world.platform.viewing.stream_of(world.platform.viewer, opening.view.session_id).key
    picture = await world.platform.viewing.still(world.platform.viewer, key, "test")
    assert picture.startswith(b"\xff\xd8")


async def test_an_upper_platform_is_served_by_the_node(
    neighbourhood: Neighbourhood, node: NodeProcess
) -> None:
    city = await neighbourhood.platform(
        PlatformPlan(CITY, neighbours=(Neighbour(PLATFORM, Relation.LOWER, "a"),))
    )
    upper = Neighbour(CITY, Relation.UPPER, "a", port=city.gateway.port)
    await world_of(neighbourhood, node.account(), neighbours=(upper,))
    await neighbourhood.until(lambda: PLATFORM in city.gateway.peers)
    await city.gateway.catalogues.query(city.gateway.peers.get(PLATFORM))
    await neighbourhood.known(city, CODE)
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE), expire_s=60))
    assert (await watch_http(opening.urls[0][1], frames=3, timeout_s=10)).codec == "h264"


async def test_a_killed_node_ends_its_sessions_with_that_reason_and_is_taken_back(
    neighbourhood: Neighbourhood, mortal: NodeProcess
) -> None:
    world = await world_of(neighbourhood, mortal.account())
    opening = await world.watch()
    watching = asyncio.create_task(watch_http(opening.urls[0][1], frames=10_000, timeout_s=20))
    await world.until_opened(opening)
    mortal.kill()
    with pytest.raises(PeerFailed):
        await watching
    for _ in range(2):
        await world.platform.farm.nodes.look_at_all()
    assert world.seat().state is NodeState.LOST
    await world.until_ended(opening, EndReason.NODE_LOST)
    again = await world.watch()
    assert not again.urls[0][1].startswith(mortal.viewer_url)
    assert (await watch_http(again.urls[0][1], frames=2, timeout_s=10)).codec == "h264"
    await neighbourhood.until(lambda: len(world.platform.viewing.streams) == 0)
    mortal.start()
    await world.platform.farm.nodes.look_at_all()
    assert world.seat().state is NodeState.ACTIVE
    third = await world.watch()
    assert third.urls[0][1].startswith(mortal.viewer_url)
    assert (await watch_http(third.urls[0][1], frames=2, timeout_s=10)).codec == "h264"


async def test_a_node_drops_everything_when_another_process_of_the_platform_comes(
    neighbourhood: Neighbourhood, mortal: NodeProcess
) -> None:
    world = await world_of(neighbourhood, mortal.account())
    opening = await world.watch()
    signer = Signer(PLATFORM, SECRET, mortal.name, SystemClock())
    looked = await call(mortal, signer, "look", b"{}", owner="another")
    assert (looked.status_code, looked.json()["streams"]) == (200, [])
    await world.platform.farm.nodes.look_at_all()
    await world.until_ended(opening, EndReason.NODE_LOST)


async def call(
    node: NodeProcess, signer: Signer, verb: str, body: bytes, owner: str = "test"
) -> httpx2.Response:
    path = f"/media/v1/{verb}"
    headers = {**signer.headers("POST", path, "", body, owner), "Content-Type": "application/json"}
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        return await http.post(node.api + path, content=body, headers=headers)


@pytest.mark.parametrize(
    ("key", "secret", "audience", "verb", "body", "status"),
    [
        (PLATFORM, "another secret of a test", "east", "look", b"{}", 401),
        (CITY, SECRET, "east", "look", b"{}", 401),
        (PLATFORM, SECRET, "west", "look", b"{}", 401),
        (PLATFORM, SECRET, "east", "everything", b"{}", 404),
        (PLATFORM, SECRET, "east", "close", b'{"stream":"none","more":1}', 400),
        (PLATFORM, SECRET, "east", "figures", b'{"stream":"none"}', 404),
        (PLATFORM, SECRET, "east", "close", b" " * 70_000, 413),
    ],
)
async def test_a_call_that_is_not_the_platforms_is_refused(
    node: NodeProcess, key: str, secret: str, audience: str, verb: str, body: bytes, status: int
) -> None:
    await call(node, Signer(PLATFORM, SECRET, "east", SystemClock()), "look", b"{}")
    answer = await call(node, Signer(key, secret, audience, SystemClock()), verb, body)
    assert answer.status_code == status
    assert answer.json()["code"] != 0


async def test_an_unsigned_a_changed_and_a_repeated_call_are_refused(node: NodeProcess) -> None:
    signer = Signer(PLATFORM, SECRET, "east", SystemClock())
    url, path = f"{node.api}/media/v1/look", "/media/v1/look"
    headers = signer.headers("POST", path, "", b"{}", "test")
    async with httpx2.AsyncClient(trust_env=False, headers={"Content-Type": "application/json"}) as http:
        codes = [
            (await http.post(url, content=body, headers=signed)).status_code
            for body, signed in ((b"{}", {}), (b"{ }", headers), (b"{}", headers))
        ]
        other = signer.headers("POST", path, "", b"{}", "test")
        codes += [(await http.post(url, content=b"{}", headers=other)).status_code for _ in range(2)]
    assert codes == [401, 401, 401, 200, 401]
