"""A port that cannot be had is named with its key, before anything is announced."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tongshi.app import ports
from tongshi.config.media_node import NodeConfig, NodeMediaSection, NodeSection
from tongshi.config.sections import (
    Config,
    HttpSection,
    MediaSection,
    PlatformSection,
    SignallingSection,
)

HOME = "31000000002000000001"
HOST = "127.0.0.1"
ANY = OSError("could not bind")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens at, and holds by UDP as well."""
    with socket.create_server((HOST, 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        port: int = tcp.getsockname()[1]
        udp.bind((HOST, port))
        yield port


def config(*, http: int = 0, sip: int = 0, viewers: int = 0) -> Config:
    return Config(
        platform=PlatformSection(id=HOME, name="x"),
        http=HttpSection(port=http),
        signalling=SignallingSection(port=sip),
        media=MediaSection(http_port=viewers),
    )


def test_the_port_that_is_taken_is_named_with_its_key(taken: int) -> None:
    for made, key, kind in (
        (config(http=taken), "http.port", "TCP"),
        (config(sip=taken), "signalling.port", "UDP"),
        (config(viewers=taken), "media.http_port", "TCP"),
    ):
        words = ports.why_not(made, ANY)
        assert words == f"端口 {HOST}:{taken}（{kind}）已被占用；请停止占用它的程序，或改正 {key}"


def test_a_port_of_a_media_node_is_named_too(taken: int) -> None:
    node = NodeSection(name="east", platform=HOME, secret="s" * 16, port=taken)
    words = ports.why_not(NodeConfig(node=node, media=NodeMediaSection(http_port=0)), ANY)
    assert words.endswith("node.port")


def test_an_address_of_another_machine_is_named() -> None:
    made = Config(platform=PlatformSection(id=HOME, name="x"), http=HttpSection(host="192.0.2.1"))
    assert ports.why_not(made, ANY) == "端口 192.0.2.1:8080（TCP）不是本机的地址；请改正 http.host"


def test_what_is_not_a_port_is_told_as_it_came() -> None:
    assert ports.why_not(config(), ANY) == "could not bind"


def test_a_bound_port_takes_nobody_until_it_is_served(taken: int) -> None:
    async def tried() -> None:
        with pytest.raises(OSError, match="in use"):
            await ports.bind(HOST, taken)
        (door,) = doors = await ports.bind(HOST, 0)
        with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
            caller.connect(door.getsockname())
        ports.close(doors)

    asyncio.run(tried())
