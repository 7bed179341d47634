"""SIP requests and responses: one header table, split once, parsed only where somebody looks.

Implements: GB/T 28181-2022 4.3.2
Implements: GB/T 28181-2022 6.10
A message keeps the text of the wire one character a byte (latin-1): what came in goes out unchanged, whatever
charset the peer meant. Text beyond latin-1 that we put in ourselves leaves as GB 18030.
Content-Length is framing, not content: ``parse`` consumes it and ``encode`` writes the true one. A
datagram's body is what the datagram holds, because devices count characters of another charset than they
send (quirk 32).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tongshi.errors import LocalViolation, RemoteViolation
from tongshi.protocols.sip.address import NameAddr, Params, Remote, Uri, Via, split_list
from tongshi.protocols.sip.headers import KEYS, TOKEN, Headers

__all__ = [
    "REASONS",
    "CSeq",
    "Headers",
    "NameAddr",
    "Params",
    "Remote",
    "Request",
    "Response",
    "Uri",
    "Via",
    "encode_text",
    "looks_like_sip",
    "parse",
]

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_HEADERS = 200
MAX_LINE_CHARS = 8_192

REASONS = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 202: "Accepted",
    301: "Moved Permanently", 302: "Moved Temporarily",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Request Entity Too Large", 415: "Unsupported Media Type",
    416: "Unsupported URI Scheme", 420: "Bad Extension",
    422: "Session Interval Too Small", 423: "Interval Too Brief",
    480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected",
    483: "Too Many Hops", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here",
    489: "Bad Event", 491: "Request Pending", 500: "Server Internal Error", 501: "Not Implemented",
    503: "Service Unavailable", 504: "Server Time-out", 505: "Version Not Supported",
    513: "Message Too Large", 603: "Decline",
}  # fmt: skip

_HEAD_END = re.compile(rb"\n\r?\n")
_FOLD = re.compile(r"[ \t]*\n[ \t]+")
_REQUEST_LINE = re.compile(r"([A-Za-z0-9.!%*_+`'~-]{1,32}) +([^\s\0]+) +SIP/2\.0 *\Z", re.ASCII)
_STATUS_LINE = re.compile(r"SIP/2\.0 +([1-6][0-9]{2})(?: (.*))?\Z", re.ASCII | re.DOTALL)
_CSEQ = re.compile(r"([0-9]{1,10})[ \t]+([A-Za-z0-9.!%*_+`'~-]{1,32})\Z", re.ASCII)
_START = re.compile(rb"(?:SIP/2\.0 |[A-Z]{3,16} +[A-Za-z])")
_SINGLE = frozenset(("from", "to", "call-id", "cseq"))
_FORBIDDEN = re.compile(r"[\r\n\0]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CSeq:
    """Sequence number and method."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


class _Message:
    """What requests and responses share. Properties parse on demand and raise RemoteViolation."""

    __slots__ = ("body", "headers")

    headers: Headers
    body: bytes

    @property
    def via(self) -> Via:
        """The topmost Via."""
        return self._cached("via", lambda text: Via.parse(split_list(text)[0] if text else ""))

    @property
    def from_(self) -> NameAddr:
        """From."""
        return self._cached("from", NameAddr.parse)

    @property
    def to(self) -> NameAddr:
        """To."""
        return self._cached("to", NameAddr.parse)

    @property
    def call_id(self) -> str:
        """Call-ID, never empty."""
        value = self.headers.get("call-id")
        if not value:
            raise RemoteViolation("Call-ID is missing")
        return value

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        return self._cached("cseq", _parse_cseq)

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None when absent, unreadable or ``*``."""
        value = self.headers.get("contact")
        if not value or value == "*":
            return None
        try:
            return NameAddr.parse(split_list(value)[0])
        except (RemoteViolation, IndexError):
            return None

    @property
    def expires(self) -> int | None:
        """Seconds from Contact's ``expires``, else from Expires; None when neither is a number."""
        contact = self.contact
        for text in (contact.param("expires") if contact else None, self.headers.get("expires")):
            if text and text.isascii() and text.isdigit():
                return min(int(text[:10]), 2**32 - 1)
        return None

    @property
    def content_type(self) -> str:
        """Media type in lower case without parameters, "" when absent."""
        return self.headers.get("content-type").partition(";")[0].strip(" \t").lower()

    def check(self) -> None:
        """Parse the five headers every message must have. Raises RemoteViolation naming the first bad one.

        Four of them stand once (RFC 4475 3.3.8): of two, another hop may believe the other.
        """
        _ = self.via, self.from_, self.to, self.call_id, self.cseq
        single = [line[0] for line in self.headers.lines if line[0] in _SINGLE]
        if len(single) != len(_SINGLE):
            raise RemoteViolation("a header stands twice that may stand once")

    def _cached(self, key: str, read: Callable[[str], T]) -> T:
        parsed = self.headers.parsed
        value = parsed.get(key)
        if value is None:
            text = self.headers.get(key)
            if not text:
                raise RemoteViolation(f"{key} is missing")
            value = parsed[key] = read(text)
        return value  # type: ignore[return-value]  # a key is always read by the same function

    def _encode(self, start_line: str) -> bytes:
        if _FORBIDDEN.search(start_line):
            raise LocalViolation("start line would break the message")
        lines = [start_line]
        lines += [f"{name}: {value}" for key, name, value in self.headers.lines if key != "content-length"]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return encode_text("\r\n".join(lines)) + self.body


class Request(_Message):
    """A SIP request.

    Args:
        method: token, upper case for every method we know.
        uri: Request-URI, as text or parsed; text is parsed at the first look.
        headers: the table, kept and not copied.
        body: content bytes.
    """

    __slots__ = ("_uri", "_uri_text", "method")

    def __init__(
        self, method: str, uri: str | Uri, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.method = method
        self._uri = uri if isinstance(uri, Uri) else None
        self._uri_text = str(uri)
        self.headers = Headers() if headers is None else headers
        self.body = body

    @property
    def uri(self) -> Uri:
        """The Request-URI. Raises RemoteViolation."""
        if self._uri is None:
            self._uri = Uri.parse(self._uri_text)
        return self._uri

    @property
    def uri_text(self) -> str:
        """The Request-URI as it came."""
        return self._uri_text

    def encode(self) -> bytes:
        """The bytes of the wire, with the true Content-Length."""
        return self._encode(f"{self.method} {self._uri_text} SIP/2.0")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        mine = (self.method, self._uri_text, self.headers, self.body)
        return mine == (other.method, other._uri_text, other.headers, other.body)

    __hash__ = None  # type: ignore[assignment]  # messages are mutable

    def __repr__(self) -> str:
        return f"<Request {self.method} {self._uri_text} {len(self.body)} bytes>"


class Response(_Message):
    """A SIP response; an empty reason is filled from RFC 3261's table."""

    __slots__ = ("reason", "status")

    def __init__(
        self, status: int, reason: str = "", headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.status = status
        self.reason = reason or REASONS.get(status, "")
        self.headers = Headers() if headers is None else headers
        self.body = body

    @property
    def is_final(self) -> bool:
        """No provisional response."""
        return self.status >= 200

    @property
    def is_success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300

    def encode(self) -> bytes:
        """The bytes of the wire, with the true Content-Length."""
        return self._encode(f"SIP/2.0 {self.status} {self.reason}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Response):
            return NotImplemented
        mine = (self.status, self.reason, self.headers, self.body)
        return mine == (other.status, other.reason, other.headers, other.body)

    __hash__ = None  # type: ignore[assignment]  # messages are mutable

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} {len(self.body)} bytes>"


def looks_like_sip(data: bytes) -> bool:
    """Cheap test before parsing: do the first bytes look like a method and a URI, or a status line?"""
    return _START.match(data) is not None


def parse(data: bytes, *, max_body_bytes: int = MAX_BODY_BYTES) -> Request | Response:
    """Split one whole message: a datagram, or one frame of a stream.

    Args:
        data: start line, headers, blank line, body; line ends CRLF or LF, leading blank lines allowed.
        max_body_bytes: bound of the body.

    Returns:
        The message. Header values are trimmed and unfolded but not yet parsed; see ``check``.

    Raises:
        RemoteViolation: no SIP start line, a line that is no header, or a bound passed.
    """
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    head, body = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    if len(head) > MAX_HEAD_BYTES or len(body) > max_body_bytes:
        raise RemoteViolation("message too large")
    text = head.decode("latin-1").replace("\r\n", "\n").rstrip("\r\n")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\n")
    if len(lines) > MAX_HEADERS + 1:
        raise RemoteViolation("too many header lines")
    message = _parse_start(lines[0])
    items = message.headers.lines
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = KEYS.get(name)
        if key is None:
            name = name.rstrip(" \t")
            key = KEYS.get(name) or name.lower()
            if not colon or not TOKEN.match(name):
                raise RemoteViolation("malformed header line")
        if not colon or len(line) > MAX_LINE_CHARS or "\r" in value or "\0" in value:
            raise RemoteViolation("malformed header line")
        if key != "content-length":
            items.append((key, name, value.strip(" \t")))
    message.body = body
    return message


def encode_text(text: str) -> bytes:
    """Header text to bytes: the wire's own characters one to one, ours beyond them as GB 18030."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b"".join(
            char.encode("latin-1") if char < "\u0100" else char.encode("gb18030", "replace") for char in text
        )


def _parse_start(line: str) -> Request | Response:
    if len(line) > MAX_LINE_CHARS:
        raise RemoteViolation("start line too long")
    match = _REQUEST_LINE.match(line)
    if match is not None:
        return Request(match[1], match[2])
    match = _STATUS_LINE.match(line)
    if match is None or "\r" in line or "\0" in line:
        raise RemoteViolation("not a SIP start line")
    response = Response(int(match[1]))
    response.reason = (match[2] or "").strip(" \t")
    return response


def _parse_cseq(text: str) -> CSeq:
    match = _CSEQ.match(text)
    if match is None or int(match[1]) >= 2**32:
        raise RemoteViolation("malformed CSeq")
    return CSeq(int(match[1]), match[2])
