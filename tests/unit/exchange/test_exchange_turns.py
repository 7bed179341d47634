"""Calls of one neighbour are carried out in the order in which they came, however ready each is."""

from __future__ import annotations

import asyncio

import pytest

from tongshi.errors import LimitExceeded
from tongshi.exchange.turns import MAX_TURNS, Turns

ONE, OTHER = "31010400002000000001", "31010500002000000001"


async def test_who_is_ready_first_waits_for_who_came_first() -> None:
    turns, told, slow = Turns(), list[str](), asyncio.Event()

    async def call(name: str, prepared: asyncio.Event | None = None) -> None:
        async with turns.of(ONE) as turn:
            if prepared is not None:
                await prepared.wait()
            await turn.come()
            told.append(name)

    first, second = asyncio.create_task(call("first", slow)), asyncio.create_task(call("second"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told == []
    slow.set()
    await asyncio.gather(first, second)
    assert told == ["first", "second"]


async def test_one_that_fails_or_is_cancelled_lets_the_next_one_come() -> None:
    turns, held = Turns(), asyncio.Event()

    async def cancelled() -> None:
        async with turns.of(ONE) as turn:
            await turn.come()
            await held.wait()

    async def fails() -> None:
        async with turns.of(ONE) as turn:
            await turn.come()
            raise ValueError

    async def last() -> str:
        async with turns.of(ONE) as turn:
            await turn.come()
            return "came"

    one, two, three = (asyncio.create_task(work) for work in (cancelled(), fails(), last()))
    await asyncio.sleep(0)
    one.cancel()
    done = await asyncio.gather(one, two, three, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert isinstance(done[1], ValueError)
    assert done[2] == "came"


async def test_another_neighbour_waits_for_nobody_and_a_row_has_a_bound() -> None:
    turns = Turns()
    entered = [turns.of(ONE) for _ in range(MAX_TURNS)]
    for one in entered:
        await one.__aenter__()
    with pytest.raises(LimitExceeded):
        await turns.of(ONE).__aenter__()
    async with turns.of(OTHER) as turn:
        await turn.come()
    for one in entered:
        await one.__aexit__(None, None, None)
    async with turns.of(ONE) as turn:
        await turn.come()
