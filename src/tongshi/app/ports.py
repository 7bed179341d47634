"""The ports that a configuration names: bound before all else, named when they cannot be had."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any, Literal

from tongshi.config.media_node import NodeConfig
from tongshi.config.sections import Config

Kind = Literal["TCP", "UDP"]
Wanted = tuple[str, str, int, tuple[Kind, ...]]
_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_FAULTS = {
    errno.EADDRINUSE: "已被占用；请停止占用它的程序，或改正 {key}",
    errno.EACCES: "没有权限使用；请换 1024 以上的端口（{key}）",
    errno.EADDRNOTAVAIL: "不是本机的地址；请改正 {section}.host",
}


async def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of ``host``; they listen once somebody serves them.

    Raises:
        OSError: an address cannot be had.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    made: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            made.append(_bound(family, "TCP", address))
    except OSError:
        close(made)
        raise
    return made


def close(doors: list[socket.socket]) -> None:
    """Let go of what ``bind`` made."""
    for door in doors:
        door.close()


def why_not(config: Config | NodeConfig, error: OSError) -> str:
    """Which port of the configuration cannot be had, and what to do; else what the system says.

    Each is tried once more, because the libraries below do not tell which it was.
    """
    for key, host, port, kinds in _wanted(config):
        for kind in kinds if port else ():
            fault = _fault(host, port, kind)
            words = "" if fault is None else _FAULTS.get(fault, "")
            if words:
                section = key.rpartition(".")[0]
                return f"端口 {host}:{port}（{kind}）{words.format(key=key, section=section)}"
    return str(error)


def _wanted(config: Config | NodeConfig) -> Iterator[Wanted]:
    media = config.media
    if isinstance(config, Config):
        yield "http.port", config.http.host, config.http.port, ("TCP",)
        yield "signalling.port", config.signalling.host, config.signalling.port, ("UDP", "TCP")
        if config.signalling.tls.certificate:
            yield "signalling.tls.port", config.signalling.host, config.signalling.tls.port, ("TCP",)
        yield "snapshots.port", config.snapshots.host or media.host, config.snapshots.port, ("TCP",)
        yield "media.rtsp_port", media.host, config.media.rtsp_port, ("TCP",)
    else:
        yield "node.port", config.node.host, config.node.port, ("TCP",)
    yield "media.http_port", media.host, media.http_port, ("TCP",)
    yield "media.webrtc_port", media.host, media.webrtc_port, ("UDP",)
    yield "media.rtp_shared_port", media.host, media.rtp_shared_port, ("UDP", "TCP")


def _fault(host: str, port: int, kind: Kind) -> int | None:
    """The number of the system's error when an address is tried; none when it can be had."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host or None, port, type=_TYPES[kind]):
            _bound(family, kind, address).close()
    except OSError as error:
        return error.errno
    return None


def _bound(family: int, kind: Kind, address: tuple[Any, ...]) -> socket.socket:
    door = socket.socket(family, _TYPES[kind])
    try:
        if kind == "TCP":
            # A port that was ours a moment ago may be had again.
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        door.setblocking(False)
        door.bind(address)
    except OSError:
        door.close()
        raise
    return door
