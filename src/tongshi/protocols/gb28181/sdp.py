"""Session descriptions of media calls, with the standard's own lines y= and f=.

Implements: GB/T 28181-2022 G.1
Implements: GB/T 28181-2022 9.2

One media is read: the first m=video, else the first m=audio. The order in which we write is the one that
every known device takes (dossier 13.2, quirks 35 and 36): direction, rtpmaps with PS first, setup,
connection, the rest, then y and f as the last lines, each ended by CRLF. Reading forgives order, blanks,
unknown lines, LF and letter case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.media_format import MediaFormat, parse_format
from tongshi.protocols.gb28181.ssrc import text10
from tongshi.protocols.media.codecs import RtpMap

MAX_BYTES: Final = 16 * 1024
MAX_LINES: Final = 200
MAX_LINE_CHARS: Final = 512
MAX_PAYLOAD_TYPES: Final = 32
MAX_EXTRA: Final = 32

Media = Literal["video", "audio"]
Transport = Literal["RTP/AVP", "TCP/RTP/AVP"]
Direction = Literal["recvonly", "sendonly", "sendrecv", "inactive"]
Setup = Literal["active", "passive"]
Connection = Literal["new", "existing"]


class SessionName(Enum):
    """The s= value selects the operation (13.1)."""

    PLAY = "Play"
    PLAYBACK = "Playback"
    DOWNLOAD = "Download"
    TALK = "Talk"  # up to 2016


class Sdp(msgspec.Struct, frozen=True, kw_only=True):
    """One session with one media.

    ``address`` is "" when the peer named none: use where its signalling came from. ``start_s`` and
    ``end_s`` are UNIX seconds, 0 for live. ``ssrc`` is None when y= was absent or unreadable: the answer or
    the first packet decides. ``file_size`` is bytes. ``extra`` holds attributes we do not know, without
    ``a=``.
    """

    session_name: SessionName = SessionName.PLAY
    owner_id: str
    address: str
    start_s: int = 0
    end_s: int = 0
    media: Media = "video"
    port: int
    protocol: Transport = "RTP/AVP"
    payload_types: tuple[int, ...]
    rtpmap: tuple[RtpMap, ...] = ()
    direction: Direction | None = None
    setup: Setup | None = None
    connection: Connection | None = None
    stream_number: int | None = None
    download_speed: int | None = None
    file_size: int | None = None
    uri: str | None = None
    ssrc: int | None = None
    f: MediaFormat | None = None
    extra: tuple[str, ...] = ()

    @property
    def is_tcp(self) -> bool:
        """Whether RTP runs over TCP."""
        return self.protocol == "TCP/RTP/AVP"

    @property
    def ssrc_text(self) -> str:
        """y= in its ten digits, "" without an SSRC."""
        return "" if self.ssrc is None else text10(self.ssrc)

    def render(self) -> bytes:
        """The body, lines in the order of 13.2."""
        family = "IP6" if ":" in self.address else "IP4"
        formats = " ".join(map(str, self.payload_types))
        lines = [
            "v=0",
            f"o={self.owner_id} 0 0 IN {family} {self.address}",
            f"s={self.session_name.value}",
            *([f"u={self.uri}"] if self.uri else ()),
            f"c=IN {family} {self.address}",
            f"t={self.start_s} {self.end_s}",
            f"m={self.media} {self.port} {self.protocol} {formats}",
            *(f"a={attribute}" for attribute in self._attributes()),
            *([f"y={self.ssrc_text}"] if self.ssrc is not None else ()),
            *([f"f={self.f.render()}"] if self.f is not None else ()),
            "",
        ]
        return "\r\n".join(lines).encode("ascii", "replace")

    def _attributes(self) -> Iterable[str]:
        if self.direction:
            yield self.direction
        for rtpmap in self.rtpmap:
            yield f"rtpmap:{rtpmap.render()}"
        for name, value in (
            ("setup", self.setup),
            ("connection", self.connection),
            ("streamnumber", self.stream_number),
            ("downloadspeed", self.download_speed),
            ("filesize", self.file_size),
        ):
            if value is not None:
                yield f"{name}:{value}"
        yield from self.extra


def parse_sdp(data: bytes) -> Sdp:
    """Read a session description.

    Raises:
        RemoteViolation: too large, no usable m= line, or an address that is none.
    """
    session, blocks = _split(data)
    header = dict(reversed(session))
    block = next((b for b in blocks if b[0][1].lower().startswith("video")), blocks[0])
    media, port, protocol, payload_types = _media(block[0][1])
    start_s, end_s = _times(header.get("t", ""))
    owner_id, owner_address = _owner(header.get("o", ""))
    connection = next((value for key, value in block if key == "c"), header.get("c"))
    everywhere = [*block, *session, *(line for other in blocks if other is not block for line in other)]
    attributes = [value for key, value in (*block, *session) if key == "a"]
    # A sender of elementary streams may describe its sound apart, though both come to one port.
    maps = (value for key, value in everywhere if key == "a" and value.lower().startswith("rtpmap:"))
    attributes += [value for value in maps if value not in attributes]
    return Sdp(
        session_name=_session_name(header.get("s", ""), start_s),
        owner_id=owner_id,
        address=_address(connection.split()[-1]) if connection else owner_address,
        start_s=start_s,
        end_s=end_s,
        media=media,
        port=port,
        protocol=protocol,
        payload_types=payload_types,
        uri=header.get("u"),
        ssrc=_ssrc(next((value for key, value in everywhere if key == "y"), "")),
        f=_format(next((value for key, value in everywhere if key == "f"), "")),
        **_read_attributes(attributes),
    )


_LINE = re.compile(r"\s*([a-zA-Z])\s?=\s*(.*?)\s*\Z")
_MEDIA = re.compile(
    r"(video|audio)\s+([0-9]{1,5})(?:/[0-9]{1,3})?\s+(\S{1,20})\s+([0-9 ]{1,200})", re.IGNORECASE
)
_RTPMAP = re.compile(r"([0-9]{1,3})\s+([A-Za-z0-9._-]{1,32})/([0-9]{1,9})(?:/([0-9]{1,2}))?\s*\Z", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Za-z.:_-]{1,64}\Z", re.ASCII)
_PROTOCOLS: Final[dict[str, Transport]] = {
    "RTP/AVP": "RTP/AVP",
    "UDP/RTP/AVP": "RTP/AVP",
    "RTP/AVP/UDP": "RTP/AVP",
    "TCP/RTP/AVP": "TCP/RTP/AVP",
    "RTP/AVP/TCP": "TCP/RTP/AVP",
}
_STREAM_MODES: Final = {"main": 0, "sub": 1}


def _split(data: bytes) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """Lines as (letter, value): those of the session, and one list a media that begins with its m=."""
    if len(data) > MAX_BYTES:
        raise RemoteViolation(f"SDP of {len(data)} bytes exceeds {MAX_BYTES}")
    session: list[tuple[str, str]] = []
    blocks: list[list[tuple[str, str]]] = []
    for line in data.decode("gb18030", "replace").splitlines()[:MAX_LINES]:
        match = _LINE.match(line[:MAX_LINE_CHARS])
        if match is None:
            continue
        key = match.group(1).lower()
        if key == "m":
            blocks.append([])
        (blocks[-1] if blocks else session).append((key, match.group(2)))
    if not blocks:
        raise RemoteViolation("SDP without m= line", field="m")
    return session, blocks


def _media(text: str) -> tuple[Media, int, Transport, tuple[int, ...]]:
    match = _MEDIA.match(text)
    protocol = _PROTOCOLS.get(match.group(3).upper()) if match else None
    if match is None or protocol is None or int(match.group(2)) > 65535:
        raise RemoteViolation("SDP m= line is not RTP media", field="m")
    numbers = [int(part) for part in match.group(4).split()[:MAX_PAYLOAD_TYPES] if len(part) <= 3]
    payload_types = tuple(dict.fromkeys(number for number in numbers if number < 128))
    if not payload_types:
        raise RemoteViolation("SDP m= line names no payload type", field="m")
    return (
        "audio" if match.group(1).lower() == "audio" else "video",
        int(match.group(2)),
        protocol,
        payload_types,
    )


def _session_name(text: str, start_s: int) -> SessionName:
    """By s= in any case; other texts, as "-" or a product's name, leave it to the t= line (quirk 68)."""
    for name in SessionName:
        if name.value.lower() == text.lower():
            return name
    return SessionName.PLAYBACK if start_s else SessionName.PLAY


def _times(text: str) -> tuple[int, int]:
    parts = [part for part in text.split()[:2] if part.isascii() and part.isdigit() and len(part) <= 11]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)


def _owner(text: str) -> tuple[str, str]:
    parts = text.split()
    if not parts:
        return "", ""
    owner_id = parts[0] if _ADDRESS.match(parts[0]) else ""
    return owner_id, _address(parts[-1]) if len(parts) > 1 else ""


def _address(text: str) -> str:
    """An address without the TTL of multicast."""
    text = text.partition("/")[0]
    if not _ADDRESS.match(text):
        raise RemoteViolation("SDP address is none", field="c")
    return text


def _ssrc(text: str) -> int | None:
    """y= with or without its leading zeros; None when it is no 32-bit number (quirk 38)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    return int(text) if int(text) < 2**32 else None


def _format(text: str) -> MediaFormat | None:
    try:
        return parse_format(text) if text else None
    except RemoteViolation:
        return None  # devices answer nonsense here; the request does not depend on it (14.6)


def _choice(*allowed: str, **aliases: str) -> Callable[[str], str | None]:
    return lambda text: text.lower() if text.lower() in allowed else aliases.get(text.lower())


def _natural(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _positive(text: str) -> int | None:
    return _natural(text) or None


_ATTRIBUTES: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "setup": ("setup", _choice("active", "passive", actpass="passive")),
    "connection": ("connection", _choice("new", "existing")),
    "streamnumber": ("stream_number", _natural),
    "streamprofile": ("stream_number", _natural),
    "stream": ("stream_number", _natural),
    "streammode": ("stream_number", lambda text: _STREAM_MODES.get(text.lower())),
    "downloadspeed": ("download_speed", _natural),
    "filesize": ("file_size", _positive),  # quirk 69: 0 says "unknown"
    "fileszie": ("file_size", _positive),
}


def _read_attributes(lines: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    maps: dict[int, RtpMap] = {}
    extra: list[str] = []
    for line in lines:
        name, _, text = (part.strip() for part in line.partition(":"))
        name = name.lower()
        if name in ("recvonly", "sendonly", "sendrecv", "inactive"):
            values.setdefault("direction", name)
        elif name == "rtpmap":
            rtpmap = _rtpmap(text)
            if rtpmap is not None and len(maps) < MAX_PAYLOAD_TYPES:
                maps.setdefault(rtpmap.payload_type, rtpmap)
        elif name in _ATTRIBUTES:
            key, read = _ATTRIBUTES[name]
            values.setdefault(key, read(text))
        elif line and line.isascii() and line.isprintable() and len(extra) < MAX_EXTRA:
            extra.append(line)
    return {**values, "rtpmap": tuple(maps.values()), "extra": tuple(extra)}


def _rtpmap(text: str) -> RtpMap | None:
    match = _RTPMAP.match(text)
    if match is None or int(match.group(1)) > 127:
        return None
    channels = match.group(4)
    return RtpMap(
        int(match.group(1)), match.group(2), int(match.group(3)), int(channels) if channels else None
    )
