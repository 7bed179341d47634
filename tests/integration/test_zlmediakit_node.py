"""ZLMediaKit as a media node, by its contract: pictures through it, its viewers asked about, its end told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tongshi.clock import SystemClock
from tongshi.errors import PeerFailed, Unprocessable
from tongshi.gateways.media.nodes.farm import ZlmAccount
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.model import Delivery, EndReason, Transport
from tongshi.resources.viewing.nodes import NodeState
from tongshi.resources.viewing.recordings import Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.node_world import CITY, CODE, PLATFORM, NodeWorld, world_of
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.small_platform import Neighbour, PlatformPlan
from tongshi.testing.viewer import watch_http
from tongshi.testing.zlmediakit import ZlmDouble

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def account_of(server: ZlmDouble) -> ZlmAccount:
    return ZlmAccount("zlm", server.url, server.secret, "127.0.0.1", server.url, ("310101",))


@pytest.fixture
async def server(neighbourhood: Neighbourhood) -> AsyncIterator[ZlmDouble]:
    made = ZlmDouble()
    await made.start()
    yield made
    # The platform goes first: it closes its streams at the server.
    await neighbourhood.close()
    await made.stop()


@pytest.fixture
async def world(neighbourhood: Neighbourhood, server: ZlmDouble) -> NodeWorld:
    return await world_of(neighbourhood, account_of(server))


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE, Transport.TCP_ACTIVE])
async def test_a_picture_comes_through_the_node_and_everything_is_given_back(
    world: NodeWorld, server: ZlmDouble, transport: Transport
) -> None:
    opening = await world.watch(Delivery.HTTP_FLV, transport=transport)
    url = opening.urls[0][1]
    assert url.startswith(f"{server.url}/rtp/{opening.view.stream_id}.live.flv?ticket=")
    assert opening.view.codec is not None
    assert (opening.view.codec.video, world.seat().streams) == ("h264", 1)
    watched = await watch_http(url, frames=4, timeout_s=10)
    assert watched.codec == "h264"
    await world.until_ended(opening, EndReason.VIEWER_LEFT)
    assert world.view(opening).bytes_sent == 4321
    await world.neighbourhood.until(lambda: world.seat().streams == 0)
    assert "closeRtpServer" in server.commands


async def test_a_ticket_opens_one_connection_at_the_node_and_a_wrong_one_none(world: NodeWorld) -> None:
    opening = await world.watch(Delivery.HTTP_FMP4)
    url = opening.urls[0][1]
    with pytest.raises(PeerFailed):
        await watch_http(url[:-4] + "0000", frames=1, timeout_s=5)
    await watch_http(url, frames=2, timeout_s=10)
    with pytest.raises(PeerFailed):
        await watch_http(url, frames=1, timeout_s=5)


async def test_what_the_node_does_not_serve_is_left_out_or_refused(world: NodeWorld) -> None:
    opening = await world.watch(Delivery.HLS, Delivery.WS_FLV)
    assert [delivery for delivery, _ in opening.urls] == [Delivery.WS_FLV]
    with pytest.raises(Unprocessable):
        await world.watch(Delivery.HLS)
    newest = world.platform.viewing.recent(world.platform.viewer)
    assert EndReason.FAILED in [view.end_reason for view in newest]


async def test_the_sound_alone_is_refused_with_the_reason(world: NodeWorld) -> None:
    with pytest.raises(Unprocessable, match="不单独提供声音"):
        await world.watch(is_sound_alone=True)


async def test_a_closed_session_is_kicked_at_the_node(world: NodeWorld, server: ZlmDouble) -> None:
    opening = await world.watch()
    watching = asyncio.create_task(watch_http(opening.urls[0][1], frames=10_000, timeout_s=20))
    await world.until_opened(opening)
    await world.platform.viewing.stop(world.platform.viewer, opening.view.session_id)
    with pytest.raises(PeerFailed):
        await watching
    assert "kick_session" in server.commands


async def test_a_download_is_taken_by_our_own_engine(neighbourhood: Neighbourhood, server: ZlmDouble) -> None:
    start = SystemClock().at().replace(microsecond=0) - timedelta(hours=1)
    window = Window(start, start + timedelta(minutes=5))
    row = CameraPlan(
        id=CODE,
        scene="crossing-day",
        civil_code="310101",
        recorded=(Recorded(window.start, window.end),),
    )
    world = await world_of(neighbourhood, account_of(server), row)
    opening = await world.watch(window=window, download_speed=4)
    assert world.platform.engine.open_streams == 1
    assert "openRtpServer" not in server.commands
    await world.platform.viewing.stop(world.platform.viewer, opening.view.session_id)


async def test_a_node_that_dies_ends_its_sessions_with_that_reason_and_the_next_one_goes_elsewhere(
    world: NodeWorld, server: ZlmDouble
) -> None:
    opening = await world.watch()
    await server.stop()
    for _ in range(2):
        await world.platform.farm.nodes.look_at_all()
    assert world.seat().state is NodeState.LOST
    await world.until_ended(opening, EndReason.NODE_LOST)
    again = await world.watch()
    assert "/live/" in again.urls[0][1]
    assert (await watch_http(again.urls[0][1], frames=2, timeout_s=10)).codec == "h264"


async def test_a_node_that_was_started_anew_is_noticed_and_used_again(
    world: NodeWorld, server: ZlmDouble
) -> None:
    opening = await world.watch()
    await server.stop()
    anew = ZlmDouble()
    anew.port = server.port
    await anew.start()
    try:
        await world.platform.farm.nodes.look_at_all()
        await world.until_ended(opening, EndReason.NODE_LOST)
        again = await world.watch()
        assert again.urls[0][1].startswith(f"{anew.url}/rtp/")
        assert (await watch_http(again.urls[0][1], frames=2, timeout_s=10)).codec == "h264"
        await world.neighbourhood.until(lambda: world.seat().streams == 0)
    finally:
        await anew.stop()


async def test_a_drained_node_keeps_its_viewer_and_takes_nobody_new(world: NodeWorld) -> None:
    opening = await world.watch()
    assert world.platform.farm.nodes.drain("zlm", world.platform.clock.at()).state is NodeState.DRAINING
    watched = await watch_http(opening.urls[0][1], frames=4, timeout_s=10)
    assert watched.codec == "h264"
    await world.neighbourhood.until(lambda: world.seat().state is NodeState.DRAINED)
    again = await world.watch()
    assert "/live/" in again.urls[0][1]


async def test_an_upper_platform_is_served_by_the_node(
    neighbourhood: Neighbourhood, server: ZlmDouble
) -> None:
    city = await neighbourhood.platform(
        PlatformPlan(CITY, neighbours=(Neighbour(PLATFORM, Relation.LOWER, "a"),))
    )
    upper = Neighbour(CITY, Relation.UPPER, "a", port=city.gateway.port)
    await world_of(neighbourhood, account_of(server), neighbours=(upper,))
    await neighbourhood.until(lambda: PLATFORM in city.gateway.peers)
    await city.gateway.catalogues.query(city.gateway.peers.get(PLATFORM))
    await neighbourhood.known(city, CODE)
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE), expire_s=60))
    assert (await watch_http(opening.urls[0][1], frames=3, timeout_s=10)).codec == "h264"
    assert "startSendRtp" in server.commands


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("zlm/wrong/on_play", b"{}", 404),
        ("other/{secret}/on_play", b"{}", 404),
        ("zlm/{secret}/on_everything", b"{}", 404),
        ("zlm/{secret}/on_play", b"{", 400),
        ("zlm/{secret}/on_play", b'{"stream":7}', 400),
        ("zlm/{secret}/on_play", b" " * 70_000, 400),
        ("zlm/{secret}/on_play", b'{"app":"rtp","stream":"s","params":"ticket=no"}', 200),
    ],
)
async def test_a_hook_without_the_secret_or_in_pieces_is_refused(
    world: NodeWorld, server: ZlmDouble, path: str, body: bytes, status: int
) -> None:
    base, _, secret = server.config["hook.on_play"].removesuffix("/on_play").rpartition("/")
    root = base.removesuffix("/zlm")
    async with httpx2.AsyncClient(trust_env=False) as http:
        response = await http.post(f"{root}/{path.format(secret=secret)}", content=body)
    assert response.status_code == status
    assert response.json()["code"] != 0
