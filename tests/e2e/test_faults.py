"""What becomes of a picture, and of what it held, when platforms, cameras and viewers fail.

Every test leaves the two platforms running and at rest; a platform that a test killed is started again by it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tongshi.errors import PeerFailed
from tongshi.testing.plan import Faults
from tongshi.testing.viewer import watch_http

if TYPE_CHECKING:
    from tests.e2e.conftest import Footprint, Viewing, World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]

# Heartbeats every 2 s, three may be missed, one interval of grace: 8 s, and time for sweep and way.
NOTICED_S = 14.0
CROWD = 40
BACK_S = 3.0  # from the first answered question to a platform that was started again
LINGER_S = 1.0  # a district keeps a picture that nobody watches for so long


async def warm(world: World, code: str) -> None:
    """Use a platform a little, so that what it opens once and keeps is open before it is counted.

    Those are the readers of the database and the threads of bounded pools, which come with the first crowd.
    """
    for key in world.running:
        await world.crowd(key, CROWD)
    answer = await world.open(code)
    await watch_http(answer["urls"][0]["url"], frames=3, timeout_s=10)
    await world.until(world.is_quiet, 10, "the first picture is not released")


async def footprint_returns(world: World, key: str, before: Footprint) -> None:
    """Files and threads of a platform come back to what they were."""

    def is_back() -> bool:
        now = world.footprint(key)
        return now.files <= before.files and now.threads <= before.threads

    def left() -> str:
        now = world.footprint(key)
        return f"{key}: {before}, now {now}: {set(now.links) - set(before.links)}"

    await world.until(is_back, 15, left)


async def picture_comes(world: World, code: str, timeout_s: float = 30.0) -> None:
    """A camera's picture can be had at the city, perhaps after a while."""

    async def is_seen() -> bool:
        answer = await world.open(code)
        watched = await watch_http(answer["urls"][0]["url"], frames=5, timeout_s=10)
        return watched.frames >= 5

    await world.until(is_seen, timeout_s, "no picture after the recovery")
    await world.until(world.is_quiet, 15, "the picture after the recovery is not released")


async def test_a_district_that_is_killed_ends_the_picture_with_a_reason(
    world: World, viewer: type[Viewing]
) -> None:
    code = world.heavy
    await warm(world, code)
    before = world.footprint("city")
    answer = await world.open(code)
    watching = (await viewer.of(answer["urls"][0]["url"])).read_on()
    await world.until(lambda: watching.received > 100_000, 10, "no picture")

    await world.kill("huangpu")

    async with asyncio.timeout(NOTICED_S):
        await watching.ended.wait()
    session = await world.session(answer["sessionId"])
    assert session["endReason"] in ("deviceOffline", "mediaLost")
    assert session["endText"]
    assert await world.streams("city") == []
    await watching.close()
    await footprint_returns(world, "city", before)
    with pytest.raises(PeerFailed) as refused:
        await world.open(code)
    assert refused.value.code == 50301
    # Nobody can tell the camera: it must notice by its heartbeats (Annex K 2).
    camera = world.cameras[code]
    await world.until(lambda: camera.calls.count == 0, NOTICED_S, "the camera sends to nobody")

    await world.start("huangpu")
    await picture_comes(world, code)


async def test_a_city_that_is_killed_is_released_below_and_recovers(
    world: World, viewer: type[Viewing]
) -> None:
    code = world.heavy
    await warm(world, code)
    before = world.footprint("huangpu")
    answer = await world.open(code)
    watching = (await viewer.of(answer["urls"][0]["url"])).read_on()
    await world.until(lambda: watching.received > 100_000, 10, "no picture")
    assert world.cameras[code].calls.count == 1

    await world.kill("city")

    async with asyncio.timeout(15):
        await watching.ended.wait()
    await watching.close()
    camera = world.cameras[code]
    await world.until(lambda: camera.calls.count == 0, NOTICED_S, "the camera still sends")
    await world.until(lambda: _has_none(world, "huangpu"), 5, "the district still holds the stream")
    await footprint_returns(world, "huangpu", before)

    await world.start("city")
    await world.ready()  # registered, known, archives equal
    await picture_comes(world, code)


async def test_a_district_that_is_killed_and_back_at_once_stops_its_cameras_and_shows_them_again(
    world: World, viewer: type[Viewing]
) -> None:
    code = world.heavy
    camera = world.cameras[code]
    answer = await world.open(code)
    watching = (await viewer.of(answer["urls"][0]["url"])).read_on()
    await world.until(lambda: watching.received > 100_000, 10, "no picture")
    (before,) = camera.calls.ids

    await world.kill("huangpu")
    await world.start("huangpu")

    # The camera's heartbeats are answered again: only the BYE of the new process can end what it sends.
    await world.until(lambda: before not in camera.calls.ids, BACK_S, "the camera sends to nobody")
    async with asyncio.timeout(BACK_S):
        await watching.ended.wait()
    await watching.close()
    assert (await world.session(answer["sessionId"]))["endReason"] == "deviceEnded"
    await picture_comes(world, code, BACK_S)


async def test_a_city_that_is_killed_and_back_at_once_releases_the_district_and_its_camera(
    world: World, viewer: type[Viewing]
) -> None:
    code = world.heavy
    camera = world.cameras[code]
    answer = await world.open(code)
    watching = (await viewer.of(answer["urls"][0]["url"])).read_on()
    await world.until(lambda: watching.received > 100_000, 10, "no picture")
    (before,) = camera.calls.ids

    await world.kill("city")
    await world.start("city")

    await world.until(lambda: before not in camera.calls.ids, BACK_S + LINGER_S, "the camera still sends")
    await watching.close()
    await picture_comes(world, code, BACK_S)


async def _has_none(world: World, key: str) -> bool:
    return not await world.streams(key)


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        (Faults(never_answer_invite=True), 50401, "应答"),
        (Faults(refuse_invite=603), 50201, "拒绝"),
        (Faults(no_media=True), 50402, "没有发送"),
        (Faults(wrong_ssrc=True), 50402, "没有发送"),
        (Faults(garbage_media=True), 50403, "解码"),
    ],
    ids=["silent", "refusing", "no-media", "wrong-ssrc", "garbage"],
)
async def test_a_camera_fault_has_its_own_number_two_levels_up(
    world: World, faults: Faults, code: int, words: str
) -> None:
    camera = world.cameras[world.heavy]
    camera.faults = faults
    with pytest.raises(PeerFailed) as failed:
        await world.open(world.heavy)
    assert failed.value.code == code, failed.value
    assert words in str(failed.value)
    sessions = (await world.consoles["city"].call("GET", "/api/v1/video/sessions?limit=1"))["list"]
    failure = sessions[0]["failure"]
    assert failure["code"] == code
    if code == 50201:
        assert failure["details"]["sipStatus"] >= 400
    await world.until(world.is_quiet, 5, "something is left behind")


async def test_a_camera_that_dies_in_the_middle_ends_the_picture_two_levels_up(
    world: World, viewer: type[Viewing]
) -> None:
    code = world.heavy
    answer = await world.open(code)
    watching = (await viewer.of(answer["urls"][0]["url"])).read_on()
    await world.until(lambda: watching.received > 100_000, 10, "no picture")
    await world.cameras[code].vanish()
    async with asyncio.timeout(NOTICED_S):
        await watching.ended.wait()
    session = await world.session(answer["sessionId"])
    assert session["endReason"] in ("deviceEnded", "deviceOffline", "mediaLost")
    await watching.close()
    for key in ("city", "huangpu"):
        assert await world.streams(key) == []
    await world.replace_camera(code)


async def test_a_viewer_that_does_not_read_costs_its_neighbour_nothing(
    world: World, viewer: type[Viewing]
) -> None:
    stalled_at, reading_at = await world.open(world.heavy), await world.open(world.heavy)
    stalled = await viewer.of(stalled_at["urls"][0]["url"], receive_buffer=4096)
    reading = (await viewer.of(reading_at["urls"][0]["url"])).read_on()

    async def is_closed() -> bool:
        session = await world.session(stalled_at["sessionId"])
        return bool(session["endReason"] == "viewerLeft")

    # Ten seconds without progress, after what the kernel takes for it.
    await world.until(is_closed, 25, "the viewer that does not read is still served")
    assert not reading.ended.is_set()
    assert reading.longest_gap_s < 2.0
    session = await world.session(reading_at["sessionId"])
    assert session["endReason"] is None
    await stalled.close()
    await reading.close()


async def test_silent_viewers_are_dropped_and_keep_nobody_out(world: World) -> None:
    before = world.footprint("city")
    port = world.site("city").media_port
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for number, connection in enumerate(silent):
        connection.setblocking(False)
        if number % 2:
            connection.send(b"GET /live/")
    answer = await world.open(world.heavy)
    watched = await watch_http(answer["urls"][0]["url"], frames=5, timeout_s=10)
    assert watched.first_frame_ms < 2_000
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*(loop.sock_recv(one, 100) for one in silent), return_exceptions=True)
    assert all(isinstance(end, OSError) or end == b"" for end in ends)
    for connection in silent:
        connection.close()
    await footprint_returns(world, "city", before)


@pytest.mark.parametrize("key", ["huangpu", "city"])
async def test_a_platform_told_to_stop_says_goodbye_in_the_middle_of_pictures(
    world: World, viewer: type[Viewing], key: str
) -> None:
    codes = list(world.cameras)[:2]
    answers = [await world.open(code) for code in codes]
    watching = [(await viewer.of(answer["urls"][0]["url"])).read_on() for answer in answers]
    await world.until(lambda: all(one.received > 20_000 for one in watching), 10, "no picture")

    assert await world.terminate(key, 15) == 0

    async with asyncio.timeout(15):
        await asyncio.gather(*(one.ended.wait() for one in watching))
    for one in watching:
        await one.close()
    await world.until(lambda: not any(c.calls.count for c in world.cameras.values()), 5, "no BYE below")
    other = "city" if key == "huangpu" else "huangpu"
    await world.until(lambda: _has_none(world, other), 5, "the other platform still holds a stream")
    if key == "huangpu":
        for answer in answers:
            assert (await world.session(answer["sessionId"]))["endReason"] == "deviceEnded"
        await world.until(lambda: _is_offline(world), 3, "no deregistration")
    for port in _ports(world, key):
        _bind_both(port)
    await world.start(key)


async def _is_offline(world: World) -> bool:
    return not (await world.neighbour("city", "huangpu"))["online"]


def _ports(world: World, key: str) -> tuple[int, ...]:
    site = world.site(key)
    return site.http_port, site.sip_port, site.media_port


def _bind_both(port: int) -> None:
    """Raises OSError when something is still bound."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


async def test_a_wrong_secret_between_platforms_is_named_on_both_exchange_pages(world: World) -> None:
    settings = world.settings("huangpu")
    wrong = tuple(msgspec.structs.replace(one, rest_secret="f" * 48) for one in settings.neighbours)
    await world.terminate("huangpu", 15)
    await world.start("huangpu", msgspec.structs.replace(settings, neighbours=wrong))
    for of, key in (("huangpu", "city"), ("city", "huangpu")):

        async def is_named(of: str = of, key: str = key) -> bool:
            shown: dict[str, Any] = await world.neighbour(of, key)
            return "签名" in (shown["lastError"] or "")

        await world.until(is_named, 10, f"the page of {of} does not name the signature")
    await world.terminate("huangpu", 15)
    await world.start("huangpu")
    await world.ready()
    for of, key in (("huangpu", "city"), ("city", "huangpu")):
        assert not (await world.neighbour(of, key))["lastError"]
