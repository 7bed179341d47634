"""How one device is reached by signalling, and what it says of itself when asked. An extension of ours."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from msgspec import field

from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound, PeerFailed, PeerTimeout
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.resources.peers.service import Devices, SignallingPeers
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota


class Line(Protocol):
    """The way to a device."""

    def reached_by(self, device_id: str, /) -> str:
        """The peer that leads to it; the device itself when nobody else is known to."""
        ...

    async def device_info(self, device_id: str, /) -> DeviceInfoResponse:
        """Ask who made it. Raises NotFound, Unavailable, PeerTimeout, PeerFailed."""
        ...


class DeviceLine(Answer, frozen=True):
    """How a device is reached. Times are of the registration of ``peerId``; null when it is not registered.

    ``direct`` says that the device registers itself; else ``peerId`` (recorder or platform) leads to it.
    """

    device_id: str = field(name="DeviceID")
    peer_id: str
    peer_name: str
    direct: bool
    registered: bool
    address: str
    transport: str
    edition: str
    registered_at: datetime | None
    expires_at: datetime | None
    last_seen_at: datetime | None


class DeviceInfo(Answer, frozen=True):
    """What the device said just now (A.2.6.5)."""

    device_id: str = field(name="DeviceID")
    device_name: str
    manufacturer: str
    model: str
    firmware: str
    channels: int | None


def operations(peers: SignallingPeers, line: Line, devices: Devices, access: Access) -> list[AnyOperation]:
    """The operations on one device."""

    async def get_line(call: Call[Nothing, Nothing]) -> DeviceLine:
        device_id = await permitted(call)
        peer_id = line.reached_by(device_id)
        row = await peers.leading(peer_id)
        if row is None:
            return DeviceLine(
                device_id, peer_id, "", peer_id == device_id, False, "", "", "", None, None, None
            )
        return DeviceLine(
            device_id=device_id,
            peer_id=peer_id,
            peer_name=row.name,
            direct=peer_id == device_id,
            registered=row.is_online,
            address=f"{row.host}:{row.port}" if row.is_online else "",
            transport=row.profile.transport,
            edition=row.profile.effective().edition.wire,
            registered_at=row.registered_at,
            expires_at=row.expires_at,
            last_seen_at=row.last_seen_at,
        )

    async def ask_info(call: Call[Nothing, Nothing]) -> DeviceInfo:
        device_id = await permitted(call)
        said = await line.device_info(device_id)
        return DeviceInfo(
            device_id, said.device_name, said.manufacturer, said.model, said.firmware, said.channel
        )

    async def permitted(call: Call[Any, Any]) -> str:
        """Unknown and not permitted look the same. Raises NotFound."""
        device_id = call.path["deviceId"][:64]
        scope = await access.scope(subject_of(call), Permission.SIGNALLING_READ, context_of(call))
        if device_id not in await devices.get_many([device_id], scope):
            raise NotFound("设备不存在")
        return device_id

    one = "/api/v1/signalling/devices/{deviceId}"
    return [
        Operation(
            name="getDeviceLine",
            method="GET",
            path=one,
            summary="设备的信令通路",
            permission=Permission.SIGNALLING_READ,
            quota=Quota.QUERY,
            audit=AuditTag.SIGNALLING_QUERY,
            body=Nothing,
            query=Nothing,
            response=DeviceLine,
            handler=get_line,
        ),
        Operation(
            name="askDeviceInfo",
            method="POST",
            path=f"{one}/info",
            summary="查询设备信息",
            permission=Permission.SIGNALLING_READ,
            quota=Quota.CONTROL,
            audit=AuditTag.SIGNALLING_QUERY,
            body=Nothing,
            query=Nothing,
            response=DeviceInfo,
            handler=ask_info,
            refusals=(PeerFailed, PeerTimeout),
        ),
    ]
