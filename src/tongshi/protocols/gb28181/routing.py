"""Paths of a call through platforms: which it took, which it should take, and through whom it came.

Implements: GB/T 28181-2022 Annex H
Implements: GB/T 28181-2022 8.3
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tongshi.errors import RemoteViolation

ROUTE_PATH: Final = "X-RoutePath"  # in answers: the platforms a call went through, ours first
PREFERRED_PATH: Final = "X-PreferredPath"  # in INVITE: those it should go through
USER_IDENTITY: Final = "Monitor-User-Identity"  # in INVITE: the gateways it came through, the last one first

MAX_PLATFORMS: Final = 16  # a chain that is longer is a loop that somebody forgot to refuse
MAX_IDENTITY_CHARS: Final = 1_024

_PATH = re.compile(r"[0-9]{20}(?:-[0-9]{20})*\Z", re.ASCII)


def parse_path(text: str) -> tuple[str, ...]:
    """The platforms of a path; none for an absent one.

    Raises:
        RemoteViolation: not codes joined by hyphens, or more than MAX_PLATFORMS.
    """
    text = text.replace(" ", "")
    if not text:
        return ()
    if not _PATH.match(text) or text.count("-") >= MAX_PLATFORMS:
        raise RemoteViolation("malformed path", field=PREFERRED_PATH)
    return tuple(text.split("-"))


def render_path(platforms: Sequence[str]) -> str:
    """The value of X-RoutePath or X-PreferredPath."""
    return "-".join(platforms)


def onward(path: Sequence[str], own_id: str) -> tuple[str, ...]:
    """The path without us, to be sent on; empty when we are not in it and choose by ourselves (H.2.3)."""
    if own_id not in path:
        return ()
    return tuple(platform for platform in path if platform != own_id)


def route_of(own_id: str, lower_id: str, answered: str) -> tuple[str, ...]:
    """The path of a call as we tell it: we, then what the lower platform told, or it alone (H.2.2).

    Args:
        lower_id: "" when the call went to a device.
        answered: X-RoutePath of its answer as it came; what cannot be read is replaced.
    """
    try:
        below = parse_path(answered)
    except RemoteViolation:
        below = ()
    if not below and lower_id:
        below = (lower_id,)
    return (own_id, *below)[:MAX_PLATFORMS]


def identity_through(own_id: str, identity: str) -> str:
    """Monitor-User-Identity as we send it on: ours before what came, which stays as it is (8.3)."""
    return f"{own_id}-{identity}" if identity else own_id


def has_passed(own_id: str, identity: str) -> bool:
    """Did this call come through us before, or through too many?

    Raises:
        RemoteViolation: longer than MAX_IDENTITY_CHARS.
    """
    if len(identity) > MAX_IDENTITY_CHARS:
        raise RemoteViolation("identity too long", field=USER_IDENTITY)
    passed = identity.split("-")
    return own_id in passed or len(passed) > MAX_PLATFORMS
