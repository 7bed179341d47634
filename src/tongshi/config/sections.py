"""The sections of the configuration file, each with its keys, defaults and units.

A secret is given as text, as ``env:NAME`` or as ``file:/path``; it prints as ``***``.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from tongshi.errors import InvalidRequest
from tongshi.shape_words import told

Port = Annotated[int, Meta(ge=0, le=65535)]
ShareScope = Annotated[str, Meta(pattern=r"^(\*|[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})$")]
Mac = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){5}$")]
Fingerprint = Annotated[  # SHA-256
    str, Meta(pattern=r"^((sha256:|SHA256:)?[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31})?$")
]
Code20 = Annotated[str, Meta(pattern=r"^[0-9]{20}$")]


_C = TypeVar("_C", bound=msgspec.Struct)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are refused: a misspelt key must not pass for a default. Secrets print as ``***``."""

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name.endswith('secret') and value else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def reveal(secret: str) -> str:
    """A secret itself: as written, or read from ``env:NAME`` or ``file:/path``.

    Raises:
        InvalidRequest: the variable or the file is missing.
    """
    if secret.startswith("env:"):
        value = os.environ.get(secret[4:])
        if value is None:
            raise InvalidRequest(f"环境变量 {secret[4:]} 未设置", field=secret[4:])
        return value
    if secret.startswith("file:"):
        path = Path(secret[5:])
        if not path.is_file():
            raise InvalidRequest(f"密钥文件 {path} 不存在", field=str(path))
        return path.read_text(encoding="utf-8").strip()
    return secret


def is_loopback(host: str) -> bool:
    """Whether what goes to this address or name stays on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_networks(texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise ValueError(f"{text} is no address and no network") from error


class PlatformSection(_Section, frozen=True):
    """Who this platform is."""

    id: Code20
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    level: Literal["city", "district", "department"] = "district"


class StorageSection(_Section, frozen=True):
    """Where the record is kept."""

    url: str = "sqlite:///var/tongshi.db"


class HttpSection(_Section, frozen=True):
    """REST and console. ``secure_cookie`` belongs on wherever TLS ends in front of us."""

    host: str = "127.0.0.1"
    port: Port = 8080
    secure_cookie: bool = False


class TlsSection(_Section, frozen=True):
    """SIP over TLS. ``port`` listens when there is a certificate; without one we only dial.

    ``client_ca`` asks who dials us for a certificate signed by one of these. ``peer_ca`` proves servers that
    we dial, unless their own section says how. ``crl`` holds the revocation lists of all these CAs. All are
    files in PEM.
    """

    port: Port = 5061
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    peer_ca: str = ""
    crl: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs certificate and key: without them nobody can dial us by TLS")


class SignallingSection(_Section, frozen=True):
    """SIP. ``host`` is the numeric address peers reach us at; it is written into Contact and SDP."""

    host: str = "127.0.0.1"
    port: Port = 5060
    keepalive_interval_s: Annotated[int, Meta(ge=1, le=3600)] = 60
    keepalive_count: Annotated[int, Meta(ge=1, le=10)] = 3
    registration_retry_s: Annotated[float, Meta(ge=0.5, le=3600)] = 60.0
    registration_expires_s: Annotated[int, Meta(ge=3600, le=604800)] = 86400
    answer_timeout_s: Annotated[float, Meta(ge=1, le=60)] = 10.0
    fingerprints: Literal["off", "show", "block"] = "show"
    stranger_burst: Annotated[int, Meta(ge=10, le=1_000_000)] = 500
    stranger_rate_per_s: Annotated[float, Meta(ge=1, le=100_000)] = 50.0
    subscription_expires_s: Annotated[int, Meta(ge=60, le=86400)] = 600
    catalogue_news_wait_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    trace_memory_mb: Annotated[int, Meta(ge=0, le=4096)] = 32
    tls: TlsSection = TlsSection()


Place = Annotated[str, Meta(pattern=r"^[0-9]{2,20}$")]


class MediaNodeSection(_Section, frozen=True):
    """Another place where streams may be opened.

    ``kind`` tongshi is a ``tongshi media-node``, whose ``secret`` is that of its own configuration;
    zlmediakit is such a server, and ``secret`` its ``api.secret``. ``rtsp_url`` is where RTSP clients reach a
    media-node that has ``media.rtsp_port``. ``ca`` is a file in PEM: the certificates that prove a media-node
    whose ``api`` is https, or its own; "" is what the system believes. Plain HTTP goes to another machine
    only with ``allow_plain_http``.
    """

    name: Annotated[str, Meta(pattern=r"^[0-9A-Za-z-]{1,32}$")]
    api: Annotated[str, Meta(pattern=r"^https?://[^/?#]+$")]
    secret: Annotated[str, Meta(min_length=1)]
    media_host: Annotated[str, Meta(min_length=1)]
    viewer_url: Annotated[str, Meta(pattern=r"^https?://[^/?#]+$")]
    places: tuple[Place, ...] = ()
    max_streams: Annotated[int, Meta(ge=1, le=100_000)] = 500
    kind: Literal["zlmediakit", "tongshi"] = "zlmediakit"
    rtsp_url: Annotated[str, Meta(pattern=r"^(rtsp://[^/?#]+)?$")] = ""
    ca: str = ""
    allow_plain_http: bool = False

    def __post_init__(self) -> None:
        if self.kind == "zlmediakit":
            if self.rtsp_url or self.ca or self.allow_plain_http:
                raise ValueError(
                    "media.nodes: rtsp_url, ca and allow_plain_http are of a node of kind tongshi"
                )
            return
        url = urlsplit(self.api)
        if url.scheme == "http" and not (self.allow_plain_http or is_loopback(url.hostname or "")):
            raise ValueError(
                "media.nodes: api is plain HTTP to another machine: use https, or set allow_plain_http"
            )
        if self.ca and url.scheme == "http":
            raise ValueError("media.nodes: ca belongs to an api of https")


class MediaSection(_Section, frozen=True):
    """The media engine and the viewers' port (0 lets the system choose); ``rtsp_port`` 0 is closed.

    From ``rtsp_udp_first_port`` to ``rtsp_udp_last_port`` RTSP clients are served by UDP, two ports a track;
    0 serves them within their connections alone.

    ``places``: first digits of the codes of devices that this engine stands nearest to; none is anywhere.
    ``rtp_shared_port`` takes all media of devices, UDP and TCP, at one port; 0 opens a port a stream.
    """

    host: str = "127.0.0.1"
    http_port: Port = 8081
    rtsp_port: Port = 0
    rtsp_udp_first_port: Port = 0
    rtsp_udp_last_port: Port = 0
    webrtc_port: Port = 0
    webrtc_host: str = ""
    rtp_shared_port: Port = 0
    threads: Annotated[int, Meta(ge=1, le=16)] = 1
    first_packet_timeout_s: Annotated[float, Meta(ge=0.5, le=60)] = 5.0
    first_key_frame_timeout_s: Annotated[float, Meta(ge=0.5, le=60)] = 5.0
    linger_s: Annotated[float, Meta(ge=0, le=600)] = 10.0
    transcoders: Annotated[int, Meta(ge=0, le=64)] = 2
    places: tuple[Place, ...] = ()
    max_streams: Annotated[int, Meta(ge=1, le=100_000)] = 500
    hook_host: str = "127.0.0.1"
    hook_port: Port = 8082
    hook_reach: str = ""
    nodes: tuple[MediaNodeSection, ...] = ()

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        if len({*names, "local"}) != len(names) + 1:
            raise ValueError("media.nodes: name is used twice, or is local")
        if self.rtsp_udp_first_port and self.rtsp_udp_last_port <= self.rtsp_udp_first_port:
            raise ValueError("media.rtsp_udp_last_port: not behind the first")


class SnapshotsSection(_Section, frozen=True):
    """Where devices bring their pictures, and how long and how many are kept. Port 0: the system chooses.

    ``host`` empty is that of media. ``url`` is what devices are told when a proxy stands before us.
    Pictures lie below the folder of ``files``.
    """

    host: str = ""
    port: Port = 0
    url: Annotated[str, Meta(pattern=r"^(https?://[!-~]{1,200})?\Z")] = ""
    certificate: str = ""
    key: str = ""
    max_picture_mb: Annotated[int, Meta(ge=1, le=64)] = 10
    keep_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    quota_mb: Annotated[int, Meta(ge=16, le=16_777_216)] = 2048


class RecordingSection(_Section, frozen=True):
    """Own recordings (中心录像): nothing is recorded without a rule, which administrators make over REST.

    With an ``s3_endpoint`` whole files are moved into that object store; they are written to the disk first.
    """

    folder: str = "var/recordings"
    segment_s: Annotated[float, Meta(ge=10, le=3600)] = 300.0
    min_free_mb: Annotated[int, Meta(ge=0, le=100_000_000)] = 2048
    s3_endpoint: Annotated[str, Meta(pattern=r"^(https?://[!-~]{1,200})?\Z")] = ""
    s3_bucket: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9.-]{1,62})?\Z")] = ""
    s3_region: Annotated[str, Meta(min_length=1, max_length=64)] = "us-east-1"
    s3_key: str = ""
    s3_secret: str = ""

    def __post_init__(self) -> None:
        if self.s3_endpoint and not (self.s3_bucket and self.s3_key and self.s3_secret):
            raise ValueError("s3_endpoint needs s3_bucket, s3_key and s3_secret")


class ExchangeSection(_Section, frozen=True):
    """Exchange of archives with neighbours: how often a quiet neighbour is looked at."""

    interval_s: Annotated[float, Meta(ge=0.2, le=86400)] = 60.0
    vanish_guard: Annotated[float, Meta(ge=0, le=1)] = 0.05


class FilesSection(_Section, frozen=True):
    """Packages written, uploads read, snapshots kept; the folder needs room for them."""

    folder: str = "var/files"


Subscribed = Literal["catalogue", "alarm", "mobile-position", "ptz-position"]


class AccountSection(_Section, frozen=True):
    """Who may register: one device, or every device whose id begins with ``prefix`` (a domain secret).

    ``addresses`` and ``macs`` bind it: registered from elsewhere, or with other hardware, it is refused.
    ``subscribe`` names what we subscribe at each; many devices know no subscriptions, so that it is empty.
    """

    prefix: Annotated[str, Meta(pattern=r"^[0-9]{8,20}$")]
    secret: str
    username: str = ""
    subscribe: tuple[Subscribed, ...] = ()
    addresses: tuple[str, ...] = ()
    macs: tuple[Mac, ...] = ()

    def __post_init__(self) -> None:
        _check_networks(self.addresses)


class RedirectSection(_Section, frozen=True):
    """Peers that are sent on to another server when they register (302)."""

    prefix: Annotated[str, Meta(pattern=r"^[0-9]{8,20}$")]
    server_id: Code20
    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 5060
    transport: Literal["udp", "tcp", "tls"] = "udp"
    expires_s: Annotated[int, Meta(ge=3600, le=604800)] = 86400


class AliasSection(_Section, frozen=True):
    """One device as an upper platform is to know it: another code, another name, or both."""

    id: Code20
    shown_id: Annotated[str, Meta(pattern=r"^([0-9]{20})?$")] = ""
    name: Annotated[str, Meta(max_length=128)] = ""


class NeighbourSection(_Section, frozen=True):
    """A platform we exchange with. Relation is seen from here: an ``upper`` is above us.

    ``share`` names what it may see and watch of ours: ``*`` or administrative divisions; empty: nothing.
    ``subscribe`` names what we subscribe at one that registers with us.
    ``sip_tls_*`` say how an upper that we dial by TLS is believed: its CA, the SHA-256 fingerprint of its one
    certificate, the name in it where that is not ``sip_host``; or, said aloud, not at all.
    ``aliases`` are devices that an upper knows by another code or name; every code is shown once.
    """

    id: Code20
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    relation: Literal["upper", "lower", "lateral"]
    sip_host: str = ""
    sip_port: Port = 0
    sip_transport: Literal["udp", "tcp", "tls"] = "udp"
    sip_tls_ca: str = ""
    sip_tls_fingerprint: Fingerprint = ""
    sip_tls_name: str = ""
    sip_tls_insecure: bool = False
    sip_username: str = ""
    sip_secret: str = ""
    rest_url: str = ""
    rest_key: str = ""
    rest_secret: str = ""
    media_transport: Literal["udp", "tcp-passive", "tcp-active"] = "udp"
    share: tuple[ShareScope, ...] = ()
    subscribe: tuple[Subscribed, ...] = ("catalogue",)
    aliases: Annotated[tuple[AliasSection, ...], Meta(max_length=10_000)] = ()
    sip_addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_networks(self.sip_addresses)
        if self.sip_tls_insecure and (self.sip_tls_ca or self.sip_tls_fingerprint):
            raise ValueError("sip_tls_insecure contradicts sip_tls_ca and sip_tls_fingerprint")


class LogSection(_Section, frozen=True):
    """Log level and form: ``json`` for machines, ``text`` for a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    form: Literal["json", "text"] = "json"


class Config(_Section, frozen=True):
    """The whole file."""

    platform: PlatformSection
    storage: StorageSection = StorageSection()
    http: HttpSection = HttpSection()
    signalling: SignallingSection = SignallingSection()
    media: MediaSection = MediaSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    recording: RecordingSection = RecordingSection()
    exchange: ExchangeSection = ExchangeSection()
    files: FilesSection = FilesSection()
    log: LogSection = LogSection()
    accounts: tuple[AccountSection, ...] = ()
    neighbours: tuple[NeighbourSection, ...] = ()
    redirects: tuple[RedirectSection, ...] = ()

    def __post_init__(self) -> None:
        for one in self.neighbours:
            is_said = bool(one.sip_tls_ca or one.sip_tls_fingerprint or one.sip_tls_insecure)
            is_dialled = one.relation == "upper" and one.sip_transport == "tls" and one.sip_host
            if is_dialled and not is_said and not self.signalling.tls.peer_ca:
                raise ValueError(
                    f"neighbour {one.id} is dialled by TLS and nothing says how to believe it: set "
                    "sip_tls_ca, sip_tls_fingerprint or signalling.tls.peer_ca (or sip_tls_insecure)"
                )


def load(path: Path) -> Config:
    """Read and check a platform's configuration file; see ``read``."""
    return read(path, Config)


def _place(text: str) -> str:
    """What the reader of TOML says, with the place in Chinese."""
    return re.sub(r" \(at line (\d+), column (\d+)\)", r"（第 \1 行第 \2 列）", text).replace(
        " (at end of document)", "（文件末尾）"
    )


def read(path: Path, shape: type[_C]) -> _C:
    """Read and check a configuration file.

    Raises:
        InvalidRequest: missing, not TOML, a wrong value or an unknown key; the message names file and key.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=shape)
    except FileNotFoundError as error:
        raise InvalidRequest(f"找不到配置文件 {path}", field="config") from error
    except OSError as error:
        raise InvalidRequest(f"配置文件 {path} 无法读取：{error.strerror}", field="config") from error
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"配置文件 {path} 有误：{told(error, '内容')[1]}", field="config") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"配置文件 {path} 不是合法的 TOML：{_place(str(error))}", field="config"
        ) from error
