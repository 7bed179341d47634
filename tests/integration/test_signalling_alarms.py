"""Alarms over the wire: from a camera, up to the city, down from it, under every defect of the other side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tongshi.gateways.signalling.alarms import Persistence
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionSettings
from tongshi.gateways.signalling.subscriptions.subscriber import Kind
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmResponse
from tongshi.resources.alarms import store
from tongshi.resources.alarms.model import Alarm, DeliveryState, Filters, Route, SourceKind
from tongshi.resources.control.service import Command, Order
from tongshi.resources.platforms.model import Relation
from tongshi.sharing.model import EVERYTHING, Context, SubjectKind
from tongshi.testing.plan import CameraPlan
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
CODE, INPUT = "31010100001320000001", "31010100001340000001"
OTHER = "31010100001320000002"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def alarms(platform: SmallPlatform) -> list[Alarm]:
    return (await platform.db.read(store.page, EVERYTHING, Filters(), 1, 100))[0]


async def camera_at(neighbourhood: Neighbourhood, platform: SmallPlatform, code: str = CODE) -> Any:
    row = CameraPlan(id=code, civil_code="310101", alarm_inputs=1)
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, code)
    return camera


async def route_to(platform: SmallPlatform, target_id: str, **conditions: Any) -> None:
    context = Context(platform.clock.at())
    await platform.alarms.add_route(platform.viewer.subject, Route("", target_id, **conditions), context)


async def settled(platform: SmallPlatform, count: int = 1) -> list[Alarm]:
    """Alarms once none of their deliveries waits any more."""
    for _ in range(300):
        kept = await alarms(platform)
        if len(kept) >= count and not await platform.alarms.waiting():
            return kept
        await asyncio.sleep(0.02)
    raise AssertionError("deliveries still wait")


async def test_an_alarm_is_answered_with_its_number_and_kept(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await camera_at(neighbourhood, district)
    sn = await camera.raise_alarm(CODE, method=5, alarm_type=6, event_type=1, description="东门入侵")
    await neighbourhood.until(lambda: camera.device.siren.answers)
    assert camera.device.siren.answers == [AlarmResponse(sn, CODE)]
    (kept,) = await alarms(district)
    assert (kept.told.device_id, kept.told.priority, kept.told.description) == (CODE, 1, "东门入侵")
    assert (kept.source.id, kept.source.kind) == (CODE, SourceKind.DEVICE)
    assert kept.place.owner == DISTRICT
    assert not kept.told.faults


async def test_the_input_of_a_camera_may_tell_and_nobody_for_anothers_device(
    neighbourhood: Neighbourhood,
) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await camera_at(neighbourhood, district)
    await camera_at(neighbourhood, district, OTHER)
    await neighbourhood.known(district, INPUT)
    await camera.raise_alarm(INPUT, method=2, alarm_type=2)
    await neighbourhood.until(lambda: camera.device.siren.answers)
    assert await camera.notify(AlarmNotify(9, OTHER, priority=1, method=5, time="2026-01-01T00:00:00")) == 403
    assert [one.told.device_id for one in await alarms(district)] == [INPUT]


async def test_a_device_alarm_holds_until_it_is_reset(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await camera_at(neighbourhood, district)
    assert await camera.raise_alarm(INPUT, method=2, alarm_type=2)
    assert await camera.raise_alarm(INPUT, method=2, alarm_type=1) == 0  # held back (A.2.5.3)
    assert await camera.raise_alarm(CODE, method=5, alarm_type=2)  # other methods are free
    order = Order(Command.RESET_ALARM, alarm_methods=(2,))
    await district.desk.command(district.viewer, DeviceId(INPUT), order)
    assert await camera.raise_alarm(INPUT, method=2, alarm_type=1)


async def test_an_alarm_goes_up_to_the_city_that_was_named_and_granted(neighbourhood: Neighbourhood) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    camera = await camera_at(neighbourhood, district)
    await route_to(district, CITY, lowest_priority=2)
    await camera.raise_alarm(CODE, method=5, alarm_type=2, priority=4)
    await camera.raise_alarm(CODE, method=5, alarm_type=6, priority=1)
    kept = await settled(district, 2)
    serious = next(one for one in kept if one.told.priority == 1)
    (delivery,) = await district.db.read(store.deliveries, serious.id)
    assert (delivery.target_id, delivery.state, delivery.tries) == (CITY, DeliveryState.ANSWERED, 1)
    (seen,) = await alarms(city)
    assert seen.told == serious.told
    assert (seen.source.id, seen.source.kind) == (DISTRICT, SourceKind.LOWER)


async def test_who_subscribed_and_is_a_target_gets_an_alarm_once(neighbourhood: Neighbourhood) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    subscribing = SubscriptionSettings(at=((DISTRICT, frozenset({Kind.ALARM})),))
    city = await neighbourhood.platform(
        PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,), subscriptions=subscribing)
    )
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.until(lambda: city.gateway.subscriptions.subscriber.active == 1)
    came: list[tuple[str, int | None]] = []
    take = city.gateway.alarms
    assert take is not None
    keep = take._keep

    async def note(who: Any, notify: AlarmNotify, source: Any, to_id: str) -> None:
        came.append(("MESSAGE" if to_id else "NOTIFY", notify.priority))
        await keep(who, notify, source, to_id)

    take._keep = note
    camera = await camera_at(neighbourhood, district)
    await route_to(district, CITY, lowest_priority=2)
    await camera.raise_alarm(CODE, method=5, alarm_type=2, priority=4)
    await camera.raise_alarm(CODE, method=5, alarm_type=6, priority=1)
    await settled(district, 2)
    await settled(city, 2)
    assert sorted(came) == [("MESSAGE", 1), ("NOTIFY", 4)]
    stranger = await camera_at(neighbourhood, district, OTHER)
    foreign = AlarmNotify(9, CODE, priority=1, method=5, time="2026-01-01T00:00:00")
    assert await stranger.notify(foreign) == 403  # and nobody above hears of it
    assert len(came) == 2


async def test_an_alarm_from_above_is_kept_and_goes_to_the_device_that_was_named(
    neighbourhood: Neighbourhood,
) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    teller = await neighbourhood.camera(
        city, CameraPlan(id="31000000001320000001", civil_code="3100"), secret="gb-2022"
    )
    await neighbourhood.known(city, "31000000001320000001")
    target = await camera_at(neighbourhood, district)
    await city.grant(SubjectKind.PLATFORM, DISTRICT, "below")
    await route_to(city, DISTRICT)
    await route_to(district, CODE)
    await teller.raise_alarm("31000000001320000001", method=5, alarm_type=6)
    (kept,) = await settled(city)
    (seen,) = await settled(district)
    assert seen.id == kept.id
    assert (seen.source.id, seen.source.kind) == (CITY, SourceKind.UPPER)
    assert [one.device_id for one in target.device.siren.taken] == ["31000000001320000001"]


@pytest.fixture
async def upper() -> AsyncIterator[PlatformDouble]:
    double = PlatformDouble(CITY, SECRET)
    await double.start()
    yield double
    await double.stop()


async def test_a_silent_upper_is_tried_again_and_then_given_up(
    upper: PlatformDouble, neighbourhood: Neighbourhood
) -> None:
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=upper.port)
    patience = Persistence(0.2, (0.02, 0.02))
    plan = PlatformPlan(DISTRICT, neighbours=(above,), persistence=patience)
    district = await neighbourhood.platform(plan)
    await neighbourhood.until(lambda: district.gateway.uppers[CITY].is_registered)
    camera = await camera_at(neighbourhood, district)
    await route_to(district, CITY)
    await camera.raise_alarm(CODE, method=5, alarm_type=6)
    (kept,) = await settled(district)
    (delivery,) = await district.db.read(store.deliveries, kept.id)
    assert (delivery.state, delivery.tries) == (DeliveryState.FAILED, 3)
    assert delivery.error
    told = [one for one in upper.messages if isinstance(one, AlarmNotify)]
    assert len(told) == 3
    assert len({one.sn for one in told}) == 3
    # It answers what is asked late, and gets a Response for what it tells itself.
    notify = AlarmNotify(77, CITY, priority=2, method=7, time="2026-01-01T00:00:00")
    assert await upper.ask(DISTRICT, notify, AlarmResponse) == [AlarmResponse(77, CITY)]


async def test_an_alarm_waiting_when_the_power_fails_is_passed_on_after_it(
    upper: PlatformDouble, neighbourhood: Neighbourhood
) -> None:
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=upper.port)
    plan = PlatformPlan(DISTRICT, neighbours=(above,), persistence=Persistence(30.0, ()))
    district = await neighbourhood.platform(plan)
    await neighbourhood.until(lambda: district.gateway.uppers[CITY].is_registered)
    camera = await camera_at(neighbourhood, district)
    await route_to(district, CITY)
    await camera.raise_alarm(CODE, method=5, alarm_type=6)
    await upper.until(lambda: any(isinstance(one, AlarmNotify) for one in upper.messages))
    assert len(await district.alarms.waiting()) == 1
    upper.messages.clear()
    district = await neighbourhood.restart(district)
    await upper.until(lambda: any(isinstance(one, AlarmNotify) for one in upper.messages))
