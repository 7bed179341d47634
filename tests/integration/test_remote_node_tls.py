"""A media node commanded by TLS: real handshakes, and what is not the node that is meant."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import InvalidRequest
from tongshi.gateways.certificates import OwnCertificate
from tongshi.gateways.media.nodes.remote.tls import trusting
from tongshi.testing.authority import Authority
from tongshi.testing.node_process import NodeProcess
from tongshi.testing.node_world import PLATFORM, trouble_of, world_of
from tongshi.testing.viewer import watch_http

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ca").make()


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[str, str]:
    return authority.sign("east")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pair: tuple[str, str]) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("node"), PLATFORM, tls=pair) as made:
        yield made


@pytest.mark.parametrize("is_pinned", [False, True])
async def test_a_picture_comes_through_a_node_that_is_commanded_by_tls(
    neighbourhood: Neighbourhood,
    node: NodeProcess,
    authority: Authority,
    pair: tuple[str, str],
    is_pinned: bool,
) -> None:
    account = replace(node.account(), ca=pair[0] if is_pinned else authority.ca)
    assert account.api.startswith("https://")
    world = await world_of(neighbourhood, account)
    url = (await world.watch()).urls[0][1]
    assert url.startswith(node.viewer_url)
    assert (await watch_http(url, frames=2, timeout_s=10)).codec == "h264"


async def test_who_is_not_proved_is_told_nothing_and_the_reason_is_shown(
    node: NodeProcess, authority: Authority
) -> None:
    account, folder = node.account(), authority.folder
    other = Authority(folder, "other").make()
    for ca in ("", other.ca, authority.sign("same-name")[0]):  # the system's, another's, another of this CA
        assert "证书的签发者未知" in await trouble_of(replace(account, ca=ca))
    plain = replace(account, api=account.api.replace("https:", "http:"))
    assert "无法连接媒体节点" in await trouble_of(plain)
    by_name = replace(account, api=account.api.replace("127.0.0.1", "localhost"), ca=authority.ca)
    assert "证书中的名称与对端地址不符" in await trouble_of(by_name)
    assert await trouble_of(replace(account, ca=authority.ca)) == ""


async def test_https_to_what_speaks_none_is_named(node: NodeProcess, authority: Authority) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        account = replace(node.account(), api=f"https://127.0.0.1:{port}", ca=authority.ca)
        assert "对端没有使用 TLS" in await trouble_of(account)


def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, pair: tuple[str, str], authority: Authority
) -> None:
    other = authority.sign("third")
    for certificate, key in ((str(tmp_path / "none"), pair[1]), (pair[0], other[1])):
        with pytest.raises(InvalidRequest, match="不能使用"):
            OwnCertificate(certificate, key, ManualClock(), "node.certificate")
    with pytest.raises(InvalidRequest, match="不能使用"):
        trusting(pair[1])
