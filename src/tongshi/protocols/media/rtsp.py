"""RTSP/1.0 as far as a tool needs it to play a live stream, and the SDP that describes one; no I/O.

After RFC 2326 (methods, headers, interleaving), RFC 4566 (SDP), RFC 6184 8.1, RFC 7798 7.1, RFC 3551 and
RFC 3640 4.1 (what the SDP says of each codec). Over UDP a stream goes to the host that asks for it and to no
other, and to none of its first 1024 ports, where services are.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tongshi.errors import Forbidden, RemoteViolation

MAX_HEAD_BYTES: Final = 8 * 1024
MAX_FIELDS: Final = 64
VIDEO_TYPE: Final = 96
AAC_TYPE: Final = 97
CHANNELS: Final = {"video": "0-1", "audio": "2-3"}  # the engine's; a client's wish is answered with them
MAX_TRANSPORTS: Final = 16
FIRST_CLIENT_PORT: Final = 1024
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    410: "Gone",
    415: "Unsupported Media Type",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
_G711: Final = {"g711a": (8, "PCMA"), "g711u": (0, "PCMU")}
_CLIENT_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z", re.ASCII)
_METHOD: Final = re.compile(r"[A-Z_]{1,20}\Z")
_URL: Final = re.compile(
    r"rtsp://[^/?#\s]{1,255}/live/([0-9A-Za-z]{1,64})(?:/(video|audio))?/?(?:\?ticket=([0-9A-Za-z_-]{1,64}))?"
    r"(?:/(video|audio))?/?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request without a body. Field names are lower case; of several of one name the first counts."""

    method: str
    url: str
    fields: Mapping[str, str]

    @property
    def sequence(self) -> str:
        """CSeq, "" when it is missing or no number."""
        text = self.fields.get("cseq", "")
        return text if text.isascii() and text.isdigit() and len(text) <= 10 else ""


@dataclass(frozen=True, slots=True)
class Target:
    """What an URL names; ``track`` "" is the stream as a whole."""

    stream_id: str
    track: str
    ticket: str


@dataclass(frozen=True, slots=True)
class Description:
    """What is told of a stream. ``parameter_sets`` are VPS, SPS, PPS; the AAC fields are empty without it."""

    video: str
    parameter_sets: Sequence[bytes]
    audio: str
    aac_rate_hz: int = 0
    aac_channels: int = 0
    aac_config: bytes = b""


def parse_request(head: bytes) -> Request:
    """Read a request's head, without the blank line.

    Raises:
        RemoteViolation: not RTSP/1.x, or more fields than there are.
    """
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("RTSP/1.") or not _METHOD.match(words[0]):
        raise RemoteViolation("not an RTSP request")
    if len(lines) > MAX_FIELDS:
        raise RemoteViolation("too many header fields")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return Request(words[0], words[1], fields)


def parse_url(url: str) -> Target:
    """Stream, track and ticket. Some clients put the track behind the query, some before.

    Raises:
        RemoteViolation: no URL of ours.
    """
    match = _URL.match(url)
    if match is None:
        raise RemoteViolation("no such URL")
    stream_id, before, ticket, behind = match.groups()
    return Target(stream_id, before or behind or "", ticket or "")


def track_url(url: str, track: str) -> str:
    """The URL of a track of the stream at ``url``."""
    path, mark, query = url.partition("?")
    return f"{path.rstrip('/')}/{track}{mark}{query}"


@dataclass(frozen=True, slots=True)
class Carriage:
    """How a track is carried: to the client's UDP port and the next one, or (0) within the connection."""

    client_port: int = 0


def choose_carriage(transport: str, client_host: str, *, has_udp: bool) -> Carriage | None:
    """The first of the transports that a client offers which can be had; None when none can.

    Raises:
        Forbidden: a stream to another host is asked for (40300).
    """
    for offer in transport.split(",")[:MAX_TRANSPORTS]:
        profile, *rest = (word.strip() for word in offer.split(";"))
        words = {
            name.strip().lower(): value.strip() for name, _, value in (one.partition("=") for one in rest)
        }
        if words.get("mode", "play").strip('"').lower() != "play":
            continue
        if profile.upper() == "RTP/AVP/TCP":
            return Carriage()
        if has_udp and profile.upper() in ("RTP/AVP", "RTP/AVP/UDP") and "unicast" in words:
            if not _is_host(words.get("destination", ""), client_host):
                raise Forbidden("只能发往发起请求的地址")
            if port := _client_port(words.get("client_port", "")):
                return Carriage(port)
    return None


def _is_host(destination: str, client_host: str) -> bool:
    try:
        return not destination or ipaddress.ip_address(destination) == ipaddress.ip_address(client_host)
    except ValueError:
        return False


def _client_port(text: str) -> int:
    """The first of a pair of ports that follow each other; 0 for what is none."""
    match = _CLIENT_PORT.match(text)
    if match is None:
        return 0
    first = int(match[1])
    last = int(match[2]) if match[2] else first + 1
    return first if FIRST_CLIENT_PORT <= first < last <= 65_535 and last == first + 1 else 0


def render_response(status: int, sequence: str, fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """A response; Content-Length is added when there is a body."""
    lines = [f"RTSP/1.0 {status} {_REASONS.get(status, 'Error')}", f"CSeq: {sequence}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def tracks_of(found: Description) -> tuple[str, ...]:
    """The tracks that can be sent: H.264, H.265; G.711 and AAC. Others are left out."""
    video = ("video",) if found.video in ("h264", "h265") else ()
    is_sent = found.audio in _G711 or (found.audio == "aac" and found.aac_config)
    return (*video, "audio") if is_sent else video


def sdp(found: Description, url: str) -> bytes:
    """What a DESCRIBE is answered with."""
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=Tongshi", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*"]
    for track in tracks_of(found):
        lines += _video_lines(found) if track == "video" else _audio_lines(found)
        lines.append(f"a=control:{track_url(url, track)}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def _video_lines(found: Description) -> list[str]:
    sets = [bytes(one) for one in found.parameter_sets if one]
    if found.video == "h264":
        format_ = "packetization-mode=1"
        sps = next((one for one in sets if one[0] & 0x1F == 7), b"")
        if len(sps) >= 4:
            format_ += f";profile-level-id={sps[1:4].hex().upper()};sprop-parameter-sets={_base64(sets)}"
        name = "H264"
    else:
        kinds = {"vps": 32, "sps": 33, "pps": 34}
        by_kind = {key: [one for one in sets if one[0] >> 1 & 0x3F == kind] for key, kind in kinds.items()}
        format_ = ";".join(f"sprop-{key}={_base64(some)}" for key, some in by_kind.items() if some)
        name = "H265"
    lines = [f"m=video 0 RTP/AVP {VIDEO_TYPE}", f"a=rtpmap:{VIDEO_TYPE} {name}/90000"]
    return [*lines, f"a=fmtp:{VIDEO_TYPE} {format_}"] if format_ else lines


def _audio_lines(found: Description) -> list[str]:
    if found.audio in _G711:
        kind, name = _G711[found.audio]
        return [f"m=audio 0 RTP/AVP {kind}", f"a=rtpmap:{kind} {name}/8000/1"]
    return [
        f"m=audio 0 RTP/AVP {AAC_TYPE}",
        f"a=rtpmap:{AAC_TYPE} mpeg4-generic/{found.aac_rate_hz}/{found.aac_channels}",
        f"a=fmtp:{AAC_TYPE} streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;"
        f"indexdeltalength=3;config={found.aac_config.hex().upper()}",
    ]


def _base64(sets: Sequence[bytes]) -> str:
    return ",".join(base64.b64encode(one).decode("ascii") for one in sets)
