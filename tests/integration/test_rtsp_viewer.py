"""RTSP end to end: FFmpeg plays a real camera from us, and what a client may get wrong."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Literal

import av
import pytest

from tongshi.errors import Unprocessable
from tongshi.gateways.media import rtsp_server
from tongshi.gateways.media.rtsp_ports import PortRange
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.plan import CameraPlan
from tongshi.testing.rtsp_client import RtspClient, connected
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


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize(("asks", "has_udp"), [("tcp", True), ("udp", True), ("any", False)])
async def test_ffmpeg_plays_whichever_transport_it_asks_for(
    neighbourhood: Neighbourhood, codec: Literal["h264", "h265"], asks: str, has_udp: bool
) -> None:
    platform, opening, url = await opened(neighbourhood, codec)
    if not has_udp:
        platform.rtsp._ports = PortRange(0, 0)

    def play() -> tuple[str, list[float]]:
        options = {} if asks == "any" else {"rtsp_transport": asks}  # FFmpeg begins with UDP by itself
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
    udp = "Transport: RTP/AVP;multicast;client_port=4588-4589\r\n"
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


RECEIVER_REPORT = bytes.fromhex("81c90007000000090000000140000005000000640000000a0000000000000000")


class Ports:
    """A client's pair of ports, on the loopback address that it asks from."""

    def __init__(self) -> None:
        for first in range(22_000, 24_000, 2):
            self.rtp, self.rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
            try:
                self.rtp.bind(("127.0.0.1", first))
                self.rtcp.bind(("127.0.0.1", first + 1))
            except OSError:
                self.close()
                continue
            self.first = first
            break
        self.rtp.setblocking(False)
        self.rtcp.setblocking(False)
        self.server = 0

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()

    @property
    def transport(self) -> str:
        return f"Transport: RTP/AVP;unicast;client_port={self.first}-{self.first + 1}\r\n"

    async def packet(self, one: socket.socket | None = None) -> tuple[bytes, int]:
        """The next datagram, and the port it came from."""
        async with asyncio.timeout(8):
            data, source = await asyncio.get_running_loop().sock_recvfrom(one or self.rtp, 2000)
        return data, source[1]

    def report(self) -> None:
        self.rtcp.sendto(RECEIVER_REPORT, ("127.0.0.1", self.server + 1))


async def playing(url: str, ports: Ports) -> RtspClient:
    """A client whose packets come by UDP."""
    client = await connected(url)
    status, head = await client.ask("SETUP", url.replace("?", "/video?"), ports.transport)
    assert status == 200, head
    assert f";client_port={ports.first}-{ports.first + 1};" in head
    ports.server = int(head.partition("server_port=")[2].partition("-")[0])
    assert (await client.ask("PLAY", url))[0] == 200
    return client


def end_of(platform: SmallPlatform, opening: Opening) -> EndReason | None:
    return platform.viewing.session(platform.viewer, opening.view.session_id).end_reason


async def test_packets_and_reports_go_both_ways_until_a_teardown(neighbourhood: Neighbourhood) -> None:
    platform, opening, url = await opened(neighbourhood)
    ports = Ports()
    client = await playing(url, ports)
    (report, from_port), (packet, from_rtp) = await ports.packet(ports.rtcp), await ports.packet()
    assert (report[1], from_port) == (200, ports.server + 1)  # a sender report
    assert (packet[0] >> 6, packet[1] & 0x7F, from_rtp) == (2, 96, ports.server)
    assert report[4:8] == packet[8:12]
    assert 21_000 <= ports.server < 21_400
    ports.report()
    (stream,) = platform.viewing.streams.streams()
    session = platform.viewing._sessions.get(opening.view.session_id)
    assert session is not None
    await neighbourhood.until(lambda: session.engine_viewer is not None)
    native, number = platform.engine.native, session.engine_viewer
    assert number is not None
    await neighbourhood.until(lambda: native.viewer_stats(number)["reported_lost"] == 5)
    assert native.viewer_stats(number)["reported_loss_rate"] == 0.25
    assert (await client.ask("OPTIONS", url))[0] == 200
    assert (await client.ask("TEARDOWN", url))[0] == 200
    await neighbourhood.until(lambda: end_of(platform, opening) is EndReason.VIEWER_LEFT)
    assert stream.end_reason is None  # it is warm for others
    ports.close()


async def test_a_closed_connection_ends_what_goes_by_udp(neighbourhood: Neighbourhood) -> None:
    platform, opening, url = await opened(neighbourhood)
    ports = Ports()
    client = await playing(url, ports)
    await ports.packet()
    client.writer.close()
    await neighbourhood.until(lambda: end_of(platform, opening) is EndReason.VIEWER_LEFT)
    ports.close()


async def test_who_reports_no_more_is_ended_whatever_others_send_for_him(
    neighbourhood: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp_server, "SESSION_TIMEOUT_S", 1.0)
    platform, opening, url = await opened(neighbourhood)
    ports = Ports()
    client = await playing(url, ports)
    ports.report()
    await ports.packet()
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.2", 0))

    def is_over() -> bool:
        stranger.sendto(RECEIVER_REPORT, ("127.0.0.1", ports.server + 1))
        return end_of(platform, opening) is EndReason.VIEWER_LEFT

    await neighbourhood.until(is_over)
    assert await client.reader.read() == b""
    said = b""
    while not (said[1:2] == b"\xc9" and said[8:10] == b"\x81\xcb"):  # a report of ours, and BYE
        said, _ = await ports.packet(ports.rtcp)
    stranger.close()
    ports.close()


async def test_what_would_send_the_stream_elsewhere_is_refused(neighbourhood: Neighbourhood) -> None:
    platform, opening, url = await opened(neighbourhood)
    client = await connected(url)
    track = url.replace("?", "/video?")

    async def set_up(transport: str) -> int:
        return (await client.ask("SETUP", track, f"Transport: {transport}\r\n"))[0]

    ports = Ports()
    pair = f"client_port={ports.first}-{ports.first + 1}"
    assert await set_up(f"RTP/AVP;unicast;destination=192.0.2.1;{pair}") == 403
    assert await set_up(f"RTP/AVP;unicast;destination=localhost;{pair}") == 403
    assert await set_up("RTP/AVP;unicast;client_port=53-54") == 461
    assert await set_up(f"RTP/AVP;multicast;{pair}") == 461
    assert await set_up("RTP/AVP;unicast;" + "client_port=1;" * 500) == 461
    assert (await client.ask("PLAY", url))[0] == 455  # nothing is set up
    assert await set_up(f"RTP/AVP;unicast;destination=127.0.0.1;{pair}") == 200
    assert await set_up("RTP/AVP/TCP;unicast") == 200  # in its place
    assert end_of(platform, opening) is None
    ports.close()


async def test_without_a_free_pair_of_ports_it_is_said_so(neighbourhood: Neighbourhood) -> None:
    platform, _, url = await opened(neighbourhood)
    ports, taken = Ports(), Ports()
    platform.rtsp._ports = PortRange(taken.first, taken.first + 1)
    client = await connected(url)
    track = url.replace("?", "/video?")
    status, head = await client.ask("SETUP", track, ports.transport)
    assert (status, "X-Error-Code: 50302" in head) == (503, True)
    assert (await client.ask("SETUP", track, "Transport: RTP/AVP/TCP;unicast\r\n"))[0] == 200
    taken.close()
    ports.close()


async def test_who_reads_nothing_or_is_not_there_delays_nobody(neighbourhood: Neighbourhood) -> None:
    platform, _, url = await opened(neighbourhood)

    async def another() -> str:
        wish = Wish(DeviceId(CODE), deliveries=(Delivery.RTSP,), expire_s=5)
        return (await platform.viewing.watch(platform.viewer, wish)).urls[0][1]

    silent, absent, ports = Ports(), Ports(), Ports()
    clients = [await playing(url, silent), await playing(await another(), absent)]
    absent.close()
    clients.append(await playing(await another(), ports))
    times: set[bytes] = set()
    while len(times) < 30:
        packet, _ = await ports.packet()
        times.add(packet[4:8])
    (stream,) = platform.viewing.streams.streams()
    assert platform.engine.native.stats(stream.stream_id)["viewers"] == 3  # nobody was ended for it either
    for client in clients:
        client.writer.close()
    silent.close()
    ports.close()
