"""Signalling as viewing names it: route, call, control, toward devices and lower platforms."""

from __future__ import annotations

from collections.abc import Callable

from tongshi.gateways.signalling.device_orders import DeviceOrders
from tongshi.gateways.signalling.history import DownwardHistory, HistoryCalls
from tongshi.gateways.signalling.live import DownwardCall, LiveCaller
from tongshi.gateways.signalling.ptz import DeviceControls
from tongshi.gateways.signalling.routes import Routes
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.resources.viewing.model import Transport
from tongshi.resources.viewing.ports import ControlReply, HistoryRequest, LiveRequest, Route


class Downward:
    """Fulfils ``viewing.ports.Signalling``.

    Args:
        media_transport: how media from a peer, by its id, is to come when the viewer leaves it open.
    """

    def __init__(
        self,
        routes: Routes,
        calls: LiveCaller,
        controls: DeviceControls,
        orders: DeviceOrders,
        history: HistoryCalls,
        media_transport: Callable[[str], Transport],
    ) -> None:
        self._routes = routes
        self._calls = calls
        self._controls = controls
        self._orders = orders
        self._history = history
        self._media_transport = media_transport

    async def route(self, device_id: DeviceId) -> Route:
        peer = await self._routes.peer_of(device_id)
        return Route(peer.id, self._media_transport(peer.id), peer.is_platform)

    async def open_live(self, request: LiveRequest, timeout_s: float) -> DownwardCall:
        return await self._calls.open(request, timeout_s)

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> DownwardHistory:
        return await self._history.open(request, timeout_s)

    async def control(self, device_id: DeviceId, ptz_cmd: str, preset_name: str = "") -> ControlReply:
        return await self._controls.send(device_id, ptz_cmd, preset_name)

    async def ask_key_frame(self, device_id: DeviceId) -> None:
        await self._orders.command(device_id, lambda sn: DeviceControl(sn, device_id, iframe=True))
