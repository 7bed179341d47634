"""Times in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from tongshi.storage.times import from_ms, to_ms


@given(st.integers(-(10**12), 10**13))
def test_milliseconds_come_back(value: int) -> None:
    assert to_ms(from_ms(value)) == value


def test_the_zone_does_not_matter_and_the_rest_is_cut_off() -> None:
    beijing = datetime(2026, 1, 1, 8, 0, 0, 999, tzinfo=timezone(timedelta(hours=8)))
    assert from_ms(to_ms(beijing)) == datetime(2026, 1, 1, tzinfo=UTC)
    assert from_ms(None) is None
