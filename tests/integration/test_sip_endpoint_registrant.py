"""The registrant against a small registrar on loopback."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import Literal

import pytest

from tongshi.clock import SystemClock
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, Remote, SipEndpoint
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.protocols.sip.composing import Draft
from tongshi.protocols.sip.digest import (
    Authorization,
    Challenge,
    NonceState,
    NonceStore,
    secret_hash,
    verify,
)
from tongshi.protocols.sip.message import Request
from tongshi.protocols.sip.timers import TimerValues

SERVER = "34020000002000000001"
CAMERA = "34020000001320000001"
SECRET = "Gb28181@2022"
QUICK = TimerValues(t1_s=0.05, t2_s=0.2, t4_s=0.1)


class Registrar:
    """Challenges, verifies, grants; remembers what it granted."""

    def __init__(self, algorithm: str = "MD5", qop: str = "", granted_s: int = 3600) -> None:
        self.algorithm, self.qop, self.granted_s = algorithm, qop, granted_s
        self.granted: list[int] = []
        self.requests: list[IncomingRequest] = []
        self.status = 0
        self.redirect = ""
        self.nonces = NonceStore(secrets.token_bytes(16))
        self.clock = SystemClock()
        self.endpoint = SipEndpoint(
            local_id=SERVER,
            host="127.0.0.1",
            port=0,
            on_request=self.handle,
            on_invite=_no_call,
            timers=QUICK,
        )

    def at(self, transport: Literal["udp", "tcp"] = "udp") -> Remote:
        return Remote("127.0.0.1", self.endpoint.port, transport)

    async def handle(self, incoming: IncomingRequest) -> None:
        self.requests.append(incoming)
        if self.status:
            incoming.respond(self.status)
        elif self.redirect:
            incoming.respond(302, headers=(("Contact", self.redirect), ("Expires", "3600")))
        elif not self.is_authentic(incoming):
            nonce = self.nonces.issue(self.clock.now(), secrets.token_bytes(4))
            challenge = Challenge("3402000000", nonce, self.algorithm, self.qop)
            incoming.respond(401, headers=(("WWW-Authenticate", challenge.render()),))
        else:
            expires_s = min(self.granted_s, incoming.request.expires or 0)
            self.granted.append(expires_s)
            dates = (("Expires", str(expires_s)), ("Date", "2024-05-20T09:30:15.250"))
            incoming.respond(200, headers=dates)

    def is_authentic(self, incoming: IncomingRequest) -> bool:
        text = incoming.request.headers.get("Authorization")
        if not text:
            return False
        credentials = Authorization.parse(text)
        ha1 = secret_hash(credentials.algorithm, CAMERA, "3402000000", SECRET)
        return (
            credentials.algorithm == self.algorithm
            and verify(credentials, method="REGISTER", ha1=ha1)
            and self.nonces.accept(credentials, self.clock.now()) is NonceState.FRESH
        )


async def _no_call(invite: IncomingInvite) -> None:
    invite.reject(486)


async def _no_request(incoming: IncomingRequest) -> None:
    incoming.respond(405)


class Fixture:
    """A registrar, a device endpoint and the states its registrant went through."""

    def __init__(self, registrar: Registrar) -> None:
        self.registrar = registrar
        self.states: list[tuple[bool, str]] = []
        self.device = SipEndpoint(
            local_id=CAMERA,
            host="127.0.0.1",
            port=0,
            on_request=_no_request,
            on_invite=_no_call,
            timers=QUICK,
        )

    async def __aenter__(self) -> Fixture:
        await self.registrar.endpoint.start()
        await self.device.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.device.stop()
        await self.registrar.endpoint.stop()

    def registrant(
        self, transport: Literal["udp", "tcp"] = "udp", password: str = SECRET, retry_s: float = 0.05
    ) -> Registrant:
        return Registrant(
            self.device,
            server_id=SERVER,
            remote=self.registrar.at(transport),
            username=CAMERA,
            password=password,
            retry_s=retry_s,
            timeout_s=1.0,
            on_state=lambda is_registered, reason: self.states.append((is_registered, reason)),
            rng=random.Random(1),
        )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - bounded, and there is no event to wait for
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("algorithm", "qop"), [("MD5", ""), ("MD5", "auth"), ("SHA-256", "auth"), ("SM3", "")]
)
async def test_a_device_registers_and_deregisters(
    algorithm: str, qop: str, transport: Literal["udp", "tcp"]
) -> None:
    async with Fixture(Registrar(algorithm, qop)) as fixture:
        registrant = fixture.registrant(transport)
        await registrant.start()
        await asyncio.wait_for(registrant.registered.wait(), 15)
        assert registrant.server_date == "2024-05-20T09:30:15.250"
        await registrant.stop()
        registrar = fixture.registrar
        assert registrar.granted == [3600, 0]
        assert fixture.states == [(True, "registered"), (False, "deregistered")]
        requests = [incoming.request for incoming in registrar.requests]
        assert [request.cseq.number for request in requests] == [1, 2, 3, 4]
        assert len({request.call_id for request in requests}) == 1
        assert requests[0].uri_text == f"sip:{SERVER}@3402000000"
        assert requests[0].to.uri.user == requests[0].from_.uri.user == CAMERA
        assert requests[0].headers.get("X-GB-Ver") == "3.0"
        assert requests[0].headers.get("Expires") == "86400"


async def test_registration_is_refreshed_at_two_thirds_of_the_granted_lifetime() -> None:
    async with Fixture(Registrar(granted_s=1)) as fixture:
        registrant = fixture.registrant()
        await registrant.start()
        await until(lambda: len(fixture.registrar.granted) >= 2)
        await registrant.stop()
        assert fixture.states == [(True, "registered"), (False, "deregistered")]


async def test_a_wrong_password_is_tried_again_after_the_gap_and_answers_one_challenge_only() -> None:
    async with Fixture(Registrar()) as fixture:
        registrant = fixture.registrant(password="wrong", retry_s=0.1)
        began = asyncio.get_running_loop().time()
        await registrant.start()
        await until(lambda: len(fixture.registrar.requests) >= 3)
        assert asyncio.get_running_loop().time() - began >= 0.1
        await registrant.stop()
        assert fixture.registrar.granted == []
        assert fixture.states[0] == (False, "401 Unauthorized")


async def test_a_refused_device_recovers_when_the_server_does() -> None:
    async with Fixture(Registrar()) as fixture:
        fixture.registrar.status = 403
        registrant = fixture.registrant()
        await registrant.start()
        await until(lambda: fixture.states[:1] == [(False, "403 Forbidden")])
        fixture.registrar.status = 0
        await asyncio.wait_for(registrant.registered.wait(), 15)
        await registrant.stop()


async def test_renew_registers_again_at_once() -> None:
    async with Fixture(Registrar()) as fixture:
        registrant = fixture.registrant()
        await registrant.start()
        await asyncio.wait_for(registrant.registered.wait(), 15)
        registrant.renew()
        await until(lambda: len(fixture.registrar.granted) == 2)
        await until(registrant.registered.is_set)
        await registrant.stop()
        assert fixture.states[:3] == [(True, "registered"), (False, "lost"), (True, "registered")]


async def test_a_broken_tcp_connection_means_registering_again() -> None:
    async with Fixture(Registrar()) as fixture:
        registrant = fixture.registrant("tcp")
        await registrant.start()
        await asyncio.wait_for(registrant.registered.wait(), 15)
        for connection in list(fixture.registrar.endpoint._loop._sockets._connections.values()):
            connection.abort()
        await until(lambda: len(fixture.registrar.granted) == 2)
        await registrant.stop()


class Watching:
    """A door that notes whether we were registered when the server asked us something."""

    def __init__(self) -> None:
        self.registrant: Registrant
        self.seen: list[bool] = []

    def admits(self, source: Remote) -> bool:
        return True

    def screen(self, request: Request, source: Remote) -> None:
        self.seen.append(self.registrant.registered.is_set())

    def admits_connection(self, source: Remote, open_already: int) -> bool:
        return True


async def test_what_follows_the_200_at_once_finds_us_registered() -> None:
    """Both datagrams are read in one go, as uvloop does."""
    registrar = Registrar()

    async def and_ask(incoming: IncomingRequest) -> None:
        await registrar.handle(incoming)
        if registrar.granted == [3600]:
            loop = registrar.endpoint._loop
            loop.running().request(Draft("MESSAGE", CAMERA), incoming.remote, loop.now)
            loop.drain()

    registrar.endpoint._handlers._on_request = and_ask
    fixture, door = Fixture(registrar), Watching()
    fixture.device.guard(door)
    read = fixture.device._loop._receive
    held: list[tuple[bytes, Remote]] = []

    def read_together(data: bytes, source: Remote) -> None:
        held.append((data, source))
        if not data.startswith(b"SIP/2.0 200"):
            for one in held:
                read(*one)
            held.clear()

    fixture.device._loop._sockets.on_message = read_together
    async with fixture:
        door.registrant = fixture.registrant()
        await door.registrant.start()
        await until(lambda: bool(door.seen))
        fixture.device._loop._sockets.on_message = read
        await door.registrant.stop()
    assert door.seen[0]


async def test_a_redirection_is_followed_and_a_refusal_there_leads_back() -> None:
    first, second = Registrar(), Registrar()
    await second.endpoint.start()
    async with Fixture(first) as fixture:
        first.redirect = f"<sip:{SERVER}@127.0.0.1:{second.endpoint.port}>"
        registrant = fixture.registrant()
        await registrant.start()
        await asyncio.wait_for(registrant.registered.wait(), 15)
        assert second.granted == [3600]
        assert registrant.remote == second.at()
        second.status, asked = 500, len(first.requests)
        registrant.renew()
        await until(lambda: len(first.requests) > asked)
        await registrant.stop()
    await second.endpoint.stop()


async def test_redirections_in_a_circle_end() -> None:
    async with Fixture(Registrar()) as fixture:
        registrar = fixture.registrar
        registrar.redirect = f"<sip:{SERVER}@127.0.0.1:{registrar.endpoint.port}>"
        registrant = fixture.registrant(retry_s=30)
        await registrant.start()
        await until(lambda: bool(fixture.states))
        await registrant.stop()
        assert fixture.states[0] == (False, "302 Moved Temporarily")
        assert len(registrar.requests) == 6


async def test_a_silent_server_is_reported_and_stop_is_bounded() -> None:
    async with Fixture(Registrar()) as fixture:
        fixture.registrar.endpoint._loop.agent = None  # hears nothing any more
        registrant = fixture.registrant(retry_s=30)
        await registrant.start()
        await until(lambda: bool(fixture.states))
        assert fixture.states[0][0] is False
        await asyncio.wait_for(registrant.stop(), 15)
