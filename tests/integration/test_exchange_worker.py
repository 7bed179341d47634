"""The worker: news travel without being asked for, a dead neighbour waits, and stopping leaves nothing."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from tongshi.clock import Clock, SystemClock
from tongshi.exchange import store, worker
from tongshi.exchange.client import Link
from tongshi.exchange.model import Equality
from tongshi.exchange.signing import Signer
from tongshi.exchange.worker import Worker
from tongshi.ids import PlatformId
from tongshi.resources.devices import digest_store
from tongshi.resources.devices import store as devices
from tongshi.resources.platforms.model import Platform, Relation
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

CITY, DISTRICT = "31000000002000000001", "31010400002000000001"
SECRET = "s" * 32


async def _until(holds: Callable[[], Awaitable[bool]], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110  # what is awaited happens in another task
            await asyncio.sleep(0.02)


@pytest.fixture
async def pair(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[tuple[RestPlatform, RestPlatform]]:
    clock = SystemClock()
    made = []
    for platform_id in (DISTRICT, CITY):
        path = tmp_path / f"{platform_id}.db"
        shutil.copy(sqlite_template, path)
        made.append(await RestPlatform.open(platform_id, await Database.open(f"sqlite:///{path}"), clock))
    district, city = made
    key_id = await city.admit(DISTRICT, Relation.LOWER, SECRET)
    await district.platforms.put(
        Platform(
            PlatformId(CITY),
            "市",
            Relation.UPPER,
            rest_url="http://city",
            rest_key=key_id,
            rest_secret=SECRET,
        )
    )
    yield district, city
    for platform in made:
        await platform.close()


def _worker(district: RestPlatform, new_link: Callable[[Platform, Clock], Link]) -> Worker:
    return Worker(
        district.db,
        district.clock,
        district.platforms,
        district.exchange,
        interval_s=0.1,
        new_link=new_link,
        rng=random.Random(1),
    )


async def test_news_travel_by_themselves(pair: tuple[RestPlatform, RestPlatform]) -> None:
    district, city = pair

    def link(platform: Platform, clock: Clock) -> Link:
        return Link("http://city", Signer(platform.rest_key, platform.rest_secret, CITY, clock), city.http())

    async def is_told() -> bool:
        mine = await district.db.read(digest_store.root_digest, DISTRICT)
        return mine == await city.db.read(digest_store.root_digest, DISTRICT)

    async def count_is(number: int) -> bool:
        return (await city.db.read(digest_store.root_digest, DISTRICT))[0] == number

    async def is_noted() -> bool:
        return (await district.db.read(store.get_peer, CITY, store.OUT)).equality is Equality.EQUAL

    running = _worker(district, link)
    await running.start()
    for number in (3, 5):
        await district.db.write(
            devices.upsert_many, sample_archives(DISTRICT, number), DISTRICT, district.clock.at()
        )
        running.wake()
        await _until(lambda number=number: count_is(number))  # type: ignore[misc]
    assert await is_told()
    # The city stores before the district hears that it has.
    await _until(is_noted)
    await running.stop()
    peer = await district.db.read(store.get_peer, CITY, store.OUT)
    assert (peer.equality, peer.failures, peer.last_error) == (Equality.EQUAL, 0, "")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_dead_neighbour_waits_longer_each_time_and_recovers(
    pair: tuple[RestPlatform, RestPlatform], monkeypatch: pytest.MonkeyPatch
) -> None:
    district, city = pair
    monkeypatch.setattr(worker, "FIRST_WAIT_S", 0.02)
    calls: list[bool] = []

    class Flaky(httpx2.AsyncBaseTransport):
        """Refuses connections three times."""

        def __init__(self) -> None:
            self._inner = httpx2.ASGITransport(app=city.asgi)

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            calls.append(True)
            if len(calls) <= 3:
                raise httpx2.ConnectError("refused")
            return await self._inner.handle_async_request(request)

    def link(platform: Platform, clock: Clock) -> Link:
        signer = Signer(platform.rest_key, platform.rest_secret, CITY, clock)
        return Link("http://city", signer, httpx2.AsyncClient(transport=Flaky()))

    seen: list[tuple[int, str, bool]] = []

    async def is_equal() -> bool:
        peer = await district.db.read(store.get_peer, CITY, store.OUT)
        seen.append((peer.failures, peer.last_error, peer.next_try_at is not None))
        return peer.equality is Equality.EQUAL and not peer.failures

    running = _worker(district, link)
    await running.start()
    await _until(is_equal)
    await running.stop()
    assert any(failures and "无法连接" in error and waits for failures, error, waits in seen)
    assert seen[-1] == (0, "", False)


async def test_stopping_in_the_middle_of_a_call_leaves_no_task(
    pair: tuple[RestPlatform, RestPlatform],
) -> None:
    district, _ = pair
    called = asyncio.Event()

    class Silent(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            called.set()
            await asyncio.Event().wait()
            raise AssertionError("never")

    def link(platform: Platform, clock: Clock) -> Link:
        signer = Signer(platform.rest_key, platform.rest_secret, CITY, clock)
        return Link("http://city", signer, httpx2.AsyncClient(transport=Silent()))

    running = _worker(district, link)
    await running.start()
    await asyncio.wait_for(called.wait(), 5)
    await running.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
