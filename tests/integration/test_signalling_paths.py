"""A camera that two districts know: which way is taken and told, and that no call goes in circles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from tongshi.clock import BEIJING
from tongshi.errors import PeerFailed
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.offer import offer_history, offer_live
from tongshi.protocols.gb28181.profile import Profile
from tongshi.protocols.gb28181.records import RecordInfoQuery, RecordType
from tongshi.protocols.gb28181.subject import Subject
from tongshi.protocols.gb28181.version import Edition
from tongshi.resources.platforms.model import Relation
from tongshi.resources.registrations import store
from tongshi.resources.registrations.model import SipAccount
from tongshi.resources.traces.model import TraceFilter, TraceKind
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.recordings import Recorded
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

CITY, EAST, WEST = "31000000002000000001", "31010100002000000001", "31010400002000000001"
STATE = "30000000002000000001"
CODE, SECRET = "31010100001320000001", "cascade-secret"

BEGIN = datetime(2026, 5, 19, 8, 0, tzinfo=BEIJING)
CIRCLES = (
    ((("Monitor-User-Identity", f"{EAST}-{CITY}-{STATE}-user1"),), 482),
    ((("Max-Forwards", "0"),), 483),
    ((("X-PreferredPath", "nonsense"),), 400),
)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def city_of_two(
    neighbourhood: Neighbourhood, *above: Neighbour
) -> tuple[SmallPlatform, dict[str, SmallPlatform]]:
    """A city with two districts below."""
    below = [Neighbour(code, Relation.LOWER, SECRET) for code in (EAST, WEST)]
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(*below, *above)))
    districts = {}
    for code in (EAST, WEST):
        up = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
        plan = PlatformPlan(code, "区级平台", device_secret=SECRET, neighbours=(up,))
        districts[code] = await neighbourhood.platform(plan)
    await neighbourhood.until(lambda: EAST in city.gateway.peers and WEST in city.gateway.peers)
    return city, districts


async def same_camera(
    neighbourhood: Neighbourhood, city: SmallPlatform, district: SmallPlatform, **faults: Any
) -> None:
    """The district has the camera and tells the city of it."""
    row = CameraPlan(
        id=CODE,
        scene="crossing-day",
        civil_code="310101",
        recorded=(Recorded(BEGIN, BEGIN + timedelta(minutes=9), "time"),),
        faults=Faults(**faults),
    )
    await district.db.write(_account, district)
    await neighbourhood.camera(district, row, secret=SECRET)
    await neighbourhood.known(district, CODE)
    await neighbourhood.until(lambda: city.gateway.peers.get(district.plan.id) is not None)
    peer = city.gateway.peers.get(district.plan.id)
    assert peer is not None
    await city.gateway.catalogues.query(peer)
    await neighbourhood.known(city, CODE)


def _account(conn: Any, district: SmallPlatform) -> None:
    store.put_account(conn, SipAccount("device", CODE, "", SECRET), district.clock.at())


class Above:
    """A platform above the city, each message by hand."""

    def __init__(self, city: SmallPlatform) -> None:
        self.city = Remote("127.0.0.1", city.gateway.port, "udp")
        self.endpoint = SipEndpoint(
            local_id=STATE, host="127.0.0.1", port=0, on_request=self._take, on_invite=self._no_call
        )

    async def call(self, *headers: tuple[str, str]) -> Any:
        offer = offer_live(
            owner_id=STATE, address="127.0.0.1", port=30_000, ssrc=310_000_001, transport="udp"
        )
        subject = Subject(CODE, "0310000001", STATE, "0").render()
        return await self.endpoint.invite(
            to_id=CODE, remote=self.city, sdp=offer.render(), subject=subject, headers=headers
        )

    async def _take(self, incoming: Any) -> None:
        headers = (("Expires", "3600"), ("X-GB-Ver", "3.0")) if incoming.request.method == "REGISTER" else ()
        incoming.respond(200, headers=headers)

    async def _no_call(self, invite: Any) -> None:
        invite.reject(486)


async def test_a_device_told_by_two_is_one_and_the_next_way_is_taken_when_one_fails(
    neighbourhood: Neighbourhood,
) -> None:
    city, districts = await city_of_two(neighbourhood)
    await same_camera(neighbourhood, city, districts[EAST])
    await same_camera(neighbourhood, city, districts[WEST], refuse_invite=503)  # told last: asked first
    peers = await city.gateway._routes.peers_of(CODE)
    assert [peer.id for peer in peers] == [WEST, EAST]
    found = await city.devices.find(CODE)
    assert found is not None
    opening = await city.viewing.watch(city.viewer, Wish(DeviceId(CODE), expire_s=5))
    assert opening.urls
    assert (districts[EAST].gateway.relays, districts[WEST].gateway.relays) == (1, 0)


@asynccontextmanager
async def state_above(
    neighbourhood: Neighbourhood,
) -> AsyncIterator[tuple[Above, SmallPlatform, dict[str, SmallPlatform]]]:
    """A state above a city with two districts, which both know the camera; the west told of it last."""
    listener = SipEndpoint(local_id=STATE, host="127.0.0.1", port=0, on_request=_nothing, on_invite=_nothing)
    await listener.start()
    port = listener.port
    await listener.stop()
    city, districts = await city_of_two(neighbourhood, Neighbour(STATE, Relation.UPPER, SECRET, port=port))
    above = Above(city)
    above.endpoint = SipEndpoint(
        local_id=STATE, host="127.0.0.1", port=port, on_request=above._take, on_invite=above._no_call
    )
    await above.endpoint.start()
    try:
        await neighbourhood.until(lambda: city.gateway.uppers[STATE].is_registered)
        await same_camera(neighbourhood, city, districts[EAST])
        await same_camera(neighbourhood, city, districts[WEST])
        yield above, city, districts
    finally:
        await neighbourhood.close()  # while there is somebody above who hears the goodbye
        await above.endpoint.stop()


async def test_a_call_from_above_prefers_a_path_and_its_answer_names_the_one_it_took(
    neighbourhood: Neighbourhood,
) -> None:
    async with state_above(neighbourhood) as (above, _, districts):
        path = f"{CITY}-{EAST}"
        identity = f"{STATE}-user1"
        call = await above.call(("X-PreferredPath", path), ("Monitor-User-Identity", identity))
        assert call.response.headers.get("X-RoutePath") == path
        assert (districts[EAST].gateway.relays, districts[WEST].gateway.relays) == (1, 0)
        await call.bye()
        for headers, status in CIRCLES:
            with pytest.raises(PeerFailed) as refusal:
                await above.call(*headers)
            assert refusal.value.details["sipStatus"] == status
            assert status == 400 or refusal.value.details["routePath"] == CITY


async def test_a_recording_travels_the_preferred_path_too(neighbourhood: Neighbourhood) -> None:
    async with state_above(neighbourhood) as (above, _, districts):
        live = offer_live(
            owner_id=STATE, address="127.0.0.1", port=30_000, ssrc=1_310_000_001, transport="udp"
        )
        offer = offer_history(
            live,
            channel_id=CODE,
            start_s=int(BEGIN.timestamp()),
            end_s=int(BEGIN.timestamp()) + 300,
            kind=RecordType.ALL,
            download_speed=None,
            profile=Profile(),
        )
        path = f"{CITY}-{EAST}"
        call = await above.endpoint.invite(
            to_id=CODE,
            remote=above.city,
            sdp=offer.render(),
            subject=Subject(CODE, "1310000001", STATE, "0").render(),
            headers=(("X-PreferredPath", path), ("Monitor-User-Identity", f"{STATE}-user1")),
        )
        assert call.response.headers.get("X-RoutePath") == path
        invite = heard(districts[EAST], TraceKind.CALL, "INVITE sip:")[0]
        assert f"Monitor-User-Identity: {CITY}-{STATE}-user1" in invite
        assert f"X-PreferredPath: {EAST}" in invite
        await call.bye()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (DeviceControl(7, CODE, ptz_cmd="A50F4D0000000001"), TraceKind.CONTROL),
        (RecordInfoQuery(8, CODE, BEGIN, BEGIN + timedelta(minutes=5)), TraceKind.QUERY),
    ],
)
async def test_a_command_and_a_question_name_whom_they_are_for_and_go_in_no_circles(
    neighbourhood: Neighbourhood, message: BaseMessage, kind: TraceKind
) -> None:
    async with state_above(neighbourhood) as (above, _, districts):
        body = message.render("gb18030", Edition.GB2022)

        async def send(*headers: tuple[str, str]) -> int:
            answer = await above.endpoint.request(
                "MESSAGE",
                to_id=CODE,
                remote=above.city,
                headers=headers,
                body=body,
                content_type="Application/MANSCDP+xml",
            )
            return answer.status

        name = message.cmd_type
        assert await send(("Monitor-User-Identity", f"{STATE}-user1")) == 200
        await neighbourhood.until(lambda: bool(heard(districts[WEST], kind, name)))
        assert f"Monitor-User-Identity: {CITY}-{STATE}-user1" in heard(districts[WEST], kind, name)[0]
        assert not heard(districts[EAST], kind, name)
        assert await send(("X-PreferredPath", f"{CITY}-{EAST}")) == 200
        await neighbourhood.until(lambda: bool(heard(districts[EAST], kind, name)))
        assert f"X-PreferredPath: {EAST}" in heard(districts[EAST], kind, name)[0]
        before = len(heard(districts[WEST], kind, name))
        for headers, status in CIRCLES:
            assert await send(*headers) == status
        assert len(heard(districts[WEST], kind, name)) == before


def heard(platform: SmallPlatform, kind: TraceKind, word: str) -> list[str]:
    """What a platform received from the city of that kind, as it was on the wire."""
    traces = platform.gateway.traces
    found = [traces.timeline(key.trace_id) for key in traces.find(TraceFilter(kind=kind))]
    return [
        event.text
        for one in found
        if one is not None
        for event in one.events
        if event.direction == "in"
        and word in event.text
        and not event.first_line.startswith("SIP/2.0")
        and f"From: <sip:{CITY}@" in event.text
    ]


async def _nothing(incoming: Any) -> None:
    return None
