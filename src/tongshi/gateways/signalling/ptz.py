"""Turning a camera: one DeviceControl toward whoever leads to it, timed to its SIP answer.

Implements: GB/T 28181-2022 9.3
Implements: DB31DSJ/Z 001-2024 Table C.1 row 6
"""

from __future__ import annotations

from tongshi.clock import Clock
from tongshi.errors import PeerFailed, PeerTimeout
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.routes import Routes
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.resources.viewing.ports import ControlReply

CONTROL_TIMEOUT_S = 4.0


class DeviceControls:
    """Sends control commands downward."""

    def __init__(self, post: Post, routes: Routes, clock: Clock) -> None:
        self._post = post
        self._routes = routes
        self._clock = clock

    async def send(self, device_id: str, ptz_cmd: str, preset_name: str = "") -> ControlReply:
        """Send one front-end instruction.

        Raises:
            NotFound, Unavailable: no way to the device. PeerTimeout: no SIP answer (50401).
            PeerFailed: refused (50201, details ``sipStatus``).
        """
        peer = await self._routes.way_to(device_id)
        control = DeviceControl(peer.next_sn(), device_id, ptz_cmd=ptz_cmd, preset_name=preset_name)
        begun = self._clock.now()
        try:
            status = await self._post.send(peer, control, to_id=device_id, timeout_s=CONTROL_TIMEOUT_S)
        except PeerTimeout as error:
            raise PeerTimeout("设备没有应答控制命令", code=50401) from error
        delay_ms = round((self._clock.now() - begun) * 1000, 1)
        if not 200 <= status < 300:
            message = f"设备拒绝了控制命令（SIP {status}）"
            raise PeerFailed(message, code=50201, details={"sipStatus": status})
        return ControlReply(delay_ms, status)
