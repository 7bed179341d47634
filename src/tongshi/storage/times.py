"""Aware datetimes to the BIGINT milliseconds of the database, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC; the rest is cut off, so that a time never rounds into the future."""
    return (at - _EPOCH) // _MILLISECOND


@overload
def from_ms(value: int) -> datetime: ...
@overload
def from_ms(value: None) -> None: ...
def from_ms(value: int | None) -> datetime | None:
    """The aware datetime, UTC; None stays None."""
    return None if value is None else _EPOCH + value * _MILLISECOND
