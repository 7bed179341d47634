"""Subscriptions between a city and a district: what changes below is known above, in both roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tongshi.errors import PeerFailed
from tongshi.gateways.signalling.endpoint import (
    IncomingInvite,
    IncomingRequest,
    IncomingSubscription,
    Remote,
    SipEndpoint,
    Subscription,
)
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.gateways.signalling.subscriptions.catalogue_news import Batching
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionSettings
from tongshi.gateways.signalling.subscriptions.subscriber import Kind, Rhythm
from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmQuery
from tongshi.protocols.gb28181.codec import Message, decode
from tongshi.protocols.gb28181.device_query import PTZPositionQuery
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.notify import CatalogEvent, CatalogNotify
from tongshi.protocols.gb28181.positions import (
    MobilePositionNotify,
    MobilePositionQuery,
    Position,
    PTZPositionNotify,
)
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.platforms.model import Relation
from tongshi.resources.traces.model import TraceFilter, TraceKind, TraceState
from tongshi.sharing import store as sharing_store
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT = "31000000002000000001", "31010100002000000001"
ONE, TWO, THREE = (f"3101010000132000000{n}" for n in (1, 2, 3))
RECORDER = "31010100001180000001"
SECRET = "subscription-secret"  # of a test
XML = "Application/MANSCDP+xml"
QUICK = Batching(items=100, wait_s=0.02, poll_s=0.02, rescan_s=600)
EVERYTHING = frozenset({Kind.CATALOGUE, Kind.ALARM, Kind.MOBILE_POSITION, Kind.PTZ_POSITION})

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


def item(code: str, *, name: str = "东门", is_on: bool = True) -> CatalogItem:
    status = DeviceStatus.ON if is_on else DeviceStatus.OFF
    return CatalogItem(device_id=code, name=name, civil_code="310101", parent_ids=(DISTRICT,), status=status)


async def two_levels(
    neighbourhood: Neighbourhood, kinds: frozenset[Kind] = frozenset({Kind.CATALOGUE}), **rhythm: Any
) -> tuple[SmallPlatform, SmallPlatform]:
    """A city that subscribes at a district, which holds two cameras of which one is off."""
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    settings = SubscriptionSettings(
        at=((DISTRICT, kinds),), rhythm=replace(Rhythm(retry_s=0.05), **rhythm), batching=QUICK
    )
    city = await neighbourhood.platform(
        PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,), subscriptions=settings)
    )
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(
        PlatformPlan(
            DISTRICT, "区级平台", neighbours=(above,), subscriptions=SubscriptionSettings(batching=QUICK)
        )
    )
    await district.devices.merge_catalogue(DISTRICT, [item(ONE), item(TWO, is_on=False)], is_platform=False)
    await neighbourhood.until(lambda: city.gateway.subscriptions.subscriber.active == len(kinds))
    return city, district


async def holds(platform: SmallPlatform, code: str, **expected: Any) -> None:
    """Wait until the archive says this of a device."""
    async with asyncio.timeout(5):
        while True:
            found = await platform.devices.find(code)
            said = found and {
                "name": found.item.name, "online": found.online, "gone": found.missing_since is not None
            }  # fmt: skip
            if said and expected.items() <= said.items():
                return
            await asyncio.sleep(0.02)


async def test_what_changes_in_the_district_is_known_in_the_city(neighbourhood: Neighbourhood) -> None:
    city, district = await two_levels(neighbourhood)
    await holds(city, ONE, online=True)
    await holds(city, TWO, online=False)
    await district.devices.note_status({ONE: False}, DISTRICT, "test")
    await holds(city, ONE, online=False)
    await district.devices.note_status({ONE: True, TWO: True}, DISTRICT, "test")
    await holds(city, ONE, online=True)
    await holds(city, TWO, online=True)
    await district.devices.merge_catalogue(DISTRICT, [item(THREE), item(ONE, name="西门")], is_platform=False)
    await holds(city, THREE, name="东门", online=True, gone=False)
    await holds(city, ONE, name="西门")
    await district.devices.mark_missing(DISTRICT, [THREE], DISTRICT, "test")
    await holds(city, THREE, gone=True)
    assert (await city.devices.get(THREE)).owner == DISTRICT


async def test_a_subscription_outlives_the_restart_of_either_side(neighbourhood: Neighbourhood) -> None:
    city, district = await two_levels(neighbourhood)
    await holds(city, ONE, online=True)
    city = await neighbourhood.restart(city)
    await neighbourhood.until(lambda: city.gateway.subscriptions.subscriber.active == 1)
    await district.devices.note_status({ONE: False}, DISTRICT, "test")
    await holds(city, ONE, online=False)
    district = await neighbourhood.restart(district)
    await neighbourhood.until(lambda: len(district.gateway.subscriptions.notifier) == 1)
    await district.devices.note_status({ONE: True}, DISTRICT, "test")
    await holds(city, ONE, online=True)


async def test_a_subscription_is_refreshed_and_a_lost_one_made_anew(neighbourhood: Neighbourhood) -> None:
    city, district = await two_levels(neighbourhood, expires_s=1)
    notifier = district.gateway.subscriptions.notifier
    first = notifier.held(CITY)
    await asyncio.sleep(1.3)
    assert notifier.held(CITY) == first
    notifier.end(CITY)
    assert not len(notifier)
    await neighbourhood.until(lambda: len(notifier) == 1)
    assert notifier.held(CITY) != first
    assert len(city.gateway.subscriptions.subscriber) == 1


async def test_nothing_is_subscribed_that_the_configuration_does_not_name(
    neighbourhood: Neighbourhood,
) -> None:
    _, district = await two_levels(neighbourhood, frozenset())
    await asyncio.sleep(0.1)
    assert len(district.gateway.subscriptions.notifier) == 0


async def test_every_kind_is_subscribed_and_cancelled_with_the_registration(
    neighbourhood: Neighbourhood,
) -> None:
    city, district = await two_levels(neighbourhood, EVERYTHING)
    assert len(district.gateway.subscriptions.notifier) == 4
    await district.gateway.uppers[CITY].stop()
    await neighbourhood.until(lambda: not len(city.gateway.subscriptions.subscriber))


class Above:
    """A platform above that registers nobody but one district, and collects what it is told."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.raw: list[IncomingRequest] = []
        self.status = 200
        self.endpoint: SipEndpoint

    async def take(self, incoming: IncomingRequest) -> None:
        if incoming.request.method == "NOTIFY":
            self.raw.append(incoming)
            if incoming.request.body:
                self.told.append(decode(incoming.request.body))
            incoming.respond(self.status)
        else:
            incoming.respond(200)

    def changes(self) -> list[tuple[str, str]]:
        return [
            (change.event.value, change.item.device_id)
            for message in self.told
            if isinstance(message, CatalogNotify)
            for change in message.changes
        ]

    async def subscribe(
        self, district: SmallPlatform, query: BaseMessage, event: str = "presence", expires_s: int = 600
    ) -> Subscription:
        return await self.endpoint.subscribe(
            to_id=DISTRICT,
            remote=Remote("127.0.0.1", district.gateway.port, "udp"),
            event=event,
            body=query.render(),
            content_type=XML,
            expires_s=expires_s,
        )


@asynccontextmanager
async def above(neighbourhood: Neighbourhood, **settings: Any) -> AsyncIterator[tuple[Above, SmallPlatform]]:
    made = Above()

    async def decline(invite: IncomingInvite) -> None:
        invite.reject(486)

    made.endpoint = SipEndpoint(
        local_id=CITY, host="127.0.0.1", port=0, on_request=made.take, on_invite=decline
    )
    await made.endpoint.start()
    try:
        upper = Neighbour(CITY, Relation.UPPER, SECRET, port=made.endpoint.port)
        batching = replace(QUICK, **settings)
        district = await neighbourhood.platform(
            PlatformPlan(
                DISTRICT,
                "区级平台",
                neighbours=(upper,),
                subscriptions=SubscriptionSettings(batching=batching),
            )
        )
        await district.devices.merge_catalogue(
            DISTRICT, [item(ONE), item(TWO, is_on=False)], is_platform=False
        )
        await neighbourhood.until(lambda: district.gateway.uppers[CITY].is_registered)
        yield made, district
    finally:
        await neighbourhood.close()
        await made.endpoint.stop()


async def test_the_first_notification_names_what_does_not_work(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood) as (city, district):
        await city.subscribe(district, CatalogQuery(31, DISTRICT), "Catalog;id=31")
        await neighbourhood.until(lambda: bool(city.told))
        assert city.changes() == [("OFF", TWO)]
        first = city.raw[0].request
        assert first.headers.get("Event") == "Catalog;id=31"
        assert first.headers.get("Subscription-State").startswith("active;expires=")
        assert city.told[0].sn == 31
        assert b"<SumNum>1</SumNum>" in first.body
        assert b"<Name>" not in first.body


async def test_changes_gather_and_a_device_that_came_back_is_no_news(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood, wait_s=0.3) as (city, district):
        await city.subscribe(district, CatalogQuery(31, DISTRICT), "Catalog;id=31")
        await neighbourhood.until(lambda: bool(city.told))
        await district.devices.note_status({ONE: False}, DISTRICT, "test")
        await asyncio.sleep(0.05)
        await district.devices.note_status({ONE: True, TWO: True}, DISTRICT, "test")
        await district.devices.merge_catalogue(DISTRICT, [item(THREE)], is_platform=False)
        await neighbourhood.until(lambda: len(city.changes()) == 3)
        assert sorted(city.changes()[1:]) == [("ADD", THREE), ("ON", TWO)]


async def test_many_changes_do_not_wait_for_the_clock_and_are_cut(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood, wait_s=60, items=5) as (city, district):
        await city.subscribe(district, CatalogQuery(31, DISTRICT), "Catalog;id=31")
        await neighbourhood.until(lambda: bool(city.told))
        more = [item(f"310101000013200001{n:02}", name="摄像机" * 20) for n in range(12)]
        await district.devices.merge_catalogue(DISTRICT, more, is_platform=False)
        await neighbourhood.until(lambda: len(city.changes()) == 13)
        parts = [message for message in city.told[1:] if isinstance(message, CatalogNotify)]
        assert all(len(message.changes) <= 5 for message in parts)
        assert all(len(raw.request.body) < 1_300 for raw in city.raw)
        assert parts[0].changes[0].item.name == "摄像机" * 20


async def test_what_is_not_taken_is_told_again(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood) as (city, district):
        await city.subscribe(district, CatalogQuery(31, DISTRICT), "Catalog;id=31")
        await neighbourhood.until(lambda: bool(city.told))
        city.status = 503
        await district.devices.note_status({ONE: False}, DISTRICT, "test")
        await neighbourhood.until(lambda: len(city.raw) >= 3)
        city.status, city.told = 200, []
        await neighbourhood.until(lambda: bool(city.told))
        await asyncio.sleep(0.1)
        assert city.changes() == [("OFF", ONE)]


async def test_only_what_the_upper_may_see_is_told(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood, rescan_s=0.1) as (city, district):
        await city.subscribe(district, CatalogQuery(31, DISTRICT), "Catalog;id=31")
        await neighbourhood.until(lambda: bool(city.told))
        await district.db.write(sharing_store.revoke_grant, f"upper-{CITY}", district.clock.at())
        await neighbourhood.until(lambda: len(city.changes()) == 3)
        assert sorted(city.changes()[1:]) == [("DEL", ONE), ("DEL", TWO)]
        await district.devices.note_status({ONE: False}, DISTRICT, "test")
        await asyncio.sleep(0.15)
        assert len(city.changes()) == 3
        with pytest.raises(PeerFailed) as caught:
            await city.subscribe(district, MobilePositionQuery(1, ONE))
        assert caught.value.details["sipStatus"] == 404


async def test_a_division_and_a_device_are_told_alone(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood) as (city, district):
        await city.subscribe(district, CatalogQuery(31, TWO), "Catalog;id=31")
        await neighbourhood.until(lambda: bool(city.told))
        await district.devices.note_status({ONE: False, TWO: True}, DISTRICT, "test")
        await neighbourhood.until(lambda: len(city.changes()) == 2)
        assert city.changes() == [("OFF", TWO), ("ON", TWO)]


@pytest.mark.parametrize(
    ("query", "event", "status"),
    [
        (CatalogQuery(1, DISTRICT), "dialog", 489),
        (DeviceInfoQuery(1, DISTRICT), "presence", 489),
        (CatalogQuery(1, "31010100001329999999"), "Catalog;id=1", 404),
    ],
)
async def test_refusals(neighbourhood: Neighbourhood, query: BaseMessage, event: str, status: int) -> None:
    async with above(neighbourhood) as (city, district):
        with pytest.raises(PeerFailed) as caught:
            await city.subscribe(district, query, event)
        assert caught.value.details["sipStatus"] == status
        assert len(district.gateway.subscriptions.notifier) == 0


async def test_a_second_subscription_to_the_same_takes_the_place_of_the_first(
    neighbourhood: Neighbourhood,
) -> None:
    async with above(neighbourhood) as (city, district):
        await city.subscribe(district, CatalogQuery(31, DISTRICT), "Catalog;id=31")
        second = await city.subscribe(district, CatalogQuery(32, DISTRICT), "Catalog;id=32")
        assert len(district.gateway.subscriptions.notifier) == 1
        second.cancel()
        await neighbourhood.until(lambda: len(district.gateway.subscriptions.notifier) == 0)


async def test_who_is_not_registered_subscribes_nothing(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood) as (city, district):
        await district.gateway.uppers[CITY].stop()
        with pytest.raises(PeerFailed) as caught:
            await city.subscribe(district, CatalogQuery(31, DISTRICT))
        assert caught.value.details["sipStatus"] == 403


async def test_alarms_and_positions_are_told_on_to_who_subscribed_them(neighbourhood: Neighbourhood) -> None:
    async with above(neighbourhood) as (city, district):
        for query in (AlarmQuery(41, DISTRICT, methods=(2,)), MobilePositionQuery(51, DISTRICT, 1)):
            await city.subscribe(district, query)
        hear = district.gateway.subscriptions._relay.hear
        peer: Any = None
        hear(peer, AlarmNotify(7, ONE, 1, 5, "2024-05-20T09:45:04"))  # of another method
        hear(peer, AlarmNotify(8, ONE, 1, 2, "2024-05-20T09:45:04"))
        hear(peer, AlarmNotify(9, "31010100001329999999", 1, 2, "2024-05-20T09:45:04"))  # nobody's
        places = [
            Position(device_id=code, at="2024-05-20T09:45:04", longitude=121.5, latitude=31.2)
            for code in (ONE, "31010100001329999999")
        ]
        hear(peer, MobilePositionNotify(3, DISTRICT, "2024-05-20T09:45:05", tuple(places)))
        hear(peer, PTZPositionNotify(sn=4, device_id=ONE, pan=1.0))  # nobody asked
        await neighbourhood.until(lambda: len(city.told) == 2)
        await asyncio.sleep(0.05)
        alarm, position = sorted(city.told, key=lambda message: message.sn)
        assert isinstance(alarm, AlarmNotify)
        assert isinstance(position, MobilePositionNotify)
        assert (alarm.sn, alarm.device_id, alarm.method) == (41, ONE, 2)
        assert (position.sn, [one.device_id for one in position.positions]) == (51, [ONE])


class Recorder:
    """A recorder registered at the district, with the cameras it keeps; it takes every subscription.

    refusals: the statuses of the first ones, which it does not take.
    """

    def __init__(self, district: SmallPlatform, refusals: tuple[int, ...] = ()) -> None:
        self.taken: list[IncomingSubscription] = []
        self.refused: list[int] = []
        self._refusals = list(refusals)
        self.endpoint = SipEndpoint(
            local_id=RECORDER,
            host="127.0.0.1",
            port=0,
            on_request=self._ok,
            on_invite=self._decline,
            on_subscribe=self._take,
        )
        self._registrant = Registrant(
            self.endpoint,
            server_id=DISTRICT,
            remote=Remote("127.0.0.1", district.gateway.port, "udp"),
            username=RECORDER,
            password=district.plan.device_secret,
        )

    async def start(self) -> None:
        await self.endpoint.start()
        await self._registrant.start()
        await asyncio.wait_for(self._registrant.registered.wait(), 5)

    async def stop(self) -> None:
        await self._registrant.stop()
        await self.endpoint.stop()

    async def _ok(self, incoming: IncomingRequest) -> None:
        incoming.respond(200)

    async def _decline(self, invite: IncomingInvite) -> None:
        invite.reject(486)

    async def _take(self, incoming: IncomingSubscription) -> None:
        if self._refusals:
            self.refused.append(self._refusals.pop(0))
            incoming.reject(self.refused[-1])
            return
        incoming.accept(incoming.expires_s or 600)
        self.taken.append(incoming)


async def test_a_subscription_to_one_device_is_passed_on_below(neighbourhood: Neighbourhood) -> None:
    """The district subscribes at the camera's recorder for as long as the city wants it."""
    async with above(neighbourhood) as (city, district):
        camera = CatalogItem(device_id=THREE, civil_code="310101", parent_ids=(RECORDER,))
        await district.devices.merge_catalogue(RECORDER, [camera], is_platform=False)
        recorder = Recorder(district)
        await recorder.start()
        first = await city.subscribe(district, PTZPositionQuery(sn=52, device_id=THREE))
        await neighbourhood.until(lambda: bool(recorder.taken))
        below = recorder.taken[0]
        assert isinstance(decode(below.request.body), PTZPositionQuery)
        turned = PTZPositionNotify(sn=1, device_id=THREE, pan=140.0, tilt=10.5, zoom=2.0)
        assert (await below.notify(turned.render(), XML)).status == 200
        await neighbourhood.until(lambda: bool(city.told))
        assert city.told == [PTZPositionNotify(sn=52, device_id=THREE, pan=140.0, tilt=10.5, zoom=2.0)]
        assert (await below.notify(b"<Notify>", XML)).status == 400
        first.cancel()
        await asyncio.wait_for(below.ended.wait(), 5)
        assert len(district.gateway.subscriptions.subscriber) == 0
        await recorder.stop()


async def test_a_refused_subscription_says_when_it_is_tried_again_and_is_at_once(
    neighbourhood: Neighbourhood,
) -> None:
    """A device that has not read our 200 yet refuses; only the second try comes soon."""
    rhythm = Rhythm(again_s=0.2, retry_s=600)
    settings = SubscriptionSettings(((RECORDER, frozenset({Kind.CATALOGUE})),), rhythm, QUICK)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", subscriptions=settings))
    recorder = Recorder(district, (403,))
    await recorder.start()
    await neighbourhood.until(lambda: len(recorder.taken) == 1)
    traces = district.gateway.traces
    told = [
        found.summary
        for key in traces.find(TraceFilter(kind=TraceKind.SUBSCRIPTION))
        if (found := traces.timeline(key.trace_id)) is not None
    ]
    refused = [one for one in told if one.state is TraceState.FAILED]
    assert [one.outcome for one in refused] == [
        "对端尚未确认注册，或没有许可本平台订阅（403）；0.2 秒后再次订阅"
    ]
    assert refused[0].failed_step == "等待再次订阅"
    await recorder.stop()


def test_events_are_words_of_the_standard() -> None:
    assert {event.value for event in CatalogEvent} == {"ON", "OFF", "VLOST", "DEFECT", "ADD", "DEL", "UPDATE"}
