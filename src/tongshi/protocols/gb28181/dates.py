"""Times on the wire: Beijing local time without a zone, and the Date header that sets a device's clock.

Implements: GB/T 28181-2022 9.10
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from tongshi.clock import BEIJING
from tongshi.errors import RemoteViolation

_LOCAL = re.compile(
    r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})"
    r"(?:(?:T|t|\s{1,3}|\+|%20)([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:[.,]([0-9]{1,9}))?)?)?"
    r"\s?(Z|z|[+-][0-9]{2}:?[0-9]{2})?\Z",
    re.ASCII,
)
_MAX_CHARS: Final = 64


def render_date(at: datetime) -> str:
    """The Date header of the final 200 to REGISTER: ``2024-05-20T09:30:15.250``, Beijing time."""
    return at.astimezone(BEIJING).replace(tzinfo=None).isoformat(timespec="milliseconds")


def render_rfc1123(at: datetime) -> str:
    """The Date header as RFC 3261 has it, for devices that know no other (quirk 22): GMT."""
    return format_datetime(at.astimezone(UTC), usegmt=True)


def render_time(at: datetime) -> str:
    """A dateTime element: ``2024-05-20T09:30:15``, Beijing time without zone."""
    return at.astimezone(BEIJING).replace(tzinfo=None).isoformat(timespec="seconds")


def parse_time(text: str) -> datetime:
    """Read a time as devices write it (quirks 13 and 22); aware, Beijing unless it names a zone.

    Accepts one-digit parts, blank or "+" or "%20" for "T", milliseconds, "Z" or an offset, a date alone,
    and the date of RFC 1123.

    Raises:
        RemoteViolation: anything else.
    """
    text = text.strip()
    if len(text) > _MAX_CHARS:
        raise RemoteViolation("time too long")
    match = _LOCAL.match(text)
    try:
        return _from_parts(match) if match else _from_rfc1123(text)
    except (ValueError, OverflowError, TypeError, IndexError):
        raise RemoteViolation(f"unreadable time {text!r}") from None


def _from_parts(match: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second = (int(part or 0) for part in match.group(1, 2, 3, 4, 5, 6))
    microsecond = int((match.group(7) or "0").ljust(6, "0")[:6])
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=_zone(match.group(8)))


def _zone(text: str | None) -> timezone:
    if text is None:
        return BEIJING
    if text in "Zz":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))


def _from_rfc1123(text: str) -> datetime:
    parsed = parsedate_to_datetime(text)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
