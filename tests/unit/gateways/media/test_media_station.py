"""A media node's station: its lives, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tongshi._media import Engine
from tongshi.clock import ManualClock
from tongshi.errors import Conflict, Gone, LimitExceeded, NotFound, Unauthenticated, Unavailable
from tongshi.exchange.signing import Signer
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.remote import door as doors
from tongshi.gateways.media.nodes.remote import seal as seals
from tongshi.gateways.media.nodes.remote import station as stations
from tongshi.gateways.media.nodes.remote.door import NodeDoor
from tongshi.gateways.media.nodes.remote.seal import Seal
from tongshi.gateways.media.nodes.remote.station import Station
from tongshi.gateways.media.nodes.remote.wire import NewsKind, OpenCall, Reply
from tongshi.resources.viewing.model import Transport

OPEN = OpenCall(stream="s", transport=Transport.UDP, is_local=False)
PLATFORM, SECRET = "31010100002000000001", "of-a-test-of-nodes"


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = AsyncEngine(Engine(), "127.0.0.1")
        self.engine.start()
        self.station = Station(self.engine, self.clock, gone_s=30.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.station.stop()
    await made.engine.stop()


async def test_a_platform_that_is_silent_for_long_loses_everything_and_nothing_before(world: World) -> None:
    boot = (await world.station.look("a")).boot
    await world.station.open(OPEN)
    world.clock.advance(29.0)
    await world.station.end_if_deserted()
    assert (world.station.boot, world.engine.open_streams) == (boot, 1)
    waiting = asyncio.ensure_future(world.station.news(boot, 0, 10.0))
    await asyncio.sleep(0)
    world.clock.advance(2.0)
    await world.station.end_if_deserted()
    assert world.engine.open_streams == 0
    with pytest.raises(Conflict):
        await waiting
    with pytest.raises(Conflict):
        world.station.hear("a")
    assert (await world.station.look("a")).boot == world.station.boot != boot


async def test_another_process_takes_over_and_the_first_is_told(world: World) -> None:
    first = (await world.station.look("a")).boot
    await world.station.open(OPEN)
    second = await world.station.look("b")
    assert (second.streams, second.boot != first, world.engine.open_streams) == ([], True, 0)
    with pytest.raises(Conflict):
        world.station.hear("a")


async def test_news_are_told_until_they_were_read_and_in_order(world: World) -> None:
    boot = (await world.station.look("a")).boot
    assert await world.station.news(boot, 0, 0.001) == []
    for number in (1, 2, 3):
        world.station.tell(NewsKind.LEFT, "s", number)
    for _ in range(2):
        assert [one.id for one in await world.station.news(boot, 0, 1.0)] == [1, 2, 3]
    assert [one.id for one in await world.station.news(boot, 2, 1.0)] == [3]
    assert await world.station.news(boot, 3, 0.001) == []


async def test_a_platform_that_reads_no_news_loses_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stations, "MAX_NEWS", 3)
    boot = (await world.station.look("a")).boot
    await world.station.open(OPEN)
    for number in range(4):
        world.station.tell(NewsKind.LEFT, "s", number)
    await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await world.station.news(boot, 0, 0.001)


async def test_a_viewer_is_asked_about_once_and_refused_when_nobody_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, boot = NodeDoor(world.station), (await world.station.look("a")).boot
    with pytest.raises(NotFound):
        await door.enter("s", "ticket", "127.0.0.1")
    await world.station.open(OPEN)
    for ticket in ("", "x" * 129):
        with pytest.raises(Unauthenticated):
            await door.enter("s", ticket, "127.0.0.1")
    entering = asyncio.ensure_future(door.enter("s", "ticket", "127.0.0.1"))
    (asked,) = await world.station.news(boot, 0, 1.0)
    assert (asked.kind, asked.ticket, asked.client) == (NewsKind.ASK, "ticket", "127.0.0.1")
    door.answered(Reply(id=asked.id))
    assert (await entering).number == asked.id
    with pytest.raises(NotFound):
        door.answered(Reply(id=asked.id))
    monkeypatch.setattr(doors, "ASK_LIMIT_S", 0.001)
    with pytest.raises(Unavailable):
        await door.enter("s", "ticket", "127.0.0.1")
    told = await world.station.news(boot, asked.number, 1.0)
    assert [one.kind for one in told] == [NewsKind.ASK, NewsKind.LEFT]
    monkeypatch.setattr(doors, "MAX_QUESTIONS", 0)
    with pytest.raises(LimitExceeded):
        await door.enter("s", "ticket", "127.0.0.1")


async def test_a_viewer_that_the_platform_ended_before_he_was_served_is_not_served(world: World) -> None:
    door, boot = NodeDoor(world.station), (await world.station.look("a")).boot
    await world.station.open(OPEN)
    entering = asyncio.ensure_future(door.enter("s", "ticket", "127.0.0.1"))
    (asked,) = await world.station.news(boot, 0, 1.0)
    door.answered(Reply(id=asked.id))
    admission = await entering
    assert await world.station.detach("s", asked.id) == 0
    with pytest.raises(Exception, match="已使用或已过期"):
        await door.connect(admission, "v=0")


def test_a_seal_takes_its_platforms_call_once_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    signer, seal = Signer(PLATFORM, SECRET, "east", clock), Seal(PLATFORM, SECRET, "east", clock)

    def headers() -> dict[str, str]:
        return {name.lower(): v for name, v in signer.headers("POST", "/x", "", b"", "me").items()}

    one = headers()
    assert seal.check("POST", "/x", "", one).signable.on_behalf == "me"
    for path, sent in (("/x", one), ("/y", headers()), ("/x", {**headers(), "x-tongshi-onbehalf": "you"})):
        with pytest.raises(Unauthenticated):
            seal.check("POST", path, "", sent)
    late = headers()
    clock.advance(31.0)
    with pytest.raises(Unauthenticated) as caught:
        seal.check("POST", "/x", "", late)
    assert caught.value.code == 40103
    assert "平台的时钟比媒体节点慢 31 秒" in caught.value.message
    monkeypatch.setattr(seals, "MAX_NONCES", 2)
    seal.check("POST", "/x", "", headers())
    with pytest.raises(LimitExceeded):
        seal.check("POST", "/x", "", headers())
    clock.advance(61.0)
    seal.check("POST", "/x", "", headers())
    late = headers()
    clock.advance(3725.0)
    with pytest.raises(Unauthenticated, match="慢 1 小时 2 分 5 秒"):
        seal.check("POST", "/x", "", late)


async def test_a_closed_stream_is_asked_about_only_for_who_fetches_it_bit_by_bit_and_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "AGAIN_S", 60.0)
    door, boot = NodeDoor(world.station), (await world.station.look("a")).boot
    await world.station.open(OPEN)
    entering = asyncio.ensure_future(door.enter("s", "ticket", "127.0.0.1", is_lasting=True))
    (asked,) = await world.station.news(boot, 0, 1.0)
    door.answered(Reply(id=asked.id))
    admission = await entering
    assert not await door.is_over(admission)
    await world.station.close("s")
    ending = asyncio.ensure_future(door.is_over(admission))
    (again,) = await world.station.news(boot, asked.number, 1.0)
    assert (again.kind, again.ticket, again.is_lasting) == (NewsKind.ASK, "ticket", True)
    door.answered(Reply(id=again.id, is_over=True))
    assert await ending
    for closed in (door.enter("s", "ticket", "127.0.0.1"), door.inspect("s", "ticket", "127.0.0.1")):
        with pytest.raises(NotFound):
            await closed
    world.clock.advance(stations.KEPT_S)
    with pytest.raises(NotFound):
        await door.enter("s", "ticket", "127.0.0.1", is_lasting=True)


async def test_a_closed_stream_that_nobody_was_let_into_is_forgotten_at_once(world: World) -> None:
    door, boot = NodeDoor(world.station), (await world.station.look("a")).boot
    await world.station.open(OPEN)
    entering = asyncio.ensure_future(door.enter("s", "stranger", "127.0.0.1", is_lasting=True))
    (asked,) = await world.station.news(boot, 0, 1.0)
    door.answered(Reply(id=asked.id, status=401, code=40101, message="播放凭据无效"))
    with pytest.raises(Unauthenticated):
        await entering
    await world.station.close("s")
    with pytest.raises(NotFound):
        await door.enter("s", "stranger", "127.0.0.1", is_lasting=True)


async def test_a_ticket_is_looked_at_without_letting_anybody_in(world: World) -> None:
    door, boot = NodeDoor(world.station), (await world.station.look("a")).boot
    await world.station.open(OPEN)
    looking = asyncio.ensure_future(door.inspect("s", "ticket", "127.0.0.1"))
    (asked,) = await world.station.news(boot, 0, 1.0)
    assert (asked.kind, asked.ticket, asked.client) == (NewsKind.CHECK, "ticket", "127.0.0.1")
    door.answered(Reply(id=asked.id))
    await looking
    assert world.station.find("s").guests == {}
    refused = asyncio.ensure_future(door.inspect("s", "ticket", "127.0.0.1"))
    (asked,) = await world.station.news(boot, asked.number, 1.0)
    door.answered(Reply(id=asked.id, status=410, code=41002, message="播放凭据已使用或已过期"))
    with pytest.raises(Gone):
        await refused
