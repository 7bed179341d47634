"""A district below a city: catalogue upward, picture and PTZ downward, and every way that breaks."""

from __future__ import annotations

from typing import Any

import pytest

from tongshi.errors import PeerFailed, PeerTimeout, TongshiError
from tongshi.gateways.media.engine import EngineIngest
from tongshi.gateways.signalling.trace.ring import Note
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.model import EndReason, Transport
from tongshi.resources.viewing.ptz import Command, Turn
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"
CODE, SECRET = "31010100001320000001", "cascade-secret"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def camera_row(**faults: Any) -> CameraPlan:
    return CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(**faults))


async def two_levels(
    neighbourhood: Neighbourhood, transport: Transport = Transport.UDP
) -> tuple[SmallPlatform, SmallPlatform]:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET, media_transport=transport)
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    return city, district


async def known_above(
    neighbourhood: Neighbourhood, city: SmallPlatform, district: SmallPlatform, row: CameraPlan
) -> Any:
    camera = await neighbourhood.camera(district, row)
    await neighbourhood.known(district, CODE)
    await neighbourhood.catalogue(city, DISTRICT)
    await neighbourhood.known(city, CODE)
    return camera


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE, Transport.TCP_ACTIVE])
async def test_a_picture_travels_through_both_levels_and_both_release_it(
    neighbourhood: Neighbourhood, transport: Transport
) -> None:
    city, district = await two_levels(neighbourhood, transport)
    camera = await known_above(neighbourhood, city, district, camera_row())
    archive = await city.devices.get(CODE)
    assert archive.owner == DISTRICT
    assert await city.devices.find(DISTRICT) is None  # a system is a node of the tree, no device
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE)))
    assert district.gateway.relays == 1
    watched = await watch_http(opening.urls[0][1], frames=5, timeout_s=10)
    assert (watched.codec, watched.frames >= 5) == ("h264", True)
    await neighbourhood.nothing_left(city, district)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_a_key_frame_wanted_above_is_asked_of_the_camera_once_for_all(
    neighbourhood: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    city, district = await two_levels(neighbourhood)
    camera = await known_above(neighbourhood, city, district, camera_row())
    asked: list[str] = []
    make = camera.calls.ask_key_frame

    def ask(code: str) -> None:
        asked.append(code)
        make(code)

    monkeypatch.setattr(camera.calls, "ask_key_frame", ask)
    here = await district.viewing.watch(district.viewer, Wish(DeviceId(CODE)))
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE)))
    above, below = (
        platform.viewing.streams.find(view.stream_id)
        for platform, view in ((city, opening.view), (district, here.view))
    )
    assert isinstance(above and above.ingest, EngineIngest)
    for _ in range(5):
        above.ingest.take_event("key_frame_wanted", "asked")  # type: ignore[union-attr]
    await neighbourhood.until(lambda: noted(city, opening.view.trace_id))
    below.ingest.take_event("key_frame_wanted", "dark")  # type: ignore[union-attr]
    assert asked == [CODE]
    assert noted(city, opening.view.trace_id) == ["播放端请求关键帧，已向设备索要"]
    assert noted(district, here.view.trace_id) == ["上级平台请求关键帧，已向设备索要"]
    await city.viewing.stop(city.viewer, opening.view.session_id)
    await district.viewing.stop(district.viewer, here.view.session_id)
    await neighbourhood.nothing_left(city, district)


def noted(platform: SmallPlatform, trace_id: str) -> list[str]:
    """What a timeline says of key frames that were asked for."""
    session = platform.gateway.timeline.find(trace_id)
    assert session is not None
    return [one.text for one in session.all() if isinstance(one, Note) and one.step == "keyFrameAsked"]


async def test_ptz_from_above_reaches_the_camera(neighbourhood: Neighbourhood) -> None:
    city, district = await two_levels(neighbourhood)
    camera = await known_above(neighbourhood, city, district, camera_row())
    turn = Turn(DeviceId(CODE), Command.UP, auto_stop_ms=100)
    reply = await city.ptz.turn(city.viewer, turn)
    assert reply.delay_ms < 400
    await neighbourhood.until(lambda: len(camera.device.channels[CODE].instructions) >= 2)


@pytest.mark.parametrize(
    ("faults", "kind", "code"),
    [
        ({"never_answer_invite": True}, PeerTimeout, 50401),
        ({"no_media": True}, PeerTimeout, 50402),
        ({"garbage_media": True}, PeerTimeout, 50403),
        ({"refuse_invite": 603}, PeerFailed, 50201),
    ],
)
async def test_a_failure_below_has_its_answer_above(
    neighbourhood: Neighbourhood, faults: dict[str, Any], kind: type[TongshiError], code: int
) -> None:
    city, district = await two_levels(neighbourhood)
    await known_above(neighbourhood, city, district, camera_row(**faults))
    with pytest.raises(kind) as caught:
        await city.viewing.watch(city.viewer, Wish(DeviceId(CODE)))
    assert caught.value.code == code
    await neighbourhood.nothing_left(city, district)


async def test_a_district_that_dies_in_the_middle_ends_the_session(neighbourhood: Neighbourhood) -> None:
    city, district = await two_levels(neighbourhood)
    await known_above(neighbourhood, city, district, camera_row())
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE)))
    await district.gateway.endpoint.stop(silently=True)
    await district.engine.stop()
    await neighbourhood.nothing_left(city)
    ended = city.viewing.session(city.viewer, opening.view.session_id)
    assert ended.end_reason in (EndReason.MEDIA_LOST, EndReason.DEVICE_OFFLINE)
    await neighbourhood.until(lambda: DISTRICT not in city.gateway.peers)


async def test_a_city_that_dies_releases_the_camera_of_the_district(neighbourhood: Neighbourhood) -> None:
    city, district = await two_levels(neighbourhood)
    camera = await known_above(neighbourhood, city, district, camera_row())
    await city.viewing.watch(city.viewer, Wish(DeviceId(CODE)))
    await city.gateway.endpoint.stop(silently=True)
    await neighbourhood.nothing_left(district)
    await neighbourhood.until(lambda: camera.calls.count == 0)
