"""Certificates of a media node renewed while it runs: real handshakes before and after, and broken files."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tongshi._media import Engine
from tongshi.clock import ManualClock
from tongshi.gateways.certificates import LOOK_S, MAX_BYTES, OwnCertificate
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.farm import Farm, FarmPlan, OwnAccount
from tongshi.gateways.media.nodes.remote.control import Control
from tongshi.gateways.media.nodes.remote.door import NodeDoor
from tongshi.gateways.media.nodes.remote.seal import Seal
from tongshi.gateways.media.nodes.remote.station import Station
from tongshi.resources.viewing.nodes import NodeState, NodeView
from tongshi.resources.viewing.tickets import Tickets
from tongshi.testing.authority import Authority

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

HOST, NAME = "127.0.0.1", "east"
PLATFORM, SECRET = "31010100002000000001", "of-a-test-of-nodes"
REQUEST = b"POST /media/v0/look HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
Pair = tuple[str, str]
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class World:
    """A node's control interface with the files of its certificate, and a clock moved by hand."""

    def __init__(self, authority: Authority, folder: Path, first: Pair) -> None:
        self.authority, self.clock = authority, ManualClock()
        self.files: Pair = (str(folder / "own.pem"), str(folder / "own.key"))
        self.renew(first)
        self.engine = AsyncEngine(Engine(), HOST)
        self.station = Station(self.engine, self.clock)
        certificate = OwnCertificate(*self.files, self.clock, "node.certificate")
        seal = Seal(PLATFORM, SECRET, NAME, self.clock)
        self.control = Control(self.station, NodeDoor(self.station), seal, HOST, 0, certificate)

    def renew(self, pair: Pair) -> None:
        """Other files, seen by the next handshake."""
        for source, target in zip(pair, self.files, strict=True):
            shutil.copyfile(source, target)
        self.clock.advance(LOOK_S)

    def account(self, ca: str) -> OwnAccount:
        api = f"https://{HOST}:{self.control.port}"
        return OwnAccount(NAME, api, SECRET, HOST, "http://viewers", platform_id=PLATFORM, ca=ca)

    @asynccontextmanager
    async def dialled(self) -> AsyncIterator[Wire]:
        """A connection whose handshake is done; only the CA is believed."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        reader, writer = await asyncio.open_connection(HOST, self.control.port, ssl=context)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def shown(self) -> str:
        """What a new handshake presents, in PEM."""
        async with self.dialled() as (_, writer):
            return certificate_of(writer)

    @asynccontextmanager
    async def watched(self, ca: str) -> AsyncIterator[Farm]:
        """A platform that believes this file, with the same clock."""

        def tickets() -> Tickets:
            raise AssertionError("nobody is let in")

        farm = Farm(self.engine, FarmPlan([self.account(ca)]), tickets, self.clock)
        try:
            yield farm
        finally:
            await farm.stop()


def certificate_of(writer: asyncio.StreamWriter) -> str:
    handshake = writer.get_extra_info("ssl_object")
    return ssl.DER_cert_to_PEM_cert(handshake.getpeercert(binary_form=True))


def text_of(pair: Pair) -> str:
    """The certificate of a file alone, without the words that openssl may write before it."""
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(Path(pair[0]).read_text()))


def overwrite(file: Path, data: bytes | None) -> None:
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)


async def ask(wire: Wire) -> bytes:
    """The first line of the answer to a call that is not signed."""
    wire[1].write(REQUEST)
    head = await wire[0].readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    await wire[0].readexactly(int(length[1]))
    return head.partition(b"\r\n")[0]


async def look(farm: Farm) -> NodeView:
    await farm.nodes.look_at_all()
    return farm.nodes.views()[1]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ca").make()


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> tuple[Pair, Pair]:
    """With keys of two kinds, because a context keeps one certificate for each."""
    return authority.sign("before", is_rsa=True), authority.sign("after")


@pytest.fixture
async def world(authority: Authority, pairs: tuple[Pair, Pair], tmp_path: Path) -> AsyncIterator[World]:
    made = World(authority, tmp_path, pairs[0])
    made.engine.start()
    await made.control.start()
    yield made
    await made.control.stop()
    await made.station.stop()
    await made.engine.stop()


async def test_the_next_handshake_shows_the_renewed_certificate_and_a_connection_lives_on(
    world: World, pairs: tuple[Pair, Pair]
) -> None:
    before, after = pairs
    async with world.dialled() as wire:
        assert certificate_of(wire[1]) == text_of(before)
        first = await ask(wire)
        assert first.startswith(b"HTTP/1.1 4")
        with capture_logs() as said:
            world.renew(after)
            assert [await world.shown() for _ in range(2)] == [text_of(after)] * 2
        assert [line["event"] for line in said] == ["tls_certificate_renewed"]
        assert await ask(wire) == first
    world.renew(before)
    assert await world.shown() == text_of(before)


async def test_files_are_looked_at_no_more_often_than_said(world: World, pairs: tuple[Pair, Pair]) -> None:
    assert await world.shown() == text_of(pairs[0])  # a look
    for source, target in zip(pairs[1], world.files, strict=True):
        shutil.copyfile(source, target)
    world.clock.advance(LOOK_S / 2)
    assert await world.shown() == text_of(pairs[0])
    world.clock.advance(LOOK_S / 2)
    assert await world.shown() == text_of(pairs[1])


async def test_a_pair_that_is_none_leaves_the_old_one_is_shown_as_trouble_and_tried_again(
    world: World, pairs: tuple[Pair, Pair]
) -> None:
    before, after = pairs
    async with world.watched(world.authority.ca) as farm:
        assert (await look(farm)).trouble == ""
        with capture_logs() as said:
            world.renew((after[0], before[1]))  # the key is not written yet
            view = await look(farm)
            world.clock.advance(LOOK_S)
            assert await world.shown() == text_of(before)
        assert [line["event"] for line in said if "certificate" in line] == ["tls_certificate_refused"]
        assert (view.state, "仍使用原有证书" in view.trouble) == (NodeState.ACTIVE, True)
        world.renew(after)
        assert (await look(farm)).trouble == ""
        assert await world.shown() == text_of(after)


@pytest.mark.parametrize("broken", [b"", b"no certificate", b"x" * (MAX_BYTES + 1), None])
async def test_what_is_no_certificate_is_refused_with_the_file_s_name(
    world: World, pairs: tuple[Pair, Pair], broken: bytes | None
) -> None:
    certificate = Path(world.files[0])
    async with world.watched(world.authority.ca) as farm:
        assert (await look(farm)).trouble == ""
        overwrite(certificate, broken)
        world.clock.advance(LOOK_S)
        assert f"TLS 证书 {certificate} 与私钥 {world.files[1]} 不能使用" in (await look(farm)).trouble
        assert await world.shown() == text_of(pairs[0])


async def test_the_platform_believes_a_renewed_file_and_no_longer_what_is_not_in_it(
    world: World, pairs: tuple[Pair, Pair], tmp_path: Path
) -> None:
    pinned = tmp_path / "pinned.pem"
    shutil.copyfile(pairs[0][0], pinned)
    async with world.watched(str(pinned)) as farm:
        assert (await look(farm)).trouble == ""
        shutil.copyfile(pairs[1][0], pinned)
        world.clock.advance(LOOK_S)
        assert "证书的签发者未知" in (await look(farm)).trouble  # the node still shows the one before
        world.renew(pairs[1])
        assert (await look(farm)).trouble == ""
        pinned.write_text("no certificate")
        world.clock.advance(LOOK_S)
        view = await look(farm)
        assert (view.state, "仍按原有文件校验" in view.trouble) == (NodeState.ACTIVE, True)
