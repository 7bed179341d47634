"""What a device does over a while after a command: an upgrade with its restart, pictures and their upload.

Implements: GB/T 28181-2022 9.13
Implements: GB/T 28181-2022 9.14
The software that is fetched begins with ``TONGSHI-FW``, a blank and its version; anything else is broken.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from typing import Final, Literal, Protocol

import av
import httpx2

from tongshi.clock import BEIJING, Clock
from tongshi.errors import TongshiError
from tongshi.protocols.gb28181.configuration import SnapShotConfig
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl
from tongshi.protocols.gb28181.control_parts import UpgradeOrder
from tongshi.protocols.gb28181.device_notify import DeviceUpgradeResult, UploadSnapShotFinished
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.testing.answers import Device
from tongshi.testing.picture import HEIGHT, WIDTH
from tongshi.testing.studio import Studio

FETCH_TIMEOUT_S: Final = 5.0
MAX_SOFTWARE_BYTES: Final = 64 * 1024 * 1024
MAGIC: Final = b"TONGSHI-FW "


class Body(Protocol):
    """The camera around it."""

    def spawn(self, work: Coroutine[None, None, None]) -> None: ...
    def take_rhythm(self, interval_s: int) -> None: ...
    def next_sn(self) -> int: ...
    async def reboot(self) -> None: ...
    async def notify(self, message: BaseMessage) -> int: ...


class Undertakings:
    """Begins them; each ends with its notification. ``lost_uploads`` pictures of the next are not sent."""

    def __init__(self, device: Device, scene: str, studio: Studio, clock: Clock, body: Body) -> None:
        self._device, self._scene, self._studio = device, scene, studio
        self._clock, self._body = clock, body
        self.lost_uploads = 0

    def begin(self, message: object) -> None:
        """Start what a message that was taken asks for; nothing for others."""
        if isinstance(message, DeviceControl) and message.upgrade is not None:
            if message.device_id == self._device.item.device_id:
                self._body.spawn(self._upgrade(message.upgrade))
        elif isinstance(message, DeviceConfig):
            basic, shot = message.settings.basic_param, message.settings.snap_shot_config
            if basic is not None and basic.heart_beat_interval is not None:
                self._body.take_rhythm(basic.heart_beat_interval)
            if shot is not None and message.device_id in self._device.channels:
                self._body.spawn(self._snapshots(message.device_id, shot))

    async def _upgrade(self, order: UpgradeOrder) -> None:
        reason = await self._fetch(order)
        if reason is None:
            await self._body.reboot()
        await self._body.notify(
            DeviceUpgradeResult(
                sn=self._body.next_sn(),
                device_id=self._device.item.device_id,
                session_id=order.session_id,
                result="OK" if reason is None else "ERROR",
                firmware=self._device.firmware,
                failed_reason=reason,
            )
        )

    async def _fetch(self, order: UpgradeOrder) -> Literal["01", "02"] | None:
        """Install the software. Returns why it could not be done."""
        try:
            async with httpx2.AsyncClient(timeout=FETCH_TIMEOUT_S) as http:
                answer = await http.get(order.file_url)
        except httpx2.HTTPError:
            return "01"
        if answer.status_code != 200:
            return "01"
        if not answer.content.startswith(MAGIC) or len(answer.content) > MAX_SOFTWARE_BYTES:
            return "02"
        self._device.firmware = answer.content[len(MAGIC) :].split(b"\n")[0].decode("ascii", "replace")
        return None

    async def _snapshots(self, code: str, order: SnapShotConfig) -> None:
        sent: list[str] = []
        for number in range(1, order.count + 1):
            if number > 1:
                await asyncio.sleep(order.interval)
            name = self._name(code, number)
            if number > self.lost_uploads and await self._upload(name, code, order):
                sent.append(name)
        self.lost_uploads = 0
        await self._body.notify(
            UploadSnapShotFinished(
                sn=self._body.next_sn(),
                device_id=code,
                session_id=order.session_id,
                files=tuple(sent),
            )
        )

    def _name(self, code: str, number: int) -> str:
        """41 digits: device, 02 for a picture, local time to the millisecond, serial (9.14.1)."""
        at = self._clock.at().astimezone(BEIJING)
        return f"{code}02{at:%Y%m%d%H%M%S}{at.microsecond // 1000:03d}{number:02d}"

    async def _upload(self, name: str, code: str, order: SnapShotConfig) -> bool:
        jpeg = await asyncio.to_thread(self._jpeg, code)
        try:
            async with httpx2.AsyncClient(timeout=FETCH_TIMEOUT_S) as http:
                answer = await http.post(
                    order.upload_url,
                    data={"SessionID": order.session_id},
                    files={"file": (f"{name}.jpg", jpeg, "image/jpeg")},
                )
        except (httpx2.HTTPError, TongshiError):
            return False
        return answer.status_code == 200

    def _jpeg(self, code: str) -> bytes:
        """The picture as it looks now."""
        channel = self._device.channels[code]
        picture = self._studio.open_picture(
            self._scene, label=channel.item.name, device_id=code, codec="h264", rate_kbps=512
        )
        picture.draw(channel.head.view(self._clock.now()), self._clock.at())
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuvj420p")
        for plane, source in zip(frame.planes, picture.planes, strict=True):
            plane.update(source)
        out = io.BytesIO()
        with av.open(out, "w", format="mjpeg") as file:
            stream = file.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return out.getvalue()
