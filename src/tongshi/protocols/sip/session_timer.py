"""Session timers: a caller that asks for them refreshes its call, and is hung up on when it stops (RFC 4028).

We are the called side and leave refreshing to the caller. One that wants us to refresh gets no timer: its
call runs as if it had not asked, or is refused with 420 where it requires one.
"""

from __future__ import annotations

import re

from tongshi.protocols.sip.message import Request

OPTION = "timer"
MIN_S = 90  # RFC 4028 4: nobody may be made to refresh more often
MAX_S = 86_400
TOO_SMALL = 422

_DELTA = re.compile(r"([0-9]{1,9})[ \t]*(?:;|\Z)", re.ASCII)


def asked_s(invite: Request) -> int | None:
    """Seconds that an INVITE wants between refreshes of its own; None when it wants no timer from us."""
    text = invite.headers.get("Session-Expires")
    match = _DELTA.match(text)
    words = (*invite.headers.get_all("Supported"), *invite.headers.get_all("Require"))
    options = {option.strip(" \t").lower() for line in words for option in line.split(",")}
    if match is None or OPTION not in options or "refresher=uas" in text.lower().replace(" ", ""):
        return None
    return min(int(match[1]), MAX_S)


def is_too_short(invite: Request) -> bool:
    """Would it be refreshed more often than is allowed?"""
    seconds = asked_s(invite)
    return seconds is not None and seconds < MIN_S


def granting(seconds: int | None) -> tuple[tuple[str, str], ...]:
    """Headers of the 200 that agrees."""
    if seconds is None:
        return ()
    return (("Session-Expires", f"{seconds};refresher=uac"), ("Require", OPTION))


def ends_after_s(seconds: int) -> float:
    """When a call without a refresh is ended, before the caller may do so itself (RFC 4028 10)."""
    return seconds - min(32.0, seconds / 3)
