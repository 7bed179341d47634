"""Session timers on the wire: who refreshes a call, and how often (RFC 4028).

As the called side we leave refreshing to a caller that can, and do it ourselves for one that asks us to or
that does not know timers (its proxy asked, RFC 4028 9). As the caller we ask for nothing and keep what the
answer says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tongshi.protocols.sip.message import Request, Response

OPTION = "timer"
MIN_S = 90  # RFC 4028 4: nobody may be made to refresh more often
MAX_S = 86_400
TOO_SMALL = 422

_DELTA = re.compile(r"([0-9]{1,9})[ \t]*(?:;|\Z)", re.ASCII)
_REFRESHER = re.compile(r";[ \t]*refresher[ \t]*=[ \t]*(uac|uas)[ \t]*(?:;|\Z)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """What both sides agree on.

    Attributes:
        seconds: a session that nobody refreshed for that long is over.
        is_ours: do we refresh?
        is_known: does the peer know timers?
    """

    seconds: int
    is_ours: bool
    is_known: bool = True

    @property
    def ends_after_s(self) -> float:
        """When a call without a refresh is ended, before the peer may do so itself (RFC 4028 10)."""
        return self.seconds - min(32.0, self.seconds / 3)


def asked(invite: Request) -> SessionTimer | None:
    """What an INVITE or re-INVITE of the peer asks for; None when it wants no timer, or none that may be."""
    found = _read(invite)
    if found is None:
        return None
    seconds, refresher = found
    words = (*invite.headers.get_all("Supported"), *invite.headers.get_all("Require"))
    is_known = OPTION in {option.strip(" \t").lower() for line in words for option in line.split(",")}
    if not is_known and seconds < MIN_S:
        return None  # 422 would tell it nothing
    return SessionTimer(seconds, refresher == "uas" or not is_known, is_known)


def granted(response: Response) -> SessionTimer | None:
    """What a 2xx to an INVITE or re-INVITE of ours says."""
    found = _read(response)
    if found is None:
        return None
    return SessionTimer(max(found[0], MIN_S), found[1] != "uas")


def is_too_short(invite: Request) -> bool:
    """Would it be refreshed more often than is allowed?"""
    timer = asked(invite)
    return timer is not None and timer.seconds < MIN_S


def least_s(response: Response) -> int:
    """The least time that a refusal names, 0 for none (422, Min-SE)."""
    match = _DELTA.match(response.headers.get("Min-SE")) if response.status == TOO_SMALL else None
    return min(int(match[1]), MAX_S) if match else 0


def granting(timer: SessionTimer | None) -> tuple[tuple[str, str], ...]:
    """Headers of the 200 that agrees."""
    if timer is None:
        return ()
    refresher = "uas" if timer.is_ours else "uac"
    required = (("Require", OPTION),) if timer.is_known else ()
    return (("Session-Expires", f"{timer.seconds};refresher={refresher}"), *required)


def asking(timer: SessionTimer) -> tuple[tuple[str, str], ...]:
    """Headers of a refresh of ours: we stay the refresher."""
    return (("Supported", OPTION), ("Session-Expires", f"{timer.seconds};refresher=uac"))


def _read(message: Request | Response) -> tuple[int, str] | None:
    text = message.headers.get("Session-Expires")
    match = _DELTA.match(text)
    if match is None:
        return None
    refresher = _REFRESHER.search(text)
    return min(int(match[1]), MAX_S), refresher[1].lower() if refresher else ""
