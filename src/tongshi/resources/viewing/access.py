"""The access decision of sharing, asked for a device as viewing knows it.

Implements: DB31DSJ/Z 001-2024 6.4.3.3
"""

from __future__ import annotations

from tongshi.clock import Clock
from tongshi.errors import Forbidden
from tongshi.ids import DeviceId
from tongshi.resources.viewing.ports import DeviceFacts, Viewer
from tongshi.sharing.decision import Access
from tongshi.sharing.model import Context, Target
from tongshi.sharing.permissions import Permission


class SharingGuard:
    """Fulfils ``ports.Guard`` by ``sharing``, which writes the audit record before it answers."""

    def __init__(self, access: Access, devices: DeviceFacts, clock: Clock) -> None:
        self._access = access
        self._devices = devices
        self._clock = clock

    async def admit(self, viewer: Viewer, action: Permission, device_id: DeviceId, purpose: str) -> str:
        fact = await self._devices.fact(device_id)
        target = None if fact is None else Target(device_id, fact.civil_code, fact.owner)
        context = Context(self._clock.at(), viewer.client_host, viewer.request_id)
        decision = await self._access.require(viewer.subject, action, target, context)
        is_fixed = fact is not None and fact.is_controllable is False
        if action is Permission.PTZ_CONTROL and is_fixed:
            raise Forbidden("该设备不可控（SFKK 为 0）", code=40303)
        return decision.grant

    async def is_valid(self, grant: str) -> bool:
        return await self._access.is_valid(grant, Context(self._clock.at()))
