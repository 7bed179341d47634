"""Waiting for the first change: ended by news, by time, by a caller who leaves, by the platform's end."""

from __future__ import annotations

import asyncio
import time

import pytest

from tongshi.errors import LimitExceeded, Unavailable
from tongshi.exchange import news as module
from tongshi.exchange.news import News


class Feed:
    """A position that tests move, and how often it was looked at."""

    def __init__(self) -> None:
        self.position = 7
        self.looks = 0
        self.is_away = False

    async def head(self) -> int:
        self.looks += 1
        if self.is_away:
            raise Unavailable("数据库不可用")
        return self.position


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def wait(news: News, caller: str = "a", position: int = 7, wait_s: float = 10.0) -> bool:
    with news.place(caller):
        return await news.past(position, wait_s, never)


async def test_a_change_ends_every_wait_and_one_look_serves_all() -> None:
    feed = Feed()
    news = News(feed.head, look_s=0.01)
    waits = [asyncio.create_task(wait(news, str(number))) for number in range(50)]
    async with asyncio.timeout(10):
        while news.waiters < 50 or feed.looks == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert feed.looks < 30
    feed.position = 8
    assert await asyncio.gather(*waits) == [True] * 50
    await asyncio.sleep(0.05)
    at_rest = feed.looks
    await asyncio.sleep(0.05)
    assert feed.looks == at_rest, "nobody waits, so nobody looks"


async def test_time_ends_a_wait() -> None:
    assert await wait(News(Feed().head, look_s=0.01), wait_s=0.05) is False


async def test_who_leaves_is_let_go_at_once() -> None:
    news = News(Feed().head)
    gone = asyncio.Event()

    async def left() -> None:
        await gone.wait()

    async def waiting() -> bool:
        with news.place("a"):
            return await news.past(7, 30, left)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.02)
    started_s = time.monotonic()
    gone.set()
    assert await task is False
    assert time.monotonic() - started_s < 0.2
    assert news.waiters == 0


async def test_the_platforms_end_ends_all_waiting_and_later_ones_too() -> None:
    news = News(Feed().head)
    tasks = [asyncio.create_task(wait(news, str(n), wait_s=30)) for n in range(5)]
    await asyncio.sleep(0.02)
    started_s = time.monotonic()
    news.stop()
    assert await asyncio.gather(*tasks) == [False] * 5
    assert await wait(news) is False
    assert time.monotonic() - started_s < 0.2


async def test_places_are_few_for_one_caller_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    news = News(Feed().head)
    monkeypatch.setattr(module, "MAX_WAITERS_OF_A_CALLER", 1)
    monkeypatch.setattr(module, "MAX_WAITERS", 2)
    with news.place("a"):
        with pytest.raises(LimitExceeded), news.place("a"):
            pass
        with news.place("b"), pytest.raises(LimitExceeded) as refused, news.place("c"):
            pass
        assert (refused.value.code, refused.value.retry_after_s) == (42901, 5.0)
        assert news.waiters == 1
    assert news.waiters == 0


async def test_a_database_that_is_away_for_a_moment_ends_no_wait() -> None:
    feed = Feed()
    feed.is_away = True
    news = News(feed.head, look_s=0.01)
    task = asyncio.create_task(wait(news))
    await asyncio.sleep(0.05)
    feed.is_away, feed.position = False, 8
    assert await task is True
