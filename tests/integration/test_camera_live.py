"""A simulated camera against a platform double: on loopback, with real sockets.

The media of the tests that need a picture comes through the native engine; they are skipped, saying so, when
it is not built. The others receive the garbage that a faulty camera sends, which needs no engine.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tongshi.clock import SystemClock
from tongshi.errors import PeerFailed, PeerTimeout
from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.offer import MediaTransport
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import CatalogResponse, DeviceInfoResponse, DeviceStatusResponse
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.testing.camera import Camera
from tongshi.testing.clips import write_clip
from tongshi.testing.frame_code import Code, read_code
from tongshi.testing.plan import CameraConfig, CameraPlan, Faults, FleetPlan, Server, configs
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.scenery import WORLDS
from tongshi.testing.studio import Studio

PLATFORM, SECRET = "31010100002000000001", "gb-2022"
CODE, NVR = "31010100001320000001", "31010100001180000001"
SSRC = 101000001


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "crossing-day.mp4", WORLDS["crossing-day"](), frames=10)
    return folder


class Site:
    """A platform double and the cameras that a test starts; all are stopped, and nothing may be left."""

    def __init__(self, clips: Path) -> None:
        self.platform = PlatformDouble(PLATFORM, SECRET)
        self.studio = Studio(clips, SystemClock())
        self.cameras: list[Camera] = []

    def config(self, row: CameraPlan, secret: str = SECRET, keepalive_s: float = 60.0) -> CameraConfig:
        server = Server(PLATFORM, "127.0.0.1", self.platform.port, secret)
        plan = FleetPlan(server=(server,), camera=(row,), keepalive_s=keepalive_s, retry_s=0.2)
        return configs(plan)[0]

    async def camera(
        self, faults: Faults | None = None, *, row: CameraPlan | None = None, keepalive_s: float = 60.0
    ) -> Camera:
        """Start one and wait for its registration."""
        row = row or CameraPlan(id=CODE, scene="crossing-day", faults=faults or Faults())
        camera = Camera(self.config(row, keepalive_s=keepalive_s), self.studio)
        self.cameras.append(camera)
        await camera.start()
        await self.platform.until(lambda: camera.config.id in self.platform.registered)
        await asyncio.wait_for(camera.registered.wait(), 5.0)
        return camera

    async def close(self) -> None:
        for camera in self.cameras:
            await camera.stop()
        await self.platform.stop()
        await asyncio.to_thread(self.studio.close)


@pytest.fixture
async def site(clips: Path) -> AsyncIterator[Site]:
    made = Site(clips)
    await made.platform.start()
    yield made
    await made.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("camera-")]


async def eventually(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Poll a condition for a bounded time."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110  # what is awaited happens on other threads
            await asyncio.sleep(0.02)


# Registration and questions


async def test_it_registers_with_digest_and_says_goodbye(site: Site) -> None:
    camera = await site.camera()
    await camera.stop()
    assert site.platform.registrations[CODE] == 1
    assert CODE not in site.platform.registered


async def test_a_wrong_password_is_never_registered(site: Site) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day")
    camera = Camera(site.config(row, secret="wrong"), site.studio)
    site.cameras.append(camera)
    await camera.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(camera.registered.wait(), 0.5)
    assert not site.platform.registered


async def test_it_stays_alive(site: Site) -> None:
    await site.camera(keepalive_s=0.05)
    await site.platform.until(lambda: site.platform.keepalives[CODE] >= 3)


async def test_a_keepalive_that_is_refused_makes_it_register_again(site: Site) -> None:
    await site.camera(keepalive_s=0.05)
    await site.platform.until(lambda: site.platform.keepalives[CODE] >= 1)
    site.platform.keepalive_status = 403
    await site.platform.until(lambda: site.platform.registrations[CODE] >= 2)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_it_answers_catalogue_info_and_status(site: Site, transport: str) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day", transport="tcp" if transport == "tcp" else "udp")
    camera = await site.camera(row=row)
    (catalogue,) = await site.platform.ask(CODE, CatalogQuery(11, CODE), CatalogResponse)
    assert catalogue.items == (camera.config.item,)
    (info,) = await site.platform.ask(CODE, DeviceInfoQuery(12, CODE), DeviceInfoResponse)
    assert info.manufacturer == camera.config.item.manufacturer
    (status,) = await site.platform.ask(CODE, DeviceStatusQuery(13, CODE), DeviceStatusResponse)
    assert status.online


async def test_an_nvr_sends_its_long_catalogue_in_parts(site: Site) -> None:
    await site.camera(row=CameraPlan(id=NVR, scene="crossing-day", channels=12))
    first = (await site.platform.ask(NVR, CatalogQuery(21, NVR), CatalogResponse))[0]
    assert first.sum_num == 13

    def codes() -> set[str]:
        parts = [one for one in site.platform.messages if isinstance(one, CatalogResponse)]
        return {item.device_id for part in parts for item in part.items}

    await site.platform.until(lambda: len(codes()) == 13)


async def test_an_unknown_code_gets_404(site: Site) -> None:
    await site.camera()
    assert await site.platform.send(CODE, CatalogQuery(31, NVR)) == 404


async def test_ptz_turns_the_head(site: Site) -> None:
    camera = await site.camera()
    move = front_end.ptz(pan=1, pan_speed=255).encode()
    assert await site.platform.send(CODE, DeviceControl(1, CODE, ptz_cmd=move)) == 200
    head = camera.device.channels[CODE].head
    await eventually(lambda: head.motion.pan_dps > 0)
    assert await site.platform.send(CODE, DeviceControl(2, CODE, ptz_cmd=front_end.stop().encode())) == 200
    await eventually(lambda: head.motion.pan_dps == 0)
    assert head.motion.start.pan > 0


# Calls that need no engine: the camera sends garbage


def udp_receiver() -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(5.0)
    return receiver


async def test_garbage_carries_the_right_ssrc_and_ends_with_the_call(site: Site) -> None:
    camera = await site.camera(Faults(garbage_media=True))
    with udp_receiver() as receiver:
        call = await site.platform.call(CODE, port=receiver.getsockname()[1], ssrc=SSRC)
        answer = parse_sdp(call.answer)
        packet = await asyncio.to_thread(receiver.recv, 2048)
        assert int.from_bytes(packet[8:12], "big") == SSRC == answer.ssrc
        assert answer.owner_id == CODE
        await call.bye()
        await eventually(lambda: camera.calls.count == 0)


@pytest.mark.parametrize("transport", ["tcp-passive", "tcp-active"])
async def test_media_over_tcp_either_way(site: Site, transport: MediaTransport) -> None:
    camera = await site.camera(Faults(garbage_media=True))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        call = await site.platform.call(CODE, port=port, ssrc=SSRC, transport=transport)
        answer = parse_sdp(call.answer)
        if transport == "tcp-passive":
            assert answer.setup == "active"
            peer, _ = await asyncio.to_thread(listener.accept)
        else:
            assert answer.setup == "passive"
            peer = socket.create_connection((answer.address, answer.port), 5.0)
        with peer:
            peer.settimeout(5.0)
            head = await asyncio.to_thread(peer.recv, 14, socket.MSG_WAITALL)
            assert int.from_bytes(head[10:14], "big") == SSRC
            await call.bye()
            await eventually(lambda: camera.calls.count == 0)


async def test_a_receiver_that_closes_its_connection_is_hung_up_on(site: Site) -> None:
    camera = await site.camera(Faults(garbage_media=True))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        call = await site.platform.call(
            CODE, port=listener.getsockname()[1], ssrc=SSRC, transport="tcp-passive"
        )
        peer, _ = await asyncio.to_thread(listener.accept)
        peer.close()
        await asyncio.wait_for(call.ended.wait(), 5.0)
        assert camera.calls.count == 0


async def test_an_unreachable_receiver_is_hung_up_on(site: Site) -> None:
    camera = await site.camera(Faults(garbage_media=True))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    call = await site.platform.call(CODE, port=port, ssrc=SSRC, transport="tcp-passive")
    await asyncio.wait_for(call.ended.wait(), 10.0)
    assert camera.calls.count == 0


async def test_a_refusal_carries_its_status(site: Site) -> None:
    await site.camera(Faults(refuse_invite=486))
    with pytest.raises(PeerFailed) as caught:
        await site.platform.call(CODE, port=9, ssrc=SSRC)
    assert caught.value.details["sipStatus"] == 486


async def test_one_that_never_answers_leaves_nothing_behind_after_the_cancel(site: Site) -> None:
    camera = await site.camera(Faults(never_answer_invite=True))
    with pytest.raises(PeerTimeout):
        await site.platform.call(CODE, port=9, ssrc=SSRC, timeout_s=0.4)
    camera.faults = Faults(garbage_media=True)
    with udp_receiver() as receiver:
        call = await site.platform.call(CODE, port=receiver.getsockname()[1], ssrc=SSRC + 1)
        assert await asyncio.to_thread(receiver.recv, 2048)
        await call.bye()


async def test_unknown_channels_and_too_many_calls_are_refused(site: Site) -> None:
    row = CameraPlan(id=CODE, scene="crossing-day", max_calls=1, faults=Faults(garbage_media=True))
    await site.camera(row=row)
    with pytest.raises(PeerFailed) as unknown:
        await site.platform.call(CODE, channel=NVR, port=9, ssrc=SSRC)
    assert unknown.value.details["sipStatus"] == 404
    with udp_receiver() as receiver:
        port = receiver.getsockname()[1]
        await site.platform.call(CODE, port=port, ssrc=SSRC)
        with pytest.raises(PeerFailed) as busy:
            await site.platform.call(CODE, port=port, ssrc=SSRC + 1)
    assert busy.value.details["sipStatus"] == 486


async def test_a_camera_that_vanishes_says_no_goodbye(site: Site) -> None:
    camera = await site.camera(Faults(garbage_media=True, drop_after_s=0.2))
    with udp_receiver() as receiver:
        call = await site.platform.call(CODE, port=receiver.getsockname()[1], ssrc=SSRC)
        await eventually(lambda: camera.calls.count == 0)
        assert not call.ended.is_set()
        assert CODE in site.platform.registered


async def test_fifty_calls_leave_no_open_file(site: Site) -> None:
    camera = await site.camera(Faults(garbage_media=True))
    with udp_receiver() as receiver:
        port = receiver.getsockname()[1]

        async def once() -> None:
            call = await site.platform.call(CODE, port=port, ssrc=SSRC)
            await call.bye()
            await eventually(lambda: camera.calls.count == 0)

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            await once()
        assert len(os.listdir("/proc/self/fd")) <= before


# Calls with a picture, through the native engine


class Receiver:
    """An ingest of the engine; frames are taken from its cache of the last group of pictures."""

    def __init__(self, transport: MediaTransport, ssrc: int) -> None:
        media = pytest.importorskip("tongshi._media", reason="the native engine is not built")
        self.engine = media.Engine()
        self.port = int(self.engine.open_ingest("s", transport, "127.0.0.1", 0, ssrc))

    def luma(self, codec: str) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        data = self.engine.snapshot_gop("s")
        if not data:
            return []
        decoder = av.CodecContext.create("hevc" if codec == "h265" else "h264", "r")
        assert isinstance(decoder, av.VideoCodecContext)
        pictures = [picture for packet in decoder.parse(data) for picture in decoder.decode(packet)]
        pictures += decoder.decode(None)
        return [np.asarray(picture.to_ndarray(format="gray"), np.uint8) for picture in pictures]

    def codes(self, codec: str) -> list[Code]:
        return [code for code in map(read_code, self.luma(codec)) if code is not None]

    def close(self) -> None:
        self.engine.shutdown()


@pytest.mark.parametrize(
    ("transport", "codec"),
    [("udp", "h264"), ("tcp-passive", "h265"), ("tcp-active", "h264")],
)
async def test_the_picture_arrives_and_turns_with_the_camera(
    site: Site, transport: MediaTransport, codec: str
) -> None:
    receiver = Receiver(transport, SSRC)
    try:
        row = CameraPlan(
            id=CODE, scene="crossing-day", codec="h265" if codec == "h265" else "h264", audio=True
        )
        await site.camera(row=row)
        call = await site.platform.call(CODE, port=receiver.port, ssrc=SSRC, transport=transport)
        answer = parse_sdp(call.answer)
        if transport == "tcp-active":
            receiver.engine.connect_ingest("s", answer.address, answer.port)
        await eventually(lambda: len(receiver.codes(codec)) >= 10, 10.0)
        codes = receiver.codes(codec)
        assert [code.counter - codes[0].counter for code in codes] == list(range(len(codes)))
        move = front_end.ptz(pan=1, pan_speed=200).encode()
        assert await site.platform.send(CODE, DeviceControl(1, CODE, ptz_cmd=move)) == 200
        await eventually(lambda: any(code.pan > 20 for code in receiver.codes(codec)), 10.0)
        stats = receiver.engine.stats("s")
        assert (stats["video_codec"], stats["audio_codec"]) == (codec, "g711a")
        assert stats["lost"] == stats["malformed"] == stats["foreign_ssrc"] == 0
        await call.bye()
    finally:
        receiver.close()


async def test_a_silent_camera_answers_and_sends_nothing(site: Site) -> None:
    receiver = Receiver("udp", SSRC)
    try:
        camera = await site.camera(Faults(no_media=True))
        call = await site.platform.call(CODE, port=receiver.port, ssrc=SSRC)
        await asyncio.sleep(0.3)
        assert receiver.engine.stats("s")["packets"] == 0
        await call.bye()
        await eventually(lambda: camera.calls.count == 0)
    finally:
        receiver.close()


async def test_a_wrong_ssrc_is_foreign(site: Site) -> None:
    receiver = Receiver("udp", SSRC)
    try:
        await site.camera(Faults(wrong_ssrc=True))
        call = await site.platform.call(CODE, port=receiver.port, ssrc=SSRC)
        await eventually(lambda: receiver.engine.stats("s")["foreign_ssrc"] > 0)
        assert receiver.engine.stats("s")["frames"] == 0
        await call.bye()
    finally:
        receiver.close()


async def test_a_lossy_camera_loses_some(site: Site) -> None:
    receiver = Receiver("udp", SSRC)
    try:
        await site.camera(Faults(loss=0.2))
        call = await site.platform.call(CODE, port=receiver.port, ssrc=SSRC)
        await eventually(lambda: receiver.engine.stats("s")["lost"] > 0, 10.0)
        await call.bye()
    finally:
        receiver.close()
