"""Cameras on one media port: told apart by SSRC, by source when two say the same, and by nothing else."""

from __future__ import annotations

import secrets
import socket
from typing import Any

import pytest

from tongshi.errors import PeerTimeout
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.small_platform import HOST, Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM = "31010100002000000001"
CITY = "31000000002000000001"
ONE, TWO = "31010100001320000001", "31010100001320000002"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def free_port() -> int:
    """Free for UDP and TCP, and below those that the system gives to others meanwhile."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((HOST, port))
                udp.bind((HOST, port))
            except OSError:
                continue
            return port


async def shared(neighbourhood: Neighbourhood, **plan: Any) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(
        PlatformPlan(PLATFORM, rtp_shared_port=free_port(), **plan)
    )
    return made


async def camera(
    neighbourhood: Neighbourhood, platform: SmallPlatform, code: str, *, codec: Any = "h264", **faults: Any
) -> None:
    row = CameraPlan(
        id=code,
        scene="crossing-day",
        civil_code="310101",
        codec=codec,
        audio=bool(faults.get("elementary")),
        faults=Faults(**faults),
    )
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, code)


async def watched(platform: SmallPlatform, code: str, transport: Transport) -> Any:
    return await platform.viewing.watch(
        platform.viewer, Wish(DeviceId(code), expire_s=120, transport=transport)
    )


def native(platform: SmallPlatform) -> Any:
    return platform.engine.native


def stats(platform: SmallPlatform, opening: Any) -> Any:
    return native(platform).stats(opening.view.stream_id)


# Each pair of cameras: as they should; both with an SSRC of their own; and one that names none.
@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE])
@pytest.mark.parametrize(
    ("one", "two"), [({}, {}), ({"own_ssrc": 7}, {"own_ssrc": 9}), ({"names_no_ssrc": True}, {})]
)
async def test_two_cameras_are_seen_on_one_port(
    neighbourhood: Neighbourhood,
    transport: Transport,
    one: dict[str, Any],
    two: dict[str, Any],
) -> None:
    platform = await shared(neighbourhood)
    await camera(neighbourhood, platform, ONE, **one)
    await camera(neighbourhood, platform, TWO, codec="h265", **two)
    first = await watched(platform, ONE, transport)
    second = await watched(platform, TWO, transport)
    assert (first.view.codec.video, second.view.codec.video) == ("h264", "h265")
    port = platform.plan.rtp_shared_port
    assert native(platform).port_stats(transport.value, HOST, port)["streams"] == 2
    for opening in (first, second):
        assert (stats(platform, opening)["lost"], stats(platform, opening)["foreign_ssrc"]) == (0, 0)
    assert (await watch_http(first.urls[0][1], frames=4, timeout_s=10)).codec == "h264"


async def test_two_cameras_of_one_ssrc_are_told_apart_by_where_they_send_from(
    neighbourhood: Neighbourhood,
) -> None:
    platform = await shared(neighbourhood)
    await camera(neighbourhood, platform, ONE, own_ssrc=7)
    await camera(neighbourhood, platform, TWO, codec="h265", own_ssrc=7)
    first = await watched(platform, ONE, Transport.UDP)
    second = await watched(platform, TWO, Transport.UDP)
    assert (second.view.codec.video, stats(platform, second)["ssrc"]) == ("h265", 7)
    seen = await watch_http(first.urls[0][1], frames=8, timeout_s=10)
    assert (seen.codec, len(seen.codes)) == ("h264", 8)
    assert (stats(platform, second)["malformed"], stats(platform, second)["lost"]) == (0, 0)


async def test_a_camera_that_sends_another_ssrc_than_it_answered_is_not_taken_for_another(
    neighbourhood: Neighbourhood,
) -> None:
    platform = await shared(neighbourhood)
    await camera(neighbourhood, platform, ONE)
    await camera(neighbourhood, platform, TWO, wrong_ssrc=True)
    first = await watched(platform, ONE, Transport.UDP)
    with pytest.raises(PeerTimeout) as caught:
        await watched(platform, TWO, Transport.UDP)
    assert caught.value.code == 50402
    assert caught.value.details["foreignSsrcPackets"]
    assert stats(platform, first)["foreign_ssrc"] == 0


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE])
@pytest.mark.parametrize(("codec", "payload_type"), [("h264", 98), ("h265", 100), ("h264", 111)])
async def test_a_camera_of_elementary_streams_is_seen_and_heard(
    neighbourhood: Neighbourhood, transport: Transport, codec: str, payload_type: int
) -> None:
    platform = await shared(neighbourhood)
    await camera(neighbourhood, platform, ONE, codec=codec, elementary=payload_type)
    opening = await watched(platform, ONE, transport)
    assert opening.view.codec.video == codec
    await neighbourhood.until(lambda: stats(platform, opening)["audio_codec"] == "g711a")
    assert stats(platform, opening)["malformed"] == 0


async def test_elementary_streams_go_up_as_the_program_stream_that_was_agreed(
    neighbourhood: Neighbourhood,
) -> None:
    city: SmallPlatform = await neighbourhood.platform(
        PlatformPlan(
            CITY, neighbours=(Neighbour(PLATFORM, Relation.LOWER, "up"),), rtp_shared_port=free_port()
        )
    )
    above = Neighbour(CITY, Relation.UPPER, "up", city.gateway.port)
    platform = await shared(neighbourhood, neighbours=(above,))
    await camera(neighbourhood, platform, ONE, elementary=98)
    await neighbourhood.catalogue(city, PLATFORM)
    await neighbourhood.known(city, ONE)
    opening = await watched(city, ONE, Transport.UDP)
    figures = stats(city, opening)
    # Past two groups: the change from the cached group to what follows is behind us.
    await neighbourhood.until(lambda: stats(city, opening)["key_frames"] >= 3, timeout_s=10)
    figures = stats(city, opening)
    assert (figures["video_codec"], figures["audio_codec"]) == ("h264", "g711a")
    assert (figures["malformed"], figures["lost"]) == (0, 0)
    assert (await watch_http(opening.urls[0][1], frames=10, timeout_s=10)).codec == "h264"
