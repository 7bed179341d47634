"""Asking, commanding and configuring devices over REST; extensions, no rows of Annex E.

Implements: DB31DSJ/Z 001-2024 6.4.3.1
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, PeerFailed, PeerTimeout, Unprocessable
from tongshi.ids import DeviceId, device_id
from tongshi.resources.control import wire
from tongshi.resources.control.service import DeviceControlDesk
from tongshi.resources.viewing.ports import Viewer
from tongshi.sharing.gate import subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Handler, Nothing, Operation, Quota

# What a device or the platform before it may bring about.
OVER_THE_LINE = (Conflict, Unprocessable, PeerFailed, PeerTimeout)
_BASE = "/api/v1/devices/{deviceId}"
Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


def operations(desk: DeviceControlDesk) -> list[AnyOperation]:
    """The operations of control."""

    async def presets(call: Call[Nothing, Nothing]) -> wire.PresetList:
        return wire.presets(await desk.presets(viewer_of(call), _device(call)))

    async def home_position(call: Call[Nothing, Nothing]) -> wire.HomeAnswer:
        return wire.HomeAnswer(await desk.home_position(viewer_of(call), _device(call)))

    async def cruises(call: Call[Nothing, Nothing]) -> wire.CruiseList:
        return wire.cruises(await desk.cruise_tracks(viewer_of(call), _device(call)))

    async def cruise(call: Call[Nothing, Nothing]) -> wire.CruiseAnswer:
        number = _number(call.path["number"])
        name, points = await desk.cruise_track(viewer_of(call), _device(call), number)
        return wire.cruise(number, name, points)

    async def position(call: Call[Nothing, Nothing]) -> wire.PositionAnswer:
        return wire.position(await desk.position(viewer_of(call), _device(call)))

    async def storage(call: Call[Nothing, Nothing]) -> wire.CardList:
        return wire.cards(await desk.cards(viewer_of(call), _device(call)))

    async def config(call: Call[Nothing, wire.ConfigQuery]) -> wire.ConfigAnswer:
        return wire.config(await desk.configuration(viewer_of(call), _device(call), call.query.names))

    async def configure(call: Call[wire.ConfigRequest, Nothing]) -> wire.ConfigResult:
        return wire.settled(await desk.configure(viewer_of(call), _device(call), call.body.settings))

    async def command(call: Call[wire.CommandRequest, Nothing]) -> wire.CommandAnswer:
        return wire.commanded(await desk.command(viewer_of(call), _device(call), call.body.order()))

    return [
        _question("devicePresets", "/presets", "查询设备预置位", wire.PresetList, presets),
        _question("deviceHomePosition", "/home-position", "查询设备看守位", wire.HomeAnswer, home_position),
        _question("deviceCruises", "/cruises", "查询设备巡航轨迹列表", wire.CruiseList, cruises),
        _question("deviceCruise", "/cruises/{number}", "查询设备巡航轨迹", wire.CruiseAnswer, cruise),
        _question("devicePtzPosition", "/ptz-position", "查询云台精准状态", wire.PositionAnswer, position),
        _question("deviceStorage", "/storage", "查询设备存储卡状态", wire.CardList, storage),
        _question("deviceConfig", "/config", "查询设备配置", wire.ConfigAnswer, config, wire.ConfigQuery),
        Operation(
            name="configureDevice",
            method="POST",
            path=f"{_BASE}/config",
            summary="设置设备配置",
            permission=Permission.DEVICE_CONFIG,
            quota=Quota.CONTROL,
            audit=AuditTag.DEVICE_CONFIG,
            body=wire.ConfigRequest,
            query=Nothing,
            response=wire.ConfigResult,
            handler=configure,
            refusals=OVER_THE_LINE,
        ),
        Operation(
            name="commandDevice",
            method="POST",
            path=f"{_BASE}/commands",
            summary="向设备下发控制命令",
            permission=Permission.DEVICE_COMMAND,
            quota=Quota.CONTROL,
            audit=AuditTag.DEVICE_COMMAND,
            body=wire.CommandRequest,
            query=Nothing,
            response=wire.CommandAnswer,
            handler=command,
            refusals=OVER_THE_LINE,
        ),
    ]


def viewer_of(call: Call[Any, Any]) -> Viewer:
    """Who asks and from where."""
    return Viewer(subject_of(call), call.client_host, call.request_id)


def _question(
    name: str,
    path: str,
    summary: str,
    response: type[R],
    handler: Handler[Any, Any, R],
    query: type[Any] = Nothing,
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=_BASE + path,
        summary=summary,
        permission=Permission.STATUS_READ,
        quota=Quota.CONTROL,
        audit=AuditTag.DEVICE_QUERY,
        body=Nothing,
        query=query,
        response=response,
        handler=handler,
        refusals=OVER_THE_LINE,
    )


def _device(call: Call[Any, Any]) -> DeviceId:
    return device_id(call.path["deviceId"])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:4]) <= 255 and len(text) <= 3):
        raise InvalidRequest("巡航轨迹编号应为 0 到 255", field="number")
    return int(text)
