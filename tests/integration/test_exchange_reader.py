"""Large pages are read in a process of its own: the same result, and nothing lost when it dies."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec
import pytest

from tongshi.exchange import rows
from tongshi.exchange.reader import Reader
from tongshi.exchange.reading import read_items
from tongshi.resources.devices.model import flatten
from tongshi.testing.rest_platform import sample_archives

OWNER = "31010400002000000001"


def _items(count: int) -> list[msgspec.Raw]:
    made = []
    for number, archive in enumerate(sample_archives(OWNER, count)):
        flat = flatten(archive)
        online = (True, False, None)[number % 3]
        made.append(rows.encode((*flat.values, flat.owner, number + 1, 1_700_000_000_000, online)))
    made[3] = msgspec.Raw(b'["not a row"]')
    made[4] = msgspec.Raw(b'{"a": "\\u0000"}')
    return made


async def test_what_the_process_reads_is_what_we_read() -> None:
    reader, items = Reader(large=10), _items(50)
    try:
        for _ in range(2):
            assert await reader.read(items, "row") == read_items(items, "row")
        pid = reader.child_pid
        assert pid is not None
        records = [msgspec.Raw(b"{}")] * 12
        assert await reader.read(records, "record") == read_items(records, "record")
        assert len((await reader.read(records, "full")).rejected) == 12
        assert reader.child_pid == pid
    finally:
        await reader.close()
    assert reader.child_pid is None


async def test_a_few_are_read_here() -> None:
    reader, items = Reader(large=100), _items(20)
    assert await reader.read(items, "row") == read_items(items, "row")
    assert reader.child_pid is None


async def test_a_process_that_was_killed_costs_nothing_but_time() -> None:
    reader, items = Reader(large=10), _items(50)
    expected = read_items(items, "row")
    try:
        await reader.read(items, "row")
        await reader.read(items, "row")
        for _ in range(2):
            assert reader.child_pid is not None
            os.kill(reader.child_pid, signal.SIGKILL)
            for _ in range(3):
                assert await reader.read(items, "row") == expected
    finally:
        await reader.close()


async def test_who_gives_up_leaves_no_answer_for_the_next() -> None:
    reader, items = Reader(large=10), _items(2_000)
    try:
        await reader.read(items, "row")
        await reader.read(items, "row")
        asked = asyncio.create_task(reader.read(items, "row"))
        await asyncio.sleep(0.005)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await reader.read(items[:20], "row") == read_items(items[:20], "row")
    finally:
        await reader.close()


async def test_a_process_without_work_ends() -> None:
    reader = Reader(large=10, idle_s=0.01)
    await reader.read(_items(20), "row")
    pid = reader.child_pid
    assert pid is not None
    for _ in range(200):
        await asyncio.sleep(0.01)
        if reader.child_pid is None:
            break
    assert reader.child_pid is None
    await reader.close()
