"""Catalogues over real sockets, honest and not, from below and toward above."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.upward_names import Alias, Names
from tongshi.protocols.gb28181.query import DeviceInfoQuery
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.sip.message import Request
from tongshi.resources.platforms.model import Relation
from tongshi.resources.registrations.model import CatalogueStanding, CatalogueState
from tongshi.testing.defects import Defects
from tongshi.testing.lower_platform import LowerPlan, LowerPlatform
from tongshi.testing.many_channels import ManyChannels
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform
from tongshi.testing.upper_platform import UpperPlatform

CITY, DISTRICT, UPPER = "31000000002000000001", "31010100002000000001", "31000000002000000009"
SECRET = "cascade-secret"
CHANNELS = ManyChannels(DISTRICT, 120)

Below = Callable[..., Awaitable[LowerPlatform]]


@pytest.fixture
async def upper() -> AsyncIterator[UpperPlatform]:
    made = UpperPlatform(UPPER, SECRET)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def city(tmp_path: Path, upper: UpperPlatform) -> AsyncIterator[SmallPlatform]:
    neighbours = (
        Neighbour(DISTRICT, Relation.LOWER, SECRET),
        Neighbour(UPPER, Relation.UPPER, SECRET, port=upper.port),
    )
    made = await SmallPlatform.start(PlatformPlan(CITY, civil_code="31", neighbours=neighbours), tmp_path)
    yield made
    await made.stop()


@pytest.fixture
async def below(city: SmallPlatform) -> AsyncIterator[Below]:
    """Starts the district's platform."""
    started: list[LowerPlatform] = []

    async def start(
        channels: ManyChannels = CHANNELS, *, transport: str = "udp", **words: object
    ) -> LowerPlatform:
        server = Remote("127.0.0.1", city.gateway.port, "tcp" if transport == "tcp" else "udp")
        plan = LowerPlan(channels, CITY, server, SECRET, window=16, keepalive_s=0.3, **words)  # type: ignore[arg-type]
        platform = LowerPlatform(plan)
        started.append(platform)
        await platform.start()
        return platform

    yield start
    for platform in started:
        await platform.stop()


async def settled(city: SmallPlatform, timeout_s: float = 15.0) -> CatalogueStanding:
    """How the district's catalogue stands once nothing more is asked."""
    async with asyncio.timeout(timeout_s):
        while True:
            standing = city.gateway.catalogues.standings.of(DISTRICT)
            if standing is not None and DISTRICT not in city.gateway.catalogues._tasks:
                return standing
            await asyncio.sleep(0.02)


async def stored(city: SmallPlatform, channels: ManyChannels = CHANNELS) -> int:
    found = 0
    for number in range(channels.channels):
        found += await city.devices.find(channels.code(number)) is not None
    return found


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_catalogue_is_proved_by_what_was_announced(
    city: SmallPlatform, below: Below, transport: str
) -> None:
    await below(transport=transport)
    standing = await settled(city)
    assert (standing.state, standing.announced, standing.received) == (CatalogueState.COMPLETE, 121, 121)
    assert standing.asked == 1
    assert await stored(city) == 120


async def test_lost_datagrams_are_repeated_until_it_is_whole(city: SmallPlatform, below: Below) -> None:
    await below(ManyChannels(DISTRICT, 80), defects=Defects(loss=0.1), t1_s=0.05)
    standing = await settled(city)
    assert (standing.state, standing.received) == (CatalogueState.COMPLETE, 81)


async def test_a_missing_part_is_asked_for_again_and_joined(city: SmallPlatform, below: Below) -> None:
    """The second answer lacks another part; both together are the whole."""
    platform = await below(defects=Defects(lost_part=7, bad_answers=1))
    standing = await settled(city)
    assert (standing.state, standing.received, standing.asked) == (CatalogueState.COMPLETE, 121, 2)
    assert platform.answers == [DISTRICT, DISTRICT]
    assert await stored(city) == 120


async def test_one_that_stops_half_way_says_so_and_keeps_what_came(city: SmallPlatform, below: Below) -> None:
    await below(defects=Defects(stops_at=0.5))
    standing = await settled(city)
    assert (standing.state, standing.reason) == (CatalogueState.INCOMPLETE, "missing")
    assert 0 < standing.received < standing.announced == 121
    assert await stored(city) == standing.received - 1


async def test_what_was_known_stays_when_a_later_catalogue_lacks_it(
    city: SmallPlatform, below: Below
) -> None:
    platform = await below()
    await settled(city)
    for defects in (Defects(stops_at=0.2), Defects(sum_num=-100)):
        platform.defects = defects
        city.gateway.refresh_catalogue(DISTRICT)
        assert (await settled(city)).state is CatalogueState.INCOMPLETE
        assert await stored(city) == 120


@pytest.mark.parametrize(
    ("defects", "state", "reason", "received"),
    [
        (Defects(doubled_part=2), CatalogueState.COMPLETE, "", 121),
        (Defects(sn=5), CatalogueState.COMPLETE, "", 121),
        (Defects(wrong_charset=True), CatalogueState.COMPLETE, "", 121),
        (Defects(missing_fields=True), CatalogueState.COMPLETE, "", 121),
        (Defects(lists_itself=True), CatalogueState.COMPLETE, "", 121),
        (Defects(sum_num=3), CatalogueState.INCOMPLETE, "missing", 121),
        (Defects(sum_num=-3), CatalogueState.INCOMPLETE, "moreThanAnnounced", 121),
        (Defects(surplus=9), CatalogueState.INCOMPLETE, "moreThanAnnounced", 130),
        (Defects(broken_item=50), CatalogueState.INCOMPLETE, "brokenItems", 119),
    ],
)
async def test_each_defect_is_taken_or_named_and_loses_nothing_else(
    city: SmallPlatform, below: Below, defects: Defects, state: CatalogueState, reason: str, received: int
) -> None:
    """Quirks 1, 3, 6, 7 and 8, and ruling 14, over a socket."""
    await below(defects=defects, per_message=10, transport="tcp")
    await settled(city)
    await asyncio.sleep(0.1)  # parts beyond the number come after it was thought complete
    standing = await settled(city)
    assert (standing.state, standing.reason, standing.received) == (state, reason, received)
    assert await stored(city) == min(120, received - 1)
    name = (await city.devices.get(CHANNELS.code(0))).item.name
    assert name.endswith("球机")


async def test_a_large_one_is_asked_for_system_by_system(
    city: SmallPlatform, below: Below, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tongshi.gateways.signalling.catalogues.NARROW_FROM", 100)
    channels = ManyChannels(DISTRICT, 120, systems=3)
    platform = await below(
        channels, transport="tcp", per_message=10, defects=Defects(lost_part=6, bad_answers=1)
    )
    # The first answer to each question lacks its sixth part; a system's has only five.
    standing = await settled(city)
    assert (standing.state, standing.received) == (CatalogueState.COMPLETE, 124)
    assert platform.answers[0] == DISTRICT
    assert set(platform.answers[1:]) <= set(channels._system_codes)
    assert len(platform.answers) <= 4


async def ready(city: SmallPlatform, below: Below, upper: UpperPlatform, channels: ManyChannels) -> None:
    await below(channels, transport="tcp")
    assert (await settled(city)).state is CatalogueState.COMPLETE
    await upper.until(lambda: CITY in upper.registered)


async def test_an_upper_gets_all_of_it_by_tcp_several_items_a_message(
    city: SmallPlatform, below: Below, upper: UpperPlatform
) -> None:
    await ready(city, below, upper, CHANNELS)
    told = await upper.ask_catalogue(CITY, idle_s=2.0)
    assert (told.state, told.distinct, told.passwords) == ("complete", 121, 0)
    assert told.by_tcp == told.parts <= 2
    assert {CHANNELS.code(number) for number in range(120)} <= told.codes


async def test_an_upper_without_tcp_gets_datagrams_even_when_they_are_lost(
    city: SmallPlatform, below: Below, tmp_path: Path
) -> None:
    await below(ManyChannels(DISTRICT, 30), transport="tcp")
    await settled(city)
    lossy = UpperPlatform(UPPER, SECRET, allow_tcp=False, loss=0.05)
    await lossy.start()
    try:
        city.gateway.uppers[UPPER]._registrant.remote = Remote("127.0.0.1", lossy.port, "udp")
        lossy.registered[CITY] = Remote("127.0.0.1", city.gateway.port, "udp")
        told = await lossy.ask_catalogue(CITY, idle_s=10.0)
        assert (told.state, told.distinct, told.by_tcp) == ("complete", 31, 0)
        assert told.largest_part <= 2
    finally:
        await lossy.stop()


async def test_times_limit_what_an_upper_gets(
    city: SmallPlatform, below: Below, upper: UpperPlatform
) -> None:
    await ready(city, below, upper, CHANNELS)
    later = await upper.ask_catalogue(CITY, start_time="2099-01-01T00:00:00", idle_s=2.0)
    assert (later.state, later.codes) == ("complete", frozenset({CITY}))
    earlier = await upper.ask_catalogue(CITY, end_time="2001-01-01T00:00:00", idle_s=2.0)
    assert (earlier.state, earlier.distinct) == ("complete", 1)
    all_of_it = await upper.ask_catalogue(CITY, start_time="2001-1-1 0:0:0", idle_s=2.0)
    assert all_of_it.distinct == 121
    one = CHANNELS.code(7)
    empty = await upper.ask_catalogue(CITY, one, start_time="2099-01-01T00:00:00", idle_s=2.0)
    assert (empty.state, empty.announced, empty.sip_status) == ("complete", 0, 200)
    assert (await upper.ask_catalogue(CITY, one, start_time="soon")).sip_status == 400


async def test_an_upper_knows_a_device_by_the_code_and_name_that_are_configured(
    city: SmallPlatform, below: Below, upper: UpperPlatform
) -> None:
    await ready(city, below, upper, CHANNELS)
    real, shown, other = CHANNELS.code(3), "31000000001320000777", CHANNELS.code(4)
    city.gateway.uppers[UPPER].names = Names(
        [Alias(real, shown, "市局一号"), Alias(other, name="二号")], CITY
    )
    told = await upper.ask_catalogue(CITY, idle_s=2.0)
    assert told.distinct == 121
    assert (shown in told.codes, real in told.codes) == (True, False)
    (info,) = await upper.ask(CITY, DeviceInfoQuery(9, shown), DeviceInfoResponse)
    assert (info.device_id, info.device_name) == (shown, "市局一号")
    assert await upper.send(CITY, DeviceInfoQuery(10, real)) == 404
    one = await upper.ask_catalogue(CITY, shown, idle_s=2.0)
    assert (one.state, one.codes) == ("complete", frozenset({shown}))


async def test_a_call_for_the_shown_code_reaches_the_device(
    city: SmallPlatform, upper: UpperPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, shown = CHANNELS.code(3), "31000000001320000777"
    await upper.until(lambda: CITY in upper.registered)
    city.gateway.uppers[UPPER].names = Names([Alias(real, shown)], CITY)
    called: list[str] = []

    async def call_of_upper(invite: object, _: object) -> None:
        request: Request = invite.request  # type: ignore[attr-defined]
        called.append(request.uri.user)
        invite.reject(486)  # type: ignore[attr-defined]

    monkeypatch.setattr(city.gateway.dispatch, "call_of_upper", call_of_upper)
    statuses = []
    for code in (shown, real):
        try:
            await upper.call(CITY, port=40_000, ssrc=7, channel=code, timeout_s=3.0)
        except Exception as error:  # noqa: BLE001  # the refusal is what is looked at
            statuses.append(error.details["sipStatus"])  # type: ignore[attr-defined]
    assert (called, statuses) == ([real], [486, 404])


def test_a_simulated_item_follows_from_its_number() -> None:
    again = replace(CHANNELS)
    assert [*zip(range(5), again.items(), strict=False)] == [*zip(range(5), CHANNELS.items(), strict=False)]
    assert CHANNELS.total() == 121
    assert CHANNELS.total(CHANNELS.code(119)) == 1
    assert CHANNELS.total(CHANNELS.code(120)) == 0
