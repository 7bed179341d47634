"""Registration, heartbeats and notifications of devices against a real gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tongshi.gateways.signalling.admission.bans import MAX_FAILURES
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.gateways.signalling.registrar import Redirect
from tongshi.protocols.gb28181.dates import parse_time
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.response import CatalogResponse
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.sip.digest import Challenge, answer
from tongshi.protocols.sip.message import Response
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

PLATFORM, DEVICE = "31010100002000000001", "31010100001180000001"
XML = "Application/MANSCDP+xml"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


class Device:
    """A device without habits: each message by hand."""

    def __init__(self, platform: SmallPlatform, code: str = DEVICE) -> None:
        self.code = code
        self.remote = Remote("127.0.0.1", platform.gateway.port, "udp")
        self.queries: list[bytes] = []
        self.endpoint = SipEndpoint(
            local_id=code, host="127.0.0.1", port=0, on_request=self._take, on_invite=self._no_call
        )

    async def register(self, *headers: tuple[str, str]) -> Response:
        return await self.endpoint.request("REGISTER", to_id=PLATFORM, remote=self.remote, headers=headers)

    async def prove(
        self, challenge: Challenge, secret: str, *headers: tuple[str, str], username: str = ""
    ) -> Response:
        uri = f"sip:{PLATFORM}@{PLATFORM[:10]}"
        credentials = answer(
            challenge,
            username=username or self.code,
            password=secret,
            method="REGISTER",
            uri=uri,
            cnonce="0a4f113b",
        )
        return await self.register(("Authorization", credentials.render()), *headers)

    async def sign_in(self, secret: str = "gb-2022", *headers: tuple[str, str]) -> Response:
        return await self.prove(challenges(await self.register())[0], secret, *headers)

    async def message(self, body: bytes, content_type: str = XML) -> int:
        response = await self.endpoint.request(
            "MESSAGE", to_id=PLATFORM, remote=self.remote, body=body, content_type=content_type
        )
        return response.status

    async def _take(self, incoming: Any) -> None:
        self.queries.append(incoming.request.body)
        incoming.respond(200)

    async def _no_call(self, invite: Any) -> None:
        invite.reject(486)


def challenges(response: Response) -> list[Challenge]:
    assert response.status == 401
    assert response.headers.get("X-GB-Ver") == "3.0"
    return [Challenge.parse(text) for text in response.headers.get_all("WWW-Authenticate")]


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    return made


@pytest.fixture
async def device(platform: SmallPlatform) -> AsyncIterator[Device]:
    made = Device(platform)
    await made.endpoint.start()
    yield made
    await made.endpoint.stop()


async def test_registration_is_challenged_and_answered_with_lifetime_date_and_version(
    platform: SmallPlatform, device: Device
) -> None:
    response = await device.sign_in("gb-2022", ("Expires", "60"))
    assert response.status == 200
    assert response.headers.get("X-GB-Ver") == "3.0"
    assert response.expires == 3600  # never shorter (9.1.1 d)
    skew = parse_time(response.headers.get("Date")) - platform.clock.at()
    assert abs(skew.total_seconds()) < 5
    stored = await platform.gateway._record.stored(platform.clock.at())
    assert [row.peer_id for row in stored] == [DEVICE]


async def test_sha256_is_offered_to_the_edition_of_2022_only(device: Device) -> None:
    assert [c.algorithm for c in challenges(await device.register())] == ["MD5"]
    offered = challenges(await device.register(("X-GB-Ver", "3.0")))
    assert [c.algorithm for c in offered] == ["MD5", "SHA-256"]
    response = await device.prove(offered[1], "gb-2022", ("X-GB-Ver", "3.0"))
    assert response.status == 200


async def test_a_nonce_is_good_once(device: Device) -> None:
    challenge = challenges(await device.register())[0]
    assert (await device.prove(challenge, "gb-2022")).status == 200
    again = challenges(await device.prove(challenge, "gb-2022"))
    assert again[0].is_stale


async def test_a_wrong_secret_an_unknown_code_and_a_foreign_name_are_refused(
    platform: SmallPlatform, device: Device
) -> None:
    assert (await device.sign_in("wrong")).status == 403
    stranger = Device(platform, "44010100001180000001")
    await stranger.endpoint.start()
    try:
        assert (await stranger.sign_in()).status == 403
    finally:
        await stranger.endpoint.stop()
    assert platform.gateway.admission.ban_table.total == 2
    assert not len(platform.gateway.peers)


async def test_a_guesser_is_refused_before_its_secret_is_looked_at(
    platform: SmallPlatform, device: Device
) -> None:
    for _ in range(MAX_FAILURES):
        assert (await device.sign_in("wrong")).status == 403
    assert (await device.register()).status == 403


async def test_expires_0_ends_the_registration(platform: SmallPlatform, device: Device) -> None:
    await device.sign_in()
    assert DEVICE in platform.gateway.peers
    response = await device.sign_in("gb-2022", ("Expires", "0"))
    assert response.status == 200
    assert DEVICE not in platform.gateway.peers
    assert not await platform.gateway._record.stored(platform.clock.at())


async def test_malformed_credentials_get_400(device: Device) -> None:
    assert (await device.register(("Authorization", "Digest nonsense"))).status == 400


async def test_heartbeats_keep_a_device_and_their_absence_loses_it(
    neighbourhood: Neighbourhood, platform: SmallPlatform, device: Device
) -> None:
    assert await device.message(Keepalive(1, DEVICE).render()) == 403  # not registered
    await device.sign_in()
    assert await device.message(Keepalive(2, DEVICE).render()) == 200
    await neighbourhood.until(lambda: DEVICE not in platform.gateway.peers)
    assert await device.message(Keepalive(3, DEVICE).render()) == 403


async def test_malformed_xml_gets_400_and_another_type_415(platform: SmallPlatform, device: Device) -> None:
    await device.sign_in()
    assert await device.message(b"<Notify><CmdType>") == 400
    assert await device.message(b"<!DOCTYPE x [<!ENTITY a 'b'>]><Notify/>") == 400
    assert await device.message(b"\xff" * 1000) == 400
    assert await device.message(b"{}", "application/json") == 415
    assert DEVICE in platform.gateway.peers


async def test_what_came_of_an_incomplete_catalogue_is_kept(
    neighbourhood: Neighbourhood, platform: SmallPlatform, device: Device
) -> None:
    await device.sign_in()
    await neighbourhood.until(lambda: bool(device.queries))
    sn = int(device.queries[0].partition(b"<SN>")[2].partition(b"<")[0])
    channel = CatalogItem(device_id="31010100001320000009", name="门口", civil_code="310101")
    part = CatalogResponse(sn, DEVICE, 3, (channel,))
    assert await device.message(part.render()) == 200
    stay = asyncio.create_task(_beat(device))
    await neighbourhood.known(platform, channel.device_id)
    stay.cancel()
    await asyncio.gather(stay, return_exceptions=True)
    found = await platform.devices.get(channel.device_id)
    assert found.owner == PLATFORM


async def test_a_restart_takes_up_the_registrations(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    row = CameraPlan(id="31010100001320000001", scene="crossing-day", civil_code="310101")
    await neighbourhood.camera(platform, row)
    peer = platform.gateway.peers.remove(row.id)
    assert peer is not None
    await platform.gateway._presence.restore()
    restored = platform.gateway.peers.get(row.id)
    assert restored is not None
    assert restored.remote == peer.remote


async def _beat(device: Device) -> None:
    for number in range(100):
        await device.message(Keepalive(number + 1, DEVICE).render())
        await asyncio.sleep(0.2)


async def test_a_device_that_comes_back_elsewhere_is_asked_at_its_new_address(
    platform: SmallPlatform, neighbourhood: Neighbourhood
) -> None:
    # The first one dies before it is asked: nobody answers there any more.
    before, after = Device(platform), Device(platform)
    await before.endpoint.start()
    await before.sign_in()
    await before.endpoint.stop(silently=True)
    await after.endpoint.start()
    try:
        await after.sign_in()
        await neighbourhood.until(lambda: any(b"Catalog" in query for query in after.queries))
    finally:
        await after.endpoint.stop(silently=True)


async def test_a_peer_of_2022_is_sent_on_after_its_digest_was_right(neighbourhood: Neighbourhood) -> None:
    target = Redirect(DEVICE[:8], "31010100002000000002", Remote("192.0.2.10", 5060, "tcp"), 7200)
    platform = await neighbourhood.platform(PlatformPlan(PLATFORM, redirects=(target,)))
    device = Device(platform)
    await device.endpoint.start()
    try:
        sent_on = await device.sign_in("gb-2022", ("X-GB-Ver", "3.0"))
        assert sent_on.status == 302
        assert sent_on.headers.get("Contact") == "<sip:31010100002000000002@192.0.2.10:5060;transport=tcp>"
        assert (sent_on.headers.get("Expires"), sent_on.headers.get("X-GB-Ver")) == ("7200", "3.0")
        assert DEVICE not in platform.gateway.peers
        assert (await device.sign_in("wrong", ("X-GB-Ver", "3.0"))).status == 403  # a stranger learns nothing
        assert (await device.sign_in("gb-2022", ("X-GB-Ver", "2.0"))).status == 200  # 2.0 knows no 302
    finally:
        await device.endpoint.stop()


async def test_a_camera_follows_a_redirection_and_returns_when_its_server_is_gone(
    neighbourhood: Neighbourhood,
) -> None:
    second_id = "31010100002000000002"
    second = await neighbourhood.platform(PlatformPlan(second_id))
    target = Redirect(DEVICE[:8], second_id, Remote("127.0.0.1", second.gateway.port, "udp"))
    first = await neighbourhood.platform(PlatformPlan(PLATFORM, redirects=(target,)))
    recorder = Registrant(
        (device := Device(first)).endpoint,
        server_id=PLATFORM,
        remote=device.remote,
        username=DEVICE,
        password="gb-2022",
        retry_s=0.1,
    )
    await device.endpoint.start()
    try:
        await recorder.start()
        await neighbourhood.until(lambda: DEVICE in second.gateway.peers)
        assert (recorder.server_id, DEVICE in first.gateway.peers) == (second_id, False)
        recorder.renew()  # its heartbeats went unanswered
        await neighbourhood.until(lambda: recorder.server_id == PLATFORM or recorder.registered.is_set())
        await neighbourhood.until(lambda: recorder.registered.is_set() and recorder.server_id == second_id)
    finally:
        await recorder.stop()
        await device.endpoint.stop()


async def test_a_peer_whose_connection_breaks_is_offline_at_once(
    neighbourhood: Neighbourhood,
) -> None:
    platform = await neighbourhood.platform(PlatformPlan(PLATFORM, beat=Beat(30.0, 3)))
    device = Device(platform)
    device.remote = Remote("127.0.0.1", platform.gateway.port, "tcp")
    await device.endpoint.start()
    assert (await device.sign_in()).status == 200
    assert DEVICE in platform.gateway.peers
    await device.endpoint.stop(silently=True)
    await neighbourhood.until(lambda: DEVICE not in platform.gateway.peers)
    await neighbourhood.until(lambda: not platform.gateway._background)
    assert not await platform.gateway._record.stored(platform.clock.at())


async def test_a_camera_takes_its_clock_from_the_registration(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    row = CameraPlan(id="31010100001320000001", scene="crossing-day", civil_code="310101")
    camera = await neighbourhood.camera(platform, row)
    camera._set_clock("2024-05-20T09:30:15.250")
    ahead = camera.time - parse_time("2024-05-20T09:30:15.250")
    assert abs(ahead.total_seconds()) < 1.0
    camera._set_clock("nonsense")
    assert abs((camera.time - parse_time("2024-05-20T09:30:15.250")).total_seconds()) < 2.0
