"""Secrets blotted out of what is shown and downloaded, each character by ``*``.

The length stays, so that Content-Length, checksums and sequence numbers of a capture stay right. Covered:
what a digest is made of and made to (8.1), the exchange of keys (8.3), every other kind of credentials,
passwords in bodies, in addresses and in the addresses of uploads, keys of SDP.
"""

from __future__ import annotations

import re

# A folded header line goes on after a line end and a blank.
_CREDENTIALS = re.compile(
    rb"^((?:proxy-)?authorization|(?:www|proxy)-authenticate|authentication-info|note|"
    rb"monitor-user-identity)([ \t]*:[ \t]*)((?:[^\r\n]|\r?\n[ \t])*)",
    re.IGNORECASE | re.MULTILINE,
)
_PLAIN = frozenset(
    (b"username", b"realm", b"uri", b"algorithm", b"qop", b"nc", b"stale", b"domain", b"serverid")
)
_PARAMETER = re.compile(rb"""([A-Za-z0-9_-]{1,32})(\s*=\s*)("(?:[^"\\]|\\.)*"?|[^,\s]*)""")
_STRAY = re.compile(
    rb"""\b((?:c?nonce|nextnonce|response|rspauth|opaque)\s*=\s*)("[^"\r\n]*"?|[^,\s]+)""", re.I
)
_ELEMENT = re.compile(
    rb"(<([A-Za-z0-9_:]*(?:password|passwd|pwd|secret)[A-Za-z0-9_]*)\b[^>]{0,200}>)([^<]*)", re.IGNORECASE
)
_USER_INFO = re.compile(rb"((?:sips?:|://)[^@\s/<>\"?]{0,64}:)([^@\s/<>\"?]{1,256})(?=@)", re.IGNORECASE)
_QUERY = re.compile(
    rb"([?&;](?:token|ticket|key|sig|sign|signature|secret|pwd|passw(?:or)?d|auth)=)([^&\s<>\"]+)",
    re.IGNORECASE,
)
# Where a device brings its snapshots: who knows the path could bring others (9.14).
_UPLOAD = re.compile(rb"(/snapshots/)([A-Za-z0-9_-]{32})")
_SDP_KEY = re.compile(rb"^((?:k|a=crypto|a=key-mgmt)[=:])([^\r\n]+)", re.IGNORECASE | re.MULTILINE)


def redact(data: bytes) -> bytes:
    """The same bytes without secrets; the same length."""
    data = _CREDENTIALS.sub(_credentials, data)
    data = _STRAY.sub(lambda m: m[1] + _blot(m[2]), data)
    data = _ELEMENT.sub(lambda m: m[1] + _blot(m[3]), data)
    data = _USER_INFO.sub(lambda m: m[1] + _blot(m[2]), data)
    data = _QUERY.sub(lambda m: m[1] + _blot(m[2]), data)
    data = _UPLOAD.sub(lambda m: m[1] + _blot(m[2]), data)
    return _SDP_KEY.sub(lambda m: m[1] + _blot(m[2]), data)


def _credentials(match: re.Match[bytes]) -> bytes:
    """Of a digest the parameters that tell nothing stay; of any other scheme nothing does."""
    name, colon, value = match[1], match[2], match[3]
    scheme, blank, rest = value.partition(b" ")
    if name.lower() in (b"note", b"authentication-info", b"monitor-user-identity"):
        return name + colon + _PARAMETER.sub(_parameter, value)
    if scheme.lower() not in (b"digest", b"unidirection", b"bidirection", b"capability", b"asymmetric"):
        return name + colon + scheme + blank + _blot(rest) if blank else name + colon + _blot(value)
    return name + colon + scheme + blank + _PARAMETER.sub(_parameter, rest)


def _parameter(match: re.Match[bytes]) -> bytes:
    if match[1].lower() in _PLAIN:
        return match[0]
    return match[1] + match[2] + _blot(match[3])


def _blot(secret: bytes) -> bytes:
    """Stars for everything but quotes at the ends and line ends, so that the message keeps its form."""
    return re.sub(rb'[^"\r\n]', b"*", secret)
