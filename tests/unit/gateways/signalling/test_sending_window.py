"""Parts are paced by the answers of who receives them."""

from __future__ import annotations

import asyncio

import pytest

from tongshi.errors import PeerTimeout
from tongshi.gateways.signalling.sending_window import SendingWindow


class Line:
    """Parts on their way; ``answer`` lets so many arrive."""

    def __init__(self) -> None:
        self.under_way = self.most = self.sent = 0
        self.go = asyncio.Semaphore(0)

    async def part(self, fails: bool = False) -> None:
        self.sent += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.acquire()
        self.under_way -= 1
        if fails:
            raise PeerTimeout("silent")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_small_answer_goes_part_by_part() -> None:
    window, line = SendingWindow(serial_parts=20), Line()
    line.go = asyncio.Semaphore(100)
    for _ in range(20):
        await window.put(line.part())
    await window.drain()
    assert (line.sent, line.most) == (20, 1)


async def test_a_large_one_opens_the_window_and_no_further_than_its_bound() -> None:
    window, line = SendingWindow(serial_parts=3, widest=4), Line()

    async def send_all() -> None:
        for _ in range(40):
            await window.put(line.part())
        await window.drain()

    sending = asyncio.create_task(send_all())
    for _ in range(40):
        await settle()
        line.go.release()
    await sending
    assert (line.sent, line.most) == (40, 4)


async def test_overload_closes_it_by_half_and_a_failure_ends_it() -> None:
    window, line = SendingWindow(serial_parts=0, widest=8), Line()
    line.go = asyncio.Semaphore(100)
    for _ in range(30):
        await window.put(line.part())
    await window.drain()
    assert window.width == 8
    window.narrow()
    assert window.width == 4
    await window.put(line.part(fails=True))
    with pytest.raises(PeerTimeout):
        await window.drain()


async def test_closing_leaves_nothing_under_way() -> None:
    window, line = SendingWindow(), Line()
    await window.put(line.part())
    await settle()
    await window.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
