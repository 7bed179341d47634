"""Where SIP messages go and whom they name: URIs, name-addresses, Via entries, remote sockets.

Implements: GB/T 28181-2022 6.1.2
Text is what the wire carries, one character a byte (latin-1), so that GB 18030 display names survive
untouched. Every regular expression is ASCII-only: Unicode's idea of blanks and digits includes bytes of
Chinese characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tongshi.errors import RemoteViolation

MAGIC = "z9hG4bK"  # begins each branch (RFC 3261 8.1.1.7)

Params = tuple[tuple[str, str | None], ...]

_BLANKS = " \t"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s:;,?<>\"@\[\]]+)(?::([0-9]{1,5}))?"
_SIP_URI = re.compile(
    rf"(sips?):(?:([^@\s<>\"]*)@)?{_HOST}((?:;[^\s<>\"?]*)?)(?:\?([^\s<>\"]*))?\Z", re.ASCII | re.IGNORECASE
)
_OTHER_URI = re.compile(r"([a-z][a-z0-9+.-]*):([^\s<>\"]+)\Z", re.ASCII | re.IGNORECASE)
_VIA = re.compile(rf"SIP\s*/\s*2\.0\s*/\s*([A-Za-z0-9-]+)\s+{_HOST}\s*(;.*)?\Z", re.ASCII | re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.ASCII | re.DOTALL)
_MARKS = re.compile(r'[",;<>\\]')


Transport = Literal["udp", "tcp", "tls"]


@dataclass(frozen=True, slots=True)
class Remote:
    """The other end of a socket; for TCP and TLS one connection, whoever opened it."""

    host: str
    port: int
    transport: Transport

    @property
    def is_reliable(self) -> bool:
        """Does the transport retransmit by itself?"""
        return self.transport != "udp"

    def __str__(self) -> str:
        return f"{self.transport}:{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Uri:
    """A SIP URI; of any other scheme only ``host`` is filled, with the opaque rest.

    Numeric domains, ``IP:port``, the ten digits with ``.spvmn.cn`` and host names are all fine.
    """

    scheme: str
    user: str
    host: str
    port: int | None = None
    params: Params = ()
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read one URI without angle brackets. Raises RemoteViolation."""
        match = _SIP_URI.match(text)
        if match is None:
            other = _OTHER_URI.match(text)
            if other is None or other[1].lower() in ("sip", "sips"):
                raise RemoteViolation("malformed URI")
            return cls(other[1].lower(), "", other[2])
        scheme, user, host, port, params, headers = match.groups()
        return cls(scheme.lower(), user or "", host, _port(port), parse_params(params), headers or "")

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for a flag, None when absent."""
        return _param(self.params, name)

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = "" if self.port is None else f":{self.port}"
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host}{port}{render_params(self.params)}{headers}"


@dataclass(frozen=True, slots=True)
class NameAddr:
    """The value of From, To, Contact, Route: optional display name, URI, header parameters."""

    uri: Uri
    display: str = ""
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read one address. Raises RemoteViolation."""
        text = text.strip(_BLANKS)
        display, rest = "", text
        quoted = _QUOTED.match(text)
        if quoted is not None:
            display, rest = re.sub(r"\\(.)", r"\1", quoted[1]), text[quoted.end() :].lstrip(_BLANKS)
        opening = rest.find("<")
        if opening < 0:
            if quoted is not None:
                raise RemoteViolation("malformed address")
            # Without angle brackets the parameters belong to the header, not to the URI (RFC 3261 20.10).
            bare, semicolon, params = rest.partition(";")
            return cls(Uri.parse(bare.rstrip(_BLANKS)), "", parse_params(semicolon + params))
        closing = rest.find(">", opening)
        if closing < 0:
            raise RemoteViolation("malformed address")
        uri = Uri.parse(rest[opening + 1 : closing].strip(_BLANKS))
        return cls(uri, display or rest[:opening].strip(_BLANKS), parse_params(rest[closing + 1 :]))

    @property
    def tag(self) -> str:
        """The tag, "" when absent."""
        return _param(self.params, "tag") or ""

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for a flag, None when absent."""
        return _param(self.params, name)

    def with_tag(self, tag: str) -> NameAddr:
        """The same address with this tag; "" removes it."""
        kept = tuple(pair for pair in self.params if pair[0].lower() != "tag")
        return NameAddr(self.uri, self.display, (*kept, ("tag", tag)) if tag else kept)

    def __str__(self) -> str:
        display = ""
        if self.display:
            escaped = self.display.replace("\\", "\\\\").replace('"', '\\"')
            display = f'"{escaped}" '
        return f"{display}<{self.uri}>{render_params(self.params)}"


@dataclass(frozen=True, slots=True)
class Via:
    """One Via entry."""

    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one entry, not a list. Raises RemoteViolation."""
        match = _VIA.match(text.strip(_BLANKS))
        if match is None:
            raise RemoteViolation("malformed Via")
        return cls(match[1].upper(), match[2], _port(match[3]), parse_params(match[4] or ""))

    @property
    def branch(self) -> str:
        """The branch, "" when absent."""
        return _param(self.params, "branch") or ""

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for a flag, None when absent."""
        return _param(self.params, name)

    @property
    def sent_by(self) -> str:
        """Host and port as one comparable text."""
        return f"{self.host.lower()}:{self.port or 5060}"

    def received_from(self, source: Remote) -> Via:
        """The entry as a response carries it: with the true source (RFC 3261 18.2.1, RFC 3581 4)."""
        params = tuple(
            (name, value) for name, value in self.params if name.lower() not in ("received", "rport")
        )
        if self.host.strip("[]") != source.host:
            params += (("received", source.host),)
        if _param(self.params, "rport") is not None:
            params += (("rport", str(source.port)),)
        return Via(self.transport, self.host, self.port, params)

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {self.host}{port}{render_params(self.params)}"


def transport_of(text: str) -> Transport:
    """A transport as a URI or our own record names it; UDP is what is not said and what we do not know."""
    lower = text.lower()
    return "tls" if lower == "tls" else "tcp" if lower == "tcp" else "udp"


def split_list(text: str) -> list[str]:
    """Split a header value at the commas outside quotes and angle brackets, in one pass."""
    if "," not in text:
        return [text.strip(_BLANKS)]
    return [part for part in (piece.strip(_BLANKS) for piece in _split(text, ",")) if part]


def parse_params(text: str) -> Params:
    """Read ``;name=value;flag``; quotes around a value stay part of it."""
    if not text:
        return ()
    pieces = _split(text, ";") if '"' in text else text.split(";")
    params: list[tuple[str, str | None]] = []
    for piece in pieces:
        if piece:
            name, equals, value = piece.partition("=")
            if name := name.strip(_BLANKS):
                params.append((name, value.strip(_BLANKS) if equals else None))
    return tuple(params)


def render_params(params: Params) -> str:
    """The inverse of parse_params."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def bracketed(host: str) -> str:
    """An IPv6 address as a URI wants it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _split(text: str, separator: str) -> list[str]:
    """Split outside quotes and angle brackets; an unclosed quote runs to the end."""
    pieces, start, is_quoted, is_angled, escaped_at = [], 0, False, False, -1
    for mark in _MARKS.finditer(text):
        char, at = mark[0], mark.start()
        if at == escaped_at:
            continue
        if is_quoted:
            if char == "\\":
                escaped_at = at + 1
            elif char == '"':
                is_quoted = False
        elif char == '"':
            is_quoted = True
        elif char == "<":
            is_angled = True
        elif char == ">":
            is_angled = False
        elif char == separator and not is_angled:
            pieces.append(text[start:at])
            start = at + 1
    pieces.append(text[start:])
    return pieces


def _param(params: Params, name: str) -> str | None:
    for key, value in params:
        if key.lower() == name:
            return value or ""
    return None


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    port = int(text)
    if port > 65535:
        raise RemoteViolation("port out of range")
    return port
