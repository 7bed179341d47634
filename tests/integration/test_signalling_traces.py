"""Timelines over real sockets: a failed picture names its step, and both legs of a cascade stand in one."""

from __future__ import annotations

from typing import Any

import pytest

from tongshi.errors import PeerTimeout
from tongshi.ids import DeviceId
from tongshi.protocols import pcap
from tongshi.resources.platforms.model import Relation
from tongshi.resources.traces.model import TraceDetail, TraceFilter, TraceKind, TraceState
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.viewer import watch_http

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"
CODE, SECRET = "31010100001320000001", "cascade-secret"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def row(**faults: Any) -> CameraPlan:
    return CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(**faults))


def timeline(platform: SmallPlatform, trace_id: str) -> TraceDetail:
    found = platform.gateway.traces.timeline(trace_id)
    assert found is not None
    return found


def only(platform: SmallPlatform, **wanted: Any) -> TraceDetail:
    (key,) = platform.gateway.traces.find(TraceFilter(**wanted))
    return timeline(platform, key.trace_id)


@pytest.mark.parametrize(
    ("faults", "code", "step", "outcome"),
    [
        ({"never_answer_invite": True}, 50401, "设备应答", "对端未应答呼叫（50401）"),
        ({"no_media": True}, 50402, "收到首个媒体包", "设备已应答，但没有发送视频（50402）"),
        ({"garbage_media": True}, 50403, "收到首个关键帧", "设备已发送数据，但其中没有可解码的画面（50403）"),
    ],
)
async def test_a_failed_picture_names_its_step_in_the_timeline_of_its_error(
    neighbourhood: Neighbourhood, faults: dict[str, Any], code: int, step: str, outcome: str
) -> None:
    platform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    await neighbourhood.camera(platform, row(**faults))
    await neighbourhood.known(platform, CODE)
    with pytest.raises(PeerTimeout) as caught:
        await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE)))
    assert caught.value.code == code
    trace_id = str(caught.value.details["traceId"])
    (view,) = platform.viewing.recent(platform.viewer)
    assert view.trace_id == trace_id
    found = timeline(platform, trace_id)
    summary = found.summary
    assert (summary.kind, summary.state, summary.failed_step) == (TraceKind.VIEWING, TraceState.FAILED, step)
    assert summary.outcome.startswith(outcome)
    assert (summary.device_id, summary.peer_id) == (CODE, CODE)
    lines = [event.first_line for event in found.events]
    assert any(line.startswith(f"INVITE sip:{CODE}@") for line in lines)
    assert lines.index("requested") < lines.index("authorised") < lines.index("invited")
    trouble = [event.meaning for event in found.events if event.is_trouble]
    assert len(trouble) == 1
    assert trouble[0].startswith(f"停在“{step}”：{outcome}")


async def test_a_picture_that_came_has_every_step_and_its_call(neighbourhood: Neighbourhood) -> None:
    platform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await neighbourhood.camera(platform, row())
    await neighbourhood.known(platform, CODE)
    opening = await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE)))
    await watch_http(opening.urls[0][1], frames=2, timeout_s=10)
    await neighbourhood.until(lambda: camera.calls.count == 0)
    found = timeline(platform, opening.view.trace_id)
    lines = [event.first_line.split(" ")[0] for event in found.events]
    said = [line for line in lines if line not in ("SIP/2.0",)]
    assert said == [
        "requested", "authorised", "invited", "INVITE", "ACK", "answered", "firstPacket", "firstKeyFrame",
        "opened", "ended", "BYE",
    ]  # fmt: skip
    assert found.summary.state is TraceState.DONE
    assert all(event.gap_ms >= 0 for event in found.events)
    packets = platform.gateway.traces.capture(opening.view.trace_id)
    assert packets is not None
    assert {packet.source.port for _, packet in packets} >= {platform.gateway.port}
    assert pcap.render(packet for _, packet in packets)[:4] == b"\xd4\xc3\xb2\xa1"
    call = only(platform, kind=TraceKind.CALL)
    assert (call.summary.state, call.summary.outcome) == (TraceState.DONE, "已挂断")


async def test_a_second_viewer_finds_the_call_that_was_there(neighbourhood: Neighbourhood) -> None:
    platform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    await neighbourhood.camera(platform, row())
    await neighbourhood.known(platform, CODE)
    await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE)))
    second = await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE)))
    found = timeline(platform, second.view.trace_id)
    assert any(event.first_line.startswith("INVITE") for event in found.events)


async def test_registration_and_catalogue_are_sessions_without_secrets(neighbourhood: Neighbourhood) -> None:
    platform = await neighbourhood.platform(PlatformPlan(DISTRICT))
    await neighbourhood.camera(platform, row())
    await neighbourhood.known(platform, CODE)
    await neighbourhood.until(lambda: platform.gateway.traces.find(TraceFilter(kind=TraceKind.HEARTBEAT)))
    registration = only(platform, kind=TraceKind.REGISTRATION, device_id=CODE)
    assert [event.meaning for event in registration.events][0::3] == [
        "注册请求",
        "200 注册成功，有效期 3600 秒",
    ] or len(registration.events) == 4
    assert "注册请求（携带认证）" in [event.meaning for event in registration.events]
    texts = "".join(event.text for event in registration.events)
    assert 'nonce="***' in texts
    assert 'response="***' in texts
    catalogue = only(platform, kind=TraceKind.QUERY)
    assert catalogue.summary.state is TraceState.DONE
    assert "设备目录查询" in [event.meaning for event in catalogue.events]


async def test_both_legs_of_a_cascade_are_one_timeline(neighbourhood: Neighbourhood) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    camera = await neighbourhood.camera(district, row())
    await neighbourhood.known(district, CODE)
    await neighbourhood.catalogue(city, DISTRICT)
    await neighbourhood.known(city, CODE)
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE)))
    assert timeline(city, opening.view.trace_id).summary.peer_id == DISTRICT
    keys = district.gateway.traces.find(TraceFilter(kind=TraceKind.CALL))
    assert len(keys) == 2
    for key in keys:
        events = timeline(district, key.trace_id).events
        assert {(e.peer_id, e.direction) for e in events if e.first_line.startswith("INVITE")} == {
            (CITY, "in"),
            (CODE, "out"),
        }
        assert "firstKeyFrame" in [event.first_line for event in events]
    await city.viewing.stop(city.viewer, opening.view.session_id)
    await neighbourhood.until(lambda: camera.calls.count == 0)


async def test_a_catalogue_asked_by_an_upper_is_a_session_with_our_answers(
    neighbourhood: Neighbourhood,
) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.catalogue(city, DISTRICT)

    def directions() -> list[list[str]]:
        # The city asks by itself too once the district has registered: each asking is a session.
        asked = district.gateway.traces.find(TraceFilter(kind=TraceKind.QUERY, peer_id=CITY))
        told = [timeline(district, one.trace_id).events for one in asked]
        return [
            [str(e.direction) for e in events if e.first_line.startswith("MESSAGE")][:2] for events in told
        ]

    await neighbourhood.until(lambda: ["in", "out"] in directions())
