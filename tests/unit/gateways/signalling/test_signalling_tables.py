"""The bounded tables of signalling: peers, waiting answers, routes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import SystemClock
from tongshi.errors import LimitExceeded, NotFound, PeerTimeout, Unavailable
from tongshi.gateways.signalling.answers import Answers
from tongshi.gateways.signalling.catalogues import STORM, Catalogues, Patience
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.peers import Peer, Peers
from tongshi.gateways.signalling.ports import DeviceSummary, Wanted
from tongshi.gateways.signalling.routes import Routes
from tongshi.protocols.gb28181.profile import Profile
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.gb28181.types import CatalogItem

OWN, NVR, CHANNEL = "31010100002000000001", "31010100001180000001", "31010100001320000001"


def peer(peer_id: str, seen_s: float = 0.0, expires_s: float = 100.0) -> Peer:
    return Peer(peer_id, Remote("10.0.0.1", 5060, "udp"), Profile(), expires_s, seen_s)


def test_the_silent_are_found_from_the_longest_silence_on() -> None:
    peers = Peers()
    for number in range(5):
        peers.put(peer(str(number), float(number)))
    first = peers.get("0")
    assert first is not None
    peers.heard(first, Remote("10.0.0.1", 6000, "udp"), 9.0)
    assert [one.id for one in peers.silent(3.0)] == ["1", "2"]
    assert first.remote.port == 6000
    assert [one.id for one in peers.expired(100.0)] == ["1", "2", "3", "4", "0"]


def test_a_peer_is_where_its_address_is_whatever_the_port() -> None:
    one = peer(NVR)
    assert one.is_at(Remote("10.0.0.1", 9, "tcp"))
    assert not one.is_at(Remote("10.0.0.2", 5060, "udp"))


def test_the_table_of_peers_is_bounded() -> None:
    peers = Peers(limit=1)
    peers.put(peer(NVR))
    assert peers.is_full


async def test_an_answer_finds_its_question_by_peer_command_and_number() -> None:
    answers = Answers()
    key = answers.expect(NVR, "DeviceInfo", 5)
    other = answers.expect(NVR, "DeviceInfo", 6)
    assert not answers.give("elsewhere", DeviceInfoResponse(5, NVR))
    assert not answers.give(NVR, DeviceInfoResponse(7, NVR))  # two wait: a wrong number is nobody's
    assert answers.give(NVR, DeviceInfoResponse(5, NVR, manufacturer="a"))
    assert isinstance(await answers.wait(key, 1), DeviceInfoResponse)
    assert answers.give(NVR, DeviceInfoResponse(0, NVR))  # one waits: the peer lost the number
    await answers.wait(other, 1)
    assert len(answers) == 0


async def test_a_question_without_answer_times_out_and_is_forgotten() -> None:
    answers = Answers(limit=1)
    key = answers.expect(NVR, "DeviceInfo", 5)
    with pytest.raises(LimitExceeded):
        answers.expect(NVR, "DeviceInfo", 6)
    with pytest.raises(PeerTimeout):
        await answers.wait(key, 0.001)
    assert len(answers) == 0
    answers.expect(NVR, "DeviceInfo", 6)
    answers.close()
    assert len(answers) == 0


class Shelf:
    """An archive with the devices that a test puts there."""

    def __init__(self, *devices: DeviceSummary) -> None:
        self.devices = {device.device_id: device for device in devices}

    async def find(self, device_id: str) -> DeviceSummary | None:
        return self.devices.get(device_id)

    async def find_shared(self, upper_id: str, device_id: str) -> DeviceSummary | None:
        return self.devices.get(device_id)

    async def shared_codes(self, upper_id: str, wanted: Wanted) -> tuple[tuple[str, ...], bool]:
        return (), False

    async def shared_items(self, upper_id: str, codes: Sequence[str]) -> Sequence[CatalogItem]:
        return ()

    async def merge_catalogue(
        self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool
    ) -> None: ...

    async def merge_nodes(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None: ...

    async def shared_nodes(self, upper_id: str) -> Sequence[CatalogItem]:
        return ()

    async def note_status(self, online: dict[str, bool], source: str, reason: str) -> None: ...


async def test_a_channel_is_reached_by_itself_then_by_who_told_then_by_its_parents() -> None:
    peers = Peers()
    routes = Routes(OWN, peers, Shelf(DeviceSummary(CHANNEL, via=("x", NVR))))
    with pytest.raises(NotFound):
        await routes.peer_of("31010100001320000404")
    with pytest.raises(Unavailable) as caught:
        await routes.peer_of(CHANNEL)
    assert caught.value.code == 50301
    peers.put(peer(NVR))
    assert (await routes.peer_of(CHANNEL)).id == NVR
    peers.put(peer("teller"))
    routes.learn("teller", [CHANNEL])
    assert (await routes.peer_of(CHANNEL)).id == "teller"
    peers.put(peer(CHANNEL))
    assert (await routes.peer_of(CHANNEL)).id == CHANNEL


def test_76_a_code_that_two_recorders_tell_is_said_to_be_doubled() -> None:
    peers = Peers()
    routes = Routes(OWN, peers, Shelf())
    for one in ("a", "b"):
        peers.put(peer(one))
    routes.learn("a", ["1", "2", "a"])
    assert routes.doubled("b", ["2", "3", "a"]) == ["2"]
    assert routes.doubled("a", ["1", "2"]) == []
    peers.remove("a")
    assert routes.doubled("b", ["2"]) == []


def test_what_was_learned_is_bounded_and_belongs_to_the_last_teller() -> None:
    routes = Routes(OWN, Peers(), Shelf(), limit=3)
    routes.learn("a", ["1", "2"])
    routes.learn("b", ["2", "3", "4"])
    assert routes.channels_of("a") == ()
    assert sorted(routes.channels_of("b")) == ["2", "3", "4"]


async def test_in_a_storm_of_registrations_everybody_is_asked_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tongshi.gateways.signalling.catalogues.CALM_S", 0.1)
    asked: list[str] = []

    async def send(to: Peer, _: object) -> int:
        asked.append(to.id)
        return 404

    post: Any = SimpleNamespace(send=send)
    peers = Peers()
    catalogues = Catalogues(post, Shelf(), Routes(OWN, peers, Shelf()), SystemClock(), Patience(retries=0))
    for number in range(STORM - 1):
        catalogues.refresh(peer(f"{number}"))
    await asyncio.sleep(0.01)
    assert len(asked) == STORM - 1  # not yet a storm
    for number in range(200):
        catalogues.refresh(peer(f"x{number}"))
    await asyncio.sleep(0.01)
    assert len(asked) == STORM - 1
    async with asyncio.timeout(5.0):
        while len(asked) < STORM - 1 + 200:  # noqa: ASYNC110  # the calm comes with time
            await asyncio.sleep(0.02)
    await catalogues.stop()
