"""The configuration file of a media node: who it is, whom it obeys, and where devices and viewers come."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tongshi.config.sections import Code20, LogSection, Port, _Section


class NodeSection(_Section, frozen=True):
    """Its name and the platform's, and where it is commanded from; nothing else is answered there.

    ``gone_s``: a platform that has not called for so long is gone, and everything is dropped.
    """

    name: Annotated[str, Meta(pattern=r"^[0-9A-Za-z-]{1,32}$")]
    platform: Code20
    secret: Annotated[str, Meta(min_length=1)]
    host: str = "127.0.0.1"
    port: Port = 8083
    gone_s: Annotated[float, Meta(ge=5, le=3600)] = 30.0


class NodeMediaSection(_Section, frozen=True):
    """Its engine and ports, as in the configuration of a platform."""

    host: str = "127.0.0.1"
    http_port: Port = 8081
    rtp_shared_port: Port = 0
    webrtc_port: Port = 0
    webrtc_host: str = ""
    threads: Annotated[int, Meta(ge=1, le=16)] = 1


class NodeConfig(_Section, frozen=True):
    """The whole file."""

    node: NodeSection
    media: NodeMediaSection = NodeMediaSection()
    log: LogSection = LogSection()
