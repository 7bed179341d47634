"""What the user agent answers without asking anybody: requests that are unknown, unreadable or beyond us.

Implements: GB/T 28181-2022 4.3.2
OPTIONS, unknown methods (405), foreign URI schemes (416), unknown extensions (420), session timers that are
too short (422), and malformed requests whose sender can be told (400, 505). Noise gets silence.
"""

from __future__ import annotations

import re

from tongshi.errors import LocalViolation, RemoteViolation
from tongshi.protocols.sip import session_timer
from tongshi.protocols.sip.building import MIRRORED
from tongshi.protocols.sip.headers import Pairs
from tongshi.protocols.sip.message import MAX_HEAD_BYTES, MAX_HEADERS, Request

ALLOW = "INVITE, ACK, INFO, CANCEL, BYE, OPTIONS, MESSAGE, REGISTER, SUBSCRIBE, NOTIFY"
_KNOWN = frozenset(ALLOW.split(", "))
_METHOD_LINE = re.compile(r"([A-Z]{3,16}) ", re.ASCII)
_OTHER_VERSION = re.compile(rb"[A-Z]{3,16} [^\r\n]{1,1000} SIP/(?!2\.0)[0-9]{1,9}\.[0-9]{1,9}\r?\n")
_SALVAGED = {name.lower(): name for name in ("Via", *MIRRORED)} | {
    "v": "Via", "f": "From", "t": "To", "i": "Call-ID",
}  # fmt: skip


def own_answer(request: Request) -> tuple[int, Pairs]:
    """Status and headers of what we answer without asking anybody; 0 when somebody must decide."""
    if request.method not in _KNOWN:
        return 405, (("Allow", ALLOW),)
    try:
        if request.uri.scheme not in ("sip", "sips"):
            return 416, ()
    except RemoteViolation:
        return 400, ()
    required = _unsupported(request)
    if required and request.method != "CANCEL":
        return 420, (("Unsupported", required),)
    if request.method == "INVITE" and session_timer.is_too_short(request):
        return session_timer.TOO_SMALL, (("Min-SE", str(session_timer.MIN_S)),)
    if request.method == "OPTIONS":
        return 200, (("Allow", ALLOW), ("Accept", "Application/SDP, Application/MANSCDP+xml"))
    return 0, ()


def status_of_malformed(data: bytes) -> int:
    """400, or 505 for another version of SIP."""
    return 505 if _OTHER_VERSION.match(data) else 400


def salvage(data: bytes) -> Request | None:
    """What can be read of a malformed request: enough to tell its sender, or None."""
    lines = data[:MAX_HEAD_BYTES].partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    match = _METHOD_LINE.match(lines[0])
    if match is None:
        return None
    request = Request(match[1], "sip:unknown")
    for line in lines[1:MAX_HEADERS]:
        name, _, value = line.partition(":")
        try:
            if (name := _SALVAGED.get(name.strip(" \t").lower(), "")) and (
                name == "Via" or name not in request.headers
            ):
                request.headers.add(name, value)
        except LocalViolation:
            return None
    return request


def _unsupported(request: Request) -> str:
    """What the request requires and we cannot do; a session timer we can."""
    words = [word.strip(" \t") for line in request.headers.get_all("Require") for word in line.split(",")]
    is_timed = request.method == "INVITE" and session_timer.asked(request) is not None
    known = {session_timer.OPTION} if is_timed else set()
    return ", ".join(word for word in words if word and word.lower() not in known)
