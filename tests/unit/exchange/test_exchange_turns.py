"""Pages of one neighbour are stored in the order of their keys, in whatever order they come."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from tongshi.errors import Conflict, LimitExceeded
from tongshi.exchange.turns import MAX_TURNS, Turns

ONE, OTHER = "31010400002000000001", "31010500002000000001"


class Shelf:
    """Stores number after number, as a full stores page after page."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.at_once = self.most_at_once = 0

    async def put(self, number: int) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if number != len(self.stored):
                raise Conflict("之前的页未到")
            self.stored.append(number)
            return number
        finally:
            self.at_once -= 1


async def call(turns: Turns, shelf: Shelf, number: int) -> int:
    async with turns.of(ONE) as row:
        return await row.store(lambda: shelf.put(number))


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_pages_that_overtook_each_other_are_stored_in_order(order: tuple[int, ...]) -> None:
    turns, shelf = Turns(patience_s=5.0), Shelf()
    await asyncio.gather(*(call(turns, shelf, number) for number in order))
    assert shelf.stored == [0, 1, 2, 3]
    assert shelf.most_at_once == 1


async def test_a_page_whose_predecessor_never_comes_is_refused() -> None:
    turns, shelf = Turns(patience_s=0.01), Shelf()
    with pytest.raises(Conflict):
        await call(turns, shelf, 1)
    assert await call(turns, shelf, 0) == 0


async def test_one_that_fails_or_is_cancelled_lets_the_next_one_come() -> None:
    turns, shelf, held = Turns(patience_s=5.0), Shelf(), asyncio.Event()

    async def waits() -> None:
        async with turns.of(ONE) as row:
            await row.store(held.wait)

    async def fails() -> None:
        async with turns.of(ONE) as row:
            await row.store(lambda: shelf.put(1 // 0))

    one, two = asyncio.create_task(waits()), asyncio.create_task(fails())
    three = asyncio.create_task(call(turns, shelf, 0))
    await asyncio.sleep(0.01)
    one.cancel()
    done = await asyncio.gather(one, two, three, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert isinstance(done[1], ZeroDivisionError)
    assert done[2] == 0


async def test_another_neighbour_waits_for_nobody_and_a_row_has_a_bound() -> None:
    turns = Turns()
    entered = [turns.of(ONE) for _ in range(MAX_TURNS)]
    for one in entered:
        await one.__aenter__()
    with pytest.raises(LimitExceeded):
        await turns.of(ONE).__aenter__()
    async with turns.of(OTHER):
        pass
    for one in entered:
        await one.__aexit__(None, None, None)
    async with turns.of(ONE):
        pass
