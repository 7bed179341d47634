"""One platform, one simulated camera: every way to a picture, and every way not to get one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tongshi.errors import NotFound, PeerFailed, PeerTimeout, TongshiError, Unavailable
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Step, Transport
from tongshi.resources.viewing.ptz import Command, Turn
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"
ROW = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101")

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def wish(**changes: Any) -> Wish:
    return Wish(**{"device_id": DeviceId(CODE), "expire_s": 5, **changes})


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    return made


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP_PASSIVE, Transport.TCP_ACTIVE])
async def test_a_picture_arrives_and_everything_is_released_after_the_viewer_left(
    neighbourhood: Neighbourhood, platform: SmallPlatform, transport: Transport
) -> None:
    camera = await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, wish(transport=transport))
    steps = [mark.step for mark in opening.view.marks]
    assert steps == list(Step)[:6]
    assert opening.view.codec is not None
    assert opening.view.codec.video == "h264"
    watched = await watch_http(opening.urls[0][1], frames=4, timeout_s=10)
    assert watched.codec == "h264"
    await neighbourhood.until(lambda: camera.calls.count == 0)
    await neighbourhood.nothing_left(platform)
    ended = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert ended.end_reason is EndReason.VIEWER_LEFT


async def test_a_second_viewer_shares_the_stream_and_closing_one_leaves_the_other(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    camera = await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    first = await platform.viewing.watch(platform.viewer, wish())
    second = await platform.viewing.watch(
        platform.viewer, wish(deliveries=(Delivery.HTTP_FMP4, Delivery.HTTP_FLV))
    )
    assert (first.view.reused, second.view.reused) == (False, True)
    assert first.view.stream_id == second.view.stream_id
    assert camera.calls.count == 1
    closing = await platform.viewing.stop(platform.viewer, first.view.session_id)
    assert (closing.closed, closing.remaining_viewers) == (True, 1)
    again = await platform.viewing.stop(platform.viewer, first.view.session_id)
    assert not again.closed
    watched = await watch_http(second.urls[0][1], frames=3, timeout_s=10)
    assert watched.codec == "h264"
    await neighbourhood.nothing_left(platform)


@pytest.mark.parametrize("delivery", [Delivery.WS_FLV, Delivery.WS_FMP4])
async def test_a_picture_comes_by_websocket(
    neighbourhood: Neighbourhood, platform: SmallPlatform, delivery: Delivery
) -> None:
    await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, wish(deliveries=(delivery,)))
    ((named, url),) = opening.urls
    assert (named, url.partition(":")[0]) == (delivery, "ws")
    assert (await watch_http(url, frames=4, timeout_s=10)).codec == "h264"
    await neighbourhood.nothing_left(platform)
    ended = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert ended.end_reason is EndReason.VIEWER_LEFT


async def test_h265_is_named_in_the_answer_and_served_as_fmp4(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await neighbourhood.camera(
        platform, CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", codec="h265")
    )
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, wish(deliveries=(Delivery.HTTP_FMP4,)))
    assert opening.view.codec is not None
    assert opening.view.codec.video == "h265"
    watched = await watch_http(opening.urls[0][1], frames=5, timeout_s=10)
    assert watched.codec == "hevc"


@pytest.mark.parametrize(
    ("faults", "kind", "code", "step"),
    [
        (Faults(never_answer_invite=True), PeerTimeout, 50401, Step.ANSWERED),
        (Faults(refuse_invite=486), PeerFailed, 50201, Step.ANSWERED),
        (Faults(no_media=True), PeerTimeout, 50402, Step.FIRST_PACKET),
        (Faults(wrong_ssrc=True), PeerTimeout, 50402, Step.FIRST_PACKET),
        (Faults(garbage_media=True), PeerTimeout, 50403, Step.FIRST_KEY_FRAME),
    ],
)
async def test_each_failure_has_its_own_answer_and_leaves_nothing(
    neighbourhood: Neighbourhood,
    platform: SmallPlatform,
    faults: Faults,
    kind: type[TongshiError],
    code: int,
    step: Step,
) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=faults)
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    with pytest.raises(kind) as caught:
        await platform.viewing.watch(platform.viewer, wish())
    assert caught.value.code == code
    (view,) = platform.viewing.recent(platform.viewer)
    assert view.failure is not None
    assert (view.failure.code, view.failure.step) == (code, step)
    assert view.end_reason is EndReason.FAILED
    if code == 50201:
        assert caught.value.details["sipStatus"] == 486
    await neighbourhood.nothing_left(platform)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_a_camera_that_dies_in_the_middle_ends_the_session_with_its_reason(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(drop_after_s=0.5))
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, wish())
    with pytest.raises(TongshiError):
        await watch_http(opening.urls[0][1], frames=500, timeout_s=10)
    ended = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert ended.end_reason in (EndReason.MEDIA_LOST, EndReason.DEVICE_OFFLINE)
    await neighbourhood.nothing_left(platform)
    with pytest.raises(Unavailable) as caught:
        async with asyncio.timeout(15):
            while True:
                await neighbourhood.until(lambda: CODE not in platform.gateway.peers)
                await platform.viewing.watch(platform.viewer, wish())
    assert caught.value.code == 50301


async def test_an_unknown_device_and_one_without_grant_look_the_same(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    with pytest.raises(NotFound) as caught:
        await platform.viewing.watch(platform.viewer, wish())
    assert caught.value.code == 40401
    assert not len(platform.viewing.streams)


async def test_a_ticket_is_good_once_for_one_address_and_one_stream(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, wish())
    url = opening.urls[0][1]
    ticket = url.partition("ticket=")[2]
    base = url.partition("/live/")[0]

    async def status(address: str) -> int:
        with pytest.raises(PeerFailed) as caught:
            await watch_http(address, frames=1, timeout_s=5)
        found = caught.value.details["httpStatus"]
        assert isinstance(found, int)
        return found

    assert await status(f"{base}/live/{opening.view.stream_id}.flv") == 401
    assert await status(f"{base}/live/{opening.view.stream_id}.flv?ticket=x") == 401
    assert await status(f"{base}/live/0123.flv?ticket={ticket}") == 404
    assert await status(f"{base}/else") == 404
    assert (await watch_http(url, frames=3, timeout_s=10)).frames >= 3
    assert await status(url) == 410


async def test_an_address_that_is_not_opened_in_time_expires(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, wish(expire_s=1))
    await neighbourhood.nothing_left(platform)
    ended = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert ended.end_reason is EndReason.EXPIRED


async def test_ptz_reaches_the_camera_and_stops_by_itself(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    camera = await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    device = DeviceId(CODE)
    reply = await platform.ptz.turn(platform.viewer, Turn(device, Command.RIGHT, auto_stop_ms=150))
    assert reply.sip_status == 200
    assert 0 < reply.delay_ms < 5_000
    taken = camera.device.channels[CODE].instructions
    await neighbourhood.until(lambda: len(taken) >= 2)
    first, second = list(taken)[:2]
    assert (first.code, second.code) == (0x01, 0x00)
    assert platform.ptz.moving == 0


async def test_an_abandoned_request_cancels_the_call(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    row = CameraPlan(
        id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(never_answer_invite=True)
    )
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    asking = asyncio.create_task(platform.viewing.watch(platform.viewer, wish()))
    await neighbourhood.until(lambda: bool(platform.gateway.ssrcs_in_use))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await neighbourhood.nothing_left(platform)
