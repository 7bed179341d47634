"""RTSP end to end: FFmpeg plays a real camera from us, and what a client may get wrong."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import av
import pytest

from tongshi.errors import Unprocessable
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

PLATFORM = "31010100002000000001"
CODE = "31010100001320000001"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def opened(
    neighbourhood: Neighbourhood, codec: Literal["h264", "h265"] = "h264"
) -> tuple[SmallPlatform, Opening, str]:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    await neighbourhood.camera(
        platform, CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", codec=codec)
    )
    await neighbourhood.known(platform, CODE)
    wish = Wish(DeviceId(CODE), deliveries=(Delivery.RTSP,), expire_s=5)
    opening = await platform.viewing.watch(platform.viewer, wish)
    return platform, opening, opening.urls[0][1]


class Client:
    """One RTSP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.sequence = reader, writer, 0

    async def ask(self, method: str, url: str, fields: str = "") -> tuple[int, str]:
        """Status and head of the answer; packets before it are passed over."""
        self.sequence += 1
        self.writer.write(f"{method} {url} RTSP/1.0\r\nCSeq: {self.sequence}\r\n{fields}\r\n".encode())
        while (first := await self.reader.readexactly(1)) == b"$":
            _, high, low = await self.reader.readexactly(3)
            await self.reader.readexactly(high << 8 | low)
        head = (first + await self.reader.readuntil(b"\r\n\r\n")).decode()
        if "Content-Length: " in head:
            await self.reader.readexactly(int(head.partition("Content-Length: ")[2].split("\r\n")[0]))
        assert f"CSeq: {self.sequence}\r\n" in head
        return int(head.split(" ")[1]), head


async def connected(url: str) -> Client:
    host, _, port = url.removeprefix("rtsp://").partition("/")[0].partition(":")
    return Client(*await asyncio.open_connection(host, int(port)))


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("asks", ["tcp", "udp"])
async def test_ffmpeg_plays_whichever_transport_it_asks_for_first(
    neighbourhood: Neighbourhood, codec: Literal["h264", "h265"], asks: str
) -> None:
    platform, opening, url = await opened(neighbourhood, codec)

    def play() -> tuple[str, list[float]]:
        options = {"rtsp_transport": asks} if asks == "tcp" else {}  # FFmpeg begins with UDP by itself
        with av.open(url, "r", options=options, timeout=8.0) as container:
            frames = container.decode(video=0)
            times = [next(frames).time or 0.0 for _ in range(10)]
            return container.streams.video[0].codec_context.name, times

    name, times = await asyncio.to_thread(play)
    assert name == {"h264": "h264", "h265": "hevc"}[codec]
    assert times == sorted(times)
    await neighbourhood.until(
        lambda: platform.viewing.session(platform.viewer, opening.view.session_id).end_reason is not None
    )
    ended = platform.viewing.session(platform.viewer, opening.view.session_id)
    assert ended.end_reason is EndReason.VIEWER_LEFT


async def test_a_client_is_answered_while_it_plays_and_leaves_by_teardown(
    neighbourhood: Neighbourhood,
) -> None:
    platform, opening, url = await opened(neighbourhood)
    client = await connected(url)
    status, head = await client.ask("OPTIONS", url)
    assert (status, "DESCRIBE" in head) == (200, True)
    assert (await client.ask("DESCRIBE", url))[0] == 200
    assert (await client.ask("PLAY", url))[0] == 455  # nothing was set up
    track = url.replace("?", "/video?")
    udp = "Transport: RTP/AVP;unicast;client_port=4588-4589\r\n"
    assert (await client.ask("SETUP", track, udp))[0] == 461
    tcp = "Transport: RTP/AVP/TCP;unicast;interleaved=4-5\r\n"
    assert (await client.ask("SETUP", url, tcp))[0] == 459
    assert (await client.ask("SETUP", url.replace("?", "/audio?"), tcp))[0] == 404
    status, head = await client.ask("SETUP", track, tcp)
    assert (status, "interleaved=0-1\r\n" in head) == (200, True)
    assert (await client.ask("ANNOUNCE", url))[0] == 501
    assert (await client.ask("PLAY", url))[0] == 200
    assert (await client.ask("GET_PARAMETER", url, "Session: x\r\n"))[0] == 200
    assert (await client.ask("PAUSE", url))[0] == 455
    client.writer.write(b"$\x01\x00\x04RTCP")
    assert (await client.ask("TEARDOWN", url))[0] == 200
    await client.reader.read()
    await neighbourhood.until(
        lambda: platform.viewing.session(platform.viewer, opening.view.session_id).end_reason is not None
    )
    again = await connected(url)
    assert (await again.ask("DESCRIBE", url))[0] == 410  # the ticket was taken by PLAY


async def test_without_a_good_ticket_nothing_is_told(neighbourhood: Neighbourhood) -> None:
    _, _, url = await opened(neighbourhood)
    client = await connected(url)
    assert (await client.ask("DESCRIBE", url.partition("?")[0]))[0] == 401
    assert (await client.ask("DESCRIBE", url[:-1] + ("A" if url[-1] != "A" else "B")))[0] == 401
    assert (await client.ask("DESCRIBE", url.replace("/live/", "/live/0")))[0] == 404
    assert (await client.ask("DESCRIBE", "rtsp://h/else"))[0] == 400
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await client.reader.read() == b""


async def test_rtsp_is_offered_only_where_its_port_is_open(neighbourhood: Neighbourhood) -> None:
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    platform.viewing._rtsp_url = None
    with pytest.raises(Unprocessable) as caught:
        await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE), deliveries=(Delivery.RTSP,)))
    assert "rtsp" not in str(caught.value.details["supported"])
