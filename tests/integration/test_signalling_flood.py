"""Strangers at full speed against a real gateway: who is registered notices nothing, and no table grows."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tongshi.audit import store as audit_store
from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound, PeerTimeout
from tongshi.gateways.signalling.admission.bans import MAX_FAILURES
from tongshi.gateways.signalling.admission.bindings import Binding
from tongshi.gateways.signalling.admission.desk import AdmissionConfig
from tongshi.gateways.signalling.admission.door import Limits
from tongshi.gateways.signalling.admission.fingerprints import Policy
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.sip.digest import Challenge, answer
from tongshi.protocols.sip.message import Response
from tongshi.resources.admission import store
from tongshi.resources.admission.model import BanReason, Standing
from tongshi.resources.admission.service import AdmissionDesk as AdmissionService
from tongshi.sharing.model import Context
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

PLATFORM, DEVICE = "31010100002000000001", "31010100001180000001"
XML = "Application/MANSCDP+xml"
HOME, ABROAD = "127.0.0.1", "127.0.0.9"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported

_FLOOD = """
import socket, sys, time
port, seconds, kind = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.9", 0))
body = "<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>44010100001320000001</DeviceID></Notify>"
end, sent = time.monotonic() + seconds, 0
while time.monotonic() < end:
    for _ in range(50):
        sent += 1
        code = f"4401010000132{sent % 10_000_000:07d}"
        s.sendto((
            f"{kind} sip:31010100002000000001@3101010000 SIP/2.0\\r\\n"
            f"Via: SIP/2.0/UDP 127.0.0.9:5060;rport;branch=z9hG4bK{sent}\\r\\n"
            f"From: <sip:{code}@4401010000>;tag={sent}\\r\\nTo: <sip:31010100002000000001@3101010000>\\r\\n"
            f"Call-ID: {sent}@flood\\r\\nCSeq: 1 {kind}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
        ).encode(), ("127.0.0.1", port))
print(sent)
"""


class Peer:
    """A device or a stranger, each message by hand."""

    def __init__(self, platform: SmallPlatform, code: str = DEVICE, host: str = HOME) -> None:
        self.code = code
        self.remote = Remote(HOME, platform.gateway.port, "udp")
        self.endpoint = SipEndpoint(
            local_id=code, host=host, port=0, on_request=self._take, on_invite=self._no_call
        )

    async def register(self, *headers: tuple[str, str]) -> Response:
        return await self.endpoint.request(
            "REGISTER", to_id=PLATFORM, remote=self.remote, headers=headers, timeout_s=3.0
        )

    async def credentials(self, secret: str = "gb-2022") -> tuple[str, str]:
        challenge = Challenge.parse((await self.register()).headers.get("WWW-Authenticate"))
        made = answer(
            challenge,
            username=self.code,
            password=secret,
            method="REGISTER",
            uri=f"sip:{PLATFORM}@{PLATFORM[:10]}",
            cnonce="0a4f113b",
        )
        return "Authorization", made.render()

    async def sign_in(self, secret: str = "gb-2022", *headers: tuple[str, str]) -> Response:
        return await self.register(await self.credentials(secret), *headers)

    async def beat(self, number: int = 1) -> int:
        response = await self.endpoint.request(
            "MESSAGE",
            to_id=PLATFORM,
            remote=self.remote,
            body=Keepalive(number, self.code).render(),
            content_type=XML,
            timeout_s=3.0,
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
async def at(platform: SmallPlatform, code: str = DEVICE, host: str = HOME) -> AsyncIterator[Peer]:
    made = Peer(platform, code, host)
    await made.endpoint.start()
    try:
        yield made
    finally:
        await made.endpoint.stop()


@pytest.mark.parametrize("kind", ["MESSAGE", "REGISTER"])
async def test_a_stranger_at_full_speed_delays_no_heartbeat(platform: SmallPlatform, kind: str) -> None:
    admission = platform.gateway.admission
    async with at(platform) as device:
        assert (await device.sign_in()).status == 200
        port = str(platform.gateway.port)
        flood = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _FLOOD, port, "4.0", kind, stdout=asyncio.subprocess.PIPE
        )
        delays, calm, number = [], [], 0
        while flood.returncode is None and number < 200:
            number += 1
            before, was_banned = time.perf_counter(), bool(admission.bans())
            assert await device.beat(number) == 200
            delays.append(time.perf_counter() - before)
            if was_banned:
                calm.append(delays[-1])
            await asyncio.sleep(0.02)
        output, _ = await flood.communicate()
        assert int(output) > 5_000
        # Before the ban a datagram may be lost and come again (T1); after it the kernel drops the flood.
        assert max(delays) < 2.0
        assert statistics.median(calm) < 0.05
        assert DEVICE in platform.gateway.peers
        assert platform.gateway.endpoint.pending < 200
        assert [(ban.subject, ban.reason) for ban in admission.bans()] == [(ABROAD, BanReason.FLOOD)]
        assert [one.address for one in admission.strangers()] == [ABROAD]
    await admission._flush()
    assert await platform.db.read(store.list_bans, platform.clock.at())


async def test_a_ban_survives_a_restart_and_a_lifted_one_is_heard_again(
    neighbourhood: Neighbourhood, platform: SmallPlatform
) -> None:
    admission = platform.gateway.admission
    admission.ban_table.ban(ABROAD, BanReason.FLOOD, platform.clock.at())
    await admission._flush()
    platform = await neighbourhood.restart(platform)
    admission = platform.gateway.admission
    assert [ban.subject for ban in admission.bans()] == [ABROAD]
    async with at(platform, host=ABROAD) as stranger:
        with pytest.raises(PeerTimeout):
            await stranger.endpoint.request("OPTIONS", to_id=PLATFORM, remote=stranger.remote, timeout_s=1.5)
        admission.lift(ABROAD)
        assert (await stranger.sign_in()).status == 200


async def test_a_guesser_is_banned_told_so_and_its_neighbour_is_not(platform: SmallPlatform) -> None:
    async with at(platform, "31010100001180000002") as neighbour, at(platform) as guesser:
        assert (await neighbour.sign_in()).status == 200
        for _ in range(MAX_FAILURES):
            assert (await guesser.sign_in("wrong")).status == 403
        refused = await guesser.register()
        assert (refused.status, refused.headers.get("X-GB-Ver")) == (403, "3.0")
        assert await neighbour.beat() == 200
        bans = platform.gateway.admission.bans()
        assert [(ban.subject, ban.reason) for ban in bans] == [(f"{DEVICE}@{HOME}", BanReason.DIGEST)]


async def test_a_nonce_stays_for_a_while_is_good_once_and_nowhere_else(platform: SmallPlatform) -> None:
    async with at(platform) as device, at(platform, host=ABROAD) as thief:
        nonces = {
            Challenge.parse((await device.register()).headers.get("WWW-Authenticate")).nonce for _ in range(3)
        }
        assert len(nonces) <= 2  # a slot may end between two
        stolen = await device.credentials()
        challenged = await thief.register(stolen)
        assert challenged.status == 401
        assert Challenge.parse(challenged.headers.get("WWW-Authenticate")).is_stale
        assert (await device.register(stolen)).status == 200
        replayed = await device.register(stolen)
        assert replayed.status == 401
        assert Challenge.parse(replayed.headers.get("WWW-Authenticate")).is_stale
        assert platform.gateway.admission.ban_table.total == 0


async def test_a_bound_device_is_refused_elsewhere_with_the_reason(neighbourhood: Neighbourhood) -> None:
    bound = AdmissionConfig(bindings=(Binding(DEVICE, (HOME, "127.0.0.8")),))
    platform = await neighbourhood.platform(PlatformPlan(PLATFORM, admission=bound))
    async with at(platform, host=ABROAD) as elsewhere, at(platform) as device:
        refused = await elsewhere.sign_in()
        assert refused.status == 403
        assert "bound to other addresses" in refused.headers.get("Warning")
        assert (await device.sign_in()).status == 200
        async with at(platform, host="127.0.0.8") as second_leg:
            assert await second_leg.beat() == 200  # dual-homed: both addresses are its own (quirk 24)
        async with at(platform, host="127.0.0.7") as impostor:
            assert await impostor.beat() == 403


async def test_another_maker_ends_the_registration_until_a_person_confirms(
    neighbourhood: Neighbourhood,
) -> None:
    plan = PlatformPlan(PLATFORM, admission=AdmissionConfig(fingerprints=Policy.BLOCK), beat=Beat(10.0, 3))
    platform = await neighbourhood.platform(plan)
    gateway = platform.gateway
    async with at(platform) as device:
        assert (await device.sign_in()).status == 200
        gateway.admission.judge.told(DEVICE, {"manufacturer": "甲", "model": "M"})
        gateway.admission.judge.told(DEVICE, {"manufacturer": "乙", "model": "M"})
        await neighbourhood.until(lambda: DEVICE not in gateway.peers)
        refused = await device.sign_in()
        assert refused.status == 403
        assert "fingerprint changed (manufacturer)" in refused.headers.get("Warning")
        await gateway.admission._flush()
        desk = AdmissionService(platform.db, store, gateway.admission)
        rows, total = await desk.fingerprints(Standing.BLOCKED, 1, 10)
        assert (total, dict(rows[0].changed)) == (1, {"manufacturer": "乙"})
        context = Context(platform.clock.at())
        await desk.confirm(platform.viewer.subject, DEVICE, context)
        assert (await device.sign_in()).status == 200
        with pytest.raises(NotFound):
            await desk.confirm(platform.viewer.subject, DEVICE, context)
        audited, _ = await platform.db.read(
            lambda conn: audit_store.page(conn, 1, 10, event=AuditTag.FINGERPRINT_CONFIRM)
        )
        assert audited[0].entry.details == {"manufacturer": ["甲", "乙"]}


async def test_strange_connections_are_bounded(platform: SmallPlatform) -> None:
    opened = []
    for _ in range(Limits().stranger_connections + 10):
        reader, writer = await asyncio.open_connection(HOME, platform.gateway.port, local_addr=(ABROAD, 0))
        opened.append((reader, writer))
    await asyncio.sleep(0.2)
    shut = 0
    for reader, _ in opened:
        try:
            async with asyncio.timeout(0.01):
                shut += await reader.read(1) == b""
        except TimeoutError:
            continue
        except OSError:
            shut += 1
    assert shut == 10
    for _, writer in opened:
        writer.close()
