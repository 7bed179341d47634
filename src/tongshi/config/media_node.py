"""The configuration file of a media node: who it is, whom it obeys, and where devices and viewers come."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tongshi.config.sections import Code20, LogSection, Port, _Section, is_loopback


class NodeSection(_Section, frozen=True):
    """Its name and the platform's, and where it is commanded from; nothing else is answered there.

    ``gone_s``: a platform that has not called for so long is gone, and everything is dropped.
    ``certificate`` and ``key``: files in PEM; with them only TLS is spoken. Without them the host must be a
    loopback address, or ``allow_plain_http`` says that what is between is safe: calls are signed, but their
    answers carry viewers' tickets.
    """

    name: Annotated[str, Meta(pattern=r"^[0-9A-Za-z-]{1,32}$")]
    platform: Code20
    secret: Annotated[str, Meta(min_length=1)]
    host: str = "127.0.0.1"
    port: Port = 8083
    certificate: str = ""
    key: str = ""
    allow_plain_http: bool = False
    gone_s: Annotated[float, Meta(ge=5, le=3600)] = 30.0

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("node.certificate and node.key belong together")
        if not (self.certificate or self.allow_plain_http or is_loopback(self.host)):
            raise ValueError(
                "node.host is no loopback address: give certificate and key, or set allow_plain_http"
            )


class NodeMediaSection(_Section, frozen=True):
    """Its engine and ports, as in the configuration of a platform."""

    host: str = "127.0.0.1"
    http_port: Port = 8081
    rtsp_port: Port = 0
    rtsp_udp_first_port: Port = 0
    rtsp_udp_last_port: Port = 0
    rtp_shared_port: Port = 0
    webrtc_port: Port = 0
    webrtc_host: str = ""
    threads: Annotated[int, Meta(ge=1, le=16)] = 1

    def __post_init__(self) -> None:
        if self.rtsp_udp_first_port and self.rtsp_udp_last_port <= self.rtsp_udp_first_port:
            raise ValueError("media.rtsp_udp_last_port: not behind the first")

    @property
    def rtsp_udp_ports(self) -> tuple[int, int]:
        return self.rtsp_udp_first_port, self.rtsp_udp_last_port


class NodeConfig(_Section, frozen=True):
    """The whole file."""

    node: NodeSection
    media: NodeMediaSection = NodeMediaSection()
    log: LogSection = LogSection()
