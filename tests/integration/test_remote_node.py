"""A media node of our own in a second process: pictures through it, killed and taken back, nothing left."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import av
import httpx2
import msgspec
import pytest

from tongshi.clock import BEIJING, ManualClock, SystemClock
from tongshi.errors import PeerFailed, Unavailable, Unprocessable
from tongshi.exchange.signing import Signer
from tongshi.gateways.media.nodes.remote import client as clients
from tongshi.gateways.media.nodes.remote import wire
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.model import Delivery, EndReason, Transport
from tongshi.resources.viewing.nodes import NodeState
from tongshi.resources.viewing.ports import LiveCall, LiveRequest
from tongshi.resources.viewing.recordings import RecordLocation, Window
from tongshi.resources.viewing.sessions import Wish
from tongshi.resources.viewing.tickets import Admission
from tongshi.resources.viewing.voice import Mode, VoiceWish
from tongshi.testing.node_process import SECRET, NodeProcess
from tongshi.testing.node_world import CITY, CODE, PLATFORM, ROW, NodeWorld, trouble_of, world_of
from tongshi.testing.recordings import Recorded
from tongshi.testing.rtsp_client import connected
from tongshi.testing.small_platform import Neighbour, PlatformPlan
from tongshi.testing.viewer import watch_http

OFFER = (Path(__file__).parents[1] / "data" / "webrtc" / "chromium-offer.sdp").read_text()

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


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


async def test_a_node_serves_what_our_engine_serves(world: NodeWorld, node: NodeProcess) -> None:
    ways = (Delivery.HLS, Delivery.WEBRTC, Delivery.WS_FLV, Delivery.RTSP)
    opening = await world.watch(*ways)
    assert tuple(delivery for delivery, _ in opening.urls) == ways
    assert opening.urls[3][1].startswith(f"{node.rtsp_url}/live/{opening.view.stream_id}?ticket=")
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


async def test_the_sound_alone_comes_from_the_node_and_no_picture_with_it(world: NodeWorld) -> None:
    wish = VoiceWish(DeviceId(CODE), Mode.LISTEN, expire_s=60)
    opening = await world.platform.voice.start(world.platform.viewer, wish)
    assert opening.listening is not None
    url = opening.listening.urls[0][1]
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(url.replace(".flv", ".ps"))).status_code == 422

    def play() -> tuple[list[str], str | None, int]:
        with av.open(url, "r", format="flv", timeout=10.0) as container:
            samples = sum(
                frame.samples for frame, _ in zip(container.decode(audio=0), range(12), strict=False)
            )
            return [one.type for one in container.streams], container.streams.audio[0].name, samples

    tracks, codec, samples = await asyncio.to_thread(play)
    assert (tracks, codec, samples > 1000) == (["audio"], "pcm_alaw", True)
    assert (world.seat().streams, world.platform.engine.open_streams) == (1, 0)
    await world.until_ended(opening.listening, EndReason.VIEWER_LEFT)


@pytest.mark.parametrize("asks", ["tcp", "udp"])
async def test_ffmpeg_plays_rtsp_from_the_node(world: NodeWorld, asks: str) -> None:
    opening = await world.watch(Delivery.RTSP)
    url = opening.urls[0][1]

    def play() -> tuple[str | None, list[float]]:
        with av.open(url, "r", options={"rtsp_transport": asks}, timeout=10.0) as container:
            frames = container.decode(video=0)
            return container.streams.video[0].name, [next(frames).time or 0.0 for _ in range(10)]

    codec, times = await asyncio.to_thread(play)
    assert (codec, times) == ("h264", sorted(times))
    await world.until_ended(opening, EndReason.VIEWER_LEFT)
    await world.neighbourhood.until(lambda: world.seat().streams == 0)


async def test_rtsp_at_the_node_wants_the_ticket_of_this_address_once(world: NodeWorld) -> None:
    opening = await world.watch(Delivery.RTSP)
    url = opening.urls[0][1]
    stranger = await connected(url, "127.0.0.2")
    status, head = await stranger.ask("DESCRIBE", url)
    assert (status, "X-Error-Code: 40302" in head) == (403, True)
    client = await connected(url)
    assert (await client.ask("DESCRIBE", url.partition("?")[0]))[0] == 401
    assert (await client.ask("DESCRIBE", url[:-4] + "0000"))[0] == 401
    assert (await client.ask("DESCRIBE", url.replace("/live/", "/live/0")))[0] == 404
    assert (await client.ask("DESCRIBE", url))[0] == 200
    track, tcp = url.replace("?", "/video?"), "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
    assert (await client.ask("SETUP", track, tcp))[0] == 200
    assert (await client.ask("PLAY", url))[0] == 200
    assert (await client.ask("OPTIONS", url))[0] == 200
    assert (await (await connected(url)).ask("DESCRIBE", url))[0] == 410
    closing = await world.platform.viewing.stop(world.platform.viewer, opening.view.session_id)
    async with asyncio.timeout(10):
        await client.reader.read()  # to the end, which comes
    assert closing.closed
    assert closing.bytes_sent > 0


async def test_rtsp_is_refused_at_a_node_without_a_port_for_it(
    neighbourhood: Neighbourhood, node: NodeProcess
) -> None:
    world = await world_of(neighbourhood, replace(node.account(), rtsp_url=""))
    opening = await world.watch(Delivery.RTSP, Delivery.HTTP_FLV)
    assert [delivery for delivery, _ in opening.urls] == [Delivery.HTTP_FLV]
    with pytest.raises(Unprocessable, match="不提供 rtsp"):
        await world.watch(Delivery.RTSP)


async def test_where_only_the_node_has_a_port_for_rtsp_it_depends_on_who_carries_the_stream(
    world: NodeWorld, node: NodeProcess
) -> None:
    world.platform.viewing._rtsp_url, world.platform.viewing._has_rtsp_nodes = None, True
    assert (await world.watch(Delivery.RTSP)).urls[0][1].startswith(node.rtsp_url)
    await world.platform.viewing.stop_all()
    world.platform.farm.nodes.drain(node.name, world.platform.clock.at())
    with pytest.raises(Unprocessable, match="没有开放 RTSP"):
        await world.watch(Delivery.RTSP)


async def test_hls_of_a_recording_is_played_to_its_end_at_the_node(
    neighbourhood: Neighbourhood, node: NodeProcess
) -> None:
    end = datetime(2026, 5, 19, 22, 30, tzinfo=BEIJING)
    recorded = (Recorded(end - timedelta(minutes=30), end),)
    world = await world_of(neighbourhood, node.account(), msgspec.structs.replace(ROW, recorded=recorded))
    platform, window = world.platform, Window(end - timedelta(seconds=3), end)
    wish = Wish(DeviceId(CODE), deliveries=(Delivery.LL_HLS,), expire_s=60, window=window)
    opening = (await platform.history.watch(platform.viewer, wish, RecordLocation.AUTO)).opening
    url = opening.urls[0][1]
    assert url.startswith(node.viewer_url)
    async with httpx2.AsyncClient(trust_env=False, timeout=15) as http:
        playlist = await http.get(url)
        async with asyncio.timeout(30):
            while "#EXT-X-ENDLIST" not in playlist.text:
                assert playlist.status_code == 200
                found = re.search(r'PRELOAD-HINT:TYPE=PART,URI="([0-9]+)\.([0-9]+)\.m4s', playlist.text)
                assert found is not None
                playlist = await http.get(f"{url}&_HLS_msn={found[1]}&_HLS_part={found[2]}")
        await neighbourhood.until(lambda: world.seat().streams == 0)  # the call is over, the player is not
        names = re.findall(r'MAP:URI="([^"]+)"', playlist.text)
        names += re.findall(r"^[0-9]+\.m4s.*$", playlist.text, re.MULTILINE)
        media = [await http.get(urljoin(url, name)) for name in names]
        assert {one.status_code for one in media} == {200}
        with av.open(io.BytesIO(b"".join(one.content for one in media)), "r", format="mp4") as container:
            times = [frame.time or 0.0 for frame in container.decode(video=0)]
        assert 2.7 <= times[-1] - times[0] <= 3.3
        sent = sum(len(one.content) for one in media)
        await neighbourhood.until(lambda: world.view(opening).bytes_sent > sent)
        assert world.view(opening).end_reason is None
        platform.viewing.end_where(lambda session: True, EndReason.REVOKED)
        assert (await http.get(url)).status_code == 410
        assert (await http.get(urljoin(url, names[-1]))).status_code == 410


async def test_who_waits_for_a_part_when_his_right_is_taken_gets_none_at_the_node(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, viewing = (await world.watch(Delivery.LL_HLS)).urls[0][1], world.platform.viewing

    def and_revoked(admission: Admission) -> bool:
        asyncio.get_running_loop().call_soon(viewing.end_where, lambda session: True, EndReason.REVOKED)
        return False

    async with httpx2.AsyncClient(trust_env=False, timeout=15) as http:
        found = re.search(r'PRELOAD-HINT:TYPE=PART,URI="([0-9]+)', (await http.get(url)).text)
        assert found is not None
        monkeypatch.setattr(viewing.tickets, "has_ended", and_revoked)
        assert (await http.get(f"{url}&_HLS_msn={int(found[1]) + 1}")).status_code == 410


async def test_webrtc_is_answered_by_the_node_once_and_deleting_ends_the_session(
    world: NodeWorld, node: NodeProcess
) -> None:
    opening = await world.watch(Delivery.WEBRTC)
    url, headers = opening.urls[0][1], {"Content-Type": "application/sdp"}
    assert url.startswith(f"{node.viewer_url}/whep/")
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as http:
        answer = await http.post(url, content=OFFER, headers=headers)
        assert answer.status_code == 201
        assert "a=ice-lite" in answer.text
        assert re.search(r"a=candidate:.* udp .* 127\.0\.0\.1 \d+ typ host", answer.text)
        place = urljoin(url, answer.headers["location"])
        assert (await http.post(url, content=OFFER, headers=headers)).status_code == 410
        assert (await http.delete(place.replace("ticket=", "ticket=x"))).status_code == 404
        await world.until_opened(opening)
        assert world.view(opening).end_reason is None
        assert (await http.delete(place)).status_code == 200
    await world.until_ended(opening, EndReason.VIEWER_LEFT)
    await world.neighbourhood.until(lambda: world.seat().streams == 0)


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


async def test_a_node_that_died_unnoticed_is_passed_over_for_the_next(
    neighbourhood: Neighbourhood, mortal: NodeProcess
) -> None:
    world = await world_of(neighbourhood, mortal.account())
    mortal.kill()
    opening = await world.watch()
    assert not opening.urls[0][1].startswith(mortal.viewer_url)
    assert (await watch_http(opening.urls[0][1], frames=2, timeout_s=10)).codec == "h264"
    assert "无法连接媒体节点：对端拒绝连接" in world.seat().trouble


async def test_a_node_that_dies_before_the_first_packet_is_blamed_and_not_the_device(
    neighbourhood: Neighbourhood, mortal: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_of(neighbourhood, mortal.account())
    downward = world.platform.gateway.downward
    call_device = downward.open_live

    async def die_first(request: LiveRequest, timeout_s: float) -> LiveCall:
        mortal.kill()
        return await call_device(replace(request, announce=unheard), timeout_s)

    async def unheard(ssrc: int) -> None:
        return

    monkeypatch.setattr(downward, "open_live", die_first)
    with pytest.raises(Unavailable, match=r"媒体节点") as caught:
        await world.watch()
    assert caught.value.code == 50302


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


@pytest.mark.parametrize(
    ("behind_s", "words"),
    [
        (-3700, "平台的时钟比媒体节点快 1 小时 1 分"),
        (3661, "平台的时钟比媒体节点慢 1 小时 1 分"),
        (90, "慢 1 分"),
    ],
)
async def test_a_clock_that_differs_is_named_with_its_direction_and_by_how_much(
    node: NodeProcess, behind_s: int, words: str
) -> None:
    clock = ManualClock(start=datetime.now(UTC) - timedelta(seconds=behind_s))
    assert re.search(f"拒绝：.*{words}.*请为两机校时", await trouble_of(node.account(), clock))


async def test_what_is_configured_wrongly_is_named(
    node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = node.account()
    assert "请核对两端的 secret" in await trouble_of(replace(account, secret="another of a test"))
    assert "请核对两端的 secret" in await trouble_of(replace(account, platform_id=CITY))
    assert "没有第 3 版的媒体节点控制接口" in await trouble_of(replace(account, api=node.viewer_url))
    monkeypatch.setattr(clients, "PREFIX", "/media/v1/")
    assert "控制接口为第 3 版，平台按 v1 调用" in await trouble_of(account)


async def call(
    node: NodeProcess, signer: Signer, verb: str, body: bytes, owner: str = "test"
) -> httpx2.Response:
    path = f"{wire.PREFIX}{verb}"
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
    url, path = f"{node.api}{wire.PREFIX}look", f"{wire.PREFIX}look"
    headers = signer.headers("POST", path, "", b"{}", "test")
    async with httpx2.AsyncClient(trust_env=False, headers={"Content-Type": "application/json"}) as http:
        codes = [
            (await http.post(url, content=body, headers=signed)).status_code
            for body, signed in ((b"{}", {}), (b"{ }", headers), (b"{}", headers))
        ]
        other = signer.headers("POST", path, "", b"{}", "test")
        codes += [(await http.post(url, content=b"{}", headers=other)).status_code for _ in range(2)]
    assert codes == [401, 401, 401, 200, 401]
