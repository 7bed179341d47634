"""Devices that a file names twice are found whatever the order, and the memory stays flat."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tongshi.resources.files.doubles import Doubles


@given(st.lists(st.lists(st.text("-09AZ~", min_size=1, max_size=4), unique=True), max_size=8))
def test_every_double_is_found(batches: list[list[str]]) -> None:
    doubles, seen = Doubles(), set[str]()
    for batch in batches:
        assert doubles.add(batch) == seen & set(batch)
        seen |= set(batch)
    doubles.close()


def test_a_hundred_thousand_ids_cost_no_memory() -> None:
    tracemalloc.start()
    doubles = Doubles()
    for first in range(0, 100_000, 1_000):
        doubles.add([f"3101040000131{number:07}" for number in range(first, first + 1_000)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert doubles.add(["31010400001310099999", "31010400001319999999"]) == {"31010400001310099999"}
    doubles.close()
    assert peak < 1_000_000
