"""Garbage at every port of running platforms: they stay up, answer, keep their memory and their pictures.

The platform's patience is measured while it is fed, not afterwards.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Viewing, World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="session"),
]

HOST, ELSEWHERE = "127.0.0.1", "127.0.0.2"
STRANGER = "44010600002000000009"
ANSWER_S = 1.0
# What buffers of the kernel's size and a handful of half-read requests may cost, and no more.
GROWTH_KB = 48 * 1024
DATAGRAMS = 5_000
ENDLESS_BYTES = 8 << 20
PACE = 50  # datagrams between two looks of the test's own loop at its cameras


@asynccontextmanager
async def answering(world: World, key: str) -> AsyncIterator[None]:
    """While inside, the platform answers its health check within a second; afterwards it has not grown."""
    before = world.footprint(key)
    slowest = 0.0
    is_over = False

    async def ask() -> None:
        nonlocal slowest
        while not is_over:
            began = time.monotonic()
            assert await world.consoles[key].is_up(), f"{key} does not answer"
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.05)

    asking = asyncio.get_running_loop().create_task(ask())
    try:
        yield
    finally:
        is_over = True
        await asking
    assert slowest < ANSWER_S, f"{key} took {slowest:.2f} s to answer"
    now = world.footprint(key)
    assert now.private_kb - before.private_kb < GROWTH_KB, f"{before}, now {now}"


async def throw(port: int, datagrams: Iterator[bytes]) -> None:
    """Send datagrams to a port as fast as the test's own cameras allow."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, datagram in enumerate(datagrams):
            sender.sendto(datagram, (HOST, port))
            if number % PACE == 0:
                await asyncio.sleep(0.005)


async def is_heard(port: int) -> bool:
    """Has a platform worked off everything before this at its SIP port?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind((ELSEWHERE, 0))
        asker.setblocking(False)
        serial = f"{time.monotonic_ns()}"
        asker.sendto(sip_message("MESSAGE", serial, b""), (HOST, port))
        try:
            async with asyncio.timeout(1.0):
                return serial.encode() in await asyncio.get_running_loop().sock_recv(asker, 4096)
        except TimeoutError:
            return False


async def pour(port: int, data: bytes, limit_s: float = 10.0) -> bytes:
    """Write to a TCP port until it is all out or the other side has had enough; what it answered."""
    reader, writer = await asyncio.open_connection(HOST, port)
    answer = b""
    try:
        async with asyncio.timeout(limit_s):
            for start in range(0, len(data), 1 << 16):
                writer.write(data[start : start + (1 << 16)])
                await writer.drain()
            writer.write_eof()
            answer = await reader.read(1 << 16)
    except (OSError, TimeoutError):
        pass
    writer.transport.abort()
    return answer


def malformed_sip(rng: random.Random, count: int) -> Iterator[bytes]:
    """Noise, and messages that are nearly right."""
    good = sip_message("MESSAGE", "1", b"")
    for number in range(count):
        kind = number % 5
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 1400))
        elif kind == 1:
            bent = bytearray(good)
            for _ in range(8):
                bent[rng.randrange(len(bent))] = rng.randrange(256)
            yield bytes(bent)
        elif kind == 2:
            yield good[: rng.randrange(len(good))]
        elif kind == 3:
            yield good.replace(b"Max-Forwards: 70\r\n", b"X: " + b"y" * rng.randrange(9_000) + b"\r\n")
        else:
            yield good.replace(b"Content-Length: 0", b"Content-Length: 99999999999999999999")


def sip_message(method: str, serial: str, body: bytes, sender: str = STRANGER) -> bytes:
    """A well-formed request of nobody we know."""
    kind = b"Application/SDP" if method == "INVITE" else b"Application/MANSCDP+xml"
    head = (
        f"{method} sip:31010100001320000001@{HOST} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {HOST}:5999;rport;branch=z9hG4bK{serial}\r\n"
        f"From: <sip:{sender}@4401060000>;tag=t{serial}\r\n"
        f"To: <sip:31010100001320000001@{HOST}>\r\n"
        f"Call-ID: c{serial}@{HOST}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n"
        f"Contact: <sip:{sender}@{HOST}:5999>\r\n"
    ).encode()
    typed = b"Content-Type: " + kind + b"\r\n" if body else b""
    return head + typed + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("key", ["huangpu", "city"])
async def test_garbage_at_the_sip_port_costs_nothing(world: World, key: str) -> None:
    port, rng = world.site(key).sip_port, random.Random(5)
    async with answering(world, key):
        await throw(port, malformed_sip(rng, DATAGRAMS))
        await asyncio.gather(
            pour(port, b"x" * ENDLESS_BYTES),
            pour(port, b"INVITE sip:a@b SIP/2.0\r\n" + b"Via: " + b"z" * ENDLESS_BYTES),
            pour(port, b"\r\n" * (ENDLESS_BYTES // 8)),
            pour(port, rng.randbytes(ENDLESS_BYTES)),
            pour(port, sip_message("MESSAGE", "9", b"").replace(b"Length: 0", b"Length: 9999999999")),
        )
        await world.until(lambda: is_heard(port), 10, "the SIP port is deaf")
    assert all(camera.registered.is_set() for camera in world.cameras.values())


async def test_garbage_at_the_http_port_is_refused(world: World) -> None:
    port = world.site("city").http_port
    deep, packed = b"[" * 200_000, gzip.compress(json.dumps({"a": "b" * 5000}).encode())
    bomb = gzip.compress(bytes(64 << 20))
    head = f"POST /api/v1/session HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n".encode()

    def post(body: bytes, more: bytes = b"") -> bytes:
        return head + more + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body

    zipped = b"Content-Encoding: gzip\r\n"
    async with answering(world, "city"):
        for sent, wanted in (
            (post(deep), b" 4"),
            (post(b'{"user":' * 10_000), b" 4"),
            (post(packed[: len(packed) // 2], zipped), b" 4"),
            (post(bomb, zipped), b" 4"),
            (post(b"\xff\xfe\x00{"), b" 4"),
            (b"GET / HTTP/1.1\r\n" + b"X-A: " + b"b" * ENDLESS_BYTES, b" 4"),
            (b"GET /" + b"a" * ENDLESS_BYTES, b" 4"),
            (random.Random(7).randbytes(1 << 20), b" 4"),
        ):
            answer = await pour(port, sent)
            assert not answer or answer[8:10] == wanted, answer[:200]
        await asyncio.gather(*(pour(port, b"POST / HTTP/1.1\r\nHost: a\r\nTr", 1.0) for _ in range(100)))


async def test_garbage_at_the_viewers_port_is_refused(world: World) -> None:
    port, rng = world.site("city").media_port, random.Random(6)
    async with answering(world, "city"):
        for sent in (
            rng.randbytes(1 << 20),
            b"GET /" + b"a" * ENDLESS_BYTES,
            b"GET /live/x.flv?ticket=" + b"t" * 7000 + b" HTTP/1.1\r\n\r\n",
            b"GET /live/../../etc/passwd HTTP/1.1\r\n\r\n",
            b"GET //[/live/a.flv HTTP/1.1\r\n\r\n",
            b"GET /live/x.flv?" + b"&" * 5000 + b" HTTP/1.1\r\n\r\n",
            b"POST /live/x.flv HTTP/1.1\r\n\r\n",
            b"\r\n\r\n",
        ):
            answer = await pour(port, sent)
            assert not answer or answer[8:10] == b" 4", answer[:200]
    assert "viewer_request_failed" not in world.log("city")


async def test_garbage_at_an_open_media_port_does_not_disturb_the_picture(
    world: World, viewer: type[Viewing]
) -> None:
    answer = await world.open(world.heavy)
    watching = (await viewer.of(answer["urls"][0]["url"])).read_on()
    await world.until(lambda: watching.received > 100_000, 10, "no picture")
    rng = random.Random(8)
    async with answering(world, "huangpu"), answering(world, "city"):
        for key in ("huangpu", "city"):
            ports = world.udp_ports(key)
            assert ports, f"{key} has no media port open"
            for port in ports:
                await throw(port, media_noise(rng, DATAGRAMS))
        received = watching.received
        await world.until(lambda: watching.received > received + 500_000, 10, "the picture has stopped")
    assert not watching.ended.is_set()
    assert watching.longest_gap_s < 2.0
    assert (await world.session(answer["sessionId"]))["endReason"] is None
    await watching.close()


def media_noise(rng: random.Random, count: int) -> Iterator[bytes]:
    """Noise, truncated RTP, RTP of other sources, padding and extensions that lie."""
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: rng.randbytes(rng.randrange(1, 1400)),
        lambda: b"\x80\x60"[: rng.randrange(3)],
        lambda: struct.pack(">BBHII", 0x80, 96, rng.randrange(65536), 1, rng.randrange(2**32)) + b"\0" * 900,
        lambda: struct.pack(">BBHII", 0xBF, 96, 1, 1, 1) + rng.randbytes(30),
        lambda: b"",
    )
    for number in range(count):
        yield makers[number % len(makers)]()


async def test_a_stranger_starts_nothing_and_fills_no_log(world: World) -> None:
    port = world.site("huangpu").sip_port
    size = len(world.log("huangpu"))
    sdp = (
        f"v=0\r\no={STRANGER} 0 0 IN IP4 {HOST}\r\ns=Play\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
        "m=video 6000 RTP/AVP 96\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\ny=0100000001\r\n"
    ).encode()
    control = (
        b'<?xml version="1.0"?><Control><CmdType>DeviceControl</CmdType><SN>1</SN>'
        b"<DeviceID>31010100001320000001</DeviceID><PTZCmd>A50F010800FA00B7</PTZCmd></Control>"
    )
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((ELSEWHERE, 0))
        stranger.setblocking(False)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        began = time.monotonic()
        async with answering(world, "huangpu"):
            for number in range(1_000):
                upper = world.site("city").id if number % 4 == 3 else STRANGER
                method, body = (("INVITE", sdp), ("MESSAGE", control))[number % 2]
                await loop.sock_sendto(stranger, sip_message(method, f"s{number}", body, upper), (HOST, port))
                if number % PACE == 0:
                    await asyncio.sleep(0.005)
            statuses: dict[str, int] = {}
            deadline = began + 8
            while sum(statuses.values()) < 500 and time.monotonic() < deadline:
                async with asyncio.timeout(5):
                    answer = await loop.sock_recv(stranger, 65_536)
                status = answer.split(b" ", 2)[1].decode()
                if status != "100":
                    statuses[status] = statuses.get(status, 0) + 1
        took_s = time.monotonic() - began
    assert set(statuses) <= {"403", "503"}, statuses
    assert not await world.streams("huangpu")
    assert not any(camera.calls.count for camera in world.cameras.values())
    channel = world.cameras[world.heavy].device.channels[world.heavy]
    assert not channel.instructions
    await asyncio.sleep(1.2)  # the next line of the log, which carries the count
    new = world.log("huangpu")[size:]
    lines = [line for line in new.splitlines() if STRANGER in line or "refused" in line or "403" in line]
    assert 1 <= len(lines) <= took_s + 3, lines[:5]
