"""Habits of devices at registration (dossier chapter 23, quirks 15 to 26), each against a real gateway.

Quirk 18 and the choices of 22 stand in test_signalling_profiles.py, 24 in test_signalling_flood.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tongshi.config.sections import SignallingSection
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.sip.digest import Challenge, answer
from tongshi.protocols.sip.message import Response
from tongshi.resources.registrations import store
from tongshi.resources.registrations.model import SipAccount
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

PLATFORM, DEVICE, SECRET = "31010100002000000001", "31010100001180000001", "gb-2022"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


class Device:
    """A device without habits, each of which a test adds."""

    def __init__(self, platform: SmallPlatform, transport: str = "udp") -> None:
        self.remote = Remote("127.0.0.1", platform.gateway.port, "tcp" if transport == "tcp" else "udp")
        self.endpoint = SipEndpoint(
            local_id=DEVICE, host="127.0.0.1", port=0, on_request=self._take, on_invite=self._no_call
        )

    async def register(self, *headers: tuple[str, str], uri: str = "") -> Response:
        return await self.endpoint.request(
            "REGISTER",
            to_id=PLATFORM,
            remote=self.remote,
            headers=headers,
            request_uri=uri or None,
            timeout_s=5.0,
        )

    async def sign_in(
        self, *headers: tuple[str, str], username: str = DEVICE, uri: str = "", in_digest: str = ""
    ) -> Response:
        challenge = Challenge.parse((await self.register(*headers, uri=uri)).headers.get("WWW-Authenticate"))
        made = answer(
            challenge,
            username=username,
            password=SECRET,
            method="REGISTER",
            uri=in_digest or uri or f"sip:{PLATFORM}@{PLATFORM[:10]}",
            cnonce="0a4f113b",
        )
        return await self.register(("Authorization", made.render()), *headers, uri=uri)

    async def beat(self) -> int:
        response = await self.endpoint.request(
            "MESSAGE",
            to_id=PLATFORM,
            remote=self.remote,
            body=Keepalive(1, DEVICE).render(),
            content_type="Application/MANSCDP+xml",
            timeout_s=5.0,
        )
        return response.status

    async def _take(self, incoming: Any) -> None:
        incoming.respond(200)

    async def _no_call(self, invite: Any) -> None:
        invite.reject(486)


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM, beat=Beat(10.0, 3)))
    return made


@asynccontextmanager
async def device_at(platform: SmallPlatform, transport: str = "udp") -> AsyncIterator[Device]:
    made = Device(platform, transport)
    await made.endpoint.start()
    try:
        yield made
    finally:
        await made.endpoint.stop(silently=True)


async def test_15_the_user_of_the_digest_may_be_another_than_the_device(platform: SmallPlatform) -> None:
    account = SipAccount("device", DEVICE, "access-user", SECRET)
    await platform.db.write(store.put_account, account, platform.clock.at())
    async with device_at(platform) as device:
        assert (await device.sign_in(username="access-user")).status == 200
        assert (await device.sign_in()).status == 403  # the account decides who it is


async def test_16_the_challenge_always_names_its_algorithm(platform: SmallPlatform) -> None:
    async with device_at(platform) as device:
        for version in ("", "2.0", "3.0"):
            headers = (("X-GB-Ver", version),) if version else ()
            lines = (await device.register(*headers)).headers.get_all("WWW-Authenticate")
            assert lines
            assert all("algorithm=" in line for line in lines)
            assert "algorithm=MD5" in lines[0]


@pytest.mark.parametrize(
    "uri",
    [
        "sip:127.0.0.1:5060",
        f"sip:{PLATFORM}@3402000000",
        "sip:platform.example",
        f"sip:{PLATFORM}@127.0.0.1:1",
    ],
)
async def test_17_the_host_of_the_request_uri_is_not_compared(platform: SmallPlatform, uri: str) -> None:
    async with device_at(platform) as device:
        assert (await device.sign_in(uri=uri)).status == 200
        assert (await device.sign_in(uri=uri, in_digest="sip:something@else")).status == 200


async def test_19_over_tcp_the_answers_come_on_the_same_connection(platform: SmallPlatform) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.gateway.port)
    try:
        # The Via names an address at which nobody listens.
        lines = (
            f"REGISTER sip:{PLATFORM}@{PLATFORM[:10]} SIP/2.0",
            "Via: SIP/2.0/TCP 192.0.2.99:5060;branch=z9hG4bKq19",
            f"From: <sip:{DEVICE}@{DEVICE[:10]}>;tag=1",
            f"To: <sip:{DEVICE}@{DEVICE[:10]}>",
            "Call-ID: q19",
            "CSeq: 1 REGISTER",
            "Content-Length: 0",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        async with asyncio.timeout(5.0):
            status = await reader.readline()
        assert status.startswith(b"SIP/2.0 401")
    finally:
        writer.close()


async def test_20_a_device_that_asks_each_moment_is_told_the_same_nonce(platform: SmallPlatform) -> None:
    async with device_at(platform) as device:
        nonces = {
            Challenge.parse((await device.register()).headers.get("WWW-Authenticate")).nonce
            for _ in range(20)
        }
        assert len(nonces) <= 2  # the short time may end between two
        assert platform.gateway.endpoint.pending == 0  # and none of it is kept


async def test_21_a_route_that_names_us_is_ignored(platform: SmallPlatform) -> None:
    async with device_at(platform) as device:
        route = ("Route", f"<sip:{PLATFORM}@127.0.0.1:{platform.gateway.port};lr>")
        assert (await device.sign_in(route)).status == 200


async def test_23_a_new_port_is_taken_from_a_heartbeat(platform: SmallPlatform) -> None:
    async with device_at(platform) as before:
        assert (await before.sign_in()).status == 200
    async with device_at(platform) as after:
        assert await after.beat() == 200
        peer = platform.gateway.peers.get(DEVICE)
        assert peer is not None
        assert peer.remote.port == after.endpoint.port


async def test_25_a_heartbeat_after_our_restart_is_taken_without_a_registration(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    async with device_at(platform) as device:
        assert (await device.sign_in()).status == 200
        restarted = await neighbourhood.restart(platform)
        assert await device.beat() == 200
        assert DEVICE in restarted.gateway.peers


def test_26_an_interval_of_nothing_is_refused_at_start() -> None:
    with pytest.raises(msgspec.ValidationError, match="keepalive_interval_s"):
        msgspec.convert({"keepalive_interval_s": 0}, SignallingSection)
