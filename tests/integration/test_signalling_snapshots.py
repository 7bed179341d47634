"""A camera is told to take pictures and brings them by HTTP; what is missing or wrong is said (9.14)."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tongshi.audit import store as audit
from tongshi.clock import BEIJING
from tongshi.errors import Forbidden, Gone, LimitExceeded, NotFound, PeerFailed
from tongshi.gateways.snapshots.receiver import SnapshotReceiver
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.configuration import Configuration
from tongshi.resources.control.ports import CommandReply
from tongshi.resources.control.service import Command, Order
from tongshi.resources.snapshots import service as snapshots_service
from tongshi.resources.snapshots.model import Issue, Picture, State
from tongshi.resources.snapshots.model import Order as SnapshotOrder
from tongshi.resources.viewing.ports import Viewer
from tongshi.sharing.model import Context, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.testing.camera import Camera
from tongshi.testing.jpeg import tiny_jpeg
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import HOST, PlatformPlan, SmallPlatform

PLATFORM, CODE = "31010100002000000001", DeviceId("31010100001320000001")
Neighbourhood = Any  # the class lives in conftest, which cannot be imported
Found = tuple[SnapshotOrder, list[Picture]]


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    return made


@pytest.fixture
async def camera(neighbourhood: Neighbourhood, platform: SmallPlatform) -> Camera:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101")
    made: Camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return made


async def ended(platform: SmallPlatform, order_id: str) -> Found:
    async with asyncio.timeout(8):
        while True:
            found = await look(platform, order_id)
            if found[0].state is not State.WAITING:
                return found
            await asyncio.sleep(0.03)


async def look(platform: SmallPlatform, order_id: str) -> Found:
    return await platform.snapshots.get(platform.viewer.subject, order_id, Context(platform.clock.at()))


class Told:
    """Stands for the device: keeps the path it is told, and takes no picture of its own."""

    def __init__(
        self, platform: SmallPlatform, monkeypatch: pytest.MonkeyPatch, is_done: bool | None
    ) -> None:
        self.url = self.session_id = ""
        self._is_done = is_done
        monkeypatch.setattr(platform.snapshots, "_talk", self)

    async def configure(self, device_id: str, settings: Configuration) -> CommandReply:
        assert settings.snap_shot_config is not None
        self.url = settings.snap_shot_config.upload_url
        self.session_id = settings.snap_shot_config.session_id
        return CommandReply(1.0, 200, self._is_done)


async def bring(url: str, **how: Any) -> int:
    async with httpx2.AsyncClient(timeout=5) as http:
        return (await http.request(how.pop("method", "POST"), url, **how)).status_code


def named(platform: SmallPlatform, number: int = 1) -> str:
    return f"{CODE}02{platform.clock.at().astimezone(BEIJING):%Y%m%d%H%M%S}000{number:02d}"


async def test_pictures_are_brought_and_shown_to_those_who_may_see(
    platform: SmallPlatform, camera: Camera
) -> None:
    order = await platform.snapshots.order(platform.viewer, CODE, 2, 1, "核查")
    done, pictures = await ended(platform, order.id)
    assert (done.state, done.reason, done.told) == (State.COMPLETE, "", tuple(p.file_name for p in pictures))
    assert [(one.number, one.issues, one.is_told) for one in pictures] == [(1, (), True), (2, (), True)]
    shown, data = await platform.snapshots.show(platform.viewer, pictures[0].id)
    assert data.startswith(b"\xff\xd8")
    assert (shown.width, shown.height) == (640, 360)
    stranger = Viewer(Subject(SubjectKind.USER, "9", "x", permissions=frozenset(Permission)), "127.0.0.1")
    with pytest.raises(NotFound):
        await platform.snapshots.show(stranger, pictures[0].id)
    with pytest.raises(NotFound):
        await platform.snapshots.order(stranger, CODE, 1, 1, "")
    rows, _ = await platform.db.read(audit.page, 1, 100)
    events = [row.entry.event.value for row in rows]
    assert events.count("snapshot_upload") == 2
    assert events.count("snapshot_order") == 1


@pytest.fixture
async def by_tls(platform: SmallPlatform, tmp_path: Path) -> AsyncIterator[tuple[SnapshotReceiver, str]]:
    """A receiver that speaks HTTPS only, with the certificate that proves it."""
    certificate, key = str(tmp_path / "own.pem"), str(tmp_path / "own.key")
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=snapshots")
    addressed = (*words, "-addext", f"subjectAltName=IP:{HOST}", "-keyout", key, "-out", certificate)
    run = await asyncio.create_subprocess_exec("openssl", *addressed, stderr=asyncio.subprocess.DEVNULL)
    assert await run.wait() == 0
    receiver = SnapshotReceiver(platform.snapshots, HOST, 0, 10 << 20, "", certificate, key)
    await receiver.start()
    yield receiver, certificate
    await receiver.stop()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_pictures_are_brought_by_https_and_by_nothing_else_there(
    platform: SmallPlatform,
    camera: Camera,
    monkeypatch: pytest.MonkeyPatch,
    by_tls: tuple[SnapshotReceiver, str],
) -> None:
    receiver, certificate = by_tls
    monkeypatch.setattr(platform.snapshots, "_upload_url", lambda: receiver.url)
    told = Told(platform, monkeypatch, True)
    order = await platform.snapshots.order(platform.viewer, CODE, 1, 1, "")
    assert told.url.startswith(f"https://{HOST}:{receiver.port}/snapshots/")
    query = {"sessionid": told.session_id, "filename": f"{named(platform)}.jpg"}

    async def brought(url: str, trusted: str | None) -> int:
        context = ssl.create_default_context(cafile=trusted)
        async with httpx2.AsyncClient(timeout=5, verify=context) as http:
            return (await http.post(url, content=tiny_jpeg(640, 360), params=query)).status_code

    with pytest.raises(httpx2.TransportError):
        await brought(told.url.replace("https:", "http:"), certificate)
    with pytest.raises(httpx2.ConnectError):
        await brought(told.url, None)  # a device that does not trust the certificate brings nothing
    assert await brought(told.url[:-1] + ("A" if told.url[-1] != "A" else "B"), certificate) == 404
    assert await brought(told.url, certificate) == 200
    _, pictures = await look(platform, order.id)
    assert [one.number for one in pictures] == [1]


async def test_a_certificate_that_is_none_is_told_at_the_start(
    platform: SmallPlatform, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(OSError, match="TLS certificate of snapshots"):
        await SnapshotReceiver(platform.snapshots, HOST, 0, 1, "", str(wrong), str(wrong)).start()


async def test_pictures_that_were_lost_make_the_order_partial(
    platform: SmallPlatform, camera: Camera
) -> None:
    camera._undertakings.lost_uploads = 1
    order = await platform.snapshots.order(platform.viewer, CODE, 2, 1, "")
    done, pictures = await ended(platform, order.id)
    assert (done.state, len(pictures)) == (State.PARTIAL, 1)
    assert "1/2" in done.reason


async def test_a_picture_is_a_view_and_a_command(platform: SmallPlatform, camera: Camera) -> None:
    mild = Subject(SubjectKind.USER, "7", "m", permissions=frozenset(Permission))
    seeing = frozenset({Permission.ARCHIVE_READ, Permission.VIDEO_LIVE})
    await platform.grant(SubjectKind.USER, "7", "mild", seeing)
    with pytest.raises(Forbidden):
        await platform.snapshots.order(Viewer(mild, "127.0.0.1"), CODE, 1, 1, "")


async def test_what_a_device_refuses_has_failed(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(platform, monkeypatch, False)
    with pytest.raises(PeerFailed):
        await platform.snapshots.order(platform.viewer, CODE, 1, 1, "")
    assert (await look(platform, told.session_id))[0].state is State.FAILED
    assert await bring(told.url, content=tiny_jpeg(8, 8)) == 410


async def test_a_path_takes_what_was_ordered_in_every_manner_and_no_more(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(platform, monkeypatch, True)
    order = await platform.snapshots.order(platform.viewer, CODE, 3, 1, "")
    one, two, three = (tiny_jpeg(8, 8, bytes([65 + n])) for n in range(3))
    name, other = named(platform), named(platform, 2)
    assert await bring(f"{told.url}/{name}.jpg", method="PUT", content=one) == 200
    assert await bring(f"{told.url}/{name}.jpg", method="PUT", content=one) == 200  # again, and still one
    form = {"data": {"SessionID": order.id}, "files": {"f": (f"{other}.jpg", two, "image/jpeg")}}
    assert await bring(told.url, **form) == 200
    assert await bring(f"{told.url}?SessionID={order.id}&filename=wrong.jpg", content=three) == 200
    assert await bring(told.url, content=tiny_jpeg(8, 8, b"4")) == 410
    _, pictures = await look(platform, order.id)
    assert [picture.issues for picture in pictures] == [(), (), (Issue.NAME_LAYOUT,)]
    assert pictures[0].taken_at is not None


async def test_what_is_wrong_is_refused_with_the_right_word(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(platform, monkeypatch, True)
    order = await platform.snapshots.order(platform.viewer, CODE, 1, 1, "")
    base = platform.receiver.url
    big = tiny_jpeg(8, 8) + bytes((10 << 20) + 1)
    for url, how, status in (
        (f"{base}/snapshots/{'x' * 32}", {"content": tiny_jpeg(8, 8)}, 404),
        (f"{base}/other", {"content": tiny_jpeg(8, 8)}, 404),
        (told.url, {"method": "GET"}, 404),
        (told.url, {"content": b"<html>"}, 400),
        (told.url, {"content": b""}, 400),
        (told.url, {"content": tiny_jpeg(8, 8)[:-2]}, 400),
        (told.url, {"content": tiny_jpeg(8, 8), "headers": {"X-Session-ID": "a" * 32}}, 400),
        (told.url, {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=q"}}, 400),
        (told.url, {"content": big}, 413),
    ):
        assert await bring(url, **how) == status, (url, status)
    assert (await look(platform, order.id))[1] == []
    assert not [one for batch in platform.snapshots._files.batches() for one in batch]


async def test_an_order_ends_at_its_deadline(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(platform, monkeypatch, None)
    order = await platform.snapshots.order(platform.viewer, CODE, 1, 1, "")
    await platform.snapshots.order(platform.viewer, CODE, 1, 1, "")
    with pytest.raises(LimitExceeded):
        await platform.snapshots.order(platform.viewer, CODE, 1, 1, "")
    later = platform.clock.at() + timedelta(hours=1)
    monkeypatch.setattr(platform.snapshots._clock, "at", lambda: later)
    assert await bring(told.url, content=tiny_jpeg(8, 8)) == 410
    await platform.snapshots.sweep()
    done, _ = await look(platform, order.id)
    assert done.state is State.FAILED
    assert "完成通知" in done.reason


async def test_the_oldest_pictures_go_when_there_is_no_room_and_all_by_age(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [
        await platform.snapshots.keep(platform.viewer, CODE, tiny_jpeg(8, 8, bytes([n]) * 99), "")
        for n in range(1, 3)
    ]
    size = kept[0][1].size_bytes
    bounds = snapshots_service.Bounds(quota_bytes=2 * size)
    monkeypatch.setattr(platform.snapshots, "_bounds", bounds)
    order, picture = await platform.snapshots.keep(platform.viewer, CODE, tiny_jpeg(8, 8, b"3" * 99), "")
    oldest, gone = await look(platform, kept[0][0].id)
    assert (oldest.removed, gone) == (1, [])
    with pytest.raises(NotFound):
        await platform.snapshots.show(platform.viewer, kept[0][1].id)
    assert await platform.snapshots.show(platform.viewer, picture.id)
    later = platform.clock.at() + timedelta(days=31)
    monkeypatch.setattr(platform.snapshots._clock, "at", lambda: later)
    await platform.snapshots.sweep()
    with pytest.raises(NotFound):
        await look(platform, order.id)
    assert not [one for batch in platform.snapshots._files.batches() for one in batch]


async def test_upgrades_are_listed_with_their_end(
    platform: SmallPlatform, camera: Camera, neighbourhood: Neighbourhood
) -> None:
    order = Order(Command.UPGRADE, firmware="V9", file_url="http://127.0.0.1:9/fw", manufacturer="Tongshi")
    await platform.desk.command(platform.viewer, CODE, order)
    async with asyncio.timeout(8):
        while True:
            context = Context(platform.clock.at())
            (row,), total = await platform.upgrades.page(platform.viewer.subject, CODE, 1, 10, context)
            if row.ended_at is not None:
                break
            await asyncio.sleep(0.03)
    assert (total, row.has_succeeded, row.reason, row.firmware) == (1, False, "下载超时", "V9")


async def test_a_used_path_is_gone(platform: SmallPlatform) -> None:
    with pytest.raises(NotFound):
        await platform.snapshots.open_path("nobody")
    assert Gone.http_status == 410
