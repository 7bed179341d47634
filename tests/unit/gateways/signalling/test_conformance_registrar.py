"""What the registrar answers, header by header, and what makes a peer offline; no socket, no database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.keepalive import Beat, Keepalives
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import Account, StoredRegistration
from tongshi.gateways.signalling.profiles import Profiles
from tongshi.gateways.signalling.registrar import Domain, Registrar
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.profile import Profile
from tongshi.protocols.sip.digest import Challenge, answer
from tongshi.protocols.sip.message import Request, parse
from tongshi.resources.peers.model import PeerProfile

SERVER, DEVICE, CHANNEL = "31010100002000000001", "31010100001180000001", "31010100001320000001"
AT = Remote("192.0.2.7", 5060, "udp")


class Record:
    """One account; remembers who was removed and why."""

    def __init__(self) -> None:
        self.removed: list[tuple[str, tuple[str, ...], str]] = []
        self.seen: dict[str, datetime] = {}

    async def account(self, peer_id: str, username: str) -> Account | None:
        return Account(username, "gb-2022") if peer_id == DEVICE else None

    async def put(self, registration: StoredRegistration, *, is_refresh: bool) -> None:
        return None

    async def remove(self, peer_id: str, channel_ids: Sequence[str], at: datetime, reason: str) -> None:
        self.removed.append((peer_id, tuple(channel_ids), reason))

    async def heard(self, seen: Mapping[str, datetime]) -> None:
        self.seen.update(seen)

    async def put_profiles(self, profiles: Sequence[PeerProfile]) -> None:
        return None

    async def profiles_after(self, peer_id: str) -> Sequence[PeerProfile]:
        return ()

    async def stored(self, at: datetime) -> Sequence[StoredRegistration]:
        return ()


class Incoming:
    """A request with the one answer it got."""

    def __init__(self, request: Request, remote: Remote = AT) -> None:
        self.request, self.remote = request, remote
        self.status, self.headers, self.body = 0, [("", "")], b""

    def respond(self, status: int, reason: str = "", headers: Any = (), body: bytes = b"", **_: Any) -> None:
        self.status, self.headers, self.body = status, list(headers), body

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def register(*lines: str, peer_id: str = DEVICE) -> Request:
    text = [
        f"REGISTER sip:{SERVER}@{SERVER[:10]} SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa",
        f"From: <sip:{peer_id}@{peer_id[:10]}>;tag=1",
        f"To: <sip:{peer_id}@{peer_id[:10]}>",
        "Call-ID: a",
        "CSeq: 1 REGISTER",
        f"Contact: <sip:{peer_id}@192.0.2.7:5060>",
        *lines,
    ]
    request = parse("\r\n".join([*text, "", ""]).encode())
    assert isinstance(request, Request)
    return request


class Desk:
    """A registrar and a keepalive watch over the same table of peers."""

    def __init__(self, beat: Beat | None = None) -> None:
        self.clock, self.record, self.peers = ManualClock(), Record(), Peers()
        self.offline: list[tuple[str, str]] = []
        self.faulty: list[tuple[str, ...]] = []
        self.registrar = Registrar(
            Domain(SERVER, SERVER[:10]),
            self.peers,
            self.record,
            self.clock,
            channels_of=lambda _: (CHANNEL,),
            on_online=lambda _: None,
            on_offline=self._lost,
            profiles=Profiles(self.record, self.peers, lambda: (), self.clock, str),
        )
        self.keepalives = Keepalives(
            beat or Beat(),
            self.peers,
            self.record,
            self.clock,
            channels_of=lambda _: (CHANNEL,),
            on_offline=self._lost,
            on_faulty=lambda _, children: self.faulty.append(tuple(children)),
        )

    def _lost(self, peer: Peer, reason: str) -> None:
        self.offline.append((peer.id, reason))

    async def ask(self, request: Request, remote: Remote = AT) -> Incoming:
        incoming = Incoming(request, remote)
        await self.registrar.handle(incoming)  # type: ignore[arg-type]
        return incoming

    async def sign_in(self, *lines: str, secret: str = "gb-2022", remote: Remote = AT) -> Incoming:
        challenge = Challenge.parse((await self.ask(register(*lines))).header("WWW-Authenticate")[0])
        credentials = answer(
            challenge,
            username=DEVICE,
            password=secret,
            method="REGISTER",
            uri=f"sip:{SERVER}@{SERVER[:10]}",
            cnonce="0a4f113b",
        )
        return await self.ask(register(f"Authorization: {credentials.render()}", *lines), remote)

    def beat(self, *faulty: str, remote: Remote = AT) -> Incoming:
        peer = self.peers.get(DEVICE)
        assert peer is not None
        incoming = Incoming(register(), remote)
        self.keepalives.take(incoming, peer, Keepalive(1, DEVICE, faulty=faulty))  # type: ignore[arg-type]
        return incoming


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_every_answer_names_our_version(desk: Desk) -> None:
    answers = [
        await desk.ask(register()),
        await desk.sign_in(),
        await desk.sign_in(secret="wrong"),
        await desk.ask(register("Authorization: Digest nonsense")),
        await desk.sign_in("Expires: 0"),
    ]
    assert [one.status for one in answers] == [401, 200, 403, 400, 200]
    assert [one.header("X-GB-Ver") for one in answers] == [["3.0"]] * 5


async def test_a_challenge_always_names_md5(desk: Desk) -> None:
    (offered,) = (await desk.ask(register())).header("WWW-Authenticate")
    assert "algorithm=MD5" in offered
    assert "qop" not in offered


async def test_deregistration_is_challenged_too_and_changes_nothing_before(desk: Desk) -> None:
    await desk.sign_in()
    assert (await desk.ask(register("Expires: 0"))).status == 401
    assert DEVICE in desk.peers
    assert (await desk.sign_in("Expires: 0")).status == 200
    assert DEVICE not in desk.peers
    assert desk.record.removed == [(DEVICE, (CHANNEL,), "deregistered")]


async def test_without_expires_the_lifetime_is_a_day_and_never_below_an_hour(desk: Desk) -> None:
    assert (await desk.sign_in()).header("Expires") == ["86400"]
    assert (await desk.sign_in("Expires: 60")).header("Expires") == ["3600"]


async def test_registering_again_from_another_port_moves_the_peer(desk: Desk) -> None:
    await desk.sign_in()
    moved = Remote("192.0.2.7", 40_001, "udp")
    await desk.sign_in(remote=moved)
    peer = desk.peers.get(DEVICE)
    assert peer is not None
    assert peer.remote == moved


async def test_a_registration_that_is_not_refreshed_ends_with_its_channels(desk: Desk) -> None:
    await desk.sign_in("Expires: 3600")
    for _ in range(61):
        desk.clock.advance(59)
        desk.beat()
        await desk.keepalives.sweep()
    assert desk.offline == []
    desk.clock.advance(2)
    await desk.keepalives.sweep()
    assert desk.offline == [(DEVICE, "registrationExpired")]
    assert desk.record.removed == [(DEVICE, (CHANNEL,), "registrationExpired")]


async def test_three_missed_heartbeats_and_one_interval_of_grace_lose_a_peer(desk: Desk) -> None:
    assert (Beat().interval_s, Beat().count) == (60, 3)
    await desk.sign_in()
    desk.beat()
    desk.clock.advance(240)
    await desk.keepalives.sweep()
    assert DEVICE in desk.peers
    desk.clock.advance(0.1)
    await desk.keepalives.sweep()
    assert desk.offline == [(DEVICE, "keepaliveTimeout")]


async def test_nobody_was_silent_while_we_did_not_run(desk: Desk) -> None:
    await desk.sign_in()
    desk.beat()
    desk.clock.advance(300)
    desk.keepalives.overslept(299)
    await desk.keepalives.sweep()
    desk.clock.advance(59.9)
    await desk.keepalives.sweep()
    assert desk.offline == []
    desk.clock.advance(0.1)  # one interval of listening, and still nothing
    await desk.keepalives.sweep()
    assert desk.offline == [(DEVICE, "keepaliveTimeout")]


async def test_a_watch_that_is_held_up_notices_it(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(Beat(0.02, 1))
    desk.keepalives.start()
    try:
        told: asyncio.Queue[float] = asyncio.Queue()
        monkeypatch.setattr(desk.keepalives, "overslept", told.put_nowait)
        await asyncio.sleep(0)
        desk.clock.advance(60)  # as if the process had been stopped while the watch slept
        assert await asyncio.wait_for(told.get(), 15) > 50
    finally:
        await desk.keepalives.stop()


async def test_a_heartbeat_is_answered_without_body_and_shows_the_new_port(desk: Desk) -> None:
    await desk.sign_in()
    moved = Remote("192.0.2.7", 40_002, "udp")
    incoming = desk.beat(CHANNEL, remote=moved)
    assert (incoming.status, incoming.body) == (200, b"")
    peer = desk.peers.get(DEVICE)
    assert peer is not None
    assert peer.remote == moved
    assert desk.faulty == [(CHANNEL,)]


async def test_the_edition_a_peer_names_decides_what_it_is_told(desk: Desk) -> None:
    await desk.sign_in("X-GB-Ver: 2.0")
    peer = desk.peers.get(DEVICE)
    assert peer is not None
    assert (peer.profile.edition.wire, peer.profile.charset) == ("2.0", "gb2312")
    await desk.sign_in("X-GB-Ver: 3.0")
    newer = desk.peers.get(DEVICE)
    assert newer is not None
    assert newer.profile == Profile()
