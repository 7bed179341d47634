"""What a platform above asks and commands of our devices: filtered, decided, relayed, answered.

Implements: GB/T 28181-2022 9.3
Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 9.13
Implements: GB/T 28181-2022 9.14
A command that the standard answers gets its 200 at once and its Response when the device has answered
(9.3.2.2); one that it does not answer gets the device's own SIP status. Not permitted looks like unknown
(404); what the filter of the neighbour refuses is 403.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from msgspec.structs import replace

from tongshi.errors import TongshiError
from tongshi.gateways.signalling.background import Background
from tongshi.gateways.signalling.device_orders import DeviceOrders
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.recorded_archive import platform_subject
from tongshi.gateways.signalling.upward import Upper
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.configuration import Configuration
from tongshi.protocols.gb28181.control import ControlKind, DeviceConfig, DeviceControl
from tongshi.protocols.gb28181.device_notify import DeviceUpgradeResult, UploadSnapShotFinished
from tongshi.protocols.gb28181.device_query import (
    ConfigDownloadQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    DeviceQuery,
    HomePositionQuery,
    PresetQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
)
from tongshi.protocols.gb28181.device_response import (
    ConfigDownloadResponse,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    DeviceConfigResponse,
    HomePositionResponse,
    PresetResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.response import DeviceControlResponse
from tongshi.resources.control.filters import Commanded, ControlFilters
from tongshi.resources.control.ports import CommandReply
from tongshi.resources.control.undertakings import Undertakings
from tongshi.resources.viewing.ports import Guard, Viewer
from tongshi.resources.viewing.ptz import PtzControl
from tongshi.sharing.permissions import Permission

log = structlog.get_logger(__name__)

MAX_RELAYING: Final = 64  # commands and questions under way for all uppers
MAX_UNDERTAKINGS: Final = 1_000  # upgrades and snapshots whose end is awaited

_REFUSALS: Final[dict[type[Any], type[Any]]] = {
    PresetQuery: PresetResponse,
    HomePositionQuery: HomePositionResponse,
    CruiseTrackListQuery: CruiseTrackListResponse,
    CruiseTrackQuery: CruiseTrackResponse,
    PTZPositionQuery: PTZPositionResponse,
    SDCardStatusQuery: SDCardStatusResponse,
    ConfigDownloadQuery: ConfigDownloadResponse,
}
_TURNS: Final = frozenset(
    {
        ControlKind.HOME_POSITION,
        ControlKind.DRAG_ZOOM_IN,
        ControlKind.DRAG_ZOOM_OUT,
        ControlKind.PRECISE_VIEW,
    }
)
_MAINTAINS: Final = frozenset({ControlKind.TELE_BOOT, ControlKind.UPGRADE, ControlKind.FORMAT_CARD})


class UpwardControl:
    """Relays for uppers."""

    def __init__(
        self,
        post: Post,
        orders: DeviceOrders,
        dispatch: Dispatch,
        guard: Guard,
        filters: ControlFilters,
        ptz: PtzControl,
        uppers: dict[str, Upper],
        undertakings: Undertakings,
        want_key_frame: Callable[[DeviceId], Awaitable[None]],
    ) -> None:
        self._post = post
        self._orders = orders
        self._guard = guard
        self._filters = filters
        self._ptz = ptz
        self._uppers = uppers
        self._ended = undertakings
        self._want = want_key_frame
        self._background = Background("upwardControl")
        self._awaited: OrderedDict[str, str] = OrderedDict()  # SessionID -> the upper that began it
        for kind in _REFUSALS:
            dispatch.from_upper(kind, self._question)
        dispatch.from_upper(DeviceControl, self._control)
        dispatch.from_upper(DeviceConfig, self._configure)
        dispatch.from_peer(DeviceUpgradeResult, self._notified)
        dispatch.from_peer(UploadSnapShotFinished, self._notified)

    async def stop(self) -> None:
        """End all relays."""
        await self._background.stop()

    async def _question(self, incoming: IncomingRequest, upper: Upper, query: DeviceQuery) -> None:
        status = await self._admitted(incoming, upper, query, Permission.STATUS_READ)
        incoming.respond(status)
        if status == 200:
            self._background.begin(self._ask(upper, query))

    async def _ask(self, upper: Upper, query: DeviceQuery) -> None:
        """Every part goes up with the SN of the question; a failure is an answer of ERROR."""
        try:
            parts, _ = await self._orders.ask(query.device_id, lambda sn: replace(query, sn=sn))
        except TongshiError as error:
            log.info("relayed_question_failed", platform_id=upper.id, code=error.code, error=error.message)
            refusal: BaseMessage = _REFUSALS[type(query)](
                sn=query.sn, device_id=query.device_id, result_ok=False
            )
            await self._post.send(upper, refusal)
            return
        for part in parts:
            await self._post.send(upper, replace(part, sn=query.sn, device_id=query.device_id))

    async def _control(self, incoming: IncomingRequest, upper: Upper, control: DeviceControl) -> None:
        kinds = control.kinds
        if len(kinds) != 1:
            incoming.respond(501 if not kinds else 400)
            return
        if kinds == (ControlKind.FRONT_END,):
            incoming.respond(await self._turn(incoming, upper, control))
            return
        status = await self._admitted(incoming, upper, control, _permission(kinds[0]))
        if status == 200 and kinds[0] in _TURNS:
            status = await self._hold(incoming, upper, control.device_id)
        if status != 200:
            incoming.respond(status)
            return
        inward = replace(control, panorama_id=upper.names.real(control.panorama_id) or "")
        if control.upgrade is not None:
            self._await_end(control.upgrade.session_id, upper.id)
        if kinds == (ControlKind.KEY_FRAME,):
            incoming.respond(await self._want_key_frame(control.device_id))
            return
        if control.needs_response:
            incoming.respond(200)
            self._background.begin(self._command(upper, inward))
            return
        try:
            reply = await self._orders.command(control.device_id, lambda sn: replace(inward, sn=sn))
            incoming.respond(reply.sip_status)
        except TongshiError as error:
            incoming.respond(_status(error))

    async def _turn(self, incoming: IncomingRequest, upper: Upper, control: DeviceControl) -> int:
        """A front-end instruction; the SIP answer is the device's, so that its delay can be measured."""
        viewer = _viewer(incoming, upper)
        if not await self._filters.passes(viewer.subject, control, viewer.client_host):
            return 403
        assert control.ptz_cmd is not None  # the caller's condition
        name = control.preset_name
        try:
            await self._ptz.relay(viewer, DeviceId(control.device_id), control.ptz_cmd, name)
        except TongshiError as error:
            log.info("control_refused", platform_id=upper.id, device_id=control.device_id, code=error.code)
            return _status(error)
        return 200

    async def _want_key_frame(self, device_id: str) -> int:
        """Shared with who watches here: the device is asked once for all (A.2.3.1.7)."""
        try:
            await self._want(DeviceId(device_id))
        except TongshiError as error:
            return _status(error)
        return 200

    async def _hold(self, incoming: IncomingRequest, upper: Upper, device_id: str) -> int:
        try:
            await self._ptz.hold_for_platform(_viewer(incoming, upper), DeviceId(device_id))
        except TongshiError as error:
            return _status(error)
        return 200

    async def _command(self, upper: Upper, control: DeviceControl) -> None:
        try:
            reply = await self._orders.command(control.device_id, lambda sn: replace(control, sn=sn))
            is_done = reply.is_done is True
        except TongshiError as error:
            log.info("relayed_command_failed", platform_id=upper.id, code=error.code, error=error.message)
            is_done = False
        await self._post.send(upper, DeviceControlResponse(control.sn, control.device_id, is_done))

    async def _configure(self, incoming: IncomingRequest, upper: Upper, order: DeviceConfig) -> None:
        status = 200
        for action in _needed(order.settings):
            status = await self._admitted(incoming, upper, order, action)
            if status != 200:
                break
        incoming.respond(status)
        if status != 200:
            return
        if order.settings.snap_shot_config is not None:
            self._await_end(order.settings.snap_shot_config.session_id, upper.id)
        self._background.begin(self._set(upper, order))

    async def _set(self, upper: Upper, order: DeviceConfig) -> None:
        try:
            reply: CommandReply | None = await self._orders.configure(order.device_id, order.settings)
        except TongshiError as error:
            log.info("relayed_config_failed", platform_id=upper.id, code=error.code, error=error.message)
            reply = None
        is_done = reply is not None and reply.is_done is True
        answer = DeviceConfigResponse(sn=order.sn, device_id=order.device_id, result_ok=is_done)
        await self._post.send(upper, answer)

    async def _notified(
        self, incoming: IncomingRequest, peer: Peer, message: DeviceUpgradeResult | UploadSnapShotFinished
    ) -> None:
        """How an undertaking ended is written down and told to the upper that began it."""
        incoming.respond(200)
        await self._ended.note(peer.id, message)
        upper = self._uppers.get(self._awaited.pop(message.session_id, ""))
        log.info("undertaking_ended", peer_id=peer.id, session_id=message.session_id, cmd=message.cmd_type)
        if upper is not None:
            self._background.begin(self._tell(upper, replace(message, sn=upper.next_sn())))

    async def _tell(self, upper: Upper, message: BaseMessage) -> None:
        await self._post.send(upper, message)

    async def _admitted(
        self, incoming: IncomingRequest, upper: Upper, message: Commanded, action: Permission
    ) -> int:
        if len(self._background) >= MAX_RELAYING:
            return 503
        viewer = _viewer(incoming, upper)
        if not await self._filters.passes(viewer.subject, message, viewer.client_host):
            return 403
        try:
            await self._guard.admit(viewer, action, DeviceId(message.device_id), "cascade")
        except TongshiError as error:
            return _status(error)
        return 200

    def _await_end(self, session_id: str, upper_id: str) -> None:
        self._awaited[session_id] = upper_id
        while len(self._awaited) > MAX_UNDERTAKINGS:
            self._awaited.popitem(last=False)


def _viewer(incoming: IncomingRequest, upper: Upper) -> Viewer:
    return Viewer(platform_subject(upper.id), incoming.remote.host, incoming.request.call_id[:64])


def _needed(settings: Configuration) -> tuple[Permission, ...]:
    """A snapshot is ordered by a DeviceConfig and configures nothing (9.14): it needs what it needs by REST.

    A picture is a view, and the device is told to do something; what else the message sets is configuration.
    """
    rest = replace(settings, snap_shot_config=None)
    shot = settings.snap_shot_config is not None
    configures = not shot or rest != Configuration()
    return (
        *((Permission.VIDEO_LIVE, Permission.DEVICE_COMMAND) if shot else ()),
        *((Permission.DEVICE_CONFIG,) if configures else ()),
    )


def _permission(kind: ControlKind) -> Permission:
    if kind in _TURNS:
        return Permission.PTZ_CONTROL
    if kind is ControlKind.KEY_FRAME:
        return Permission.VIDEO_LIVE  # of a picture that it may see
    return Permission.DEVICE_MAINTAIN if kind in _MAINTAINS else Permission.DEVICE_COMMAND


def _status(error: TongshiError) -> int:
    """The SIP answer to an upper; a peer's own status is never passed on, not permitted looks unknown."""
    return {401: 404, 403: 404, 404: 404, 503: 480, 504: 408}.get(error.http_status, error.sip_status)
