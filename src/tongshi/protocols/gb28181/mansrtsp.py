"""Control of a history stream: RTSP-like text in INFO, without a URI, and its reply.

Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 Annex B

The version is ``RTSP/1.0``; that of 2011, ``MANSRTSP/1.0``, is read as well and spoken to a peer that refuses
the other (quirk 52). Times count seconds from the start of the recording asked for. A scale is written short
(``2.0``, ``0.5``, ``-1``), because devices refuse ``2.000000`` (quirk 51). The reply's CSeq is the request's:
the differing one in the standard's sample is an error of the sample (24 no. 20).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Literal

import msgspec

from tongshi.errors import InvalidRequest, RemoteViolation

CONTENT_TYPE: Final = "Application/MANSRTSP"
MAX_BYTES: Final = 4096
MAX_LINES: Final = 32
MAX_CSEQ: Final = 2**31 - 1
MAX_SECONDS: Final = 366 * 86_400.0
MAX_SCALE: Final = 64.0
MIN_SCALE: Final = 1 / 64
BASIC_SCALES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)  # B.2.7

Version = Literal["RTSP/1.0", "MANSRTSP/1.0"]
VERSIONS: Final[tuple[Version, ...]] = ("RTSP/1.0", "MANSRTSP/1.0")


class Method(Enum):
    """What may be asked."""

    PLAY = "PLAY"
    PAUSE = "PAUSE"
    TEARDOWN = "TEARDOWN"


class Span(msgspec.Struct, frozen=True):
    """A Range: ``start`` None is "now", ``end`` None is open; seconds from the start of the recording."""

    start: float | None
    end: float | None = None

    def render(self) -> str:
        """The value of Range."""
        begin = "now" if self.start is None else _number(self.start)
        return f"npt={begin}-{'' if self.end is None else _number(self.end)}"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One request. PLAY without ``span`` goes on where it is, without ``scale`` at the speed it had."""

    method: Method
    cseq: int
    span: Span | None = None
    scale: float | None = None
    version: Version = "RTSP/1.0"

    def render(self) -> bytes:
        """The body of the INFO."""
        lines = [f"{self.method.value} {self.version}", f"CSeq: {self.cseq}"]
        if self.method is Method.PAUSE:
            lines.append("PauseTime: now")
        if self.scale is not None:
            lines.append(f"Scale: {render_scale(self.scale)}")
        if self.span is not None:
            lines.append(f"Range: {self.span.render()}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. ``seq`` and ``rtptime`` are of the first packet at the new position (RTP-Info)."""

    status: int = 200
    cseq: int
    span: Span | None = None
    scale: float | None = None
    seq: int | None = None
    rtptime: int | None = None
    version: Version = "RTSP/1.0"

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def render(self) -> bytes:
        """The body of the 200 to the INFO."""
        lines = [f"{self.version} {self.status} {_REASONS.get(self.status, 'Error')}", f"CSeq: {self.cseq}"]
        if self.scale is not None:
            lines.append(f"Scale: {render_scale(self.scale)}")
        if self.span is not None:
            lines.append(f"Range: {self.span.render()}")
        if self.seq is not None and self.rtptime is not None:
            lines.append(f"RTP-Info: seq={self.seq};rtptime={self.rtptime}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def parse_command(data: bytes) -> Command:
    """Read a request.

    Raises:
        RemoteViolation: too large, no method of ours, or a Range or Scale that is none.
    """
    first, fields = _split(data)
    word, _, text = first.partition(" ")
    method = next((one for one in Method if one.value == word.upper()), None)
    known = _version(text)
    if method is None or known is None:
        raise RemoteViolation("no request of MANSRTSP", field="method")
    return Command(
        method=method,
        cseq=_cseq(fields),
        span=_span(fields.get("range")),
        scale=_scale(fields.get("scale")),
        version=known,
    )


def parse_reply(data: bytes) -> Reply:
    """Read an answer.

    Raises:
        RemoteViolation: too large, or no status line.
    """
    first, fields = _split(data)
    match = _STATUS.match(first)
    version = _version(match.group(1)) if match else None
    if match is None or version is None:
        raise RemoteViolation("no answer of MANSRTSP", field="status")
    info = dict(_INFO.findall(fields.get("rtp-info", "").lower()))
    seq, rtptime = info.get("seq"), info.get("rtptime")
    return Reply(
        status=int(match.group(2)),
        cseq=_cseq(fields),
        span=_span(fields.get("range")),
        scale=_scale(fields.get("scale")),
        seq=int(seq) if seq is not None and int(seq) < 2**16 else None,
        rtptime=int(rtptime) if rtptime is not None and int(rtptime) < 2**32 else None,
        version=version,
    )


def render_scale(scale: float) -> str:
    """The short form that every device takes: ``2.0``, ``0.25``, ``-1``.

    Raises:
        InvalidRequest: not between MIN_SCALE and MAX_SCALE, forward or back.
    """
    if not MIN_SCALE <= abs(scale) <= MAX_SCALE:
        raise InvalidRequest("倍速的绝对值应在 1/64 到 64 之间", field="scale")
    if scale < 0 and scale == int(scale):
        return str(int(scale))
    return f"{scale:.4f}".rstrip("0").ljust(len(str(int(scale))) + 2, "0")


_STATUS = re.compile(r"(\S{1,20})\s+([1-5][0-9]{2})(?:\s.*)?\Z", re.ASCII)
_INFO = re.compile(r"(seq|rtptime)=([0-9]{1,10})", re.ASCII)
_RANGE = re.compile(r"(npt|smpte)\s?=\s?([0-9.:]{1,20}|now)?\s?-\s?([0-9.:]{1,20})?\Z", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{1,4}):([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{1,6})?)(?::[0-9.]{1,6})?\Z", re.ASCII)
_PLAIN = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,6})?\Z", re.ASCII)
_REAL = re.compile(r"[+-]?(?:[0-9]{1,4}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\Z", re.ASCII)
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    454: "Session Not Found",
    455: "Method Not Valid In This State",
    457: "Invalid Range",
    500: "Internal Server Error",
    501: "Not Implemented",
    504: "Gateway Time-out",
    551: "Option not supported",
}


def _split(data: bytes) -> tuple[str, dict[str, str]]:
    if len(data) > MAX_BYTES:
        raise RemoteViolation(f"MANSRTSP body of {len(data)} bytes exceeds {MAX_BYTES}")
    lines = [line.strip() for line in data.decode("ascii", "replace").strip().splitlines()[:MAX_LINES]]
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return (" ".join(lines[0].split()) if lines else ""), fields


def _version(text: str) -> Version | None:
    return next((one for one in VERSIONS if one == text.strip().upper()), None)


def _cseq(fields: dict[str, str]) -> int:
    text = fields.get("cseq", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > MAX_CSEQ:
        raise RemoteViolation("MANSRTSP without a CSeq", field="CSeq")
    return int(text)


def _span(text: str | None) -> Span | None:
    if text is None:
        return None
    match = _RANGE.match(text.strip())
    if match is None:
        raise RemoteViolation("unreadable Range", field="Range")
    begin, end = match.group(2), match.group(3)
    start = None if begin is None or begin.lower() == "now" else _seconds(begin)
    return Span(start, None if end is None else _seconds(end))


def _seconds(text: str) -> float:
    """Plain seconds, or hours:minutes:seconds with or without frames (npt-hhmmss, smpte)."""
    if _PLAIN.match(text):
        value = float(text)
    else:
        match = _CLOCK.match(text)
        if match is None:
            raise RemoteViolation("unreadable time in Range", field="Range")
        value = int(match.group(1)) * 3600 + int(match.group(2)) * 60 + float(match.group(3))
    if value > MAX_SECONDS:
        raise RemoteViolation("a Range beyond a year", field="Range")
    return value


def _scale(text: str | None) -> float | None:
    if text is None:
        return None
    value = float(text) if _REAL.match(text) else 0.0
    if not MIN_SCALE <= abs(value) <= MAX_SCALE:
        raise RemoteViolation("unreadable Scale", field="Scale")
    return value


def _number(value: float) -> str:
    """Seconds without a needless fraction: devices read ``npt=100-`` and some not ``npt=100.0-``."""
    return str(int(value)) if value == int(value) else f"{value:.3f}".rstrip("0").rstrip(".")
